//! Rows of RGB frames: converted block by block, on the stack.

use std::array::from_fn;
use std::marker::PhantomData;
use std::ops::Range;

use super::rows::{Component, PlaneWriter, Read, Write};
use super::samples::{Sample, U8, Value, nearest, read_codes, write_codes};
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
        let weights = matrix.weights();
        let [kr, _, kb] = weights;
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

/// Luma of pixels.
#[inline(always)]
fn luma([r, g, b]: &Colours, [kr, kg, kb]: [f32; 3]) -> [f32; PIXELS] {
    from_fn(|i| kr * r[i] + kg * g[i] + kb * b[i])
}

pub(super) struct ReadRgb<'a, 'o, T, S>(pub(super) Read<'a, 'o, T>, pub(super) PhantomData<S>);

impl<T: Value, S: Sample> Job for ReadRgb<'_, '_, T, S> {
    #[inline(always)]
    fn run(self) {
        let Read { frame, row, columns, out: [top, bottom, chroma] } = self.0;
        let format = frame.format;
        let (black, span) = format.range.luma(format.samples.bits());
        let scale = 1.0 / span;
        let Factors { weights, blue, red } = Factors::of(&frame.planes);
        // Of sums of four.
        let (u_scale, v_scale) = (0.25 * scale / blue, 0.25 * scale / red);
        for (values, pixels) in blocks(&columns, format.width) {
            let (mut u, mut v) = ([0f32; PIXELS], [0f32; PIXELS]);
            for (out, line) in [(&mut *top, 2 * row), (&mut *bottom, 2 * row + 1)] {
                let colours = read_colours::<S>(frame, line.min(format.height - 1), pixels.clone());
                let y = luma(&colours, weights);
                let [r, _, b] = colours;
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
fn read_colours<S: Sample>(frame: &Frame<'_>, line: usize, pixels: Range<usize>) -> Colours {
    let len = pixels.len();
    match &frame.planes {
        Planes::PackedRgb { pixels: plane, pixel, .. } if S::BYTES == 1 && pixel.bytes <= 4 => {
            let mut words = read_words(plane, pixel.bytes, line, pixels);
            if len % 2 == 1 {
                words[len] = words[len - 1];
            }
            colours_of(&words, pixel)
        }
        planes => components::<_, S>(&planes.as_ref()).map(|component| {
            let mut codes = read_component::<S>(&component, line, pixels.clone());
            if len % 2 == 1 {
                codes[len] = codes[len - 1];
            }
            codes
        }),
    }
}

/// R, G and B.
#[inline(always)]
fn components<P: Copy, S: Sample>(planes: &Planes<P>) -> [Component<P>; 3] {
    match *planes {
        Planes::PackedRgb { pixels: plane, pixel: RgbPixel { bytes: step, r, g, b }, .. } => {
            [r, g, b].map(|offset| Component { plane, offset, step })
        }
        Planes::PlanarRgb { r, g, b, .. } => {
            [r, g, b].map(|plane| Component { plane, offset: 0, step: S::BYTES })
        }
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
fn read_component<S: Sample>(
    component: &Component<&Plane<'_>>,
    line: usize,
    pixels: Range<usize>,
) -> [f32; PIXELS] {
    let mut codes = [0; PIXELS];
    let line = component.line::<S>(line, pixels.clone());
    read_codes::<S>(line, component.step, &mut codes[..pixels.len()]);
    codes.map(f32::from)
}

pub(super) struct WriteRgb<'a, S>(pub(super) Write<'a>, pub(super) PhantomData<S>);

impl<S: Sample> Job for WriteRgb<'_, S> {
    #[inline(always)]
    fn run(self) {
        let Write { writer, input, row, columns, residual: [top, bottom, chroma], smoothing } =
            self.0;
        let format = input.format;
        let span = format.range.luma(format.samples.bits()).1;
        let factors = Factors::of(&input.planes);
        let Factors { weights: [kr, kg, kb], blue, red } = factors;
        for (values, pixels) in blocks(&columns, format.width) {
            // What chroma adds to R and B.
            let mut added = [[0f32; PIXELS]; 2];
            for (i, &[u, v]) in chroma[values.clone()].as_chunks::<2>().0.iter().enumerate() {
                for (added, v) in added.iter_mut().zip([red * v, blue * u]) {
                    added[2 * i] = v * span;
                    added[2 * i + 1] = v * span;
                }
            }
            let means = if smoothing > 0.0 {
                mean_differences::<S>(input, row, &pixels, &factors)
            } else {
                [[0.0; PIXELS]; 2]
            };
            for (residual, line) in [(top, 2 * row), (bottom, 2 * row + 1)] {
                if line < format.height {
                    let mut luma_added = [0f32; PIXELS];
                    for (y, residual) in luma_added.iter_mut().zip(&residual[values.clone()]) {
                        *y = residual * span;
                    }
                    let [mut r, mut b] = added;
                    if smoothing > 0.0 {
                        let [r_differs, b_differs] =
                            differences(&read_colours::<S>(input, line, pixels.clone()), &factors);
                        for i in 0..PIXELS {
                            r[i] -= smoothing * (r_differs[i] - means[0][i]);
                            b[i] -= smoothing * (b_differs[i] - means[1][i]);
                        }
                    }
                    let sums = [
                        from_fn(|i| luma_added[i] + r[i]),
                        from_fn(|i| luma_added[i] - (kr * r[i] + kb * b[i]) / kg),
                        from_fn(|i| luma_added[i] + b[i]),
                    ];
                    // SAFETY: these pixels are this call's, see `FrameWriter::write_pairs`.
                    unsafe {
                        write_colours::<S>(input, &writer.planes, line, pixels.clone(), &sums)
                    }
                }
            }
        }
    }
}

/// R − Y and B − Y.
#[inline(always)]
fn differences(colours: &Colours, factors: &Factors) -> [[f32; PIXELS]; 2] {
    let y = luma(colours, factors.weights);
    [from_fn(|i| colours[0][i] - y[i]), from_fn(|i| colours[2][i] - y[i])]
}

/// Means of R − Y and B − Y of the blocks that these pixels of a row of the net are of.
#[inline(always)]
fn mean_differences<S: Sample>(
    input: &Frame<'_>,
    row: usize,
    pixels: &Range<usize>,
    factors: &Factors,
) -> [[f32; PIXELS]; 2] {
    let last = input.format.height - 1;
    let of_line = |line: usize| {
        differences(&read_colours::<S>(input, line.min(last), pixels.clone()), factors)
    };
    let (upper, lower) = (of_line(2 * row), of_line(2 * row + 1));
    [0, 1].map(|which| {
        let sums: [f32; PIXELS] = from_fn(|i| upper[which][i] + lower[which][i]);
        from_fn(|i| 0.25 * (sums[i & !1] + sums[i | 1]))
    })
}

/// Writes these pixels of a line: the input's plus residuals in codes.
///
/// # Safety
/// No one else uses these pixels of the output meanwhile.
#[inline(always)]
unsafe fn write_colours<S: Sample>(
    input: &Frame<'_>,
    output: &Planes<PlaneWriter>,
    line: usize,
    pixels: Range<usize>,
    residual: &Colours,
) {
    if let Planes::PackedRgb { pixels: plane, pixel, .. } = &input.planes
        && let Planes::PackedRgb { pixels: out, .. } = output
    {
        let bytes = pixels.start * pixel.bytes..pixels.end * pixel.bytes;
        if S::BYTES == 1 && pixel.bytes <= 4 {
            // SAFETY: as the caller's.
            let out = unsafe { out.bytes_of(line, bytes) };
            return write_words(plane, pixel, line, pixels, residual, out);
        }
        // Alpha.
        // SAFETY: as the caller's.
        unsafe { out.copy(line, bytes, plane) }
    }
    let (from, to) = (input.planes.as_ref(), output.as_ref());
    let both = components::<_, S>(&from).into_iter().zip(components::<_, S>(&to));
    for ((from, to), residual) in both.zip(residual) {
        let codes = read_component::<S>(&from, line, pixels.clone());
        let codes: [u16; PIXELS] = from_fn(|i| nearest::<S>(codes[i] + residual[i]) as u16);
        let from_line = from.line::<S>(line, pixels.clone());
        // SAFETY: as the caller's.
        let to = unsafe { to.line::<S>(line, pixels.clone()) };
        write_codes::<S>(&codes[..pixels.len()], from_line, to, from.step);
    }
}

/// Writes packed pixels of bytes, the others than R, G and B as they are.
#[inline(always)]
fn write_words(
    plane: &Plane<'_>,
    pixel: &RgbPixel,
    line: usize,
    pixels: Range<usize>,
    residual: &Colours,
    out: &mut [u8],
) {
    let words = read_words(plane, pixel.bytes, line, pixels);
    let colours = colours_of(&words, pixel);
    let shifts = shifts(pixel);
    let kept = !shifts.iter().fold(0, |mask, shift| mask | 255 << shift);
    let words: [u32; PIXELS] = from_fn(|i| {
        let codes: [u32; 3] =
            from_fn(|c| (nearest::<U8>(colours[c][i] + residual[c][i]) & 255) << shifts[c]);
        (words[i] & kept) | codes[0] | codes[1] | codes[2]
    });
    if pixel.bytes == 4 {
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
