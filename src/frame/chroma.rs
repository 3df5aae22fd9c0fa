//! Chroma of 4:2:2 and 4:4:4: the net's is the mean of those of a block, whose samples all get the
//! block's residual, and lose a share of what they differ from the mean.

use std::ops::Range;

use super::rows::{Component, PlaneWriter};
use super::samples::{Normal, Sample, Value, nearest, read_codes, write_codes};
use super::{Frame, Plane};

/// Columns of the net that are done at once.
const COLUMNS: usize = 32;

/// Samples of a line that they cover at most.
const SAMPLES: usize = 2 * COLUMNS;

/// Samples of U or V that these columns of a row of the net cover.
pub(super) struct Finer<'a> {
    pub(super) frame: &'a Frame<'a>,
    pub(super) component: Component<&'a Plane<'a>>,
    pub(super) row: usize,
    pub(super) columns: &'a Range<usize>,
    /// Whether there are two samples per column, as in 4:4:4, rather than one, as in 4:2:2.
    pub(super) full_width: bool,
}

/// Codes of two lines that some columns cover.
struct Codes {
    /// Those of an odd width end with the last one twice.
    lines: [[u16; SAMPLES]; 2],
    samples: Range<usize>,
}

impl Finer<'_> {
    /// Columns that are done at once.
    #[inline(always)]
    fn blocks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let Range { start, end } = *self.columns;
        (start..end).step_by(COLUMNS).map(move |first| first..(first + COLUMNS).min(end))
    }

    #[inline(always)]
    fn read<S: Sample>(&self, Range { start, end }: &Range<usize>) -> Codes {
        let format = self.frame.format;
        let samples =
            if self.full_width { 2 * start..(2 * end).min(format.width) } else { *start..*end };
        let lines = [2 * self.row, 2 * self.row + 1].map(|line| {
            let line = self.component.line::<S>(line.min(format.height - 1), samples.clone());
            let mut codes = [0; SAMPLES];
            read_codes::<S>(line, self.component.step, &mut codes[..samples.len()]);
            if samples.len() % 2 == 1 && self.full_width {
                codes[samples.len()] = codes[samples.len() - 1];
            }
            codes
        });
        Codes { lines, samples }
    }

    /// Twice the means of the blocks.
    #[inline(always)]
    fn doubled_means(&self, Codes { lines: [upper, lower], .. }: &Codes) -> [f32; COLUMNS] {
        let of = |i: usize| u32::from(upper[i]) + u32::from(lower[i]);
        let mut means = [0.0; COLUMNS];
        if self.full_width {
            for (i, mean) in means.iter_mut().enumerate() {
                *mean = 0.5 * (of(2 * i) + of(2 * i + 1)) as f32;
            }
        } else {
            for (i, mean) in means.iter_mut().enumerate() {
                *mean = of(i) as f32;
            }
        }
        means
    }

    /// What there is one of for each column, for each sample.
    #[inline(always)]
    fn spread(&self, values: [f32; COLUMNS]) -> [f32; SAMPLES] {
        let per_column = if self.full_width { 2 } else { 1 };
        std::array::from_fn(|i| values[(i / per_column).min(COLUMNS - 1)])
    }

    /// Every second value of `out` from the mean of a block.
    #[inline(always)]
    pub(super) fn read_means<T: Value, S: Sample>(&self, out: &mut [T], normal: Normal) {
        for (columns, out) in self.blocks().zip(out.chunks_mut(2 * COLUMNS)) {
            let means = self.doubled_means(&self.read::<S>(&columns));
            for (out, mean) in out.chunks_mut(2).zip(means) {
                out[0] = normal.of_mean(mean);
            }
        }
    }

    /// Samples of `out` from every second residual.
    ///
    /// # Safety
    /// No one else uses these samples of `out` meanwhile.
    #[inline(always)]
    pub(super) unsafe fn write<S: Sample>(
        &self,
        out: &Component<&PlaneWriter>,
        residual: &[f32],
        span: f32,
        smoothing: f32,
    ) {
        let step = self.component.step;
        for (columns, residual) in self.blocks().zip(residual.chunks(2 * COLUMNS)) {
            let codes = self.read::<S>(&columns);
            let samples = &codes.samples;
            let mut added = [0.0; COLUMNS];
            for (added, residual) in added.iter_mut().zip(residual.chunks(2)) {
                *added = residual[0] * span;
            }
            let added = self.spread(added);
            let means = self.spread(self.doubled_means(&codes).map(|mean| 0.5 * mean));
            for (line, codes) in [2 * self.row, 2 * self.row + 1].into_iter().zip(&codes.lines) {
                if line >= self.frame.format.height {
                    continue;
                }
                let sums = std::array::from_fn::<u16, SAMPLES, _>(|i| {
                    let code = f32::from(codes[i]);
                    nearest::<S>(code + added[i] - smoothing * (code - means[i])) as u16
                });
                let from = self.component.line::<S>(line, samples.clone());
                // SAFETY: as the caller's.
                let to = unsafe { out.line::<S>(line, samples.clone()) };
                write_codes::<S>(&sums[..samples.len()], from, to, step);
            }
        }
    }
}
