//! EDSR on RGB, with a tunable convolution wherever it has one, from 1 to 4 times the size.
//!
//! Lim, Son, Kim, Nah, Lee, "Enhanced Deep Residual Networks for Single Image Super-Resolution", CVPR
//! Workshops 2017, as the authors of tunable convolutions have it: the first layer has a ReLU, and after
//! the blocks its output is added with no convolution in between. Tensors have their names, but those of
//! the mean colour, which is a constant.

use serde::{Deserialize, Serialize};

use super::architecture::{Layers, NetConfig};
use super::chain::{self, ChainLayer, Link};
use super::checks::{check_channels, check_layers, check_phi};
use super::conv::Activation;
use super::io::{Io, Output, Reach};
use super::phi::PhiConfig;
use super::tunable_conv::TunableConv2dConfig;
use crate::{Error, Result};

const KERNEL: usize = 3;

/// R, G and B.
const COLOURS: usize = 3;

/// Of DIV2K, on which EDSR was trained.
const MEAN: [f32; COLOURS] = [0.4488, 0.4371, 0.4040];

/// Configuration of EDSR.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EdsrConfig {
    /// Channels between the first and the last layer.
    pub channels: usize,
    /// Residual blocks of two layers each.
    pub blocks: usize,
    /// Output size over input size, 1 to 4.
    pub scale: usize,
    /// What a block's output is multiplied by before its input is added.
    pub residual_scale: f32,
    /// φ of every layer.
    pub phi: PhiConfig,
}

impl Default for EdsrConfig {
    fn default() -> Self {
        let phi = PhiConfig::default();
        Self { channels: 64, blocks: 16, scale: 4, residual_scale: 0.1, phi }
    }
}

impl EdsrConfig {
    /// Its layers, in the order in which they run.
    pub fn chain(&self) -> Vec<ChainLayer> {
        let (c, plain) =
            (self.channels, TunableConv2dConfig { phi: self.phi, ..Default::default() });
        let rectified = TunableConv2dConfig { activation: Activation::LeakyRelu(0.0), ..plain };
        let layer =
            |name: String, channels, config| ChainLayer::new(name, KERNEL, channels, config);
        let mut chain = vec![layer("head".into(), (COLOURS, c), rectified)];
        for block in 0..self.blocks {
            let input = chain.len();
            // The first layer's output is edge 1.
            let skip = (block + 1 == self.blocks).then_some(1);
            let name = |conv: usize| format!("body.{block}.conv{conv}");
            chain.push(layer(name(1), (c, c), rectified));
            chain.push(ChainLayer {
                factor: self.residual_scale,
                link: Link { add: [Some(input), skip], ..Link::NONE },
                ..layer(name(2), (c, c), plain)
            });
        }
        for (index, &shuffle) in chain::shuffles(self.scale).iter().enumerate() {
            // A shuffle counts as a layer.
            let name = format!("upsample.{}", 2 * index);
            let link = Link { shuffle, ..Link::NONE };
            chain.push(ChainLayer { link, ..layer(name, (c, c * shuffle.pow(2)), plain) });
        }
        chain.push(layer("tail".into(), (c, COLOURS), plain));
        chain
    }
}

impl NetConfig for EdsrConfig {
    fn validate(&self) -> Result<()> {
        check_channels("channels", self.channels)?;
        check_layers("blocks", self.blocks)?;
        if self.blocks == 0 {
            return Err(Error::Config("blocks = 0, expected at least 1".into()));
        }
        if !(1..=4).contains(&self.scale) {
            return Err(Error::Config(format!("scale = {}, expected 1 to 4", self.scale)));
        }
        if !(self.residual_scale > 0.0 && self.residual_scale <= 1.0) {
            let got = self.residual_scale;
            return Err(Error::Config(format!("residual_scale = {got}, expected 0 < x ≤ 1")));
        }
        check_phi(self.phi)
    }

    fn layers(&self) -> Layers {
        Layers::Chain(self.chain())
    }

    fn phi(&self) -> PhiConfig {
        self.phi
    }

    fn io(&self) -> Io {
        let io = Io::rgb(Output::Direct, Reach::Pixels(chain::reach(&self.chain())), 1);
        Io { scale: self.scale, mean: Some(MEAN), ..io }
    }

    fn describe(&self) -> String {
        let Self { channels, blocks, scale, residual_scale, .. } = self;
        format!(
            "EDSR ×{scale} in RGB, {blocks} blocks of {channels} channels, residuals × {residual_scale}"
        )
    }
}
