//! Integer weights and activations.
//!
//! Inner activations are u8 with a scale s and zero point z per channel, `x = s · (q − z)`; scales
//! follow the tuning, interpolated between ranges that were measured at the corners of its domain.
//! A channel's input scale is part of the weights, which are i8 with a scale per output channel.
//! The first layer's input is i16: the frame's own codes, doubled, or normalised values where the
//! net's input is no code of the frame; the last layer's input is i16
//! without zero point. Both have i16 weights. The first layer of a net on RGB or luma is in f32, but for its output.
//!
//! But for that layer, every integer is computed by the same f32 operations in the same order at every CPU level.

use super::kernels::round_small;
use crate::frame::{CHANNELS, Range, Value};
use crate::ranges::{ChannelRange, LAST_MARGIN, Ranges};

/// Largest magnitude of the first layer's input: doubled codes of up to 12 bits, or
/// [`TENSOR_SCALE`] times a tensor.
pub(crate) const INPUT_MAX: i16 = 8191;

/// What a tensor is multiplied by before it is rounded to the first layer's input; it may reach
/// ±2, twice the range of a frame.
pub(crate) const TENSOR_SCALE: f32 = 4096.0;

/// Largest magnitude of the last layer's input.
pub(crate) const LAST_MAX: i16 = 2047;

/// Largest code of an inner activation.
const CODE_MAX: f32 = 255.0;

/// Smallest range of a channel, that of a dead one.
const SMALLEST_RANGE: f32 = 1e-6;

/// Smallest magnitude of an output channel's largest weight, that of a channel of zeros: its inverse
/// is finite.
const SMALLEST_WEIGHT: f32 = 1e-30;

/// What the first layer's integer input stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum InputScale {
    /// Doubled codes of frames with these spans, in codes, from 0 to 1 of luma and chroma.
    Codes(f32, f32),
    /// 4096 times a tensor, or a frame of other chroma than 4:2:0, that is normalised as frames are.
    Tensor,
}

impl InputScale {
    /// That of frames of this range and so many bits.
    pub fn of_frames(range: Range, bits: u32) -> Self {
        Self::Codes(range.luma(bits).1, range.chroma(bits).1)
    }

    /// What a step of the input is worth in each channel of the normalised tensor.
    pub fn scale(self) -> [f32; CHANNELS] {
        let mut scale = [1.0 / TENSOR_SCALE; CHANNELS];
        if let InputScale::Codes(luma, chroma) = self {
            scale[..4].fill(0.5 / luma);
            scale[4..].fill(0.5 / chroma);
        }
        scale
    }

    /// The whole number that a normalised value of a channel becomes.
    pub fn encode(self, channel: usize, v: f32) -> f32 {
        match self {
            Self::Tensor => f32::from(i16::from_tensor(v)),
            Self::Codes(..) => {
                let largest = f32::from(INPUT_MAX);
                round_small((v / self.scale()[channel]).clamp(-largest, largest))
            }
        }
    }

    pub(crate) fn quant(self) -> EdgeQuant {
        EdgeQuant::plain(self.scale().into())
    }
}

/// How the activations of an edge are stored.
#[derive(Clone, Debug)]
pub(crate) struct EdgeQuant {
    /// Real value of a code step, per channel.
    pub(crate) scale: Vec<f32>,
    /// Code of zero, per channel.
    pub(crate) zero: Vec<f32>,
    /// Mean value, per channel.
    mean: Vec<f32>,
}

impl EdgeQuant {
    /// Of an input with one scale for everything and no zero point.
    pub(crate) fn plain(scale: Vec<f32>) -> Self {
        let zeros = vec![0.0; scale.len()];
        Self { scale, zero: zeros.clone(), mean: zeros }
    }
}

/// Sets how the activations of the inner edges are stored to the ranges at their tuning; the last edge is
/// the input of the last layer.
pub(crate) fn set_scales(edges: &mut [EdgeQuant], ranges: &Ranges) {
    let last = edges.len() - 1;
    for (index, edge) in edges.iter_mut().enumerate() {
        for (c, range) in ranges.of_layer(index).enumerate() {
            edge.mean[c] = range.mean;
            (edge.scale[c], edge.zero[c]) =
                if index == last { symmetric(range) } else { codes(range) };
        }
    }
}

/// Scale and zero point of u8 codes; zero is always among the values.
fn codes(range: ChannelRange) -> (f32, f32) {
    let [low, high] = range.with_zero();
    let scale = (high - low).max(SMALLEST_RANGE) / CODE_MAX;
    (scale, (-low / scale).round_ties_even().clamp(0.0, CODE_MAX))
}

/// Scale of i16 codes around zero.
fn symmetric(range: ChannelRange) -> (f32, f32) {
    let largest = range.largest().max(SMALLEST_RANGE);
    (LAST_MARGIN * largest / f32::from(LAST_MAX), 0.0)
}

/// Largest weight magnitude for which no sum of `run` products with inputs up to `input_max`
/// leaves 32 bits.
pub(crate) fn weight_max(run: usize, input_max: i16) -> f32 {
    let largest = i64::from(i32::MAX) / (run as i64 * i64::from(input_max));
    largest.min(i64::from(i16::MAX)) as f32
}

/// Largest weight magnitude of an inner layer.
pub(crate) const INNER_WEIGHT_MAX: f32 = 127.0;

/// Integer weights of one layer, and the scratch space to make them.
pub(crate) struct LayerQuant {
    /// `[c_out][segment][run]`.
    pub(crate) weights: Vec<i16>,
    /// The same, for inner layers, once [`LayerQuant::set_bytes`] has been called.
    pub(crate) bytes: Vec<i8>,
    /// Of the sums, per output channel, to units of the output.
    pub(crate) scale: Vec<f32>,
    /// Per output channel, in units of the output.
    pub(crate) bias: Vec<f32>,
    weight_max: f32,
    /// Input channel of each weight of an output channel.
    inputs: Vec<usize>,
    scales: Vec<f32>,
    zeros: Vec<f32>,
    means: Vec<f32>,
}

/// Partial sums that are added up in an order of their own, the same on every CPU.
const LANES: usize = 8;

impl LayerQuant {
    /// For a layer whose weights of one output channel belong to these input channels.
    pub(crate) fn new(c_out: usize, inputs: Vec<usize>, weight_max: f32) -> Self {
        let run = inputs.len();
        Self {
            weights: vec![0; c_out * run],
            bytes: vec![0; c_out * run],
            scale: vec![0.0; c_out],
            bias: vec![0.0; c_out],
            weight_max,
            inputs,
            scales: vec![0.0; run],
            zeros: vec![0.0; run],
            means: vec![0.0; run],
        }
    }

    /// Fills `bytes` with the weights.
    pub(crate) fn set_bytes(&mut self) {
        for (byte, &weight) in self.bytes.iter_mut().zip(&self.weights) {
            *byte = weight as i8;
        }
    }

    /// Quantises folded weights and bias for this input and, unless it stays f32, this output.
    /// `weights` is scratch space afterwards.
    pub(crate) fn set(
        &mut self,
        weights: &mut [f32],
        bias: &[f32],
        input: &EdgeQuant,
        output: Option<&EdgeQuant>,
    ) {
        for (at, &c) in self.inputs.iter().enumerate() {
            self.scales[at] = input.scale[c];
            self.zeros[at] = input.zero[c];
            self.means[at] = input.mean[c] / input.scale[c];
        }
        let run = self.inputs.len();
        let rows = weights.chunks_exact_mut(run).zip(self.weights.chunks_exact_mut(run));
        for (c, (weights, codes)) in rows.enumerate() {
            let mut largest = [0f32; LANES];
            for (weights, scales) in weights.chunks_mut(LANES).zip(self.scales.chunks(LANES)) {
                for ((w, s), largest) in weights.iter_mut().zip(scales).zip(&mut largest) {
                    *w *= s;
                    *largest = largest.max(w.abs());
                }
            }
            let largest = largest.into_iter().fold(SMALLEST_WEIGHT, f32::max);
            let (step, per_step) = (largest / self.weight_max, self.weight_max / largest);
            // What the zero points add to the sum, and what rounding takes from its mean.
            let (mut offset, mut lost) = ([0f32; LANES], [0f32; LANES]);
            let statistics = self.zeros.chunks(LANES).zip(self.means.chunks(LANES));
            let chunks = weights.chunks(LANES).zip(codes.chunks_mut(LANES)).zip(statistics);
            for ((weights, codes), (zeros, means)) in chunks {
                for (lane, code) in codes.iter_mut().enumerate() {
                    let rounded = round_small(weights[lane] * per_step);
                    *code = rounded as i32 as i16;
                    // Whole numbers below 2²⁴, so these sums are exact.
                    offset[lane] += rounded * zeros[lane];
                    lost[lane] += (weights[lane] - rounded * step) * means[lane];
                }
            }
            let (offset, lost) = (offset.iter().sum::<f32>(), lost.iter().sum::<f32>());
            // The pixels of a shuffle have the same channels.
            let output_scale = output.map_or(1.0, |output| output.scale[c % output.scale.len()]);
            self.scale[c] = step / output_scale;
            let bias = bias.get(c).copied().unwrap_or(0.0);
            self.bias[c] = (bias + lost - offset * step) / output_scale;
        }
    }
}
