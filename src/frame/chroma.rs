//! Chroma of 4:2:2 and 4:4:4: the net's is the mean of those of a block, whose samples all get the
//! block's residual.

use std::ops::Range;

use super::rows::{PlaneWriter, samples_of};
use super::samples::{Normal, Sample, Value};
use super::yuv::write_line;
use super::{Frame, Plane};

/// Samples whose residuals are laid out at once.
const SAMPLES: usize = 64;

/// Samples of a plane of U or V that these columns of a row of the net cover.
pub(super) struct Finer<'a> {
    pub(super) frame: &'a Frame<'a>,
    pub(super) plane: &'a Plane<'a>,
    pub(super) row: usize,
    pub(super) columns: &'a Range<usize>,
    /// Whether there are two samples per column, as in 4:4:4, rather than one, as in 4:2:2.
    pub(super) full_width: bool,
}

impl Finer<'_> {
    #[inline(always)]
    fn samples(&self) -> Range<usize> {
        let Range { start, end } = *self.columns;
        if self.full_width { 2 * start..(2 * end).min(self.frame.format.width) } else { start..end }
    }

    /// Every second value of `out` from the mean of a block.
    #[inline(always)]
    pub(super) fn read_means<T: Value, S: Sample>(&self, out: &mut [T], normal: Normal) {
        let last = self.frame.format.height - 1;
        let line = |line: usize| samples_of::<S>(self.plane, line.min(last), self.samples());
        let (upper, lower) = (line(2 * self.row), line(2 * self.row + 1));
        let of = |upper: &[u8], lower: &[u8]| S::read(upper) + S::read(lower);
        if !self.full_width {
            let samples = upper.chunks_exact(S::BYTES).zip(lower.chunks_exact(S::BYTES));
            for (out, (upper, lower)) in out.chunks_mut(2).zip(samples) {
                out[0] = normal.of_mean(f32::from(of(upper, lower)));
            }
            return;
        }
        let (uppers, lowers) = (upper.chunks_exact(2 * S::BYTES), lower.chunks_exact(2 * S::BYTES));
        // The last column of an odd width has one sample.
        let alone = (uppers.remainder(), lowers.remainder());
        let (out, beyond) = out.split_at_mut((2 * uppers.len()).min(out.len()));
        for (out, (upper, lower)) in out.chunks_mut(2).zip(uppers.zip(lowers)) {
            let sum = of(upper, lower) + of(&upper[S::BYTES..], &lower[S::BYTES..]);
            out[0] = normal.of_mean(0.5 * f32::from(sum));
        }
        if let (upper @ [_, ..], lower) = alone {
            beyond[0] = normal.of_mean(f32::from(of(upper, lower)));
        }
    }

    /// Samples of `out` from every second residual.
    ///
    /// # Safety
    /// No one else uses these samples of `out` meanwhile.
    #[inline(always)]
    pub(super) unsafe fn write<S: Sample>(&self, out: &PlaneWriter, residual: &[f32], span: f32) {
        let samples = self.samples();
        for line in [2 * self.row, 2 * self.row + 1] {
            if line >= self.frame.format.height {
                continue;
            }
            let codes = samples_of::<S>(self.plane, line, samples.clone());
            // SAFETY: as the caller's.
            let out = unsafe { out.samples_of::<S>(line, samples.clone()) };
            if !self.full_width {
                write_line::<S>(out, codes, 1, residual, 2, span);
                continue;
            }
            let (outs, codes) =
                (out.chunks_mut(SAMPLES * S::BYTES), codes.chunks(SAMPLES * S::BYTES));
            for ((out, codes), residual) in outs.zip(codes).zip(residual.chunks(SAMPLES)) {
                let mut twice = [0f32; SAMPLES];
                for (twice, residual) in
                    twice.as_chunks_mut::<2>().0.iter_mut().zip(residual.chunks(2))
                {
                    *twice = [residual[0]; 2];
                }
                write_line::<S>(out, codes, 1, &twice, 1, span);
            }
        }
    }
}
