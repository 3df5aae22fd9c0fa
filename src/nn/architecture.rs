//! What every net says of itself, and what follows from that.

use std::sync::Arc;

use super::chain::{self, ChainLayer};
use super::graph::{self, Graph};
use super::{Architecture, Io, Mode, Output, PhiConfig, TensorSpec, TunableConv2dConfig};
use crate::Result;

/// What a net is, by the fields of its configuration.
pub trait NetConfig {
    /// # Errors
    /// [`crate::Error::Config`] for sizes that no real net has.
    fn validate(&self) -> Result<()>;

    /// What it is made of.
    fn layers(&self) -> Layers;

    /// φ of every layer, but of the last of a net on 4:2:0.
    fn phi(&self) -> PhiConfig;

    /// What it reads and writes.
    fn io(&self) -> Io;

    /// Its kind and sizes, for people.
    fn describe(&self) -> String;
}

/// What a net is made of.
pub enum Layers {
    /// Convolutions, one after the other: what all engines run.
    Chain(Vec<ChainLayer>),
    /// Layers that it goes through in its own way: the candle engine runs it.
    Graph(Arc<dyn Graph>),
}

/// The nets there are, as [`Architecture`].
macro_rules! nets {
    ($($(#[$doc:meta])* $module:ident: $variant:ident($config:ident),)*) => {
        $(mod $module; pub use $module::*;)*

        /// A net and its configuration.
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(tag = "net", rename_all = "kebab-case")]
        pub enum Architecture {
            $($(#[$doc])* $variant($config),)*
        }

        impl Architecture {
            /// The configuration of the net that it is.
            fn config(&self) -> &dyn NetConfig {
                match self {
                    $(Self::$variant(config) => config,)*
                }
            }
        }
    };
}
pub(super) use nets;

impl Architecture {
    /// # Errors
    /// As [`NetConfig::validate`].
    pub fn validate(&self) -> Result<()> {
        self.config().validate()
    }

    /// What it is made of.
    pub fn layers(&self) -> Layers {
        self.config().layers()
    }

    /// Its layers, in the order in which they run, if it is a chain.
    pub fn chain(&self) -> Option<Vec<ChainLayer>> {
        match self.layers() {
            Layers::Chain(chain) => Some(chain),
            Layers::Graph(_) => None,
        }
    }

    /// φ of every layer, but of the last of a net on 4:2:0.
    pub fn phi(&self) -> PhiConfig {
        self.config().phi()
    }

    /// Its kind and sizes, for people.
    pub fn describe(&self) -> String {
        self.config().describe()
    }

    /// The tensors of such a net with `p` parameters.
    pub fn tensors(&self, p: usize) -> Vec<TensorSpec> {
        match self.layers() {
            Layers::Chain(chain) => chain::tensors(&chain, p),
            Layers::Graph(graph) => graph::tensors(&graph.layers(), p),
        }
    }

    /// Multiplications and additions for each pixel of its input, once folded; those of attention are not
    /// counted.
    pub fn macs(&self) -> f64 {
        match self.layers() {
            Layers::Chain(chain) => chain::macs(&chain),
            Layers::Graph(graph) => graph::macs(&graph.layers()),
        }
    }

    /// Name and φ of each layer that the tuning mixes.
    pub fn phis(&self) -> Vec<(String, PhiConfig)> {
        match self.layers() {
            Layers::Chain(chain) => chain.into_iter().map(|l| (l.name, l.config.phi)).collect(),
            Layers::Graph(graph) => graph
                .layers()
                .into_iter()
                .filter_map(|l| Some((l.phi()?, l.name)))
                .map(|(phi, name)| (name, phi))
                .collect(),
        }
    }

    /// Name and output channels of every layer of a chain but the last: what can be calibrated.
    pub fn inner_outputs(&self) -> Vec<(String, usize)> {
        let Some(mut layers) = self.chain() else { return vec![] };
        layers.pop();
        layers.into_iter().map(|layer| (layer.name.clone(), layer.channels())).collect()
    }

    /// Whether its output is the input wherever ω = 0, whatever its weights: a residual that a last layer mixes
    /// by ω itself, without a bias.
    pub fn passes_at_zero(&self) -> bool {
        let Some(last) = self.chain().and_then(|chain| chain.into_iter().last()) else {
            return false;
        };
        let TunableConv2dConfig { bias, phi, .. } = last.config;
        let linear = PhiConfig { mode: Mode::Linear, expand: 1 };
        self.io().output == Output::Residual && phi == linear && !bias
    }

    /// What such a net reads and writes.
    pub fn io(&self) -> Io {
        self.config().io()
    }
}
