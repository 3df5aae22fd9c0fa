//! The CUDA engine, its kernels compiled for the CPU: see `cuda/emulator.hpp`.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
#[path = "cuda/emulator.rs"]
mod emulator;

use std::collections::HashSet;
use std::sync::Arc;

use candle_core::{Device, Module as _, Tensor};
use common::{Picture, Random, random_checkpoint, random_net, two_knobs};
use emulator::{Emulator, Kernels, ROOT, compiled};
use tunableconv::checkpoint::{Architecture, Calibration, Checkpoint};
use tunableconv::engine::cuda::{Address, CudaEngine, Kernel, Storage};
use tunableconv::engine::{self, Engine, Options, Precision};
use tunableconv::frame::{
    Frame, FrameFormat, FrameMut, Plane, PlaneMut, Planes, Range, SampleFormat, Subsampling,
};
use tunableconv::net::Net;
use tunableconv::nn::{
    Activation, Colour, EdsrConfig, Mode, PhiConfig, PlainConfig, PlainLayer, TwoScaleConfig,
    VideoNetConfig,
};

fn net(checkpoint: &Checkpoint) -> Arc<Net> {
    Arc::new(Net::new(checkpoint, &Device::Cpu).unwrap())
}

fn of(architecture: Architecture) -> Checkpoint {
    random_net(architecture, two_knobs(), 3)
}

/// Chains of every kind that the kernels are for.
fn chains() -> Vec<(&'static str, Architecture)> {
    let phi = PhiConfig { mode: Mode::Multilinear, expand: 1 };
    let video = |channels, layers| {
        Architecture::Video(VideoNetConfig { channels, layers, negative_slope: 0.1, phi })
    };
    let edsr = |scale| {
        Architecture::Edsr(EdsrConfig { channels: 24, blocks: 2, scale, phi, ..Default::default() })
    };
    let layer = |name: &str, kernel, channels, activation| {
        PlainLayer::new(name, kernel, channels, activation)
    };
    let layers = vec![
        PlainLayer { stride: 2, ..layer("head", 5, 40, Activation::LeakyRelu(0.2)) },
        layer("one", 1, 72, Activation::PRelu),
        layer("middle", 3, 8, Activation::None),
        PlainLayer { shuffle: 2, ..layer("tail", 5, 4, Activation::None) },
    ];
    let plain = PlainConfig { colour: Colour::Luma, scale: 1, residual: true, layers, phi };
    vec![
        ("video, 8 channels", video(8, 1)),
        ("video, 32 channels", video(32, 2)),
        (
            "two scales",
            Architecture::TwoScale(TwoScaleConfig {
                channels: 8,
                inner_channels: 16,
                phi,
                ..Default::default()
            }),
        ),
        ("edsr", edsr(1)),
        ("edsr × 3", edsr(3)),
        ("edsr × 4", edsr(4)),
        ("strides, kernels of 1 and 5, slopes", Architecture::Plain(plain)),
        ("sums of edges that odd pictures have of two sizes", Architecture::Plain(odd_sums(phi))),
    ]
}

/// A shuffle makes one row and column more than the odd picture has, which the sums that follow leave out.
fn odd_sums(phi: PhiConfig) -> PlainConfig {
    let layer = |name: &str, channels, add: &[usize]| {
        let layer = PlainLayer::new(name, 3, channels, Activation::LeakyRelu(0.5));
        PlainLayer { add: add.to_vec(), ..layer }
    };
    let layers = vec![
        layer("a", 8, &[]),
        PlainLayer { stride: 2, ..layer("b", 8, &[]) },
        PlainLayer { shuffle: 2, ..layer("c", 32, &[]) },
        layer("d", 8, &[3, 1]),
        PlainLayer { shuffle: 2, stride: 2, ..layer("e", 32, &[4, 3]) },
        layer("f", 3, &[]),
    ];
    PlainConfig { colour: Colour::Rgb, scale: 1, residual: true, layers, phi }
}

/// How far numbers are from those that they should be, as a share of these.
fn apart(got: &[f32], wanted: &[f32]) -> f64 {
    assert_eq!(got.len(), wanted.len());
    let squares = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
    let pairs = got.iter().zip(wanted);
    let error = squares(&mut pairs.map(|(a, b)| f64::from(*a) - f64::from(*b)));
    let size = squares(&mut wanted.iter().map(|v| f64::from(*v)));
    assert!(size > 0.0 && error.is_finite(), "{size} {error}");
    (error / size).sqrt()
}

/// What an engine, and the net itself, make of a tensor of this size at a tuning between corners.
fn both(
    checkpoint: &Checkpoint,
    storage: Storage,
    gpu: Emulator,
    (width, height): (usize, usize),
) -> [Vec<f32>; 2] {
    let net = net(checkpoint);
    let tuning = checkpoint.metadata.tuning.tuning(&[0.3, 0.8]).unwrap();
    let channels = checkpoint.metadata.architecture.io().channels;
    let mut random = Random(7);
    let x: Vec<f32> = (0..channels * width * height).map(|_| random.next()).collect();
    let mut engine = CudaEngine::new(net.clone(), storage, gpu).unwrap();
    assert!(engine.set_tuning(&tuning).unwrap() && !engine.set_tuning(&tuning).unwrap());
    let (got, size) = engine.tensor(&x, (width, height)).unwrap();
    let x = Tensor::from_vec(x, (1, channels, height, width), &Device::Cpu).unwrap();
    let y = net.fold(&tuning).unwrap().forward(&x).unwrap();
    assert_eq!((size.1, size.0), (y.dim(2).unwrap(), y.dim(3).unwrap()));
    [got, y.flatten_all().unwrap().to_vec1().unwrap()]
}

#[test]
fn kernels_make_what_the_net_makes() {
    for (name, architecture) in chains() {
        let checkpoint = of(architecture);
        for (storage, bound) in [(Storage::F32, 1e-5), (Storage::F16, 1e-2)] {
            // One tile, parts of several, and one pixel.
            for size in [(16, 16), (37, 21), (1, 1)] {
                let [got, wanted] = both(&checkpoint, storage, Emulator::usual(), size);
                let apart = apart(&got, &wanted);
                println!("{name}, {storage:?}, {size:?}: {apart:.1e}");
                assert!(apart < bound, "{name}, {storage:?}, {size:?}: {apart:.1e}");
            }
        }
    }
}

/// The convolutions with a mistake in one of their sources.
fn mistaken(file: &str, right: &str, wrong: &str) -> Kernels {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(format!("{ROOT}/src/engine/cuda/kernels")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    let path = folder.path().join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(right), "{file}: {right}");
    std::fs::write(&path, text.replace(right, wrong)).unwrap();
    compiled(folder.path(), &[Kernel::ConvF16, Kernel::ConvF32])
}

#[test]
fn the_net_that_is_shipped_passes_its_check() {
    for storage in [Storage::F16, Storage::F32] {
        let net = net(&Checkpoint::built_in().unwrap());
        let mut engine = CudaEngine::new(net.clone(), storage, Emulator::usual()).unwrap();
        engine.check().unwrap();
        let nothing = net.metadata().tuning.parameters.iter().map(|parameter| parameter.minimum);
        let nothing = net.metadata().tuning.tuning(&nothing.collect::<Vec<_>>()).unwrap();
        engine.set_tuning(&nothing).unwrap();
        engine.check().unwrap();
    }
}

#[test]
fn an_engine_whose_kernels_are_off_says_so() {
    let kernels = mistaken("conv_f16.cu", "dx = tap % conv.kernel", "dx = tap / conv.kernel");
    for (name, architecture) in chains().into_iter().step_by(3) {
        let net = net(&of(architecture));
        for storage in [Storage::F16, Storage::F32] {
            CudaEngine::new(net.clone(), storage, Emulator::usual()).unwrap().check().unwrap();
            let gpu = Emulator::new(kernels.clone());
            let checked = CudaEngine::new(net.clone(), storage, gpu).unwrap().check();
            assert_eq!(
                checked.is_err(),
                storage == Storage::F16,
                "{name}, {storage:?}: {checked:?}"
            );
            if let Err(error) = checked {
                let told = error.to_string();
                assert!(told.contains("% off what the CPU makes of the same"), "{told}");
            }
        }
    }
}

/// A kernel with a wrong index must be found: each of these is in one that is used.
#[test]
fn wrong_indices_are_found() {
    let mistakes = [
        ("conv_f16.cu", "const __half *right = left + 8 *", "const __half *right = left + 7 *"),
        ("conv_f16.cu", "dx = tap % conv.kernel", "dx = tap / conv.kernel"),
        ("conv_f16.cu", "pair_at(from + 8)", "pair_at(from)"),
        ("conv_f16.cu", "y < conv.in_height", "y <= conv.in_height"),
        ("conv_f32.cu", "side + column) * PIXEL", "side + column) * CHUNK"),
        ("conv_f32.cu", "tap / conv.kernel", "tap % conv.kernel"),
        ("conv.cuh", "phase / by", "phase % by"),
        ("conv.cuh", "conv.slope[channel]", "conv.slope[0]"),
    ];
    for (file, right, wrong) in mistakes {
        let kernels = mistaken(file, right, wrong);
        let found = chains().into_iter().any(|(_, architecture)| {
            let checkpoint = of(architecture);
            [(Storage::F32, 1e-5), (Storage::F16, 1e-2)].into_iter().any(|(storage, bound)| {
                let gpu = Emulator::new(kernels.clone());
                let [got, wanted] = both(&checkpoint, storage, gpu, (21, 18));
                let error = got.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).sum::<f32>();
                !error.is_finite() || apart(&got, &wanted) > bound
            })
        });
        assert!(found, "{file}: {wrong}");
    }
}

/// A frame of 4:2:0 in memory that does not begin or end with its rows.
struct Video {
    format: FrameFormat,
    is_semi_planar: bool,
    v_first: bool,
    planes: Vec<Vec<u8>>,
}

impl Video {
    fn random(format: FrameFormat, is_semi_planar: bool, v_first: bool, seed: u64) -> Self {
        let mut random = Random(seed);
        let strides = Self::strides(&format, is_semi_planar);
        let rows = [format.height, format.half_size().1, format.half_size().1];
        let planes = strides.iter().zip(rows).map(|(stride, rows)| random.bytes(stride * rows));
        Self { format, is_semi_planar, v_first, planes: planes.collect() }
    }

    fn strides(format: &FrameFormat, is_semi_planar: bool) -> Vec<usize> {
        let bytes = format.samples.bytes();
        let half = format.half_size().0 * bytes;
        // Some bytes behind each row are nobody's.
        match is_semi_planar {
            true => vec![format.width * bytes + 6, 2 * half + 2],
            false => vec![format.width * bytes + 6, half + 2, half + 4],
        }
    }

    fn layout<P>(&self, planes: Vec<P>) -> Planes<P> {
        let (v_first, subsampling) = (self.v_first, Subsampling::Yuv420);
        let mut planes = planes.into_iter();
        let mut next = || planes.next().unwrap();
        match self.is_semi_planar {
            true => Planes::SemiPlanar { y: next(), uv: next(), v_first, subsampling },
            false => Planes::Planar { y: next(), u: next(), v: next(), subsampling },
        }
    }

    fn frame(&self) -> Frame<'_> {
        let strides = Self::strides(&self.format, self.is_semi_planar);
        let planes = self.planes.iter().zip(strides);
        let planes = planes.map(|(data, stride_bytes)| Plane { data, stride_bytes }).collect();
        Frame::new(self.format, self.layout(planes)).unwrap()
    }

    fn filtered_by(&self, engine: &mut dyn Engine, to: &Self) -> Vec<Vec<u8>> {
        let mut output = to.planes.clone();
        let strides = Self::strides(&to.format, to.is_semi_planar);
        let planes = output.iter_mut().zip(strides);
        let planes = planes.map(|(data, stride_bytes)| PlaneMut { data, stride_bytes }).collect();
        let mut frame = FrameMut::new(to.format, to.layout(planes)).unwrap();
        engine.process(&self.frame(), &mut frame).unwrap();
        output
    }
}

fn codes(format: &FrameFormat, planes: &[Vec<u8>]) -> Vec<i32> {
    let planes = planes.iter().flatten();
    match format.samples.bytes() {
        1 => planes.map(|byte| i32::from(*byte)).collect(),
        _ => {
            let bytes: Vec<u8> = planes.copied().collect();
            let word = |pair: &[u8]| i32::from(u16::from_le_bytes([pair[0], pair[1]]));
            let word = |pair: &[u8]| match format.samples {
                SampleFormat::U10High => word(pair) >> 6,
                SampleFormat::U12High => word(pair) >> 4,
                _ => word(pair),
            };
            bytes.chunks_exact(2).map(word).collect()
        }
    }
}

#[test]
fn frames_are_filtered_as_the_row_pipeline_does() {
    let checkpoint = random_checkpoint(Mode::Multilinear, 7);
    // A residual of some codes.
    let small = |name: &str, values: &mut Vec<f32>| {
        if name.starts_with("tail") {
            values.iter_mut().for_each(|value| *value *= 0.02);
        }
    };
    let mut checkpoint = checkpoint;
    checkpoint.tensors.iter_mut().for_each(|(name, values)| small(name, values));
    let options = Options { precision: Precision::F32, threads: 1, ..Default::default() };
    let mut cpu = engine::open(&checkpoint, &options).unwrap();
    let tuning = checkpoint.metadata.tuning.tuning(&[0.6, 0.4]).unwrap();
    cpu.set_tuning(&tuning).unwrap();
    let samples = [
        SampleFormat::U8,
        SampleFormat::U10Low,
        SampleFormat::U10High,
        SampleFormat::U12Low,
        SampleFormat::U12High,
    ];
    let (mut changed, mut all) = (0, 0);
    for storage in [Storage::F32, Storage::F16] {
        let mut gpu = CudaEngine::new(net(&checkpoint), storage, Emulator::usual()).unwrap();
        gpu.set_tuning(&tuning).unwrap();
        for (index, samples) in samples.into_iter().enumerate() {
            for (width, height) in [(18, 12), (35, 17), (1, 1)] {
                let range = [Range::Limited, Range::Full][index % 2];
                let format = FrameFormat { width, height, range, samples };
                for (from, to) in [(false, false), (true, true), (true, false)] {
                    let input = Video::random(format, from, false, 1);
                    let output = Video::random(format, to, index == 2, 2);
                    let wanted = input.filtered_by(&mut *cpu, &output);
                    let got = input.filtered_by(&mut gpu, &output);
                    // What is nobody's stays what it was.
                    let largest =
                        if storage == Storage::F32 { 1 } else { 1 << (samples.bits() - 8) };
                    let pairs = codes(&format, &got).into_iter().zip(codes(&format, &wanted));
                    for (got, wanted) in pairs {
                        assert!((got - wanted).abs() <= largest, "{format:?}: {got}, {wanted}");
                        changed += usize::from(got != wanted);
                        all += 1;
                    }
                }
            }
        }
        // Of other layouts tensors are sent.
        let mut picture = Picture::random(21, 13, 3, 5);
        let grey = |picture: &Picture| {
            let y = Plane { data: &picture.planes[0].clone().leak()[..], stride_bytes: 24 };
            Frame::new(picture.format, Planes::Grey { y }).unwrap()
        };
        let input = grey(&picture);
        let mut outputs = vec![];
        for engine in [&mut gpu as &mut dyn Engine, &mut *cpu] {
            let y = PlaneMut { data: &mut picture.planes[0], stride_bytes: 24 };
            let mut frame = FrameMut::new(input.format(), Planes::Grey { y }).unwrap();
            engine.process(&input, &mut frame).unwrap();
            outputs.push(picture.planes[0].clone());
        }
        let apart = outputs[0].iter().zip(&outputs[1]).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(apart <= Some(1), "{apart:?}");
    }
    println!("{changed} of {all} samples by a code");
    assert!(changed < all / 20, "{changed} of {all}");
}

#[test]
fn bands_of_a_frame_make_what_the_whole_does_bit_for_bit() {
    let phi = PhiConfig { mode: Mode::Multilinear, expand: 1 };
    let video = VideoNetConfig { channels: 8, layers: 2, negative_slope: 0.1, phi };
    let two_scale = TwoScaleConfig { channels: 8, inner_channels: 16, phi, ..Default::default() };
    let edsr = EdsrConfig { channels: 8, blocks: 1, scale: 1, phi, ..Default::default() };
    let nets = [
        Architecture::Video(video),
        Architecture::TwoScale(two_scale),
        // Through tensors.
        Architecture::Edsr(edsr),
    ];
    for architecture in nets {
        let mut checkpoint = of(architecture);
        let values = checkpoint.tensors.values_mut().flatten();
        values.for_each(|value| *value *= 0.5);
        for (storage, samples, is_semi_planar) in
            [(Storage::F16, SampleFormat::U8, true), (Storage::F32, SampleFormat::U10Low, false)]
        {
            let format = FrameFormat { width: 19, height: 45, range: Range::Limited, samples };
            let input = Video::random(format, is_semi_planar, false, 1);
            let output = Video::random(format, !is_semi_planar, false, 2);
            let in_bands_of = |rows| {
                let engine = CudaEngine::new(net(&checkpoint), storage, Emulator::usual());
                let mut engine = engine.unwrap().with_tile_size(rows);
                // Of frames one after the other no more is taken.
                let made = input.filtered_by(&mut engine, &output);
                let [taken, pinned] = [engine.gpu().memory.len(), engine.gpu().pinned.len()];
                let launches = engine.gpu().launches;
                assert!(input.filtered_by(&mut engine, &output) == made);
                let gpu = engine.gpu();
                assert_eq!([gpu.memory.len(), gpu.pinned.len()], [taken, pinned]);
                (made, gpu.launches - launches)
            };
            let (whole, once) = in_bands_of(0);
            assert!(whole != output.planes);
            for rows in [4, 13] {
                let (made, launches) = in_bands_of(rows);
                assert!(made == whole, "{storage:?}, bands of {rows}");
                assert!(launches >= 2 * once && launches % once == 0, "{launches} of {once}");
            }
        }
    }
}

/// Of a frame with two fields either is a frame with rows twice as far apart, one of which begins a row later.
#[test]
fn fields_take_no_memory_of_their_own() {
    let checkpoint = random_checkpoint(Mode::Multilinear, 7);
    let mut engine = CudaEngine::new(net(&checkpoint), Storage::F32, Emulator::usual()).unwrap();
    let (range, samples) = (Range::Limited, SampleFormat::U8);
    let format = FrameFormat { width: 18, height: 24, range, samples };
    let whole = Video::random(format, false, false, 1);
    let mut filtered = whole.planes.clone();
    let strides = Video::strides(&format, false);
    let field = FrameFormat { height: 12, ..format };
    let mut taken = vec![];
    for _ in 0..2 {
        for first in [0, 1] {
            let planes = whole.planes.iter().zip(&strides).map(|(data, stride)| Plane {
                data: &data[first * stride..],
                stride_bytes: 2 * stride,
            });
            let input = Frame::new(field, whole.layout(planes.collect())).unwrap();
            let planes = filtered.iter_mut().zip(&strides).map(|(data, stride)| PlaneMut {
                data: &mut data[first * stride..],
                stride_bytes: 2 * stride,
            });
            let mut output = FrameMut::new(field, whole.layout(planes.collect())).unwrap();
            engine.process(&input, &mut output).unwrap();
            let gpu = engine.gpu();
            let mut own: Vec<_> = gpu.memory.keys().copied().collect();
            own.extend(gpu.pinned.keys().map(|at| *at as Address));
            own.sort_unstable();
            taken.push(own);
        }
    }
    assert!(taken.iter().all(|own| *own == taken[0]) && filtered != whole.planes);
}

#[test]
fn pictures_in_rgb_are_filtered_as_the_row_pipeline_does() {
    let phi = PhiConfig { mode: Mode::Multilinear, expand: 1 };
    let config = EdsrConfig { channels: 8, blocks: 1, scale: 2, phi, ..Default::default() };
    let mut checkpoint = of(Architecture::Edsr(config));
    checkpoint.tensors.values_mut().flatten().for_each(|value| *value *= 0.3);
    let options = Options { precision: Precision::F32, threads: 1, ..Default::default() };
    let mut cpu = engine::open(&checkpoint, &options).unwrap();
    let mut gpu = CudaEngine::new(net(&checkpoint), Storage::F32, Emulator::usual()).unwrap();
    let format =
        FrameFormat { width: 19, height: 11, range: Range::Limited, samples: SampleFormat::U8 };
    let large = FrameFormat { width: 38, height: 22, ..format };
    let (input, output) =
        (Video::random(format, false, false, 1), Video::random(large, true, false, 2));
    let wanted = input.filtered_by(&mut *cpu, &output);
    let got = input.filtered_by(&mut gpu, &output);
    let pairs = codes(&large, &got).into_iter().zip(codes(&large, &wanted));
    assert!(pairs.into_iter().all(|(got, wanted)| (got - wanted).abs() <= 1));
}

#[test]
fn activations_are_clamped_where_the_net_was_trained_so() {
    let mut checkpoint = common::calibrated(random_checkpoint(Mode::Multilinear, 7));
    let calibration = checkpoint.metadata.calibration.take().unwrap();
    let size = (20, 9);
    let [_, free] = both(&checkpoint, Storage::F32, Emulator::usual(), size);
    checkpoint.metadata.calibration = Some(Calibration { bounds: true, ..calibration });
    let [got, wanted] = both(&checkpoint, Storage::F32, Emulator::usual(), size);
    let (error, effect) = (apart(&got, &wanted), apart(&free, &wanted));
    assert!(error < 1e-5 && effect > 1e-3, "{error:.1e} {effect:.1e}");
}

#[test]
fn memory_is_given_back_and_frames_of_one_size_take_no_more() {
    let phi = PhiConfig { mode: Mode::Multilinear, expand: 1 };
    let config = EdsrConfig { channels: 8, blocks: 5, scale: 1, phi, ..Default::default() };
    let checkpoint = of(Architecture::Edsr(config));
    let layers = checkpoint.metadata.architecture.chain().unwrap().len();
    let mut engine = CudaEngine::new(net(&checkpoint), Storage::F16, Emulator::usual()).unwrap();
    let x = vec![0.5; 3 * 20 * 10];
    engine.tensor(&x, (20, 10)).unwrap();
    let blocks = |engine: &CudaEngine<Emulator>| -> HashSet<Address> {
        engine.gpu().memory.keys().copied().collect()
    };
    let before = blocks(&engine);
    engine.tensor(&x, (20, 10)).unwrap();
    assert_eq!(blocks(&engine), before);
    assert_eq!(engine.gpu().launches, 2 * layers);
    // All weights, the first and the last edge, what the long skip adds, what a block adds, and two more.
    assert_eq!(before.len(), 1 + 6);
    engine.tensor(&x, (10, 20)).unwrap();
    assert_eq!(blocks(&engine).len(), before.len());
}

#[test]
fn a_new_tuning_sends_the_weights_in_one_piece() {
    let checkpoint = random_checkpoint(Mode::Multilinear, 7);
    let tuning = |values: [f64; 2]| checkpoint.metadata.tuning.tuning(&values).unwrap();
    let mut gpu = CudaEngine::new(net(&checkpoint), Storage::F16, Emulator::usual()).unwrap();
    let format =
        FrameFormat { width: 18, height: 12, range: Range::Limited, samples: SampleFormat::U8 };
    let input = Video::random(format, false, false, 1);
    let mut filtered = |values: [f64; 2]| {
        gpu.set_tuning(&tuning(values)).unwrap();
        let before = (gpu.gpu().sends, gpu.gpu().writes);
        let made = codes(&format, &input.filtered_by(&mut gpu, &input));
        (made, gpu.gpu().sends - before.0, gpu.gpu().writes - before.1)
    };
    let (first, ..) = filtered([0.6, 0.4]);
    // Three planes.
    assert_eq!(filtered([0.6, 0.4]), (first.clone(), 3, 0));
    let (other, sends, writes) = filtered([0.1, 0.4]);
    assert_eq!((sends, writes), (3 + 1, 0));
    assert!(other != first);
    assert_eq!(filtered([0.6, 0.4]), (first, 3 + 1, 0));
}

#[test]
fn what_the_kernels_are_not_for_is_refused() {
    let refused = |architecture| {
        let engine = CudaEngine::new(net(&of(architecture)), Storage::F16, Emulator::usual());
        engine.err().map(|error| error.to_string()).unwrap()
    };
    let told = refused(Architecture::Nafnet(Default::default()));
    assert!(told.contains("no chain of convolutions"), "{told}");
}
