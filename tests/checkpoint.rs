//! The checkpoint format: round trips, and every way a file can be bad.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::HashMap;
use std::path::Path;

use common::{calibrated, parameter, random_checkpoint, random_checkpoint_of, small_config};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use tunableconv::checkpoint::{Architecture, Checkpoint, Metadata};
use tunableconv::nn::{Activation, Colour, Mode, PhiConfig, PlainConfig, PlainLayer};
use tunableconv::tuning::{Domain, TuningSpace};

/// Name, shape and bytes of a tensor.
type Part = (String, Vec<usize>, Vec<u8>);

fn bytes() -> Vec<u8> {
    random_checkpoint(Mode::Mlp, 1).to_bytes("memory").unwrap()
}

fn calibrated_bytes() -> Vec<u8> {
    calibrated(random_checkpoint(Mode::Mlp, 1)).to_bytes("memory").unwrap()
}

/// Rewrites a checkpoint's parts without any validation.
fn rewritten(
    change_text: impl Fn(&mut HashMap<String, String>),
    change_tensors: impl Fn(&mut Vec<Part>),
) -> Vec<u8> {
    rewritten_from(&bytes(), change_text, change_tensors)
}

fn rewritten_from(
    bytes: &[u8],
    change_text: impl Fn(&mut HashMap<String, String>),
    change_tensors: impl Fn(&mut Vec<Part>),
) -> Vec<u8> {
    let (_, header) = SafeTensors::read_metadata(bytes).unwrap();
    let mut text = header.metadata().clone().unwrap();
    let file = SafeTensors::deserialize(bytes).unwrap();
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

/// As files of older versions are.
fn without_hash(text: &mut HashMap<String, String>) {
    let value = text.get_mut("tunableconv").unwrap();
    let mut document: serde_json::Value = serde_json::from_str(value).unwrap();
    assert!(document.as_object_mut().unwrap().remove("weights").is_some());
    *value = document.to_string();
}

fn refusal(bytes: &[u8]) -> String {
    Checkpoint::from_bytes("bad.safetensors", bytes).unwrap_err().to_string()
}

fn tensor<'p>(parts: &'p mut [Part], name: &str) -> &'p mut Part {
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
        let checkpoint = calibrated(checkpoint);
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
fn the_built_in_checkpoint_is_valid_and_trained_for_three_knobs() {
    let checkpoint = Checkpoint::built_in().unwrap();
    assert_eq!(checkpoint.metadata.tuning.names(), "denoise, deblur, deblock");
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

/// A lie about the length would have a scanner take as much memory.
#[test]
fn a_header_of_an_absurd_length_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lie.safetensors");
    let length = 1u64 << 27;
    std::fs::write(&path, length.to_le_bytes()).unwrap();
    // A sparse file of twice the length.
    std::fs::File::options().write(true).open(&path).unwrap().set_len(2 * length).unwrap();
    let error = Metadata::read(&path).unwrap_err().to_string();
    assert!(error.ends_with("its header has 134217728 bytes, expected at most 4194304"), "{error}");
}

/// Either would never end.
#[test]
#[cfg(unix)]
fn what_is_no_file_is_refused_unopened() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe.safetensors");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for path in [&pipe, Path::new("/dev/zero")] {
        let errors = [Metadata::read(path).unwrap_err(), Checkpoint::read(path).unwrap_err()];
        for error in errors.map(|error| error.to_string()) {
            assert!(error.ends_with("a pipe or a device, expected a file"), "{error}");
        }
    }
}

/// Folders of models are read by whoever looks for plugins.
#[test]
fn a_header_of_a_net_that_grows_without_end_is_refused() {
    let layer = |at: usize| {
        let layer = PlainLayer::new(at.to_string(), 1, 16, Activation::None);
        PlainLayer { stride: 2, shuffle: 2, ..layer }
    };
    let refused = |layers: Vec<PlainLayer>, reason: &str| {
        let phi = PhiConfig { mode: Mode::Linear, expand: 1 };
        let colour = Colour::Luma;
        let net = PlainConfig { colour, scale: 1, residual: true, layers, phi };
        let net = serde_json::to_value(Architecture::Plain(net)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("net.safetensors");
        let with_net = |metadata: &mut HashMap<String, String>| {
            let value = metadata.get_mut("tunableconv").unwrap();
            let mut document: serde_json::Value = serde_json::from_str(value).unwrap();
            document["architecture"] = net.clone();
            *value = document.to_string();
        };
        std::fs::write(&path, rewritten(with_net, |_| ())).unwrap();
        let error = Metadata::read(&path).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    };
    // As large as it was, 64 times over: a net, but not that of the file.
    let last = PlainLayer { channels: 4, ..layer(64) };
    let layers = (0..64).map(layer).chain([last]).collect();
    refused(layers, "this architecture has Io { colour: Luma, channels: 1, scale: 1, grid: 2");
    let enlarging = |at| PlainLayer { stride: 1, shuffle: 4, ..layer(at) };
    refused((0..64).map(enlarging).collect(), "layer `1`: it enlarges more than 8 times");
}

#[test]
fn a_header_alone_tells_all_but_the_values() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.safetensors");
    let read = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        Metadata::read(&path)
    };
    for mut bytes in [bytes(), calibrated_bytes()] {
        let metadata = Checkpoint::from_bytes("memory", &bytes).unwrap().metadata;
        assert_eq!(read(&bytes).unwrap(), metadata);
        let end = bytes.len();
        bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
        assert_eq!(read(&bytes).unwrap(), metadata);
        for keep in [0, 4, 8, 100, end - 1] {
            let error = read(&bytes[..keep]).unwrap_err().to_string();
            assert!(
                error.contains("a.safetensors: not a valid checkpoint: not a whole"),
                "{error}"
            );
        }
    }
    let bad = [
        rewritten(|_| (), |parts| drop(parts.pop())),
        rewritten(|_| (), |parts| tensor(parts, "tail.weight").1.reverse()),
        rewritten(|_| (), |parts| parts.push(("other".into(), vec![1], vec![0; 4]))),
        rewritten(|text| text.clear(), |_| ()),
        vec![0xff; 64],
    ];
    for bytes in bad {
        let error = read(&bytes).unwrap_err().to_string();
        let whole = Checkpoint::read(&path).unwrap_err().to_string();
        assert_eq!(error.contains("not a whole"), whole.contains("not a whole"), "{error} {whole}");
        assert!(error == whole || error.contains("not a whole"), "{error} {whole}");
    }
    let error = Metadata::read(Path::new("/nonexistent/a.safetensors")).unwrap_err().to_string();
    assert!(error.starts_with("/nonexistent/a.safetensors: "), "{error}");
}

#[test]
fn sixteen_bits_take_half_the_space_and_are_what_was_rounded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("half.safetensors");
    for bytes in [bytes(), calibrated_bytes()] {
        let mut checkpoint = Checkpoint::from_bytes("memory", &bytes).unwrap();
        checkpoint.write_half(&path).unwrap();
        let values: usize = checkpoint.tensors.values().map(Vec::len).sum();
        let saved = bytes.len() as u64 - std::fs::metadata(&path).unwrap().len();
        assert!(saved.abs_diff(2 * values as u64) < 64, "{saved} of {}", bytes.len());
        let read = Checkpoint::read(&path).unwrap();
        assert_eq!(read, checkpoint.clone().rounded_to_half());
        assert_ne!(read.weights_hash(), checkpoint.weights_hash());
        assert_eq!(Metadata::read(&path).unwrap(), checkpoint.metadata);
        for (name, values) in &checkpoint.tensors {
            for (got, value) in read.tensors[name].iter().zip(values) {
                assert!(
                    (got - value).abs() <= value.abs() / 2048.0 + 1e-7,
                    "{name}: {got} {value}"
                );
            }
        }
        // Any of its bits may be damaged, and any byte cut off.
        let half = std::fs::read(&path).unwrap();
        for keep in [half.len() - 1, half.len() - 2, half.len() / 2] {
            assert!(Checkpoint::from_bytes("cut", &half[..keep]).is_err(), "{keep}");
        }
        let mut damaged = half.clone();
        damaged[half.len() - 2] ^= 4;
        assert!(Checkpoint::from_bytes("damaged", &damaged).is_err());
        // What 16 bits do not hold is named, and the file stays.
        checkpoint.tensors.get_mut("head.weight").unwrap()[3] = 1e5;
        let error = checkpoint.write_half(&path).unwrap_err().to_string();
        assert!(error.contains("tensor `head.weight`: element 3 is inf"), "{error}");
        assert!(std::fs::read(&path).unwrap() == half);
    }
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
        with("\"format_version\":2", "\"format_version\":3")
            .contains("format version 3, expected 1 to 2")
    );
    assert!(with("\"video\"", "\"unheard-of\"").contains("unheard-of"));
    assert!(with("\"channels\":8", "\"channels\":4000000000").contains("channels"));
    assert!(with("\"layers\":1", "\"layers\":1,\"depth\":3").contains("depth"));
    assert!(with("\"expand\":2", "\"expand\":0").contains("expand"));
    for (from, to) in [
        ("{\"pixels\":7}", "{\"pixels\":70}"),
        ("{\"pixels\":7}", "{\"means\":7}"),
        ("\"residual\"", "\"direct\""),
        ("\"history\":0", "\"history\":1"),
        ("\"grid\":1", "\"grid\":4"),
        ("\"channels\":6", "\"channels\":3"),
        ("\"history\":0", "\"history\":0,\"mean\":[0.5,0.5,0.5]"),
    ] {
        let error = with(from, to);
        assert!(error.contains("io is {") && error.contains("this architecture has"), "{error}");
    }
    assert!(with("\"history\":0", "\"memory\":0").contains("io: unknown field `memory`"));
    assert!(with("\"yuv420\"", "\"xyz\"").contains("io: unknown variant `xyz`"));
    assert!(with("\"deblur\"", "\"denoise\"").contains("used twice"));
    assert!(with("\"box\"", "\"ball\"").contains("ball"));
}

#[test]
fn files_of_version_1_are_read_as_what_they_were() {
    let first = |io: &str| {
        let change = |text: &mut HashMap<String, String>| {
            let value = text.get_mut("tunableconv").unwrap();
            let mut document: serde_json::Value = serde_json::from_str(value).unwrap();
            document["format_version"] = 1.into();
            document["io"] = serde_json::from_str(io).unwrap();
            *value = document.to_string();
        };
        Checkpoint::from_bytes("a.safetensors", &rewritten(change, |_| ()))
    };
    let checkpoint = first(r#"{"colour":"yuv420","scale":1,"reach":7}"#).unwrap();
    assert_eq!(checkpoint, random_checkpoint(Mode::Mlp, 1));
    for (io, expected) in [
        (r#"{"colour":"yuv420","scale":1,"reach":8}"#, "this architecture has"),
        (r#"{"colour":"rgb","scale":1,"reach":7}"#, "this architecture has"),
        (r#"{"colour":"yuv420","scale":1}"#, "io: missing field `reach`"),
        (r#"{"colour":"yuv420","scale":1,"reach":7,"history":0}"#, "io: unknown field `history`"),
    ] {
        let error = first(io).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn calibration_and_activations_come_together() {
    let without = |name: &'static str| {
        refusal(&rewritten_from(&calibrated_bytes(), |_| (), |parts| parts.retain(|p| p.0 != name)))
    };
    for name in ["head.activations", "body.0.activations"] {
        assert_eq!(
            without(name),
            format!("bad.safetensors: tensor `{name}`: missing, expected F32 [4, 8, 3]")
        );
    }
    let part = |name: &str| (name.into(), vec![4, 8, 3], vec![0; 4 * 8 * 3 * 4]);
    let uncalibrated = rewritten(|_| (), |parts| parts.push(part("head.activations")));
    assert_eq!(
        refusal(&uncalibrated),
        "bad.safetensors: tensor `head.activations`: not expected, as the metadata has no \
         `calibration`"
    );
    // The last layer's output is not an inner activation.
    let of_tail =
        rewritten_from(&calibrated_bytes(), |_| (), |parts| parts.push(part("tail.activations")));
    assert!(refusal(&of_tail).contains("tensor `tail.activations`: not part of this architecture"));
}

#[test]
fn activations_that_are_not_ranges_are_named_with_what_was_expected() {
    let with = |statistics: [f32; 3]| {
        let bytes: Vec<u8> = statistics.iter().flat_map(|v| v.to_le_bytes()).collect();
        let change = |parts: &mut Vec<Part>| {
            tensor(parts, "body.0.activations").2[12..24].copy_from_slice(&bytes);
        };
        Checkpoint::from_bytes(
            "bad.safetensors",
            &rewritten_from(&calibrated_bytes(), without_hash, change),
        )
    };
    let fine = [[0.0, 0.0, 0.0], [-1.0, 2.0, -1.0], [-1.0, 2.0, 2.0], [-1e4, 1e4, 0.0]];
    for statistics in fine {
        assert!(with(statistics).is_ok(), "{statistics:?}");
    }
    // Range backwards, mean below and above it, too large at either end.
    for statistics in [
        [1.0, -1.0, 0.0],
        [-1.0, 1.0, -1.5],
        [-1.0, 1.0, 1.5],
        [-1.001e4, 1.0, 0.0],
        [-1.0, 1.001e4, 0.0],
    ] {
        let error = with(statistics).unwrap_err().to_string();
        let [minimum, maximum, mean] = statistics;
        assert_eq!(
            error,
            format!(
                "bad.safetensors: tensor `body.0.activations`: range 1 is {minimum} to {maximum} \
                 around {mean}, expected minimum ≤ mean ≤ maximum within ±10000"
            )
        );
    }
    for (at, bad) in [(0, f32::NEG_INFINITY), (1, f32::INFINITY), (2, f32::NAN)] {
        let mut statistics = [-1.0, 1.0, 0.0];
        statistics[at] = bad;
        let error = with(statistics).unwrap_err().to_string();
        let element = 3 + at;
        let expected = format!(
            "`body.0.activations`: element {element} is {bad:?}, expected at most ±1000000"
        );
        assert!(error.contains(&expected), "{error}");
    }
    let transposed = rewritten_from(
        &calibrated_bytes(),
        |_| (),
        |parts| tensor(parts, "head.activations").1 = vec![8, 4, 3],
    );
    assert_eq!(
        refusal(&transposed),
        "bad.safetensors: tensor `head.activations`: F32 [8, 4, 3], expected F32 [4, 8, 3]"
    );
}

#[test]
fn a_calibration_with_other_fields_is_refused() {
    let with = |from: &'static str, to: &'static str| {
        let change = |text: &mut HashMap<String, String>| {
            let value = text.get_mut("tunableconv").unwrap();
            assert!(value.contains(from), "{value}");
            *value = value.replace(from, to);
        };
        refusal(&rewritten_from(&calibrated_bytes(), change, |_| ()))
    };
    assert!(with("\"quantile\":0.999", "\"quantile\":\"most\"").contains("expected f64"));
    assert!(with("\"quantile\":0.999", "\"share\":0.999").contains("unknown field `share`"));
    assert!(with(",\"quantile\":0.999", "").contains("missing field `quantile`"));
    assert!(with("\"images\":2", "\"images\":-2").contains("expected u64"));
}

#[test]
fn sixteen_corners_can_be_calibrated() {
    let checkpoint = |domain: Domain, count: usize| {
        let default = |j: usize| if j == 0 { 1.0 } else { 0.0 };
        let parameters = (0..count).map(|j| parameter(&format!("p{j}"), default(j))).collect();
        let tuning = TuningSpace { domain, parameters };
        calibrated(random_checkpoint_of(small_config(Mode::Mlp), tuning, 1))
    };
    for (domain, count) in [(Domain::Box, 4), (Domain::Simplex, 5), (Domain::Simplex, 16)] {
        let checkpoint = checkpoint(domain, count);
        let bytes = checkpoint.to_bytes("memory").unwrap();
        assert_eq!(Checkpoint::from_bytes("memory", &bytes).unwrap(), checkpoint);
    }
    let mut five_knobs = checkpoint(Domain::Box, 5);
    assert_eq!(
        five_knobs.to_bytes("bad.safetensors").unwrap_err().to_string(),
        "bad.safetensors: not a valid checkpoint: calibration of 32 corners, expected ≤ 16"
    );
    five_knobs.metadata.calibration = None;
    five_knobs.tensors.retain(|name, _| !name.ends_with(".activations"));
    assert!(five_knobs.to_bytes("memory").is_ok());
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

#[test]
fn damaged_weights_are_not_taken_for_those_that_were_written() {
    // Every kind of damage that leaves a file whole, at 3000 places.
    let bytes = calibrated_bytes();
    let whole = Checkpoint::from_bytes("whole", &bytes).unwrap();
    let start = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    for number in 0..3000 {
        let mut damaged = bytes.clone();
        // Also where the header is.
        let anywhere = rng.random_range(0..bytes.len());
        let words = (bytes.len() - start) / 4;
        let at = start + 4 * rng.random_range(0..words);
        let other = start + 4 * rng.random_range(0..words);
        match number % 6 {
            4 => damaged[anywhere] ^= 1 << rng.random_range(0..8),
            5 => damaged[anywhere] = rng.random(),
            0 => damaged[at + rng.random_range(0..4)] ^= 1 << rng.random_range(0..8),
            1 => damaged[at..at + 4].copy_from_slice(&rng.random::<f32>().to_le_bytes()),
            2 => damaged[at..at + 4].copy_from_slice(&bytes[other..other + 4]),
            _ => damaged[at.min(other)..at.max(other)].fill(0),
        }
        match Checkpoint::from_bytes("bad.safetensors", &damaged) {
            // A letter of a blurb, say.
            Ok(read) => assert!(read.tensors == whole.tensors, "damage {number} passes"),
            Err(error) => assert!(error.to_string().contains("bad.safetensors"), "{error}"),
        }
    }
    // Equal tensors in each other's place.
    let swapped = rewritten_from(
        &bytes,
        |_| (),
        |parts| {
            let (a, b) = (
                tensor(parts, "head.activations").2.clone(),
                tensor(parts, "body.0.activations").2.clone(),
            );
            assert_ne!(a, b);
            tensor(parts, "head.activations").2 = b;
            tensor(parts, "body.0.activations").2 = a;
        },
    );
    assert!(refusal(&swapped).contains("damaged"));
}

#[test]
fn files_without_a_hash_of_their_weights_are_read() {
    let without = rewritten(without_hash, |_| ());
    let read = Checkpoint::from_bytes("old", &without).unwrap();
    assert_eq!(read, random_checkpoint(Mode::Mlp, 1));
    assert_eq!(read.weights_hash(), random_checkpoint(Mode::Mlp, 1).weights_hash());
    assert_ne!(read.weights_hash(), random_checkpoint(Mode::Mlp, 2).weights_hash());
}

#[test]
fn a_name_that_is_there_twice_is_refused() {
    let bytes = bytes();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = String::from_utf8(bytes[8..8 + length].to_vec()).unwrap();
    let (head, rest) = header.split_once("\"head.bias\":").unwrap();
    let entry = &rest[..=rest.find('}').unwrap()];
    let header = format!("{head}\"head.bias\":{entry},\"head.bias\":{rest}");
    let header =
        format!("{}{}", header.trim_end(), " ".repeat((8 - header.trim_end().len() % 8) % 8));
    let mut twice = (header.len() as u64).to_le_bytes().to_vec();
    twice.extend(header.as_bytes());
    twice.extend(&bytes[8 + length..]);
    assert!(refusal(&twice).contains("`head.bias` is there twice"), "{}", refusal(&twice));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("twice.safetensors");
    std::fs::write(&path, &twice).unwrap();
    assert!(Metadata::read(&path).unwrap_err().to_string().contains("is there twice"));
}
