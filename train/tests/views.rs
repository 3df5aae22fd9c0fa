//! Nets that see pictures in RGB or as luma alone, at one size or larger: what they are trained on, that they
//! learn, and how they are scored.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::Workplace;
use tunableconv::resample::Filter;
use tunableconv_train::batch::{self, Pictures};
use tunableconv_train::data::{ImageFolder, Keep};
use tunableconv_train::metrics::psnr;
use tunableconv_train::recipe::Recipe;
use tunableconv_train::rgb::Rgb;
use tunableconv_train::view::View;
use tunableconv_train::yuv::{Matrix, Range, Yuv420};

const LAYERS: &str = r#"
name = "views"
seed = 1
steps = 1500

[net]
net = "plain"
phi = { mode = "linear", expand = 1 }
residual = true
"#;

const LUMA: &str = r#"colour = "luma"
scale = 2
layers = [
  { name = "head", kernel = 3, channels = 16, stride = 2, activation = { leaky-relu = 0.1 } },
  { name = "body", kernel = 3, channels = 16, activation = { leaky-relu = 0.1 } },
  { name = "tail", kernel = 3, channels = 16, shuffle = 4, activation = "none" },
]
"#;

const RGB: &str = r#"colour = "rgb"
scale = 3
layers = [
  { name = "head", kernel = 3, channels = 16, activation = { leaky-relu = 0.1 } },
  { name = "body", kernel = 3, channels = 16, activation = { leaky-relu = 0.1 } },
  { name = "tail", kernel = 3, channels = 27, shuffle = 3, activation = "none" },
]
"#;

const RGB_SAME: &str = r#"colour = "rgb"
scale = 1
layers = [
  { name = "head", kernel = 3, channels = 16, activation = { leaky-relu = 0.1 } },
  { name = "body", kernel = 3, channels = 16, activation = { leaky-relu = 0.1 } },
  { name = "tail", kernel = 3, channels = 3, activation = "none" },
]
"#;

const SIMPLEX: &str = r#"
[tuning]
domain = "simplex"
parameters = [
  { name = "accurate", nick = "A", blurb = "A", minimum = 0.0, maximum = 1.0, default = 1.0, objective = "a" },
  { name = "other", nick = "B", blurb = "B", minimum = 0.0, maximum = 1.0, default = 0.0, objective = "b" },
]

[[objectives]]
parameter = "accurate"
loss = { kind = "l2" }

[[objectives]]
parameter = "other"
loss = { kind = "l1" }
"#;

const BOX: &str = r#"
[tuning]
domain = "box"
parameters = [
  { name = "denoise", nick = "N", blurb = "N", minimum = 0.0, maximum = 1.0, default = 0.5, objective = "n" },
]

[[degradations]]
parameter = "denoise"
degradation = { kind = "noise", sigma = [0.0, 50.0] }
level = { jitter = 0.1, error = 50.0 }

[[objectives]]
loss = { kind = "corner-targets", scale = "log" }
"#;

const REST: &str = r#"
[batch]
crop = 24
halo = 6
micro_batches = 4
size = 1

[optimiser]
learning_rate = 4e-3
final_learning_rate = 1e-4
warmup_steps = 10
beta1 = 0.9
beta2 = 0.99
clip_norm = 1.0
ema_decay = 0.9
"#;

fn recipe(net: &str, tuning: &str) -> String {
    [LAYERS, net, tuning, REST].concat()
}

/// Trains the recipe; returns the validation's PSNR of its first and last line.
fn train(at: &Workplace, text: &str) -> (f64, f64) {
    std::fs::write(at.path("views.toml"), text).unwrap();
    at.succeed("train views.toml --data many --run run --val-every 500");
    let log = String::from_utf8(at.read("run/metrics.csv")).unwrap();
    let lines: Vec<Vec<&str>> = log.lines().map(|line| line.split(',').collect()).collect();
    let loss = lines[0].iter().position(|c| *c == "val_loss").unwrap();
    let measured = lines[1..].iter().filter_map(|line| line[loss].parse().ok());
    let measured: Vec<f64> = measured.collect();
    (measured[0], measured[measured.len() - 1])
}

/// PSNR-Y of input and output.
fn score(at: &Workplace, options: &str) -> (f64, f64) {
    let line = format!("score run/checkpoint.safetensors --data many --json {options}");
    let report: serde_json::Value = serde_json::from_str(&at.succeed(&line)).unwrap();
    (report["input_psnr_y"].as_f64().unwrap(), report["psnr_y"].as_f64().unwrap())
}

#[test]
fn a_net_on_luma_learns_to_enlarge() {
    let at = Workplace::with_many();
    let (first, last) = train(&at, &recipe(LUMA, SIMPLEX));
    assert!(last < first, "{first} {last}");
    let (input, output) = score(&at, "--tuning accurate=1");
    assert!(output > input, "{input} {output}");
    // What the input is: the clean picture, smaller and larger again, in luma.
    let mut expected = 0.0;
    for index in 0..21 {
        let clean = Rgb::load(&at.path(&format!("many/{index:02}.png"))).unwrap();
        let yuv = |rgb: &Rgb| {
            let mut yuv = Yuv420::from_rgb(rgb, Matrix::Bt601, Range::Limited);
            yuv.round_to_8bit();
            yuv
        };
        let small = yuv(&clean.resized(24, 20, Filter::Bicubic));
        expected += psnr(&small.enlarged(2).y, &yuv(&clean).y, 255.0) / 21.0;
    }
    assert!((input - expected).abs() < 1e-6, "{input} {expected}");
    at.succeed("evaluate run/checkpoint.safetensors --data many --out report --images 3");
    let report = String::from_utf8(at.read("report/report.md")).unwrap();
    assert!(report.contains("clean"), "{report}");
    at.succeed("sweep run/checkpoint.safetensors many/00.png --out sheet.png");
}

#[test]
fn a_net_in_rgb_learns_to_enlarge_what_is_also_degraded() {
    let at = Workplace::with_many();
    let told = BOX.replace("{ kind = \"corner-targets\", scale = \"log\" }", "{ kind = \"l1\" }");
    // Whatever the knob says is worth something.
    let told = told.replace("[[objectives]]\n", "[[objectives]]\nparameter = \"denoise\"\n");
    let (first, last) = train(&at, &recipe(RGB, &told));
    assert!(last < first, "{first} {last}");
    let (input, output) = score(&at, "--degrade noise:25 --level");
    assert!(output > input - 3.0 && output != input, "{input} {output}");
}

#[test]
fn a_net_in_rgb_learns_the_targets_of_its_corners() {
    let at = Workplace::with_many();
    let (first, last) = train(&at, &recipe(RGB_SAME, BOX));
    let (input, output) = score(&at, "--degrade noise:25 --level");
    assert!(last < first, "{first} {last} {input} {output}");
    assert!(output > input + 0.2, "{input} {output}");
}

#[test]
fn samples_are_the_small_picture_and_the_large_one() {
    let at = Workplace::with_many();
    let images = ImageFolder::load(&[at.path("many")], 36, Keep::Everything).unwrap();
    let pictures = Pictures { images, pairs: None };
    for (net, channels, scale) in [(LUMA, 1, 2), (RGB, 3, 3)] {
        let recipe = Recipe::parse(&recipe(net, SIMPLEX)).unwrap();
        let batch = batch::make(&recipe, &pictures, 5);
        let small = 24 / scale;
        assert_eq!(batch.input.len(), 4 * channels * small * small);
        assert_eq!(batch.targets.len(), 1);
        assert_eq!(batch.targets[0].len(), 4 * channels * 24 * 24);
        assert!(batch.residual.is_empty());
        // Each sample's mean colour is that of its target, and each is another.
        let mean = |values: &[f32]| values.iter().sum::<f32>() / values.len() as f32;
        let inputs = batch.input.chunks(small * small).map(mean);
        let targets = batch.targets[0].chunks(24 * 24).map(mean);
        let means: Vec<_> = inputs.zip(targets).collect();
        assert!(means.iter().all(|(a, b)| (a - b).abs() < 0.02), "{means:?}");
        assert!(means.windows(2).any(|pair| (pair[0].0 - pair[1].0).abs() > 0.02), "{means:?}");
    }
    let picture = Rgb::new(2, 2, (0..12).map(|i| i as f32 / 11.0).collect());
    let rgb = View::of(&Recipe::parse(&recipe(RGB, SIMPLEX)).unwrap().net.io());
    let planes = rgb.planes(&picture, Matrix::Bt601, Range::Full);
    assert!(planes.iter().zip(&picture.data).all(|(a, b)| (a - b).abs() <= 0.5 / 255.0));
    assert!(planes.iter().all(|v| (v * 255.0).fract().min(1.0 - (v * 255.0).fract()) < 1e-4));
}

#[test]
fn what_a_net_cannot_be_asked_for_is_named() {
    let refused = |text: &str, reason: &str| {
        let error = format!("{:#}", Recipe::parse(text).unwrap_err());
        assert!(error.contains(reason), "{error}");
    };
    Recipe::parse(&recipe(LUMA, SIMPLEX)).unwrap();
    let luma = recipe(LUMA, SIMPLEX);
    refused(&recipe(LUMA, BOX), "objective `corner-targets` compares them with");
    refused(
        &luma.replace("loss = { kind = \"l1\" }", "loss = { kind = \"l1\" }\ntarget = \"input\""),
        "objective `other.l1` compares them with",
    );
    refused(
        &luma.replace("crop = 24", "crop = 26").replace("halo = 6", "halo = 5"),
        "multiples of 2",
    );
    refused(&luma.replace("steps = 1500", "steps = 1500\nquantised = true"), "quantised recipes");
    let recorded = r#"
[[degradations]]
parameter = "other"
degradation = { kind = "recorded" }
"#;
    refused(&recipe(LUMA, &[SIMPLEX, recorded].concat()), "pairs are of one");
}
