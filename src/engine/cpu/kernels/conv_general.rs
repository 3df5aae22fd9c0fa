//! Convolution for any stride, dilation, groups and kernel size, in f32 or f64.
//!
//! Every loop ends in a row: at stride 1 that is a contiguous multiply-add, which
//! the compiler vectorises.

use super::{Backward, ConvShape, Gradients, Wanted};
use rayon::prelude::*;
use std::borrow::Cow;
use std::ops::{Add, AddAssign, Mul, Range};

/// What the kernels need of a float.
pub(crate) trait Real:
    Copy + Send + Sync + PartialOrd + Add<Output = Self> + Mul<Output = Self> + AddAssign + Default
{
    /// One.
    const ONE: Self;
}

impl Real for f32 {
    const ONE: Self = 1.0;
}

impl Real for f64 {
    const ONE: Self = 1.0;
}

/// Output indices whose input index `o * stride + tap - padding` lies in `0..len`.
fn valid(out_len: usize, len: usize, s: &ConvShape, tap: usize) -> Range<usize> {
    let hi = match (len + s.padding).checked_sub(tap) {
        None | Some(0) => 0,
        Some(span) => ((span - 1) / s.stride + 1).min(out_len),
    };
    let lo = s.padding.saturating_sub(tap).div_ceil(s.stride);
    lo.min(hi)..hi
}

/// `out[o] += w * x[o * stride + first]` over the pairs both slices hold.
fn axpy<T: Real>(out: &mut [T], w: T, x: &[T], stride: usize) {
    if stride == 1 {
        for (o, &v) in out.iter_mut().zip(x) {
            *o += w * v;
        }
    } else {
        for (o, &v) in out.iter_mut().zip(x.iter().step_by(stride)) {
            *o += w * v;
        }
    }
}

/// `Σ g[o] * x[o * stride]`, in eight interleaved sums so that it vectorises.
fn dot<T: Real>(g: &[T], x: &[T], stride: usize) -> T {
    const LANES: usize = 8;
    let mut lanes = [T::default(); LANES];
    let mut rest = T::default();
    if stride == 1 {
        let x = &x[..g.len()];
        let (mut gs, mut xs) = (g.chunks_exact(LANES), x.chunks_exact(LANES));
        for (g, x) in (&mut gs).zip(&mut xs) {
            for l in 0..LANES {
                lanes[l] += g[l] * x[l];
            }
        }
        for (&g, &x) in gs.remainder().iter().zip(xs.remainder()) {
            rest += g * x;
        }
    } else {
        for (&g, &x) in g.iter().zip(x.iter().step_by(stride)) {
            rest += g * x;
        }
    }
    lanes.into_iter().fold(rest, |sum, v| sum + v)
}

/// One pass over the taps of one (input plane, output plane) pair: `each` gets the
/// tap's index in the kernel, an output range and the input index of its first
/// pixel, row by row.
fn for_rows(s: &ConvShape, mut each: impl FnMut(usize, Range<usize>, usize)) {
    for ky in 0..s.k_h {
        let rows = valid(s.out_h, s.h, s, ky * s.dilation);
        for kx in 0..s.k_w {
            let cols = valid(s.out_w, s.w, s, kx * s.dilation);
            if cols.is_empty() {
                continue;
            }
            let ix = cols.start * s.stride + kx * s.dilation - s.padding;
            for oy in rows.clone() {
                let iy = oy * s.stride + ky * s.dilation - s.padding;
                let out = oy * s.out_w + cols.start..oy * s.out_w + cols.end;
                each(ky * s.k_w + kx, out, iy * s.w + ix);
            }
        }
    }
}

/// Convolution, bias and leaky ReLU (`slope` 1: none).
pub(crate) fn forward<T: Real>(
    s: &ConvShape,
    x: &[T],
    weight: &[T],
    bias: &[T],
    slope: T,
) -> Vec<T> {
    assert_eq!(x.len(), s.x_len());
    assert_eq!(weight.len(), s.weight_len());
    assert_eq!(bias.len(), s.sets * s.c_out);
    let (c_group, o_group) = (s.c_in / s.groups, s.c_out / s.groups);
    let (taps, plane) = (s.k_h * s.k_w, s.h * s.w);
    let mut out = vec![T::default(); s.out_len()];
    out.par_chunks_mut(s.out_h * s.out_w).enumerate().for_each(|(i, out)| {
        let (n, co) = (i / s.c_out, i % s.c_out);
        let kernel = s.set_of(n) * s.c_out + co;
        out.fill(bias[kernel]);
        for c in 0..c_group {
            let ci = co / o_group * c_group + c;
            let x = &x[(n * s.c_in + ci) * plane..][..plane];
            let w = &weight[(kernel * c_group + c) * taps..][..taps];
            for_rows(s, |tap, o, i| axpy(&mut out[o], w[tap], &x[i..], s.stride));
        }
        if slope != T::ONE {
            for v in out {
                // A NaN fails the comparison and stays a NaN.
                if *v < T::default() {
                    *v = *v * slope;
                }
            }
        }
    });
    out
}

/// Gradients of [`forward`].
pub(crate) fn backward<T: Real>(
    s: &ConvShape,
    b: &Backward<'_, T>,
    wanted: Wanted,
) -> Gradients<T> {
    assert_eq!(b.x.len(), s.x_len());
    assert_eq!(b.weight.len(), s.weight_len());
    assert_eq!(b.out.len(), s.out_len());
    assert_eq!(b.grad.len(), s.out_len());
    let grad: Cow<'_, [T]> = if b.slope == T::ONE {
        Cow::Borrowed(b.grad)
    } else {
        let sloped = |(&g, &o): (&T, &T)| if o > T::default() { g } else { g * b.slope };
        Cow::Owned(b.grad.par_iter().zip(b.out).map(sloped).collect())
    };
    Gradients {
        x: wanted.x.then(|| grad_x(s, b.weight, &grad)),
        weight: wanted.weight.then(|| grad_weight(s, b.x, &grad)),
        bias: wanted.bias.then(|| grad_bias(s, &grad)),
    }
}

fn grad_x<T: Real>(s: &ConvShape, weight: &[T], grad: &[T]) -> Vec<T> {
    let (c_group, o_group) = (s.c_in / s.groups, s.c_out / s.groups);
    let (taps, out_plane) = (s.k_h * s.k_w, s.out_h * s.out_w);
    let mut dx = vec![T::default(); s.x_len()];
    dx.par_chunks_mut(s.h * s.w).enumerate().for_each(|(i, dx)| {
        let (n, ci) = (i / s.c_in, i % s.c_in);
        for o in 0..o_group {
            let co = ci / c_group * o_group + o;
            let kernel = s.set_of(n) * s.c_out + co;
            let g = &grad[(n * s.c_out + co) * out_plane..][..out_plane];
            let w = &weight[(kernel * c_group + ci % c_group) * taps..][..taps];
            for_rows(s, |tap, o, i| {
                if s.stride == 1 {
                    axpy(&mut dx[i..], w[tap], &g[o], 1);
                } else {
                    for (d, &g) in dx[i..].iter_mut().step_by(s.stride).zip(&g[o]) {
                        *d += w[tap] * g;
                    }
                }
            });
        }
    });
    dx
}

fn grad_weight<T: Real>(s: &ConvShape, x: &[T], grad: &[T]) -> Vec<T> {
    let (c_group, o_group) = (s.c_in / s.groups, s.c_out / s.groups);
    let (taps, plane, out_plane) = (s.k_h * s.k_w, s.h * s.w, s.out_h * s.out_w);
    let mut dw = vec![T::default(); s.weight_len()];
    dw.par_chunks_mut(taps).enumerate().for_each(|(i, dw)| {
        let (kernel, c) = (i / c_group, i % c_group);
        let (set, co) = (kernel / s.c_out, kernel % s.c_out);
        let ci = co / o_group * c_group + c;
        for n in s.samples_of(set) {
            let x = &x[(n * s.c_in + ci) * plane..][..plane];
            let g = &grad[(n * s.c_out + co) * out_plane..][..out_plane];
            for_rows(s, |tap, o, i| dw[tap] += dot(&g[o], &x[i..], s.stride));
        }
    });
    dw
}

fn grad_bias<T: Real>(s: &ConvShape, grad: &[T]) -> Vec<T> {
    let plane = s.out_h * s.out_w;
    let mut db = vec![T::default(); s.sets * s.c_out];
    db.par_iter_mut().enumerate().for_each(|(i, db)| {
        let (set, co) = (i / s.c_out, i % s.c_out);
        for n in s.samples_of(set) {
            for row in grad[(n * s.c_out + co) * plane..][..plane].chunks(s.out_w) {
                *db += row.iter().fold(T::default(), |sum, &g| sum + g);
            }
        }
    });
    db
}
