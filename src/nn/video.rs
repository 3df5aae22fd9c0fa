//! The 4:2:0 video net: a short chain of tunable 3×3 convolutions whose output is a residual.
//!
//! Input and residual have the six channels of [`crate::frame`]. The last layer mixes its kernels
//! by ω itself, without constant or bias: at ω = 0 the residual is exactly 0 and the output is the
//! input bit for bit.

use serde::{Deserialize, Serialize};

use super::architecture::NetConfig;
use super::chain::ChainLayer;
use super::conv::Activation;
use super::tunable_conv::{Mode, PhiConfig, TunableConv2dConfig};
use crate::frame::CHANNELS;
use crate::{Error, Result};

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

impl NetConfig for VideoNetConfig {
    fn validate(&self) -> Result<()> {
        check_channels("channels", self.channels)?;
        check_layers("layers", self.layers)?;
        check_slope(self.negative_slope)?;
        check_phi(self.phi)
    }

    fn chain(&self) -> Vec<ChainLayer> {
        let (c, inner) = (self.channels, inner(self.phi, self.negative_slope));
        let mut chain = vec![ChainLayer::new("head", KERNEL, (CHANNELS, c), inner)];
        let body = |i| ChainLayer::new(format!("body.{i}"), KERNEL, (c, c), inner);
        chain.extend((0..self.layers).map(body));
        chain.push(tail(c));
        chain
    }

    fn phi(&self) -> PhiConfig {
        self.phi
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

pub(super) fn check_channels(name: &str, channels: usize) -> Result<()> {
    match channels {
        1..=512 => Ok(()),
        _ => Err(Error::Config(format!("{name} = {channels}, expected 1 to 512"))),
    }
}

pub(super) fn check_layers(name: &str, layers: usize) -> Result<()> {
    match layers {
        0..=64 => Ok(()),
        _ => Err(Error::Config(format!("{name} = {layers}, expected at most 64"))),
    }
}

pub(super) fn check_slope(slope: f32) -> Result<()> {
    if slope > 0.0 && slope < 1.0 {
        return Ok(());
    }
    Err(Error::Config(format!("negative_slope = {slope}, expected 0 < x < 1")))
}

pub(super) fn check_phi(phi: PhiConfig) -> Result<()> {
    let expand = if phi.mode == Mode::Multilinear { 1..=1 } else { 1..=16 };
    if expand.contains(&phi.expand) {
        return Ok(());
    }
    Err(Error::Config(format!("phi.expand = {}, expected {expand:?}", phi.expand)))
}
