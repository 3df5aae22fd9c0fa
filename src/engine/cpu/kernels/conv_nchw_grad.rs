//! Gradients of the direct f32 convolution.
//!
//! Gradient and input are padded once. The data gradient is a convolution; the
//! weight gradient multiplies vectors of pixels, keeping a block of kernels in
//! registers, and adds up a vector's lanes at the end.

use super::conv_nchw::{Packed, Source, Target, convolve, fits};
use super::lanes::{LINE, Lanes, Plain};
use super::padded::{Padding, Scratch};
use super::{Backward, ConvShape, Gradients, Wanted, level::Level};
use rayon::prelude::*;

/// Gradients of [`super::conv_nchw::forward`].
pub(super) fn backward(
    level: Level,
    s: &ConvShape,
    b: &Backward<'_, f32>,
    wanted: Wanted,
) -> Gradients<f32> {
    assert!(fits(s));
    assert_eq!(b.x.len(), s.x_len());
    assert_eq!(b.weight.len(), s.weight_len());
    assert_eq!(b.out.len(), s.out_len());
    assert_eq!(b.grad.len(), s.out_len());
    let k = s.k_h;
    // A full correlation: every input pixel sees every tap.
    let margin = k - 1 - s.padding;
    let reach = (s.w.next_multiple_of(LINE) + k - 1).max(margin + s.out_w.next_multiple_of(LINE));
    let padding = Padding::new(s.h + k - 1, reach);
    let mut scratch = Scratch::take(1, s.n * s.c_out * padding.plane);
    let sums = pad_gradient(s, b, padding, scratch.as_mut(), wanted.bias);
    let gradients = Gradients {
        x: wanted.x.then(|| {
            let target = Target { n: s.n, h: s.h, w: s.w, sets: s.sets, bias: None, slope: 1.0 };
            let source = Source::Padded { data: &scratch, padding };
            convolve(level, &Packed::backward(level, s, b.weight), &source, &target)
        }),
        weight: wanted.weight.then(|| {
            let grad = Planes { data: &scratch, padding };
            grad_weight(level, s, b.x, grad)
        }),
        bias: wanted.bias.then(|| grad_bias(s, &sums)),
    };
    scratch.keep(1);
    gradients
}

/// Writes the gradient before the activation, padded, and returns its sum over
/// each plane `[N, C_out]` if asked to.
fn pad_gradient(
    s: &ConvShape,
    b: &Backward<'_, f32>,
    padding: Padding,
    to: &mut [f32],
    sum: bool,
) -> Vec<f32> {
    let margin = (s.k_h - 1 - s.padding) as isize;
    let pixels = s.out_h * s.out_w;
    let mut sums = vec![0.0; s.n * s.c_out];
    let planes = to.par_chunks_mut(padding.plane).zip(&mut sums).enumerate();
    planes.for_each(|(i, (to, total))| {
        let grad = &b.grad[i * pixels..][..pixels];
        let out = &b.out[i * pixels..][..pixels];
        let mut lanes = [0.0; LINE];
        padding.fill(to, (-margin, -margin), (s.out_h, s.out_w), |to, at| {
            let (grad, out) = (&grad[at..at + to.len()], &out[at..at + to.len()]);
            if b.slope == 1.0 {
                to.copy_from_slice(grad);
            } else {
                for ((to, &g), &o) in to.iter_mut().zip(grad).zip(out) {
                    *to = if o > 0.0 { g } else { g * b.slope };
                }
            }
            if sum {
                for part in to.chunks(LINE) {
                    for (lane, &g) in lanes.iter_mut().zip(part) {
                        *lane += g;
                    }
                }
            }
        });
        *total = add_up(lanes);
    });
    sums
}

/// Sum by halves.
#[inline(always)]
fn add_up(mut lanes: [f32; LINE]) -> f32 {
    let mut half = LINE / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

fn grad_bias(s: &ConvShape, sums: &[f32]) -> Vec<f32> {
    let mut bias = vec![0.0; s.sets * s.c_out];
    for (n, sums) in sums.chunks_exact(s.c_out).enumerate() {
        let bias = &mut bias[s.set_of(n) * s.c_out..][..s.c_out];
        for (bias, sum) in bias.iter_mut().zip(sums) {
            *bias += sum;
        }
    }
    bias
}

/// Padded planes of all samples and channels.
#[derive(Clone, Copy)]
struct Planes<'a> {
    data: &'a [f32],
    padding: Padding,
}

/// Output and input channels of a block of kernels.
fn block(level: Level, k: usize) -> (usize, usize) {
    match (level, k) {
        (Level::Avx512 | Level::Avx512Vnni | Level::Avx512Fp16, 1) => (4, 4),
        (Level::Avx512 | Level::Avx512Vnni | Level::Avx512Fp16, 3) => (4, 2),
        (Level::Avx512 | Level::Avx512Vnni | Level::Avx512Fp16, _) => (4, 1),
        (_, 1) => (4, 2),
        (_, 3) => (2, 2),
        _ => (2, 1),
    }
}

fn grad_weight(level: Level, s: &ConvShape, x: &[f32], grad: Planes<'_>) -> Vec<f32> {
    let k = s.k_h;
    let padding = Padding::new(s.out_h + k - 1, s.out_w.next_multiple_of(LINE) + k - 1);
    let mut scratch = Scratch::take(2, s.n * s.c_in * padding.plane);
    let planes = scratch.as_mut().par_chunks_mut(padding.plane);
    planes.zip(x.par_chunks(s.h * s.w)).for_each(|(to, x)| {
        let corner = -(s.padding as isize);
        padding.fill(to, (corner, corner), (s.h, s.w), |to, at| {
            to.copy_from_slice(&x[at..at + to.len()]);
        });
    });
    let x = Planes { data: &scratch, padding };

    let (block_out, block_in) = block(level, k);
    let (down, across) = (s.c_out.div_ceil(block_out), s.c_in.div_ceil(block_in));
    let (taps, tile) = (k * k, block_out * block_in * k * k);
    let mut tiles = vec![0.0; s.sets * down * across * tile];
    tiles.par_chunks_mut(tile).enumerate().for_each(|(i, tile)| {
        let work = Work {
            s,
            grad,
            x,
            set: i / (down * across),
            co: i / across % down * block_out,
            ci: i % across * block_in,
        };
        work.run(level, tile);
    });

    let mut dw = vec![0.0; s.weight_len()];
    for (i, dw) in dw.chunks_exact_mut(taps).enumerate() {
        let (set, co, ci) = (i / s.c_in / s.c_out, i / s.c_in % s.c_out, i % s.c_in);
        let at = (set * down + co / block_out) * across + ci / block_in;
        let within = co % block_out * block_in + ci % block_in;
        dw.copy_from_slice(&tiles[at * tile + within * taps..][..taps]);
    }
    scratch.keep(2);
    dw
}

/// One block of kernels of one set.
struct Work<'a> {
    s: &'a ConvShape,
    grad: Planes<'a>,
    x: Planes<'a>,
    set: usize,
    co: usize,
    ci: usize,
}

impl Work<'_> {
    /// Writes the block's gradient, `[CO, CI, K, K]`.
    fn run(&self, level: Level, tile: &mut [f32]) {
        let Self { s, grad, x, .. } = self;
        let (k, margin) = (s.k_h, s.k_h - 1 - s.padding);
        let across = s.out_w.next_multiple_of(LINE);
        let (block_out, block_in) = block(level, k);
        assert_eq!(tile.len(), block_out * block_in * k * k);
        assert!(grad.padding.rows >= margin + s.out_h && grad.padding.row >= margin + across);
        assert!(x.padding.rows >= s.out_h + k - 1 && x.padding.row >= across + k - 1);
        assert!(grad.data.len() >= s.n * s.c_out * grad.padding.plane);
        assert!(x.data.len() >= s.n * s.c_in * x.padding.plane);
        assert!(self.set < s.sets && level.is_available());
        // SAFETY: the CPU has the level, the planes hold every vector read, and the
        // tile holds the block: all checked above.
        unsafe {
            match level {
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 | Level::Avx512Vnni | Level::Avx512Fp16 => self.run_avx512(tile),
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 | Level::AvxVnni => self.run_avx2(tile),
                _ => self.run_small::<Plain>(tile),
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx2,fma")]
    unsafe fn run_avx512(&self, tile: &mut [f32]) {
        use std::arch::x86_64::__m512;
        // SAFETY: as promised to this function.
        unsafe {
            match self.s.k_h {
                1 => self.run_kernel::<__m512, 4, 4, 1>(tile),
                3 => self.run_kernel::<__m512, 4, 2, 3>(tile),
                _ => self.run_kernel::<__m512, 4, 1, 5>(tile),
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn run_avx2(&self, tile: &mut [f32]) {
        // SAFETY: as promised to this function.
        unsafe { self.run_small::<std::arch::x86_64::__m256>(tile) }
    }

    /// Blocks for sixteen registers.
    #[inline(always)]
    unsafe fn run_small<S: Lanes>(&self, tile: &mut [f32]) {
        // SAFETY: as promised to this function.
        unsafe {
            match self.s.k_h {
                1 => self.run_kernel::<S, 4, 2, 1>(tile),
                3 => self.run_kernel::<S, 2, 2, 3>(tile),
                _ => self.run_kernel::<S, 2, 1, 5>(tile),
            }
        }
    }

    #[inline(always)]
    unsafe fn run_kernel<S: Lanes, const CO: usize, const CI: usize, const K: usize>(
        &self,
        tile: &mut [f32],
    ) {
        let Self { s, grad, x, .. } = self;
        let margin = K - 1 - s.padding;
        let start = margin * grad.padding.row + margin;
        // SAFETY: channels are clamped to the last (a repeat's result is not used);
        // `run` checked that planes of that many channels hold every row and vector.
        unsafe {
            let mut sums = [[[[S::splat(0.0); K]; CI]; CO]; K];
            for n in s.samples_of(self.set) {
                let g: [*const f32; CO] = std::array::from_fn(|c| {
                    let plane = n * s.c_out + (self.co + c).min(s.c_out - 1);
                    grad.data.as_ptr().add(plane * grad.padding.plane + start)
                });
                let x_at: [*const f32; CI] = std::array::from_fn(|c| {
                    let plane = n * s.c_in + (self.ci + c).min(s.c_in - 1);
                    x.data.as_ptr().add(plane * x.padding.plane)
                });
                for (ky, sums) in sums.iter_mut().enumerate() {
                    let x_at = x_at.map(|x_at| x_at.add(ky * x.padding.row));
                    let rows = (grad.padding.row, x.padding.row);
                    correlate::<S, CO, CI, K>(sums, g, x_at, rows, (s.out_h, s.out_w));
                }
            }
            for (o, tile) in tile.chunks_exact_mut(CI * K * K).enumerate() {
                for (i, value) in tile.iter_mut().enumerate() {
                    let (c, ky, kx) = (i / (K * K), i / K % K, i % K);
                    let mut lanes = [0.0; LINE];
                    sums[ky][o][c][kx].store(lanes.as_mut_ptr());
                    *value = add_up(lanes);
                }
            }
        }
    }
}

/// Adds the products of a row of taps over a whole map, lane by lane.
///
/// # Safety
/// The CPU level of `S`; `h` rows of `w` values, rounded up to whole lines, at each
/// pointer, and `K - 1` more for the input.
#[expect(clippy::needless_range_loop, reason = "iterators here spill the sums")]
#[inline(always)]
unsafe fn correlate<S: Lanes, const CO: usize, const CI: usize, const K: usize>(
    total: &mut [[[S; K]; CI]; CO],
    g: [*const f32; CO],
    x: [*const f32; CI],
    (g_row, x_row): (usize, usize),
    (h, w): (usize, usize),
) {
    // SAFETY: as promised to this function.
    unsafe {
        let mut sums = *total;
        for y in 0..h {
            for at in (0..w).step_by(S::LEN) {
                let gs = g.map(|g| S::load(g.add(y * g_row + at)));
                for c in 0..CI {
                    for kx in 0..K {
                        let x = S::load(x[c].add(y * x_row + at + kx));
                        for o in 0..CO {
                            sums[o][c][kx] = gs[o].mul_add(x, sums[o][c][kx]);
                        }
                    }
                }
            }
        }
        *total = sums;
    }
}
