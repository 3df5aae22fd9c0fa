//! Direct f32 convolution of any geometry.
//!
//! Vectors run along x. A tile keeps `CO` output channels of `V` vectors in registers while it
//! walks all input channels of a group and all taps of a zero-padded copy of the input. The data
//! gradient is the same walk over the padded gradient, with channels swapped.
//!
//! Invariant: a pixel's sum runs over input channels, then taps, in order, however the map is cut.

use super::conv_taps::InputTaps;
use super::conv_tile::{Tile, block};
use super::padded::{Padding, Scratch};
use super::{ConvShape, level::Level};
use rayon::prelude::*;
use std::borrow::Cow;
use std::mem::MaybeUninit;

/// Kernels rearranged to `[B, groups, ⌈C_out / block⌉, C_in, taps, block]`, channels counted in a
/// group, zero where the last block has no channel.
pub(super) struct Packed {
    data: Scratch,
    /// Length of one group of one set.
    group_len: usize,
    c_in: usize,
    c_out: usize,
}

impl Packed {
    /// For the forward pass.
    fn forward(level: Level, s: &ConvShape, weight: &[f32]) -> Self {
        let (c_in, c_out, taps) = (s.c_in / s.groups, s.c_out / s.groups, s.k_h * s.k_w);
        let each = |kernels: &[f32], co: usize, mut to: Column<'_>| {
            for (value, to) in kernels[co * c_in * taps..][..c_in * taps].iter().zip(&mut to) {
                *to = *value;
            }
        };
        Self::new(level, s, (c_in, c_out), taps, weight, each)
    }

    /// For the data gradient at the taps of these indices.
    pub(super) fn backward(level: Level, s: &ConvShape, indices: &[usize], weight: &[f32]) -> Self {
        let (c_in, c_out, taps) = (s.c_in / s.groups, s.c_out / s.groups, s.k_h * s.k_w);
        let each = |kernels: &[f32], ci: usize, mut to: Column<'_>| {
            for co in 0..c_out {
                let kernel = &kernels[(co * c_in + ci) * taps..][..taps];
                for (index, to) in indices.iter().zip(&mut to) {
                    *to = kernel[*index];
                }
            }
        };
        Self::new(level, s, (c_out, c_in), indices.len(), weight, each)
    }

    /// `each` writes the weights of an output channel, `[C_in, taps]`, given its group's kernels.
    fn new(
        level: Level,
        s: &ConvShape,
        (c_in, c_out): (usize, usize),
        taps: usize,
        weight: &[f32],
        each: impl Fn(&[f32], usize, Column<'_>) + Sync,
    ) -> Self {
        let block = block(level, c_out);
        let block_len = c_in * taps * block;
        let blocks = c_out.div_ceil(block);
        let mut data = Scratch::take(4, s.sets * s.groups * blocks * block_len);
        let kernels = weight.len() / (s.sets * s.groups);
        // A phase may have no taps.
        data.as_mut().par_chunks_mut(block_len.max(1)).enumerate().for_each(|(i, chunk)| {
            let kernels = &weight[i / blocks * kernels..][..kernels];
            let first = i % blocks * block;
            if first + block > c_out {
                chunk.fill(0.0);
            }
            for c in first..c_out.min(first + block) {
                each(kernels, c, chunk[c - first..].iter_mut().step_by(block));
            }
        });
        Self { data, group_len: blocks * block_len, c_in, c_out }
    }

    /// Hands the memory back to the thread.
    pub(super) fn keep(self) {
        self.data.keep(4);
    }
}

/// One output channel's places in a block.
type Column<'a> = std::iter::StepBy<std::slice::IterMut<'a, f32>>;

/// Where a convolution reads.
pub(super) enum Source<'a> {
    /// The input's maps, to be padded tile by tile.
    Maps { data: &'a [f32], s: &'a ConvShape, taps: &'a InputTaps },
    /// Planes padded beforehand, one to a channel, and the offsets of the taps.
    Padded { data: &'a [f32], padding: Padding, offsets: &'a [usize] },
}

/// What a convolution writes: pixels `step` apart, from `first` on, of maps `[N, C_out, …]`.
pub(super) struct Target<'a> {
    pub(super) n: usize,
    pub(super) sets: usize,
    pub(super) groups: usize,
    /// Rows and columns of pixels.
    pub(super) h: usize,
    pub(super) w: usize,
    /// Row and column of the first.
    pub(super) first: (usize, usize),
    pub(super) step: usize,
    /// Rows and columns of the maps.
    pub(super) map: (usize, usize),
    /// `[B, C_out]`, or none for zeros.
    pub(super) bias: Option<&'a [f32]>,
    /// Slope below zero.
    pub(super) slope: f32,
}

/// Convolution, bias and leaky ReLU (`slope` 1: none).
pub(super) fn forward(
    level: Level,
    s: &ConvShape,
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    slope: f32,
) -> Vec<f32> {
    let len = s.out_len();
    let mut out = Vec::with_capacity(len);
    forward_into(level, s, [x, weight, bias], slope, &mut out.spare_capacity_mut()[..len]);
    // SAFETY: all of the output was written.
    unsafe { out.set_len(len) };
    out
}

/// [`forward`] that writes every value of `out`.
pub(super) fn forward_into(
    level: Level,
    s: &ConvShape,
    [x, weight, bias]: [&[f32]; 3],
    slope: f32,
    out: &mut [MaybeUninit<f32>],
) {
    assert_eq!(x.len(), s.x_len());
    assert_eq!(weight.len(), s.weight_len());
    assert_eq!(bias.len(), s.sets * s.c_out);
    let packed = Packed::forward(level, s, weight);
    let source = Source::Maps { data: x, s, taps: &InputTaps::new(s) };
    let target = Target {
        n: s.n,
        sets: s.sets,
        groups: s.groups,
        h: s.out_h,
        w: s.out_w,
        first: (0, 0),
        step: 1,
        map: (s.out_h, s.out_w),
        bias: Some(bias),
        slope,
    };
    convolve(level, &packed, &source, &target, out);
    packed.keep();
}

/// Padded bytes a tile should not exceed, so that they stay in the second cache.
const TILE_BYTES: usize = 384 << 10;
/// Columns of a tile where the map is wider than `TILE_COLS_MAX`.
const TILE_COLS: usize = 128;
const TILE_COLS_MAX: usize = 192;

/// Writes every pixel of the target, tile by tile, in parallel.
pub(super) fn convolve(
    level: Level,
    p: &Packed,
    source: &Source<'_>,
    t: &Target<'_>,
    out: &mut [MaybeUninit<f32>],
) {
    let Packed { c_in, c_out, .. } = *p;
    let plane = t.map.0 * t.map.1;
    assert_eq!(out.len(), t.n * t.groups * c_out * plane);
    assert!(t.h == 0 || t.first.0 + (t.h - 1) * t.step < t.map.0);
    assert!(t.w == 0 || t.first.1 + (t.w - 1) * t.step < t.map.1);
    if t.h == 0 || t.w == 0 {
        return;
    }
    let (halo, planes) = match source {
        Source::Maps { taps, .. } => (taps.halo(), taps.phases.len()),
        Source::Padded { .. } => ((0, 0), 1),
    };
    let cols = if t.w <= TILE_COLS_MAX { t.w } else { TILE_COLS };
    let row = Padding::row(cols, halo.1);
    let by_cache = TILE_BYTES / (size_of::<f32>() * c_in * planes * row);
    let by_threads = (t.h * t.n * t.groups).div_ceil(4 * rayon::current_num_threads());
    let rows = by_cache.saturating_sub(halo.0).min(by_threads).clamp(4, t.h.max(4));
    let (across, down) = (t.w.div_ceil(cols), t.h.div_ceil(rows));

    let to = OutPtr(out.as_mut_ptr().cast());
    (0..t.n * t.groups * down * across).into_par_iter().for_each(|i| {
        let (n, group) = (i / (down * across * t.groups), i / (down * across) % t.groups);
        let (y, x) = (i / across % down * rows, i % across * cols);
        let (set, maps) = (n / (t.n / t.sets), n * t.groups + group);
        let kernels = (set * t.groups + group) * p.group_len;
        let pixel = (t.first.0 + y * t.step) * t.map.1 + t.first.1 + x * t.step;
        let mut tile = Tile {
            x: &[],
            padding: Padding::new(rows.min(t.h - y) + halo.0, row),
            channel: 0,
            offsets: Cow::Borrowed(&[]),
            weight: &p.data[kernels..][..p.group_len],
            bias: t.bias.map(|bias| &bias[(set * t.groups + group) * c_out..][..c_out]),
            slope: t.slope,
            out: to.at(maps * c_out * plane + pixel),
            out_row: t.map.1 * t.step,
            out_plane: plane,
            step: t.step,
            rows: rows.min(t.h - y),
            cols: cols.min(t.w - x),
            c_in,
            c_out,
        };
        // SAFETY: the tile's pixels lie within the maps, which `out` holds (both checked above);
        // no two tiles share a pixel.
        let run = |tile: &Tile<'_>| unsafe { tile.run(level) };
        match *source {
            Source::Padded { data, padding, offsets } => {
                let start = maps * c_in * padding.plane + y * padding.row + x;
                (tile.x, tile.padding, tile.channel) = (&data[start..], padding, padding.plane);
                tile.offsets = Cow::Borrowed(offsets);
                run(&tile);
            }
            Source::Maps { data, s, taps } => {
                tile.channel = planes * tile.padding.plane;
                tile.offsets = Cow::Owned(taps.offsets(tile.padding));
                let mut scratch = Scratch::take(0, c_in * tile.channel);
                for (c, to) in scratch.as_mut().chunks_exact_mut(tile.channel).enumerate() {
                    let from = &data[(maps * c_in + c) * s.h * s.w..][..s.h * s.w];
                    taps.fill(s, tile.padding, to, from, (y, x));
                }
                tile.x = &scratch;
                run(&tile);
                scratch.keep(0);
            }
        }
    });
}

/// Start of the output, shared by tasks that write disjoint parts of it.
struct OutPtr(*mut f32);

// SAFETY: the tasks write disjoint parts, and nothing reads before they are done.
unsafe impl Sync for OutPtr {}

impl OutPtr {
    fn at(&self, index: usize) -> *mut f32 {
        self.0.wrapping_add(index)
    }
}
