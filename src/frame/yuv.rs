//! Rows of YUV and grey frames, and the chroma of 4:2:0.

use std::marker::PhantomData;
use std::ops::Range;

use super::chroma::Finer;
use super::rows::{Component, Read, Write, samples_of};
use super::samples::{Normal, Sample, Value, read_codes, sum, write_codes};
use super::{Frame, FrameFormat, Plane, Planes, Subsampling, YuvPixel};
use crate::engine::cpu::kernels::Job;

/// Samples of luma that are laid out at once where they do not follow each other.
const SAMPLES: usize = 64;

/// Samples of U and V.
pub(super) enum Chroma<P> {
    /// None.
    Neutral,
    /// A plane each, 4:2:0.
    Planar([P; 2]),
    /// One plane, 4:2:0; whether V is first.
    Pairs(P, bool),
    /// More than 4:2:0; whether they are 4:4:4 rather than 4:2:2.
    Finer([Component<P>; 2], bool),
}

/// Luma and chroma.
#[inline(always)]
pub(super) fn parts<P: Copy, S: Sample>(planes: &Planes<P>) -> (Component<P>, Chroma<P>) {
    let one = |plane: P| Component { plane, offset: 0, step: S::BYTES };
    let finer = |of: [Component<P>; 2], subsampling: Subsampling| {
        Chroma::Finer(of, subsampling == Subsampling::Yuv444)
    };
    match *planes {
        Planes::Planar { y, u, v, subsampling: Subsampling::Yuv420 } => {
            (one(y), Chroma::Planar([u, v]))
        }
        Planes::Planar { y, u, v, subsampling } => (one(y), finer([one(u), one(v)], subsampling)),
        Planes::SemiPlanar { y, uv, v_first, subsampling: Subsampling::Yuv420 } => {
            (one(y), Chroma::Pairs(uv, v_first))
        }
        Planes::SemiPlanar { y, uv, v_first, subsampling } => {
            let of = |second: bool| Component {
                plane: uv,
                offset: if second { S::BYTES } else { 0 },
                step: 2 * S::BYTES,
            };
            (one(y), finer([of(v_first), of(!v_first)], subsampling))
        }
        Planes::PackedYuv { pixels, pixel: YuvPixel { bytes, y, u, v, is_pair } } => {
            let of = |offset: usize, step: usize| Component { plane: pixels, offset, step };
            let luma = of(y, if is_pair { bytes / 2 } else { bytes });
            (luma, Chroma::Finer([of(u, bytes), of(v, bytes)], !is_pair))
        }
        Planes::Grey { y } => (one(y), Chroma::Neutral),
        Planes::PackedRgb { .. } | Planes::PlanarRgb { .. } => {
            unreachable!(
                "`Frame::read_pairs` and `FrameWriter::write_pairs` have RGB done elsewhere"
            )
        }
    }
}

pub(super) struct ReadYuv<'a, 'o, T, S>(pub(super) Read<'a, 'o, T>, pub(super) PhantomData<S>);

impl<T: Value, S: Sample> Job for ReadYuv<'_, '_, T, S> {
    #[inline(always)]
    fn run(self) {
        if self.0.frame.is_in_codes() {
            self.0.run::<S>(|normal, code| normal.of_code(code), Normal::middle);
        } else {
            self.0.run::<S>(|normal, code| normal.of_sample(code), |_| T::from_tensor(0.5));
        }
    }
}

impl<T: Value> Read<'_, '_, T> {
    /// `of_code` normalises a code; `neutral` is chroma without colour.
    #[inline(always)]
    fn run<S: Sample>(
        self,
        of_code: impl Fn(Normal, u16) -> T + Copy,
        neutral: impl Fn(Normal) -> T,
    ) {
        let Read { frame, row, columns, out: [top, bottom, out] } = self;
        let FrameFormat { range, samples, .. } = frame.format;
        let luma = Normal::new(range.luma(samples.bits()));
        let normal = Normal::new(range.chroma(samples.bits()));
        let planes = frame.planes.as_ref();
        let (y, chroma) = parts::<_, S>(&planes);
        let lines = [(top, 2 * row), (bottom, 2 * row + 1)];
        read_luma::<T, S>(frame, y, lines, &columns, |code| of_code(luma, code));
        let of_code = |code| of_code(normal, code);
        match chroma {
            Chroma::Neutral => out.fill(neutral(normal)),
            Chroma::Planar(planes) => {
                for (which, plane) in planes.into_iter().enumerate() {
                    let line = samples_of::<S>(plane, row, columns.clone());
                    read_line::<T, S>(&mut out[which..], line, 2, of_code);
                }
            }
            Chroma::Pairs(plane, v_first) => {
                let line = samples_of::<S>(plane, row, 2 * columns.start..2 * columns.end);
                read_line::<T, S>(out, line, 1, of_code);
                if v_first {
                    out.as_chunks_mut::<2>().0.iter_mut().for_each(|pair| pair.swap(0, 1));
                }
            }
            Chroma::Finer(components, full_width) => {
                for (which, component) in components.into_iter().enumerate() {
                    let finer = Finer { frame, component, row, columns: &columns, full_width };
                    finer.read_means::<T, S>(&mut out[which..], normal);
                }
            }
        }
    }
}

/// These columns of two lines of luma, or of the last line again.
#[inline(always)]
fn read_luma<T: Copy, S: Sample>(
    frame: &Frame<'_>,
    y: Component<&Plane<'_>>,
    lines: [(&mut [T], usize); 2],
    columns: &Range<usize>,
    of_code: impl Fn(u16) -> T,
) {
    let format = frame.format;
    let samples = 2 * columns.start..(2 * columns.end).min(format.width);
    for (out, line) in lines {
        let line = y.line::<S>(line.min(format.height - 1), samples.clone());
        let (inside, beyond) = out.split_at_mut(samples.len());
        if y.step == S::BYTES {
            read_line::<T, S>(inside, line, 1, &of_code);
        } else {
            let mut codes = [0; SAMPLES];
            for (out, line) in inside.chunks_mut(SAMPLES).zip(line.chunks(SAMPLES * y.step)) {
                read_codes::<S>(line, y.step, &mut codes[..out.len()]);
                out.iter_mut().zip(codes).for_each(|(out, code)| *out = of_code(code));
            }
        }
        beyond.fill(inside[inside.len() - 1]);
    }
}

/// Every `step`-th value of `out` from the samples of a line.
#[inline(always)]
fn read_line<T, S: Sample>(out: &mut [T], line: &[u8], step: usize, of_code: impl Fn(u16) -> T) {
    if step == 1 {
        for (out, sample) in out.iter_mut().zip(line.chunks_exact(S::BYTES)) {
            *out = of_code(S::read(sample));
        }
    } else {
        for (out, sample) in out.chunks_mut(2).zip(line.chunks_exact(S::BYTES)) {
            out[0] = of_code(S::read(sample));
        }
    }
}

pub(super) struct WriteYuv<'a, S>(pub(super) Write<'a>, pub(super) PhantomData<S>);

impl<S: Sample> Job for WriteYuv<'_, S> {
    #[inline(always)]
    fn run(self) {
        let Write { writer, input, row, columns, residual: [top, bottom, chroma], smoothing } =
            self.0;
        let format = input.format;
        let bits = format.samples.bits();
        let (input_planes, output_planes) = (input.planes.as_ref(), writer.planes.as_ref());
        let (y, from) = parts::<_, S>(&input_planes);
        let (y_out, to) = parts::<_, S>(&output_planes);
        let samples = 2 * columns.start..(2 * columns.end).min(format.width);
        for (residual, line) in [(top, 2 * row), (bottom, 2 * row + 1)] {
            if line < format.height {
                if let Planes::PackedYuv { pixels, pixel } = &input.planes {
                    // Alpha, and what is beyond an odd width.
                    let bytes = match pixel.is_pair {
                        true => columns.start * pixel.bytes..columns.end * pixel.bytes,
                        false => samples.start * pixel.bytes..samples.end * pixel.bytes,
                    };
                    // SAFETY: these pixels are this call's, see `FrameWriter::write_pairs`.
                    unsafe { y_out.plane.copy(line, bytes, pixels) }
                }
                let codes = y.line::<S>(line, samples.clone());
                // SAFETY: as above.
                let out = unsafe { y_out.line::<S>(line, samples.clone()) };
                let span = format.range.luma(bits).1;
                if y.step == S::BYTES {
                    write_line::<S>(out, codes, 1, residual, 1, span);
                } else {
                    write_steps::<S>(out, codes, y.step, residual, span);
                }
            }
        }
        let span = format.range.chroma(bits).1;
        let wide = 2 * columns.start..2 * columns.end;
        match (from, to) {
            (Chroma::Neutral, _) => {}
            (Chroma::Finer(components, full_width), Chroma::Finer(outs, _)) => {
                for (which, (component, out)) in components.into_iter().zip(outs).enumerate() {
                    let columns = &columns;
                    let finer = Finer { frame: input, component, row, columns, full_width };
                    // SAFETY: as above.
                    unsafe { finer.write::<S>(&out, &chroma[which..], span, smoothing) }
                }
            }
            // Both in the order of the residual.
            (Chroma::Pairs(plane, false), Chroma::Pairs(out, false)) => {
                let codes = samples_of::<S>(plane, row, wide.clone());
                // SAFETY: as above.
                let out = unsafe { out.samples_of::<S>(row, wide) };
                write_line::<S>(out, codes, 1, chroma, 1, span);
            }
            (from, Chroma::Planar(outs)) => {
                for (which, out) in outs.into_iter().enumerate() {
                    // SAFETY: as above.
                    let out = unsafe { out.samples_of::<S>(row, columns.clone()) };
                    let (codes, step) = codes_of::<S>(&from, which, row, &columns);
                    write_line::<S>(out, codes, step, &chroma[which..], 2, span);
                }
            }
            (from, Chroma::Pairs(out, v_first)) => {
                // SAFETY: as above.
                let out = unsafe { out.samples_of::<S>(row, wide) };
                for which in 0..2 {
                    let (codes, step) = codes_of::<S>(&from, which, row, &columns);
                    let codes = codes.chunks_exact(S::BYTES).step_by(step);
                    let at = which ^ usize::from(v_first);
                    let outs = out.chunks_exact_mut(S::BYTES).skip(at).step_by(2);
                    for ((out, code), r) in outs.zip(codes).zip(chroma[which..].iter().step_by(2)) {
                        S::write(sum::<S>(S::read(code), *r, span), code, out);
                    }
                }
            }
            _ => unreachable!("`FrameWriter::write_pairs` checks the layouts"),
        }
    }
}

/// Samples of U (0) or V (1) of 4:2:0: their bytes, and the step from one to the next.
#[inline(always)]
fn codes_of<'p, S: Sample>(
    chroma: &Chroma<&Plane<'p>>,
    which: usize,
    row: usize,
    columns: &Range<usize>,
) -> (&'p [u8], usize) {
    match chroma {
        Chroma::Planar(planes) => (samples_of::<S>(planes[which], row, columns.clone()), 1),
        Chroma::Pairs(plane, v_first) => {
            let first = which ^ usize::from(*v_first);
            let line = samples_of::<S>(plane, row, 2 * columns.start..2 * columns.end);
            (&line[first * S::BYTES..], 2)
        }
        _ => unreachable!("`FrameWriter::write_pairs` checks the layouts"),
    }
}

/// Every sample of `out` from every `code_step`-th code and every `step`-th residual.
#[inline(always)]
pub(super) fn write_line<S: Sample>(
    out: &mut [u8],
    codes: &[u8],
    code_step: usize,
    residual: &[f32],
    step: usize,
    span: f32,
) {
    let outs = out.chunks_exact_mut(S::BYTES);
    if code_step == 1 && step == 1 {
        for ((out, code), r) in outs.zip(codes.chunks_exact(S::BYTES)).zip(residual) {
            S::write(sum::<S>(S::read(code), *r, span), code, out);
        }
    } else if code_step == 1 {
        for ((out, code), r) in outs.zip(codes.chunks_exact(S::BYTES)).zip(residual.chunks(2)) {
            S::write(sum::<S>(S::read(code), r[0], span), code, out);
        }
    } else {
        let codes = codes.chunks(2 * S::BYTES).map(|pair| &pair[..S::BYTES]);
        for ((out, code), r) in outs.zip(codes).zip(residual.chunks(2)) {
            S::write(sum::<S>(S::read(code), r[0], span), code, out);
        }
    }
}

/// Samples of `out`, `step` bytes apart, from as many codes and residuals.
#[inline(always)]
fn write_steps<S: Sample>(out: &mut [u8], codes: &[u8], step: usize, residual: &[f32], span: f32) {
    let bytes = SAMPLES * step;
    let lines = out.chunks_mut(bytes).zip(codes.chunks(bytes));
    for ((out, line), residual) in lines.zip(residual.chunks(SAMPLES)) {
        let count = line.len().div_ceil(step);
        let mut codes = [0; SAMPLES];
        read_codes::<S>(line, step, &mut codes[..count]);
        for (code, r) in codes.iter_mut().zip(residual) {
            *code = sum::<S>(*code, *r, span);
        }
        write_codes::<S>(&codes[..count], line, out, step);
    }
}
