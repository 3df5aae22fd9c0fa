//! What every loss says of itself, and what it is computed from.

use std::path::Path;

use anyhow::Context as _;
use candle_core::{Device, Tensor};
use tunableconv::nn::Colour;

use super::adversarial::{AdversarialKind, Discriminator};
use super::colour;
use super::features::{FeatureNet, SharedFeatures};
use crate::view::View;
use crate::yuv::Matrix;

/// A loss of an objective, by the numbers that recipes give.
pub trait Loss {
    /// Whether the output is compared with a picture.
    fn has_target(&self) -> bool {
        true
    }

    /// Whether it needs the net given with `--features`.
    fn needs_features(&self) -> bool {
        false
    }

    /// Whether it is one side of a game, whose value says nothing of how far a run has come.
    fn is_game(&self) -> bool {
        false
    }

    /// Checks the numbers.
    ///
    /// # Errors
    /// Names one and what was expected.
    fn check(&self) -> anyhow::Result<()> {
        Ok(())
    }

    /// The file that it reads.
    fn file(&self) -> Option<&Path> {
        None
    }

    /// Takes the file's name as one in `folder`.
    ///
    /// # Errors
    /// Where the current folder is not known.
    fn resolve(&mut self, _folder: &Path) -> anyhow::Result<()> {
        Ok(())
    }

    /// What is the same in every step; [`Seen::prepared`] in each.
    ///
    /// # Errors
    /// A file that cannot be read; a failing device.
    fn prepare(&self, _: Option<&FeatureNet>, _: &Device) -> anyhow::Result<Vec<Tensor>> {
        Ok(vec![])
    }

    /// The loss of each sample, `[N]`.
    ///
    /// # Errors
    /// Crops too small for it; a failing device.
    fn per_sample(&self, seen: &Seen<'_>) -> anyhow::Result<Tensor>;
}

/// What losses are computed from in a step.
pub struct Seen<'a> {
    /// What planes are.
    pub view: View,
    /// The net's output, planes `[N, C, H, W]`.
    pub output: &'a Tensor,
    /// What it is compared with, likewise.
    pub target: &'a Tensor,
    /// Where the recipe has corner targets, what they are compared by.
    pub corners: Option<Corners<'a>>,
    /// Matrix of each sample's planes.
    pub matrices: &'a [Matrix],
    /// What the net given with `--features` sees.
    pub features: Option<&'a SharedFeatures<'a>>,
    /// As [`Loss::prepare`] made it.
    pub prepared: &'a [Tensor],
    /// Who judges, and by which game.
    pub game: Option<(&'a Discriminator, AdversarialKind)>,
}

/// What corner targets are compared by.
#[derive(Clone, Copy)]
pub struct Corners<'a> {
    /// Output minus input, `[N, C, H, W]`.
    pub residual: &'a Tensor,
    /// What that should be.
    pub wanted: &'a Tensor,
    /// Factor of each channel's mean squared error, `[N, C]`.
    pub scales: &'a Tensor,
    /// Weight, `[N, 1, 1, 1]`, and target minus input, `[N, C, H, W]`, of each corner by itself, where a loss asks for
    /// that.
    pub each: &'a [(Tensor, Tensor)],
}

impl Seen<'_> {
    /// Planes in RGB, see [`colour::of_view`].
    pub(super) fn rgb(&self, planes: &Tensor) -> candle_core::Result<Tensor> {
        colour::of_view(self.view, planes, self.matrices)
    }

    /// Pixels in a row of the output.
    pub(super) fn width(&self) -> candle_core::Result<usize> {
        let columns = self.output.dim(3)?;
        Ok(if self.view.colour == Colour::Yuv420 { 2 * columns } else { columns })
    }

    /// Luma of planes, `[N, 1, H, W]` of the picture.
    pub(super) fn luma(&self, planes: &Tensor) -> candle_core::Result<Tensor> {
        match self.view.colour {
            Colour::Yuv420 => colour::luma(planes),
            Colour::Luma => Ok(planes.clone()),
            Colour::Rgb => colour::luma_of_rgb(planes, self.matrices),
        }
    }

    /// Features of planes at the taps of these names, at all if there are none.
    pub(super) fn features(&self, planes: &Tensor, taps: &[String]) -> anyhow::Result<Vec<Tensor>> {
        let features = self.features.context("no feature net")?;
        let taps = features.net().select(taps)?;
        Ok(features.at(planes, &taps, |planes| self.rgb(planes))?)
    }
}

/// The losses there are, as [`LossKind`](super::LossKind).
macro_rules! losses {
    ($($(#[$doc:meta])* $module:ident::$loss:ident as $name:literal,)*) => {
        /// A loss. Those on pictures in RGB see the planes' chroma replicated.
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(tag = "kind")]
        pub enum LossKind {
            $($(#[$doc])* #[serde(rename = $name)] $loss($module::$loss),)*
        }

        impl LossKind {
            /// As in recipes.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$loss(_) => $name,)* }
            }

            /// What it does.
            pub fn as_loss(&self) -> &dyn Loss {
                match self { $(Self::$loss(loss) => loss,)* }
            }

            pub(crate) fn as_loss_mut(&mut self) -> &mut dyn Loss {
                match self { $(Self::$loss(loss) => loss,)* }
            }
        }
    };
}
pub(super) use losses;
