//! Direct f32 convolution for square kernels of 1, 3 or 5 taps a side at stride 1.
//!
//! Vectors run along x. A tile keeps `CO` output channels of `V` vectors in
//! registers while it walks all input channels and taps of a zero-padded copy of
//! the input. The data gradient is the same walk over the padded gradient, with
//! kernels transposed and turned by 180°.
//!
//! Invariant: a pixel's sum runs over input channels, then taps, in order, however
//! the map is cut.

use super::lanes::{LINE, Lanes, Plain};
use super::padded::{Padding, Scratch};
use super::{ConvShape, level::Level};
use rayon::prelude::*;

/// Whether this module has a kernel for the shape.
pub(super) fn fits(s: &ConvShape) -> bool {
    let [k, ones] = [s.k_h, s.stride * s.dilation * s.groups];
    ones == 1 && matches!(k, 1 | 3 | 5) && s.k_w == k && s.padding < k
}

/// Output channels per tile.
fn block(level: Level) -> usize {
    match level {
        Level::Avx512 | Level::Avx512Vnni | Level::Avx512Fp16 => 8,
        Level::AvxVnni | Level::Avx2 | Level::Scalar => 4,
    }
}

/// Kernels rearranged to `[B, ⌈C_out / block⌉, C_in, K, K, block]`, zero where the
/// last block has no channel.
pub(super) struct Packed {
    data: Vec<f32>,
    set_len: usize,
    block: usize,
    k: usize,
    c_in: usize,
    c_out: usize,
}

impl Packed {
    /// For the forward pass.
    fn forward(level: Level, s: &ConvShape, weight: &[f32]) -> Self {
        let (k, c_in) = (s.k_h, s.c_in);
        Self::new(level, k, (s.c_in, s.c_out), s.sets, |set, co, ci, tap| {
            weight[((set * s.c_out + co) * c_in + ci) * k * k + tap]
        })
    }

    /// For the data gradient: channels swapped, taps reversed.
    pub(super) fn backward(level: Level, s: &ConvShape, weight: &[f32]) -> Self {
        let (k, c_in) = (s.k_h, s.c_in);
        Self::new(level, k, (s.c_out, s.c_in), s.sets, |set, ci, co, tap| {
            weight[((set * s.c_out + co) * c_in + ci + 1) * k * k - 1 - tap]
        })
    }

    fn new(
        level: Level,
        k: usize,
        (c_in, c_out): (usize, usize),
        sets: usize,
        weight: impl Fn(usize, usize, usize, usize) -> f32 + Sync,
    ) -> Self {
        let block = block(level);
        let block_len = c_in * k * k * block;
        let blocks = c_out.div_ceil(block);
        let mut data = vec![0.0; sets * blocks * block_len];
        data.par_chunks_mut(block_len).enumerate().for_each(|(i, chunk)| {
            let (set, first) = (i / blocks, i % blocks * block);
            for (j, values) in chunk.chunks_exact_mut(block).enumerate() {
                for (co, value) in (first..c_out).zip(values) {
                    *value = weight(set, co, j / (k * k), j % (k * k));
                }
            }
        });
        Self { data, set_len: blocks * block_len, block, k, c_in, c_out }
    }
}

/// Where a convolution reads.
pub(super) enum Source<'a> {
    /// Maps `[N, C, h, w]`, to be padded tile by tile.
    Maps { data: &'a [f32], h: usize, w: usize, padding: usize },
    /// Planes padded beforehand, `C` to a sample.
    Padded { data: &'a [f32], padding: Padding },
}

/// What a convolution writes, `[N, C_out, h, w]`.
pub(super) struct Target<'a> {
    pub(super) n: usize,
    pub(super) h: usize,
    pub(super) w: usize,
    pub(super) sets: usize,
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
    assert!(fits(s));
    assert_eq!(x.len(), s.x_len());
    assert_eq!(weight.len(), s.weight_len());
    assert_eq!(bias.len(), s.sets * s.c_out);
    let packed = Packed::forward(level, s, weight);
    let source = Source::Maps { data: x, h: s.h, w: s.w, padding: s.padding };
    let target = Target { n: s.n, h: s.out_h, w: s.out_w, sets: s.sets, bias: Some(bias), slope };
    convolve(level, &packed, &source, &target)
}

/// Padded bytes a tile should not exceed, so that they stay in the second cache.
const TILE_BYTES: usize = 384 << 10;
/// Columns of a tile where the map is wider than `TILE_COLS_MAX`.
const TILE_COLS: usize = 128;
const TILE_COLS_MAX: usize = 192;

/// Convolves tile by tile, in parallel.
pub(super) fn convolve(level: Level, p: &Packed, source: &Source<'_>, t: &Target<'_>) -> Vec<f32> {
    let Packed { k, c_in, c_out, .. } = *p;
    let cols = if t.w <= TILE_COLS_MAX { t.w } else { TILE_COLS };
    let reach = cols.next_multiple_of(LINE) + k - 1;
    let by_cache = TILE_BYTES / (size_of::<f32>() * c_in * reach.next_multiple_of(LINE));
    let by_threads = (t.h * t.n).div_ceil(4 * rayon::current_num_threads());
    let rows = by_cache.saturating_sub(k - 1).min(by_threads).clamp(4, t.h.max(4));
    let (across, down) = (t.w.div_ceil(cols), t.h.div_ceil(rows));

    let len = t.n * c_out * t.h * t.w;
    let mut out = Vec::<f32>::with_capacity(len);
    let to = OutPtr(out.as_mut_ptr());
    (0..t.n * down * across).into_par_iter().for_each(|i| {
        let (n, y, x) = (i / (down * across), i / across % down * rows, i % across * cols);
        let set = n / (t.n / t.sets);
        let mut tile = Tile {
            x: &[],
            padding: Padding::new(rows.min(t.h - y) + k - 1, reach),
            weight: &p.data[set * p.set_len..][..p.set_len],
            bias: t.bias.map(|bias| &bias[set * c_out..][..c_out]),
            slope: t.slope,
            out: to.at(n * c_out * t.h * t.w + y * t.w + x),
            out_row: t.w,
            out_plane: t.h * t.w,
            rows: rows.min(t.h - y),
            cols: cols.min(t.w - x),
            c_in,
            c_out,
        };
        // SAFETY: the tile's rows and columns lie within the map, whose memory the
        // vector owns; no two tiles share a pixel.
        let run = |tile: &Tile<'_>| unsafe { tile.run(level, p) };
        match *source {
            Source::Padded { data, padding } => {
                let start = n * c_in * padding.plane + y * padding.row + x;
                tile.x = &data[start..];
                tile.padding = padding;
                run(&tile);
            }
            Source::Maps { data, h, w, padding } => {
                let plane = tile.padding.plane;
                let mut scratch = Scratch::take(0, c_in * plane);
                let corner = (y as isize - padding as isize, x as isize - padding as isize);
                for (c, to) in scratch.as_mut().chunks_exact_mut(plane).enumerate() {
                    let from = &data[(n * c_in + c) * h * w..][..h * w];
                    tile.padding.fill(to, corner, (h, w), |to, at| {
                        to.copy_from_slice(&from[at..at + to.len()]);
                    });
                }
                tile.x = &scratch;
                run(&tile);
                scratch.keep(0);
            }
        }
    });
    // SAFETY: the tiles cover every pixel of every channel, and all are written.
    unsafe { out.set_len(len) };
    out
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

/// A rectangle of one sample's output, all channels.
struct Tile<'a> {
    /// Padded input from the rectangle's top left tap on.
    x: &'a [f32],
    padding: Padding,
    weight: &'a [f32],
    bias: Option<&'a [f32]>,
    slope: f32,
    out: *mut f32,
    out_row: usize,
    out_plane: usize,
    rows: usize,
    cols: usize,
    c_in: usize,
    c_out: usize,
}

impl Tile<'_> {
    /// Computes the rectangle.
    ///
    /// # Safety
    /// `out` is valid for writes to the rectangle in each of `c_out` planes, and no
    /// other thread uses those pixels meanwhile.
    unsafe fn run(&self, level: Level, p: &Packed) {
        let reach = self.cols.next_multiple_of(LINE) + p.k - 1;
        let last = (self.c_in - 1) * self.padding.plane + (self.rows + p.k - 2) * self.padding.row;
        assert!(self.x.len() >= last + reach);
        assert!(p.block == block(level) && level.is_available());
        let block_len = self.c_in * p.k * p.k * p.block;
        assert_eq!(self.weight.len(), self.c_out.div_ceil(p.block) * block_len);
        assert!(self.bias.is_none_or(|bias| bias.len() == self.c_out));
        // SAFETY: the input reaches the last vector of the last tap and the weights
        // hold all blocks (both checked above), the CPU has the level (checked), and
        // the caller vouches for the output.
        unsafe {
            match level {
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 | Level::Avx512Vnni | Level::Avx512Fp16 => self.run_avx512(p.k),
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 | Level::AvxVnni => self.run_avx2(p.k),
                _ => self.run_lanes::<Plain, 4, 2>(p.k),
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx2,fma")]
    unsafe fn run_avx512(&self, k: usize) {
        // SAFETY: as promised to this function.
        unsafe { self.run_lanes::<std::arch::x86_64::__m512, 8, 3>(k) }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn run_avx2(&self, k: usize) {
        // SAFETY: as promised to this function.
        unsafe { self.run_lanes::<std::arch::x86_64::__m256, 4, 2>(k) }
    }

    #[inline(always)]
    unsafe fn run_lanes<S: Lanes, const CO: usize, const V: usize>(&self, k: usize) {
        // SAFETY: as promised to this function.
        unsafe {
            match k {
                1 => self.run_kernel::<S, CO, V, 1>(),
                3 => self.run_kernel::<S, CO, V, 3>(),
                5 => self.run_kernel::<S, CO, V, 5>(),
                _ => unreachable!("`fits` allows 1, 3 and 5"),
            }
        }
    }

    /// Vectors are numbered row by row and taken `V` at a time, so that narrow maps
    /// fill the registers too.
    #[inline(always)]
    unsafe fn run_kernel<S: Lanes, const CO: usize, const V: usize, const K: usize>(&self) {
        let per_row = self.cols.div_ceil(S::LEN);
        let vectors = self.rows * per_row;
        let Padding { row, plane, .. } = self.padding;
        for first in (0..self.c_out).step_by(CO) {
            let mut bias = [0.0; CO];
            for (c, bias) in (first..self.c_out).zip(&mut bias) {
                *bias = self.bias.map_or(0.0, |bias| bias[c]);
            }
            let weight = self.weight[first * self.c_in * K * K..].as_ptr();
            let (mut y, mut x) = (0, 0);
            for at in (0..vectors).step_by(V) {
                let mut place = [(y, x); V];
                for (v, place) in place.iter_mut().enumerate() {
                    // Beyond the last vector, the last one again.
                    *place = (y, x);
                    if at + v + 1 < vectors {
                        x += S::LEN;
                        if x >= self.cols {
                            (y, x) = (y + 1, 0);
                        }
                    }
                }
                // SAFETY: `run` checked input and weights; stores stay within the
                // rectangle's rows and columns and the live channels.
                unsafe {
                    let input = place.map(|(y, x)| self.x.as_ptr().add(y * row + x));
                    let steps = (row, plane);
                    let sums = accumulate::<S, CO, V, K>(input, steps, self.c_in, weight, &bias);
                    let slope = S::splat(self.slope);
                    for (c, sums) in sums.into_iter().enumerate() {
                        if first + c < self.c_out {
                            let to = self.out.add((first + c) * self.out_plane);
                            for (sum, (y, x)) in sums.into_iter().zip(place) {
                                let to = to.add(y * self.out_row + x);
                                store(sum.leaky(slope), to, self.cols - x);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Sums of `CO` channels for `V` vectors of pixels.
///
/// # Safety
/// The CPU level of `S`; each input pointer readable at every tap of `c_in` planes;
/// `c_in * K * K * CO` weights.
#[inline(always)]
unsafe fn accumulate<S: Lanes, const CO: usize, const V: usize, const K: usize>(
    input: [*const f32; V],
    (row, plane): (usize, usize),
    c_in: usize,
    mut weight: *const f32,
    bias: &[f32; CO],
) -> [[S; V]; CO] {
    // SAFETY: as promised to this function.
    unsafe {
        let mut sums = bias.map(|bias| [S::splat(bias); V]);
        for c in 0..c_in {
            for ky in 0..K {
                let offset = c * plane + ky * row;
                for kx in 0..K {
                    let x = input.map(|input| S::load(input.add(offset + kx)));
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
        sums
    }
}

/// Stores the first `room` values of a vector, or all where there is room.
///
/// # Safety
/// The CPU level of `S`; `to` writable for that many values.
#[inline(always)]
unsafe fn store<S: Lanes>(v: S, to: *mut f32, room: usize) {
    // SAFETY: `part` holds the longest vector; the caller vouches for `to`.
    unsafe {
        if room >= S::LEN {
            v.store(to);
        } else {
            let mut part = [0.0; LINE];
            v.store(part.as_mut_ptr());
            std::ptr::copy_nonoverlapping(part.as_ptr(), to, room);
        }
    }
}
