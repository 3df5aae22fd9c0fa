//! The int8 engine's integers at a tuning, in the order of the checkpoint's tensors: what training
//! through the engine's arithmetic needs. They are made by the code that makes the engine's.

use super::bank::{Folded, SharedBanks, natural_index, output_order};
use super::engine::{CpuEngine, Int8, edge_kinds, ranges_of};
use super::kernels::{Level, round_small};
use super::line_buffer::Kind;
use super::plan::ChainSpec;
use super::quant::InputScale;
use crate::checkpoint::Checkpoint;
use crate::engine::Precision;
use crate::tuning::TuningSpace;
use crate::{Error, Result};

/// A checkpoint's banks and activation ranges, ready to be quantised at any tuning.
pub struct Quantiser {
    spec: ChainSpec,
    space: TuningSpace,
    banks: SharedBanks,
    int8: Int8,
    /// Per layer, place in the checkpoint's order of each weight.
    order: Vec<Vec<usize>>,
    /// Lowest and highest code of the input and every inner edge.
    limits: Vec<(f32, f32)>,
}

/// One layer's integers.
///
/// The layer sums products of `weights` with the *centred* codes of its input, those less the code
/// of zero, so that zero padding is right. All its sums are whole numbers up to `largest_sum`.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantisedLayer {
    /// Whole numbers, `[C_out, C_in, K, K]`.
    pub weights: Vec<f32>,
    /// Per input channel, what a step of its codes is worth.
    pub input_scale: Vec<f32>,
    /// Per output channel of the convolution, what a step of its codes is worth; none for the last
    /// layer, whose output is not coded.
    pub output_scale: Option<Vec<f32>>,
    /// Where an edge is added, per channel of it, what a step of its codes is worth in steps of the
    /// output.
    pub added_step: Option<Vec<f32>>,
    /// Per output channel, what the zero points of the input add to the sums.
    pub offsets: Vec<f64>,
    /// Per output channel, what becomes of its sums.
    pub finish: Vec<Finish>,
    /// No sum of any of the products, with or without the offset, is larger; f32 has every whole
    /// number up to 2²⁴.
    pub largest_sum: f64,
}

/// What becomes of the sums of an output channel, offset added: the operations of the engine's
/// kernels, one by one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Finish {
    /// Of a sum, to steps of the output.
    pub scale: f32,
    /// In steps of the output.
    pub bias: f32,
    /// Slope of leaky ReLU below zero, 1 for none.
    pub slope: f32,
    /// Code of zero.
    pub zero: f32,
    /// Lowest code.
    pub low: f32,
    /// Highest code.
    pub high: f32,
}

impl Finish {
    /// The value in steps of the output, not rounded; what the last layer gives.
    #[inline]
    pub fn activated(&self, sum: f32) -> f32 {
        let value = sum * self.scale + self.bias;
        if value < 0.0 { value * self.slope } else { value }
    }

    /// The code of such a value: from `low` to `high`, rounded to even at halves.
    #[inline]
    pub fn code(&self, activated: f32) -> f32 {
        let value = activated + self.zero;
        let value = if value > self.low { value } else { self.low };
        round_small(if value < self.high { value } else { self.high })
    }
}

impl Quantiser {
    /// # Errors
    /// [`Error::Precision`] for a net that does not run in int8, or has no activation ranges;
    /// [`Error::Config`] or [`Error::Tensor`] for tensors that are not those of the net.
    pub fn new(checkpoint: &Checkpoint) -> Result<Self> {
        let refuse = |reason| Error::Precision { precision: Precision::Int8.to_string(), reason };
        CpuEngine::supports(checkpoint, Precision::Int8).map_err(refuse)?;
        let spec = ChainSpec::of(&checkpoint.metadata.architecture).map_err(Error::Config)?;
        if !spec.is_video() {
            return Err(refuse("training in int8 takes nets on 4:2:0".into()));
        }
        if let Some(layer) = spec.layers.iter().find(|layer| layer.added().count() > 1) {
            let reason = format!("layer `{}` adds two edges, which is not trained", layer.name);
            return Err(refuse(reason));
        }
        if let Some(layer) = spec.layers.iter().find(|l| l.unshuffle != 1) {
            let reason = format!("layer `{}` unshuffles pixels, which is not trained", layer.name);
            return Err(refuse(reason));
        }
        for tensor in checkpoint.metadata.tensors() {
            let got = checkpoint.tensors.get(&tensor.name).map_or(0, Vec::len);
            if got != tensor.shape.iter().product::<usize>() {
                let reason = format!("{got} values, expected {tensor}");
                let file = "tensors in training".into();
                return Err(Error::Tensor { file, tensor: tensor.name, reason });
            }
        }
        let ranges = ranges_of(checkpoint)
            .ok_or_else(|| refuse("the checkpoint has no activation ranges".into()))?;
        let layers = 0..spec.layers.len();
        let banks = SharedBanks::of_chain(checkpoint, &spec)?;
        let order = layers.map(|l| natural_index(&spec.layers[l], spec.parts(l))).collect();
        let limits = edge_kinds(&spec, true, Level::Scalar).into_iter().filter_map(|kind| {
            // Without instructions for bytes every edge is i16.
            let Kind::I16 { low, high } = kind else { return None };
            Some((f32::from(low), f32::from(high)))
        });
        Ok(Self {
            int8: Int8::new(ranges, &spec),
            space: checkpoint.metadata.tuning.clone(),
            limits: limits.collect(),
            banks,
            order,
            spec,
        })
    }

    /// The layers at a tuning, first to last, for an input of this scale.
    ///
    /// # Errors
    /// [`Error::TuningLen`] unless `omega` has one entry per parameter.
    pub fn at(&mut self, omega: &[f32], input: InputScale) -> Result<Vec<QuantisedLayer>> {
        let (expected, got) = (self.space.len(), omega.len());
        if got != expected {
            return Err(Error::TuningLen { expected, got, names: self.space.names() });
        }
        self.int8.set_input(input);
        self.int8.tune(omega);
        Ok((0..self.spec.layers.len()).map(|index| self.layer(index, omega)).collect())
    }

    /// Weight of each corner of the domain in the ranges of the last tuning.
    pub fn corner_weights(&self) -> &[f32] {
        self.int8.ranges.corner_weights()
    }

    fn layer(&mut self, index: usize, omega: &[f32]) -> QuantisedLayer {
        let spec = &self.spec.layers[index];
        let (bank, order) = (&self.banks[index], &self.order[index]);
        let mut folded = Folded::zeroed(bank, spec.c_out);
        bank.fold(omega, &mut folded);
        let Folded { mut weights, bias, slopes, .. } = folded;
        let (quant, output) = self.int8.quantise(index, &mut weights, &bias);
        for (&at, &code) in order.iter().zip(&quant.weights) {
            weights[at] = f32::from(code);
        }
        let (low, high) = self.limits.get(index + 1).copied().unwrap_or_default();
        let pixels = spec.shuffle * spec.shuffle;
        let mut finish = vec![Finish::default(); spec.c_out];
        for (at, &c) in output_order(spec).iter().enumerate() {
            let zero = output.map_or(0.0, |output| output.zero[c / pixels]);
            let slope = spec.slope.or(slopes.get(at).copied()).unwrap_or(1.0);
            let (scale, bias) = (quant.scale[at], quant.bias[at]);
            finish[c] = Finish { scale, bias, slope, zero, low, high };
        }
        let output_scale = output.map(|output| {
            output.scale.iter().flat_map(|scale| std::iter::repeat_n(*scale, pixels)).collect()
        });
        let added_step =
            self.int8.added(index, 0).map(|added| added.map(|(_, step)| step).collect());

        let input = &self.int8.edges[index];
        let taps = spec.kernel * spec.kernel;
        let rows = weights.chunks_exact(taps * spec.c_in);
        let offset = |row: &[f32]| {
            let inputs = row.chunks_exact(taps).zip(&input.zero);
            inputs.map(|(taps, &zero)| f64::from(taps.iter().sum::<f32>() * zero)).sum::<f64>()
        };
        let (low, high) = self.limits[index];
        let largest_input = f64::from((high - low.max(0.0)).max(-low));
        let magnitude = |row: &[f32]| row.iter().map(|w| f64::from(w.abs())).sum::<f64>();
        QuantisedLayer {
            offsets: rows.clone().map(offset).collect(),
            largest_sum: largest_input * rows.map(magnitude).fold(0.0, f64::max),
            input_scale: input.scale.clone(),
            output_scale,
            added_step,
            finish,
            weights,
        }
    }
}
