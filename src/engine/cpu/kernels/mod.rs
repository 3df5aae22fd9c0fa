//! Convolution kernels on plain slices, and the choice between them.
//!
//! Layouts, all dense and row-major: maps `[N, C, H, W]`, weights
//! `[B, C_out, C_in / groups, K_h, K_w]`, biases `[B, C_out]`. Sample `n` belongs
//! to kernel set `n / (N / B)`.
//!
//! Invariant: no result depends on the number of threads. Work is cut by shape
//! alone wherever the cut decides an order of summation.

pub(crate) mod aligned;
pub(crate) mod conv_general;
mod conv_nchw;
mod conv_nchw_3x3;
mod conv_nchw_depthwise;
mod conv_nchw_grad;
mod conv_nchw_matrix;
mod conv_nchw_weight;
pub(crate) mod conv_row;
mod conv_taps;
mod conv_tile;
mod dot;
#[cfg(target_arch = "x86_64")]
mod dot_x86;
mod lanes;
mod level;
mod padded;
pub mod probe;
#[cfg(test)]
mod tests;

pub(crate) use lanes::round_small;
pub use level::level_name;
pub(crate) use level::{Job, Level};

use std::ops::Range;

/// Sizes of one convolution; [`ConvShape::new`] is the only way to make one, so
/// its fields agree with each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ConvShape {
    pub(crate) n: usize,
    pub(crate) c_in: usize,
    pub(crate) h: usize,
    pub(crate) w: usize,
    pub(crate) sets: usize,
    pub(crate) c_out: usize,
    pub(crate) k_h: usize,
    pub(crate) k_w: usize,
    pub(crate) stride: usize,
    pub(crate) padding: usize,
    pub(crate) dilation: usize,
    pub(crate) groups: usize,
    pub(crate) out_h: usize,
    pub(crate) out_w: usize,
}

/// Stride, zero padding on every side, dilation, groups.
pub(crate) type Geometry = [usize; 4];

impl ConvShape {
    /// Checks the sizes of `x` `[N, C_in, H, W]` and `weight`
    /// `[B, C_out, C_in / groups, K_h, K_w]` against each other.
    ///
    /// # Errors
    /// A sentence that names what was expected and what was got.
    pub(crate) fn new(x: &[usize], weight: &[usize], geometry: Geometry) -> Result<Self, String> {
        let &[n, c_in, h, w] = x else {
            return Err(format!("expected an input [N, C_in, H, W], got {x:?}"));
        };
        let &[sets, c_out, c_group, k_h, k_w] = weight else {
            return Err(format!(
                "expected weights [B, C_out, C_in / groups, K_h, K_w], got {weight:?}"
            ));
        };
        let [stride, padding, dilation, groups] = geometry;
        for (name, value) in [("stride", stride), ("dilation", dilation), ("groups", groups)] {
            if value == 0 {
                return Err(format!("expected {name} of at least 1, got 0"));
            }
        }
        if x.contains(&0) || weight.contains(&0) {
            return Err(format!(
                "expected no empty dimension, got input {x:?} and weights {weight:?}"
            ));
        }
        if n % sets != 0 {
            return Err(format!(
                "expected a number of kernel sets that divides the {n} samples, got {sets}"
            ));
        }
        if c_in % groups != 0 || c_out % groups != 0 {
            return Err(format!(
                "expected groups that divide {c_in} input and {c_out} output channels, got {groups}"
            ));
        }
        if c_group != c_in / groups {
            return Err(format!(
                "expected weights for {} input channels ({c_in} in {groups} groups), got {c_group}",
                c_in / groups
            ));
        }
        let out = |name: &str, len: usize, k: usize| {
            let span = dilation * (k - 1) + 1;
            let padded = len + 2 * padding;
            if span > padded {
                return Err(format!(
                    "expected a padded input {name} of at least {span} (kernel {k}, dilation \
                     {dilation}), got {padded}"
                ));
            }
            Ok((padded - span) / stride + 1)
        };
        let (out_h, out_w) = (out("height", h, k_h)?, out("width", w, k_w)?);
        Ok(Self {
            n,
            c_in,
            h,
            w,
            sets,
            c_out,
            k_h,
            k_w,
            stride,
            padding,
            dilation,
            groups,
            out_h,
            out_w,
        })
    }

    /// Kernel set of sample `n`.
    fn set_of(&self, n: usize) -> usize {
        n / (self.n / self.sets)
    }

    /// Samples of kernel set `set`.
    fn samples_of(&self, set: usize) -> Range<usize> {
        let each = self.n / self.sets;
        set * each..(set + 1) * each
    }

    /// The same convolution with the pixels of a map in one row, where no pixel meets another.
    fn in_a_row(&self) -> Self {
        let alone = self.k_h * self.k_w * self.stride == 1 && self.padding == 0;
        if !alone {
            return *self;
        }
        let (w, out_w) = (self.h * self.w, self.out_h * self.out_w);
        Self { h: 1, w, out_h: 1, out_w, ..*self }
    }

    fn x_len(&self) -> usize {
        self.n * self.c_in * self.h * self.w
    }

    fn weight_len(&self) -> usize {
        self.sets * self.c_out * (self.c_in / self.groups) * self.k_h * self.k_w
    }

    fn out_len(&self) -> usize {
        self.n * self.c_out * self.out_h * self.out_w
    }
}

/// What the backward pass needs beside the shape. `out` is the forward result,
/// whose sign tells the slope at each pixel.
pub(crate) struct Backward<'a, T> {
    pub(crate) x: &'a [T],
    pub(crate) weight: &'a [T],
    pub(crate) out: &'a [T],
    pub(crate) grad: &'a [T],
    /// Slope of the activation below zero, 1 for none.
    pub(crate) slope: T,
}

/// Which gradients to compute.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) x: bool,
    pub(crate) weight: bool,
    pub(crate) bias: bool,
}

/// Gradients, each there if it was wanted.
#[derive(Debug)]
pub(crate) struct Gradients<T> {
    pub(crate) x: Option<Vec<T>>,
    pub(crate) weight: Option<Vec<T>>,
    pub(crate) bias: Option<Vec<T>>,
}

/// A float type with its convolution, slope 1 meaning no activation.
pub(crate) trait ConvFloat: conv_general::Real {
    /// Convolution, bias and activation.
    fn forward(s: &ConvShape, x: &[Self], weight: &[Self], bias: &[Self], slope: Self)
    -> Vec<Self>;
    /// Gradients of [`ConvFloat::forward`].
    fn backward(s: &ConvShape, b: &Backward<'_, Self>, wanted: Wanted) -> Gradients<Self>;
}

impl ConvFloat for f64 {
    fn forward(s: &ConvShape, x: &[f64], weight: &[f64], bias: &[f64], slope: f64) -> Vec<f64> {
        conv_general::forward(s, x, weight, bias, slope)
    }

    fn backward(s: &ConvShape, b: &Backward<'_, f64>, wanted: Wanted) -> Gradients<f64> {
        conv_general::backward(s, b, wanted)
    }
}

impl ConvFloat for f32 {
    fn forward(s: &ConvShape, x: &[f32], weight: &[f32], bias: &[f32], slope: f32) -> Vec<f32> {
        conv_nchw::forward(Level::current(), &s.in_a_row(), x, weight, bias, slope)
    }

    fn backward(s: &ConvShape, b: &Backward<'_, f32>, wanted: Wanted) -> Gradients<f32> {
        conv_nchw_grad::backward(Level::current(), &s.in_a_row(), b, wanted)
    }
}
