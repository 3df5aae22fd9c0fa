//! NAFNet on RGB, with everything in it that the authors of tunable convolutions made tunable.
//!
//! Chen, Chu, Zhang, Sun, "Simple Baselines for Image Restoration", ECCV 2022 (arXiv:2204.04676): a U-Net of
//! blocks that have a gate instead of an activation, and a channel attention by the means over the whole
//! picture. Convolutions and residual scales β, γ are tunable, the weights of the normalisation are not.
//! Tensors have the authors' names.

use std::sync::Arc;

use candle_core::{Result, Tensor};
use candle_nn::ops::pixel_shuffle;
use serde::{Deserialize, Serialize};

use super::architecture::{Layers, NetConfig};
use super::checks::{check_layers, check_phi};
use super::graph::{FoldedLayers, Graph, GraphLayer, GraphLayerKind};
use super::init::Init;
use super::io::{Io, Output, Reach};
use super::ops::{normalised, scaled, zero_padded};
use super::phi::PhiConfig;
use super::statistics::Statistics;
use super::tunable_conv::TunableConv2dConfig;
use crate::Error;

/// R, G and B.
const COLOURS: usize = 3;

/// Dimension of channels.
const CHANNELS: usize = 1;

/// Added to variances.
const EPSILON: f64 = 1e-6;

/// Most channels where the net is at its coarsest.
const MAX_CHANNELS: usize = 1024;

/// Most times that it halves its width and height.
const MAX_LEVELS: usize = 6;

/// Configuration of NAFNet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NafNetConfig {
    /// Channels at full size; each half of the size has twice as many.
    pub channels: usize,
    /// Blocks on the way down, at each size.
    pub encoder_blocks: Vec<usize>,
    /// Blocks at the smallest size.
    pub middle_blocks: usize,
    /// Blocks on the way up, at each size.
    pub decoder_blocks: Vec<usize>,
    /// φ of every layer.
    pub phi: PhiConfig,
}

impl Default for NafNetConfig {
    fn default() -> Self {
        Self {
            channels: 32,
            encoder_blocks: vec![2, 2, 4, 8],
            middle_blocks: 12,
            decoder_blocks: vec![2, 2, 2, 2],
            phi: PhiConfig::default(),
        }
    }
}

impl NafNetConfig {
    fn levels(&self) -> usize {
        self.encoder_blocks.len()
    }

    /// Prefixes of its blocks, and the level that each is at.
    fn blocks<'c>(&'c self) -> impl Iterator<Item = (String, usize)> + 'c {
        let levels = self.levels();
        let named = |stage: &'static str, counts: &'c [usize]| {
            let counts = counts.iter().enumerate();
            counts.flat_map(move |(at, &count)| {
                (0..count).map(move |block| (format!("{stage}.{at}.{block}"), at))
            })
        };
        let middle =
            (0..self.middle_blocks).map(move |b| (format!("middle_blks.{b}"), levels));
        let up = named("decoders", &self.decoder_blocks);
        let up = up.map(move |(name, at)| (name, levels - 1 - at));
        named("encoders", &self.encoder_blocks).chain(middle).chain(up)
    }
}

impl NetConfig for NafNetConfig {
    fn validate(&self) -> crate::Result<()> {
        let fail = |reason: String| Err(Error::Config(reason));
        let (levels, up) = (self.levels(), self.decoder_blocks.len());
        if !(1..=MAX_LEVELS).contains(&levels) || levels != up {
            return fail(format!(
                "encoder_blocks for {levels} sizes, decoder_blocks for {up}, expected as many, 1 to {MAX_LEVELS}"
            ));
        }
        if self.channels == 0 || self.channels > MAX_CHANNELS >> levels {
            let (got, most) = (self.channels, MAX_CHANNELS >> levels);
            return fail(format!("channels = {got}, expected 1 to {most} with {levels} sizes"));
        }
        check_layers("middle_blocks", self.middle_blocks)?;
        for (name, counts) in
            [("encoder_blocks", &self.encoder_blocks), ("decoder_blocks", &self.decoder_blocks)]
        {
            counts.iter().try_for_each(|count| check_layers(name, *count))?;
        }
        check_phi(self.phi)
    }

    fn layers(&self) -> Layers {
        Layers::Graph(Arc::new(self.clone()))
    }

    fn phi(&self) -> PhiConfig {
        self.phi
    }

    fn io(&self) -> Io {
        let coarsest = 1 << self.levels();
        // A block looks one pixel of its size further, and all of a coarse pixel is told the same.
        let blocks: usize = self.blocks().map(|(_, level)| 1 << level).sum();
        Io::rgb(Output::Residual, Reach::Means(2 + blocks + coarsest - 1), coarsest)
    }

    fn describe(&self) -> String {
        let Self { channels, encoder_blocks, middle_blocks, decoder_blocks, .. } = self;
        format!(
            "NAFNet in RGB, {channels} channels, {encoder_blocks:?} + {middle_blocks} + {decoder_blocks:?} blocks"
        )
    }
}

impl Graph for NafNetConfig {
    fn layers(&self) -> Vec<GraphLayer> {
        let (c, levels) = (self.channels, self.levels());
        let phi = self.phi;
        let config = TunableConv2dConfig { phi, ..Default::default() };
        let conv = |name: String, density: f64, channels, kernel, config| GraphLayer {
            density,
            ..GraphLayer::new(name, GraphLayerKind::Conv { channels, kernel, config })
        };
        // Of a size that many times halved.
        let density = |level: usize| 0.25f64.powi(level as i32);
        let same = TunableConv2dConfig { padding: 1, ..config };
        let mut layers = vec![
            conv("intro".into(), 1.0, (COLOURS, c), 3, same),
            // What is added to the picture starts small.
            conv("ending".into(), 1.0, (c, COLOURS), 3, same).with_gain(0.1),
        ];
        for level in 0..levels {
            let (c, half) = (c << level, TunableConv2dConfig { stride: 2, ..config });
            layers.push(conv(format!("downs.{level}"), density(level + 1), (c, 2 * c), 2, half));
        }
        for up in 0..levels {
            let (c, no_bias) = (c << (levels - up), TunableConv2dConfig { bias: false, ..config });
            let density = density(levels - up);
            layers.push(conv(format!("ups.{up}"), density, (c, 2 * c), 1, no_bias));
        }
        for (block, level) in self.blocks() {
            let (c, density) = (c << level, density(level));
            let depthwise = TunableConv2dConfig { groups: 2 * c, ..same };
            let mut push = |name: &str, density, channels, kernel, config| {
                layers.push(conv(format!("{block}.{name}"), density, channels, kernel, config));
            };
            push("conv1", density, (c, 2 * c), 1, config);
            push("conv2", density, (2 * c, 2 * c), 3, depthwise);
            push("conv3", density, (c, c), 1, config);
            push("sca", 0.0, (c, c), 1, config);
            push("conv4", density, (c, 2 * c), 1, config);
            push("conv5", density, (c, c), 1, config);
            for (name, value) in [("weight", 1.0), ("bias", 0.0)] {
                for norm in ["norm1", "norm2"] {
                    let (shape, init) = (vec![1, c, 1, 1], Init::Constant(value));
                    let kind = GraphLayerKind::Constant { shape, init };
                    layers.push(GraphLayer::new(format!("{block}.{norm}.{name}"), kind));
                }
            }
            for name in ["beta", "gamma"] {
                let (shape, init) = (vec![c, 1, 1], Init::Constant(0.0));
                let kind = GraphLayerKind::Parameter { shape, init, phi };
                layers.push(GraphLayer::new(format!("{block}.{name}"), kind));
            }
        }
        layers
    }

    fn forward(&self, layers: &FoldedLayers, statistics: &mut Statistics, x: &Tensor) -> Result<Tensor> {
        let mut blocks = |x: Tensor, stage: String, count: usize| {
            (0..count).try_fold(x, |x, at| block(layers, statistics, &format!("{stage}.{at}"), &x))
        };
        let mut x = layers.conv("intro", &zero_padded(x, 1 << self.levels())?)?;
        let mut skips = vec![];
        for (level, &count) in self.encoder_blocks.iter().enumerate() {
            x = blocks(x, format!("encoders.{level}"), count)?;
            skips.push(x.clone());
            x = layers.conv(&format!("downs.{level}"), &x)?;
        }
        x = blocks(x, "middle_blks".into(), self.middle_blocks)?;
        for (up, (&count, skip)) in self.decoder_blocks.iter().zip(skips.iter().rev()).enumerate() {
            x = (pixel_shuffle(&layers.conv(&format!("ups.{up}"), &x)?, 2)? + skip)?;
            x = blocks(x, format!("decoders.{up}"), count)?;
        }
        layers.conv("ending", &x)
    }
}

/// One block.
fn block(layers: &FoldedLayers, statistics: &mut Statistics, name: &str, x: &Tensor) -> Result<Tensor> {
    let conv = |conv: &str, x: &Tensor| layers.conv(&format!("{name}.{conv}"), x);
    let tensor = |tensor: &str| layers.tensor(&format!("{name}.{tensor}"));
    let norm = |norm: &str, x: &Tensor| {
        let x = normalised(x, &[CHANNELS], EPSILON)?;
        let (weight, bias) = (tensor(&format!("{norm}.weight"))?, tensor(&format!("{norm}.bias"))?);
        x.broadcast_mul(weight)?.broadcast_add(bias)
    };
    let y = gated(&conv("conv2", &conv("conv1", &norm("norm1", x)?)?)?)?;
    let y = y.broadcast_mul(&conv("sca", &statistics.mean(&y)?)?)?;
    let x = (x + scaled(&conv("conv3", &y)?, tensor("beta")?)?)?;
    let y = gated(&conv("conv4", &norm("norm2", &x)?)?)?;
    &x + scaled(&conv("conv5", &y)?, tensor("gamma")?)?
}

/// One half of the channels times the other.
fn gated(x: &Tensor) -> Result<Tensor> {
    let half = x.dim(CHANNELS)? / 2;
    x.narrow(CHANNELS, 0, half)? * x.narrow(CHANNELS, half, half)?
}
