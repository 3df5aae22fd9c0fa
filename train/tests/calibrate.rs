//! Calibration: what is measured, and what happens to the file.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::Path;

use candle_core::{Device, Tensor};
use common::{Workplace, entries};
use tunableconv::checkpoint::{Architecture, Checkpoint, Metadata, Provenance, STATISTICS};
use tunableconv::engine::{self, Options, Precision};
use tunableconv::frame::Range;
use tunableconv::net::Net;
use tunableconv::nn::{Activation, Colour, Mode, PhiConfig, PlainConfig, PlainLayer};
use tunableconv::resample::Filter;
use tunableconv_train::calibrate::{Settings, calibrate};
use tunableconv_train::condition::Condition;
use tunableconv_train::data::list_images;
use tunableconv_train::recipe::Recipe;
use tunableconv_train::rgb::Rgb;
use tunableconv_train::test_set::TestSet;
use tunableconv_train::yuv::{Matrix, Yuv420};

/// A net with made-up weights, without calibration.
fn checkpoint() -> Checkpoint {
    let recipe = common::RECIPE.replace("channels = 4", "channels = 8");
    let Recipe { net, tuning, .. } = Recipe::parse(&recipe).unwrap();
    let provenance = Provenance::default();
    let metadata = Metadata { architecture: net, tuning, provenance, calibration: None };
    let mut state = 1u32;
    let mut next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        0.3 * ((state >> 8) as f32 / (1 << 23) as f32 - 1.0)
    };
    let specs = metadata.tensors().into_iter();
    let tensors = specs
        .map(|spec| (spec.name, (0..spec.shape.iter().product::<usize>()).map(&mut next).collect()))
        .collect();
    Checkpoint { metadata, tensors }
}

/// A folder with images and with the checkpoint as `c.safetensors`.
fn workplace() -> Workplace {
    let at = Workplace::new();
    checkpoint().write(&at.path("c.safetensors")).unwrap();
    at
}

fn set(at: &Workplace) -> TestSet {
    TestSet::images(&at.path("data")).unwrap()
}

/// Clean images, all values inside the ranges.
fn plain() -> Settings {
    Settings { conditions: vec![Condition::default()], quantile: 1.0, ..Settings::default() }
}

fn activations(checkpoint: &Checkpoint) -> impl Iterator<Item = (&String, &[f32])> {
    let tensors = checkpoint.tensors.iter().filter(|(name, _)| name.ends_with(".activations"));
    tensors.flat_map(|(name, values)| values.chunks(STATISTICS).map(move |range| (name, range)))
}

/// Activations of a layer on an image at a corner, by channel.
fn by_channel(net: &Net, corner: usize, layers: usize, path: &Path) -> Vec<Vec<f32>> {
    let mut yuv = Yuv420::from_rgb(&Rgb::load(path).unwrap(), Matrix::Bt601, Range::Limited);
    yuv.round_to_8bit();
    let shape = (1, 6, yuv.height.div_ceil(2), yuv.width.div_ceil(2));
    let x = Tensor::from_vec(yuv.normalised(Range::Limited), shape, &Device::Cpu).unwrap();
    let folded = net.fold(&net.metadata().tuning.corners().nth(corner).unwrap()).unwrap();
    let chain = folded.into_chain().unwrap();
    let run = |x: Tensor, layer: usize| chain.layers[layer].forward(&x, [None; 2]).unwrap();
    (0..layers).fold(x, run).squeeze(0).unwrap().flatten_from(1).unwrap().to_vec2().unwrap()
}

#[test]
fn ranges_are_those_of_all_images_at_each_corner() {
    let at = workplace();
    let calibrated = calibrate(&checkpoint(), &set(&at), &plain()).unwrap();
    let net = Net::new(&checkpoint(), &Device::Cpu).unwrap();
    let paths = list_images(&at.path("data")).unwrap();
    let outputs = calibrated.metadata.architecture.inner_outputs();
    assert_eq!(outputs.len(), 2);
    for (layer, (name, channels)) in outputs.into_iter().enumerate() {
        let measured = &calibrated.tensors[&format!("{name}.activations")];
        assert_eq!(measured.len(), 4 * channels * STATISTICS);
        for corner in 0..4 {
            let images: Vec<_> =
                paths.iter().map(|path| by_channel(&net, corner, layer + 1, path)).collect();
            for channel in 0..channels {
                let values = images.iter().flat_map(|image| &image[channel]).copied();
                let (minimum, maximum) =
                    (values.clone().fold(0.0, f32::min), values.fold(0.0, f32::max));
                let mean = |image: &Vec<Vec<f32>>| {
                    image[channel].iter().sum::<f32>() / image[channel].len() as f32
                };
                let mean = images.iter().map(mean).sum::<f32>() / images.len() as f32;
                let got = &measured[(corner * channels + channel) * STATISTICS..][..STATISTICS];
                assert_eq!(got[..2], [minimum, maximum], "{name}, {corner}, {channel}");
                assert!(
                    (got[2] - mean).abs() < 1e-4,
                    "{name}, {corner}, {channel}: {got:?} {mean}"
                );
            }
        }
    }
}

#[test]
fn a_net_that_enlarges_is_measured_on_smaller_pictures() {
    let at = workplace();
    let layer = |name: &str, channels| PlainLayer::new(name, 3, channels, Activation::None);
    let layers = vec![layer("first", 3), PlainLayer { shuffle: 2, ..layer("last", 4) }];
    let phi = PhiConfig { mode: Mode::Linear, expand: 1 };
    let plain_net = PlainConfig { colour: Colour::Luma, scale: 2, residual: true, layers, phi };
    let mut net = checkpoint();
    net.metadata.architecture = Architecture::Plain(plain_net);
    // The mean of the nine pixels, and with the second knob three times that, for all three channels.
    let kernels = [1.0, 3.0].map(|scale| [scale / 9.0; 27]).concat();
    net.tensors = net
        .metadata
        .tensors()
        .into_iter()
        .map(|spec| {
            let zeros = vec![0.0; spec.shape.iter().product()];
            (spec.name, zeros)
        })
        .collect();
    net.tensors.insert("first.weight".into(), kernels);

    let images = || TestSet::images(&at.path("data")).unwrap();
    let error = calibrate(&net, &images(), &plain()).err().unwrap().to_string();
    assert!(error.contains("scale"), "{error}");
    let calibrated = calibrate(&net, &images().for_scale(2).unwrap(), &plain()).unwrap();

    let mut largest = 0f32;
    for path in list_images(&at.path("data")).unwrap() {
        let image = Rgb::load(&path).unwrap();
        let (width, height) = (image.width / 2, image.height / 2);
        let small = image.resized(width, height, Filter::Bicubic);
        let mut yuv = Yuv420::from_rgb(&small, Matrix::Bt601, Range::Limited);
        yuv.round_to_8bit();
        let y: Vec<f32> = yuv.y.iter().map(|code| (code - 16.0) / 219.0).collect();
        for row in 1..height - 1 {
            for column in 1..width - 1 {
                let around = (0..9).map(|i| y[(row + i / 3 - 1) * width + column + i % 3 - 1]);
                largest = largest.max(around.sum::<f32>() / 9.0);
            }
        }
    }
    let at_second = &calibrated.tensors["first.activations"][2 * 3 * STATISTICS..][..STATISTICS];
    assert!(
        (at_second[1] - 3.0 * largest).abs() < 1e-4,
        "{at_second:?}, expected {largest} three times"
    );
}

#[test]
fn a_smaller_share_gives_narrower_ranges_around_the_mean() {
    let at = workplace();
    let with = |quantile: f64| {
        let settings = Settings { quantile, ..plain() };
        calibrate(&checkpoint(), &set(&at), &settings).unwrap()
    };
    let (whole, most) = (with(1.0), with(0.9));
    let mut narrower = 0;
    for ((name, whole), (_, most)) in activations(&whole).zip(activations(&most)) {
        assert!(whole[0] <= most[0] && most[1] <= whole[1], "{name}: {whole:?}, {most:?}");
        narrower += usize::from(whole[..2] != most[..2]);
        for range in [whole, most] {
            assert!(range[0] <= range[2] && range[2] <= range[1], "{name}: {range:?}");
            // What is outside the picture is zero.
            assert!(range[0] <= 0.0 && 0.0 <= range[1], "{name}: {range:?}");
        }
    }
    let count = activations(&whole).count();
    assert!(narrower > count / 2, "{narrower} of {count}");
}

#[test]
fn the_same_seed_gives_the_same_file_whatever_the_thread_count() {
    let at = workplace();
    let with = |rest: &str| {
        at.succeed(&format!("calibrate c.safetensors --data data --out out.safetensors {rest}"));
        at.read("out.safetensors")
    };
    let before = at.read("c.safetensors");
    let one = with("--seed 5");
    assert!(one == with("--seed 5 --threads 1"));
    assert!(one == with("--seed 5 --threads 3"));
    assert!(before == at.read("c.safetensors"), "--out leaves the checkpoint alone");

    let settings = Settings { seed: 5, ..Settings::default() };
    let library = calibrate(&checkpoint(), &set(&at), &settings).unwrap();
    assert!(one == library.to_bytes("memory").unwrap());
    with("--seed 6");
    let other = Checkpoint::read(&at.path("out.safetensors")).unwrap();
    assert!(!activations(&library).eq(activations(&other)), "another seed, another noise");
}

#[test]
fn calibrating_again_replaces_what_was_measured() {
    let at = workplace();
    let first = Settings { images: 1, quantile: 0.9, ..plain() };
    let once = calibrate(&checkpoint(), &set(&at), &first).unwrap();
    assert_eq!(once.metadata.calibration.as_ref().unwrap().images, 1);
    let twice = calibrate(&once, &set(&at), &plain()).unwrap();
    assert!(twice == calibrate(&checkpoint(), &set(&at), &plain()).unwrap());
    assert_eq!(twice.metadata.calibration.unwrap().images, 3);
    // Weights are as they were.
    assert!(checkpoint().tensors.iter().all(|(name, values)| once.tensors[name] == *values));
}

#[test]
fn a_net_that_was_trained_within_its_ranges_keeps_them() {
    let at = workplace();
    let mut bounded = calibrate(&checkpoint(), &set(&at), &plain()).unwrap();
    bounded.metadata.calibration.as_mut().unwrap().bounds = true;
    let error = calibrate(&bounded, &set(&at), &plain()).unwrap_err().to_string();
    assert!(error.contains("was trained within the ranges"), "{error}");
}

#[test]
fn ranges_that_nothing_fills_can_be_narrowed() {
    let at = workplace();
    let measured = calibrate(&checkpoint(), &set(&at), &plain()).unwrap();
    let narrow = Settings { narrow: true, ..plain() };
    let error = calibrate(&measured, &set(&at), &narrow).unwrap_err().to_string();
    assert!(error.contains("not trained within ranges yet"), "{error}");
    let mut wide = measured.clone();
    wide.metadata.calibration.as_mut().unwrap().bounds = true;
    for (name, values) in &mut wide.tensors {
        if name.ends_with(".activations") {
            for range in values.chunks_mut(STATISTICS) {
                (range[0], range[1]) = (10.0 * range[0] - 1.0, 10.0 * range[1] + 1.0);
            }
        }
    }
    let got = calibrate(&wide, &set(&at), &narrow).unwrap();
    assert!(got.metadata.calibration.as_ref().unwrap().bounds);
    for ((name, got), (_, want)) in activations(&got).zip(activations(&measured)) {
        assert_eq!(got, want, "{name}");
    }
    // The last one's activations reach beyond a range that is so tight: it stays as it was.
    let mut tight = measured.clone();
    tight.metadata.calibration.as_mut().unwrap().bounds = true;
    for (name, values) in &mut tight.tensors {
        if name.ends_with(".activations") {
            values.iter_mut().for_each(|value| *value *= 0.5);
        }
    }
    let still = calibrate(&tight, &set(&at), &narrow).unwrap();
    for ((name, got), (_, limit)) in activations(&still).zip(activations(&tight)) {
        assert!(limit[0] <= got[0] && got[1] <= limit[1], "{name}: {got:?} in {limit:?}");
    }
    // What it does on those pictures is what it did.
    let mut again = got.clone();
    again = calibrate(&again, &set(&at), &narrow).unwrap();
    assert!(activations(&again).eq(activations(&got)));
}

#[test]
fn a_failed_calibration_leaves_the_file_and_the_folder_alone() {
    let at = workplace();
    for dir in ["empty", "broken"] {
        std::fs::create_dir(at.path(dir)).unwrap();
    }
    std::fs::write(at.path("broken/a.png"), b"no").unwrap();
    let (before, count) = (at.read("c.safetensors"), entries(&at.path(".")));
    let calibrate = |rest: &str| {
        let error = at.fail(&format!("calibrate c.safetensors {rest}"));
        assert!(before == at.read("c.safetensors"), "{rest}");
        assert_eq!(entries(&at.path(".")), count, "{rest}");
        error
    };
    assert!(calibrate("--data nowhere").contains("nowhere"));
    assert!(calibrate("--data empty").contains("empty: "));
    let broken = calibrate("--data broken");
    assert!(broken.contains("broken/a.png") && broken.contains("broken: "), "{broken}");
    assert!(calibrate("--data data --out nowhere/c.safetensors").contains("nowhere"));
    for (rest, names) in [
        ("--quantile 0.4", "quantile = 0.4"),
        ("--quantile nan", "quantile = NaN"),
        ("--images 0", "images = 0"),
        ("--noise 0,-1", "noise: sigma = -1, expected 0 to 1000"),
        ("--blur nan", "blur: sigma = [NaN, NaN]"),
    ] {
        let error = calibrate(&format!("--data data {rest}"));
        assert!(error.contains(names), "{rest}: {error}");
    }
    assert!(at.fail("calibrate none.safetensors --data data").contains("none.safetensors"));
}

#[test]
fn broken_images_are_left_out_and_too_wild_a_net_is_refused() {
    let at = workplace();
    std::fs::write(at.path("data/1b.png"), b"no").unwrap();
    // More than JPEG takes, which is among what is measured.
    common::picture(65_600, 1, 0).save(at.path("data/wide.png")).unwrap();
    let calibrated = calibrate(&checkpoint(), &set(&at), &plain()).unwrap();
    let calibration = calibrated.metadata.calibration.unwrap();
    assert_eq!((calibration.images, calibration.data.as_str()), (3, "data"));

    let mut wild = checkpoint();
    wild.tensors.get_mut("head.weight").unwrap().fill(1e38);
    let error = format!("{:#}", calibrate(&wild, &set(&at), &plain()).err().unwrap());
    assert!(error.contains("0.png") && error.contains("not finite"), "{error}");
    wild.tensors.get_mut("head.weight").unwrap().fill(1e5);
    wild.write(&at.path("wild.safetensors")).unwrap();
    let error = at.fail("calibrate wild.safetensors --data data");
    assert!(error.contains("`head.activations`"), "{error}");
    assert!(at.read("wild.safetensors") == wild.to_bytes("memory").unwrap());
}

#[test]
fn score_in_int8_asks_for_a_calibration_and_then_runs() {
    let at = workplace();
    let score = "score c.safetensors --data data --noise 25 --tuning denoise=1 --json --precision";
    let error = at.fail(&format!("{score} int8"));
    assert!(error.contains("`tunableconv-train calibrate`"), "{error}");
    at.succeed("calibrate c.safetensors --data data");
    let psnr = |precision: &str| {
        let json = at.succeed(&format!("{score} {precision}"));
        serde_json::from_str::<serde_json::Value>(&json).unwrap()["psnr_y"].as_f64().unwrap()
    };
    let (f32, int8) = (psnr("f32"), psnr("int8"));
    assert!(f32 != int8 && (f32 - int8).abs() < 1.0, "{f32} dB, {int8} dB");
    let options = Options { precision: Precision::Int8, ..Options::default() };
    let engine = engine::open(&Checkpoint::read(&at.path("c.safetensors")).unwrap(), &options);
    assert!(engine.unwrap().description().contains("int8"));
}

#[test]
fn inspect_says_whether_and_how_a_checkpoint_is_calibrated() {
    let at = workplace();
    let lines = || {
        let table = at.succeed("inspect c.safetensors");
        let line = |name: &str| table.lines().find(|l| l.starts_with(name)).unwrap().to_owned();
        (line("calibration"), line("cost"))
    };
    let (none, cost) = lines();
    assert_eq!(none, "calibration none: int8 needs `tunableconv-train calibrate`");
    at.succeed("calibrate c.safetensors --data data --quantile 0.99");
    let (some, same_cost) = lines();
    assert_eq!(some, "calibration data, 3 images, quantile 0.99");
    assert_eq!(same_cost, cost, "ranges are no banks");
}
