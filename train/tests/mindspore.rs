//! Checkpoints of the authors': what is imported computes what theirs does, and whatever else is refused.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use common::{Workplace, apart, large_pictures, picture};
use safetensors::SafeTensors;
use tunableconv::checkpoint::Checkpoint;
use tunableconv::tuning::Domain;
use tunableconv_train::import_mindspore::{Choices, Config, import};

/// Largest difference to the authors' output, in standard deviations of that.
const TOLERANCE: f64 = 2e-4;

const EDSR: [&str; 3] = ["edsr_x1_mlp", "edsr_x3_linear", "edsr_x4_mlp"];

const OTHERS: [&str; 4] = ["nafnet_mlp", "stylenet_mlp", "swinir_x1_mlp", "swinir_x4_mlp"];

fn golden(name: &str, extension: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/mindspore");
    folder.join(name).with_extension(extension)
}

/// The configuration that a golden file says.
fn config(name: &str) -> String {
    let bytes = std::fs::read(golden(name, "safetensors")).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    header.metadata().as_ref().unwrap()["config"].clone()
}

fn tensors(path: &Path) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

fn flat(tensor: &Tensor) -> Vec<f64> {
    let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    values.into_iter().map(f64::from).collect()
}

#[test]
fn imported_nets_compute_what_the_authors_do() {
    let at = Workplace::new();
    for name in EDSR.into_iter().chain(OTHERS) {
        std::fs::write(at.path("config.json"), config(name)).unwrap();
        let file = golden(name, "ckpt");
        let line = "--config config.json --output net.safetensors";
        let mut command = at.command(&format!("import-mindspore {} {line}", file.display()));
        let said =
            String::from_utf8(command.assert().success().get_output().stderr.clone()).unwrap();
        let (net, _) = name.split_once('_').unwrap();
        let net = net.replace("style", "style ");
        assert!(said.to_lowercase().starts_with(&net), "{said}");
        assert_eq!(said.contains("ignored: "), net != "nafnet", "{said}");
        let input = golden(name, "safetensors");
        at.succeed(&format!(
            "forward net.safetensors --input {} --output out.safetensors",
            input.display()
        ));
        let want = tensors(&input);
        // Different tunings within the batch.
        let omega = want["omega"].to_vec2::<f32>().unwrap();
        assert_ne!(omega[0], omega[1]);
        let got = &tensors(&at.path("out.safetensors"))["y"];
        assert_eq!(got.dims(), want["y"].dims());
        let (got, want) = (flat(got), flat(&want["y"]));
        let mean = want.iter().sum::<f64>() / want.len() as f64;
        let variance = want.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / want.len() as f64;
        let worst = got.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        println!("{name}: {:.1e}", worst / variance.sqrt());
        assert!(worst / variance.sqrt() < TOLERANCE, "{name}: {worst}");
    }
}

#[test]
fn a_checkpoint_says_what_it_is() {
    let at = Workplace::new();
    std::fs::write(at.path("config.json"), config("edsr_x4_mlp")).unwrap();
    let file = golden("edsr_x4_mlp", "ckpt");
    let line = "--config config.json --parameters sharp,lifelike --output net.safetensors";
    at.succeed(&format!("import-mindspore {} {line}", file.display()));
    let checkpoint = Checkpoint::read(&at.path("net.safetensors")).unwrap();
    let tuning = &checkpoint.metadata.tuning;
    assert_eq!((tuning.names().as_str(), tuning.domain), ("sharp, lifelike", Domain::Simplex));
    let said = at.succeed("inspect net.safetensors");
    assert!(said.contains("EDSR ×4 in RGB, 2 blocks of 16 channels"), "{said}");
    assert!(said.contains("reach       7 pixels, scale ×4"), "{said}");
    // It is measured on pictures that a smaller one is made of.
    std::fs::create_dir(at.path("large")).unwrap();
    picture(67, 49, 1).save(at.path("large/0.png")).unwrap();
    let said = at.succeed("score net.safetensors --data large --tuning sharp=1");
    assert!(said.starts_with("1 images, clean"), "{said}");
    let error = at.fail("score net.safetensors --data data --tuning sharp=1");
    assert!(error.contains("40x36, expected sides of 44 to 8192 pixels"), "{error}");
    // What cannot run it says so, and leaves nothing.
    let error = at.fail("export-onnx net.safetensors --out net.onnx");
    assert!(error.contains("turns Rgb into 4 × the size"), "{error}");
    assert!(!at.path("net.onnx").exists());
}

#[test]
fn imported_nets_run_in_int8_once_they_are_calibrated() {
    let at = Workplace::new();
    for (name, scale) in EDSR.into_iter().zip([1, 3, 4]) {
        large_pictures(&at, scale);
        std::fs::write(at.path("config.json"), config(name)).unwrap();
        let file = golden(name, "ckpt");
        let line = "--config config.json --output net.safetensors";
        at.succeed(&format!("import-mindspore {} {line}", file.display()));
        at.succeed("calibrate net.safetensors --data large --quantile 1");
        let checkpoint = Checkpoint::read(&at.path("net.safetensors")).unwrap();
        let (most, mean) = apart(&checkpoint);
        println!("{name}: int8 and f32 are at most {most} codes apart, {mean:.3} in the mean");
        // Random nets, whose activations go beyond those of the few pictures here and there.
        assert!(mean < 1.0 && most < 64, "{name}: {most} {mean}");
    }
}

#[test]
fn domains_are_those_of_the_tasks_unless_another_is_asked_for() {
    let file = std::fs::read(golden("edsr_x1_mlp", "ckpt")).unwrap();
    let config: Config = serde_json::from_str(&config("edsr_x1_mlp")).unwrap();
    let domain = |domain| {
        let choices = Choices { names: vec![], domain };
        import("a.ckpt", &file, &config, &choices).unwrap().checkpoint.metadata.tuning.domain
    };
    assert_eq!(domain(None), Domain::Box);
    assert_eq!(domain(Some(Domain::Simplex)), Domain::Simplex);
}

fn refusal(file: &[u8], config: &str) -> String {
    let config: Config = serde_json::from_str(config).unwrap();
    let error = import("bad.ckpt", file, &config, &Choices::default()).unwrap_err();
    let text = format!("{error:#}");
    assert!(text.starts_with("bad.ckpt: "), "{text}");
    text
}

#[test]
fn another_net_than_the_configuration_says_is_refused_by_tensor() {
    let name = "edsr_x1_mlp";
    let (file, config) = (std::fs::read(golden(name, "ckpt")).unwrap(), config(name));
    let with = |from: &str, to: &str| {
        assert!(config.contains(from));
        refusal(&file, &config.replace(from, to))
    };
    let more = with("\"num_blocks\": 2", "\"num_blocks\": 3");
    assert!(more.contains("tensor `body.2.conv1.bias`: missing, expected [1, 2, 16]"), "{more}");
    let fewer = with("\"num_blocks\": 2", "\"num_blocks\": 1");
    assert!(
        fewer.contains("tensor `body.1.conv1.weight` [1, 2, 16, 16, 3, 3]: not part"),
        "{fewer}"
    );
    let wider = with("\"num_channels\": 16", "\"num_channels\": 32");
    assert!(
        wider.contains("tensor `head.weight`: [1, 2, 16, 3, 3, 3], expected [1, 2, 32, 3, 3, 3]"),
        "{wider}"
    );
    let scaled = with("\"scale\": 1", "\"scale\": 2");
    assert!(scaled.contains("tensor `upsample.0.bias`: missing"), "{scaled}");
    let linear = with("\"mlp\"", "\"linear\"");
    assert!(linear.contains("tensor `head.mlp.weight` [2, 2]: not part"), "{linear}");
    let knobs = with("\"num_params\": 2", "\"num_params\": 3");
    assert!(knobs.contains("tensor `head.weight`"), "{knobs}");
}

#[test]
fn what_is_left_out_is_what_the_authors_take() {
    let config: Config = serde_json::from_str(r#"{"arch": "edsr"}"#).unwrap();
    let Config::Edsr { num_blocks, num_channels, scale, num_params, .. } = config else {
        panic!("{config:?}");
    };
    assert_eq!((num_blocks, num_channels, scale, num_params), (16, 64, 4, 1));
    let at = Workplace::new();
    let file = golden("edsr_x1_mlp", "ckpt");
    let line =
        format!("import-mindspore {} --config c.json --output o.safetensors", file.display());
    for (config, expected) in [
        (r#"{"arch": "edsr", "depth": 3}"#, "unknown field `depth`"),
        (r#"{"arch": "unheard-of"}"#, "unknown variant `unheard-of`"),
        (r#"{"arch": "edsr", "scale": 5}"#, "scale = 5, expected 1 to 4"),
        (r#"{"arch": "edsr", "num_blocks": 0}"#, "blocks = 0"),
        (r#"{"arch": "edsr", "num_params": 0}"#, "0 tuning parameters"),
        (
            r#"{"arch": "nafnet", "dec_blk_nums": [1]}"#,
            "4 sizes, decoder_blocks for 1, expected as many",
        ),
        (r#"{"arch": "nafnet", "width": 0}"#, "channels = 0, expected 1 to 64 with 4 sizes"),
        (r#"{"arch": "stylenet", "num_scales": 0}"#, "scales = 0, expected 1 to 4"),
        (r#"{"arch": "stylenet", "num_blocks": [0, 1, 1]}"#, "encoder_layers = 0"),
        (r#"{"arch": "swinir", "num_heads": [6, 6, 6, 7]}"#, "heads = 7, expected a divisor of 96"),
        (r#"{"arch": "swinir", "depths": [6]}"#, "depths for 1 groups, heads for 4"),
        (r#"{"arch": "swinir", "upscale": 2}"#, "upscale = 2 with no upsampler"),
        (r#"{"arch": "swinir", "upsampler": "nearest+conv"}"#, "unknown variant `nearest+conv`"),
        ("edsr", "expected value"),
    ] {
        std::fs::write(at.path("c.json"), config).unwrap();
        let error = at.fail(&line);
        assert!(error.contains(expected), "{error}");
        assert!(!at.path("o.safetensors").exists());
    }
    std::fs::write(at.path("c.json"), self::config("edsr_x1_mlp")).unwrap();
    let error = at.fail(&format!("{line} --parameters one"));
    assert!(error.contains("1 names for 2 parameters: one"), "{error}");
    let error = at.fail(&format!("{line} --parameters a,A"));
    assert!(error.contains("`A`"), "{error}");
    let error = at.fail("import-mindspore no.ckpt --config c.json --output o.safetensors");
    assert!(error.contains("no.ckpt"), "{error}");
}

/// A field of a message: bytes.
fn field(tag: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![tag << 3 | 2];
    prost::encoding::encode_varint(bytes.len() as u64, &mut field);
    field.extend_from_slice(bytes);
    field
}

/// A tensor as a checkpoint has it.
fn entry(name: &str, dims: &[u64], kind: &str, content: &[u8]) -> Vec<u8> {
    let mut tensor = vec![];
    for dim in dims {
        tensor.push(1 << 3);
        prost::encoding::encode_varint(*dim, &mut tensor);
    }
    tensor.extend(field(2, kind.as_bytes()));
    tensor.extend(field(3, content));
    field(1, &[field(1, name.as_bytes()), field(2, &tensor)].concat())
}

#[test]
fn tensors_that_are_not_what_they_say_are_named() {
    let name = "edsr_x1_mlp";
    let (file, config) = (std::fs::read(golden(name, "ckpt")).unwrap(), config(name));
    let after = |entry: Vec<u8>| refusal(&[entry, file.clone()].concat(), &config);
    for (bad, expected) in [
        (
            entry("head.bias", &[1, 2, 16], "Float16", &[0; 64]),
            "`head.bias`: elements are \"Float16\"",
        ),
        (entry("head.bias", &[1, 2, 16], "Float32", &[0; 127]), "`head.bias`: 127 bytes for"),
        (
            entry("head.bias", &[1, 2, 16, 1], "Float32", &[0; 128]),
            "`head.bias`: [1, 2, 16, 1], expected",
        ),
        (entry("head.bias", &[1; 7], "Float32", &[0; 4]), "`head.bias`: more than 6 dimensions"),
        (entry("head.bias", &[u64::MAX, 2, 16], "Float32", &[]), "tensor `head.bias`"),
        (entry("head.bias", &[1, 2, 16], "Float32", &[0xff; 128]), "`head.bias`: holds NaN"),
        (entry("head.bias", &[1, 2, 16], "Float32", &[0; 128]), "`head.bias`: there twice"),
        (entry("other", &[1], "Float32", &[0; 4]), "`other` [1]: not part of this net"),
        (
            entry("add_mean.bias", &[3], "Float32", &[0; 12]),
            "`add_mean.bias`: [0.0, 0.0, 0.0], expected",
        ),
        (field(1, &field(1, b"head.bias")), "`head.bias`: nothing but a name"),
        (field(1, &field(1, &[0xff])), "tensor 1 of the file: its name"),
        (field(1, &[]), "it has no name"),
        (field(9, b"x"), "not a MindSpore checkpoint"),
        (vec![0x0b], "not a MindSpore checkpoint"),
    ] {
        let error = after(bad);
        assert!(error.contains(expected), "{error}");
    }
    // What a training leaves beside the weights costs nothing.
    let more: Vec<u8> = (0..20)
        .flat_map(|i| entry(&format!("moment1.{i}"), &[1], "Float32", &[0; 4]))
        .chain(entry("global_step", &[1], "Int32", &[0; 4]))
        .collect();
    let config: Config = serde_json::from_str(&config).unwrap();
    let all = [more, file].concat();
    let imported = import("a.ckpt", &all, &config, &Choices::default()).unwrap();
    assert_eq!((imported.ignored.len(), imported.ignored_count), (8, 25));
}

#[test]
fn cut_and_flipped_files_are_refused_or_hold_finite_weights() {
    for name in ["edsr_x1_mlp"].into_iter().chain(OTHERS) {
        let (mut file, text) = (std::fs::read(golden(name, "ckpt")).unwrap(), config(name));
        let config: Config = serde_json::from_str(&text).unwrap();
        for keep in (0..file.len()).step_by(file.len() / 850) {
            let error = refusal(&file[..keep], &text);
            let says = error.contains("tensor") || error.contains("not a MindSpore");
            assert!(says, "{name}, {keep} bytes: {error}");
        }
        let mut refused = 0;
        for bit in (0..8 * file.len()).step_by((8 * file.len() / 650) | 1).chain(0..1024) {
            file[bit / 8] ^= 1 << (bit % 8);
            match import("bad.ckpt", &file, &config, &Choices::default()) {
                Err(error) => {
                    refused += 1;
                    assert!(format!("{error:#}").starts_with("bad.ckpt: "), "{error:#}");
                }
                Ok(imported) => {
                    let mut values = imported.checkpoint.tensors.values().flatten();
                    assert!(values.all(|v| v.is_finite()));
                }
            }
            file[bit / 8] ^= 1 << (bit % 8);
        }
        // Of all flips at the start of a file, those in its names and shapes.
        assert!(refused > 250, "{name}: {refused}");
    }
}
