//! Ranges of a net's inner activations: known at the corners of its domain, interpolated between. int8
//! stores activations within them; a net that was trained so has them clamped in f32, too.

use crate::checkpoint::{ACTIVATIONS, Metadata, STATISTICS};
use crate::tuning::TuningSpace;

/// Range of the last layer's input over the measured one: int8 has bits to spare there.
pub const LAST_MARGIN: f32 = 1.25;

/// The ranges of all layers but the last.
#[derive(Clone, Debug)]
pub(crate) struct Ranges {
    space: TuningSpace,
    /// Per layer `[corner][channel][minimum, maximum, mean]`.
    layers: Vec<Vec<f32>>,
    /// Of the last tuning.
    corner_weights: Vec<f32>,
}

/// One channel's range at a tuning.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct ChannelRange {
    pub(crate) minimum: f32,
    pub(crate) maximum: f32,
    pub(crate) mean: f32,
}

impl Ranges {
    /// Those of a checkpoint, from the values of its tensors by name; `None` if it is not calibrated, or
    /// a tensor is missing.
    pub(crate) fn new(
        metadata: &Metadata,
        values: impl Fn(&str) -> Option<Vec<f32>>,
    ) -> Option<Self> {
        metadata.calibration.as_ref()?;
        let names = metadata.architecture.inner_outputs().into_iter();
        let layers = names.map(|(layer, _)| values(&format!("{layer}{ACTIVATIONS}")));
        let (space, layers) = (metadata.tuning.clone(), layers.collect::<Option<_>>()?);
        let corner_weights = vec![0.0; space.corner_count()];
        Some(Self { space, layers, corner_weights })
    }

    /// Goes to a tuning.
    pub(crate) fn tune(&mut self, omega: &[f32]) {
        self.space.corner_weights(omega, &mut self.corner_weights);
    }

    /// Weight of each corner at the tuning.
    pub(crate) fn corner_weights(&self) -> &[f32] {
        &self.corner_weights
    }

    /// Number of layers.
    pub(crate) fn len(&self) -> usize {
        self.layers.len()
    }

    /// The ranges of a layer's channels at the tuning.
    pub(crate) fn of_layer(&self, layer: usize) -> impl Iterator<Item = ChannelRange> + Clone {
        let measured = &self.layers[layer];
        let channels = measured.len() / (STATISTICS * self.corner_weights.len());
        (0..channels).map(move |c| {
            let mut range = ChannelRange::default();
            for (corner, &weight) in self.corner_weights.iter().enumerate() {
                let values = &measured[(corner * channels + c) * STATISTICS..][..STATISTICS];
                range.minimum += weight * values[0];
                range.maximum += weight * values[1];
                range.mean += weight * values[2];
            }
            range
        })
    }

    /// What a layer's channels are clamped to at the tuning, lowest and highest values; as int8 stores
    /// them, but for the rounding of its zero points.
    pub(crate) fn bounds(&self, layer: usize) -> impl Iterator<Item = [f32; 2]> + Clone {
        let is_last = layer + 1 == self.layers.len();
        self.of_layer(layer).map(move |range| match is_last {
            true => [-LAST_MARGIN * range.largest(), LAST_MARGIN * range.largest()],
            false => range.with_zero(),
        })
    }
}

impl ChannelRange {
    /// Lowest and highest value, with zero among them.
    pub(crate) fn with_zero(self) -> [f32; 2] {
        [self.minimum.min(0.0), self.maximum.max(0.0)]
    }

    /// Largest magnitude.
    pub(crate) fn largest(self) -> f32 {
        self.maximum.max(-self.minimum)
    }
}
