//! Chains that say their layers one by one, as published upscalers and denoisers have them: convolutions,
//! activations, pixel shuffles and sums, on RGB or on luma alone.
//!
//! Compact nets of Real-ESRGAN (Wang, Xie, Dong, Shan, ICCV Workshops 2021) and ArtCNN are such chains.

use serde::{Deserialize, Serialize};

use super::architecture::{Layers, NetConfig};
use super::chain::{self, ChainLayer, Link};
use super::checks::{check_channels, check_phi};
use super::conv::Activation;
use super::io::{Colour, Io, Output, Reach};
use super::phi::PhiConfig;
use super::tunable_conv::TunableConv2dConfig;
use crate::{Error, Result};

/// Most layers.
const MAX_LAYERS: usize = 128;

/// What the strides of a chain may multiply to.
const MAX_STRIDES: usize = 8;

/// How many times its input's width and height an edge may have.
const MAX_ENLARGED: usize = 8;

/// Configuration of a plain chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlainConfig {
    /// What it reads and writes: RGB, or luma.
    pub colour: Colour,
    /// Output size over input size: the product of all shuffles, divided by all strides.
    pub scale: usize,
    /// Whether the output is added to the input, enlarged by repeating its pixels.
    pub residual: bool,
    /// First to last; the last one gives R, G and B, or luma.
    pub layers: Vec<PlainLayer>,
    /// φ of every layer.
    pub phi: PhiConfig,
}

/// One layer: convolution, activation, pixel shuffle, then sums.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlainLayer {
    /// Prefix of its tensors' names.
    pub name: String,
    /// Width and height of its kernels: 1, 3 or 5.
    pub kernel: usize,
    /// Output channels of the convolution, before shuffling.
    pub channels: usize,
    /// Step of its kernels, 1 or 2.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub stride: usize,
    /// Whether it has a bias.
    #[serde(default = "yes")]
    pub bias: bool,
    /// Applied to the output.
    pub activation: Activation,
    /// Factor of the pixel shuffle, 1 for none.
    #[serde(default = "one")]
    pub shuffle: usize,
    /// Outputs that are added: 0 the input, l + 1 that of layer l; at most two.
    #[serde(default)]
    pub add: Vec<usize>,
}

fn one() -> usize {
    1
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_one(value: &usize) -> bool {
    *value == 1
}

impl PlainLayer {
    /// A layer with a bias, not shuffled and added to nothing.
    pub fn new(
        name: impl Into<String>,
        kernel: usize,
        channels: usize,
        activation: Activation,
    ) -> Self {
        let (name, stride, bias, shuffle, add) = (name.into(), 1, true, 1, vec![]);
        Self { name, kernel, channels, stride, bias, activation, shuffle, add }
    }

    fn link(&self) -> Link {
        let mut add = [None; 2];
        add.iter_mut().zip(&self.add).for_each(|(to, edge)| *to = Some(*edge));
        Link { shuffle: self.shuffle, add }
    }
}

impl PlainConfig {
    fn colours(&self) -> usize {
        if self.colour == Colour::Luma { 1 } else { 3 }
    }
}

impl PlainConfig {
    /// Its layers, in the order in which they run.
    pub fn chain(&self) -> Vec<ChainLayer> {
        let mut c_in = self.colours();
        let last = self.layers.len().wrapping_sub(1);
        let layer = |(index, layer): (usize, &PlainLayer)| {
            let is_branch = !layer.add.is_empty() || self.residual && index == last;
            let PlainLayer { name, kernel, channels, stride, bias, activation, .. } = layer;
            let config = TunableConv2dConfig {
                stride: *stride,
                bias: *bias,
                activation: *activation,
                phi: self.phi,
                ..Default::default()
            };
            let layer = ChainLayer {
                gain: if is_branch { chain::BRANCH_GAIN } else { 1.0 },
                link: layer.link(),
                ..ChainLayer::new(name, *kernel, (c_in, *channels), config)
            };
            c_in = layer.channels();
            layer
        };
        self.layers.iter().enumerate().map(layer).collect()
    }
}

impl NetConfig for PlainConfig {
    fn validate(&self) -> Result<()> {
        let fail = |reason: String| Err(Error::Config(reason));
        if self.layers.is_empty() || self.layers.len() > MAX_LAYERS {
            return fail(format!("{} layers, expected 1 to {MAX_LAYERS}", self.layers.len()));
        }
        if self.colour == Colour::Yuv420 {
            return fail("colour = yuv420, expected rgb or luma".into());
        }
        if !(1..=4).contains(&self.scale) {
            return fail(format!("scale = {}, expected 1 to 4", self.scale));
        }
        // Channels of each edge, and its size over the input's, in units of the smallest there may be.
        let (colours, unit) = (self.colours(), MAX_STRIDES);
        let mut edges = vec![(colours, unit)];
        for layer in &self.layers {
            let fail = |reason: String| fail(format!("layer `{}`: {reason}", layer.name));
            let PlainLayer { name, kernel, channels, stride, shuffle, activation, add, .. } = layer;
            let is_taken = self.layers.iter().filter(|other| other.name == *name).count() > 1;
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            if is_taken || name.is_empty() || !name.chars().all(is_plain) {
                return fail(
                    "its name is another's, or not of letters, digits, `.`, `_`, `-`".into(),
                );
            }
            check_channels("channels", *channels)?;
            if ![1, 3, 5].contains(kernel) {
                return fail(format!("kernel = {kernel}, expected 1, 3 or 5"));
            }
            if !(1..=4).contains(shuffle) || !channels.is_multiple_of(shuffle * shuffle) {
                return fail(format!("shuffle = {shuffle} of {channels} channels"));
            }
            match activation {
                Activation::LeakyRelu(slope) if !(0.0..=1.0).contains(slope) => {
                    return fail(format!("slope {slope}, expected 0 to 1"));
                }
                _ => {}
            }
            if ![1, 2].contains(stride) {
                return fail(format!("stride = {stride}, expected 1 or 2"));
            }
            let size = edges.last().map_or(unit, |(_, size)| *size) * shuffle;
            if !size.is_multiple_of(*stride) {
                return fail(format!("strides of more than {MAX_STRIDES} together"));
            }
            let size = size / stride;
            if size > MAX_ENLARGED * unit {
                return fail(format!("it enlarges more than {MAX_ENLARGED} times"));
            }
            let edge = (channels / (shuffle * shuffle), size);
            if add.len() > 2 || add.iter().any(|from| edges.get(*from) != Some(&edge)) {
                return fail(format!("add = {add:?}, expected two edges of its own size at most"));
            }
            edges.push(edge);
        }
        if edges.last() != Some(&(colours, unit * self.scale)) {
            let got = edges.last().map(|&(channels, size)| (channels, size as f64 / unit as f64));
            let scale = self.scale;
            return fail(format!(
                "channels and scale of the output are {got:?}, expected {colours} and {scale}"
            ));
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
        let chain = self.chain();
        Io {
            colour: self.colour,
            channels: self.colours(),
            scale: self.scale,
            grid: chain::grid(&chain),
            reach: Reach::Pixels(chain::reach(&chain)),
            output: if self.residual { Output::Residual } else { Output::Direct },
            mean: None,
            history: 0,
        }
    }

    fn describe(&self) -> String {
        let widest = self.layers.iter().map(|layer| layer.channels).max().unwrap_or(0);
        let (count, scale) = (self.layers.len(), self.scale);
        let colour = if self.colour == Colour::Luma { "on luma" } else { "in RGB" };
        format!("chain ×{scale} {colour}, {count} layers of up to {widest} channels")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(name: &str, channels: usize, shuffle: usize, add: &[usize]) -> PlainLayer {
        let layer = PlainLayer::new(name, 3, channels, Activation::None);
        PlainLayer { shuffle, add: add.to_vec(), ..layer }
    }

    fn of(layers: Vec<PlainLayer>) -> PlainConfig {
        PlainConfig { colour: Colour::Rgb, scale: 2, residual: true, layers, phi: PhiConfig::default() }
    }

    fn good() -> PlainConfig {
        of(vec![layer("a", 8, 1, &[]), layer("b", 8, 1, &[1]), layer("c", 12, 2, &[])])
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        good().validate().unwrap();
        assert_eq!(good().chain().iter().map(|l| l.c_in).collect::<Vec<_>>(), [3, 8, 8]);
        let refused = |change: &dyn Fn(&mut PlainConfig), reason: &str| {
            let mut config = good();
            change(&mut config);
            let error = config.validate().unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        };
        refused(&|c| c.layers.clear(), "0 layers, expected 1 to 128");
        refused(&|c| c.layers[1].name = "a".into(), "layer `a`: its name is another's");
        refused(&|c| c.layers[1].name = "x/y".into(), "layer `x/y`: its name");
        refused(&|c| c.layers[1].kernel = 7, "layer `b`: kernel = 7");
        refused(&|c| c.layers[0].channels = 0, "channels = 0");
        refused(&|c| c.layers[2].shuffle = 5, "layer `c`: shuffle = 5");
        refused(&|c| c.layers[2].channels = 14, "layer `c`: shuffle = 2 of 14 channels");
        refused(&|c| c.layers[1].activation = Activation::LeakyRelu(-1.0), "layer `b`: slope -1");
        refused(&|c| c.layers[1].add = vec![0], "layer `b`: add = [0]");
        refused(&|c| c.layers[1].add = vec![2], "layer `b`: add = [2]");
        refused(&|c| c.layers[1].add = vec![1, 1, 1], "layer `b`: add = [1, 1, 1]");
        refused(&|c| c.layers[2].add = vec![1], "layer `c`: add = [1]");
        refused(&|c| c.scale = 3, "expected 3 and 3");
        refused(&|c| c.scale = usize::MAX, "scale = 18446744073709551615, expected 1 to 4");
        let up = |c: &mut PlainConfig| {
            let up = |at| PlainLayer { shuffle: 4, ..layer(&format!("up{at}"), 128, 1, &[]) };
            c.layers.splice(0..0, (0..64).map(up));
        };
        refused(&up, "layer `up1`: it enlarges more than 8 times");
        refused(&|c| c.colour = Colour::Luma, "expected 1 and 2");
        refused(&|c| c.colour = Colour::Yuv420, "colour = yuv420");
        refused(&|c| c.layers[2].channels = 16, "output are");
        refused(&|c| c.layers[1].stride = 3, "layer `b`: stride = 3");
        refused(&|c| c.layers[1].stride = 2, "layer `b`: add = [1]");
        refused(&|c| c.layers[0].stride = 2, "expected 3 and 2");
    }
}
