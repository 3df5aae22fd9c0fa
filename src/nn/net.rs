//! A net of any kind, with its banks and folded.

use candle_core::{Module, Result, Tensor, bail};
use candle_nn::VarBuilder;

use super::Architecture;
use super::architecture::Layers;
use super::chain::{Chain, FoldedChain};
use super::graph::{FoldedGraph, GraphNet};
use super::statistics::Statistics;

/// A net with its banks.
#[derive(Clone, Debug)]
pub enum TunableNet {
    /// Of convolutions, one after the other.
    Chain(Chain),
    /// With a forward pass of its own.
    Graph(GraphNet),
}

impl TunableNet {
    /// Reads the tensors of a net with `p` parameters from `vb`.
    ///
    /// # Errors
    /// A missing or misshaped tensor.
    pub fn new(p: usize, architecture: &Architecture, vb: VarBuilder) -> Result<Self> {
        Ok(match architecture.layers() {
            Layers::Chain(chain) => Self::Chain(Chain::new(p, &chain, vb)?),
            Layers::Graph(graph) => Self::Graph(GraphNet::new(p, graph, vb)?),
        })
    }

    /// The ordinary net at tunings `omega`, `[B, p]`.
    ///
    /// # Errors
    /// A tuning of another shape.
    pub fn fold(&self, omega: &Tensor) -> Result<FoldedNet> {
        Ok(match self {
            Self::Chain(chain) => FoldedNet::Chain(chain.fold(omega)?),
            Self::Graph(graph) => FoldedNet::Graph(graph.fold(omega)?),
        })
    }
}

/// An ordinary net: what a tunable one becomes at fixed tunings.
#[derive(Clone, Debug)]
pub enum FoldedNet {
    /// Convolutions, one after the other.
    Chain(FoldedChain),
    /// With a forward pass of its own.
    Graph(FoldedGraph),
}

impl FoldedNet {
    /// Its layers, if it is a chain.
    pub fn chain(&self) -> Option<&FoldedChain> {
        match self {
            Self::Chain(chain) => Some(chain),
            Self::Graph(_) => None,
        }
    }

    /// The same, of one that has to be a chain.
    ///
    /// # Errors
    /// It is none.
    pub fn into_chain(self) -> Result<FoldedChain> {
        match self {
            Self::Chain(chain) => Ok(chain),
            Self::Graph(_) => bail!("the net is no chain of convolutions"),
        }
    }

    /// What it makes of `x`, `[N, C, H, W]`, with such means over the picture, if it takes any.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward_with(&self, x: &Tensor, statistics: &mut Statistics) -> Result<Tensor> {
        match self {
            Self::Chain(chain) => chain.forward(x),
            Self::Graph(graph) => graph.forward_with(x, statistics),
        }
    }

    /// Whether it is known to be zero for any finite input.
    ///
    /// # Errors
    /// A failed copy from the device.
    pub fn is_zero(&self) -> Result<bool> {
        self.chain().map_or(Ok(false), FoldedChain::is_zero)
    }
}

impl Module for FoldedNet {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_with(x, &mut Statistics::own())
    }
}
