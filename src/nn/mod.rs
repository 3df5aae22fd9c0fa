//! Tunable layers and the nets made of them, one net per file.

mod architecture;
pub mod chain;
pub mod conv;
mod init;
mod tunable_conv;
mod two_scale;
mod video;

pub use architecture::{Architecture, Colour, Io, NetConfig};
pub use chain::{Chain, ChainLayer, FoldedChain, FoldedLayer, Link};
pub use conv::{Activation, ConvGeometry};
pub use init::{Init, TensorSpec};
pub use tunable_conv::{
    FoldedConv2d, Mode, PhiConfig, TunableConv2d, TunableConv2dConfig, TunableParameter,
};
pub use two_scale::TwoScaleConfig;
pub use video::VideoNetConfig;
