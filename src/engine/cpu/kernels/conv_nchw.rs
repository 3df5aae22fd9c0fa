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
use super::{ConvShape, conv_nchw_3x3, conv_nchw_depthwise, level::Level};
use rayon::prelude::*;
use std::borrow::Cow;
use std::mem::MaybeUninit;

/// Kernels rearranged to `[B, groups, ⌈C_out / block⌉, C_in, taps, block]`, channels counted in a
/// group, zero where the last block has no channel.
pub(super) struct Packed {
    data: Scratch,
    /// Output channels and vectors of pixels in a block.
    pub(super) block: (usize, usize),
    /// Length of one group of one set.
    group_len: usize,
    c_in: usize,
    c_out: usize,
}

impl Packed {
    /// For the forward pass.
    pub(super) fn forward(level: Level, s: &ConvShape, weight: &[f32]) -> Self {
        let (c_in, c_out) = (s.c_in / s.groups, s.c_out / s.groups);
        let block = block(level, c_out, s.out_h * s.out_w);
        let len = c_in * s.k_h * s.k_w;
        Self::new(s, block, (c_in, c_out), len, weight, |kernels, first, to| match block.0 {
            8 => interleave::<8>(kernels, len, first, to),
            6 => interleave::<6>(kernels, len, first, to),
            4 => interleave::<4>(kernels, len, first, to),
            3 => interleave::<3>(kernels, len, first, to),
            _ => interleave::<1>(kernels, len, first, to),
        })
    }

    /// For the data gradient at the taps of these indices.
    pub(super) fn backward(level: Level, s: &ConvShape, indices: &[usize], weight: &[f32]) -> Self {
        let (c_in, c_out, taps) = (s.c_in / s.groups, s.c_out / s.groups, s.k_h * s.k_w);
        let block = block(level, c_in, s.h * s.w);
        let sizes = (taps, c_in);
        let len = c_out * indices.len();
        Self::new(s, block, (c_out, c_in), len, weight, |kernels, first, to| match block.0 {
            8 => transpose::<8>(kernels, sizes, indices, first, to),
            6 => transpose::<6>(kernels, sizes, indices, first, to),
            4 => transpose::<4>(kernels, sizes, indices, first, to),
            3 => transpose::<3>(kernels, sizes, indices, first, to),
            _ => transpose::<1>(kernels, sizes, indices, first, to),
        })
    }

    /// `pack` writes a block, `len` weights of each channel, given its group's kernels and its first
    /// output channel.
    fn new(
        s: &ConvShape,
        block: (usize, usize),
        (c_in, c_out): (usize, usize),
        len: usize,
        weight: &[f32],
        pack: impl Fn(&[f32], usize, &mut [f32]) + Sync,
    ) -> Self {
        let block_len = len * block.0;
        let blocks = c_out.div_ceil(block.0);
        let mut data = Scratch::take(4, s.sets * s.groups * blocks * block_len);
        let kernels = weight.len() / (s.sets * s.groups);
        // A phase may have no taps.
        data.as_mut().par_chunks_mut(block_len.max(1)).enumerate().for_each(|(i, to)| {
            pack(&weight[i / blocks * kernels..][..kernels], i % blocks * block.0, to);
        });
        Self { data, block, group_len: blocks * block_len, c_in, c_out }
    }

    /// The weights of a group of a set.
    pub(super) fn group(&self, index: usize) -> &[f32] {
        &self.data[index * self.group_len..][..self.group_len]
    }

    /// Hands the memory back to the thread.
    pub(super) fn keep(self) {
        self.data.keep(4);
    }
}

/// Packs `N` rows of kernels, each `len` values, from row `first` on; beyond the last, the last again.
fn interleave<const N: usize>(kernels: &[f32], len: usize, first: usize, to: &mut [f32]) {
    let last = kernels.len() / len - 1;
    let rows: [&[f32]; N] = std::array::from_fn(|c| &kernels[(first + c).min(last) * len..][..len]);
    for (i, to) in to.as_chunks_mut::<N>().0.iter_mut().enumerate() {
        for (to, row) in to.iter_mut().zip(rows) {
            *to = row[i];
        }
    }
}

/// Packs the taps of these indices of `N` input channels, as [`interleave`] does, from kernels
/// `[C_out, C_in, taps]`.
fn transpose<const N: usize>(
    kernels: &[f32],
    (taps, c_in): (usize, usize),
    indices: &[usize],
    first: usize,
    to: &mut [f32],
) {
    let places: [usize; N] = std::array::from_fn(|c| (first + c).min(c_in - 1) * taps);
    let kernels = kernels.chunks_exact(c_in * taps);
    let from = kernels.flat_map(|kernel| indices.iter().map(move |index| (kernel, *index)));
    for ((kernel, index), to) in from.zip(to.as_chunks_mut::<N>().0) {
        for (to, place) in to.iter_mut().zip(places) {
            *to = kernel[place + index];
        }
    }
}

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
    if conv_nchw_3x3::fits(level, s) {
        return conv_nchw_depthwise::forward_3x3(level, s, [x, weight, bias], slope, out);
    }
    let packed = Packed::forward(level, s, weight);
    convolve_maps_into(level, s, &packed, x, (Some(bias), slope), out);
    packed.keep();
}

/// Convolution of the maps by packed weights.
pub(super) fn convolve_maps(level: Level, s: &ConvShape, packed: &Packed, x: &[f32]) -> Vec<f32> {
    let len = s.out_len();
    let mut out = Vec::with_capacity(len);
    let to = &mut out.spare_capacity_mut()[..len];
    convolve_maps_into(level, s, packed, x, (None, 1.0), to);
    // SAFETY: all of the output was written.
    unsafe { out.set_len(len) };
    out
}

fn convolve_maps_into(
    level: Level,
    s: &ConvShape,
    packed: &Packed,
    x: &[f32],
    (bias, slope): (Option<&[f32]>, f32),
    out: &mut [MaybeUninit<f32>],
) {
    assert_eq!(x.len(), s.x_len());
    let source = Source::Maps { data: x, s, taps: &InputTaps::for_convolution(s) };
    let target = Target {
        n: s.n,
        sets: s.sets,
        groups: s.groups,
        h: s.out_h,
        w: s.out_w,
        first: (0, 0),
        step: 1,
        map: (s.out_h, s.out_w),
        bias,
        slope,
    };
    convolve(level, packed, &source, &target, out);
}

/// Padded bytes a tile should not exceed, so that they stay in the second cache.
const TILE_BYTES: usize = 384 << 10;
/// Columns of a tile where the map is wider than `TILE_COLS_MAX`.
const TILE_COLS: usize = 128;
/// The same where it is one long row: a multiple of these, of so many bytes.
const LONG_COLS: usize = 192;
const LONG_BYTES: usize = 128 << 10;
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
    let cols = match t.w {
        w if w <= TILE_COLS_MAX => w,
        w if t.h == 1 => {
            let by_cache = LONG_BYTES / (size_of::<f32>() * c_in * planes);
            (by_cache / LONG_COLS * LONG_COLS).clamp(LONG_COLS, w)
        }
        _ => TILE_COLS,
    };
    let row = Padding::row(cols, halo.1);
    let by_cache = TILE_BYTES / (size_of::<f32>() * c_in * planes * row);
    let by_threads = (t.h * t.n * t.groups).div_ceil(4 * rayon::current_num_threads());
    let rows = by_cache.saturating_sub(halo.0).min(by_threads).clamp(4, t.h.max(4));
    let (across, down) = (t.w.div_ceil(cols), t.h.div_ceil(rows));

    let to = OutPtr::new(out);
    (0..t.n * t.groups * down * across).into_par_iter().for_each(|i| {
        let (n, group) = (i / (down * across * t.groups), i / (down * across) % t.groups);
        let (y, x) = (i / across % down * rows, i % across * cols);
        let (set, maps) = (n / (t.n / t.sets), n * t.groups + group);
        let pixel = (t.first.0 + y * t.step) * t.map.1 + t.first.1 + x * t.step;
        let mut tile = Tile {
            x: &[],
            padding: Padding::new(rows.min(t.h - y) + halo.0, row),
            channel: 0,
            offsets: Cow::Borrowed(&[]),
            block: p.block,
            weight: p.group(set * t.groups + group),
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
                if [tile.padding.row, tile.out_row] == [tile.cols; 2] && tile.step == 1 {
                    // Row follows row on either side: one long row.
                    (tile.rows, tile.cols) = (1, tile.rows * tile.cols);
                    tile.padding.row = tile.cols;
                }
                run(&tile);
                scratch.keep(0);
            }
        }
    });
}

/// Start of the output, shared by tasks that write disjoint parts of it.
pub(super) struct OutPtr(*mut f32);

// SAFETY: the tasks write disjoint parts, and nothing reads before they are done.
unsafe impl Sync for OutPtr {}

impl OutPtr {
    /// `T` is f32, written before or not.
    pub(super) fn new<T>(out: &mut [T]) -> Self {
        assert_eq!(size_of::<T>(), size_of::<f32>());
        Self(out.as_mut_ptr().cast())
    }

    pub(super) fn at(&self, index: usize) -> *mut f32 {
        self.0.wrapping_add(index)
    }
}
