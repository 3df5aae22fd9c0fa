//! Weight gradient of the direct f32 convolution as a product of matrices: the gradient, output
//! channels by pixels, times what the taps saw, pixels by weights of one output channel. The latter
//! is packed a stretch of pixels and a panel of weights at a time, so that vectors run along the
//! weights and no lanes are to be added up.
//!
//! Invariant: the shape and the CPU level alone decide the order of every sum.

use super::conv_nchw::OutPtr;
use super::conv_taps::InputTaps;
use super::lanes::{LINE, Lanes, Plain};
use super::padded::{Padding, Scratch};
use super::{ConvShape, level::Level};
use rayon::prelude::*;

/// Bytes of maps that a task should walk over: fewer tasks mean fewer sums to add up.
const SAMPLE_BYTES: usize = 2 << 20;
/// Tasks to cut a gradient into, if need be by adding up more sums.
const TASKS: usize = 32;
/// Pixels in a stretch: a packed panel of them is to stay in the first cache.
const STRETCH: usize = 128;

/// Whether enough output channels share the packing for this to be the faster way.
pub(super) fn pays(s: &ConvShape) -> bool {
    s.c_out / s.groups >= 16
}

/// Output channels and vectors of weights in a block.
fn block(level: Level, channels: usize, columns: usize) -> (usize, usize) {
    let sizes: &[(usize, usize)] = match level {
        Level::Avx512 | Level::Avx512Vnni => &[(8, 3), (8, 2), (6, 4), (6, 3)],
        Level::AvxVnni | Level::Avx2 | Level::Scalar => &[(6, 2), (4, 3)],
    };
    let work = |size: &(usize, usize)| {
        channels.next_multiple_of(size.0) * columns.next_multiple_of(size.1 * lanes(level))
    };
    sizes.iter().copied().min_by_key(work).unwrap_or((4, 3))
}

/// Values of a vector.
fn lanes(level: Level) -> usize {
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 | Level::Avx512Vnni => <std::arch::x86_64::__m512 as Lanes>::LEN,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 | Level::AvxVnni => <std::arch::x86_64::__m256 as Lanes>::LEN,
        _ => Plain::LEN,
    }
}

/// The gradient of the weights, given `grad` `[N, C_out, H_out, W_out]` before the activation.
pub(super) fn grad_weight(
    level: Level,
    s: &ConvShape,
    taps: &InputTaps,
    x: &[f32],
    grad: &[f32],
) -> Vec<f32> {
    let (down, across) = taps.halo();
    let (o_group, columns) = (s.c_out / s.groups, s.c_in / s.groups * s.k_h * s.k_w);
    let (rows, vectors) = block(level, o_group, columns);
    let width = vectors * lanes(level);
    let panels = columns.div_ceil(width);

    let as_it_is = s.k_h * s.k_w * s.stride == 1 && s.padding == 0;
    let padding = match as_it_is {
        true => Padding { rows: s.h, row: s.w, plane: s.h * s.w },
        false => Padding::new(s.out_h + down, Padding::row(s.out_w, across)),
    };
    let channel = taps.phases.len() * padding.plane;
    let mut scratch = Scratch::take(2, if as_it_is { 0 } else { s.n * s.c_in * channel });
    if !as_it_is {
        let to = scratch.as_mut().par_chunks_mut(channel);
        to.zip(x.par_chunks(s.h * s.w)).for_each(|(to, x)| taps.fill(s, padding, to, x, (0, 0)));
    }

    let each = s.n / s.sets;
    let bytes = size_of::<f32>() * (s.c_in * channel + s.c_out * s.out_h * s.out_w);
    let parts_for_tasks = TASKS.div_ceil(s.sets * s.groups * panels);
    let samples = (SAMPLE_BYTES / bytes).min(each.div_ceil(parts_for_tasks)).clamp(1, each);
    let parts = each.div_ceil(samples);

    // Samples outermost, so that a thread stays with them.
    let work = Work {
        s,
        x: if as_it_is { x } else { &scratch },
        row: padding.row,
        channel,
        offsets: &taps.offsets(padding),
        grad,
        block: (rows, vectors),
    };
    let len = s.weight_len();
    let mut dw = Vec::with_capacity(len);
    let mut more = Scratch::take(3, (parts - 1) * len);
    let to = OutPtr::new(dw.spare_capacity_mut());
    let to_more = OutPtr::new(more.as_mut());
    (0..s.sets * parts * s.groups * panels).into_par_iter().for_each(|i| {
        let (set, part) = (i / (panels * s.groups * parts), i / (panels * s.groups) % parts);
        let (group, column) = (i / panels % s.groups, i % panels * width);
        let first = set * each + part * samples;
        let samples = first..(first + samples).min((set + 1) * each);
        let mut sums = Scratch::take(0, o_group.next_multiple_of(rows) * width);
        let mut packed = Scratch::take(5, (STRETCH + LINE) * width);
        work.run(level, samples, (group, column), sums.as_mut(), packed.as_mut());
        let at = (set * s.c_out + group * o_group) * columns + column;
        let to = if part == 0 { to.at(at) } else { to_more.at((part - 1) * len + at) };
        for (co, sums) in sums.chunks_exact(width).take(o_group).enumerate() {
            let live = width.min(columns - column);
            // SAFETY: these are `live` weights of the channel in the part's gradient, and no other
            // task's.
            unsafe { to.add(co * columns).copy_from_nonoverlapping(sums.as_ptr(), live) };
        }
        sums.keep(0);
        packed.keep(5);
    });
    // SAFETY: the first parts' tasks wrote all of it.
    unsafe { dw.set_len(len) };
    if parts > 1 {
        dw.par_chunks_mut(columns).enumerate().for_each(|(kernel, dw)| {
            for more in more.chunks_exact(len) {
                for (dw, value) in dw.iter_mut().zip(&more[kernel * columns..]) {
                    *dw += value;
                }
            }
        });
    }
    scratch.keep(2);
    more.keep(3);
    dw
}

/// What all panels of weights share.
struct Work<'a> {
    s: &'a ConvShape,
    /// Planes that the taps walk, `channel` values from a channel to the next.
    x: &'a [f32],
    row: usize,
    channel: usize,
    offsets: &'a [usize],
    grad: &'a [f32],
    /// Output channels and vectors of weights.
    block: (usize, usize),
}

impl Work<'_> {
    /// Writes the gradient of the weights from `column` on of the group's output channels, of these
    /// samples, `[C_out, width]`.
    fn run(
        &self,
        level: Level,
        samples: std::ops::Range<usize>,
        place: (usize, usize),
        sums: &mut [f32],
        packed: &mut [f32],
    ) {
        let Self { s, block: (rows, vectors), .. } = *self;
        let width = vectors * lanes(level);
        let o_group = s.c_out / s.groups;
        assert_eq!(self.grad.len(), s.out_len());
        assert_eq!(sums.len(), o_group.next_multiple_of(rows) * width);
        assert_eq!(packed.len(), (STRETCH + LINE) * width);
        assert!(samples.end <= s.n && place.0 < s.groups && level.is_available());
        // SAFETY: the CPU has the level, and the buffers their lengths: all checked above.
        unsafe {
            match level {
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 | Level::Avx512Vnni => self.run_avx512(samples, place, sums, packed),
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 | Level::AvxVnni => self.run_avx2(samples, place, sums, packed),
                _ => self.run_small::<Plain>(samples, place, sums, packed),
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx2,fma")]
    unsafe fn run_avx512(
        &self,
        samples: std::ops::Range<usize>,
        place: (usize, usize),
        sums: &mut [f32],
        packed: &mut [f32],
    ) {
        use std::arch::x86_64::__m512;
        // SAFETY: as promised to this function.
        unsafe {
            match self.block {
                (8, 3) => self.run_lanes::<__m512, 8, 3>(samples, place, sums, packed),
                (8, 2) => self.run_lanes::<__m512, 8, 2>(samples, place, sums, packed),
                (6, 4) => self.run_lanes::<__m512, 6, 4>(samples, place, sums, packed),
                (6, 3) => self.run_lanes::<__m512, 6, 3>(samples, place, sums, packed),
                _ => unreachable!("`block` has no other sizes"),
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn run_avx2(
        &self,
        samples: std::ops::Range<usize>,
        place: (usize, usize),
        sums: &mut [f32],
        packed: &mut [f32],
    ) {
        // SAFETY: as promised to this function.
        unsafe {
            self.run_small::<std::arch::x86_64::__m256>(samples, place, sums, packed);
        }
    }

    /// Blocks for sixteen registers.
    #[inline(always)]
    unsafe fn run_small<S: Lanes>(
        &self,
        samples: std::ops::Range<usize>,
        place: (usize, usize),
        sums: &mut [f32],
        packed: &mut [f32],
    ) {
        // SAFETY: as promised to this function.
        unsafe {
            match self.block {
                (6, 2) => self.run_lanes::<S, 6, 2>(samples, place, sums, packed),
                (4, 3) => self.run_lanes::<S, 4, 3>(samples, place, sums, packed),
                _ => unreachable!("`block` has no other sizes"),
            }
        }
    }

    #[inline(always)]
    unsafe fn run_lanes<S: Lanes, const CO: usize, const V: usize>(
        &self,
        samples: std::ops::Range<usize>,
        (group, column): (usize, usize),
        sums: &mut [f32],
        packed: &mut [f32],
    ) {
        let Self { s, .. } = *self;
        let (o_group, c_group) = (s.c_out / s.groups, s.c_in / s.groups);
        let (taps, width, pixels) = (self.offsets.len(), V * S::LEN, s.out_h * s.out_w);
        // Beyond the last weight, the last one again.
        let columns = (column..column + width).map(|column| column.min(c_group * taps - 1));
        let places = columns.map(|c| c / taps * self.channel + self.offsets[c % taps]);
        let places: Vec<usize> = places.collect();
        let (rows, cols) = ((STRETCH / s.out_w).max(1), s.out_w.min(STRETCH));
        sums.fill(0.0);
        for n in samples {
            let x = &self.x[(n * s.c_in + group * c_group) * self.channel..];
            let grad = &self.grad[(n * s.c_out + group * o_group) * pixels..][..o_group * pixels];
            for y in (0..s.out_h).step_by(rows) {
                for at in (0..s.out_w).step_by(cols) {
                    let size = (rows.min(s.out_h - y), cols.min(s.out_w - at));
                    // SAFETY: `run` checked the length of all buffers: stretches are of at most
                    // STRETCH pixels; channels are clamped to the last (a repeat's result is not
                    // used).
                    unsafe {
                        self.pack::<S, V>(&x[y * self.row + at..], &places, size, packed);
                        let grad = grad.as_ptr().add(y * s.out_w + at);
                        for co in (0..o_group).step_by(CO) {
                            let g = std::array::from_fn(|c| {
                                grad.add((co + c).min(o_group - 1) * pixels)
                            });
                            let sums = sums.as_mut_ptr().add(co * width);
                            multiply::<S, CO, V>(sums, g, packed.as_ptr(), size.0 * size.1);
                        }
                    }
                }
            }
        }
    }

    /// Writes what the taps of a panel see from `h` rows of `w` pixels, `[h * w, width]`.
    ///
    /// # Safety
    /// The CPU level of `S`; room for `LEN` more pixels in `to`.
    #[inline(always)]
    unsafe fn pack<S: Lanes, const V: usize>(
        &self,
        x: &[f32],
        places: &[usize],
        (h, w): (usize, usize),
        to: &mut [f32],
    ) {
        for (v, places) in places.chunks_exact(S::LEN).enumerate() {
            let last = places.iter().max().map_or(0, |place| place + S::LEN);
            let mut rows = [x.as_ptr(); LINE];
            for (row, place) in rows.iter_mut().zip(places) {
                *row = row.wrapping_add(*place);
            }
            for y in 0..h {
                // Vectors that reach beyond a row's end are followed by those of the next.
                for at in (0..w).step_by(S::LEN) {
                    let from = y * self.row + at;
                    // SAFETY: the vectors lie within `x`, or are copies; the caller vouches for `to`.
                    unsafe {
                        let to = to.as_mut_ptr().add((y * w + at) * V * S::LEN + v * S::LEN);
                        if from + last <= x.len() {
                            S::transpose(&rows, from, to, V * S::LEN);
                        } else {
                            for (c, place) in places.iter().enumerate() {
                                for (i, x) in x[from + place..].iter().take(S::LEN).enumerate() {
                                    *to.add(i * V * S::LEN + c) = *x;
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Adds the products over the pixels to `CO` rows of `V` vectors of sums.
///
/// # Safety
/// The CPU level of `S`; the sums readable and writable, `pixels` values at each `g` and as many
/// times `V` vectors at `x` readable.
#[inline(always)]
unsafe fn multiply<S: Lanes, const CO: usize, const V: usize>(
    total: *mut f32,
    g: [*const f32; CO],
    x: *const f32,
    pixels: usize,
) {
    // SAFETY: as promised to this function.
    unsafe {
        let place = |o: usize, v: usize| total.add((o * V + v) * S::LEN);
        let mut sums = [[S::splat(0.0); V]; CO];
        for (o, sums) in sums.iter_mut().enumerate() {
            for (v, sum) in sums.iter_mut().enumerate() {
                *sum = S::load(place(o, v));
            }
        }
        for p in 0..pixels {
            let mut vectors = [S::splat(0.0); V];
            for (v, vector) in vectors.iter_mut().enumerate() {
                *vector = S::load(x.add((p * V + v) * S::LEN));
            }
            for o in 0..CO {
                let g = S::splat(*g[o].add(p));
                for v in 0..V {
                    sums[o][v] = vectors[v].mul_add(g, sums[o][v]);
                }
            }
        }
        for (o, sums) in sums.into_iter().enumerate() {
            for (v, sum) in sums.into_iter().enumerate() {
                sum.store(place(o, v));
            }
        }
    }
}
