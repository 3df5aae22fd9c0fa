//! Zero-padded copies of maps, and the buffers that hold them.

use super::aligned::Aligned;
use super::lanes::LINE;
use std::ops::Deref;

/// A zero-padded copy: sizes of one plane, in values.
#[derive(Clone, Copy)]
pub(super) struct Padding {
    pub(super) rows: usize,
    pub(super) row: usize,
    pub(super) plane: usize,
}

impl Padding {
    /// Values of a row for `cols` pixels whose taps reach `halo` further. Where rounding up to whole
    /// vectors would waste more than the halo, rows follow each other closely, and vectors are to
    /// run on from row to row.
    pub(super) fn row(cols: usize, halo: usize) -> usize {
        let vectors = cols.next_multiple_of(LINE);
        if cols + halo < vectors { cols + halo } else { (vectors + halo).next_multiple_of(LINE) }
    }

    /// Room for `rows` rows of `row` values, and for vectors that end beyond the last.
    pub(super) fn new(rows: usize, row: usize) -> Self {
        // An odd number of lines spreads the planes over the cache's sets.
        let lines = (rows * row).div_ceil(LINE) + 1;
        let plane = (lines + 1 - lines % 2) * LINE;
        Self { rows, row, plane }
    }

    /// Length of a row that vectors of `len` values walk over `cols` pixels.
    pub(super) fn span(&self, cols: usize, len: usize) -> usize {
        self.row.min(cols.next_multiple_of(len))
    }

    /// Writes one plane: its top left is pixel `(y0, x0)` of an `h` by `w` map, its pixels are
    /// `step` apart there, and `copy` writes pixels given the index of the first.
    pub(super) fn fill(
        &self,
        plane: &mut [f32],
        (y0, x0): (isize, isize),
        step: usize,
        (h, w): (usize, usize),
        mut copy: impl FnMut(&mut [f32], usize),
    ) {
        let left = x0.min(0).unsigned_abs().div_ceil(step).min(self.row);
        let from = (x0 + (left * step) as isize).max(0) as usize;
        let len = w.saturating_sub(from).div_ceil(step).min(self.row - left);
        let (rows, beyond) = plane.split_at_mut(self.rows * self.row);
        for (i, row) in rows.chunks_exact_mut(self.row).enumerate() {
            match usize::try_from(y0 + (i * step) as isize) {
                Ok(y) if y < h && len > 0 => {
                    row[..left].fill(0.0);
                    let (middle, right) = row[left..].split_at_mut(len);
                    copy(middle, y * w + from);
                    right.fill(0.0);
                }
                _ => row.fill(0.0),
            }
        }
        beyond.fill(0.0);
    }
}

/// A buffer that its thread keeps for the next call, holding whatever that call
/// left in it.
pub(super) struct Scratch {
    values: Aligned<f32>,
    len: usize,
}

impl Scratch {
    /// Buffers above this size, in bytes, go back to the allocator.
    const KEEP: usize = 64 << 20;

    /// `len` values of any content; `slot` tells buffers apart that are in use at
    /// the same time.
    pub(super) fn take(slot: usize, len: usize) -> Self {
        let kept = KEPT.with_borrow_mut(|kept| std::mem::take(&mut kept[slot]));
        let values = if kept.len() < len { Aligned::zeroed(len) } else { kept };
        Self { values, len }
    }

    /// Hands the buffer back to the thread.
    pub(super) fn keep(self, slot: usize) {
        if self.values.bytes() <= Self::KEEP {
            KEPT.with_borrow_mut(|kept| kept[slot] = self.values);
        }
    }

    pub(super) fn as_mut(&mut self) -> &mut [f32] {
        &mut self.values[..self.len]
    }
}

impl Deref for Scratch {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values[..self.len]
    }
}

/// Number of slots.
pub(super) const SLOTS: usize = 8;

thread_local! {
    static KEPT: std::cell::RefCell<[Aligned<f32>; SLOTS]> = const {
        std::cell::RefCell::new([const { Aligned::EMPTY }; SLOTS])
    };
}
