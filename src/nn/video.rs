//! The 4:2:0 video net: a short chain of tunable 3×3 convolutions whose output is a residual.
//!
//! Input and residual have the six channels of [`crate::frame`]. The last layer mixes its kernels
//! by ω itself, without constant or bias: at ω = 0 the residual is exactly 0 and the output is the
//! input bit for bit.

use serde::{Deserialize, Serialize};

use super::architecture::{Layers, NetConfig};
use super::chain::{self, ChainLayer};
use super::checks::{check_channels, check_layers, check_phi, check_slope};
use super::conv::Activation;
use super::io::Io;
use super::phi::{Mode, PhiConfig};
use super::tunable_conv::TunableConv2dConfig;
use crate::Result;
use crate::frame::CHANNELS;

const KERNEL: usize = 3;

/// The last layer starts small, so that training starts near the identity but not on it.
const TAIL_GAIN: f64 = 0.1;

/// Configuration of the video net.
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
    /// Its layers, in the order in which they run.
    pub fn chain(&self) -> Vec<ChainLayer> {
        let (c, inner) = (self.channels, inner(self.phi, self.negative_slope));
        let mut chain = vec![ChainLayer::new("head", KERNEL, (CHANNELS, c), inner)];
        let body = |i| ChainLayer::new(format!("body.{i}"), KERNEL, (c, c), inner);
        chain.extend((0..self.layers).map(body));
        chain.push(tail(c));
        chain
    }
}

impl NetConfig for VideoNetConfig {
    fn validate(&self) -> Result<()> {
        check_channels("channels", self.channels)?;
        check_layers("layers", self.layers)?;
        check_slope(self.negative_slope)?;
        check_phi(self.phi)
    }

    fn layers(&self) -> Layers {
        Layers::Chain(self.chain())
    }

    fn phi(&self) -> PhiConfig {
        self.phi
    }

    fn io(&self) -> Io {
        let chain = self.chain();
        Io::yuv420(chain::reach(&chain), chain::grid(&chain))
    }

    fn describe(&self) -> String {
        let Self { channels, layers, negative_slope, .. } = self;
        format!("4:2:0 video net, C={channels} N={layers}, leaky ReLU {negative_slope}")
    }
}

/// Of every layer but the last.
pub(super) fn inner(phi: PhiConfig, negative_slope: f32) -> TunableConv2dConfig {
    let activation = Activation::LeakyRelu(negative_slope);
    TunableConv2dConfig { phi, activation, ..Default::default() }
}

/// The last layer of a net on 4:2:0, see the module documentation.
pub(super) fn tail(channels: usize) -> ChainLayer {
    let phi = PhiConfig { mode: Mode::Linear, expand: 1 };
    let config = TunableConv2dConfig { bias: false, phi, ..Default::default() };
    let layer = ChainLayer::new("tail", KERNEL, (channels, CHANNELS), config);
    ChainLayer { gain: TAIL_GAIN, ..layer }
}
