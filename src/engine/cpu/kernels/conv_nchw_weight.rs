//! Weight gradient of the direct f32 convolution: multiplies vectors of pixels of the gradient with
//! those that the taps saw, keeping a block of weights in registers, and adds up a vector's lanes at
//! the end.
//!
//! Invariant: the shape and the CPU level alone decide the order of every sum.

use super::conv_taps::InputTaps;
use super::lanes::{LINE, Lanes, Plain};
use super::padded::{Padding, Scratch};
use super::{ConvShape, level::Level};
use rayon::prelude::*;

/// Padded planes of all samples and channels.
#[derive(Clone, Copy)]
pub(super) struct Planes<'a> {
    pub(super) data: &'a [f32],
    pub(super) padding: Padding,
    /// Index of the first pixel in a plane.
    pub(super) first: usize,
}

/// Bytes of padded planes that a task should walk over again and again: what the caches behind the
/// first may hold, while fewer tasks mean fewer sums to add up.
const SAMPLE_BYTES: usize = 2 << 20;
/// The same of the planes in one stretch of pixels, for the first cache.
const STRETCH_BYTES: usize = 44 << 10;
/// Blocks of columns in a task.
const BLOCKS: usize = 3;

/// Output channels and columns, that is weights of one output channel, in a block.
fn block(level: Level, s: &ConvShape) -> (usize, usize) {
    let (channels, columns) = (s.c_out / s.groups, s.c_in / s.groups * s.k_h * s.k_w);
    let sizes: &[(usize, usize)] = match level {
        _ if channels == 1 => return (1, 9),
        Level::Avx512 | Level::Avx512Vnni => &[(4, 6), (3, 8), (4, 4)],
        Level::AvxVnni | Level::Avx2 | Level::Scalar => &[(2, 6), (3, 3)],
    };
    let work = |size: &(usize, usize)| {
        channels.next_multiple_of(size.0) * columns.next_multiple_of(size.1)
    };
    sizes.iter().copied().min_by_key(work).unwrap_or((1, 9))
}

/// Sum by halves.
#[inline(always)]
pub(super) fn add_up(mut lanes: [f32; LINE]) -> f32 {
    let mut half = LINE / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// `grad` has rows as long as [`Padding::row`] asks for the output's width and the taps' halo.
pub(super) fn grad_weight(
    level: Level,
    s: &ConvShape,
    taps: &InputTaps,
    x: &[f32],
    grad: Planes<'_>,
) -> Vec<f32> {
    let (planes, (down, across)) = (taps.phases.len(), taps.halo());
    assert!(grad.padding.row >= s.out_w + across);
    let padding = Padding::new(s.out_h + down, grad.padding.row);
    let channel = planes * padding.plane;
    let mut scratch = Scratch::take(2, s.n * s.c_in * channel);
    let to = scratch.as_mut().par_chunks_mut(channel);
    to.zip(x.par_chunks(s.h * s.w)).for_each(|(to, x)| taps.fill(s, padding, to, x, (0, 0)));

    let (o_group, columns) = (s.c_out / s.groups, s.c_in / s.groups * s.k_h * s.k_w);
    let (rows, cols) = block(level, s);
    let (down, across) = (o_group.div_ceil(rows), columns.div_ceil(cols * BLOCKS));
    let tile = rows * cols * BLOCKS;
    let sample_bytes = size_of::<f32>() * (s.c_in * channel + s.c_out * grad.padding.plane);
    let each = s.n / s.sets;
    let samples = (SAMPLE_BYTES / sample_bytes).clamp(1, each);
    let parts = each.div_ceil(samples);

    // Samples outermost, so that a thread stays with them.
    let tasks_per_part = s.groups * down * across;
    let mut sums = Scratch::take(3, s.sets * parts * tasks_per_part * tile);
    let offsets = taps.offsets(padding);
    sums.as_mut().par_chunks_mut(tile).enumerate().for_each(|(i, tile)| {
        let (set, part) = (i / tasks_per_part / parts, i / tasks_per_part % parts);
        let (group, block) = (i / (down * across) % s.groups, i % (down * across));
        let first = set * each + part * samples;
        let work = Work {
            s,
            grad,
            x: Planes { data: &scratch, padding, first: 0 },
            channel,
            offsets: &offsets,
            samples: first..(first + samples).min((set + 1) * each),
            group,
            row: block / across * rows,
            column: block % across * cols * BLOCKS,
        };
        work.run(level, tile);
    });

    let mut dw = vec![0.0; s.weight_len()];
    dw.par_chunks_mut(columns).enumerate().for_each(|(kernel, dw)| {
        let (set, co) = (kernel / s.c_out, kernel % s.c_out);
        let (group, co) = (co / o_group, co % o_group);
        for part in 0..parts {
            let task = ((set * parts + part) * s.groups + group) * down + co / rows;
            for (block, dw) in dw.chunks_mut(cols).enumerate() {
                let at = (task * across + block / BLOCKS) * tile;
                let from = &sums[at + (block % BLOCKS * rows + co % rows) * cols..][..dw.len()];
                for (dw, value) in dw.iter_mut().zip(from) {
                    *dw += value;
                }
            }
        }
    });
    scratch.keep(2);
    sums.keep(3);
    dw
}

/// The gradient of one kernel from one plane, given the planes of the input that the taps walk, which
/// are as long as all of `x`.
pub(super) fn grad_kernel(
    level: Level,
    s: &ConvShape,
    offsets: &[usize],
    x: Planes<'_>,
    grad: Planes<'_>,
    to: &mut [f32],
) {
    let (rows, cols) = block(level, s);
    let mut tile = [0.0; 9 * BLOCKS];
    assert_eq!((s.n, s.c_in, s.c_out, rows * cols * BLOCKS), (1, 1, 1, tile.len()));
    for (i, to) in to.chunks_mut(tile.len()).enumerate() {
        let (samples, channel, column) = (0..1, x.data.len(), i * tile.len());
        let work = Work { s, grad, x, channel, offsets, samples, group: 0, row: 0, column };
        work.run(level, &mut tile);
        to.copy_from_slice(&tile[..to.len()]);
    }
}

/// A block of output channels and `BLOCKS` blocks of columns of some samples.
struct Work<'a> {
    s: &'a ConvShape,
    grad: Planes<'a>,
    x: Planes<'a>,
    /// Values from a channel of `x` to the next.
    channel: usize,
    offsets: &'a [usize],
    samples: std::ops::Range<usize>,
    group: usize,
    /// First output channel and first column, in the group.
    row: usize,
    column: usize,
}

impl Work<'_> {
    /// Writes the block's gradient, `[BLOCKS, rows, columns]`.
    fn run(&self, level: Level, tile: &mut [f32]) {
        let Self { s, grad, x, offsets, .. } = self;
        let (rows, cols) = block(level, s);
        assert_eq!(tile.len(), BLOCKS * rows * cols);
        assert_eq!(grad.padding.row, x.padding.row);
        // A vector that begins at the last pixel ends this far behind a plane's first.
        let reach = (s.out_h - 1) * x.padding.row + s.out_w + LINE - 1;
        let last = offsets.iter().max().map_or(0, |tap| tap + reach);
        assert!(grad.padding.plane >= grad.first + reach && self.channel >= last);
        assert!(grad.data.len() >= s.n * s.c_out * grad.padding.plane);
        assert!(x.data.len() >= s.n * s.c_in * self.channel);
        assert_eq!(offsets.len(), s.k_h * s.k_w);
        assert!(self.samples.end <= s.n && self.group < s.groups && level.is_available());
        // SAFETY: the CPU has the level, the planes hold every vector read, and the
        // tile holds the block: all checked above.
        unsafe {
            match level {
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 | Level::Avx512Vnni => {
                    self.run_avx512((rows, cols), tile);
                }
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 | Level::AvxVnni => self.run_avx2((rows, cols), tile),
                _ => self.run_small::<Plain>((rows, cols), tile),
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx2,fma")]
    unsafe fn run_avx512(&self, block: (usize, usize), tile: &mut [f32]) {
        use std::arch::x86_64::__m512;
        // SAFETY: as promised to this function.
        unsafe {
            match (block, self.in_threes()) {
                ((1, 9), true) => self.run_lanes::<__m512, 1, 3, 3>(tile),
                ((1, 9), false) => self.run_lanes::<__m512, 1, 9, 1>(tile),
                ((3, 8), _) => self.run_lanes::<__m512, 3, 8, 1>(tile),
                ((4, 4), _) => self.run_lanes::<__m512, 4, 4, 1>(tile),
                ((4, 6), true) => self.run_lanes::<__m512, 4, 2, 3>(tile),
                ((4, 6), false) => self.run_lanes::<__m512, 4, 6, 1>(tile),
                _ => unreachable!("`block` has no other sizes"),
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn run_avx2(&self, block: (usize, usize), tile: &mut [f32]) {
        // SAFETY: as promised to this function.
        unsafe { self.run_small::<std::arch::x86_64::__m256>(block, tile) }
    }

    /// Blocks for sixteen registers.
    #[inline(always)]
    unsafe fn run_small<S: Lanes>(&self, block: (usize, usize), tile: &mut [f32]) {
        // SAFETY: as promised to this function.
        unsafe {
            match (block, self.in_threes()) {
                ((1, 9), true) => self.run_lanes::<S, 1, 3, 3>(tile),
                ((1, 9), false) => self.run_lanes::<S, 1, 9, 1>(tile),
                ((2, 6), true) => self.run_lanes::<S, 2, 2, 3>(tile),
                ((2, 6), false) => self.run_lanes::<S, 2, 6, 1>(tile),
                ((3, 3), true) => self.run_lanes::<S, 3, 1, 3>(tile),
                ((3, 3), false) => self.run_lanes::<S, 3, 3, 1>(tile),
                _ => unreachable!("`block` has no other sizes"),
            }
        }
    }

    /// Whether every three columns from a multiple of three on are taps side by side, which then
    /// share a pointer.
    fn in_threes(&self) -> bool {
        let side_by_side = |taps: &[usize]| taps[1] == taps[0] + 1 && taps[2] == taps[0] + 2;
        self.offsets.len().is_multiple_of(3) && self.offsets.chunks_exact(3).all(side_by_side)
    }

    /// Blocks of `CO` output channels and `P` times `R` columns, each `R` side by side.
    #[inline(always)]
    unsafe fn run_lanes<S: Lanes, const CO: usize, const P: usize, const R: usize>(
        &self,
        tile: &mut [f32],
    ) {
        let t = P * R;
        let Self { s, grad, x, group, offsets, .. } = self;
        let (o_group, c_group) = (s.c_out / s.groups, s.c_in / s.groups);
        let (taps, columns) = (offsets.len(), c_group * offsets.len());
        let live = (columns - self.column).div_ceil(t).min(BLOCKS);
        let row = x.padding.row;
        // Rows that vectors walk one by one, or one that runs through all.
        let span = x.padding.span(s.out_w, S::LEN);
        let run_on = span < s.out_w.next_multiple_of(S::LEN);
        let (h, w) = if run_on { (1, (s.out_h - 1) * row + s.out_w) } else { (s.out_h, s.out_w) };
        let planes = CO + (BLOCKS * t).div_ceil(taps).min(c_group);
        let stretch = STRETCH_BYTES / (size_of::<f32>() * planes);
        let (rows, cols) = match run_on {
            true => (1, (stretch / LINE * LINE).max(LINE)),
            false => ((stretch / row).max(1), w),
        };
        // SAFETY: channels and columns are clamped to the last (a repeat's result is not used);
        // `run` checked that planes of that many channels hold every vector.
        unsafe {
            let mut sums = [[[[S::splat(0.0); R]; P]; CO]; BLOCKS];
            for n in self.samples.clone() {
                let g: [*const f32; CO] = std::array::from_fn(|c| {
                    let plane = n * s.c_out + group * o_group + (self.row + c).min(o_group - 1);
                    grad.data.as_ptr().add(plane * grad.padding.plane + grad.first)
                });
                let x: [[*const f32; P]; BLOCKS] = std::array::from_fn(|block| {
                    std::array::from_fn(|p| {
                        let column = (self.column + block * t + p * R).min(columns - R);
                        let plane = n * s.c_in + group * c_group + column / taps;
                        x.data.as_ptr().add(plane * self.channel + offsets[column % taps])
                    })
                });
                for y in (0..h).step_by(rows) {
                    for at in (0..w).step_by(cols) {
                        let size = (rows.min(h - y), cols.min(w - at));
                        let start = y * row + at;
                        for (sums, x) in sums[..live].iter_mut().zip(&x) {
                            let (g, x) = (g.map(|g| g.add(start)), x.map(|x| x.add(start)));
                            correlate::<S, CO, P, R>(sums, g, x, row, size);
                        }
                    }
                }
            }
            for (tile, sums) in tile.chunks_exact_mut(t).zip(sums.as_flattened()) {
                for (value, sum) in tile.iter_mut().zip(sums.as_flattened()) {
                    let mut lanes = [0.0; LINE];
                    sum.store(lanes.as_mut_ptr());
                    *value = add_up(lanes);
                }
            }
        }
    }
}

/// Adds the products over `h` rows of `w` pixels, lane by lane.
///
/// # Safety
/// The CPU level of `S`; `h` rows of `w` values, rounded up to whole vectors, at each pointer and
/// `R - 1` values further in `x`.
#[expect(clippy::needless_range_loop, reason = "iterators here spill the sums")]
#[inline(always)]
unsafe fn correlate<S: Lanes, const CO: usize, const P: usize, const R: usize>(
    total: &mut [[[S; R]; P]; CO],
    g: [*const f32; CO],
    x: [*const f32; P],
    row: usize,
    (h, w): (usize, usize),
) {
    // SAFETY: as promised to this function.
    unsafe {
        let mut sums = *total;
        for y in 0..h {
            for at in (0..w).step_by(S::LEN) {
                let at = y * row + at;
                let gs = g.map(|g| S::load(g.add(at)));
                for p in 0..P {
                    for r in 0..R {
                        let x = S::load(x[p].add(at + r));
                        for o in 0..CO {
                            sums[o][p][r] = gs[o].mul_add(x, sums[o][p][r]);
                        }
                    }
                }
            }
        }
        *total = sums;
    }
}
