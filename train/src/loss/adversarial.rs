//! A patch discriminator and the two games it plays.

use std::collections::HashMap;

use anyhow::{Context as _, ensure};
use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};
use tunableconv::nn::conv::conv2d;
use tunableconv::nn::{Activation, ConvGeometry, Init, TensorSpec};

use super::{Loss, Seen, mean_per_sample, unshuffle};

const KERNEL: usize = 3;
const SLOPE: f32 = 0.2;

/// Layers double their width up to this multiple of the first's.
const MAX_WIDENING: usize = 8;

/// What a discriminator, trained along, says of the output, in RGB.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adversarial {}

impl Loss for Adversarial {
    fn is_game(&self) -> bool {
        true
    }

    fn per_sample(&self, seen: &Seen<'_>) -> anyhow::Result<Tensor> {
        let (discriminator, game) =
            seen.game.context("an adversarial objective needs a discriminator")?;
        let real = discriminator.forward(&seen.rgb(seen.target)?)?;
        let fake = discriminator.forward(&seen.rgb(seen.output)?)?;
        Ok(generator_loss(game, &real, &fake)?)
    }
}

/// Configuration of a [`Discriminator`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiscriminatorConfig {
    /// Channels of the first layer; each further one has twice as many, up to 8 times the first's.
    pub channels: usize,
    /// Layers that halve the picture, before the one that makes the logits.
    pub layers: usize,
}

impl Default for DiscriminatorConfig {
    fn default() -> Self {
        Self { channels: 32, layers: 3 }
    }
}

impl DiscriminatorConfig {
    /// # Errors
    /// Sizes that no real net has.
    pub fn validate(&self) -> anyhow::Result<()> {
        let Self { channels, layers } = self;
        ensure!((1..=256).contains(channels), "channels = {channels}, expected 1 to 256");
        ensure!((1..=5).contains(layers), "layers = {layers}, expected 1 to 5");
        Ok(())
    }

    /// The tensors of such a net, `discriminator.N.weight` `[1, C_out, C_in, 3, 3]` and
    /// `discriminator.N.bias` `[1, C_out]`: Kaiming uniform for leaky ReLU 0.2.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        let layer = |(i, (c_in, c_out)): (usize, (usize, usize))| {
            let slope = f64::from(SLOPE);
            let fan_in = (c_in * KERNEL * KERNEL) as f64;
            let bound = (6.0 / ((1.0 + slope * slope) * fan_in)).sqrt();
            let weight = [1, c_out, c_in, KERNEL, KERNEL];
            [
                TensorSpec::new(weight_name(i), &weight, Init::Uniform(bound)),
                TensorSpec::new(bias_name(i), &[1, c_out], Init::Constant(0.0)),
            ]
        };
        self.plan().into_iter().enumerate().flat_map(layer).collect()
    }

    /// Input and output channels of every convolution.
    fn plan(&self) -> Vec<(usize, usize)> {
        let mut plan = Vec::with_capacity(self.layers + 1);
        let mut c_in = 3;
        for layer in 0..self.layers {
            let c_out = self.channels * MAX_WIDENING.min(1 << layer);
            plan.push((4 * c_in, c_out));
            c_in = c_out;
        }
        plan.push((c_in, 1));
        plan
    }
}

fn weight_name(layer: usize) -> String {
    format!("discriminator.{layer}.weight")
}

fn bias_name(layer: usize) -> String {
    format!("discriminator.{layer}.bias")
}

/// Tells for every patch of a picture whether it is real (Isola et al., CVPR 2017), by
/// convolutions and leaky ReLU 0.2 without normalisation, so that samples do not mix.
///
/// A layer unfolds its input 2×2 into channels and convolves that 3×3, which is a 6×6 convolution
/// of stride 2 in the form that this project's kernels are fast at.
#[derive(Clone, Debug)]
pub struct Discriminator {
    /// Weight and bias of every convolution.
    layers: Vec<(Tensor, Tensor)>,
}

impl Discriminator {
    /// From the tensors that [`DiscriminatorConfig::tensors`] names; others are ignored.
    ///
    /// # Errors
    /// An impossible configuration, a missing or misshaped tensor.
    pub fn from_tensors(
        config: &DiscriminatorConfig,
        tensors: &HashMap<String, Tensor>,
    ) -> anyhow::Result<Self> {
        config.validate()?;
        for spec in config.tensors() {
            let name = &spec.name;
            let tensor =
                tensors.get(name).with_context(|| format!("no tensor {name}, expected {spec}"))?;
            ensure!(
                tensor.dims() == spec.shape,
                "tensor {name} has shape {:?}, expected {:?}",
                tensor.dims(),
                spec.shape
            );
        }
        let layer = |i| (tensors[&weight_name(i)].clone(), tensors[&bias_name(i)].clone());
        Ok(Self { layers: (0..=config.layers).map(layer).collect() })
    }

    /// The same net as a constant, which spares the generator's step the gradients of its weights.
    /// It follows later changes of trained variables.
    #[must_use]
    pub fn frozen(&self) -> Self {
        let layers = self.layers.iter().map(|(w, b)| (w.detach(), b.detach()));
        Self { layers: layers.collect() }
    }

    /// A logit per patch, positive for "real".
    ///
    /// # Shapes
    /// - `rgb`: `[N, 3, H, W]`, values in 0 to 1
    /// - returns `[N, 1, h, w]`, the sides halved once per layer and rounded down
    ///
    /// # Errors
    /// Another shape or type, sides that are halved to nothing.
    pub fn forward(&self, rgb: &Tensor) -> Result<Tensor> {
        let last = self.layers.len() - 1;
        let geometry = ConvGeometry { padding: KERNEL / 2, ..Default::default() };
        let mut x = rgb.affine(2.0, -1.0)?;
        for (weight, bias) in &self.layers[..last] {
            let leaky = Activation::LeakyRelu(SLOPE);
            x = conv2d(&unshuffle(&x)?, weight, Some(bias), geometry, leaky)?;
        }
        let (weight, bias) = &self.layers[last];
        conv2d(&x, weight, Some(bias), geometry, Activation::None)
    }
}

/// Which game is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AdversarialKind {
    /// Hinge loss (Lim & Ye, "Geometric GAN", 2017). Samples do not mix.
    Hinge,
    /// Relativistic average with cross-entropy (Jolicoeur-Martineau, "The relativistic
    /// discriminator", 2018): logits count relative to the mean over the other kind's whole batch.
    Relativistic,
}

/// What the generator minimises. Its gradient goes through `fake` alone if `real` is a constant.
///
/// # Shapes
/// - `real`, `fake`: logits `[N, 1, h, w]`; returns `[N]`
///
/// # Errors
/// Shapes or types that differ.
pub fn generator_loss(kind: AdversarialKind, real: &Tensor, fake: &Tensor) -> Result<Tensor> {
    match kind {
        AdversarialKind::Hinge => mean_per_sample(&fake.neg()?),
        AdversarialKind::Relativistic => relativistic(fake, real),
    }
}

/// What the discriminator minimises.
///
/// # Shapes
/// - `real`, `fake`: logits `[N, 1, h, w]`; returns `[N]`
///
/// # Errors
/// Shapes or types that differ.
pub fn discriminator_loss(kind: AdversarialKind, real: &Tensor, fake: &Tensor) -> Result<Tensor> {
    match kind {
        AdversarialKind::Hinge => {
            let (real, fake) = (real.affine(-1.0, 1.0)?.relu()?, (fake + 1.0)?.relu()?);
            mean_per_sample(&(real + fake)?)
        }
        AdversarialKind::Relativistic => relativistic(real, fake),
    }
}

/// Cross-entropy of "`higher` is above the mean of `lower`" and "`lower` is below that of `higher`".
fn relativistic(higher: &Tensor, lower: &Tensor) -> Result<Tensor> {
    let above = higher.broadcast_sub(&lower.mean_all()?)?;
    let below = lower.broadcast_sub(&higher.mean_all()?)?;
    mean_per_sample(&(softplus(&above.neg()?)? + softplus(&below)?)?)
}

/// `ln(1 + eˣ)`, which neither overflows nor loses its gradient.
fn softplus(x: &Tensor) -> Result<Tensor> {
    x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()?
}
