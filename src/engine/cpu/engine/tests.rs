//! The engine against candle, at every CPU level, size, cut and frame layout.

#![allow(clippy::unwrap_used, reason = "tests")]

mod chains;

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
    let layer = |name: &str, channels, activation| PlainLayer {
        name: name.into(),
        kernel: 3,
        channels,
        bias: true,
        activation,
        shuffle: 1,
        add: vec![],
    };
    let last = layer("last", colours * scale * scale, Activation::None);
    let layers = vec![
        layer("first", channels, Activation::PRelu),
        layer("second", channels, Activation::PRelu),
        PlainLayer { shuffle: scale, ..last },
    ];
    Architecture::Plain(PlainConfig { colour, scale, residual, layers, phi: PHI })
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
    let spec = ChainSpec::of(&checkpoint.metadata.architecture).unwrap();
    let banks = SharedBanks::of_chain(checkpoint, &spec).unwrap();
    CpuEngine::of_chain(checkpoint, spec, banks, precision, threads, level).unwrap()
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

#[test]
fn int8_gives_the_same_bits_at_every_level() {
    for architecture in [
        video(8, 0),
        video(8, 2),
        video(24, 1),
        video(32, 4),
        two_scale([32, 64], [0, 2, 1]),
        two_scale([16, 24], [1, 1, 0]),
    ] {
        let checkpoint = net(architecture.clone(), 11);
        for (width, height) in [(1, 1), (3, 2), (19, 40), (70, 9)] {
            let x = Random(5).values(CHANNELS * width * height, 1.0);
            let outputs = levels().into_iter().map(|level| {
                let options = options(Precision::Int8, 2);
                let mut engine = at_level(&checkpoint, &options, level);
                tune(&mut engine, [0.25, 0.9]);
                let mut out = vec![f32::NAN; x.len()];
                engine.residual(&x, (width, height), &mut out).unwrap();
                (level, out)
            });
            let outputs: Vec<_> = outputs.collect();
            for (level, out) in &outputs[1..] {
                let name = level.name();
                assert!(*out == outputs[0].1, "{architecture:?} {name} {width}×{height}");
            }
        }
    }
}

/// The last two axes swapped, for maps or kernels of this many columns and rows.
fn transposed(values: &[f32], (width, height): (usize, usize)) -> Vec<f32> {
    let planes = values.chunks_exact(width * height);
    let turned = |plane: &[f32]| -> Vec<f32> {
        (0..width * height).map(|at| plane[at % height * width + at / height]).collect()
    };
    planes.flat_map(turned).collect()
}

#[test]
fn int8_takes_rows_and_columns_outside_the_image_alike() {
    for channels in [8, 16, 24, 32] {
        let mut checkpoint = video_net(channels, 2, 13);
        for (name, values) in &mut checkpoint.tensors {
            if name.ends_with(".activations") {
                // Without means no sums whose order matters.
                values.chunks_exact_mut(STATISTICS).for_each(|channel| channel[2] = 0.0);
            }
        }
        let mut turned = checkpoint.clone();
        for (name, values) in &mut turned.tensors {
            if name.ends_with(".weight") && !name.contains("mlp") {
                *values = transposed(values, (3, 3));
            }
        }
        let (width, height) = (9, 12);
        let x = Random(5).values(CHANNELS * width * height, 1.0);
        let residual = |checkpoint: &Checkpoint, x: &[f32], size: (usize, usize)| {
            let mut engine = CpuEngine::new(checkpoint, &options(Precision::Int8, 1)).unwrap();
            let mut out = vec![f32::NAN; x.len()];
            engine.residual(x, size, &mut out).unwrap();
            out
        };
        let upright = residual(&checkpoint, &x, (width, height));
        let turned = residual(&turned, &transposed(&x, (width, height)), (height, width));
        assert!(transposed(&upright, (width, height)) == turned, "{channels} channels");
    }
}

#[test]
fn int8_is_near_f32() {
    let checkpoint = Checkpoint::built_in().unwrap();
    let (width, height) = (96, 64);
    // A shaded picture with an edge, and noise: ranges were measured on pictures.
    let mut random = Random(9);
    let mut value = |at: usize| {
        let (channel, row, column) = (at / (width * height), at / width % height, at % width);
        let (y, x) = (2 * row + channel / 2 % 2, 2 * column + channel % 2);
        let shade = 0.5 + 0.2 * (x as f32 / 40.0).sin() * (y as f32 / 30.0).cos();
        let edge = if channel < 4 && x + y > 160 { 0.25 } else { 0.0 };
        shade + edge + 0.1 * random.next()
    };
    let x: Vec<f32> = (0..CHANNELS * width * height).map(&mut value).collect();
    for omega in [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.4, 0.6]] {
        let residual = |precision: Precision| {
            let mut engine = engine(&checkpoint, precision, 1, Level::current());
            tune(&mut engine, omega);
            let mut out = vec![0.0; x.len()];
            engine.residual(&x, (width, height), &mut out).unwrap();
            out
        };
        let (exact, near) = (residual(Precision::F32), residual(Precision::Int8));
        let energy = |values: &mut dyn Iterator<Item = f32>| values.map(|v| v * v).sum::<f32>();
        let signal = energy(&mut exact.iter().copied());
        let error = energy(&mut exact.iter().zip(&near).map(|(a, b)| a - b));
        // One and a half codes of eight bits.
        let (rms, largest) = ((error / x.len() as f32).sqrt(), 1.5 / 255.0);
        assert!(error > 0.0 && rms < largest, "{omega:?}: {rms} of {largest}");
        assert!(error < 0.5 * signal, "{omega:?}: {error} of {signal}");
    }
}

/// A picture of random samples in any layout, rows padded.
struct Planes {
    format: FrameFormat,
    layout: Layout,
    strides: [usize; 2],
    planes: Vec<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Layout {
    Planar,
    VFirstPlanar,
    SemiPlanar,
    VFirstSemiPlanar,
}

const LAYOUTS: [Layout; 4] =
    [Layout::Planar, Layout::VFirstPlanar, Layout::SemiPlanar, Layout::VFirstSemiPlanar];

fn pairs<P>(y: P, uv: P, v_first: bool) -> FramePlanes<P> {
    FramePlanes::SemiPlanar { y, uv, v_first, subsampling: Subsampling::Yuv420 }
}

impl Planes {
    fn random(format: FrameFormat, layout: Layout, padding: usize) -> Self {
        let (half_width, half_height) = format.half_size();
        let bytes = format.samples.bytes();
        let planar = matches!(layout, Layout::Planar | Layout::VFirstPlanar);
        let chroma_bytes = half_width * bytes * if planar { 1 } else { 2 };
        let strides = [format.width * bytes + padding, chroma_bytes + padding];
        let mut random = Random(format.width as u64);
        let mut plane = |len: usize| -> Vec<u8> {
            let code = |v: f32| match format.samples {
                SampleFormat::U8 => vec![(127.9 + 127.9 * v) as u8],
                SampleFormat::U10Low => ((511.9 + 511.9 * v) as u16).to_le_bytes().to_vec(),
                SampleFormat::U10High => (((511.9 + 511.9 * v) as u16) << 6).to_le_bytes().to_vec(),
                other => unreachable!("{other:?}"),
            };
            let mut values: Vec<u8> =
                (0..len.div_ceil(bytes)).flat_map(|_| code(random.next())).collect();
            values.truncate(len);
            values
        };
        let chroma = strides[1] * half_height;
        let mut planes = vec![plane(strides[0] * format.height), plane(chroma)];
        if planar {
            planes.push(plane(chroma));
        }
        Self { format, layout, strides, planes }
    }

    fn frame(&self) -> Frame<'_> {
        let [luma, chroma] = self.strides;
        let plane = |data, stride_bytes| Plane { data, stride_bytes };
        let of = |index: usize| plane(&self.planes[index], chroma);
        let y = plane(&self.planes[0], luma);
        let planar = |u, v| FramePlanes::Planar { y, u, v, subsampling: Subsampling::Yuv420 };
        let planes = match self.layout {
            Layout::Planar => planar(of(1), of(2)),
            Layout::VFirstPlanar => planar(of(2), of(1)),
            Layout::SemiPlanar => pairs(y, of(1), false),
            Layout::VFirstSemiPlanar => pairs(y, of(1), true),
        };
        Frame::new(self.format, planes).unwrap()
    }

    fn frame_mut(&mut self) -> FrameMut<'_> {
        let [luma, chroma] = self.strides;
        let (y, rest) = self.planes.split_first_mut().unwrap();
        let mut rest =
            rest.iter_mut().map(|data| PlaneMut { data: &mut data[..], stride_bytes: chroma });
        let first = rest.next().unwrap();
        let y = PlaneMut { data: y, stride_bytes: luma };
        let subsampling = Subsampling::Yuv420;
        let planes = match self.layout {
            Layout::Planar => {
                FramePlanes::Planar { y, u: first, v: rest.next().unwrap(), subsampling }
            }
            Layout::VFirstPlanar => {
                FramePlanes::Planar { y, v: first, u: rest.next().unwrap(), subsampling }
            }
            Layout::SemiPlanar => pairs(y, first, false),
            Layout::VFirstSemiPlanar => pairs(y, first, true),
        };
        FrameMut::new(self.format, planes).unwrap()
    }

    /// What the engine makes of it; the output's rows are padded by other amounts.
    fn filtered(&self, engine: &mut dyn Engine) -> Self {
        let mut output = Self::random(self.format, self.layout, 7 * self.format.samples.bytes());
        engine.process(&self.frame(), &mut output.frame_mut()).unwrap();
        output
    }

    /// Code values of every plane, without padding.
    fn codes(&self) -> Vec<u16> {
        let (half_width, _) = self.format.half_size();
        let bytes = self.format.samples.bytes();
        let per_pixel = 4 - self.planes.len();
        let mut codes = vec![];
        for (index, plane) in self.planes.iter().enumerate() {
            let (stride, width) = match index {
                0 => (self.strides[0], self.format.width),
                _ => (self.strides[1], half_width * per_pixel),
            };
            for row in plane.chunks_exact(stride) {
                codes.extend(row[..width * bytes].chunks_exact(bytes).map(|sample| {
                    match self.format.samples {
                        SampleFormat::U8 => u16::from(sample[0]),
                        SampleFormat::U10Low => u16::from_le_bytes([sample[0], sample[1]]),
                        SampleFormat::U10High => u16::from_le_bytes([sample[0], sample[1]]) >> 6,
                        other => unreachable!("{other:?}"),
                    }
                }));
            }
        }
        codes
    }
}

const SIZES: [(usize, usize); 9] =
    [(1, 1), (2, 2), (3, 1), (1, 7), (17, 5), (130, 66), (641, 3), (32, 200), (4097, 33)];

#[test]
fn frames_of_every_size_and_layout_are_candles() {
    let checkpoint = video_net(8, 2, 7);
    let net = std::sync::Arc::new(Net::new(&checkpoint, &Device::Cpu).unwrap());
    let mut candle = CandleEngine::new(net, 0, "").unwrap();
    let mut engine = CpuEngine::new(&checkpoint, &options(Precision::F32, 2)).unwrap();
    for (index, (width, height)) in SIZES.into_iter().enumerate() {
        for samples in [SampleFormat::U8, SampleFormat::U10Low, SampleFormat::U10High] {
            for (padding, layout) in LAYOUTS.into_iter().enumerate() {
                let range = if (index + padding) % 2 == 0 { Range::Limited } else { Range::Full };
                let format = FrameFormat { width, height, range, samples };
                let picture = Planes::random(format, layout, 3 * padding);
                let (got, want) = (picture.filtered(&mut engine), picture.filtered(&mut candle));
                // Where the sum falls on a half, an error in the last place decides.
                let (got, want, input) = (got.codes(), want.codes(), picture.codes());
                let unequal = got.iter().zip(&want).filter(|(a, b)| a != b).count();
                let worst = got.iter().zip(&want).map(|(a, b)| a.abs_diff(*b)).max();
                let context = format!("{width}×{height} {samples:?} {layout:?} {range:?}");
                assert!(worst <= Some(1), "{context}: {worst:?}");
                assert!(unequal * 200 <= got.len(), "{context}: {unequal} of {}", got.len());
                assert!(got != input || got.len() < 10, "{context}: the net should do something");
            }
        }
    }
}

#[test]
fn int8_takes_every_size_and_layout() {
    let checkpoint = video_net(8, 2, 7);
    let mut engine = CpuEngine::new(&checkpoint, &options(Precision::Int8, 2)).unwrap();
    let mut scalar = at_level(&checkpoint, &options(Precision::Int8, 1), Level::Scalar);
    for (width, height) in SIZES {
        for samples in [SampleFormat::U8, SampleFormat::U10Low, SampleFormat::U10High] {
            for (padding, layout) in LAYOUTS.into_iter().enumerate() {
                let format = FrameFormat { width, height, range: Range::Limited, samples };
                let picture = Planes::random(format, layout, 5 * padding);
                let (got, want) = (picture.filtered(&mut engine), picture.filtered(&mut scalar));
                assert!(got.codes() == want.codes(), "{width}×{height} {samples:?} {layout:?}");
            }
        }
    }
}

#[test]
fn bands_strips_and_threads_never_change_a_bit() {
    let (chain, two_scales) = (video_net(16, 3, 5), net(two_scale([16, 24], [0, 1, 1]), 5));
    let nets = [&chain, &two_scales];
    let precisions = [Precision::F32, Precision::Int8];
    for (checkpoint, precision) in nets.into_iter().flat_map(|net| precisions.map(|p| (net, p))) {
        for level in levels() {
            for (width, height) in [(6, 5), (66, 3), (201, 131)] {
                let range = Range::Limited;
                let format = FrameFormat { width, height, range, samples: SampleFormat::U8 };
                let picture = Planes::random(format, Layout::Planar, 0);
                let mut want = None;
                for threads in [1, 2, 5] {
                    let options = options(precision, threads);
                    let mut engine = at_level(checkpoint, &options, level);
                    for (bands, strips) in [(1, 1), (2, 1), (1, 2), (3, 5), (66, 1), (1, 101)] {
                        let tiling = Some(Tiling { bands, strips });
                        let mut out = Planes::random(format, Layout::Planar, 0);
                        engine
                            .process_tiled(&picture.frame(), &mut out.frame_mut(), tiling)
                            .unwrap();
                        let want = want.get_or_insert_with(|| out.planes.clone());
                        assert!(
                            out.planes == *want,
                            "{precision} {} {width}×{height}: {threads} threads, {tiling:?}",
                            level.name()
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn bands_strips_and_threads_never_change_a_bit_of_a_larger_picture() {
    for scale in [1, 2, 3, 4] {
        let checkpoint = net(edsr(16, 3, scale), 5);
        for level in levels() {
            for (width, height) in [(6, 5), (66, 3), (101, 61)] {
                let (size, out_size) = ((width, height), (scale * width, scale * height));
                let x = Random(3).values(3 * width * height, 1.0);
                let mut want = None;
                for threads in [1, 2, 5] {
                    let mut engine =
                        at_level(&checkpoint, &options(Precision::F32, threads), level);
                    for (bands, strips) in [(1, 1), (2, 1), (1, 2), (3, 5), (66, 1), (1, 101)] {
                        let tiling = Some(Tiling { bands, strips });
                        let mut got = vec![f32::NAN; 3 * out_size.0 * out_size.1];
                        engine.run_tensor((&x, size), (&mut got, out_size), tiling).unwrap();
                        let want = want.get_or_insert_with(|| got.clone());
                        assert!(
                            got == *want,
                            "×{scale} {} {size:?}: {threads} threads, {tiling:?}",
                            level.name()
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn frames_through_nets_in_rgb_are_candles() {
    for architecture in [
        edsr(8, 1, 1),
        edsr(8, 1, 3),
        plain(Colour::Rgb, 8, 2, true),
        plain(Colour::Rgb, 8, 1, false),
        plain(Colour::Luma, 8, 1, true),
        plain(Colour::Luma, 8, 2, false),
    ] {
        let scale = architecture.io().scale;
        let mut checkpoint = net(architecture.clone(), 5);
        // Colours near those of the input.
        let last = checkpoint.metadata.architecture.chain().pop().unwrap().name;
        for (name, values) in &mut checkpoint.tensors {
            if name.starts_with(&last) {
                values.iter_mut().for_each(|value| *value *= 0.1);
            }
        }
        let candle = Net::new(&checkpoint, &Device::Cpu).unwrap();
        let mut candle = CandleEngine::new(Arc::new(candle), 1, "").unwrap();
        let mut engine = CpuEngine::new(&checkpoint, &options(Precision::F32, 2)).unwrap();
        assert!(!engine.is_identity());
        for (width, height) in [(1, 1), (34, 17), (9, 40)] {
            let range = Range::Limited;
            let format = FrameFormat { width, height, range, samples: SampleFormat::U8 };
            let picture = Planes::random(format, Layout::Planar, 0);
            let large = FrameFormat { width: scale * width, height: scale * height, ..format };
            let mut made = [(); 2].map(|()| Planes::random(large, Layout::Planar, 0));
            let engines: [&mut dyn Engine; 2] = [&mut engine, &mut candle];
            for (made, engine) in made.iter_mut().zip(engines) {
                engine.process(&picture.frame(), &mut made.frame_mut()).unwrap();
            }
            let [got, want] = made.map(|made| made.codes());
            let apart = got.iter().zip(&want).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
            assert!(apart <= 1, "{architecture:?} {width}×{height}: {apart}");
            assert!(want.iter().any(|code| *code != want[0]) || width == 1);
        }
    }
}

#[test]
fn a_new_size_or_tuning_leaves_nothing_of_the_old() {
    let checkpoint = video_net(8, 2, 3);
    for precision in [Precision::F32, Precision::Int8] {
        let options = options(precision, 2);
        let mut used = CpuEngine::new(&checkpoint, &options).unwrap();
        for (index, (width, height)) in [(64, 48), (7, 5), (130, 66), (64, 48)].iter().enumerate() {
            let samples = [SampleFormat::U8, SampleFormat::U10Low][index % 2];
            let range = Range::Limited;
            let format = FrameFormat { width: *width, height: *height, range, samples };
            let picture = Planes::random(format, Layout::SemiPlanar, 0);
            let omega = [0.2 * index as f64, 1.0 - 0.3 * index as f64];
            let mut fresh = CpuEngine::new(&checkpoint, &options).unwrap();
            for engine in [&mut used, &mut fresh] {
                tune(engine, omega);
            }
            let (got, want) = (picture.filtered(&mut used), picture.filtered(&mut fresh));
            assert!(got.planes == want.planes, "{precision} {format:?}");
        }
    }
}

#[test]
fn zero_tuning_of_the_built_in_net_is_the_identity() {
    let checkpoint = Checkpoint::built_in().unwrap();
    for precision in [Precision::F32, Precision::Int8] {
        let mut engine = CpuEngine::new(&checkpoint, &options(precision, 2)).unwrap();
        tune(&mut engine, [0.0, 0.0]);
        assert!(engine.is_identity());
        for samples in [SampleFormat::U8, SampleFormat::U10High] {
            let format = FrameFormat { width: 67, height: 35, range: Range::Limited, samples };
            let picture = Planes::random(format, Layout::Planar, 0);
            assert!(picture.filtered(&mut engine).codes() == picture.codes(), "{precision}");
        }
    }
}

#[test]
fn tensors_of_another_length_are_refused() {
    let checkpoint = video_net(8, 1, 3);
    let mut engine = CpuEngine::new(&checkpoint, &options(Precision::F32, 1)).unwrap();
    let (x, mut out) = (vec![0.0; 6 * 12], vec![0.0; 6 * 12]);
    for size in [(4, 4), (0, 3), (3, 5)] {
        let error = engine.residual(&x, size, &mut out).unwrap_err().to_string();
        assert!(error.contains("72 values") && error.contains("expected 6×"), "{error}");
    }
    engine.residual(&x, (4, 3), &mut out).unwrap();
}
