//! Rows of 4:2:0 frames against codes that are looked up and stored one by one.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use stored::{Layout, Stored};

mod direct;
mod layouts;
mod luma;
mod stored;

const SIZES: [(usize, usize); 6] = [(1, 1), (2, 2), (3, 5), (33, 17), (64, 2), (4097, 3)];
const SAMPLES: [SampleFormat; 5] = [
    SampleFormat::U8,
    SampleFormat::U10Low,
    SampleFormat::U10High,
    SampleFormat::U12Low,
    SampleFormat::U12High,
];
const RANGES: [Range; 2] = [Range::Limited, Range::Full];
/// What no sample is stored in.
const SENTINEL: u8 = 0xa5;

const ORDERS: [Layout; 4] = [Layout::I420, Layout::Yv12, Layout::Nv12, Layout::Nv21];

/// Code of black (of normalised chroma 0) and codes from there to 1, for luma and chroma.
fn codes(range: Range, samples: SampleFormat) -> [(f64, f64); 2] {
    let unit = f64::from(1 << (samples.bits() - 8));
    match range {
        Range::Limited => [(16.0 * unit, 219.0 * unit), (16.0 * unit, 224.0 * unit)],
        Range::Full => [(0.0, 256.0 * unit - 1.0), (0.5, 256.0 * unit - 1.0)],
    }
}

struct Noise(u64);

impl Noise {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) % end
    }
}

impl Stored {
    /// What writing these columns of a row is to do.
    fn write_plainly(
        &mut self,
        input: &Self,
        row: usize,
        columns: std::ops::Range<usize>,
        residual: &Residual,
    ) {
        let spans = codes(self.format.range, self.format.samples).map(|(_, span)| span as f32);
        let most = ((1u32 << self.format.samples.bits()) - 1) as f32;
        let parts = residual.parts(row, columns.clone());
        let sum = |code: u16, residual: f32, span: f32| {
            let v = f32::from(code) + residual * span;
            if v.is_nan() { 0 } else { v.clamp(0.0, most).round_ties_even() as u16 }
        };
        for (i, column) in columns.enumerate() {
            for (block_row, block_column) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let at = (2 * column + block_column, 2 * row + block_row);
                if at.0 < self.format.width && at.1 < self.format.height {
                    let residual = parts[block_row][2 * i + block_column];
                    let code = sum(input.code(0, at), residual, spans[0]);
                    self.put_into(input, 0, at, code);
                }
            }
            for which in [1, 2] {
                let code = input.code(which, (column, row));
                let code = sum(code, parts[2][2 * i + which - 1], spans[1]);
                self.put_into(input, which, (column, row), code);
            }
        }
    }
}

/// Rows of the net, as three rows of pairs each.
struct Residual {
    half_width: usize,
    parts: [Vec<f32>; 3],
}

impl Residual {
    fn new(format: &FrameFormat, mut value: impl FnMut() -> f32) -> Self {
        let (half_width, half_height) = (format.width.div_ceil(2), format.height.div_ceil(2));
        let mut part = || (0..2 * half_width * half_height).map(|_| value()).collect();
        Self { half_width, parts: [part(), part(), part()] }
    }

    fn parts(&self, row: usize, columns: std::ops::Range<usize>) -> [&[f32]; 3] {
        let first = 2 * (row * self.half_width + columns.start);
        self.parts.each_ref().map(|part| &part[first..][..2 * columns.len()])
    }
}

fn levels() -> impl Iterator<Item = Level> {
    let has = |level: &Level| level.is_available();
    for level in Level::ALL.iter().filter(|level| !has(level)) {
        println!("not on this CPU: {}", level.name());
    }
    Level::ALL.into_iter().filter(has)
}

fn formats() -> impl Iterator<Item = FrameFormat> {
    SIZES.into_iter().flat_map(|(width, height)| {
        SAMPLES.into_iter().flat_map(move |samples| {
            RANGES.map(|range| FrameFormat { width, height, range, samples })
        })
    })
}

/// Bounds of pieces of a row: the whole, and uneven ones.
fn cuts(half_width: usize) -> [Vec<usize>; 2] {
    let mut cuts = vec![0, half_width / 3, half_width / 2, half_width - 1, half_width];
    cuts.dedup();
    [vec![0, half_width], cuts]
}

/// All rows, read in these pieces, as three rows of pairs each.
fn read<T: Value>(stored: &Stored, level: Level, pieces: &[usize]) -> [Vec<T>; 3] {
    let (half_width, half_height) = stored.format.half_size();
    let frame = stored.frame();
    let mut parts = [(); 3].map(|()| vec![T::default(); 2 * half_width * half_height]);
    for row in 0..half_height {
        for piece in pieces.windows(2) {
            let first = 2 * (row * half_width + piece[0]);
            let len = 2 * (piece[1] - piece[0]);
            let out = parts.each_mut().map(|part| &mut part[first..][..len]);
            frame.read_pairs(level, row, piece[0]..piece[1], out);
        }
    }
    parts
}

/// The codes of all rows, and which of `codes` they are of.
fn read_plainly(stored: &Stored) -> [Vec<u16>; 3] {
    let FrameFormat { width, height, .. } = stored.format;
    let mut parts = [vec![], vec![], vec![]];
    for row in 0..height.div_ceil(2) {
        for column in 0..width.div_ceil(2) {
            for (block_row, part) in parts[..2].iter_mut().enumerate() {
                for x in [2 * column, 2 * column + 1] {
                    let at = (x.min(width - 1), (2 * row + block_row).min(height - 1));
                    part.push(stored.code(0, at));
                }
            }
            parts[2].extend([1, 2].map(|which| stored.code(which, (column, row))));
        }
    }
    parts
}

fn check_read(stored: &Stored) {
    let want = read_plainly(stored);
    let codes = codes(stored.format.range, stored.format.samples);
    let what = (stored.format, stored.layout);
    let scalar = read::<f32>(stored, Level::Scalar, &[0, stored.size(1).0]);
    for level in levels() {
        for pieces in cuts(stored.size(1).0) {
            let (floats, words) =
                (read::<f32>(stored, level, &pieces), read(stored, level, &pieces));
            let bits = |parts: &[Vec<f32>; 3]| {
                parts.each_ref().map(|part| part.iter().map(|v| v.to_bits()).collect::<Vec<_>>())
            };
            assert_eq!(bits(&floats), bits(&scalar), "{what:?} {}", level.name());
            for part in 0..3 {
                let (black, span) = codes[part / 2];
                for (i, &code) in want[part].iter().enumerate() {
                    let (float, word): (f32, i16) = (floats[part][i], words[part][i]);
                    let (code, float) = (f64::from(code), f64::from(float));
                    assert_eq!(f64::from(word), 2.0 * code - 2.0 * black, "{what:?} {part} [{i}]");
                    let want = (code - black) / span;
                    assert!((float - want).abs() <= 1e-6, "{what:?} {part} [{i}]: {float}, {want}");
                }
            }
        }
    }
}

#[test]
fn reads_every_format() {
    for format in formats() {
        for (padding, order) in ORDERS.into_iter().enumerate() {
            check_read(&Stored::noise(format, order, padding, true));
            check_read(&Stored::noise(format, order, 13 - padding, false));
        }
    }
}

/// Residuals of all sizes, many on ties.
fn residuals(format: &FrameFormat, seed: u64) -> Residual {
    let mut noise = Noise(seed);
    let span = codes(format.range, format.samples)[0].1 as f32;
    Residual::new(format, || match noise.below(8) {
        0 => (noise.below(9) as f32 - 4.5) / span,
        1 => 0.0,
        2 => noise.below(5) as f32 - 2.0,
        _ => noise.below(1 << 16) as f32 / 65536.0 - 0.5,
    })
}

#[test]
fn writes_every_format_and_nothing_else() {
    for format in formats() {
        let residual = residuals(&format, 9);
        for (padding, from) in ORDERS.into_iter().enumerate() {
            let input = Stored::noise(format, from, padding, true);
            for (more, to) in ORDERS.into_iter().enumerate() {
                let empty = Stored::new(format, to, 5 * more);
                let (half_width, half_height) = empty.size(1);
                let mut want = empty.clone();
                for row in 0..half_height {
                    want.write_plainly(&input, row, 0..half_width, &residual);
                }
                for level in levels() {
                    for pieces in cuts(half_width) {
                        let mut got = empty.clone();
                        got.write(level, &input, &pieces, &residual, 0.3);
                        let what = format!("{format:?} {from:?} to {to:?}, {}", level.name());
                        assert!(got == want, "{what}, pieces {pieces:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn writes_no_other_columns_or_rows() {
    for format in formats().filter(|format| format.width < 100) {
        let residual = residuals(&format, 4);
        for (from, to) in
            ORDERS.into_iter().zip([Layout::Nv21, Layout::Nv12, Layout::Nv12, Layout::Yv12])
        {
            let input = Stored::noise(format, from, 1, false);
            let empty = Stored::new(format, to, 2);
            let (half_width, half_height) = empty.size(1);
            for (row, first) in
                [(0, 0), (half_height / 2, half_width / 3), (half_height - 1, half_width / 2)]
            {
                let columns = first..half_width.min(first + 1 + half_width / 2);
                let mut want = empty.clone();
                want.write_plainly(&input, row, columns.clone(), &residual);
                for level in levels() {
                    let mut got = empty.clone();
                    let mut frame = got.frame_mut();
                    let parts = residual.parts(row, columns.clone());
                    // SAFETY: a single call.
                    unsafe {
                        let (writer, columns) = (frame.writer(0.3), columns.clone());
                        writer.write_pairs(level, &input.frame(), row, columns, parts);
                    }
                    assert!(got == want, "{format:?} {from:?} to {to:?}, row {row}, {columns:?}");
                }
            }
        }
    }
}

#[test]
fn a_zero_residual_copies() {
    for format in formats() {
        for zero in [0.0, -0.0] {
            let residual = Residual::new(&format, || zero);
            for order in ORDERS {
                let input = Stored::noise(format, order, 3, false);
                let mut output = Stored::new(format, order, 3);
                output.write(Level::current(), &input, &[0, input.size(1).0], &residual, 0.0);
                assert!(output == input, "{format:?} {order:?}");
            }
        }
    }
}

#[test]
fn extreme_residuals_are_clamped() {
    for format in formats().filter(|format| format.width < 100) {
        let most = ((1u32 << format.samples.bits()) - 1) as u16;
        let cases = [
            (1e9, most),
            (-1e9, 0),
            (f32::MAX, most),
            (f32::MIN, 0),
            (f32::INFINITY, most),
            (f32::NEG_INFINITY, 0),
            (f32::NAN, 0),
            (-f32::NAN, 0),
        ];
        for (value, code) in cases {
            let residual = Residual::new(&format, || value);
            for (from, to) in ORDERS.into_iter().flat_map(|from| ORDERS.map(|to| (from, to))) {
                let input = Stored::noise(format, from, 0, true);
                for level in levels() {
                    let mut output = Stored::new(format, to, 1);
                    output.write(level, &input, &[0, input.size(1).0], &residual, 0.0);
                    let codes = read_plainly(&output);
                    assert!(codes.iter().flatten().all(|&got| got == code), "{value} {format:?}");
                }
            }
        }
    }
}

/// Half codes go to the even neighbour, by residuals that are exact.
#[test]
fn ties_go_to_even() {
    // A span of 896 is 7 · 128, so that these are exact.
    let format =
        FrameFormat { width: 16, height: 2, range: Range::Limited, samples: SampleFormat::U10Low };
    let (half, mut input) = (0.5f32 / 7.0 / 128.0, Stored::new(format, Layout::I420, 0));
    for x in 0..8 {
        for which in [1, 2] {
            input.put(which, (x, 0), 500 + x as u16);
        }
    }
    for (residual, want) in [
        (half, [500, 502, 502, 504, 504, 506, 506, 508]),
        (-half, [500, 500, 502, 502, 504, 504, 506, 506]),
    ] {
        assert_eq!((residual * 896.0f32).abs(), 0.5);
        let mut output = input.clone();
        let residual = Residual::new(&format, || residual);
        output.write(Level::current(), &input, &[0, 8], &residual, 0.0);
        for (x, want) in want.into_iter().enumerate() {
            assert_eq!([1, 2].map(|which| output.code(which, (x, 0))), [want; 2]);
        }
    }
}

#[test]
fn tensors_are_the_rows_by_channel() {
    for format in formats() {
        let input = Stored::noise(format, Layout::Nv21, 7, false);
        let (half_width, half_height) = input.size(1);
        let area = half_width * half_height;
        let mut tensor = vec![f32::NAN; CHANNELS * area];
        input.frame().unpack(&mut tensor);
        let rows = read::<f32>(&input, Level::current(), &[0, half_width]);
        for (i, v) in tensor.iter().enumerate() {
            let (channel, i) = (i / area, i % area);
            assert_eq!(*v, rows[channel / 2][2 * i + channel % 2], "{format:?}");
        }
        let residual = residuals(&format, 3);
        for (i, v) in tensor.iter_mut().enumerate() {
            let (channel, i) = (i / area, i % area);
            *v = residual.parts[channel / 2][2 * i + channel % 2];
        }
        let (mut want, mut got) =
            (Stored::new(format, Layout::I420, 1), Stored::new(format, Layout::I420, 1));
        got.frame_mut().pack_sum(&input.frame(), &tensor, 0.0).unwrap();
        (0..half_height).for_each(|row| want.write_plainly(&input, row, 0..half_width, &residual));
        assert!(got == want, "{format:?}");
    }
}

#[test]
fn what_is_outside_is_refused() {
    let format = FrameFormat { width: 5, height: 3, range: Range::Full, samples: SampleFormat::U8 };
    // With room after the last row, where a row too far would go unnoticed.
    let tall = Stored::noise(FrameFormat { height: 9, ..format }, Layout::Nv12, 4, false);
    let mut tall_output = tall.clone();
    let (input, mut output) =
        (Frame { format, ..tall.frame() }, FrameMut { format, ..tall_output.frame_mut() });
    let other =
        Stored::noise(FrameFormat { range: Range::Limited, ..format }, Layout::I420, 0, false);
    let refused = |row,
                   columns: std::ops::Range<usize>,
                   lens: [usize; 3],
                   input: &Frame<'_>,
                   output: &FrameWriter<'_>| {
        let mut parts = lens.map(|len| vec![0f32; len]);
        let read = catch_unwind(AssertUnwindSafe(|| {
            let out = parts.each_mut().map(Vec::as_mut_slice);
            input.read_pairs(Level::current(), row, columns.clone(), out);
        }));
        let write = catch_unwind(AssertUnwindSafe(|| {
            let parts = parts.each_ref().map(Vec::as_slice);
            // SAFETY: a single call.
            unsafe { output.write_pairs(Level::current(), input, row, columns.clone(), parts) }
        }));
        [read.is_err(), write.is_err()]
    };
    let output = output.writer(0.0);
    assert_eq!(refused(1, 0..3, [6; 3], &input, &output), [false; 2]);
    assert_eq!(refused(1, 3..3, [0; 3], &input, &output), [true; 2], "no columns");
    assert_eq!(refused(2, 0..3, [6; 3], &input, &output), [true; 2], "row");
    assert_eq!(refused(0, 0..4, [8; 3], &input, &output), [true; 2], "columns");
    assert_eq!(refused(0, 3..4, [2; 3], &input, &output), [true; 2], "last column");
    for which in 0..3 {
        for len in [5, 7] {
            let mut lens = [6; 3];
            lens[which] = len;
            assert_eq!(refused(0, 0..3, lens, &input, &output), [true; 2], "length");
        }
    }
    assert_eq!(refused(0, 0..3, [6; 3], &other.frame(), &output), [false, true], "format");
}

#[test]
fn frames_of_another_format_are_refused() {
    let format = FrameFormat { width: 4, height: 4, range: Range::Full, samples: SampleFormat::U8 };
    let others = [
        FrameFormat { width: 3, ..format },
        FrameFormat { height: 3, ..format },
        FrameFormat { range: Range::Limited, ..format },
        FrameFormat { samples: SampleFormat::U10Low, ..format },
    ];
    let input = Stored::new(format, Layout::I420, 0);
    for other in others {
        let mut output = Stored::new(other, Layout::I420, 0);
        let error = output.frame_mut().pack_sum(&input.frame(), &[0.0; 24], 0.0).unwrap_err();
        assert!(matches!(error, Error::Frame(_)), "{error}");
    }
}

#[test]
fn planes_are_measured_in_bytes() {
    for samples in SAMPLES {
        let format = FrameFormat { width: 5, height: 3, range: Range::Limited, samples };
        let bytes = samples.bytes();
        let enough = vec![0u8; 1000];
        // Each plane in turn: name, bytes in a row, rows, and how a frame is made with it.
        let whole = Plane { data: &enough, stride_bytes: 100 };
        let planar = |u, v| Planes::Planar { y: whole, u, v, subsampling: Subsampling::Yuv420 };
        let subsampling = Subsampling::Yuv420;
        let pairs = |y, uv| Planes::SemiPlanar { y, uv, v_first: true, subsampling };
        type Make<'m, 'p> = &'m dyn Fn(Plane<'p>) -> Result<Frame<'p>>;
        let planes: [(&str, usize, usize, Make<'_, '_>); 4] = [
            ("plane Y ", 5, 3, &|y| Frame::new(format, pairs(y, whole))),
            ("plane U ", 3, 2, &|u| Frame::new(format, planar(u, whole))),
            ("plane V ", 3, 2, &|v| Frame::new(format, planar(whole, v))),
            ("plane UV ", 6, 2, &|uv| Frame::new(format, pairs(whole, uv))),
        ];
        for (name, width, rows, make) in planes {
            let width = width * bytes;
            for stride_bytes in [width, width + 3] {
                let len = (rows - 1) * stride_bytes + width;
                make(Plane { data: &enough[..len], stride_bytes }).unwrap();
                let error = make(Plane { data: &enough[..len - 1], stride_bytes }).unwrap_err();
                assert!(error.to_string().contains(name), "{error}");
            }
            // Rows that overlap, and so many bytes that they cannot be counted.
            for stride_bytes in [width - 1, usize::MAX] {
                let error = make(Plane { data: &enough, stride_bytes }).unwrap_err();
                assert!(error.to_string().contains(name), "{error}");
            }
        }
    }
}

#[test]
fn formats_and_ranges() {
    let sizes = SAMPLES.map(|samples| (samples.bits(), samples.bytes()));
    assert_eq!(sizes, [(8, 1), (10, 2), (10, 2), (12, 2), (12, 2)]);
    // Black and white of luma; neutral chroma and its span.
    for (range, bits, luma, chroma) in [
        (Range::Limited, 8, (16.0, 235.0), (128.0, 224.0)),
        (Range::Limited, 10, (64.0, 940.0), (512.0, 896.0)),
        (Range::Full, 8, (0.0, 255.0), (128.0, 255.0)),
        (Range::Full, 10, (0.0, 1023.0), (512.0, 1023.0)),
    ] {
        let (black, span) = range.luma(bits);
        assert_eq!((black, black + span), luma);
        let (zero, span) = range.chroma(bits);
        assert_eq!((zero + 0.5 * span, span), chroma);
    }
    assert_eq!(Range::Limited.luma(10), (64.0, 876.0));

    let format = |width, height| FrameFormat {
        width,
        height,
        range: Range::Full,
        samples: SampleFormat::U10High,
    };
    assert_eq!(format(5, 4).half_size(), (3, 2));
    for (width, height) in [(1, 1), (MAX_SIDE, 1), (1, MAX_SIDE)] {
        format(width, height).validate().unwrap();
    }
    for (width, height) in [(0, 1), (1, 0), (MAX_SIDE + 1, 1), (1, MAX_SIDE + 1)] {
        assert!(matches!(format(width, height).validate(), Err(Error::Frame(_))));
    }
}
