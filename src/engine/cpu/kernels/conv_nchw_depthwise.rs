//! Gradients of the f32 convolution whose groups have one channel on either side: all that is wanted
//! of a plane is computed while its padded copies are in the first cache.

use super::conv_nchw::Packed;
use super::conv_nchw_grad::{GradientLayout, grad_bias};
use super::conv_nchw_weight::{Planes, add_up, grad_kernel};
use super::conv_tile::Tile;
use super::lanes::LINE;
use super::padded::{Padding, Scratch};
use super::{Backward, ConvShape, Gradients, Wanted, level::Level};
use rayon::prelude::*;
use std::borrow::Cow;

/// Whether each channel is convolved by itself.
pub(super) fn is_one(s: &ConvShape) -> bool {
    s.c_in == s.groups && s.c_out == s.groups
}

/// As [`super::conv_nchw_grad::backward`].
pub(super) fn backward(
    level: Level,
    s: &ConvShape,
    b: &Backward<'_, f32>,
    wanted: Wanted,
) -> Gradients<f32> {
    let layout = GradientLayout::new(s);
    let (taps, pixels, plane) = (s.k_h * s.k_w, s.out_h * s.out_w, s.h * s.w);
    let phases = layout.taps.phases.iter();
    let phases: Vec<_> = phases
        .map(|phase| {
            let packed = Packed::backward(level, s, &phase.indices(), b.weight);
            (phase, phase.offsets(layout.padding), packed)
        })
        .collect();
    let input = Padding::new(s.out_h + layout.input.halo().0, layout.padding.row);
    let offsets = layout.input.offsets(input);
    let one = ConvShape { n: 1, sets: 1, groups: 1, c_in: 1, c_out: 1, ..*s };

    let len = if wanted.x { s.x_len() } else { 0 };
    let mut dx = Vec::with_capacity(len);
    let to = &mut dx.spare_capacity_mut()[..len];
    let mut to: Vec<_> = to.chunks_mut(plane).map(Some).collect();
    to.resize_with(s.n * s.groups, || None);
    let mut kernels = vec![0.0; s.n * s.groups * taps];
    let mut sums = vec![0.0; s.n * s.groups];
    let planes = to.into_par_iter().zip(kernels.par_chunks_mut(taps)).zip(&mut sums).enumerate();
    planes.for_each(|(i, ((dx, kernel), sum))| {
        let kernel_set = s.set_of(i / s.groups) * s.groups + i % s.groups;
        let mut padded = Scratch::take(0, layout.padding.plane);
        let grad = &b.grad[i * pixels..][..pixels];
        if b.slope == 1.0 {
            layout.fill(s, padded.as_mut(), grad);
            *sum = total(grad);
        } else {
            let mut sloped = Scratch::take(1, pixels);
            for ((to, &g), &o) in sloped.as_mut().iter_mut().zip(grad).zip(&b.out[i * pixels..]) {
                *to = if o > 0.0 { g } else { g * b.slope };
            }
            layout.fill(s, padded.as_mut(), &sloped);
            *sum = total(&sloped);
            sloped.keep(1);
        }
        if wanted.weight {
            let mut x = Scratch::take(2, layout.input.phases.len() * input.plane);
            layout.input.fill(s, input, x.as_mut(), &b.x[i * plane..][..plane], (0, 0));
            let x_planes = Planes { data: &x, padding: input, first: 0 };
            grad_kernel(level, &one, &offsets, x_planes, layout.planes(&padded), kernel);
            x.keep(2);
        }
        if let Some(dx) = dx {
            for (phase, offsets, packed) in &phases {
                let (y, x) = phase.phase;
                let tile = Tile {
                    x: &padded[layout.shift..],
                    padding: layout.padding,
                    channel: 0,
                    offsets: Cow::Borrowed(offsets),
                    block: packed.block,
                    weight: packed.group(kernel_set),
                    bias: None,
                    slope: 1.0,
                    out: dx.as_mut_ptr().cast::<f32>().wrapping_add(y * s.w + x),
                    out_row: s.w * s.stride,
                    out_plane: plane,
                    step: s.stride,
                    rows: s.h.saturating_sub(y).div_ceil(s.stride),
                    cols: s.w.saturating_sub(x).div_ceil(s.stride),
                    c_in: 1,
                    c_out: 1,
                };
                if tile.rows > 0 && tile.cols > 0 {
                    // SAFETY: the phase's pixels lie within the plane, which no other task has.
                    unsafe { tile.run(level) };
                }
            }
        }
        padded.keep(0);
    });
    // SAFETY: every pixel is in one of the phases, each of which was written.
    unsafe { dx.set_len(len) };
    phases.into_iter().for_each(|(.., packed)| packed.keep());

    let weight = wanted.weight.then(|| {
        let mut dw = vec![0.0; s.weight_len()];
        for (n, kernels) in kernels.chunks_exact(s.groups * taps).enumerate() {
            let dw = &mut dw[s.set_of(n) * s.groups * taps..][..s.groups * taps];
            for (dw, value) in dw.iter_mut().zip(kernels) {
                *dw += value;
            }
        }
        dw
    });
    let bias = wanted.bias.then(|| grad_bias(s, &sums));
    Gradients { x: wanted.x.then_some(dx), weight, bias }
}

/// Sum of a plane.
pub(super) fn total(grad: &[f32]) -> f32 {
    let mut lanes = [0.0; LINE];
    for part in grad.chunks(LINE) {
        for (lane, &g) in lanes.iter_mut().zip(part) {
            *lane += g;
        }
    }
    add_up(lanes)
}
