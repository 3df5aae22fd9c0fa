//! The net that the authors of tunable convolutions transfer styles with, on RGB.
//!
//! Johnson, Alahi, Fei-Fei, "Perceptual Losses for Real-Time Style Transfer and Super-Resolution", ECCV 2016,
//! with instance normalisation (Ulyanov, Vedaldi, Lempitsky, arXiv:1607.08022), which takes its statistics
//! over the whole picture. Convolutions are tunable, the weights of the normalisation are not. Tensors have
//! the authors' names.

use std::sync::Arc;

use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

use super::architecture::{Layers, NetConfig};
use super::checks::{check_channels, check_layers, check_phi};
use super::graph::{FoldedLayers, Graph, GraphLayer, GraphLayerKind};
use super::init::Init;
use super::io::{Io, Output, Reach};
use super::ops::{mirror_padded, repeated};
use super::phi::PhiConfig;
use super::statistics::Statistics;
use super::tunable_conv::TunableConv2dConfig;
use crate::Error;

/// R, G and B.
const COLOURS: usize = 3;

/// Of the first and the last layer; the others have kernels of 3×3.
const OUTER_KERNEL: usize = 9;

/// Added to variances.
const EPSILON: f64 = 1e-5;

/// Most times that it halves its width and height.
const MAX_SCALES: usize = 4;

/// Configuration of the style net.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StyleNetConfig {
    /// Channels at full size; each half of the size has twice as many.
    pub channels: usize,
    /// How often width and height are halved.
    pub scales: usize,
    /// Layers on the way down, at each size.
    pub encoder_layers: usize,
    /// Residual blocks of two layers each, at the smallest size.
    pub blocks: usize,
    /// Layers on the way up, at each size.
    pub decoder_layers: usize,
    /// φ of every layer.
    pub phi: PhiConfig,
}

impl Default for StyleNetConfig {
    fn default() -> Self {
        let phi = PhiConfig::default();
        Self { channels: 64, scales: 2, encoder_layers: 2, blocks: 6, decoder_layers: 2, phi }
    }
}

/// A step between the first and the last layer; numbers are those in the tensors' names.
enum Step {
    Layer { index: usize, stride: usize, channels: (usize, usize), scale: usize },
    Block { index: usize, channels: usize },
    /// To twice the size.
    Repeat,
}

impl StyleNetConfig {
    /// Mean colour of ImageNet, which pictures are normalised by.
    pub const MEAN: [f32; COLOURS] = [0.485, 0.456, 0.406];
    /// Standard deviation of its colours.
    pub const DEVIATION: [f32; COLOURS] = [0.229, 0.224, 0.225];

    fn steps(&self) -> Vec<Step> {
        let mut steps = vec![];
        for scale in 1..=self.scales {
            let (c, half) = (self.channels << scale, self.channels << (scale - 1));
            for layer in 0..self.encoder_layers {
                let (stride, from) = if layer == 0 { (2, half) } else { (1, c) };
                steps.push(Step::Layer { index: steps.len(), stride, channels: (from, c), scale });
            }
        }
        for _ in 0..self.blocks {
            let channels = self.channels << self.scales;
            steps.push(Step::Block { index: steps.len(), channels });
        }
        for scale in (0..self.scales).rev() {
            let (c, twice) = (self.channels << scale, self.channels << (scale + 1));
            steps.push(Step::Repeat);
            for layer in 0..self.decoder_layers {
                let channels = (if layer == 0 { twice } else { c }, c);
                steps.push(Step::Layer { index: steps.len(), stride: 1, channels, scale });
            }
        }
        steps
    }
}

impl NetConfig for StyleNetConfig {
    fn validate(&self) -> crate::Result<()> {
        if !(1..=MAX_SCALES).contains(&self.scales) {
            let got = self.scales;
            return Err(Error::Config(format!("scales = {got}, expected 1 to {MAX_SCALES}")));
        }
        check_channels("channels at the smallest size", self.channels << self.scales)?;
        check_layers("blocks", self.blocks)?;
        for (name, layers) in
            [("encoder_layers", self.encoder_layers), ("decoder_layers", self.decoder_layers)]
        {
            check_layers(name, layers)?;
            if layers == 0 {
                return Err(Error::Config(format!("{name} = 0, expected at least 1")));
            }
        }
        check_phi(self.phi)
    }

    fn layers(&self) -> Layers {
        Layers::Graph(Arc::new(*self))
    }

    fn phi(&self) -> PhiConfig {
        self.phi
    }

    fn io(&self) -> Io {
        let coarsest = 1 << self.scales;
        // Pixels at half the size are twice as wide; on the way down the first layer of a size reads the
        // size before, and all of a coarse pixel is told the same.
        let down: usize = (0..self.scales).map(|scale| 1 << scale).sum();
        let inner: usize = (1..=self.scales).map(|scale| (self.encoder_layers - 1) << scale).sum();
        let up: usize = (0..self.scales).map(|scale| self.decoder_layers << scale).sum();
        let blocks = 2 * self.blocks * coarsest;
        let reach = 2 * (OUTER_KERNEL / 2) + down + inner + blocks + up + coarsest - 1;
        Io::rgb(Output::Direct, Reach::Means(reach), coarsest)
    }

    fn describe(&self) -> String {
        let Self { channels, scales, encoder_layers, blocks, decoder_layers, .. } = self;
        format!(
            "style net in RGB, {channels} channels, {scales} times half the size, {encoder_layers} layers, \
             {blocks} blocks, {decoder_layers} layers"
        )
    }
}

impl Graph for StyleNetConfig {
    fn layers(&self) -> Vec<GraphLayer> {
        let c = self.channels;
        let mut layers = vec![];
        let mut conv = |name: String, channels: (usize, usize), kernel, stride, scale: usize| {
            let (padding, phi) = (kernel / 2, self.phi);
            let config = TunableConv2dConfig { stride, padding, phi, ..Default::default() };
            let kind = GraphLayerKind::Conv { channels, kernel, config };
            let density = 0.25f64.powi(scale as i32);
            layers.push(GraphLayer { density, ..GraphLayer::new(name.clone(), kind) });
            // Layers in the order of their names: norm, norm1 and norm2 beside conv, conv1 and conv2.
            if let Some((layer, conv)) = name.rsplit_once(".conv")
                && layer != "conv_out"
            {
                for (weight, value) in [("gamma", 1.0), ("beta", 0.0)] {
                    let (shape, init) = (vec![channels.1], Init::Constant(value));
                    let kind = GraphLayerKind::Constant { shape, init };
                    layers.push(GraphLayer::new(format!("{layer}.norm{conv}.{weight}"), kind));
                }
            }
        };
        conv("conv_in.conv".into(), (COLOURS, c), OUTER_KERNEL, 1, 0);
        for step in self.steps() {
            match step {
                Step::Layer { index, stride, channels, scale } => {
                    conv(format!("encoder_decoder.{index}.conv"), channels, 3, stride, scale);
                }
                Step::Block { index, channels: c } => {
                    for part in [1, 2] {
                        let name = format!("encoder_decoder.{index}.conv{part}");
                        conv(name, (c, c), 3, 1, self.scales);
                    }
                }
                Step::Repeat => {}
            }
        }
        conv("conv_out.conv".into(), (c, COLOURS), OUTER_KERNEL, 1, 0);
        layers
    }

    fn forward(&self, layers: &FoldedLayers, statistics: &mut Statistics, x: &Tensor) -> Result<Tensor> {
        let colours = |values: [f32; COLOURS]| {
            Tensor::new(&values, x.device())?.to_dtype(x.dtype())?.reshape((1, COLOURS, 1, 1))
        };
        let (mean, deviation) = (colours(Self::MEAN)?, colours(Self::DEVIATION)?);
        let x = mirror_padded(x, 1 << self.scales)?;
        let x = x.broadcast_sub(&mean)?.broadcast_div(&deviation)?;
        let mut normal =
            |name: &str, part: &str, x: &Tensor| normal_conv(layers, statistics, name, part, x);
        let mut x = normal("conv_in", "", &x)?.relu()?;
        for step in self.steps() {
            x = match step {
                Step::Layer { index, .. } => {
                    normal(&format!("encoder_decoder.{index}"), "", &x)?.relu()?
                }
                Step::Block { index, .. } => {
                    let name = format!("encoder_decoder.{index}");
                    let y = normal(&name, "1", &x)?.relu()?;
                    (&x + normal(&name, "2", &y)?)?.relu()?
                }
                Step::Repeat => repeated(&x, 2)?,
            };
        }
        layers.conv("conv_out.conv", &x)?.broadcast_mul(&deviation)?.broadcast_add(&mean)
    }
}

/// A layer's convolution and instance normalisation; `part` numbers those of a block.
fn normal_conv(
    layers: &FoldedLayers,
    statistics: &mut Statistics,
    name: &str,
    part: &str,
    x: &Tensor,
) -> Result<Tensor> {
    let x = layers.conv(&format!("{name}.conv{part}"), x)?;
    let x = statistics.normalised(&x, EPSILON)?;
    let tensor = |weight: &str| {
        let tensor = layers.tensor(&format!("{name}.norm{part}.{weight}"))?;
        tensor.reshape((1, tensor.elem_count(), 1, 1))
    };
    x.broadcast_mul(&tensor("gamma")?)?.broadcast_add(&tensor("beta")?)
}
