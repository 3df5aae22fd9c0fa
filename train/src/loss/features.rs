//! Feature networks from a user's file: VGG-19 up to relu4_1 (Simonyan & Zisserman, ICLR 2015) and
//! SqueezeNet 1.1 (Iandola et al., 2016), with torchvision's tensor names.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;

use anyhow::{Context as _, bail};
use candle_core::{Device, Result, Tensor, TensorId};
use tunableconv::nn::conv::conv2d;
use tunableconv::nn::{Activation, ConvGeometry};

use super::pool::{max_2x2, max_3x3};
use super::weights::Weights;

/// Names and steps of a layout.
struct Layout {
    name: &'static str,
    /// A tensor that files of this layout have and those of the others lack.
    mark: &'static str,
    steps: &'static [Step],
    taps: &'static [&'static str],
}

/// One step; numbers are those in the tensors' names, `features.N`.
enum Step {
    /// Convolution, ReLU.
    Conv {
        index: usize,
        stride: usize,
        padding: usize,
    },
    /// 1×1 convolution, ReLU; 1×1 and 3×3 convolutions of that, ReLU, concatenated.
    Fire(usize),
    Pool2x2,
    Pool3x3,
    /// The features here are a result.
    Tap,
}

const fn same(index: usize) -> Step {
    Step::Conv { index, stride: 1, padding: 1 }
}

use Step::{Fire, Pool2x2, Pool3x3, Tap};

const SQUEEZENET: Layout = Layout {
    name: "SqueezeNet 1.1",
    mark: "features.3.squeeze.weight",
    #[rustfmt::skip]
    steps: &[
        Step::Conv { index: 0, stride: 2, padding: 0 }, Tap,
        Pool3x3, Fire(3), Fire(4), Tap,
        Pool3x3, Fire(6), Fire(7), Tap,
        Pool3x3, Fire(9), Tap, Fire(10), Tap, Fire(11), Tap, Fire(12), Tap,
    ],
    taps: &["relu1", "fire3", "fire5", "fire6", "fire7", "fire8", "fire9"],
};

const VGG19: Layout = Layout {
    name: "VGG-19",
    mark: "features.2.weight",
    #[rustfmt::skip]
    steps: &[
        same(0), Tap, same(2), Pool2x2,
        same(5), Tap, same(7), Pool2x2,
        same(10), Tap, same(12), same(14), same(16), Pool2x2,
        same(19), Tap,
    ],
    taps: &["relu1_1", "relu2_1", "relu3_1", "relu4_1"],
};

/// Side of every kernel but those of a fire module.
const KERNEL: usize = 3;

/// What a net subtracts from RGB, and divides it by, where that runs from 0 to `peak`.
struct Preprocessing {
    peak: f64,
    mean: [f64; 3],
    deviation: [f64; 3],
}

/// Mean and standard deviation of ImageNet, as torchvision uses them.
const IMAGENET: Preprocessing =
    Preprocessing { peak: 1.0, mean: [0.485, 0.456, 0.406], deviation: [0.229, 0.224, 0.225] };

/// Mean code values of ImageNet, as the authors of VGG use them.
const OXFORD: Preprocessing =
    Preprocessing { peak: 255.0, mean: [123.68, 116.779, 103.939], deviation: [1.0; 3] };

impl Preprocessing {
    fn apply(&self, rgb: &Tensor) -> Result<Tensor> {
        let per_channel = |values: [f64; 3]| {
            Tensor::new(&values, rgb.device())?.to_dtype(rgb.dtype())?.reshape((1, 3, 1, 1))
        };
        let mean = per_channel(self.mean)?;
        (rgb * self.peak)?.broadcast_sub(&mean)?.broadcast_div(&per_channel(self.deviation)?)
    }
}

/// A convolution with ReLU.
struct Conv {
    weight: Tensor,
    bias: Tensor,
    geometry: ConvGeometry,
}

impl Conv {
    /// Reads `NAME.weight` `[C_out, C_in, K, K]` and `NAME.bias` `[C_out]`.
    fn new(
        weights: &Weights,
        name: &str,
        (c_in, kernel): (usize, usize),
        (stride, padding): (usize, usize),
    ) -> anyhow::Result<Self> {
        let shape = [None, Some(c_in), Some(kernel), Some(kernel)];
        let weight = weights.get(&format!("{name}.weight"), &shape)?;
        let bias = weights.get(&format!("{name}.bias"), &[Some(weight.dim(0)?)])?;
        let geometry = ConvGeometry { stride, padding, ..Default::default() };
        Ok(Self { weight: weight.unsqueeze(0)?, bias: bias.unsqueeze(0)?, geometry })
    }

    fn c_out(&self) -> usize {
        self.weight.dims()[1]
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        conv2d(x, &self.weight, Some(&self.bias), self.geometry, Activation::LeakyRelu(0.0))
    }
}

/// A step with its weights.
enum Layer {
    Conv(Conv),
    Fire { squeeze: Conv, expand1x1: Conv, expand3x3: Conv },
    Pool2x2,
    Pool3x3,
    Tap,
}

impl Layer {
    fn new(weights: &Weights, step: &Step, channels: &mut usize) -> anyhow::Result<Self> {
        Ok(match *step {
            Step::Conv { index, stride, padding } => {
                let name = format!("features.{index}");
                let conv = Conv::new(weights, &name, (*channels, KERNEL), (stride, padding))?;
                *channels = conv.c_out();
                Self::Conv(conv)
            }
            Step::Fire(index) => {
                let part = |name: &str, c_in: usize, kernel: usize| {
                    let name = format!("features.{index}.{name}");
                    Conv::new(weights, &name, (c_in, kernel), (1, kernel / 2))
                };
                let squeeze = part("squeeze", *channels, 1)?;
                let expand1x1 = part("expand1x1", squeeze.c_out(), 1)?;
                let expand3x3 = part("expand3x3", squeeze.c_out(), 3)?;
                *channels = expand1x1.c_out() + expand3x3.c_out();
                Self::Fire { squeeze, expand1x1, expand3x3 }
            }
            Step::Pool2x2 => Self::Pool2x2,
            Step::Pool3x3 => Self::Pool3x3,
            Step::Tap => Self::Tap,
        })
    }

    fn forward(&self, x: Tensor) -> Result<Tensor> {
        match self {
            Self::Conv(conv) => conv.forward(&x),
            Self::Fire { squeeze, expand1x1, expand3x3 } => {
                let x = squeeze.forward(&x)?;
                Tensor::cat(&[expand1x1.forward(&x)?, expand3x3.forward(&x)?], 1)
            }
            Self::Pool2x2 => max_2x2(&x),
            Self::Pool3x3 => max_3x3(&x),
            Self::Tap => Ok(x),
        }
    }
}

/// A fixed net whose inner activations are compared instead of pixels.
pub struct FeatureNet {
    layout: &'static Layout,
    preprocessing: &'static Preprocessing,
    layers: Vec<Layer>,
    widths: Vec<usize>,
}

impl FeatureNet {
    /// Reads a `.safetensors` file; its tensors tell the layout, SqueezeNet 1.1 or VGG-19. Widths
    /// are the file's, and so may be fp16 weights; tensors behind the last tap are ignored.
    ///
    /// Input is normalised by ImageNet's mean and standard deviation, as torchvision's weights want
    /// it. If the file's metadata have an entry `input` that says `[0,255]`, it is scaled to code
    /// values and the means that VGG's authors used are subtracted.
    ///
    /// # Errors
    /// A file of another format or layout, a missing, misshaped or non-finite tensor, an entry
    /// `input` that names neither `[0,1]` nor `[0,255]`.
    pub fn load(path: &Path, device: &Device) -> anyhow::Result<Self> {
        Self::new(&Weights::read(path, device)?)
    }

    /// From tensors named as in a file, of any float type the input shall have; input is normalised
    /// by ImageNet's mean and standard deviation.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn from_tensors(tensors: HashMap<String, Tensor>) -> anyhow::Result<Self> {
        Self::new(&Weights::new(tensors))
    }

    fn new(weights: &Weights) -> anyhow::Result<Self> {
        let Some(layout) = [&SQUEEZENET, &VGG19].into_iter().find(|l| weights.has(l.mark)) else {
            bail!(
                "{}: neither {} ({}) nor {} ({}) has these tensors",
                weights.source(),
                SQUEEZENET.name,
                SQUEEZENET.mark,
                VGG19.name,
                VGG19.mark
            );
        };
        let preprocessing = match weights.input() {
            Some(input) if input.contains("[0,255]") => &OXFORD,
            Some(input) if !input.contains("[0,1]") => bail!(
                "{}: metadata `input` is {input:?}, expected it to name [0,1] or [0,255]",
                weights.source()
            ),
            _ => &IMAGENET,
        };
        let mut channels = 3;
        let (mut layers, mut widths) = (Vec::new(), Vec::new());
        for step in layout.steps {
            layers.push(Layer::new(weights, step, &mut channels)?);
            if matches!(step, Tap) {
                widths.push(channels);
            }
        }
        Ok(Self { layout, preprocessing, layers, widths })
    }

    /// The layout found.
    pub fn layout(&self) -> &'static str {
        self.layout.name
    }

    /// What [`Self::features`] returns, in order: relu1_1, relu2_1, relu3_1 and relu4_1 of VGG-19;
    /// relu1 and the fire modules 3, 5, 6, 7, 8 and 9 of SqueezeNet, the seven that LPIPS uses.
    pub fn taps(&self) -> &'static [&'static str] {
        self.layout.taps
    }

    /// Channels at every tap.
    pub fn widths(&self) -> &[usize] {
        &self.widths
    }

    /// The features at every tap.
    ///
    /// # Shapes
    /// - `rgb`: `[N, 3, H, W]`, values in 0 to 1 (others are not clipped), of the weights' type
    /// - returns one `[N, C, H', W']` per tap
    ///
    /// # Errors
    /// Another shape or type, sides that the layers shrink to nothing (VGG-19 needs 8 pixels,
    /// SqueezeNet 17).
    pub fn features(&self, rgb: &Tensor) -> Result<Vec<Tensor>> {
        let mut pass = Pass::new(self, rgb)?;
        pass.reach(self, self.taps().len())?;
        Ok(pass.taps)
    }

    /// Indices of taps by their names, in the order given; all if none is named.
    ///
    /// # Errors
    /// A name that is none of [`Self::taps`].
    pub fn select(&self, names: &[String]) -> anyhow::Result<Vec<usize>> {
        if names.is_empty() {
            return Ok((0..self.taps().len()).collect());
        }
        let index = |name: &String| {
            self.taps().iter().position(|tap| tap == name).with_context(|| {
                let taps = self.taps().join(", ");
                format!("no tap `{name}` in {}, expected some of {taps}", self.layout())
            })
        };
        names.iter().map(index).collect()
    }
}

/// A picture's way through a net, as far as it has gone.
struct Pass {
    x: Tensor,
    layers: usize,
    taps: Vec<Tensor>,
}

impl Pass {
    fn new(net: &FeatureNet, rgb: &Tensor) -> Result<Self> {
        Ok(Self { x: net.preprocessing.apply(rgb)?, layers: 0, taps: Vec::new() })
    }

    /// Goes on until there are `taps` of them.
    fn reach(&mut self, net: &FeatureNet, taps: usize) -> Result<()> {
        while self.taps.len() < taps {
            let layer = &net.layers[self.layers];
            self.x = layer.forward(self.x.clone())?;
            self.layers += 1;
            if matches!(layer, Layer::Tap) {
                self.taps.push(self.x.clone());
            }
        }
        Ok(())
    }
}

/// Features of the pictures of a step: whichever losses look at one, it goes through the net once,
/// and only as far as one of them needs.
pub struct SharedFeatures<'n> {
    net: &'n FeatureNet,
    passes: RefCell<HashMap<TensorId, Pass>>,
}

impl<'n> SharedFeatures<'n> {
    /// None yet.
    pub fn new(net: &'n FeatureNet) -> Self {
        Self { net, passes: RefCell::default() }
    }

    /// The net.
    pub fn net(&self) -> &'n FeatureNet {
        self.net
    }

    /// Features at the taps of these indices of what `rgb` makes of `picture`; it is only asked the
    /// first time.
    ///
    /// # Errors
    /// Those of `rgb` and of [`FeatureNet::features`].
    ///
    /// # Panics
    /// If an index is none of a tap.
    pub fn at(
        &self,
        picture: &Tensor,
        taps: &[usize],
        rgb: impl FnOnce(&Tensor) -> Result<Tensor>,
    ) -> Result<Vec<Tensor>> {
        let mut passes = self.passes.borrow_mut();
        let pass = match passes.entry(picture.id()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Pass::new(self.net, &rgb(picture)?)?),
        };
        pass.reach(self.net, taps.iter().max().map_or(0, |last| last + 1))?;
        Ok(taps.iter().map(|tap| pass.taps[*tap].clone()).collect())
    }
}
