//! Gradients of the direct f32 convolution: the gradient is padded once, then read by the data
//! gradient, a convolution for each phase of the stride, and by the weight gradient.

use super::conv_nchw::{Packed, Source, Target, convolve};
use super::conv_nchw_weight::{self, Planes, add_up};
use super::conv_taps::{GradientTaps, InputTaps};
use super::lanes::LINE;
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
    assert_eq!(b.x.len(), s.x_len());
    assert_eq!(b.weight.len(), s.weight_len());
    assert_eq!(b.out.len(), s.out_len());
    assert_eq!(b.grad.len(), s.out_len());
    let (taps, input) = (GradientTaps::new(s), InputTaps::new(s));
    let (top, left) = taps.margin;
    // Both gradients walk rows of this length.
    let row = Padding::row(s.w.div_ceil(s.stride), taps.halo.1)
        .max(Padding::row(s.out_w, input.halo().1))
        .max(left + s.out_w);
    // Where a row has room for it, its pixels begin on a cache line; taps to the right of a row then
    // read the zeros before the next.
    let cols = s.w.div_ceil(s.stride);
    let shift = left.next_multiple_of(LINE) - left;
    let fits = left + shift + s.out_w <= row && shift + cols + taps.halo.1 <= row + 1;
    let shift = if fits { shift } else { 0 };
    let left = left + shift;
    let rows = (s.h.div_ceil(s.stride) + taps.halo.0).max(top + s.out_h);
    let padding = Padding::new(rows, row);
    let mut scratch = Scratch::take(1, s.n * s.c_out * padding.plane);
    let sums = pad_gradient(s, b, padding, (top, left), scratch.as_mut(), wanted.bias);
    let gradients = Gradients {
        x: wanted.x.then(|| grad_x(level, s, &taps, b.weight, &scratch[shift..], padding)),
        weight: wanted.weight.then(|| {
            let grad = Planes { data: &scratch, padding, first: top * row + left };
            conv_nchw_weight::grad_weight(level, s, &input, b.x, grad)
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
    (top, left): (usize, usize),
    to: &mut [f32],
    sum: bool,
) -> Vec<f32> {
    let corner = (-(top as isize), -(left as isize));
    let pixels = s.out_h * s.out_w;
    let mut sums = vec![0.0; s.n * s.c_out];
    let planes = to.par_chunks_mut(padding.plane).zip(&mut sums).enumerate();
    planes.for_each(|(i, (to, total))| {
        let grad = &b.grad[i * pixels..][..pixels];
        let out = &b.out[i * pixels..][..pixels];
        let mut lanes = [0.0; LINE];
        padding.fill(to, corner, 1, (s.out_h, s.out_w), |to, at| {
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

fn grad_x(
    level: Level,
    s: &ConvShape,
    taps: &GradientTaps,
    weight: &[f32],
    grad: &[f32],
    padding: Padding,
) -> Vec<f32> {
    let len = s.x_len();
    let mut dx = Vec::with_capacity(len);
    for phase in &taps.phases {
        let packed = Packed::backward(level, s, &phase.indices(), weight);
        let offsets = phase.offsets(padding);
        let source = Source::Padded { data: grad, padding, offsets: &offsets };
        let (y, x) = phase.phase;
        let target = Target {
            n: s.n,
            sets: s.sets,
            groups: s.groups,
            h: s.h.saturating_sub(y).div_ceil(s.stride),
            w: s.w.saturating_sub(x).div_ceil(s.stride),
            first: (y, x),
            step: s.stride,
            map: (s.h, s.w),
            bias: None,
            slope: 1.0,
        };
        convolve(level, &packed, &source, &target, &mut dx.spare_capacity_mut()[..len]);
        packed.keep();
    }
    // SAFETY: every pixel is in one of the phases, each of which was written.
    unsafe { dx.set_len(len) };
    dx
}
