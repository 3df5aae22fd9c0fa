//! Nets that are no chains: layers with names, and a forward pass that finds them by these.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use candle_core::{Module as _, Result, Tensor, bail};
use candle_nn::VarBuilder;

use super::init::{Init, TensorSpec};
use super::phi::PhiConfig;
use super::statistics::Statistics;
use super::tunable_conv::{FoldedConv2d, TunableConv2d, TunableConv2dConfig};
use super::tunable_dense::{FoldedDense, TunableDense};
use super::tunable_parameter::TunableParameter;

/// A net by its layers and what it does with them.
pub trait Graph: fmt::Debug + Send + Sync {
    /// Its layers, each of another name.
    fn layers(&self) -> Vec<GraphLayer>;

    /// What it makes of `x`, `[N, C, H, W]`, with its layers at some tunings. Means over the picture it takes
    /// from `statistics`.
    ///
    /// # Errors
    /// Shapes that do not fit.
    fn forward(
        &self,
        layers: &FoldedLayers,
        statistics: &mut Statistics,
        x: &Tensor,
    ) -> Result<Tensor>;
}

/// A layer of a [`Graph`].
#[derive(Clone, Debug, PartialEq)]
pub struct GraphLayer {
    /// Prefix of its tensors' names, or the whole name of a constant.
    pub name: String,
    /// What it is.
    pub kind: GraphLayerKind,
    /// How often it is applied for each pixel of the net's input.
    pub density: f64,
    /// The weights of a convolution are initialised so many times larger than usual.
    pub gain: f64,
}

/// What a layer of a [`Graph`] is.
#[derive(Clone, Debug, PartialEq)]
pub enum GraphLayerKind {
    /// A tunable convolution.
    Conv {
        /// Of input and output.
        channels: (usize, usize),
        /// Width and height of its kernels.
        kernel: usize,
        /// Everything else about it.
        config: TunableConv2dConfig,
    },
    /// A tunable dense layer.
    Dense {
        /// Of input and output.
        channels: (usize, usize),
        /// Its φ.
        phi: PhiConfig,
    },
    /// A tunable parameter.
    Parameter {
        /// Its shape at one tuning.
        shape: Vec<usize>,
        /// Each kernel before training.
        init: Init,
        /// Its φ.
        phi: PhiConfig,
    },
    /// A tensor that is the same for all tunings.
    Constant {
        /// Its shape.
        shape: Vec<usize>,
        /// Its values before training.
        init: Init,
    },
}

impl GraphLayer {
    /// A layer that is applied to each pixel of the net's input once.
    pub fn new(name: impl Into<String>, kind: GraphLayerKind) -> Self {
        Self { name: name.into(), kind, density: 1.0, gain: 1.0 }
    }

    /// The same with another gain.
    #[must_use]
    pub fn with_gain(self, gain: f64) -> Self {
        Self { gain, ..self }
    }

    /// φ, unless it is a constant.
    pub fn phi(&self) -> Option<PhiConfig> {
        match &self.kind {
            GraphLayerKind::Conv { config, .. } => Some(config.phi),
            GraphLayerKind::Dense { phi, .. } | GraphLayerKind::Parameter { phi, .. } => Some(*phi),
            GraphLayerKind::Constant { .. } => None,
        }
    }

    fn tensors(&self, p: usize) -> Vec<TensorSpec> {
        let prefix = format!("{}.", self.name);
        match &self.kind {
            GraphLayerKind::Conv { channels, kernel, config } => {
                config.tensors(&prefix, p, *channels, *kernel, self.gain)
            }
            GraphLayerKind::Dense { channels, phi } => {
                TunableDense::tensors(&prefix, p, *channels, *phi)
            }
            GraphLayerKind::Parameter { shape, init, phi } => {
                TunableParameter::tensors(&prefix, p, shape, *init, *phi)
            }
            GraphLayerKind::Constant { shape, init } => {
                vec![TensorSpec::new(self.name.clone(), shape, *init)]
            }
        }
    }

    fn macs(&self) -> f64 {
        let weights = match &self.kind {
            GraphLayerKind::Conv { channels, kernel, config } => {
                channels.0 / config.groups * channels.1 * kernel.pow(2)
            }
            GraphLayerKind::Dense { channels, .. } => channels.0 * channels.1,
            GraphLayerKind::Parameter { .. } | GraphLayerKind::Constant { .. } => 0,
        };
        self.density * weights as f64
    }
}

/// The tensors of such layers with `p` parameters.
pub(super) fn tensors(layers: &[GraphLayer], p: usize) -> Vec<TensorSpec> {
    layers.iter().flat_map(|layer| layer.tensors(p)).collect()
}

/// Multiplications and additions of folded layers for each pixel of the net's input.
pub(super) fn macs(layers: &[GraphLayer]) -> f64 {
    layers.iter().map(GraphLayer::macs).sum()
}

/// A layer with its bank.
#[derive(Clone, Debug)]
enum Banked {
    Conv(TunableConv2d),
    Dense(TunableDense),
    Parameter(TunableParameter),
    Constant(Tensor),
}

/// A [`Graph`] with its banks.
#[derive(Clone, Debug)]
pub struct GraphNet {
    graph: Arc<dyn Graph>,
    layers: Vec<(String, Banked)>,
}

impl GraphNet {
    /// Reads the tensors of a graph with `p` parameters from `vb`.
    ///
    /// # Errors
    /// A missing or misshaped tensor.
    pub fn new(p: usize, graph: Arc<dyn Graph>, vb: VarBuilder) -> Result<Self> {
        let layer = |layer: GraphLayer| {
            let of_layer = vb.pp(&layer.name);
            let banked = match layer.kind {
                GraphLayerKind::Conv { channels: (c_in, c_out), kernel, config } => {
                    Banked::Conv(TunableConv2d::new(p, c_in, c_out, kernel, config, of_layer)?)
                }
                GraphLayerKind::Dense { channels, phi } => {
                    Banked::Dense(TunableDense::new(p, channels, phi, of_layer)?)
                }
                GraphLayerKind::Parameter { shape, phi, .. } => {
                    Banked::Parameter(TunableParameter::new(p, &shape, phi, of_layer)?)
                }
                GraphLayerKind::Constant { shape, .. } => {
                    Banked::Constant(vb.get(shape, &layer.name)?)
                }
            };
            Ok((layer.name, banked))
        };
        let layers = graph.layers().into_iter().map(layer).collect::<Result<_>>()?;
        Ok(Self { graph, layers })
    }

    /// The ordinary net at tunings `omega`, `[B, p]`.
    ///
    /// # Errors
    /// A tuning of another shape.
    pub fn fold(&self, omega: &Tensor) -> Result<FoldedGraph> {
        let fold = |(name, layer): &(String, Banked)| {
            let folded = match layer {
                Banked::Conv(conv) => Folded::Conv(conv.fold(omega)?),
                Banked::Dense(dense) => Folded::Dense(dense.fold(omega)?),
                Banked::Parameter(parameter) => Folded::Tensor(parameter.fold(omega)?),
                Banked::Constant(constant) => Folded::Tensor(constant.clone()),
            };
            Ok((name.clone(), folded))
        };
        let layers = FoldedLayers(self.layers.iter().map(fold).collect::<Result<_>>()?);
        Ok(FoldedGraph { graph: self.graph.clone(), layers })
    }
}

/// A layer at some tunings.
#[derive(Clone, Debug)]
enum Folded {
    Conv(FoldedConv2d),
    Dense(FoldedDense),
    Tensor(Tensor),
}

/// The layers of a [`Graph`] at B tunings, by name; a batch of N samples is B equal runs.
#[derive(Clone, Debug)]
pub struct FoldedLayers(HashMap<String, Folded>);

impl FoldedLayers {
    /// A convolution's output.
    ///
    /// # Errors
    /// Shapes that do not fit, or no convolution of that name.
    pub fn conv(&self, name: &str, x: &Tensor) -> Result<Tensor> {
        match self.0.get(name) {
            Some(Folded::Conv(conv)) => conv.forward(x),
            _ => bail!("the net has no convolution `{name}`"),
        }
    }

    /// A dense layer's output for `[N, L, C_in]`, `[N, L, C_out]`.
    ///
    /// # Errors
    /// Shapes that do not fit, or no dense layer of that name.
    pub fn dense(&self, name: &str, x: &Tensor) -> Result<Tensor> {
        match self.0.get(name) {
            Some(Folded::Dense(dense)) => dense.forward(x),
            _ => bail!("the net has no dense layer `{name}`"),
        }
    }

    /// A parameter, `[B, shape…]`, or a constant.
    ///
    /// # Errors
    /// Neither of that name.
    pub fn tensor(&self, name: &str) -> Result<&Tensor> {
        match self.0.get(name) {
            Some(Folded::Tensor(tensor)) => Ok(tensor),
            _ => bail!("the net has no parameter `{name}`"),
        }
    }
}

/// A [`Graph`] at some tunings.
#[derive(Clone, Debug)]
pub struct FoldedGraph {
    graph: Arc<dyn Graph>,
    layers: FoldedLayers,
}

impl FoldedGraph {
    /// What it makes of `x`, `[N, C, H, W]`, with such means over the picture.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward_with(&self, x: &Tensor, statistics: &mut Statistics) -> Result<Tensor> {
        self.graph.forward(&self.layers, statistics, x)
    }
}
