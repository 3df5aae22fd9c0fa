//! f32 convolution of single channels by 3×3 kernels, as wide as its input, and its gradients, on
//! maps as they lie: no padded copy, and each value is loaded once.
//!
//! A strip of vectors walks down the rows. The vectors beside it are shifted out of registers, and
//! the sums of three rows wait there for the rows below them.

use super::conv_nchw_weight::add_up;
use super::lanes::{LINE, Lanes, Plain};
use super::{ConvShape, level::Level};
use std::mem::MaybeUninit;
use std::ops::Range;

/// Taps of a kernel.
pub(super) const TAPS: usize = 9;

/// Whether the shape is a convolution of this kind, with maps wide enough to fill most of the vectors.
pub(super) fn fits(level: Level, s: &ConvShape) -> bool {
    let lanes = match level {
        Level::Avx512 | Level::Avx512Vnni => 16,
        Level::Avx2 | Level::AvxVnni => 8,
        Level::Scalar => 4,
    };
    let single = s.c_in == s.groups && s.c_out == s.groups;
    let idle = s.w.next_multiple_of(lanes) - s.w;
    single && [s.k_h, s.k_w, s.stride, s.padding, s.dilation] == [3, 3, 1, 1, 1] && 3 * idle <= s.w
}

/// Convolution, bias and leaky ReLU of some rows of a plane.
pub(super) struct Forward<'a> {
    /// `[h, w]`.
    pub(super) x: &'a [f32],
    pub(super) w: usize,
    pub(super) kernel: &'a [f32; TAPS],
    pub(super) bias: f32,
    /// Slope below zero.
    pub(super) slope: f32,
    /// Rows to compute.
    pub(super) rows: Range<usize>,
}

/// Gradients of the input and the kernel of one plane.
pub(super) struct Gradient<'a> {
    /// `[h, w]`.
    pub(super) x: &'a [f32],
    /// Gradient of the output, `[h, w]`.
    pub(super) grad: &'a [f32],
    pub(super) w: usize,
    pub(super) kernel: &'a [f32; TAPS],
}

impl Forward<'_> {
    /// Writes the rows.
    ///
    /// # Safety
    /// `out` is valid for writes of the rows, and no other thread uses them meanwhile.
    pub(super) unsafe fn run(&self, level: Level, out: *mut f32) {
        assert!(level.is_available());
        assert!(self.rows.end * self.w <= self.x.len());
        // SAFETY: the rows lie within the plane and the CPU has the level (both checked), and the
        // caller vouches for the output.
        unsafe {
            match level {
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 | Level::Avx512Vnni => self.run_avx512(out),
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 | Level::AvxVnni => self.run_avx2(out),
                _ => self.run_lanes::<Plain>(out),
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx2,fma")]
    unsafe fn run_avx512(&self, out: *mut f32) {
        // SAFETY: as promised to this function.
        unsafe { self.run_lanes::<std::arch::x86_64::__m512>(out) }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn run_avx2(&self, out: *mut f32) {
        // SAFETY: as promised to this function.
        unsafe { self.run_lanes::<std::arch::x86_64::__m256>(out) }
    }

    #[inline(always)]
    unsafe fn run_lanes<S: Lanes>(&self, out: *mut f32) {
        let mut at = 0;
        while at < self.w {
            // SAFETY: as promised to this function; no strip is wider than what is left.
            let vectors = unsafe {
                match (self.w - at).div_ceil(S::LEN) {
                    1 => self.strip::<S, 1>(at, out),
                    2 => self.strip::<S, 2>(at, out),
                    3 => self.strip::<S, 3>(at, out),
                    _ => self.strip::<S, 4>(at, out),
                }
            };
            at += vectors * S::LEN;
        }
    }

    /// Computes `V` vectors of each row from column `at` on.
    #[inline(always)]
    unsafe fn strip<S: Lanes, const V: usize>(&self, at: usize, out: *mut f32) -> usize {
        let Self { x, w, ref rows, .. } = *self;
        let h = x.len() / w;
        // SAFETY: rows and columns lie within the plane.
        unsafe {
            let mut kernel = [S::splat(0.0); TAPS];
            for (to, tap) in kernel.iter_mut().zip(self.kernel) {
                *to = S::splat(*tap);
            }
            let (bias, slope) = ([S::splat(self.bias); V], S::splat(self.slope));
            let mut sums = [bias; 3];
            for y in rows.start.saturating_sub(1)..(rows.end + 1).min(h) {
                let taps = row::<S, V>(x.as_ptr().add(y * w), at, w);
                add_taps(&mut sums, &taps, &kernel);
                if y > rows.start {
                    store(sums[0], slope, out.add((y - 1 - rows.start) * w), (at, w));
                }
                sums = [sums[1], sums[2], bias];
            }
            if rows.end == h {
                store(sums[0], slope, out.add((h - 1 - rows.start) * w), (at, w));
            }
        }
        V
    }
}

impl Gradient<'_> {
    /// Writes the input's gradient, and gives those of the kernel and the bias.
    pub(super) fn run(&self, level: Level, dx: &mut [MaybeUninit<f32>]) -> ([f32; TAPS], f32) {
        assert!(level.is_available());
        assert!(self.x.len() == self.grad.len() && self.x.len() == dx.len());
        // SAFETY: the planes are of one size and the CPU has the level (both checked).
        unsafe {
            match level {
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 | Level::Avx512Vnni => self.run_avx512(dx),
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 | Level::AvxVnni => self.run_avx2(dx),
                _ => self.run_lanes::<Plain, 2>(dx),
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx2,fma")]
    unsafe fn run_avx512(&self, dx: &mut [MaybeUninit<f32>]) -> ([f32; TAPS], f32) {
        // SAFETY: as promised to this function.
        unsafe { self.run_lanes::<std::arch::x86_64::__m512, 4>(dx) }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn run_avx2(&self, dx: &mut [MaybeUninit<f32>]) -> ([f32; TAPS], f32) {
        // SAFETY: as promised to this function.
        unsafe { self.run_lanes::<std::arch::x86_64::__m256, 2>(dx) }
    }

    /// In strips of `V` vectors, and of one at the end.
    #[inline(always)]
    unsafe fn run_lanes<S: Lanes, const V: usize>(
        &self,
        dx: &mut [MaybeUninit<f32>],
    ) -> ([f32; TAPS], f32) {
        // SAFETY: as promised to this function; no strip is wider than what is left.
        unsafe {
            let mut sums = ([[S::splat(0.0); 3]; 3], S::splat(0.0));
            let mut at = 0;
            while at < self.w {
                let vectors = if (self.w - at).div_ceil(S::LEN) < V {
                    self.strip::<S, 1>(at, dx, &mut sums)
                } else {
                    self.strip::<S, V>(at, dx, &mut sums)
                };
                at += vectors * S::LEN;
            }
            let mut kernel = [0.0; TAPS];
            for (value, lanes) in kernel.iter_mut().zip(sums.0.as_flattened()) {
                *value = sum_of(*lanes);
            }
            (kernel, sum_of(sums.1))
        }
    }

    /// Computes `V` vectors of each row from column `at` on, and adds their products to the sums.
    #[inline(always)]
    unsafe fn strip<S: Lanes, const V: usize>(
        &self,
        at: usize,
        dx: &mut [MaybeUninit<f32>],
        (weight, total): &mut ([[S; 3]; 3], S),
    ) -> usize {
        let Self { x, grad, w, kernel } = *self;
        let h = grad.len() / w;
        // SAFETY: rows and columns lie within the planes.
        unsafe {
            let mut reversed = [S::splat(0.0); TAPS];
            for (to, tap) in reversed.iter_mut().zip(kernel.iter().rev()) {
                *to = S::splat(*tap);
            }
            let one = S::splat(1.0);
            let zeros = [S::splat(0.0); V];
            let dx = dx.as_mut_ptr().cast::<f32>();
            let (mut weight_sums, mut total_sum) = (*weight, *total);
            let mut sums = [zeros; 3];
            for y in 0..h {
                let taps = row::<S, V>(grad.as_ptr().add(y * w), at, w);
                add_taps(&mut sums, &taps, &reversed);
                // The rows of the input that these gradients meet.
                for (ky, sums) in weight_sums.iter_mut().enumerate() {
                    if (1..=h).contains(&(y + ky)) {
                        let x = x.as_ptr().add((y + ky - 1) * w);
                        for (v, taps) in taps.iter().enumerate() {
                            let at = at + v * S::LEN;
                            let x = S::load_first((w - at).min(S::LEN), x.add(at));
                            for (kx, sum) in sums.iter_mut().enumerate() {
                                *sum = x.mul_add(taps[2 - kx], *sum);
                            }
                        }
                    }
                }
                for taps in taps {
                    total_sum = total_sum.add(taps[1]);
                }
                if y > 0 {
                    store(sums[0], one, dx.add((y - 1) * w), (at, w));
                }
                sums = [sums[1], sums[2], zeros];
            }
            store(sums[0], one, dx.add((h - 1) * w), (at, w));
            (*weight, *total) = (weight_sums, total_sum);
        }
        V
    }
}

/// Sum of a vector's values.
///
/// # Safety
/// The CPU level of `S`.
#[inline(always)]
unsafe fn sum_of<S: Lanes>(lanes: S) -> f32 {
    let mut values = [0.0; LINE];
    // SAFETY: as promised to this function; no vector is longer than a line.
    unsafe { lanes.store(values.as_mut_ptr()) };
    add_up(values)
}

/// `V` vectors of a row of `w` values from column `at` on, zero beyond, each between the vectors one
/// column to its left and to its right.
///
/// # Safety
/// The CPU level of `S`; the row is readable, and the last vector begins within it.
#[inline(always)]
unsafe fn row<S: Lanes, const V: usize>(row: *const f32, at: usize, w: usize) -> [[S; 3]; V] {
    // SAFETY: as promised to this function.
    unsafe {
        let end = at + V * S::LEN;
        let mut values = [S::splat(0.0); V];
        for (v, value) in values.iter_mut().enumerate() {
            let at = at + v * S::LEN;
            *value = S::load_first((w - at).min(S::LEN), row.add(at));
        }
        let before = S::splat(if at > 0 { *row.add(at - 1) } else { 0.0 });
        let behind = S::splat(if end < w { *row.add(end) } else { 0.0 });
        let mut taps = [[S::splat(0.0); 3]; V];
        for (v, taps) in taps.iter_mut().enumerate() {
            let before = if v > 0 { values[v - 1] } else { before };
            let behind = if v + 1 < V { values[v + 1] } else { behind };
            *taps = [values[v].shifted_in(before), values[v], values[v].shifted_out(behind)];
        }
        taps
    }
}

/// Leaky ReLU of a row's vectors from column `at` on, stored as far as the row goes.
///
/// # Safety
/// The CPU level of `S`; the row is writable, and the last vector begins within it.
#[inline(always)]
unsafe fn store<S: Lanes, const V: usize>(
    values: [S; V],
    slope: S,
    row: *mut f32,
    (at, w): (usize, usize),
) {
    for (v, value) in values.into_iter().enumerate() {
        let at = at + v * S::LEN;
        // SAFETY: as promised to this function.
        unsafe { value.leaky(slope).store_first((w - at).min(S::LEN), row.add(at)) }
    }
}

/// Adds what a row gives to the sums of the rows above, beside and below it.
///
/// # Safety
/// The CPU level of `S`.
#[inline(always)]
unsafe fn add_taps<S: Lanes, const V: usize>(
    sums: &mut [[S; V]; 3],
    taps: &[[S; 3]; V],
    kernel: &[S; TAPS],
) {
    for (sums, kernel) in sums.iter_mut().zip(kernel.rchunks_exact(3)) {
        for (sum, taps) in sums.iter_mut().zip(taps) {
            for (tap, weight) in taps.iter().zip(kernel) {
                // SAFETY: as promised to this function.
                *sum = unsafe { tap.mul_add(*weight, *sum) };
            }
        }
    }
}
