//! The 4:2:0 video net: a short chain of tunable 3×3 convolutions whose output is a residual.
//!
//! Input and residual have the six channels of [`crate::frame`]. The last layer mixes its kernels
//! by ω itself, without constant or bias: at ω = 0 the residual is exactly 0 and the output is the
//! input bit for bit.

use candle_core::{Module, Result, Tensor};
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

use super::conv::Activation;
use super::init::TensorSpec;
use super::tunable_conv::{FoldedConv2d, Mode, PhiConfig, TunableConv2d, TunableConv2dConfig};
use crate::frame::CHANNELS;
use crate::{Error, Result as CrateResult};

const KERNEL: usize = 3;

/// The last layer starts small, so that training starts near the identity but not on it.
const TAIL_GAIN: f64 = 0.1;

/// Configuration of a [`VideoNet`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VideoNetConfig {
    /// Channels C between the first and the last layer.
    pub channels: usize,
    /// Number N of C → C layers between the first and the last.
    pub layers: usize,
    /// Slope of leaky ReLU for negative input.
    pub negative_slope: f32,
    /// φ of every layer but the last.
    pub phi: PhiConfig,
}

impl Default for VideoNetConfig {
    fn default() -> Self {
        let phi = PhiConfig { mode: Mode::Mlp, expand: 2 };
        Self { channels: 32, layers: 4, negative_slope: 0.1, phi }
    }
}

impl VideoNetConfig {
    /// # Errors
    /// [`Error::Config`] for sizes that no real net has.
    pub fn validate(&self) -> CrateResult<()> {
        let fail = |reason: String| Err(Error::Config(reason));
        if !(1..=512).contains(&self.channels) {
            return fail(format!("channels = {}, expected 1 to 512", self.channels));
        }
        if self.layers > 64 {
            return fail(format!("layers = {}, expected at most 64", self.layers));
        }
        if !(self.negative_slope > 0.0 && self.negative_slope < 1.0) {
            return fail(format!("negative_slope = {}, expected 0 < x < 1", self.negative_slope));
        }
        let expand = if self.phi.mode == Mode::Multilinear { 1..=1 } else { 1..=16 };
        if !expand.contains(&self.phi.expand) {
            return fail(format!("phi.expand = {}, expected {expand:?}", self.phi.expand));
        }
        Ok(())
    }

    /// How far an output pixel looks, in luma pixels.
    pub fn reach(&self) -> usize {
        let half_size_taps = (self.layers + 2) * (KERNEL / 2);
        // A luma sample shares its 2×2 block with one more pixel on either side.
        2 * half_size_taps + 1
    }

    /// The tensors of such a net with `p` parameters.
    pub fn tensors(&self, p: usize) -> Vec<TensorSpec> {
        self.plan()
            .into_iter()
            .flat_map(|layer| {
                let gain = if layer.is_tail { TAIL_GAIN } else { 1.0 };
                layer.config.tensors(&format!("{}.", layer.name), p, layer.channels, KERNEL, gain)
            })
            .collect()
    }

    /// Name and output channels of every layer but the last.
    pub fn inner_outputs(&self) -> Vec<(String, usize)> {
        let inner = self.plan().into_iter().filter(|layer| !layer.is_tail);
        inner.map(|layer| (layer.name, layer.channels.1)).collect()
    }

    fn plan(&self) -> Vec<LayerPlan> {
        let inner = TunableConv2dConfig {
            padding: KERNEL / 2,
            phi: self.phi,
            activation: Activation::LeakyRelu(self.negative_slope),
            ..Default::default()
        };
        let tail = TunableConv2dConfig {
            bias: false,
            phi: PhiConfig { mode: Mode::Linear, expand: 1 },
            activation: Activation::None,
            ..inner
        };
        let c = self.channels;
        let layer =
            |name: String, channels, config, is_tail| LayerPlan { name, channels, config, is_tail };
        let mut plan = vec![layer("head".into(), (CHANNELS, c), inner, false)];
        plan.extend((0..self.layers).map(|i| layer(format!("body.{i}"), (c, c), inner, false)));
        plan.push(layer("tail".into(), (c, CHANNELS), tail, true));
        plan
    }
}

struct LayerPlan {
    name: String,
    channels: (usize, usize),
    config: TunableConv2dConfig,
    is_tail: bool,
}

/// The 4:2:0 video net.
#[derive(Clone, Debug)]
pub struct VideoNet {
    layers: Vec<TunableConv2d>,
}

impl VideoNet {
    /// Reads the tensors of [`VideoNetConfig::tensors`] from `vb`.
    ///
    /// # Errors
    /// A missing or misshaped tensor.
    pub fn new(p: usize, config: &VideoNetConfig, vb: VarBuilder) -> Result<Self> {
        let layers = config.plan().into_iter().map(|layer| {
            let (c_in, c_out) = layer.channels;
            TunableConv2d::new(p, c_in, c_out, KERNEL, layer.config, vb.pp(layer.name))
        });
        Ok(Self { layers: layers.collect::<Result<_>>()? })
    }

    /// The tunable layers, first to last.
    pub fn layers(&self) -> &[TunableConv2d] {
        &self.layers
    }

    /// The ordinary net at tunings `omega`, `[B, p]`.
    ///
    /// # Errors
    /// A tuning of another shape.
    pub fn fold(&self, omega: &Tensor) -> Result<FoldedChain> {
        let layers = self.layers.iter().map(|layer| layer.fold(omega));
        Ok(FoldedChain { layers: layers.collect::<Result<_>>()? })
    }

    /// Input plus residual, not clipped.
    ///
    /// # Shapes
    /// - `x`: `[N, 6, H, W]`; `omega`: `[B, p]` with B a divisor of N; returns `[N, 6, H, W]`
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward(&self, x: &Tensor, omega: &Tensor) -> Result<Tensor> {
        x + self.fold(omega)?.forward(x)?
    }
}

/// Ordinary convolutions, one after the other.
#[derive(Clone, Debug)]
pub struct FoldedChain {
    /// First to last.
    pub layers: Vec<FoldedConv2d>,
}

impl FoldedChain {
    /// Whether the last layer is zero, and with it the output for any finite input.
    ///
    /// # Errors
    /// A failed copy from the device.
    pub fn is_zero(&self) -> Result<bool> {
        self.layers.last().map_or(Ok(false), FoldedConv2d::is_zero)
    }
}

impl Module for FoldedChain {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.layers.iter().try_fold(x.clone(), |x, layer| layer.forward(&x))
    }
}
