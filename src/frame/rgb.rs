//! Rows of RGB frames: converted block by block, on the stack.

use std::array::from_fn;
use std::ops::Range;

use super::rows::{PlaneWriter, Read, Write, samples_of};
use super::samples::{U8, Value, nearest};
use super::{Frame, Matrix, Plane, Planes, RgbPixel};
use crate::engine::cpu::kernels::Job;

/// Columns of a block.
const COLUMNS: usize = 32;

/// Pixels of a line of a block.
const PIXELS: usize = 2 * COLUMNS;

/// A line of codes of R, G and B, or of residuals in codes; those beyond the frame mean nothing.
type Colours = [[f32; PIXELS]; 3];

/// Factors of a conversion.
struct Factors {
    /// Weights of R, G and B in luma.
    weights: [f32; 3],
    /// From normalised U to B − Y and from V to R − Y.
    blue: f32,
    red: f32,
}

impl Factors {
    #[inline(always)]
    fn of<P>(planes: &Planes<P>) -> Self {
        let matrix = match planes {
            Planes::PackedRgb { matrix, .. } | Planes::PlanarRgb { matrix, .. } => *matrix,
            _ => unreachable!("these jobs are run for RGB only"),
        };
        Self::new(matrix)
    }

    #[inline(always)]
    fn new(matrix: Matrix) -> Self {
        let (kr, kb) = matrix.weights();
        let weights = [kr, 1.0 - kr - kb, kb];
        Self { weights, blue: 2.0 * (1.0 - kb), red: 2.0 * (1.0 - kr) }
    }
}

/// These columns in blocks: first column from the start of these, columns, and pixels of the frame.
#[inline(always)]
fn blocks(
    columns: &Range<usize>,
    width: usize,
) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
    let Range { start, end } = *columns;
    (start..end).step_by(COLUMNS).map(move |first| {
        let last = (first + COLUMNS).min(end);
        (2 * (first - start)..2 * (last - start), 2 * first..(2 * last).min(width))
    })
}

pub(super) struct ReadRgb<'a, 'o, T>(pub(super) Read<'a, 'o, T>);

impl<T: Value> Job for ReadRgb<'_, '_, T> {
    #[inline(always)]
    fn run(self) {
        let Read { frame, row, columns, out: [top, bottom, chroma] } = self.0;
        let format = frame.format;
        let (black, span) = format.range.luma(format.samples.bits());
        let scale = 1.0 / span;
        let Factors { weights: [kr, kg, kb], blue, red } = Factors::of(&frame.planes);
        // Of sums of four.
        let (u_scale, v_scale) = (0.25 * scale / blue, 0.25 * scale / red);
        for (values, pixels) in blocks(&columns, format.width) {
            let (mut u, mut v) = ([0f32; PIXELS], [0f32; PIXELS]);
            for (out, line) in [(&mut *top, 2 * row), (&mut *bottom, 2 * row + 1)] {
                let [r, g, b] = read_colours(frame, line.min(format.height - 1), pixels.clone());
                let y: [f32; PIXELS] = from_fn(|i| kr * r[i] + kg * g[i] + kb * b[i]);
                for i in 0..PIXELS {
                    u[i] += b[i] - y[i];
                    v[i] += r[i] - y[i];
                }
                for (out, y) in out[values.clone()].iter_mut().zip(&y) {
                    *out = T::from_tensor((y - black) * scale);
                }
            }
            let outs = chroma[values].as_chunks_mut::<2>().0.iter_mut();
            let sums = u.as_chunks::<2>().0.iter().zip(v.as_chunks::<2>().0);
            for (out, (u, v)) in outs.zip(sums) {
                let (u, v) = ((u[0] + u[1]) * u_scale + 0.5, (v[0] + v[1]) * v_scale + 0.5);
                *out = [T::from_tensor(u), T::from_tensor(v)];
            }
        }
    }
}

/// Codes of these pixels of a line; an odd number of them has the last one twice.
#[inline(always)]
fn read_colours(frame: &Frame<'_>, line: usize, pixels: Range<usize>) -> Colours {
    let len = pixels.len();
    match &frame.planes {
        Planes::PackedRgb { pixels: plane, pixel, .. } => {
            let mut words = read_words(plane, pixel.bytes, line, pixels);
            if len % 2 == 1 {
                words[len] = words[len - 1];
            }
            colours_of(&words, pixel)
        }
        Planes::PlanarRgb { r, g, b, .. } => [r, g, b].map(|plane| {
            let mut codes = read_codes(plane, line, pixels.clone());
            if len % 2 == 1 {
                codes[len] = codes[len - 1];
            }
            codes
        }),
        _ => unreachable!("these jobs are run for RGB only"),
    }
}

/// Pixels as words, their first byte lowest.
#[inline(always)]
fn read_words(plane: &Plane<'_>, bytes: usize, line: usize, pixels: Range<usize>) -> [u32; PIXELS] {
    let first = line * plane.stride_bytes + pixels.start * bytes;
    let line = &plane.data[first..][..pixels.len() * bytes];
    let mut words = [0; PIXELS];
    if bytes == 4 {
        for (word, pixel) in words.iter_mut().zip(line.as_chunks::<4>().0) {
            *word = u32::from_le_bytes(*pixel);
        }
    } else {
        for (word, &[a, b, c]) in words.iter_mut().zip(line.as_chunks::<3>().0) {
            *word = u32::from_le_bytes([a, b, c, 0]);
        }
    }
    words
}

#[inline(always)]
fn colours_of(words: &[u32; PIXELS], pixel: &RgbPixel) -> Colours {
    shifts(pixel).map(|shift| from_fn(|i| ((words[i] >> shift) & 255) as i32 as f32))
}

/// Bits below R, G and B in a word.
#[inline(always)]
fn shifts(pixel: &RgbPixel) -> [usize; 3] {
    [8 * pixel.r, 8 * pixel.g, 8 * pixel.b]
}

#[inline(always)]
fn read_codes(plane: &Plane<'_>, line: usize, pixels: Range<usize>) -> [f32; PIXELS] {
    let mut codes = [0.0; PIXELS];
    for (code, sample) in codes.iter_mut().zip(samples_of::<U8>(plane, line, pixels)) {
        *code = f32::from(*sample);
    }
    codes
}

pub(super) struct WriteRgb<'a>(pub(super) Write<'a>);

impl Job for WriteRgb<'_> {
    #[inline(always)]
    fn run(self) {
        let Write { writer, input, row, columns, residual: [top, bottom, chroma] } = self.0;
        let format = input.format;
        let span = format.range.luma(format.samples.bits()).1;
        let Factors { weights: [kr, kg, kb], blue, red } = Factors::of(&input.planes);
        for (values, pixels) in blocks(&columns, format.width) {
            // What chroma adds to R, G and B.
            let mut added = [[0f32; PIXELS]; 3];
            for (i, &[u, v]) in chroma[values.clone()].as_chunks::<2>().0.iter().enumerate() {
                let (r, b) = (red * v, blue * u);
                let g = -(kr * r + kb * b) / kg;
                for (added, v) in added.iter_mut().zip([r, g, b]) {
                    added[2 * i] = v;
                    added[2 * i + 1] = v;
                }
            }
            for (residual, line) in [(top, 2 * row), (bottom, 2 * row + 1)] {
                if line < format.height {
                    let mut y = [0f32; PIXELS];
                    y[..values.len()].copy_from_slice(&residual[values.clone()]);
                    let sums = added.each_ref().map(|added| from_fn(|i| (y[i] + added[i]) * span));
                    // SAFETY: these pixels are this call's, see `FrameWriter::write_pairs`.
                    unsafe { write_colours(input, &writer.planes, line, pixels.clone(), &sums) }
                }
            }
        }
    }
}

/// Writes these pixels of a line: the input's plus residuals in codes.
///
/// # Safety
/// No one else uses these pixels of the output meanwhile.
#[inline(always)]
unsafe fn write_colours(
    input: &Frame<'_>,
    output: &Planes<PlaneWriter>,
    line: usize,
    pixels: Range<usize>,
    residual: &Colours,
) {
    let code = |code: f32, residual: f32| nearest::<U8>(code + residual) & 255;
    match (&input.planes, output) {
        (Planes::PackedRgb { pixels: plane, pixel, .. }, Planes::PackedRgb { pixels: out, .. }) => {
            let bytes = pixel.bytes;
            let words = read_words(plane, bytes, line, pixels.clone());
            let colours = colours_of(&words, pixel);
            let shifts = shifts(pixel);
            let kept = !shifts.iter().fold(0, |mask, shift| mask | 255 << shift);
            let words: [u32; PIXELS] = from_fn(|i| {
                let codes: [u32; 3] = from_fn(|c| code(colours[c][i], residual[c][i]) << shifts[c]);
                (words[i] & kept) | codes[0] | codes[1] | codes[2]
            });
            // SAFETY: as the caller's.
            let out = unsafe { out.bytes_of(line, pixels.start * bytes..pixels.end * bytes) };
            if bytes == 4 {
                for (out, word) in out.as_chunks_mut::<4>().0.iter_mut().zip(words) {
                    *out = word.to_le_bytes();
                }
            } else {
                for (out, word) in out.as_chunks_mut::<3>().0.iter_mut().zip(words) {
                    let [a, b, c, _] = word.to_le_bytes();
                    *out = [a, b, c];
                }
            }
        }
        (
            Planes::PlanarRgb { r, g, b, .. },
            Planes::PlanarRgb { r: r_out, g: g_out, b: b_out, .. },
        ) => {
            let planes = [(r, r_out), (g, g_out), (b, b_out)];
            for ((plane, out), residual) in planes.into_iter().zip(residual) {
                let codes = read_codes(plane, line, pixels.clone());
                // SAFETY: as the caller's.
                let out = unsafe { out.samples_of::<U8>(line, pixels.clone()) };
                for (out, (c, r)) in out.iter_mut().zip(codes.iter().zip(residual)) {
                    *out = code(*c, *r) as u8;
                }
            }
        }
        _ => unreachable!("`FrameWriter::write_pairs` checks the layouts"),
    }
}
