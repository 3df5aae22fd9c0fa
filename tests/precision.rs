//! Precisions: how they are spelt, which of them a checkpoint can have, and which one `auto` takes.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::num::NonZero;

use common::{
    Picture, calibrated, random_checkpoint, random_checkpoint_of, small_config, two_knobs,
};
use tunableconv::checkpoint::Checkpoint;
use tunableconv::engine::cpu::kernels::level_name;
use tunableconv::engine::{self, DeviceChoice, Engine, Options, Precision};
use tunableconv::nn::{Mode, VideoNetConfig};
use tunableconv::{Error, Result};

fn open_with(
    checkpoint: &Checkpoint,
    precision: Precision,
    threads: usize,
) -> Result<Box<dyn Engine>> {
    engine::open(
        checkpoint,
        &Options { device: DeviceChoice::Cpu, precision, threads, ..Options::default() },
    )
}

fn open(checkpoint: &Checkpoint, precision: Precision) -> Result<Box<dyn Engine>> {
    open_with(checkpoint, precision, 1)
}

/// Why the precision is refused.
fn refusal(checkpoint: &Checkpoint, precision: Precision) -> String {
    match open(checkpoint, precision) {
        Err(error @ Error::Precision { .. }) => error.to_string(),
        Err(error) => panic!("expected Error::Precision, got: {error}"),
        Ok(engine) => panic!("expected Error::Precision, got: {}", engine.description()),
    }
}

fn uncalibrated() -> Checkpoint {
    random_checkpoint(Mode::Mlp, 7)
}

/// A net that the row engine has no kernels for.
fn five_channels() -> Checkpoint {
    let config = VideoNetConfig { channels: 5, ..small_config(Mode::Mlp) };
    random_checkpoint_of(config, two_knobs(), 7)
}

/// What `auto` takes at the level in use.
fn fastest(is_calibrated: bool) -> Precision {
    let has_byte_dot_product = match level_name() {
        "avxvnni" | "avx512vnni" => true,
        #[cfg(target_arch = "x86_64")]
        "avx512" => is_x86_feature_detected!("avxvnni"),
        _ => false,
    };
    if is_calibrated && has_byte_dot_product { Precision::Int8 } else { Precision::F32 }
}

/// A ramp with a little noise, filtered.
fn filtered(engine: &mut dyn Engine) -> Picture {
    let mut values = vec![0.75, 0.5];
    values.resize(engine.metadata().tuning.len(), 0.0);
    let tuning = engine.metadata().tuning.tuning(&values).unwrap();
    engine.set_tuning(&tuning).unwrap();
    let (mut input, mut output) = (Picture::random(34, 18, 0, 3), Picture::random(34, 18, 0, 99));
    for (at, sample) in input.planes.iter_mut().flat_map(|plane| plane.iter_mut().enumerate()) {
        *sample = *sample / 8 + 80 + 2 * (at % 17) as u8;
    }
    engine.process(&input.frame(), &mut output.frame_mut()).unwrap();
    output
}

#[test]
fn precisions_are_spelt_as_they_are_printed() {
    for (text, precision) in [
        ("auto", Precision::Auto),
        ("f32", Precision::F32),
        ("f16", Precision::F16),
        ("int8", Precision::Int8),
    ] {
        assert_eq!(text.parse::<Precision>().unwrap(), precision);
        assert_eq!(precision.to_string(), text);
    }
    for text in ["", "INT8", "i8", "int8 ", "bf16"] {
        assert_eq!(
            text.parse::<Precision>().unwrap_err().to_string(),
            format!("precision `{text}`: expected auto, f32, f16 or int8")
        );
    }
    assert_eq!(Precision::default(), Precision::Auto);
}

#[test]
fn f16_is_for_other_devices() {
    let error = refusal(&uncalibrated(), Precision::F16);
    assert!(error.starts_with("precision f16: it is no faster than f32 on a CPU"), "{error}");
}

#[test]
fn int8_needs_a_calibrated_checkpoint() {
    let error = refusal(&uncalibrated(), Precision::Int8);
    assert!(error.starts_with("precision int8: "), "{error}");
    assert!(error.contains("`tunableconv-train calibrate`"), "{error}");
    let engine = open(&calibrated(uncalibrated()), Precision::Int8).unwrap();
    assert!(engine.description().contains("int8"), "{}", engine.description());
}

#[test]
fn auto_takes_the_fastest_that_the_checkpoint_and_the_cpu_have() {
    let built_in = Checkpoint::built_in().unwrap();
    assert!(built_in.metadata.calibration.is_some());
    for checkpoint in [uncalibrated(), calibrated(uncalibrated()), built_in] {
        let expected = fastest(checkpoint.metadata.calibration.is_some());
        let mut auto = open(&checkpoint, Precision::Auto).unwrap();
        let description = auto.description();
        assert!(description.starts_with("row pipeline on CPU"), "{description}");
        assert!(description.ends_with(&format!(", {expected}")), "{expected}: {description}");
        let mut same = open(&checkpoint, expected).unwrap();
        assert_eq!(filtered(auto.as_mut()), filtered(same.as_mut()));
    }
}

#[test]
fn int8_and_f32_are_near_but_not_the_same() {
    let checkpoint = Checkpoint::built_in().unwrap();
    let [int8, f32] = [Precision::Int8, Precision::F32]
        .map(|precision| filtered(open(&checkpoint, precision).unwrap().as_mut()));
    assert_ne!(int8, f32);
    let pairs = int8.planes.iter().flatten().zip(f32.planes.iter().flatten());
    let sum: u32 = pairs.map(|(a, b)| u32::from(a.abs_diff(*b))).sum();
    let mean = f64::from(sum) / int8.planes.iter().map(Vec::len).sum::<usize>() as f64;
    assert!(mean < 1.0, "they differ by {mean} on average");
}

/// The largest change from one frame to the next while the tuning goes from `from` to `to` over a
/// still noisy picture, in codes: of any sample, and of the mean of any luma block of 8×8, which is
/// what an eye would see as a step.
fn largest_steps(engine: &mut dyn Engine, from: [f64; 3], to: [f64; 3]) -> (u8, f64) {
    const FRAMES: u32 = 100;
    const WIDTH: usize = 96;
    let mut input = Picture::random(WIDTH, 64, 0, 5);
    for (plane, noise) in input.planes.iter_mut().zip([4, 12, 12]) {
        for (at, sample) in plane.iter_mut().enumerate() {
            *sample = 60 + (at % WIDTH) as u8 + *sample / noise;
        }
    }
    let (mut last, mut output) = (input.clone(), input.clone());
    let (mut largest, mut largest_mean) = (0, 0.0_f64);
    for frame in 0..=FRAMES {
        let place = f64::from(frame) / f64::from(FRAMES);
        let omega = [0, 1, 2].map(|i| from[i] + place * (to[i] - from[i]));
        let tuning = engine.metadata().tuning.tuning(&omega).unwrap();
        engine.set_tuning(&tuning).unwrap();
        engine.process(&input.frame(), &mut output.frame_mut()).unwrap();
        if frame > 0 {
            let samples = output.planes.iter().flatten().zip(last.planes.iter().flatten());
            largest = largest.max(samples.map(|(a, b)| a.abs_diff(*b)).max().unwrap());
            let mut sums = [0; 96];
            for (at, (a, b)) in output.planes[0].iter().zip(&last.planes[0]).enumerate() {
                sums[at / WIDTH / 8 * (WIDTH / 8) + at % WIDTH / 8] +=
                    i32::from(*a) - i32::from(*b);
            }
            let most = sums.into_iter().map(i32::abs).max().unwrap();
            largest_mean = largest_mean.max(f64::from(most) / 64.0);
        }
        std::mem::swap(&mut last, &mut output);
    }
    (largest, largest_mean)
}

#[test]
fn int8_follows_a_moving_tuning_without_steps() {
    let checkpoint = Checkpoint::built_in().unwrap();
    for (from, to) in [
        ([0.0, 0.0, 0.0], [1.0, 0.0, 0.0]),
        ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0]),
        ([0.0, 1.0, 0.0], [0.0, 0.0, 1.0]),
        ([0.0, 0.0, 0.0], [1.0, 1.0, 1.0]),
    ] {
        let [(int8, int8_block), (f32, f32_block)] = [Precision::Int8, Precision::F32]
            .map(|p| largest_steps(open(&checkpoint, p).unwrap().as_mut(), from, to));
        println!(
            "{from:?} to {to:?} in 100 frames: a sample changes by {int8} at most in int8, by \
             {f32} in f32; the mean of a block by {int8_block:.2} and {f32_block:.2}"
        );
        assert!(int8 <= f32 + 3, "{int8} against {f32}");
        assert!(int8_block <= f32_block + 0.75, "{int8_block} against {f32_block}");
    }
}

#[test]
fn a_net_that_the_row_engine_cannot_carry_runs_on_candle_and_says_why() {
    const REASON: &str = "layer `head`: 5 channels, expected a multiple of 8";
    let checkpoint = five_channels();
    for precision in [Precision::Auto, Precision::F32] {
        let mut engine = open(&checkpoint, precision).unwrap();
        let description = engine.description();
        assert!(description.starts_with("candle on CPU"), "{description}");
        assert!(description.contains("f32"), "{description}");
        assert!(description.contains(REASON), "{description}");
        filtered(engine.as_mut());
    }
    for checkpoint in [checkpoint.clone(), calibrated(checkpoint)] {
        let error = refusal(&checkpoint, Precision::Int8);
        assert_eq!(error, format!("precision int8: {REASON}"));
    }
}

#[test]
fn no_number_of_threads_means_all_cores() {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    for (checkpoint, cores) in
        [(uncalibrated(), cores), (five_channels(), rayon::current_num_threads())]
    {
        for (threads, expected) in [(0, cores), (1, 1), (3, 3)] {
            let engine = open_with(&checkpoint, Precision::Auto, threads).unwrap();
            let description = engine.description();
            assert!(description.contains(&format!(", {expected} threads")), "{description}");
        }
    }
}
