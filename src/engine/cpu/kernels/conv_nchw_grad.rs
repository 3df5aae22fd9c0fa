//! Gradients of the direct f32 convolution. At stride 1 the data gradient is a convolution of the
//! output's gradient. For what is left the latter is padded once, then read by the data gradient, a
//! convolution for each phase of the stride, and by the weight gradient of few channels.

use super::conv_nchw::{Packed, Source, Target, convolve, convolve_maps};
use super::conv_nchw_depthwise::{self, total};
use super::conv_nchw_matrix;
use super::conv_nchw_weight::{self, Planes};
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
    if conv_nchw_depthwise::is_one(s) {
        return conv_nchw_depthwise::backward(level, s, b, wanted);
    }
    let mut sloped = Scratch::take(6, if b.slope == 1.0 { 0 } else { s.out_len() });
    let sums = before_activation(s, b, sloped.as_mut(), wanted.bias);
    let grad = if b.slope == 1.0 { b.grad } else { &sloped };
    let (as_forward, by_matrix) = (transposed(s), conv_nchw_matrix::pays(s));
    let padded = (wanted.x && as_forward.is_none()) || (wanted.weight && !by_matrix);
    let padded = padded.then(|| {
        let layout = GradientLayout::new(s);
        let mut data = Scratch::take(1, s.n * s.c_out * layout.padding.plane);
        let planes = data.as_mut().par_chunks_mut(layout.padding.plane);
        planes.zip(grad.par_chunks(s.out_h * s.out_w)).for_each(|(to, g)| layout.fill(s, to, g));
        (layout, data)
    });
    let x = wanted.x.then(|| match (&as_forward, &padded) {
        (Some(transposed), _) => grad_x_as_forward(level, s, transposed, b.weight, grad),
        (None, Some((layout, data))) => grad_x(level, s, layout, data, b.weight),
        (None, None) => unreachable!("padded above"),
    });
    let weight = wanted.weight.then(|| match &padded {
        Some((layout, data)) if !by_matrix => {
            conv_nchw_weight::grad_weight(level, s, &layout.input, b.x, layout.planes(data))
        }
        _ => conv_nchw_matrix::grad_weight(level, s, &InputTaps::new(s), b.x, grad),
    });
    if let Some((_, data)) = padded {
        data.keep(1);
    }
    sloped.keep(6);
    Gradients { x, weight, bias: wanted.bias.then(|| grad_bias(s, &sums)) }
}

/// Writes the gradient before the activation where that is another, and returns its sum over each
/// plane `[N, C_out]` if asked to.
fn before_activation(
    s: &ConvShape,
    b: &Backward<'_, f32>,
    sloped: &mut [f32],
    sum: bool,
) -> Vec<f32> {
    let pixels = s.out_h * s.out_w;
    let mut sums = vec![0.0; s.n * s.c_out];
    if b.slope == 1.0 {
        if sum {
            let planes = sums.par_iter_mut().zip(b.grad.par_chunks(pixels));
            planes.for_each(|(sum, grad)| *sum = total(grad));
        }
        return sums;
    }
    let planes = sloped.par_chunks_mut(pixels).zip(b.grad.par_chunks(pixels));
    let planes = planes.zip(b.out.par_chunks(pixels)).zip(&mut sums);
    planes.for_each(|(((to, grad), out), total_of)| {
        for ((to, &g), &o) in to.iter_mut().zip(grad).zip(out) {
            *to = if o > 0.0 { g } else { g * b.slope };
        }
        if sum {
            *total_of = total(to);
        }
    });
    sums
}

/// The convolution of the gradient that gives the input's, with the taps in reverse, if there is one.
fn transposed(s: &ConvShape) -> Option<ConvShape> {
    let reach = s.dilation * (s.k_h - 1);
    let fits = s.stride == 1 && s.k_h == s.k_w && s.padding <= reach;
    fits.then(|| ConvShape {
        c_in: s.c_out,
        h: s.out_h,
        w: s.out_w,
        c_out: s.c_in,
        padding: reach - s.padding,
        out_h: s.h,
        out_w: s.w,
        ..*s
    })
}

fn grad_x_as_forward(
    level: Level,
    s: &ConvShape,
    transposed: &ConvShape,
    weight: &[f32],
    grad: &[f32],
) -> Vec<f32> {
    let indices: Vec<usize> = (0..s.k_h * s.k_w).rev().collect();
    let packed = Packed::backward(level, s, &indices, weight);
    let dx = convolve_maps(level, transposed, &packed, grad);
    packed.keep();
    dx
}

/// Where the gradient lies within zeros around each plane.
pub(super) struct GradientLayout {
    pub(super) taps: GradientTaps,
    pub(super) input: InputTaps,
    pub(super) padding: Padding,
    /// Values that the planes begin later than they need to, for alignment.
    pub(super) shift: usize,
}

impl GradientLayout {
    pub(super) fn new(s: &ConvShape) -> Self {
        let (taps, input) = (GradientTaps::new(s), InputTaps::new(s));
        let (top, left) = taps.margin;
        // Both gradients walk rows of this length.
        let row = Padding::row(s.w.div_ceil(s.stride), taps.halo.1)
            .max(Padding::row(s.out_w, input.halo().1))
            .max(left + s.out_w);
        // Where a row has room for it, its pixels begin on a cache line; taps to the right of a row
        // then read the zeros before the next.
        let cols = s.w.div_ceil(s.stride);
        let shift = left.next_multiple_of(LINE) - left;
        let fits = left + shift + s.out_w <= row && shift + cols + taps.halo.1 <= row + 1;
        let shift = if fits { shift } else { 0 };
        let rows = (s.h.div_ceil(s.stride) + taps.halo.0).max(top + s.out_h);
        let padding = Padding::new(rows, row);
        Self { taps, input, padding, shift }
    }

    /// Writes one plane.
    pub(super) fn fill(&self, s: &ConvShape, to: &mut [f32], grad: &[f32]) {
        let (top, left) = self.taps.margin;
        let corner = (-(top as isize), -((left + self.shift) as isize));
        self.padding.fill(to, corner, 1, (s.out_h, s.out_w), |to, at| {
            to.copy_from_slice(&grad[at..at + to.len()]);
        });
    }

    /// The planes for the weight gradient.
    pub(super) fn planes<'a>(&self, data: &'a [f32]) -> Planes<'a> {
        let (top, left) = self.taps.margin;
        let first = top * self.padding.row + left + self.shift;
        Planes { data, padding: self.padding, first }
    }
}

pub(super) fn grad_bias(s: &ConvShape, sums: &[f32]) -> Vec<f32> {
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
    layout: &GradientLayout,
    grad: &[f32],
    weight: &[f32],
) -> Vec<f32> {
    let GradientLayout { taps, padding, shift, .. } = layout;
    let len = s.x_len();
    let mut dx = Vec::with_capacity(len);
    for phase in &taps.phases {
        let packed = Packed::backward(level, s, &phase.indices(), weight);
        let offsets = phase.offsets(*padding);
        let source = Source::Padded { data: &grad[*shift..], padding: *padding, offsets: &offsets };
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
