//! What every net says of itself, and what follows from that.

use super::chain::{self, ChainLayer};
use super::{Architecture, Io, PhiConfig, TensorSpec};
use crate::Result;

/// What a net is, by the fields of its configuration.
pub trait NetConfig {
    /// # Errors
    /// [`crate::Error::Config`] for sizes that no real net has.
    fn validate(&self) -> Result<()>;

    /// Its layers, in the order in which they run.
    fn chain(&self) -> Vec<ChainLayer>;

    /// φ of every layer but the last.
    fn phi(&self) -> PhiConfig;

    /// What it reads and writes: 4:2:0, and what is added to it.
    fn io(&self) -> Io {
        let chain = self.chain();
        Io::yuv420(chain::reach(&chain), chain::grid(&chain))
    }

    /// Its kind and sizes, for people.
    fn describe(&self) -> String;
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

    /// Its layers, in the order in which they run.
    pub fn chain(&self) -> Vec<ChainLayer> {
        self.config().chain()
    }

    /// φ of every layer but the last.
    pub fn phi(&self) -> PhiConfig {
        self.config().phi()
    }

    /// Its kind and sizes, for people.
    pub fn describe(&self) -> String {
        self.config().describe()
    }

    /// The tensors of such a net with `p` parameters.
    pub fn tensors(&self, p: usize) -> Vec<TensorSpec> {
        chain::tensors(&self.chain(), p)
    }

    /// Name and output channels of every layer but the last.
    pub fn inner_outputs(&self) -> Vec<(String, usize)> {
        let mut layers = self.chain();
        layers.pop();
        layers.into_iter().map(|layer| (layer.name.clone(), layer.channels())).collect()
    }

    /// What such a net reads and writes.
    pub fn io(&self) -> Io {
        self.config().io()
    }
}
