//! What int8 adds to a pipeline: scales that follow the tuning, integer weights.

use crate::engine::cpu::bank::input_order;
use crate::engine::cpu::plan::ChainSpec;
use crate::engine::cpu::quant::{
    EdgeQuant, INNER_WEIGHT_MAX, INPUT_MAX, InputScale, LAST_MAX, LayerQuant, set_scales,
    weight_max,
};
use crate::ranges::Ranges;

/// State of an int8 engine beside the pipeline's.
pub(in crate::engine::cpu) struct Int8 {
    pub(in crate::engine::cpu) ranges: Ranges,
    /// Edges that each layer adds.
    adds: Vec<[Option<usize>; 2]>,
    input: InputScale,
    /// Input, then every inner edge.
    pub(in crate::engine::cpu) edges: Vec<EdgeQuant>,
    layers: Vec<LayerQuant>,
}

impl Int8 {
    pub(in crate::engine::cpu) fn new(ranges: Ranges, spec: &ChainSpec) -> Self {
        let last = spec.layers.len() - 1;
        let layers = spec.layers.iter().enumerate().map(|(index, layer)| {
            let order = input_order(layer, spec.parts(index));
            let channels: Vec<usize> = order.iter().map(|&(channel, _)| channel).collect();
            let inputs = channels.repeat(layer.kernel);
            let largest = match index {
                0 => weight_max(inputs.len(), INPUT_MAX),
                _ if index == last => weight_max(inputs.len(), LAST_MAX),
                _ => INNER_WEIGHT_MAX,
            };
            LayerQuant::new(layer.c_out, inputs, largest)
        });
        let edges = (0..=last).map(|edge| EdgeQuant::plain(vec![1.0; spec.channels(edge)]));
        let (layers, edges) = (layers.collect(), edges.collect());
        let adds = spec.layers.iter().map(|layer| layer.add).collect();
        let mut int8 = Self { ranges, adds, input: InputScale::Tensor, edges, layers };
        int8.edges[0] = InputScale::Tensor.quant();
        int8
    }

    /// Interpolates the scales of the inner edges.
    pub(in crate::engine::cpu) fn tune(&mut self, omega: &[f32]) {
        self.ranges.tune(omega);
        set_scales(&mut self.edges[1..], &self.ranges);
    }

    /// Quantises a layer's folded weights, scratch space afterwards, and bias; returns it with the
    /// edge that it writes, none for the last.
    pub(in crate::engine::cpu) fn quantise(
        &mut self,
        index: usize,
        weights: &mut [f32],
        bias: &[f32],
    ) -> (&mut LayerQuant, Option<&EdgeQuant>) {
        let (input, output) = (&self.edges[index], self.edges.get(index + 1));
        let layer = &mut self.layers[index];
        layer.set(weights, bias, input, output);
        (layer, output)
    }

    /// Lets a layer of f32, which does not shuffle, give the steps of its output's codes.
    pub(in crate::engine::cpu) fn to_steps(
        &self,
        index: usize,
        weights: &mut [f32],
        bias: &mut [f32],
    ) {
        let Some(output) = self.edges.get(index + 1) else { return };
        let each = weights.len() / bias.len();
        let rows = weights.chunks_exact_mut(each).zip(bias);
        for ((weights, bias), scale) in rows.zip(&output.scale) {
            weights.iter_mut().for_each(|weight| *weight /= scale);
            *bias /= scale;
        }
    }

    /// Code of zero of each channel of an edge that a layer adds, its first or second, and what its steps are
    /// worth in those of the layer's output.
    pub(in crate::engine::cpu) fn added(
        &self,
        index: usize,
        which: usize,
    ) -> Option<impl Iterator<Item = (f32, f32)> + Clone> {
        let (from, output) = (&self.edges[self.adds[index][which]?], self.edges.get(index + 1)?);
        let steps = from.scale.iter().zip(&output.scale).map(|(from, output)| from / output);
        Some(from.zero.iter().copied().zip(steps))
    }

    /// Returns whether it is another one than before.
    pub(in crate::engine::cpu) fn set_input(&mut self, input: InputScale) -> bool {
        let changed = input != self.input;
        if changed {
            self.input = input;
            self.edges[0] = input.quant();
        }
        changed
    }
}
