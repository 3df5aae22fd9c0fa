//! A checkpoint's net, loaded: the banks, shared by every engine that runs it.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Module as _, Tensor};
use candle_nn::VarBuilder;

use crate::checkpoint::{Checkpoint, Metadata};
use crate::nn::{FoldedNet, TunableNet};
use crate::ranges::Ranges;
use crate::tuning::Tuning;
use crate::{Error, Result};

/// A loaded net. It holds the kernel banks and never changes; put it in an `Arc` and give it to as
/// many engines as there are streams.
#[derive(Clone, Debug)]
pub struct Net {
    metadata: Metadata,
    device: Device,
    model: TunableNet,
    /// What activations are clamped to, for nets that were trained so.
    bounds: Option<Ranges>,
}

impl Net {
    /// Reads a checkpoint file onto `device`.
    ///
    /// # Errors
    /// As [`Checkpoint::read`]; [`Error::Candle`] when the device fails.
    pub fn load(path: &Path, device: &Device) -> Result<Self> {
        Self::new(&Checkpoint::read(path)?, device)
    }

    /// Puts a checkpoint's tensors onto `device`.
    ///
    /// # Errors
    /// [`Error::Candle`] when the device fails.
    pub fn new(checkpoint: &Checkpoint, device: &Device) -> Result<Self> {
        let tensors = checkpoint.metadata.tensors().into_iter().map(|spec| {
            let values = checkpoint
                .tensors
                .get(&spec.name)
                .ok_or_else(|| Error::Config(format!("tensor `{}` is missing", spec.name)))?;
            let tensor = Tensor::from_slice(values.as_slice(), spec.shape.as_slice(), device)?;
            Ok((spec.name, tensor))
        });
        let tensors = tensors.collect::<Result<HashMap<_, _>>>()?;
        Self::from_tensors(checkpoint.metadata.clone(), tensors, device)
    }

    /// A net on tensors by name; they may be trainable variables, which then receive gradients.
    ///
    /// # Errors
    /// [`Error::Candle`] naming a missing or misshaped tensor.
    pub fn from_tensors(
        metadata: Metadata,
        tensors: HashMap<String, Tensor>,
        device: &Device,
    ) -> Result<Self> {
        let is_bounded = metadata.calibration.as_ref().is_some_and(|c| c.bounds);
        let values = |name: &str| tensors.get(name)?.flatten_all().ok()?.to_vec1().ok();
        let bounds = is_bounded.then(|| Ranges::new(&metadata, values)).flatten();
        let vb = VarBuilder::from_tensors(tensors, DType::F32, device);
        let model = TunableNet::new(metadata.tuning.len(), &metadata.architecture, vb)?;
        Ok(Self { metadata, device: device.clone(), model, bounds })
    }

    /// What the checkpoint says of itself.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Where the banks are.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The net itself.
    pub fn model(&self) -> &TunableNet {
        &self.model
    }

    /// What the net makes of pictures, not clipped; activations are not clamped either.
    ///
    /// # Shapes
    /// - `x`: `[N, C, H, W]` as [`Io`](crate::nn::Io) says; `omega`: `[B, p]` with B a divisor of N
    /// - returns `[N, C, H · scale, W · scale]`
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward(&self, x: &Tensor, omega: &Tensor) -> candle_core::Result<Tensor> {
        let (io, folded) = (self.metadata.architecture.io(), self.model.fold(omega)?);
        io.picture(x, |x| folded.forward(x))
    }

    /// The ordinary net at one tuning.
    ///
    /// # Errors
    /// [`Error::TuningLen`] for a tuning made for another net; [`Error::Candle`].
    pub fn fold(&self, tuning: &Tuning) -> Result<FoldedNet> {
        let (values, space) = (tuning.values(), &self.metadata.tuning);
        if values.len() != space.len() {
            let (expected, got) = (space.len(), values.len());
            return Err(Error::TuningLen { expected, got, names: space.names() });
        }
        let omega = Tensor::from_slice(values, (1, values.len()), &self.device)?;
        let mut folded = self.model.fold(&omega)?;
        if let (FoldedNet::Chain(chain), Some(mut ranges)) = (&mut folded, self.bounds.clone()) {
            ranges.tune(values);
            for (index, layer) in chain.layers.iter_mut().enumerate().take(ranges.len()) {
                let (low, high): (Vec<f32>, Vec<f32>) =
                    ranges.bounds(index).map(|[low, high]| (low, high)).unzip();
                let tensor = |values: Vec<f32>| {
                    let shape = (1, values.len(), 1, 1);
                    Tensor::from_vec(values, shape, &self.device)
                };
                layer.bounds = Some([tensor(low)?, tensor(high)?]);
            }
        }
        Ok(folded)
    }
}
