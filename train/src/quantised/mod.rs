//! Quantisation-aware training: the arithmetic of the int8 engine in a differentiable forward pass.
//!
//! Values are those of [`tunableconv::engine::CpuEngine`] in int8, bit for bit: the integers come
//! from the engine's own code ([`tunableconv::engine::Quantiser`]) and their sums are exact.
//! Gradients pass straight through what rounds (Bengio, Léonard, Courville 2013,
//! arXiv:1308.3432):
//!
//! - weights: as if they were not rounded; their scale, the largest weight's, takes no gradient;
//! - activations inside their range: as if they were not rounded; outside: none, the gradient goes
//!   to the end of the range instead (PACT, Choi et al. 2018, arXiv:1805.06085);
//! - ranges: beside that, what a longer step would do to the rounding inside (LSQ, Esser et al.
//!   2020, arXiv:1902.08153), through the interpolation between the corners of the domain;
//! - means of activations, which correct the biases: none.
//!
//! A trainer holds the net's tensors and every `LAYER.activations` as variables, the latter started
//! by [`initial_ranges`]. In a step it calls [`QuantisedNet::fold`] where it would fold the net, and
//! after the step [`project_ranges`]. A checkpoint of these tensors keeps the `calibration` of the
//! one that training started from, with what trained the ranges added to its `data`.

mod chain;
mod ops;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context as _, ensure};
use candle_core::{Device, Tensor};
pub use chain::QuantisedChain;
use tunableconv::checkpoint::{Checkpoint, MAX_ACTIVATION, Metadata, STATISTICS};
use tunableconv::engine::{InputScale, Quantiser};
use tunableconv::net::Net;

/// A net and the ranges of its activations, both trainable.
pub struct QuantisedNet {
    net: Net,
    tensors: HashMap<String, Tensor>,
}

impl QuantisedNet {
    /// On tensors by name, f32 on the CPU: those of [`Metadata::tensors`]. They may be variables,
    /// which then receive gradients and whose values are read at every fold.
    ///
    /// # Errors
    /// Metadata without calibration, a net that int8 does not carry, a missing or misshaped tensor.
    pub fn new(metadata: Metadata, tensors: HashMap<String, Tensor>) -> anyhow::Result<Self> {
        for spec in metadata.tensors() {
            let tensor = tensors.get(&spec.name);
            let tensor = tensor.with_context(|| format!("tensor `{}` is missing", spec.name))?;
            let (name, got) = (&spec.name, tensor.dims());
            ensure!(got == spec.shape, "tensor `{name}` is {got:?}, expected {:?}", spec.shape);
            ensure!(tensor.device().is_cpu(), "tensor `{name}` is not on the CPU");
        }
        let net = Net::from_tensors(metadata, tensors.clone(), &Device::Cpu)?;
        let net = Self { net, tensors };
        net.quantiser()?;
        Ok(net)
    }

    /// The net at tunings `[B, p]`, in integers.
    ///
    /// `inputs` says what the samples to come were made of: one for all, or one for each of N,
    /// a multiple of B; sample n belongs to tuning n / (N / B).
    ///
    /// # Errors
    /// Tunings of another shape, as many inputs as do not fit them.
    pub fn fold(&self, tunings: &Tensor, inputs: &[InputScale]) -> anyhow::Result<QuantisedChain> {
        QuantisedChain::new(self, tunings, inputs)
    }

    fn quantiser(&self) -> anyhow::Result<Quantiser> {
        let metadata = self.net.metadata().clone();
        let values = metadata.tensors().into_iter().map(|spec| {
            let values = self.tensors[&spec.name].flatten_all()?.to_vec1::<f32>()?;
            Ok((spec.name, values))
        });
        let tensors = values.collect::<anyhow::Result<_>>()?;
        Ok(Quantiser::new(&Checkpoint { metadata, tensors })?)
    }
}

/// The ranges that training starts from, those of the checkpoint's calibration: by name, values in
/// the order of [`Metadata::tensors`], which has their shapes.
///
/// # Errors
/// A checkpoint without calibration.
pub fn initial_ranges(checkpoint: &Checkpoint) -> anyhow::Result<BTreeMap<String, Vec<f32>>> {
    let ranges: BTreeMap<_, _> = range_names(&checkpoint.metadata)
        .filter_map(|name| checkpoint.tensors.get(&name).map(|v| (name, v.clone())))
        .collect();
    let expected = checkpoint.metadata.architecture.inner_outputs().len();
    ensure!(
        checkpoint.metadata.calibration.is_some() && ranges.len() == expected,
        "the checkpoint has no activation ranges: `tunableconv-train calibrate` adds them"
    );
    Ok(ranges)
}

/// Names of the tensors of ranges.
pub fn range_names(metadata: &Metadata) -> impl Iterator<Item = String> + use<> {
    let layers = metadata.architecture.inner_outputs().into_iter();
    layers.map(|(layer, _)| format!("{layer}.activations"))
}

/// Makes ranges of values after an optimiser's step: minimum ≤ 0 ≤ maximum, as the engine's always
/// contain 0, both within ±[`MAX_ACTIVATION`], and the mean between them.
///
/// # Panics
/// If the values are not whole triples of minimum, maximum and mean.
pub fn project_ranges(values: &mut [f32]) {
    assert!(values.len().is_multiple_of(STATISTICS), "{} values", values.len());
    for channel in values.chunks_exact_mut(STATISTICS) {
        channel[0] = channel[0].clamp(-MAX_ACTIVATION, 0.0);
        channel[1] = channel[1].clamp(0.0, MAX_ACTIVATION);
        channel[2] = channel[2].clamp(channel[0], channel[1]);
    }
}
