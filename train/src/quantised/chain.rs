//! The folded chain in integers.

use std::sync::Arc;

use anyhow::{bail, ensure};
use candle_core::{DType, Tensor};
use tunableconv::checkpoint::STATISTICS;
use tunableconv::engine::{Finish, InputScale, QuantisedLayer};
use tunableconv::frame::CHANNELS;
use tunableconv::nn::conv::conv2d;
use tunableconv::nn::{Activation, ConvGeometry, FoldedLayer, Link};

use super::QuantisedNet;
use super::ops::{Encode, Into, Requantise, Round};

/// f32 has every whole number below.
const WHOLE: f64 = (1 << 24) as f64;

/// A net at some tunings, in the integers of the int8 engine.
pub struct QuantisedChain {
    inputs: Vec<InputScale>,
    layers: Vec<Layer>,
}

/// One layer with S kernel sets: those of the tunings, or of the samples.
struct Layer {
    /// Whole numbers `[S, C_out, C_in, K, K]`, with the gradient of the weights.
    weight: Tensor,
    /// `[S, C_out]`, for its gradient only.
    bias: Tensor,
    /// `[S, C_out, 3]`, for their gradient only.
    ranges: Tensor,
    geometry: ConvGeometry,
    sets: Arc<Vec<QuantisedLayer>>,
    link: Link,
    /// Of what is added, `[S, 1, C, 1, 1]`: steps of the output per code.
    added_step: Option<Tensor>,
    /// What makes codes of sums of values.
    coding: Arc<Vec<QuantisedLayer>>,
}

impl QuantisedChain {
    pub(super) fn new(
        net: &QuantisedNet,
        tunings: &Tensor,
        inputs: &[InputScale],
    ) -> anyhow::Result<Self> {
        let folded = net.net.model().fold(tunings)?.into_chain()?;
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
        let codes = x.contiguous()?.apply_op1(Encode { inputs: self.inputs.clone() })?;
        let mut edges = vec![codes];
        for (index, layer) in self.layers.iter().enumerate() {
            // Nets that add two edges to a layer do not run in int8.
            let added = layer.link.add[0].and_then(|edge| edges.get(edge));
            edges.push(layer.forward(&edges[index], added)?);
        }
        Ok(edges.swap_remove(self.layers.len()))
    }
}

impl Layer {
    fn new(
        FoldedLayer { conv: folded, link, .. }: &FoldedLayer,
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
        let steps = sets.iter().map(|set| set.added_step.clone()).collect::<Option<Vec<_>>>();
        let added_step = steps.map(|steps| {
            let shape = (count, 1, steps[0].len(), 1, 1);
            Tensor::from_vec(steps.concat(), shape, weight.device())
        });
        let coding = sets.iter().map(|set| coding(set, link.shuffle)).collect();
        let (added_step, coding) = (added_step.transpose()?, Arc::new(coding));
        let (sets, link) = (Arc::new(sets), *link);
        Ok(Self { weight, bias, ranges, geometry, sets, link, added_step, coding })
    }

    /// From centred codes to centred codes, or to values; `added` is the edge that is added.
    fn forward(&self, codes: &Tensor, added: Option<&Tensor>) -> anyhow::Result<Tensor> {
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
        let is_last = self.sets[0].output_scale.is_none();
        let into = if is_last || self.link != Link::NONE { Into::Values } else { Into::Codes };
        let requantise = Requantise { sets: self.sets.clone(), exact, into };
        let y = sums.apply_op3(&self.bias, &self.ranges, requantise)?;
        if is_last || self.link == Link::NONE {
            return Ok(y);
        }
        let added = match (added, &self.added_step) {
            (Some(codes), Some(step)) => {
                let (n, c, height, width) = codes.dims4()?;
                let sets = self.sets.len();
                let by_set = codes.reshape((sets, n / sets, c, height, width))?;
                Some(by_set.broadcast_mul(step)?.reshape((n, c, height, width))?)
            }
            _ => None,
        };
        let sums = self.link.forward(y, [added.as_ref(), None])?.contiguous()?;
        let no_bias = self.bias.narrow(1, 0, sums.dim(1)?)?.zeros_like()?;
        let requantise = Requantise { sets: self.coding.clone(), exact: None, into: Into::Codes };
        Ok(sums.apply_op3(&no_bias, &self.ranges, requantise)?)
    }
}

/// A layer that makes codes of sums which are values already, in steps of the output, shuffled.
fn coding(layer: &QuantisedLayer, shuffle: usize) -> QuantisedLayer {
    let pixels = shuffle * shuffle;
    let finish = layer.finish.iter().step_by(pixels);
    let finish: Vec<Finish> =
        finish.map(|finish| Finish { scale: 1.0, bias: 0.0, slope: 1.0, ..*finish }).collect();
    let scale = |scale: &Vec<f32>| scale.iter().copied().step_by(pixels).collect();
    QuantisedLayer {
        weights: vec![],
        input_scale: vec![],
        output_scale: layer.output_scale.as_ref().map(scale),
        added_step: None,
        offsets: vec![0.0; finish.len()],
        finish,
        largest_sum: 0.0,
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
