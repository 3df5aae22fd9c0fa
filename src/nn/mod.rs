//! Tunable layers and the nets made of them, one net per file.

pub mod conv;
mod init;
mod tunable_conv;
mod video;

pub use conv::{Activation, ConvGeometry};
pub use init::{Init, TensorSpec};
pub use tunable_conv::{
    FoldedConv2d, Mode, PhiConfig, TunableConv2d, TunableConv2dConfig, TunableParameter,
};
pub use video::{FoldedChain, VideoNet, VideoNetConfig};
