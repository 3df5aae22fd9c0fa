//! Tunable layers and the nets made of them, one net per file.

mod architecture;
pub mod chain;
mod checks;
pub mod conv;
mod edsr;
mod init;
mod io;
mod plain;
mod tunable_conv;
mod two_scale;
mod video;

pub use architecture::{Architecture, NetConfig};
pub use chain::{Chain, ChainLayer, FoldedChain, FoldedLayer, Link};
pub use conv::{Activation, ConvGeometry};
pub use edsr::EdsrConfig;
pub use init::{Init, TensorSpec};
pub(crate) use io::IoV1;
pub use io::{Colour, Io, Output, Reach};
pub use plain::{PlainConfig, PlainLayer};
pub use tunable_conv::{
    FoldedConv2d, Mode, PhiConfig, TunableConv2d, TunableConv2dConfig, TunableParameter,
};
pub use two_scale::TwoScaleConfig;
pub use video::VideoNetConfig;
