//! Rows of YUV and grey frames, and the chroma of 4:2:0.

use std::marker::PhantomData;
use std::ops::Range;

use super::chroma::Finer;
use super::rows::{Read, Write, samples_of};
use super::samples::{Normal, Sample, Value, sum};
use super::{Frame, FrameFormat, Plane, Planes, Subsampling};
use crate::engine::cpu::kernels::Job;

/// Planes of U and V.
enum Chroma<P> {
    /// None.
    Neutral,
    /// A plane each, 4:2:0.
    Planar([P; 2]),
    /// One plane, 4:2:0; whether V is first.
    Pairs(P, bool),
    /// A plane each, of more samples than 4:2:0; whether they are 4:4:4 rather than 4:2:2.
    Finer([P; 2], bool),
}

/// Luma and chroma.
#[inline(always)]
fn parts<P>(planes: &Planes<P>) -> (&P, Chroma<&P>) {
    match planes {
        Planes::Planar { y, u, v, subsampling } => match subsampling {
            Subsampling::Yuv420 => (y, Chroma::Planar([u, v])),
            Subsampling::Yuv422 => (y, Chroma::Finer([u, v], false)),
            Subsampling::Yuv444 => (y, Chroma::Finer([u, v], true)),
        },
        Planes::SemiPlanar { y, uv, v_first } => (y, Chroma::Pairs(uv, *v_first)),
        Planes::Grey { y } => (y, Chroma::Neutral),
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
        let Read { frame, row, columns, out: [top, bottom, out] } = self.0;
        let FrameFormat { range, samples, .. } = frame.format;
        let luma = Normal::new(range.luma(samples.bits()));
        let normal = Normal::new(range.chroma(samples.bits()));
        let (y, chroma) = parts(&frame.planes);
        let lines = [(top, 2 * row), (bottom, 2 * row + 1)];
        match chroma {
            Chroma::Finer(..) => {
                let of_code = |code| luma.of_mean(f32::from(2 * code));
                read_luma::<T, S>(frame, y, lines, &columns, of_code);
            }
            _ => read_luma::<T, S>(frame, y, lines, &columns, |code| luma.of_code(code)),
        }
        let of_code = |code| normal.of_code(code);
        match chroma {
            Chroma::Neutral => out.fill(normal.middle()),
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
            Chroma::Finer(planes, full_width) => {
                for (which, plane) in planes.into_iter().enumerate() {
                    let finer = Finer { frame, plane, row, columns: &columns, full_width };
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
    y: &Plane<'_>,
    lines: [(&mut [T], usize); 2],
    columns: &Range<usize>,
    of_code: impl Fn(u16) -> T,
) {
    let format = frame.format;
    let samples = 2 * columns.start..(2 * columns.end).min(format.width);
    for (out, line) in lines {
        let line = samples_of::<S>(y, line.min(format.height - 1), samples.clone());
        let (inside, beyond) = out.split_at_mut(samples.len());
        read_line::<T, S>(inside, line, 1, &of_code);
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
        let Write { writer, input, row, columns, residual: [top, bottom, chroma] } = self.0;
        let format = input.format;
        let bits = format.samples.bits();
        let (y, from) = parts(&input.planes);
        let (y_out, to) = parts(&writer.planes);
        let samples = 2 * columns.start..(2 * columns.end).min(format.width);
        for (residual, line) in [(top, 2 * row), (bottom, 2 * row + 1)] {
            if line < format.height {
                let codes = samples_of::<S>(y, line, samples.clone());
                // SAFETY: these samples are this call's, see `FrameWriter::write_pairs`.
                let out = unsafe { y_out.samples_of::<S>(line, samples.clone()) };
                write_line::<S>(out, codes, 1, residual, 1, format.range.luma(bits).1);
            }
        }
        let span = format.range.chroma(bits).1;
        let wide = 2 * columns.start..2 * columns.end;
        match (from, to) {
            (Chroma::Neutral, _) => {}
            (Chroma::Finer(planes, full_width), Chroma::Finer(outs, _)) => {
                for (which, (plane, out)) in planes.into_iter().zip(outs).enumerate() {
                    let finer = Finer { frame: input, plane, row, columns: &columns, full_width };
                    // SAFETY: as above.
                    unsafe { finer.write::<S>(out, &chroma[which..], span) }
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
                        S::write(sum::<S>(S::read(code), *r, span), out);
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
            S::write(sum::<S>(S::read(code), *r, span), out);
        }
    } else if code_step == 1 {
        for ((out, code), r) in outs.zip(codes.chunks_exact(S::BYTES)).zip(residual.chunks(2)) {
            S::write(sum::<S>(S::read(code), r[0], span), out);
        }
    } else {
        let codes = codes.chunks(2 * S::BYTES).map(|pair| &pair[..S::BYTES]);
        for ((out, code), r) in outs.zip(codes).zip(residual.chunks(2)) {
            S::write(sum::<S>(S::read(code), r[0], span), out);
        }
    }
}
