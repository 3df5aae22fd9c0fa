//! The folded chain in integers.

use std::sync::Arc;

use anyhow::{bail, ensure};
use candle_core::{DType, Tensor};
use tunableconv::checkpoint::STATISTICS;
use tunableconv::engine::{InputScale, QuantisedLayer};
use tunableconv::frame::CHANNELS;
use tunableconv::nn::conv::conv2d;
use tunableconv::nn::{Activation, ConvGeometry, FoldedConv2d};

use super::QuantisedNet;
use super::ops::{Encode, Requantise, Round};

/// f32 has every whole number below.
const WHOLE: f64 = (1 << 24) as f64;

/// A net at some tunings, in the integers of the int8 engine.
pub struct QuantisedChain {
    inputs: Vec<InputScale>,
    layers: Vec<Layer>,
}

/// One convolution with S kernel sets: those of the tunings, or of the samples.
struct Layer {
    /// Whole numbers `[S, C_out, C_in, K, K]`, with the gradient of the weights.
    weight: Tensor,
    /// `[S, C_out]`, for its gradient only.
    bias: Tensor,
    /// `[S, C_out, 3]`, for their gradient only.
    ranges: Tensor,
    geometry: ConvGeometry,
    sets: Arc<Vec<QuantisedLayer>>,
}

impl QuantisedChain {
    pub(super) fn new(
        net: &QuantisedNet,
        tunings: &Tensor,
        inputs: &[InputScale],
    ) -> anyhow::Result<Self> {
        let folded = net.net.model().fold(tunings)?;
        let count = tunings.dim(0)?;
        ensure!(
            inputs.len() == 1 || (!inputs.is_empty() && inputs.len().is_multiple_of(count)),
            "{} inputs for {count} tunings, expected one or a multiple",
            inputs.len()
        );
        let mut quantiser = net.quantiser()?;
        // Per kernel set of the first layer, then per tuning.
        let (mut heads, mut bodies, mut corner_weights) = (vec![], vec![], vec![]);
        let each = (inputs.len() / count).max(1);
        for (index, omega) in tunings.to_vec2::<f32>()?.iter().enumerate() {
            let mut of_tuning: Vec<(InputScale, Vec<QuantisedLayer>)> = vec![];
            for sample in index * each..(index + 1) * each {
                let input = inputs[sample.min(inputs.len() - 1)];
                let at = match of_tuning.iter().position(|(other, _)| *other == input) {
                    Some(at) => at,
                    None => {
                        of_tuning.push((input, quantiser.at(omega, input)?));
                        of_tuning.len() - 1
                    }
                };
                heads.push(of_tuning[at].1[0].clone());
            }
            bodies.push(of_tuning.swap_remove(0).1);
            corner_weights.extend_from_slice(quantiser.corner_weights());
        }
        let corners = corner_weights.len() / count;
        let corner_weights = Tensor::from_vec(corner_weights, (count, corners), tunings.device())?;

        let names = net.net.metadata().architecture.inner_outputs();
        let layers = folded.layers.iter().enumerate().map(|(index, folded)| {
            let sets = match index {
                0 => std::mem::take(&mut heads),
                _ => bodies.iter().map(|layers| layers[index].clone()).collect(),
            };
            let ranges = match names.get(index) {
                Some((name, channels)) => {
                    let measured = &net.tensors[&format!("{name}.activations")];
                    let ranges = corner_weights.matmul(&measured.reshape((corners, ()))?)?;
                    ranges.reshape((count, *channels, STATISTICS))?
                }
                None => Tensor::zeros((count, 1, STATISTICS), DType::F32, tunings.device())?,
            };
            Layer::new(folded, &ranges, sets)
        });
        Ok(Self { layers: layers.collect::<anyhow::Result<_>>()?, inputs: inputs.to_vec() })
    }

    /// The residual, as [`tunableconv::nn::FoldedChain`]'s.
    ///
    /// # Shapes
    /// - `x`: `[N, 6, H, W]`, with as many samples as inputs were given, or any multiple of the
    ///   tunings if one was
    /// - returns `[N, 6, H, W]`
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward(&self, x: &Tensor) -> anyhow::Result<Tensor> {
        let (samples, channels, _, _) = x.dims4()?;
        if channels != CHANNELS || (self.inputs.len() > 1 && samples != self.inputs.len()) {
            let n = if self.inputs.len() > 1 { self.inputs.len().to_string() } else { "N".into() };
            bail!("the input is {:?}, expected [{n}, {CHANNELS}, H, W]", x.dims());
        }
        let mut codes = x.contiguous()?.apply_op1(Encode { inputs: self.inputs.clone() })?;
        for layer in &self.layers {
            codes = layer.forward(&codes)?;
        }
        Ok(codes)
    }
}

impl Layer {
    fn new(
        folded: &FoldedConv2d,
        ranges: &Tensor,
        sets: Vec<QuantisedLayer>,
    ) -> anyhow::Result<Self> {
        let (count, c_out) = (sets.len(), folded.weight.dim(1)?);
        let weight = per_set(&folded.weight, count)?.apply_op1(Round::new(&sets))?;
        let bias = match &folded.bias {
            Some(bias) => per_set(bias, count)?,
            None => Tensor::zeros((count, c_out), DType::F32, weight.device())?,
        };
        let (ranges, geometry) = (per_set(ranges, count)?, folded.geometry);
        let is_plain = folded.activation == Activation::None;
        ensure!(is_plain == sets[0].output_scale.is_none(), "only the last layer is not activated");
        Ok(Self { weight, bias, ranges, geometry, sets: Arc::new(sets) })
    }

    /// From centred codes to centred codes, or to values.
    fn forward(&self, codes: &Tensor) -> anyhow::Result<Tensor> {
        let conv =
            |x: &Tensor, weight: &Tensor| conv2d(x, weight, None, self.geometry, Activation::None);
        let sums = conv(codes, &self.weight)?;
        let exact = if self.sets.iter().all(|set| set.largest_sum < WHOLE) {
            None
        } else {
            let f64 = |tensor: &Tensor| tensor.detach().to_dtype(DType::F64);
            let sums = conv(&f64(codes)?, &f64(&self.weight)?)?;
            let offsets: Vec<f64> = self.sets.iter().flat_map(|s| s.offsets.clone()).collect();
            let (n, c_out, height, width) = sums.dims4()?;
            let sets = self.sets.len();
            let offsets = Tensor::from_vec(offsets, (sets, 1, c_out, 1, 1), sums.device())?;
            let by_set = sums.reshape((sets, n / sets, c_out, height, width))?;
            let sums = by_set.broadcast_add(&offsets)?.to_dtype(DType::F32)?;
            Some(sums.reshape((n, c_out, height, width))?)
        };
        let requantise = Requantise { sets: self.sets.clone(), exact };
        Ok(sums.apply_op3(&self.bias, &self.ranges, requantise)?)
    }
}

/// Repeats each of the first dimension's entries so that there are `count`.
fn per_set(tensor: &Tensor, count: usize) -> candle_core::Result<Tensor> {
    let tunings = tensor.dim(0)?;
    if tunings == count {
        return tensor.contiguous();
    }
    let mut dims = tensor.dims().to_vec();
    dims.insert(1, count / tunings);
    let repeated = tensor.unsqueeze(1)?.broadcast_as(dims.as_slice())?;
    dims.splice(..2, [count]);
    repeated.reshape(dims.as_slice())?.contiguous()
}
