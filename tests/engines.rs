//! Engines on frames: sizes, strides, layouts, identity, folding, threads.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use candle_core::{Device, Tensor};
use common::{
    Picture, random_checkpoint, random_checkpoint_of, random_net, small_config, two_knobs,
};
use tunableconv::checkpoint::Architecture;
use tunableconv::engine::{self, DeviceChoice, Engine, Options, Precision};
use tunableconv::frame::{
    Frame, FrameFormat, FrameMut, Plane, PlaneMut, Planes, Range, SampleFormat, Subsampling,
};
use tunableconv::net::Net;
use tunableconv::nn::{
    Activation, Colour, Mode, PhiConfig, PlainConfig, PlainLayer, VideoNetConfig,
};

const SIZES: [(usize, usize); 6] = [(1, 1), (2, 2), (3, 2), (16, 16), (33, 17), (64, 50)];

fn options(threads: usize) -> Options {
    Options { precision: Precision::F32, threads, ..Default::default() }
}

fn engine(mode: Mode, threads: usize) -> Box<dyn Engine> {
    engine::open(&random_checkpoint(mode, 7), &options(threads)).unwrap()
}

fn tune(engine: &mut dyn Engine, values: [f64; 2]) -> bool {
    let tuning = engine.metadata().tuning.tuning(&values).unwrap();
    engine.set_tuning(&tuning).unwrap()
}

fn filtered(engine: &mut dyn Engine, input: &Picture, padding: usize) -> Picture {
    let FrameFormat { width, height, .. } = input.format;
    let mut output = Picture::random(width, height, padding, 99);
    output.format = input.format;
    engine.process(&input.frame(), &mut output.frame_mut()).unwrap();
    output
}

/// The definition, written out: normalise, unshuffle, net, shuffle, add, round.
fn reference(net: &Net, input: &Picture, omega: [f32; 2]) -> [Vec<u8>; 3] {
    let FrameFormat { width, height, range, .. } = input.format;
    let (w2, h2) = input.format.half_size();
    let [y, u, v] = input.samples();
    let ((black, span), (zero, chroma_span)) = match range {
        Range::Limited => ((16.0, 219.0), (128.0 - 112.0, 224.0)),
        Range::Full => ((0.0, 255.0), (128.0 - 127.5, 255.0)),
    };
    let mut x = vec![0f32; 6 * w2 * h2];
    for (i, x) in x.iter_mut().enumerate() {
        let (channel, row, column) = (i / (w2 * h2), i / w2 % h2, i % w2);
        *x = match channel {
            0..4 => {
                let (r, c) = (2 * row + channel / 2, 2 * column + channel % 2);
                let code = y[r.min(height - 1) * width + c.min(width - 1)];
                (f32::from(code) - black) / span
            }
            4 => (f32::from(u[row * w2 + column]) - zero) / chroma_span,
            _ => (f32::from(v[row * w2 + column]) - zero) / chroma_span,
        };
    }
    let x = Tensor::from_vec(x, (1, 6, h2, w2), &Device::Cpu).unwrap();
    let omega = Tensor::new(&[omega], &Device::Cpu).unwrap();
    let out = net.forward(&x, &omega).unwrap();
    let out: Vec<f32> = out.flatten_all().unwrap().to_vec1().unwrap();
    let code = |value: f32, (offset, span): (f32, f32)| (value * span + offset).round() as u8;
    let luma = (0..width * height).map(|i| {
        let (r, c) = (i / width, i % width);
        let channel = 2 * (r % 2) + c % 2;
        code(out[(channel * h2 + r / 2) * w2 + c / 2], (black, span))
    });
    let chroma = |channel: usize| {
        let plane = &out[channel * w2 * h2..][..w2 * h2];
        plane.iter().map(|v| code(*v, (zero, chroma_span))).collect()
    };
    [luma.collect(), chroma(4), chroma(5)]
}

#[test]
fn frames_go_through_the_net_at_every_size_stride_and_range() {
    let checkpoint = random_checkpoint(Mode::Mlp, 7);
    let net = Net::new(&checkpoint, &Device::Cpu).unwrap();
    let mut engine = engine(Mode::Mlp, 0);
    assert!(tune(engine.as_mut(), [0.75, 0.25]));
    for (width, height) in SIZES {
        for range in [Range::Limited, Range::Full] {
            let mut input = Picture::random(width, height, 5, 3);
            input.format.range = range;
            let expected = reference(&net, &input, [0.75, 0.25]);
            let got = filtered(engine.as_mut(), &input, 9).samples();
            for (plane, (got, expected)) in got.iter().zip(&expected).enumerate() {
                // Rounding the sum in code values may differ from rounding the normalised sum by
                // one where a value falls on a half; nothing else may.
                let worst = got.iter().zip(expected).map(|(a, b)| a.abs_diff(*b)).max();
                assert!(worst <= Some(1), "{width}×{height} {range:?} plane {plane}: {worst:?}");
                let unequal = got.iter().zip(expected).filter(|(a, b)| a != b).count();
                assert!(unequal * 100 <= got.len(), "{width}×{height} plane {plane}: {unequal}");
            }
        }
    }
}

#[test]
fn padding_between_rows_is_not_touched() {
    let mut engine = engine(Mode::Mlp, 0);
    tune(engine.as_mut(), [1.0, 1.0]);
    let input = Picture::random(33, 17, 0, 3);
    let before = Picture::random(33, 17, 6, 99);
    let after = filtered(engine.as_mut(), &input, 6);
    let (luma, chroma) = after.strides();
    for (plane, (stride, width)) in [(luma, 33), (chroma, 17), (chroma, 17)].iter().enumerate() {
        let rows = after.planes[plane].chunks(*stride).zip(before.planes[plane].chunks(*stride));
        for (after, before) in rows {
            assert_eq!(after[*width..], before[*width..]);
        }
    }
}

#[test]
fn zero_tuning_is_the_identity_bit_for_bit() {
    for mode in [Mode::Mlp, Mode::Multilinear, Mode::Linear] {
        let mut engine = engine(mode, 0);
        tune(engine.as_mut(), [0.0, 0.0]);
        assert!(engine.is_identity());
        for (width, height) in SIZES {
            let input = Picture::random(width, height, 0, 5);
            assert_eq!(filtered(engine.as_mut(), &input, 3).samples(), input.samples());
        }
        tune(engine.as_mut(), [0.25, 0.0]);
        assert!(!engine.is_identity());
        let input = Picture::random(33, 17, 0, 5);
        assert_ne!(filtered(engine.as_mut(), &input, 3).samples(), input.samples());
    }
}

#[test]
fn folds_only_when_the_tuning_changes() {
    let mut engine = engine(Mode::Mlp, 0);
    assert!(tune(engine.as_mut(), [0.5, 0.5]));
    assert!(!tune(engine.as_mut(), [0.5, 0.5]));
    assert!(tune(engine.as_mut(), [0.5, 0.25]));
}

#[test]
fn thread_count_never_changes_a_bit() {
    let input = Picture::random(131, 77, 0, 11);
    let outputs: Vec<_> = [1, 2, 5]
        .map(|threads| {
            let mut engine = engine(Mode::Mlp, threads);
            tune(engine.as_mut(), [0.5, 1.0]);
            filtered(engine.as_mut(), &input, 0)
        })
        .into();
    assert!(outputs.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn interleaved_chroma_gives_the_same_samples_as_planar() {
    let mut engine = engine(Mode::Mlp, 0);
    tune(engine.as_mut(), [1.0, 0.5]);
    let input = Picture::random(33, 17, 0, 21);
    let [y, u, v] = filtered(engine.as_mut(), &input, 0).samples();
    let subsampling = Subsampling::Yuv420;
    for v_first in [false, true] {
        let interleave = |planes: &[Vec<u8>; 3]| {
            let (first, second) = if v_first { (2, 1) } else { (1, 2) };
            let pairs = planes[first].iter().zip(&planes[second]);
            pairs.flat_map(|(a, b)| [*a, *b]).collect::<Vec<u8>>()
        };
        let uv = interleave(&input.planes);
        let plane = |data, stride_bytes| Plane { data, stride_bytes };
        let y_plane = plane(&input.planes[0], 33);
        let planes = Planes::SemiPlanar { y: y_plane, uv: plane(&uv, 34), v_first, subsampling };
        let frame = Frame::new(input.format, planes).unwrap();
        let (mut out_y, mut out_uv) = (vec![0; 33 * 17], vec![0; 34 * 9]);
        let luma = PlaneMut { data: &mut out_y, stride_bytes: 33 };
        let uv = PlaneMut { data: &mut out_uv, stride_bytes: 34 };
        let planes = Planes::SemiPlanar { y: luma, uv, v_first, subsampling };
        let mut output = FrameMut::new(input.format, planes).unwrap();
        engine.process(&frame, &mut output).unwrap();
        assert_eq!(out_y, y);
        assert_eq!(out_uv, interleave(&[vec![], u.clone(), v.clone()]));
    }
}

#[test]
fn planes_that_do_not_fit_are_refused_by_name() {
    let format =
        FrameFormat { width: 16, height: 16, range: Range::Full, samples: SampleFormat::U8 };
    let (y, u) = (vec![0; 256], vec![0; 63]);
    let plane = |data, stride_bytes| Plane { data, stride_bytes };
    let planes = |y| {
        let (u, v) = (plane(&u, 8), plane(&u, 8));
        Planes::Planar { y, u, v, subsampling: Subsampling::Yuv420 }
    };
    let error = Frame::new(format, planes(plane(&y, 16))).unwrap_err().to_string();
    assert!(error.contains("plane U has 63 bytes"), "{error}");
    let error = Frame::new(format, planes(plane(&y, 15))).unwrap_err().to_string();
    assert!(error.contains("plane Y"), "{error}");
    let format = FrameFormat { width: 8193, ..format };
    let error = Frame::new(format, planes(plane(&y, 16))).unwrap_err().to_string();
    assert!(error.contains("8193×16"), "{error}");
}

#[test]
fn one_tuning_per_sample_per_micro_batch_and_per_batch_agree() {
    let net = Net::new(&random_checkpoint(Mode::Mlp, 7), &Device::Cpu).unwrap();
    let x = Tensor::rand(0f32, 1., (4, 6, 9, 13), &Device::Cpu).unwrap();
    let (a, b) = ([0.25f32, 1.0], [1.0f32, 0.5]);
    let omega = |rows: &[[f32; 2]]| {
        Tensor::from_iter(rows.iter().flatten().copied(), &Device::Cpu)
            .and_then(|t| t.reshape((rows.len(), 2)))
            .unwrap()
    };
    let run = |x: &Tensor, rows: &[[f32; 2]]| {
        let y = net.forward(x, &omega(rows)).unwrap();
        y.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    let per_sample = run(&x, &[a, a, b, b]);
    assert_eq!(per_sample, run(&x, &[a, b]));
    let halves = [(0, a), (2, b)].map(|(n, w)| run(&x.narrow(0, n, 2).unwrap(), &[w]));
    assert_eq!(per_sample, halves.concat());
}

#[test]
fn engines_of_one_model_run_side_by_side_as_alone() {
    let model = engine::Model::new(random_checkpoint(Mode::Mlp, 7));
    let input = Picture::random(33, 17, 0, 5);
    std::thread::scope(|scope| {
        for values in [[0.0, 1.0], [1.0, 0.0], [0.5, 0.25], [0.25, 0.75]] {
            let (model, input) = (&model, &input);
            scope.spawn(move || {
                let mut alone = engine(Mode::Mlp, 1);
                tune(&mut *alone, values);
                let expected = filtered(&mut *alone, input, 0);
                for _ in 0..20 {
                    let mut engine = model.open(&options(0)).unwrap();
                    tune(&mut *engine, values);
                    assert_eq!(filtered(&mut *engine, input, 0), expected, "{values:?}");
                }
            });
        }
    });
}

#[test]
fn a_cuda_device_that_cannot_be_used_is_one_clear_error() {
    // No machine has so many.
    let choice: DeviceChoice = "cuda:1000000".parse().unwrap();
    let checkpoint = random_checkpoint(Mode::Mlp, 7);
    let opened = engine::open(&checkpoint, &Options { device: choice, ..options(0) });
    let error = opened.err().unwrap().to_string();
    assert!(error.starts_with("device cuda:1000000: "), "{error}");
    assert!(choice.for_candle().is_err());
    if DeviceChoice::Cuda(0).for_candle().is_err() {
        let auto = engine::open(&checkpoint, &options(0)).unwrap();
        assert!(auto.description().contains("no CUDA: "), "{}", auto.description());
    }
    assert!("gpu".parse::<DeviceChoice>().is_err());
}

/// What the row pipeline does not run is run by candle, and is no error.
#[test]
fn a_step_wider_than_its_kernel_is_left_to_candle() {
    let layers = vec![
        PlainLayer { stride: 2, ..PlainLayer::new("down", 1, 8, Activation::None) },
        PlainLayer { shuffle: 2, ..PlainLayer::new("up", 3, 4, Activation::None) },
    ];
    let phi = PhiConfig { mode: Mode::Linear, expand: 1 };
    let net = PlainConfig { colour: Colour::Luma, scale: 1, residual: true, layers, phi };
    let checkpoint = random_net(Architecture::Plain(net), two_knobs(), 3);
    let engine = engine::open(&checkpoint, &options(1)).unwrap();
    let reason = "cannot run the net: layer `down`: stride 2, expected 1 to 1";
    assert!(engine.description().contains(reason), "{}", engine.description());
}

#[test]
fn the_size_of_tiles_is_not_seen() {
    // A width that the row pipeline has no kernels for.
    let config = VideoNetConfig { channels: 5, ..small_config(Mode::Linear) };
    let checkpoint = random_checkpoint_of(config, two_knobs(), 3);
    let input = Picture::random(70, 44, 0, 5);
    let with = |tile_size: usize| {
        let mut engine = engine::open(&checkpoint, &Options { tile_size, ..options(1) }).unwrap();
        assert!(engine.description().starts_with("candle"), "{}", engine.description());
        tune(engine.as_mut(), [0.7, 0.4]);
        filtered(engine.as_mut(), &input, 0).planes
    };
    let whole = with(0);
    assert!(whole != input.planes);
    for tile_size in [1, 9, 32] {
        assert!(with(tile_size) == whole, "{tile_size}");
    }
}
