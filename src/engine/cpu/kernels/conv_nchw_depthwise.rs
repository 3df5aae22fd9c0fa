//! The f32 convolution whose groups have one channel on either side. Its gradients: all that is
//! wanted of a plane is computed while its padded copies are in the first cache.

use super::conv_nchw::{OutPtr, Packed};
use super::conv_nchw_3x3::{self, Forward, Gradient, TAPS};
use super::conv_nchw_grad::{GradientLayout, grad_bias};
use super::conv_nchw_weight::{Planes, add_up, grad_kernel};
use super::conv_tile::Tile;
use super::lanes::LINE;
use super::padded::{Padding, Scratch};
use super::{Backward, ConvShape, Gradients, Wanted, level::Level};
use rayon::prelude::*;
use std::borrow::Cow;
use std::mem::MaybeUninit;

/// Bytes of input that a task should walk, so that they stay in the second cache.
const BAND_BYTES: usize = 256 << 10;

/// As [`super::conv_nchw::forward_into`], for the shapes of [`conv_nchw_3x3`].
pub(super) fn forward_3x3(
    level: Level,
    s: &ConvShape,
    [x, weight, bias]: [&[f32]; 3],
    slope: f32,
    out: &mut [MaybeUninit<f32>],
) {
    assert_eq!(out.len(), s.out_len());
    let by_cache = BAND_BYTES / (size_of::<f32>() * s.w);
    let by_threads = (s.h * s.n * s.groups).div_ceil(4 * rayon::current_num_threads());
    let rows = by_cache.min(by_threads).clamp(4, s.h.max(4));
    let (bands, plane) = (s.h.div_ceil(rows), s.h * s.w);
    let kernels = weight.as_chunks::<TAPS>().0;
    let to = OutPtr::new(out);
    (0..s.n * s.groups * bands).into_par_iter().for_each(|i| {
        let (map, y) = (i / bands, i % bands * rows);
        let kernel = s.set_of(map / s.groups) * s.groups + map % s.groups;
        let band = Forward {
            x: &x[map * plane..][..plane],
            w: s.w,
            kernel: &kernels[kernel],
            bias: bias[kernel],
            slope,
            rows: y..(y + rows).min(s.h),
        };
        // SAFETY: the rows lie within the output; no two bands share one.
        unsafe { band.run(level, to.at(map * plane + y * s.w)) };
    });
}

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
    let direct = conv_nchw_3x3::fits(level, s) && wanted.x;
    let padded = (!direct).then(|| PaddedPlanes::new(level, s, b.weight));
    let (taps, pixels, plane) = (s.k_h * s.k_w, s.out_h * s.out_w, s.h * s.w);

    let len = if wanted.x { s.x_len() } else { 0 };
    let mut dx = Vec::with_capacity(len);
    let to = &mut dx.spare_capacity_mut()[..len];
    let mut to: Vec<_> = to.chunks_mut(plane).map(Some).collect();
    to.resize_with(s.n * s.groups, || None);
    let mut kernels = vec![0.0; s.n * s.groups * taps];
    let mut sums = vec![0.0; s.n * s.groups];
    let planes = to.into_par_iter().zip(kernels.par_chunks_mut(taps)).zip(&mut sums).enumerate();
    planes.for_each(|(i, ((dx, kernel), sum))| {
        let of = s.set_of(i / s.groups) * s.groups + i % s.groups;
        let x = &b.x[i * plane..][..plane];
        let mut grad = &b.grad[i * pixels..][..pixels];
        let mut sloped = Scratch::take(1, if b.slope == 1.0 { 0 } else { pixels });
        if b.slope != 1.0 {
            for ((to, &g), &o) in sloped.as_mut().iter_mut().zip(grad).zip(&b.out[i * pixels..]) {
                *to = if o > 0.0 { g } else { g * b.slope };
            }
            grad = &sloped;
        }
        match (&padded, dx) {
            (Some(padded), dx) => {
                *sum = total(grad);
                padded.run(level, (of, x, grad), wanted.weight.then_some(kernel), dx);
            }
            (None, Some(dx)) => {
                let plane = Gradient { x, grad, w: s.w, kernel: &b.weight.as_chunks().0[of] };
                let (weight, bias) = plane.run(level, dx);
                kernel.copy_from_slice(&weight);
                *sum = bias;
            }
            (None, None) => unreachable!("without it the planes are padded"),
        }
        sloped.keep(1);
    });
    // SAFETY: either way writes every pixel of a plane.
    unsafe { dx.set_len(len) };
    if let Some(padded) = padded {
        padded.keep();
    }

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

/// Gradients of a plane of any geometry, from zero-padded copies.
struct PaddedPlanes {
    /// The convolution of one plane.
    one: ConvShape,
    layout: GradientLayout,
    /// Where the taps read the input.
    offsets: Vec<usize>,
    input: Padding,
    /// Offsets of the taps and the kernels of each phase.
    phases: Vec<(Vec<usize>, Packed)>,
}

impl PaddedPlanes {
    fn new(level: Level, s: &ConvShape, weight: &[f32]) -> Self {
        let layout = GradientLayout::new(s);
        let phases = layout.taps.phases.iter().map(|phase| {
            let packed = Packed::backward(level, s, &phase.indices(), weight);
            (phase.offsets(layout.padding), packed)
        });
        let phases = phases.collect();
        let input = Padding::new(s.out_h + layout.input.halo().0, layout.padding.row);
        let offsets = layout.input.offsets(input);
        let one = ConvShape { n: 1, sets: 1, groups: 1, c_in: 1, c_out: 1, ..*s };
        Self { one, layout, offsets, input, phases }
    }

    /// Of the plane `x` with kernel `of`; writes all that there is a place for.
    fn run(
        &self,
        level: Level,
        (of, x, grad): (usize, &[f32], &[f32]),
        kernel: Option<&mut [f32]>,
        dx: Option<&mut [MaybeUninit<f32>]>,
    ) {
        let Self { one: s, layout, input, .. } = self;
        let mut padded = Scratch::take(0, layout.padding.plane);
        layout.fill(s, padded.as_mut(), grad);
        if let Some(kernel) = kernel {
            let mut copy = Scratch::take(2, layout.input.phases.len() * input.plane);
            layout.input.fill(s, *input, copy.as_mut(), x, (0, 0));
            let planes = Planes { data: &copy, padding: *input, first: 0 };
            grad_kernel(level, s, &self.offsets, planes, layout.planes(&padded), kernel);
            copy.keep(2);
        }
        if let Some(dx) = dx {
            for (phase, (offsets, packed)) in layout.taps.phases.iter().zip(&self.phases) {
                let (y, x) = phase.phase;
                let tile = Tile {
                    x: &padded[layout.shift..],
                    padding: layout.padding,
                    channel: 0,
                    offsets: Cow::Borrowed(offsets),
                    block: packed.block,
                    weight: packed.group(of),
                    bias: None,
                    slope: 1.0,
                    out: dx.as_mut_ptr().cast::<f32>().wrapping_add(y * s.w + x),
                    out_row: s.w * s.stride,
                    out_plane: s.h * s.w,
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
    }

    /// Hands the memory back to the thread.
    fn keep(self) {
        self.phases.into_iter().for_each(|(_, packed)| packed.keep());
    }
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
