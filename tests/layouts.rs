//! Engines on frames of every layout: YUV of any subsampling, grey, RGB.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{Random, calibrated, random_checkpoint};
use tunableconv::checkpoint::Checkpoint;
use tunableconv::engine::{CandleEngine, CpuEngine, Engine, Options, Precision};
use tunableconv::frame::{
    Frame, FrameFormat, FrameMut, Matrix, Plane, PlaneMut, Planes, Range, RgbPixel, SampleFormat,
    Subsampling, YuvPixel,
};
use tunableconv::net::Net;
use tunableconv::nn::Mode;

const SIZES: [(usize, usize); 5] = [(1, 1), (3, 2), (33, 17), (70, 6), (131, 77)];

const SAMPLES: [SampleFormat; 6] = [
    SampleFormat::U8,
    SampleFormat::U10Low,
    SampleFormat::U10High,
    SampleFormat::U12Low,
    SampleFormat::U12High,
    SampleFormat::U16,
];

/// Layouts of plane indices.
fn layouts() -> Vec<Planes<usize>> {
    let yuv = |subsampling| Planes::Planar { y: 0, u: 1, v: 2, subsampling };
    let pairs = |subsampling| Planes::SemiPlanar { y: 0, uv: 1, v_first: true, subsampling };
    let packed_yuv = |bytes, [y, u, v]: [usize; 3], is_pair| {
        let pixel = YuvPixel { bytes, y, u, v, is_pair };
        Planes::PackedYuv { pixels: 0, pixel }
    };
    let packed = |pixel, matrix| Planes::PackedRgb { pixels: 0, pixel, matrix };
    vec![
        yuv(Subsampling::Yuv420),
        pairs(Subsampling::Yuv420),
        pairs(Subsampling::Yuv422),
        pairs(Subsampling::Yuv444),
        packed_yuv(4, [0, 1, 3], true),
        packed_yuv(4, [1, 2, 3], false),
        packed_yuv(8, [0, 2, 6], true),
        packed_yuv(8, [2, 4, 6], false),
        yuv(Subsampling::Yuv422),
        yuv(Subsampling::Yuv444),
        Planes::Grey { y: 0 },
        packed(RgbPixel { bytes: 3, r: 0, g: 1, b: 2 }, Matrix::Bt601),
        packed(RgbPixel { bytes: 4, r: 2, g: 1, b: 0 }, Matrix::Bt709),
        packed(RgbPixel { bytes: 4, r: 1, g: 2, b: 3 }, Matrix::Bt2020),
        packed(RgbPixel { bytes: 8, r: 2, g: 4, b: 6 }, Matrix::Bt709),
        Planes::PlanarRgb { r: 2, g: 0, b: 1, matrix: Matrix::Smpte240m },
    ]
}

/// Sample formats that a layout can have.
fn samples(layout: &Planes<usize>) -> &'static [SampleFormat] {
    let bytes = match layout {
        Planes::PackedYuv { pixel, .. } => pixel.bytes,
        Planes::PackedRgb { pixel, .. } => pixel.bytes,
        _ => return &SAMPLES,
    };
    if bytes == 8 { &SAMPLES[1..] } else { &SAMPLES[..1] }
}

/// A picture in any layout; each plane with its bytes in a row, without the padding, and its
/// stride.
#[derive(Clone, Debug, PartialEq)]
struct Picture {
    format: FrameFormat,
    layout: Planes<usize>,
    planes: Vec<(Vec<u8>, usize, usize)>,
}

impl Picture {
    /// With 8-bit values, or the upper 8 of 10 bits, from plane, byte or word of the row, and row.
    fn new(
        format: FrameFormat,
        layout: Planes<usize>,
        padding: usize,
        mut value: impl FnMut(usize, usize, usize) -> u8,
    ) -> Self {
        let FrameFormat { width, height, .. } = format;
        let (half_width, half_height) = format.half_size();
        let chroma = |subsampling| match subsampling {
            Subsampling::Yuv420 => (half_width, half_height),
            Subsampling::Yuv422 => (half_width, height),
            Subsampling::Yuv444 => (width, height),
        };
        let bytes = format.samples.bytes();
        let sizes = match layout {
            Planes::Planar { subsampling, .. } => {
                vec![(width, height), chroma(subsampling), chroma(subsampling)]
            }
            Planes::SemiPlanar { subsampling, .. } => {
                let (width_of_pairs, height_of_pairs) = chroma(subsampling);
                vec![(width, height), (2 * width_of_pairs, height_of_pairs)]
            }
            Planes::PackedYuv { pixel, .. } => {
                let count = if pixel.is_pair { half_width } else { width };
                vec![(count * pixel.bytes / bytes, height)]
            }
            Planes::Grey { .. } => vec![(width, height)],
            Planes::PackedRgb { pixel, .. } => vec![(width * pixel.bytes / bytes, height)],
            Planes::PlanarRgb { .. } => vec![(width, height); 3],
        };
        let plane = |(index, (width, height)): (usize, (usize, usize))| {
            let stride = width * bytes + padding;
            let mut data = vec![0; stride * height];
            for (y, row) in data.chunks_mut(stride).enumerate() {
                for (x, sample) in row[..width * bytes].chunks_mut(bytes).enumerate() {
                    let code = u16::from(value(index, x, y));
                    match format.samples {
                        SampleFormat::U8 => sample[0] = code as u8,
                        SampleFormat::U10Low => sample.copy_from_slice(&(code << 2).to_le_bytes()),
                        SampleFormat::U12Low => sample.copy_from_slice(&(code << 4).to_le_bytes()),
                        _ => sample.copy_from_slice(&(code << 8).to_le_bytes()),
                    }
                }
            }
            (data, width * bytes, stride)
        };
        Self { format, layout, planes: sizes.into_iter().enumerate().map(plane).collect() }
    }

    fn random(format: FrameFormat, layout: Planes<usize>, padding: usize) -> Self {
        let mut random = Random(format.width as u64);
        Self::new(format, layout, padding, |_, _, _| (127.9 + 127.9 * random.next()) as u8)
    }

    fn frame(&self) -> Frame<'_> {
        let plane = |index: usize| {
            let (data, _, stride_bytes) = &self.planes[index];
            Plane { data, stride_bytes: *stride_bytes }
        };
        Frame::new(self.format, self.layout.map(plane)).unwrap()
    }

    fn frame_mut(&mut self) -> FrameMut<'_> {
        let mut planes: Vec<_> = self.planes.iter_mut().map(Some).collect();
        let plane = |index: usize| {
            let (data, _, stride_bytes) = planes[index].take().unwrap();
            PlaneMut { data, stride_bytes: *stride_bytes }
        };
        FrameMut::new(self.format, self.layout.map(plane)).unwrap()
    }

    /// What the engine makes of it, over zeros.
    fn filtered(&self, engine: &mut dyn Engine) -> Self {
        let mut output = Self::new(self.format, self.layout, 9, |_, _, _| 0);
        engine.process(&self.frame(), &mut output.frame_mut()).unwrap();
        output
    }

    /// Codes of all planes, fourth bytes of pixels among them.
    fn codes(&self) -> Vec<u16> {
        let rows = self.planes.iter().flat_map(|(data, width, stride)| {
            data.chunks(*stride).map(|row| row[..*width].to_vec())
        });
        let bytes: Vec<u8> = rows.flatten().collect();
        let word = |pair: &[u8]| u16::from_le_bytes([pair[0], pair[1]]);
        match self.format.samples {
            SampleFormat::U8 => bytes.into_iter().map(u16::from).collect(),
            SampleFormat::U10Low | SampleFormat::U12Low => bytes.chunks(2).map(word).collect(),
            samples => bytes.chunks(2).map(|pair| word(pair) >> (16 - samples.bits())).collect(),
        }
    }
}

fn engine(checkpoint: &Checkpoint, precision: Precision, threads: usize) -> CpuEngine {
    let mut engine =
        CpuEngine::new(checkpoint, &Options { precision, threads, ..Default::default() }).unwrap();
    tune(&mut engine);
    engine
}

fn tune(engine: &mut dyn Engine) {
    let space = &engine.metadata().tuning;
    let mut values = vec![0.75, 0.5];
    values.resize(space.len(), 0.0);
    let tuning = space.tuning(&values).unwrap();
    engine.set_tuning(&tuning).unwrap();
}

/// Every size, layout and sample format it can have, with a range and a padding.
fn pictures() -> impl Iterator<Item = Picture> {
    SIZES.into_iter().flat_map(|(width, height)| {
        layouts().into_iter().enumerate().flat_map(move |(index, layout)| {
            let range = if (index + width) % 2 == 0 { Range::Limited } else { Range::Full };
            samples(&layout).iter().map(move |&samples| {
                let format = FrameFormat { width, height, range, samples };
                Picture::random(format, layout, index)
            })
        })
    })
}

#[test]
fn frames_of_every_layout_are_candles() {
    let checkpoint = random_checkpoint(Mode::Mlp, 7);
    let net = Net::new(&checkpoint, &candle_core::Device::Cpu).unwrap();
    let mut candle = CandleEngine::new(net.into(), 0, "").unwrap();
    tune(&mut candle);
    let mut engine = engine(&checkpoint, Precision::F32, 2);
    for input in pictures() {
        let (got, want) = (input.filtered(&mut engine), input.filtered(&mut candle));
        let (got, want) = (got.codes(), want.codes());
        let context = format!("{:?} {:?}", input.format, input.layout);
        let worst = got.iter().zip(&want).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(worst <= Some(1), "{context}: {worst:?}");
        // Where the sum falls on a half, an error in the last place decides; about 1e-6 of the
        // range, that is a step of one code of 16 bits in ten or more.
        let unequal = got.iter().zip(&want).filter(|(a, b)| a != b).count();
        let share = if input.format.samples == SampleFormat::U16 { 10 } else { 200 };
        assert!(unequal <= 2 + got.len() / share, "{context}: {unequal} of {}", got.len());
        assert!(got != input.codes() || got.len() < 10, "{context}: the net should do something");
    }
}

#[test]
fn thread_count_never_changes_a_bit_of_any_layout() {
    let checkpoint = calibrated(random_checkpoint(Mode::Mlp, 7));
    for precision in [Precision::F32, Precision::Int8] {
        let mut engines = [1, 2, 5].map(|threads| engine(&checkpoint, precision, threads));
        for input in pictures() {
            let outputs = engines.each_mut().map(|engine| input.filtered(engine));
            let same = outputs.windows(2).all(|pair| pair[0] == pair[1]);
            assert!(same, "{precision} {:?} {:?}", input.format, input.layout);
        }
    }
}

/// An engine that goes from one layout to another is one that has only seen the second.
#[test]
fn layouts_take_turns() {
    let checkpoint = calibrated(random_checkpoint(Mode::Mlp, 7));
    let mut engine_of_all = engine(&checkpoint, Precision::Int8, 2);
    for input in pictures().filter(|input| input.format.width == 33) {
        let fresh = input.filtered(&mut engine(&checkpoint, Precision::Int8, 2));
        let context = format!("{:?} {:?}", input.format, input.layout);
        assert!(input.filtered(&mut engine_of_all) == fresh, "{context}");
    }
}

#[test]
fn int8_is_near_f32_in_every_layout() {
    let checkpoint = Checkpoint::built_in().unwrap();
    let [mut f32, mut int8] =
        [Precision::F32, Precision::Int8].map(|precision| engine(&checkpoint, precision, 2));
    // On pictures as smooth as these it is not made for more.
    let gentle = checkpoint.metadata.tuning.tuning(&[0.2, 0.1, 0.1]).unwrap();
    f32.set_tuning(&gentle).unwrap();
    int8.set_tuning(&gentle).unwrap();
    for layout in layouts().into_iter().filter(|layout| samples(layout).contains(&SampleFormat::U8))
    {
        let (range, samples) = (Range::Full, SampleFormat::U8);
        let format = FrameFormat { width: 131, height: 77, range, samples };
        let bytes = match layout {
            Planes::PackedRgb { pixel, .. } => pixel.bytes,
            Planes::PackedYuv { pixel, .. } => pixel.bytes,
            _ => 1,
        };
        let picture = Picture::new(format, layout, 0, |plane, x, y| {
            let (component, x) = (plane + x % bytes, (x / bytes) as f32);
            let wave = (0.11 * x + component as f32).sin() + (0.07 * y as f32).cos();
            (120.0 + 50.0 * wave) as u8
        });
        let [exact, near] = [&mut f32, &mut int8].map(|engine| picture.filtered(engine).codes());
        let apart: Vec<u16> = exact.iter().zip(&near).map(|(a, b)| a.abs_diff(*b)).collect();
        let mean = apart.iter().map(|&d| f64::from(d)).sum::<f64>() / apart.len() as f64;
        let worst = apart.iter().max();
        println!("{layout:?}: mean {mean:.3}, at most {worst:?}");
        assert!(mean <= 0.5 && worst <= Some(&8), "{layout:?}: mean {mean}, at most {worst:?}");
        assert!(exact != picture.codes(), "the net should do something");
    }
}

#[test]
fn an_output_of_another_layout_is_refused() {
    let checkpoint = random_checkpoint(Mode::Mlp, 7);
    let mut engine = engine(&checkpoint, Precision::F32, 1);
    let (range, samples) = (Range::Full, SampleFormat::U8);
    let format = FrameFormat { width: 5, height: 3, range, samples };
    let [rgb, yuv] = [layouts()[12], layouts()[9]].map(|l| Picture::random(format, l, 0));
    let mut output = yuv.clone();
    let error = engine.process(&rgb.frame(), &mut output.frame_mut()).unwrap_err().to_string();
    assert_eq!(
        error,
        "frame: output is 4:4:4, expected the input's RGB in pixels of 4 bytes with R, G, B at \
         2, 1, 0 (Bt709)"
    );
    assert!(output == yuv);
}
