//! Chains of tunable convolutions, of which nets are made: each layer works on the output of the one
//! before, at its own step, and may have an earlier output added.
//!
//! *Edge* 0 is the input of a chain, edge l + 1 the output of layer l.

use candle_core::{Module, Result, Tensor, bail};
use candle_nn::VarBuilder;
use candle_nn::ops::pixel_shuffle;

use super::init::TensorSpec;
use super::tunable_conv::{FoldedConv2d, TunableConv2d, TunableConv2dConfig};

/// Width and height of the pixels of an edge, in those of the chain's input: a fraction in lowest terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PixelSize {
    over: usize,
    under: usize,
}

impl PixelSize {
    /// Of the input.
    pub(crate) const INPUT: Self = Self { over: 1, under: 1 };

    /// Behind a convolution that takes every so many of these pixels.
    pub(crate) fn convolved(self, step: usize) -> Self {
        let common = gcd(step, self.under);
        Self { over: self.over * (step / common), under: self.under / common }
    }

    /// Behind a pixel shuffle.
    pub(crate) fn shuffled(self, by: usize) -> Self {
        let common = gcd(by, self.over);
        Self { over: self.over / common, under: self.under * (by / common) }
    }

    /// Input pixels from one place where pixels of all these sizes begin to the next.
    pub(crate) fn common_start(sizes: impl IntoIterator<Item = Self>) -> usize {
        sizes.into_iter().fold(1, |start, size| lcm(start, size.over))
    }
}

/// Greatest common divisor of two numbers above 0.
fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Least common multiple of two numbers above 0.
fn lcm(a: usize, b: usize) -> usize {
    a / gcd(a, b) * b
}

/// Gain of a layer whose output is added to what it was made from, so that an untrained net passes on its input.
pub(super) const BRANCH_GAIN: f64 = 0.1;

/// One layer of a chain: convolution and activation, pixel shuffle, then a sum.
#[derive(Clone, Debug, PartialEq)]
pub struct ChainLayer {
    /// Prefix of its tensors' names.
    pub name: String,
    /// Width and height of its kernels.
    pub kernel: usize,
    /// Input channels.
    pub c_in: usize,
    /// Output channels of the convolution, before shuffling.
    pub c_out: usize,
    /// Everything else about its convolution.
    pub config: TunableConv2dConfig,
    /// Its weights are initialised so many times larger than usual.
    pub gain: f64,
    /// Kernels and biases are multiplied by this, and with them its output before anything is added.
    pub factor: f32,
    /// Where its output goes.
    pub link: Link,
}

/// What is done to the output of a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    /// Pixel shuffle by this factor, `[C·r², H, W]` to `[C, H·r, W·r]`; 1 for none.
    pub shuffle: usize,
    /// Edges that are added after that; the sum is as wide and high as the smallest of all, which are cropped at
    /// the right and the bottom.
    pub add: [Option<usize>; 2],
}

impl Link {
    /// Nothing.
    pub const NONE: Self = Self { shuffle: 1, add: [None; 2] };
}

impl ChainLayer {
    /// A layer of that kernel whose output keeps its size but for the stride, shuffled and added to nothing.
    pub fn new(
        name: impl Into<String>,
        kernel: usize,
        (c_in, c_out): (usize, usize),
        config: TunableConv2dConfig,
    ) -> Self {
        let config = TunableConv2dConfig { padding: kernel / 2, ..config };
        Self {
            name: name.into(),
            kernel,
            c_in,
            c_out,
            config,
            gain: 1.0,
            factor: 1.0,
            link: Link::NONE,
        }
    }

    /// Channels of its output.
    pub fn channels(&self) -> usize {
        self.c_out / self.link.shuffle.pow(2)
    }

    /// Multiplications and additions for each pixel of the chain's input, where this layer's has `scale`
    /// times the width and height of that.
    fn macs(&self, scale: f64) -> f64 {
        let kernel = (self.c_in / self.config.groups * self.kernel.pow(2)) as f64;
        kernel * self.c_out as f64 * (scale / self.config.stride as f64).powi(2)
    }
}

/// The tensors of a chain with `p` parameters.
pub fn tensors(chain: &[ChainLayer], p: usize) -> Vec<TensorSpec> {
    let of_layer = |layer: &ChainLayer| {
        let (prefix, channels) = (format!("{}.", layer.name), (layer.c_in, layer.c_out));
        layer.config.tensors(&prefix, p, channels, layer.kernel, layer.gain)
    };
    chain.iter().flat_map(of_layer).collect()
}

/// Multiplications and additions of a folded chain for each pixel of its input.
pub fn macs(chain: &[ChainLayer]) -> f64 {
    let mut scale = 1.0;
    let of_layer = |layer: &ChainLayer| {
        let macs = layer.macs(scale);
        scale *= layer.link.shuffle as f64 / layer.config.stride as f64;
        macs
    };
    chain.iter().map(of_layer).sum()
}

/// Rows and columns of its input that a chain takes together: where so many begin, a pixel does at every edge.
pub fn grid(chain: &[ChainLayer]) -> usize {
    let mut pixel = PixelSize::INPUT;
    let steps = chain.iter().map(|layer| {
        let convolved = pixel.convolved(layer.config.stride);
        pixel = convolved.shuffled(layer.link.shuffle);
        convolved
    });
    PixelSize::common_start(steps)
}

/// How far an output pixel looks from the input pixel that it is in, in input pixels, at most.
pub fn reach(chain: &[ChainLayer]) -> usize {
    // Of an input pixel, so that all pixels have whole sizes.
    let mut size = PixelSize::INPUT;
    let unit = chain.iter().fold(1, |unit, layer| {
        size = size.convolved(layer.config.stride).shuffled(layer.link.shuffle);
        lcm(unit, size.under)
    });
    // Size of a pixel, and how far the pixels at one edge look.
    let (mut pixel, mut reach) = (unit, 0);
    for layer in chain {
        reach += layer.kernel / 2 * layer.config.dilation * pixel;
        pixel *= layer.config.stride;
        let shuffled = pixel / layer.link.shuffle;
        // The pixels of a group look as far to one side as all of it, and stand elsewhere in it, unless
        // all of it is in one input pixel.
        reach += pixel.saturating_sub(shuffled.max(unit));
        pixel = shuffled;
    }
    reach.div_ceil(unit)
}

/// Factors of the pixel shuffles, one after the other, that enlarge a picture so many times, 1 to 4.
pub fn shuffles(scale: usize) -> &'static [usize] {
    match scale {
        2 => &[2],
        3 => &[3],
        4 => &[2, 2],
        _ => &[],
    }
}

/// A chain with its banks.
#[derive(Clone, Debug)]
pub struct Chain {
    layers: Vec<(TunableConv2d, f32, Link)>,
}

impl Chain {
    /// Reads the [`tensors`] of a chain with `p` parameters from `vb`.
    ///
    /// # Errors
    /// A missing or misshaped tensor.
    pub fn new(p: usize, chain: &[ChainLayer], vb: VarBuilder) -> Result<Self> {
        let layers = chain.iter().map(|layer| {
            let ChainLayer { kernel, c_in, c_out, config, factor, link, .. } = *layer;
            let conv = TunableConv2d::new(p, c_in, c_out, kernel, config, vb.pp(&layer.name))?;
            Ok((conv, factor, link))
        });
        Ok(Self { layers: layers.collect::<Result<_>>()? })
    }

    /// The ordinary net at tunings `omega`, `[B, p]`.
    ///
    /// # Errors
    /// A tuning of another shape.
    pub fn fold(&self, omega: &Tensor) -> Result<FoldedChain> {
        let fold = |(conv, factor, link): &(TunableConv2d, f32, Link)| {
            let conv = conv.fold(omega)?.scaled(*factor)?;
            Ok(FoldedLayer { conv, link: *link, bounds: None })
        };
        Ok(FoldedChain { layers: self.layers.iter().map(fold).collect::<Result<_>>()? })
    }
}

/// An ordinary layer of a chain.
#[derive(Clone, Debug)]
pub struct FoldedLayer {
    /// The convolution.
    pub conv: FoldedConv2d,
    /// What is done to its output.
    pub link: Link,
    /// What the sum is clamped to after that, lowest and highest values, `[1, C, 1, 1]`.
    pub bounds: Option<[Tensor; 2]>,
}

impl FoldedLayer {
    /// The layer's output; `added` are the edges that its link names.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward(&self, x: &Tensor, added: [Option<&Tensor>; 2]) -> Result<Tensor> {
        let y = self.link.forward(self.conv.forward(x)?, added)?;
        match &self.bounds {
            Some([low, high]) => y.broadcast_maximum(low)?.broadcast_minimum(high),
            None => Ok(y),
        }
    }
}

impl Link {
    /// The shuffled output of a layer, plus the edges to be added.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward(&self, y: Tensor, added: [Option<&Tensor>; 2]) -> Result<Tensor> {
        if self.add.map(|edge| edge.is_some()) != added.map(|edge| edge.is_some()) {
            bail!("edges {:?} are to be added, which are not there", self.add);
        }
        let y = if self.shuffle == 1 { y } else { pixel_shuffle(&y, self.shuffle)? };
        added.into_iter().flatten().try_fold(y, |y, added| {
            let sides = [2, 3].map(|side| y.dims()[side].min(added.dims()[side]));
            &cropped(&y, sides)? + cropped(added, sides)?
        })
    }
}

/// The first rows and columns of `[N, C, H, W]`.
fn cropped(x: &Tensor, [height, width]: [usize; 2]) -> Result<Tensor> {
    if x.dims()[2..] == [height, width] {
        return Ok(x.clone());
    }
    x.narrow(2, 0, height)?.narrow(3, 0, width)?.contiguous()
}

/// Ordinary convolutions, one after the other.
#[derive(Clone, Debug)]
pub struct FoldedChain {
    /// First to last.
    pub layers: Vec<FoldedLayer>,
}

impl FoldedChain {
    /// Whether the last layer is zero, and with it the output for any finite input.
    ///
    /// # Errors
    /// A failed copy from the device.
    pub fn is_zero(&self) -> Result<bool> {
        self.layers.last().map_or(Ok(false), |layer| layer.conv.is_zero())
    }

    /// Shows each layer's output in turn, and returns the last; none is kept for longer than it is needed.
    ///
    /// # Errors
    /// Shapes that do not fit, or those of `show`.
    pub fn forward_showing<E: From<candle_core::Error>>(
        &self,
        x: &Tensor,
        mut show: impl FnMut(usize, &Tensor) -> std::result::Result<(), E>,
    ) -> std::result::Result<Tensor, E> {
        let is_added = |edge| self.layers.iter().any(|layer| layer.link.add.contains(&Some(edge)));
        let mut kept: Vec<Option<Tensor>> = vec![is_added(0).then(|| x.clone())];
        let mut x = x.clone();
        for (index, layer) in self.layers.iter().enumerate() {
            let added = layer.link.add.map(|edge| kept.get(edge?)?.as_ref());
            x = layer.forward(&x, added)?;
            show(index, &x)?;
            kept.push(is_added(index + 1).then(|| x.clone()));
        }
        Ok(x)
    }
}

impl Module for FoldedChain {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_showing(x, |_, _| Ok(()))
    }
}

#[cfg(test)]
mod tests;
