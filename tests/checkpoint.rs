//! The checkpoint format: round trips, and every way a file can be bad.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::HashMap;
use std::path::Path;

use common::random_checkpoint;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use tunableconv::checkpoint::Checkpoint;
use tunableconv::nn::Mode;

fn bytes() -> Vec<u8> {
    random_checkpoint(Mode::Mlp, 1).to_bytes("memory").unwrap()
}

/// Rewrites a checkpoint's parts without any validation.
fn rewritten(
    change_text: impl Fn(&mut HashMap<String, String>),
    change_tensors: impl Fn(&mut Vec<(String, Vec<usize>, Vec<u8>)>),
) -> Vec<u8> {
    let bytes = bytes();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let mut text = header.metadata().clone().unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let part = |(name, view): (String, TensorView<'_>)| {
        (name, view.shape().to_vec(), view.data().to_vec())
    };
    let mut parts: Vec<_> = file.tensors().into_iter().map(part).collect();
    change_text(&mut text);
    change_tensors(&mut parts);
    let views = parts.iter().map(|(name, shape, data)| {
        (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), data).unwrap())
    });
    safetensors::serialize(views, Some(text)).unwrap()
}

fn refusal(bytes: &[u8]) -> String {
    Checkpoint::from_bytes("bad.safetensors", bytes).unwrap_err().to_string()
}

fn tensor<'p>(
    parts: &'p mut [(String, Vec<usize>, Vec<u8>)],
    name: &str,
) -> &'p mut (String, Vec<usize>, Vec<u8>) {
    parts.iter_mut().find(|part| part.0 == name).unwrap()
}

#[test]
fn what_is_written_is_what_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.safetensors");
    for mode in [Mode::Linear, Mode::Mlp, Mode::Multilinear] {
        let checkpoint = random_checkpoint(mode, 3);
        checkpoint.write(&path).unwrap();
        assert_eq!(Checkpoint::read(&path).unwrap(), checkpoint);
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn the_same_checkpoint_gives_the_same_bytes() {
    assert!((0..8).all(|_| bytes() == bytes()));
}

#[test]
fn the_built_in_checkpoint_is_valid_and_trained_for_two_knobs() {
    let checkpoint = Checkpoint::built_in().unwrap();
    assert_eq!(checkpoint.metadata.tuning.names(), "denoise, deblur");
    assert!(checkpoint.metadata.provenance.steps > 0);
}

#[test]
fn a_missing_file_is_named() {
    let error = Checkpoint::read(Path::new("no/such.safetensors")).unwrap_err().to_string();
    assert!(error.starts_with("no/such.safetensors: "), "{error}");
}

#[test]
fn truncated_and_foreign_files_are_refused() {
    let whole = bytes();
    for len in [0, 1, 7, 8, 20, whole.len() / 2, whole.len() - 1] {
        let error = refusal(&whole[..len]);
        assert!(error.starts_with("bad.safetensors: not a valid checkpoint"), "{len}: {error}");
    }
    let foreign = rewritten(|text| text.clear(), |_| ());
    assert!(refusal(&foreign).contains("not made for tunableconv"));
    let mut long_header = whole;
    long_header[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(refusal(&long_header).contains("bad.safetensors"));
}

#[test]
fn tensors_that_do_not_fit_are_named_with_what_was_expected() {
    let missing = rewritten(|_| (), |parts| parts.retain(|p| p.0 != "body.0.bias"));
    assert_eq!(
        refusal(&missing),
        "bad.safetensors: tensor `body.0.bias`: missing, expected F32 [1, 4, 8]"
    );
    let extra = rewritten(|_| (), |parts| parts.push(("body.9.bias".into(), vec![1], vec![0; 4])));
    assert!(refusal(&extra).contains("tensor `body.9.bias`: not part of this architecture"));
    let misshaped =
        rewritten(|_| (), |parts| tensor(parts, "tail.weight").1 = vec![1, 2, 8, 6, 3, 3]);
    assert_eq!(
        refusal(&misshaped),
        "bad.safetensors: tensor `tail.weight`: F32 [1, 2, 8, 6, 3, 3], \
         expected F32 [1, 2, 6, 8, 3, 3]"
    );
    for bad in [f32::NAN, f32::INFINITY] {
        let poisoned = rewritten(
            |_| (),
            |parts| tensor(parts, "head.weight").2[8..12].copy_from_slice(&bad.to_le_bytes()),
        );
        let error = refusal(&poisoned);
        assert!(error.contains("tensor `head.weight`: element 2 is"), "{error}");
    }
}

#[test]
fn metadata_that_does_not_fit_is_refused() {
    let with = |from: &'static str, to: &'static str| {
        let bytes = rewritten(
            |text| {
                let value = text.get_mut("tunableconv").unwrap();
                assert!(value.contains(from), "{value}");
                *value = value.replace(from, to);
            },
            |_| (),
        );
        refusal(&bytes)
    };
    assert!(
        with("\"format_version\":1", "\"format_version\":2")
            .contains("format version 2, expected 1")
    );
    assert!(with("\"video\"", "\"unheard-of\"").contains("unheard-of"));
    assert!(with("\"channels\":8", "\"channels\":4000000000").contains("channels"));
    assert!(with("\"layers\":1", "\"layers\":1,\"depth\":3").contains("depth"));
    assert!(with("\"expand\":2", "\"expand\":0").contains("expand"));
    assert!(with("\"reach\":7", "\"reach\":70").contains("reach"));
    assert!(with("\"deblur\"", "\"denoise\"").contains("used twice"));
    assert!(with("\"box\"", "\"ball\"").contains("ball"));
}

#[test]
fn an_invalid_checkpoint_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.safetensors");
    let mut checkpoint = random_checkpoint(Mode::Mlp, 3);
    checkpoint.tensors.get_mut("head.bias").unwrap()[0] = f32::NAN;
    assert!(checkpoint.write(&path).unwrap_err().to_string().contains("head.bias"));
    checkpoint.tensors.remove("head.bias");
    assert!(checkpoint.write(&path).unwrap_err().to_string().contains("head.bias"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
