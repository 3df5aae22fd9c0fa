//! SwinIR on RGB, with everything in it that the authors of tunable convolutions made tunable.
//!
//! Liang, Cao, Sun, Zhang, Van Gool, Timofte, "SwinIR: Image Restoration Using Swin Transformer", ICCVW 2021
//! (arXiv:2108.10257): self-attention within windows that move by half their size from block to block.
//! Convolutions, dense layers and position biases are tunable, the weights of the normalisation are not.
//! Tensors have the authors' names.

use std::sync::Arc;

use candle_core::{D, Result, Tensor};
use candle_nn::ops::{leaky_relu, pixel_shuffle, softmax};
use serde::{Deserialize, Serialize};

use super::architecture::{Layers, NetConfig};
use super::chain::shuffles;
use super::checks::{check_channels, check_layers, check_phi};
use super::graph::{FoldedLayers, Graph, GraphLayer, GraphLayerKind};
use super::init::Init;
use super::io::{Io, Output, Reach};
use super::ops::{mirror_padded, normalised};
use super::phi::PhiConfig;
use super::statistics::Statistics;
use super::tunable_conv::TunableConv2dConfig;
use crate::Error;

/// R, G and B.
const COLOURS: usize = 3;

/// Of DIV2K, on which SwinIR was trained.
const MEAN: [f32; COLOURS] = [0.4488, 0.4371, 0.4040];

/// Channels where the picture is enlarged.
const UP_CHANNELS: usize = 64;

/// Below zero, of the layer before that.
const UP_SLOPE: f64 = 0.01;

/// Added to variances.
const EPSILON: f64 = 1e-5;

/// Added to what one pixel attends to another with that is far off in the picture, though in its window.
const FAR: f32 = -100.0;

/// Configuration of SwinIR.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwinIrConfig {
    /// Channels of a pixel's embedding.
    pub channels: usize,
    /// Blocks of each residual group.
    pub depths: Vec<usize>,
    /// Attention heads of each residual group; they divide the channels.
    pub heads: Vec<usize>,
    /// Width and height of windows, in pixels.
    pub window: usize,
    /// Channels inside a block's two dense layers, over those outside.
    pub mlp_ratio: f64,
    /// Output size over input size: 1, where the output is added to the input, to 4.
    pub scale: usize,
    /// φ of every layer.
    pub phi: PhiConfig,
}

impl Default for SwinIrConfig {
    fn default() -> Self {
        Self {
            channels: 180,
            depths: vec![6; 6],
            heads: vec![6; 6],
            window: 8,
            mlp_ratio: 2.0,
            scale: 1,
            phi: PhiConfig::default(),
        }
    }
}

impl SwinIrConfig {
    /// Channels inside a block's dense layers.
    fn inner(&self) -> usize {
        (self.channels as f64 * self.mlp_ratio) as usize
    }

    /// Places of the pairs of a window's pixels in the table of position biases: each of one pixel with all.
    fn pairs(&self) -> Vec<u32> {
        let (side, span) = (self.window, 2 * self.window - 1);
        let pixels = || (0..side * side).map(move |at| (at / side, at % side));
        let place = |(y, x): (usize, usize), (other_y, other_x): (usize, usize)| {
            ((y + side - 1 - other_y) * span + x + side - 1 - other_x) as u32
        };
        pixels().flat_map(|one| pixels().map(move |other| place(one, other))).collect()
    }

    /// What is added to attention in the windows of a picture that was moved by half a window: pixels which
    /// came round from the other side do not meet those that were there. `[windows, 1, W², W²]`.
    fn mask(&self, [height, width]: [usize; 2], like: &Tensor) -> Result<Tensor> {
        let (side, shift) = (self.window, self.window / 2);
        let region = |at: usize, len: usize| usize::from(at + shift >= len);
        let mut mask = Vec::with_capacity(height * width * side * side);
        for window in 0..(height / side) * (width / side) {
            let (top, left) = (window / (width / side) * side, window % (width / side) * side);
            let regions = (0..side * side).map(|at| {
                [region(top + at / side, height), region(left + at % side, width)]
            });
            let regions: Vec<[usize; 2]> = regions.collect();
            for one in &regions {
                mask.extend(regions.iter().map(|other| if one == other { 0.0 } else { FAR }));
            }
        }
        let shape = ((height / side) * (width / side), 1, side * side, side * side);
        Tensor::from_vec(mask, shape, like.device())?.to_dtype(like.dtype())
    }
}

impl NetConfig for SwinIrConfig {
    fn validate(&self) -> crate::Result<()> {
        let fail = |reason: String| Err(Error::Config(reason));
        check_channels("channels", self.channels)?;
        let (groups, heads) = (self.depths.len(), self.heads.len());
        if !(1..=16).contains(&groups) || groups != heads {
            return fail(format!(
                "depths for {groups} groups, heads for {heads}, expected as many, 1 to 16"
            ));
        }
        self.depths.iter().try_for_each(|depth| check_layers("depths", *depth))?;
        if let Some(heads) =
            self.heads.iter().find(|heads| **heads == 0 || !self.channels.is_multiple_of(**heads))
        {
            return fail(format!("heads = {heads}, expected a divisor of {} channels", self.channels));
        }
        if !(2..=32).contains(&self.window) {
            return fail(format!("window = {}, expected 2 to 32", self.window));
        }
        if !(self.mlp_ratio.is_finite() && (1.0..=8.0).contains(&self.mlp_ratio)) {
            return fail(format!("mlp_ratio = {}, expected 1 to 8", self.mlp_ratio));
        }
        if !(1..=4).contains(&self.scale) {
            return fail(format!("scale = {}, expected 1 to 4", self.scale));
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
        let blocks: usize = self.depths.iter().sum();
        // A block looks as far as its windows are wide, a convolution a pixel: one at the start, one for
        // each group, one after all, and up to four at the end.
        let reach = blocks * (self.window - 1) + 1 + self.depths.len() + 1 + 4;
        let output = if self.scale == 1 { Output::Residual } else { Output::Direct };
        let io = Io::rgb(output, Reach::Pixels(reach), self.window);
        Io { scale: self.scale, mean: Some(MEAN), ..io }
    }

    fn describe(&self) -> String {
        let Self { channels, depths, heads, window, scale, .. } = self;
        format!(
            "SwinIR ×{scale} in RGB, {channels} channels, {depths:?} blocks of {heads:?} heads in windows of \
             {window}×{window}"
        )
    }
}

impl Graph for SwinIrConfig {
    fn layers(&self) -> Vec<GraphLayer> {
        let (c, phi) = (self.channels, self.phi);
        let conv = |name: String, channels, density: usize| {
            let config = TunableConv2dConfig { padding: 1, phi, ..Default::default() };
            let kind = GraphLayerKind::Conv { channels, kernel: 3, config };
            GraphLayer { density: density as f64, ..GraphLayer::new(name, kind) }
        };
        let mut layers = vec![conv("conv_first".into(), (COLOURS, c), 1)];
        let mut norms = vec!["patch_embed.norm".to_owned(), "norm".to_owned()];
        for (group, (&depth, &heads)) in self.depths.iter().zip(&self.heads).enumerate() {
            for block in (0..depth).map(|block| block_name(group, block)) {
                norms.extend([1, 2].map(|norm| format!("{block}.norm{norm}")));
                for (name, channels) in [
                    ("attn.qkv", (c, 3 * c)),
                    ("attn.proj", (c, c)),
                    ("mlp.fc1", (c, self.inner())),
                    ("mlp.fc2", (self.inner(), c)),
                ] {
                    let kind = GraphLayerKind::Dense { channels, phi };
                    layers.push(GraphLayer::new(format!("{block}.{name}"), kind));
                }
                let shape = vec![(2 * self.window - 1).pow(2), heads];
                let kind = GraphLayerKind::Parameter { shape, init: Init::Constant(0.0), phi };
                layers.push(GraphLayer::new(format!("{block}.{BIASES}"), kind));
            }
            layers.push(conv(format!("layers.{group}.conv"), (c, c), 1));
        }
        for norm in norms {
            for (name, value) in [("gamma", 1.0), ("beta", 0.0)] {
                let (shape, init) = (vec![c], Init::Constant(value));
                let kind = GraphLayerKind::Constant { shape, init };
                layers.push(GraphLayer::new(format!("{norm}.{name}"), kind));
            }
        }
        layers.push(conv("conv_after_body".into(), (c, c), 1));
        if self.scale == 1 {
            // What is added to the picture starts small.
            layers.push(conv("conv_last".into(), (c, COLOURS), 1).with_gain(0.1));
            return layers;
        }
        layers.push(conv("conv_before_upsample.0".into(), (c, UP_CHANNELS), 1));
        let mut density = 1;
        for (index, shuffle) in shuffles(self.scale).iter().enumerate() {
            let channels = (UP_CHANNELS, UP_CHANNELS * shuffle.pow(2));
            // A shuffle counts as a layer.
            layers.push(conv(format!("upsample.{}", 2 * index), channels, density));
            density *= shuffle.pow(2);
        }
        layers.push(conv("conv_last".into(), (UP_CHANNELS, COLOURS), density));
        layers
    }

    fn forward(&self, layers: &FoldedLayers, _: &mut Statistics, x: &Tensor) -> Result<Tensor> {
        let first = layers.conv("conv_first", &mirror_padded(x, self.window)?)?;
        let size = [first.dim(2)?, first.dim(3)?];
        let mask = self.mask(size, x)?;
        let pairs = Tensor::new(self.pairs(), x.device())?;
        let mut x = norm(layers, "patch_embed.norm", &to_pixels(&first)?)?;
        for (group, (&depth, &heads)) in self.depths.iter().zip(&self.heads).enumerate() {
            let mut y = x.clone();
            for block in 0..depth {
                let shift = if block % 2 == 0 { 0 } else { self.window / 2 };
                let attention = Attention {
                    layers,
                    name: block_name(group, block),
                    heads,
                    window: self.window,
                    shift,
                    mask: (shift > 0).then_some(&mask),
                    pairs: &pairs,
                };
                y = attention.block(&y, size)?;
            }
            let y = layers.conv(&format!("layers.{group}.conv"), &to_picture(&y, size)?)?;
            x = (to_pixels(&y)? + x)?;
        }
        let x = to_picture(&norm(layers, "norm", &x)?, size)?;
        let x = (layers.conv("conv_after_body", &x)? + first)?;
        if self.scale == 1 {
            return layers.conv("conv_last", &x);
        }
        let mut x = leaky_relu(&layers.conv("conv_before_upsample.0", &x)?, UP_SLOPE)?;
        for (index, &shuffle) in shuffles(self.scale).iter().enumerate() {
            x = pixel_shuffle(&layers.conv(&format!("upsample.{}", 2 * index), &x)?, shuffle)?;
        }
        layers.conv("conv_last", &x)
    }
}

/// A block's table of position biases.
const BIASES: &str = "attn.relative_position_bias_table";

fn block_name(group: usize, block: usize) -> String {
    format!("layers.{group}.residual_group.blocks.{block}")
}

/// `[N, C, H, W]` as `[N, H·W, C]`.
fn to_pixels(x: &Tensor) -> Result<Tensor> {
    x.flatten_from(2)?.transpose(1, 2)?.contiguous()
}

/// And back.
fn to_picture(x: &Tensor, [height, width]: [usize; 2]) -> Result<Tensor> {
    let (n, _, c) = x.dims3()?;
    x.transpose(1, 2)?.contiguous()?.reshape((n, c, height, width))
}

/// Layer normalisation of each pixel of `[N, L, C]`.
fn norm(layers: &FoldedLayers, name: &str, x: &Tensor) -> Result<Tensor> {
    let (gamma, beta) =
        (layers.tensor(&format!("{name}.gamma"))?, layers.tensor(&format!("{name}.beta"))?);
    normalised(x, &[2], EPSILON)?.broadcast_mul(gamma)?.broadcast_add(beta)
}

/// A block, and what it needs beside its input.
struct Attention<'a> {
    layers: &'a FoldedLayers,
    /// Prefix of its tensors' names.
    name: String,
    heads: usize,
    /// Width and height of its windows.
    window: usize,
    /// How far they are moved, to the right and down.
    shift: usize,
    mask: Option<&'a Tensor>,
    pairs: &'a Tensor,
}

impl Attention<'_> {
    fn dense(&self, name: &str, x: &Tensor) -> Result<Tensor> {
        self.layers.dense(&format!("{}.{name}", self.name), x)
    }

    /// Of pixels `[N, H·W, C]`.
    fn block(&self, x: &Tensor, [height, width]: [usize; 2]) -> Result<Tensor> {
        let (n, l, c) = x.dims3()?;
        let (side, shift) = (self.window, self.shift as i32);
        let (down, across) = (height / side, width / side);
        let y = norm(self.layers, &format!("{}.norm1", self.name), x)?;
        let y = y.reshape((n, height, width, c))?.roll(-shift, 1)?.roll(-shift, 2)?;
        // Window by window.
        let y = y.reshape(&[n, down, side, across, side, c][..])?.permute([0, 1, 3, 2, 4, 5])?;
        let y = self.attended(&y.contiguous()?.reshape((n, l, c))?)?;
        let y = y.reshape(&[n, down, across, side, side, c][..])?.permute([0, 1, 3, 2, 4, 5])?;
        let y = y.contiguous()?.reshape((n, height, width, c))?.roll(shift, 1)?.roll(shift, 2)?;
        let x = (x + y.reshape((n, l, c))?)?;
        let y = norm(self.layers, &format!("{}.norm2", self.name), &x)?;
        let y = self.dense("mlp.fc2", &self.dense("mlp.fc1", &y)?.gelu_erf()?)?;
        x + y
    }

    /// Self-attention within each window, of `[N, windows · W², C]`.
    fn attended(&self, x: &Tensor) -> Result<Tensor> {
        let (n, l, c) = x.dims3()?;
        let (heads, area) = (self.heads, self.window * self.window);
        let (windows, each) = (l / area, c / heads);
        let qkv = self.dense("attn.qkv", x)?;
        let qkv = qkv.reshape(&[n * windows, area, 3, heads, each][..])?.permute([2, 0, 3, 1, 4])?;
        let part = |at: usize| qkv.get(at)?.contiguous();
        let q = (part(0)? * (each as f64).powf(-0.5))?;
        let attention = q.matmul(&part(1)?.transpose(2, 3)?.contiguous()?)?;

        // One table for each tuning, [B, places, heads].
        let table = self.layers.tensor(&format!("{}.{BIASES}", self.name))?;
        let sets = table.dim(0)?;
        let biases = table.index_select(self.pairs, 1)?.reshape((sets, area, area, heads))?;
        let biases = biases.permute((0, 3, 1, 2))?.contiguous()?.unsqueeze(1)?;
        let runs = (sets, n / sets * windows, heads, area, area);
        let mut attention = attention.reshape(runs)?.broadcast_add(&biases)?;
        if let Some(mask) = self.mask {
            let windowed = attention.reshape((n, windows, heads, area, area))?;
            attention = windowed.broadcast_add(mask)?;
        }
        let attention = softmax(&attention, D::Minus1)?;
        let attention = attention.reshape((n * windows, heads, area, area))?;
        let y = attention.matmul(&part(2)?)?.transpose(1, 2)?.contiguous()?;
        self.dense("attn.proj", &y.reshape((n, l, c))?)
    }
}
