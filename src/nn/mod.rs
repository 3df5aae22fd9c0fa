//! Tunable layers and the nets made of them, one net per file.

mod architecture;
pub mod chain;
mod checks;
pub mod conv;
pub mod graph;
mod init;
mod io;
mod net;
pub mod ops;
mod phi;
mod statistics;
mod tunable_conv;
mod tunable_dense;
mod tunable_parameter;

pub use architecture::{Layers, NetConfig};
pub(crate) use chain::PixelSize;
pub use chain::{Chain, ChainLayer, FoldedChain, FoldedLayer, Link};
pub use conv::{Activation, ConvGeometry};
pub use init::{Init, TensorSpec};
pub(crate) use io::IoV1;
pub use io::{Colour, Io, Output, Reach};
pub use net::{FoldedNet, TunableNet};
pub(crate) use phi::Phi;
pub use phi::{Mode, PhiConfig};
pub use statistics::Statistics;
pub use tunable_conv::{FoldedConv2d, TunableConv2d, TunableConv2dConfig};
pub use tunable_dense::{FoldedDense, TunableDense};
pub use tunable_parameter::TunableParameter;

// The nets there are: a file, what it is called in recipes and checkpoints, and its configuration. One line
// more in tests/nets.rs has all that holds of every net tested.
architecture::nets! {
    /// A chain at one size.
    video: Video(VideoNetConfig),
    /// A chain that works at two.
    two_scale: TwoScale(TwoScaleConfig),
    /// Residual blocks on RGB, and an upscale.
    edsr: Edsr(EdsrConfig),
    /// Layers said one by one, on RGB.
    plain: Plain(PlainConfig),
    /// A U-Net of gated blocks, on RGB.
    nafnet: Nafnet(NafNetConfig),
    /// For style transfer, on RGB.
    stylenet: Stylenet(StyleNetConfig),
    /// Attention within windows, on RGB, and an upscale.
    swinir: Swinir(SwinIrConfig),
}
