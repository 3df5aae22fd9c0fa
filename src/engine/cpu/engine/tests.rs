//! The engine against candle, at every CPU level and size.

#![allow(clippy::unwrap_used, reason = "tests")]

mod chains;
mod frames;
mod int8;

use std::collections::BTreeMap;

use candle_core::{Device, Module, Tensor};

use super::*;
use crate::checkpoint::{self, Architecture, Provenance, STATISTICS};
use crate::engine::CandleEngine;
use crate::frame::{Plane, PlaneMut, Planes as FramePlanes, Range, SampleFormat, Subsampling};
use crate::net::Net;
use crate::nn::{
    Activation, EdsrConfig, Mode, PhiConfig, PlainConfig, PlainLayer, TensorSpec, TwoScaleConfig,
    VideoNetConfig,
};
use crate::tuning::{Domain, Parameter, TuningSpace};

/// Reproducible numbers in −1 to 1.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    fn values(&mut self, len: usize, largest: f32) -> Vec<f32> {
        (0..len).map(|_| largest * self.next()).collect()
    }
}

/// Those that this machine has; says which it lacks.
fn levels() -> Vec<Level> {
    let (have, lack): (Vec<_>, Vec<_>) =
        Level::ALL.into_iter().partition(|level| level.is_available());
    for level in lack {
        println!("not on this CPU: {}", level.name());
    }
    have
}

fn two_knobs() -> TuningSpace {
    let parameter = |name: &str| Parameter {
        name: name.into(),
        nick: name.into(),
        blurb: name.into(),
        minimum: 0.0,
        maximum: 1.0,
        default: 0.5,
        objective: String::new(),
    };
    TuningSpace { domain: Domain::Box, parameters: vec![parameter("a"), parameter("b")] }
}

const PHI: PhiConfig = PhiConfig { mode: Mode::Mlp, expand: 2 };

fn video(channels: usize, layers: usize) -> Architecture {
    Architecture::Video(VideoNetConfig { channels, layers, negative_slope: 0.1, phi: PHI })
}

/// Channels at either scale; layers before, inside and after.
fn two_scale(
    [channels, inner_channels]: [usize; 2],
    [layers_before, layers_inside, layers_after]: [usize; 3],
) -> Architecture {
    Architecture::TwoScale(TwoScaleConfig {
        channels,
        inner_channels,
        layers_before,
        layers_inside,
        layers_after,
        negative_slope: 0.1,
        phi: PHI,
    })
}

fn edsr(channels: usize, blocks: usize, scale: usize) -> Architecture {
    Architecture::Edsr(EdsrConfig { channels, blocks, scale, residual_scale: 0.5, phi: PHI })
}

/// A chain of so many channels with slopes of their own.
fn plain(colour: Colour, channels: usize, scale: usize, residual: bool) -> Architecture {
    let colours = if colour == Colour::Luma { 1 } else { 3 };
    let layer = |name: &str, channels, activation| PlainLayer::new(name, 3, channels, activation);
    let last = layer("last", colours * scale * scale, Activation::None);
    let layers = vec![
        layer("first", channels, Activation::PRelu),
        layer("second", channels, Activation::PRelu),
        PlainLayer { shuffle: scale, ..last },
    ];
    Architecture::Plain(PlainConfig { colour, scale, residual, layers, phi: PHI })
}

/// A chain that works on two pixels as one, and makes a picture of twice the size of them.
fn coarse(channels: usize, layers: usize) -> Architecture {
    let layer =
        |name: String, channels| PlainLayer::new(name, 3, channels, Activation::LeakyRelu(0.1));
    let mut all = vec![PlainLayer { stride: 2, ..layer("first".into(), channels) }];
    all.extend((0..layers).map(|i| layer(format!("inner.{i}"), channels)));
    let last = PlainLayer { activation: Activation::None, ..layer("last".into(), 16) };
    all.push(PlainLayer { shuffle: 4, ..last });
    let (colour, residual) = (Colour::Luma, true);
    Architecture::Plain(PlainConfig { colour, scale: 2, residual, layers: all, phi: PHI })
}

fn metadata(architecture: Architecture) -> Metadata {
    Metadata {
        architecture,
        tuning: two_knobs(),
        provenance: Provenance::default(),
        calibration: None,
    }
}

/// A video net with weights that keep activations near 1, and ranges to match.
fn video_net(channels: usize, layers: usize, seed: u64) -> Checkpoint {
    net(video(channels, layers), seed)
}

/// The same of any net.
fn net(architecture: Architecture, seed: u64) -> Checkpoint {
    let mut random = Random(seed);
    let mut metadata = metadata(architecture);
    let calibration = checkpoint::Calibration {
        data: "none".into(),
        images: 1,
        seed,
        quantile: 0.999,
        bounds: false,
    };
    metadata.calibration = Some(calibration);
    let tensor = |spec: TensorSpec, random: &mut Random| {
        let len: usize = spec.shape.iter().product();
        let values = if spec.name.ends_with(".activations") {
            let range = |random: &mut Random| {
                let (low, high) = (0.5 * random.next() - 0.5, 0.5 * random.next() + 1.5);
                [low, high, 0.5 * (low + high)]
            };
            (0..len / STATISTICS).flat_map(|_| range(random)).collect()
        } else {
            let fan_in: usize = spec.shape.iter().skip(2).product();
            random.values(len, (4.0 / fan_in.max(4) as f32).sqrt())
        };
        (spec.name, values)
    };
    let specs = metadata.tensors();
    let tensors = specs.into_iter().map(|spec| tensor(spec, &mut random)).collect();
    Checkpoint { metadata, tensors }
}

fn options(precision: Precision, threads: usize) -> Options {
    Options { precision, threads, ..Default::default() }
}

fn engine(
    checkpoint: &Checkpoint,
    precision: Precision,
    threads: usize,
    level: Level,
) -> CpuEngine {
    cut_engine(checkpoint, &[], precision, threads, level)
}

/// An engine for a chain that is cut at these edges.
fn cut_engine(
    checkpoint: &Checkpoint,
    cuts: &[usize],
    precision: Precision,
    threads: usize,
    level: Level,
) -> CpuEngine {
    let spec = ChainSpec::of(&checkpoint.metadata.architecture).unwrap();
    let banks = SharedBanks::of_chain(checkpoint, &spec).unwrap();
    CpuEngine::of_chain(checkpoint, (spec, cuts), banks, precision, threads, level).unwrap()
}

/// An engine with banks of its own.
fn at_level(checkpoint: &Checkpoint, options: &Options, level: Level) -> CpuEngine {
    let banks = SharedBanks::new(checkpoint).unwrap();
    CpuEngine::at_level(checkpoint, banks, options, level).unwrap()
}

/// Sets the first parameters; others are 0.
fn tune(engine: &mut dyn Engine, values: [f64; 2]) {
    let mut values = values.to_vec();
    values.resize(engine.metadata().tuning.len(), 0.0);
    let tuning = engine.metadata().tuning.tuning(&values).unwrap();
    engine.set_tuning(&tuning).unwrap();
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn f32_agrees_with_candle() {
    let chains = [(8, 0), (8, 3), (32, 4), (40, 1), (16, 32)];
    let chains = chains.map(|(channels, layers)| video(channels, layers));
    let two_scales = [
        two_scale([32, 64], [0, 2, 1]),
        two_scale([16, 24], [2, 0, 0]),
        two_scale([8, 40], [1, 3, 2]),
    ];
    let edsrs = [edsr(8, 1, 1), edsr(16, 3, 2), edsr(8, 2, 3), edsr(24, 2, 4), edsr(64, 7, 2)];
    let plains = [
        plain(Colour::Rgb, 16, 1, false),
        plain(Colour::Rgb, 24, 3, true),
        plain(Colour::Luma, 16, 2, false),
        coarse(32, 4),
    ];
    for architecture in chains.into_iter().chain(two_scales).chain(edsrs).chain(plains) {
        let (channels, scale) = (architecture.io().channels, architecture.io().scale);
        let checkpoint = net(architecture.clone(), 7);
        let net = Net::new(&checkpoint, &Device::Cpu).unwrap();
        for level in levels() {
            let options = options(Precision::F32, 2);
            let mut engine = at_level(&checkpoint, &options, level);
            for (width, height) in [(1, 1), (2, 1), (1, 9), (5, 3), (17, 70), (67, 18)] {
                for omega in [[0.0, 1.0], [0.3, 0.8]] {
                    tune(&mut engine, omega);
                    let (size, out_size) = ((width, height), (scale * width, scale * height));
                    let x = Random(3).values(channels * width * height, 1.0);
                    let mut got = vec![f32::NAN; channels * out_size.0 * out_size.1];
                    engine.run_tensor((&x, size), (&mut got, out_size), None).unwrap();
                    let x = Tensor::from_vec(x, (1, channels, height, width), &Device::Cpu);
                    let tuning = engine.metadata().tuning.tuning(&omega).unwrap();
                    let want = net.fold(&tuning).unwrap().forward(&x.unwrap()).unwrap();
                    // A coarse chain makes whole groups.
                    let want = want.narrow(2, 0, out_size.1).unwrap();
                    let want = want.narrow(3, 0, out_size.0).unwrap();
                    let want: Vec<f32> = want.flatten_all().unwrap().to_vec1().unwrap();
                    let difference = largest_difference(&got, &want);
                    let largest = want.iter().fold(0f32, |m, v| m.max(v.abs()));
                    assert!(largest > 0.01, "{architecture:?}: {largest}");
                    assert!(
                        difference <= 1e-4 * largest.max(1.0),
                        "{architecture:?} {} {width}×{height}: {difference}",
                        level.name()
                    );
                }
            }
        }
    }
}

/// Whose activations are clamped to their ranges, a quarter of what they were.
fn bounded(mut checkpoint: Checkpoint) -> Checkpoint {
    checkpoint.metadata.calibration.as_mut().unwrap().bounds = true;
    for (name, values) in &mut checkpoint.tensors {
        if name.ends_with(".activations") {
            values.iter_mut().for_each(|value| *value *= 0.25);
        }
    }
    checkpoint
}

#[test]
fn bounded_activations_agree_with_candle_and_differ_from_free_ones() {
    let (width, height) = (21, 18);
    let x = Random(3).values(CHANNELS * width * height, 1.0);
    let two_scales = two_scale([32, 64], [0, 2, 1]);
    for architecture in [video(8, 0), video(8, 3), video(32, 4), video(40, 1), two_scales] {
        let free = net(architecture.clone(), 7);
        let bounded = bounded(free.clone());
        let net = Net::new(&bounded, &Device::Cpu).unwrap();
        for omega in [[0.0, 1.0], [0.3, 0.8]] {
            let tuning = net.metadata().tuning.tuning(&omega).unwrap();
            let tensor = Tensor::from_slice(&x, (1, CHANNELS, height, width), &Device::Cpu);
            let want = net.fold(&tuning).unwrap().forward(&tensor.unwrap()).unwrap();
            let want: Vec<f32> = want.flatten_all().unwrap().to_vec1().unwrap();
            let largest = want.iter().fold(0f32, |m, v| m.max(v.abs()));
            for level in levels() {
                let residual = |checkpoint: &Checkpoint, precision: Precision| {
                    let mut engine = at_level(checkpoint, &options(precision, 2), level);
                    tune(&mut engine, omega);
                    let mut out = vec![f32::NAN; x.len()];
                    engine.residual(&x, (width, height), &mut out).unwrap();
                    out
                };
                let what = format!("{architecture:?} {}", level.name());
                let got = residual(&bounded, Precision::F32);
                let difference = largest_difference(&got, &want);
                assert!(difference <= 1e-4 * largest.max(1.0), "{what}: {difference}");
                let of_free = largest_difference(&got, &residual(&free, Precision::F32));
                assert!(of_free > 0.1 * largest, "{what}: {of_free} of {largest}");
                let of_int8 = largest_difference(&got, &residual(&bounded, Precision::Int8));
                assert!(of_int8 < 0.1 * largest, "{what}: {of_int8} of {largest}");
            }
        }
    }
}
