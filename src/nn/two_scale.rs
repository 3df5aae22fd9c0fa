//! A net on 4:2:0 that does part of its work at half the size: down by a convolution of stride 2, up by a
//! 1×1 convolution and pixel shuffle, added to what went down.
//!
//! Input, residual and last layer are those of [`super::video`]: at ω = 0 the output is the input bit for
//! bit. Why two scales: docs/models.md.

use serde::{Deserialize, Serialize};

use super::architecture::{Layers, NetConfig};
use super::chain::{self, ChainLayer, Link};
use super::checks::{check_channels, check_layers, check_phi, check_slope};
use super::conv::Activation;
use super::io::Io;
use super::phi::{Mode, PhiConfig};
use super::tunable_conv::TunableConv2dConfig;
use super::video::{inner, tail};
use crate::Result;
use crate::frame::CHANNELS;

const KERNEL: usize = 3;

/// From one scale to the other, in width and height.
const STEP: usize = 2;

/// Configuration of the two-scale net.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TwoScaleConfig {
    /// Channels at the full size.
    pub channels: usize,
    /// Channels at half of it.
    pub inner_channels: usize,
    /// Layers at the full size between the first one and the way down.
    pub layers_before: usize,
    /// Layers at half the size, beside the way down and up.
    pub layers_inside: usize,
    /// Layers at the full size between the way up and the last one.
    pub layers_after: usize,
    /// Slope of leaky ReLU for negative input.
    pub negative_slope: f32,
    /// φ of every layer but the last.
    pub phi: PhiConfig,
}

impl Default for TwoScaleConfig {
    fn default() -> Self {
        Self {
            channels: 32,
            inner_channels: 64,
            layers_before: 0,
            layers_inside: 2,
            layers_after: 1,
            negative_slope: 0.1,
            phi: PhiConfig { mode: Mode::Mlp, expand: 2 },
        }
    }
}

impl TwoScaleConfig {
    /// Its layers, in the order in which they run.
    pub fn chain(&self) -> Vec<ChainLayer> {
        let (c, deep, inner) =
            (self.channels, self.inner_channels, inner(self.phi, self.negative_slope));
        let layers = |place: &'static str, count: usize, c: usize| {
            let name = move |i| format!("{place}.{i}");
            (0..count).map(move |i| ChainLayer::new(name(i), KERNEL, (c, c), inner))
        };
        let mut chain = vec![ChainLayer::new("head", KERNEL, (CHANNELS, c), inner)];
        chain.extend(layers("before", self.layers_before, c));
        let skip = chain.len();
        let down = TunableConv2dConfig { stride: STEP, ..inner };
        chain.push(ChainLayer::new("down", KERNEL, (c, deep), down));
        chain.extend(layers("inside", self.layers_inside, deep));
        let up = TunableConv2dConfig { activation: Activation::None, ..inner };
        let up = ChainLayer::new("up", 1, (deep, c * STEP * STEP), up);
        chain.push(ChainLayer { link: Link { shuffle: STEP, add: [Some(skip), None] }, ..up });
        chain.extend(layers("after", self.layers_after, c));
        chain.push(tail(c));
        chain
    }
}

impl NetConfig for TwoScaleConfig {
    fn validate(&self) -> Result<()> {
        check_channels("channels", self.channels)?;
        check_channels("inner_channels", self.inner_channels)?;
        check_layers("layers_before", self.layers_before)?;
        check_layers("layers_inside", self.layers_inside)?;
        check_layers("layers_after", self.layers_after)?;
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
        let (before, inside, after) = (self.layers_before, self.layers_inside, self.layers_after);
        let (c, inner, slope) = (self.channels, self.inner_channels, self.negative_slope);
        format!(
            "4:2:0 two-scale net, C={c}-{inner} N={before}-{inside}-{after}, leaky ReLU {slope}"
        )
    }
}
