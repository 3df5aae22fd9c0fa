//! A rectangle of a convolution's output: the inner loops of [`super::conv_nchw`].

use super::lanes::{LINE, Lanes, Plain};
use super::level::Level;
use super::padded::{Padding, Scratch};
use std::borrow::Cow;
use std::ops::Range;
use std::ptr;

/// Taps of all channels of a part of the input at most: what is walked of weights and pixels fits into the first
/// cache.
const PART_TAPS: usize = 64 * 9;

/// Slot of the sums that wait.
const SUMS_SLOT: usize = 7;

/// Output channels and vectors of pixels that a tile keeps in registers: of the sizes there are, the
/// one that leaves the fewest idle over a map of so many pixels.
pub(super) fn block(level: Level, channels: usize, pixels: usize) -> (usize, usize) {
    let (sizes, lanes): (&[_], _) = match level {
        Level::Avx512 | Level::Avx512Vnni if channels == 1 => return (1, 8),
        _ if channels == 1 => return (1, 4),
        Level::Avx512 | Level::Avx512Vnni => (&[(8, 3), (6, 4), (4, 6), (3, 7)], 16),
        Level::AvxVnni | Level::Avx2 => (&[(4, 2), (3, 3)], 8),
        Level::Scalar => (&[(4, 2), (3, 3)], 4),
    };
    let work = |size: &(usize, usize)| {
        channels.next_multiple_of(size.0) * pixels.div_ceil(lanes).next_multiple_of(size.1)
    };
    sizes.iter().copied().min_by_key(work).unwrap_or((4, 2))
}

/// A rectangle of one group's output in one sample.
pub(super) struct Tile<'a> {
    /// Padded input from the rectangle's first pixel on.
    pub(super) x: &'a [f32],
    pub(super) padding: Padding,
    /// Values from a channel to the next.
    pub(super) channel: usize,
    /// Values from a pixel's place to each tap's.
    pub(super) offsets: Cow<'a, [usize]>,
    /// Output channels and vectors in registers, of [`block`].
    pub(super) block: (usize, usize),
    /// `[⌈C_out / block.0⌉, C_in, taps, block.0]`.
    pub(super) weight: &'a [f32],
    pub(super) bias: Option<&'a [f32]>,
    pub(super) slope: f32,
    pub(super) out: *mut f32,
    pub(super) out_row: usize,
    pub(super) out_plane: usize,
    pub(super) step: usize,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) c_in: usize,
    pub(super) c_out: usize,
}

impl Tile<'_> {
    /// Computes the rectangle.
    ///
    /// # Safety
    /// `out` is valid for writes to the rectangle's pixels in each of `c_out` planes, and no other
    /// thread uses those pixels meanwhile.
    pub(super) unsafe fn run(&self, level: Level) {
        let Self { padding, rows, cols, .. } = *self;
        // Behind the last value of a vector that begins at the last pixel.
        let end = (rows - 1) * padding.row + cols + LINE - 1;
        let reach = self.offsets.iter().max().map_or(0, |tap| end + tap);
        assert!(self.x.len() >= (self.c_in - 1) * self.channel + reach);
        assert!(level.is_available());
        let channels = self.c_out.next_multiple_of(self.block.0);
        assert_eq!(self.weight.len(), channels * self.c_in * self.offsets.len());
        assert!(self.bias.is_none_or(|bias| bias.len() == self.c_out));
        // SAFETY: the input reaches the last vector of the last tap and the weights
        // hold all blocks (both checked above), the CPU has the level (checked), and
        // the caller vouches for the output.
        unsafe {
            match level {
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 | Level::Avx512Vnni => self.run_avx512(),
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 | Level::AvxVnni => self.run_avx2(),
                _ => self.run_small::<Plain>(),
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx2,fma")]
    unsafe fn run_avx512(&self) {
        use std::arch::x86_64::__m512;
        // SAFETY: as promised to this function.
        unsafe {
            match self.block {
                (1, 8) => self.run_lanes::<__m512, 1, 8>(),
                (3, 7) => self.run_lanes::<__m512, 3, 7>(),
                (4, 6) => self.run_lanes::<__m512, 4, 6>(),
                (6, 4) => self.run_lanes::<__m512, 6, 4>(),
                (8, 3) => self.run_lanes::<__m512, 8, 3>(),
                _ => unreachable!("`block` has no other sizes"),
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn run_avx2(&self) {
        // SAFETY: as promised to this function.
        unsafe { self.run_small::<std::arch::x86_64::__m256>() }
    }

    /// Blocks for sixteen registers.
    #[inline(always)]
    unsafe fn run_small<S: Lanes>(&self) {
        // SAFETY: as promised to this function.
        unsafe {
            match self.block {
                (1, 4) => self.run_lanes::<S, 1, 4>(),
                (3, 3) => self.run_lanes::<S, 3, 3>(),
                (4, 2) => self.run_lanes::<S, 4, 2>(),
                _ => unreachable!("`block` has no other sizes"),
            }
        }
    }

    /// Vectors are numbered row by row and taken `V` at a time, so that narrow maps fill the
    /// registers too; where rows follow each other closely, a vector may cover several.
    #[inline(always)]
    unsafe fn run_lanes<S: Lanes, const CO: usize, const V: usize>(&self) {
        let Self { rows, cols, padding, .. } = *self;
        let span = padding.span(cols, S::LEN);
        let vectors = ((rows - 1) * span + cols).div_ceil(S::LEN);
        // What is walked again and again, of weights and pixels, is to stay in the first cache: with
        // many taps to a pixel the weights are most of it, with one the pixels are. Where the weights
        // are too many, sums wait for one part of the input channels after the other.
        let (c_in, taps) = (self.c_in, self.offsets.len());
        let (together, part) = match taps {
            // A phase of a wider step may have none.
            0 => (CO, c_in),
            1 => (self.c_out, c_in),
            _ => (CO, c_in.div_ceil((c_in * taps).div_ceil(PART_TAPS))),
        };
        let waiting = if part < c_in { vectors.next_multiple_of(V) * CO * S::LEN } else { 0 };
        let mut sums = Scratch::take(SUMS_SLOT, waiting);
        for channel in (0..self.c_out).step_by(together) {
            for from in (0..c_in).step_by(part) {
                let part = from..(from + part).min(c_in);
                let mut next = (0, 0);
                for at in (0..vectors).step_by(V) {
                    let mut place = [next; V];
                    for (v, place) in place.iter_mut().enumerate() {
                        // Beyond the last vector, the last one again.
                        *place = next;
                        if at + v + 1 < vectors {
                            next.1 += S::LEN;
                            while next.1 >= span {
                                next = (next.0 + 1, next.1 - span);
                            }
                        }
                    }
                    let sums = match waiting {
                        0 => ptr::null_mut(),
                        _ => sums.as_mut()[at * CO * S::LEN..][..V * CO * S::LEN].as_mut_ptr(),
                    };
                    for first in (channel..channel + together).step_by(CO) {
                        // SAFETY: as promised to this function; sums wait where there is room for them.
                        unsafe {
                            self.run_block::<S, CO, V>(first, place, span, part.clone(), sums);
                        }
                    }
                }
            }
        }
        sums.keep(SUMS_SLOT);
    }

    /// Computes what a part of the input channels gives for `CO` channels from `first` on of `V` vectors of
    /// pixels; until the last part, `sums` wait.
    #[inline(always)]
    unsafe fn run_block<S: Lanes, const CO: usize, const V: usize>(
        &self,
        first: usize,
        place: [(usize, usize); V],
        span: usize,
        part: Range<usize>,
        waiting: *mut f32,
    ) {
        let taps = self.offsets.len();
        let weight = self.weight[(first * self.c_in + part.start * CO) * taps..].as_ptr();
        // SAFETY: `run` checked input and weights; stores stay within the rectangle's rows and
        // columns and the live channels; the caller vouches for the sums.
        unsafe {
            let mut sums = [[S::splat(0.0); V]; CO];
            if part.start > 0 {
                for (i, sum) in sums.as_flattened_mut().iter_mut().enumerate() {
                    *sum = S::load(waiting.add(i * S::LEN));
                }
            } else if let Some(bias) = self.bias {
                for (c, sums) in (first..self.c_out).zip(&mut sums) {
                    *sums = [S::splat(bias[c]); V];
                }
            }
            let input = place.map(|(y, x)| {
                self.x.as_ptr().add(part.start * self.channel + y * self.padding.row + x)
            });
            self.accumulate::<S, CO, V>(input, weight, part.len(), &mut sums);
            if part.end < self.c_in {
                for (i, sum) in sums.as_flattened().iter().enumerate() {
                    sum.store(waiting.add(i * S::LEN));
                }
                return;
            }
            let slope = S::splat(self.slope);
            for (c, sums) in sums.into_iter().enumerate() {
                if first + c < self.c_out {
                    let to = self.out.add((first + c) * self.out_plane);
                    for (sum, place) in sums.into_iter().zip(place) {
                        self.store(sum.leaky(slope), to, place, span);
                    }
                }
            }
        }
    }

    /// Adds to the sums of `CO` channels for `V` vectors of pixels.
    ///
    /// # Safety
    /// The CPU level of `S`; each input pointer readable at every tap of `channels` channels; `CO`
    /// weights to each of them.
    #[inline(always)]
    unsafe fn accumulate<S: Lanes, const CO: usize, const V: usize>(
        &self,
        input: [*const f32; V],
        mut weight: *const f32,
        channels: usize,
        to: &mut [[S; V]; CO],
    ) {
        let offsets = &*self.offsets;
        let mut sums = *to;
        // SAFETY: as promised to this function.
        unsafe {
            for c in 0..channels {
                let input = input.map(|input| input.add(c * self.channel));
                for &offset in offsets {
                    let x = input.map(|input| S::load(input.add(offset)));
                    for (o, sums) in sums.iter_mut().enumerate() {
                        let w = S::splat(*weight.add(o));
                        for v in 0..V {
                            sums[v] = x[v].mul_add(w, sums[v]);
                        }
                    }
                    weight = weight.add(CO);
                }
            }
        }
        *to = sums;
    }

    /// Stores those values of a vector that are pixels; its first is at `(y, x)`, and behind `span`
    /// of them the next row begins.
    ///
    /// # Safety
    /// The CPU level of `S`; `to` writable as the tile's `out` is.
    #[inline(always)]
    unsafe fn store<S: Lanes>(&self, v: S, to: *mut f32, (y, x): (usize, usize), span: usize) {
        // SAFETY: `part` holds the longest vector; the pixels written are within the rectangle.
        unsafe {
            if x + S::LEN <= self.cols && self.step == 1 {
                return v.store(to.add(y * self.out_row + x));
            }
            let mut part = [0.0; LINE];
            v.store(part.as_mut_ptr());
            let (mut y, mut x, mut lane) = (y, x, 0);
            while lane < S::LEN && y < self.rows {
                let count = self.cols.saturating_sub(x).min(S::LEN - lane);
                let to = to.add(y * self.out_row + x * self.step);
                for i in 0..count {
                    *to.add(i * self.step) = part[lane + i];
                }
                lane += span - x;
                (y, x) = (y + 1, 0);
            }
        }
    }
}
