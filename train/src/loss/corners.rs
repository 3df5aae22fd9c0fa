//! Squared error to the targets of all corners at once, see [`crate::corner_targets`].

use anyhow::Context as _;
use candle_core::Tensor;
use serde::{Deserialize, Serialize};
use tunableconv::frame::CHANNELS;

use super::{Corners, Loss, Seen};

/// Channels of luma.
const LUMA: usize = 4;

/// Squared error below which its logarithm hardly changes: half a code value does not matter to anyone.
const LOG_FLOOR: f64 = (0.5 / 255.0) * (0.5 / 255.0);

/// The targets of all corners of the domain by squared error.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CornerTargets {
    /// What makes errors of weak and of strong degradations alike.
    #[serde(default)]
    pub scale: ErrorScale,
}

/// What makes squared errors of weak and of strong degradations alike, luma's and chroma's apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorScale {
    /// Each sample's divided by its own between input and clean image.
    #[default]
    Input,
    /// The logarithm of each sample's: equal steps of PSNR count alike, wherever they are.
    Log,
}

impl Loss for CornerTargets {
    fn has_target(&self) -> bool {
        false
    }

    fn per_sample(&self, seen: &Seen<'_>) -> anyhow::Result<Tensor> {
        let corners = seen.corners.context("the batch has no corner targets")?;
        let of_channels = corners.errors()?.mean((2, 3))?;
        Ok(match self.scale {
            ErrorScale::Input => of_channels.mul(corners.scales)?.mean(1)?,
            ErrorScale::Log => {
                let log = |first: usize, count: usize| {
                    let error = of_channels.narrow(1, first, count)?.mean(1)?;
                    error.affine(1.0 / LOG_FLOOR, 1.0)?.log()? * (count as f64 / CHANNELS as f64)
                };
                (log(0, LUMA)? + log(LUMA, CHANNELS - LUMA)?)?
            }
        })
    }
}

impl Corners<'_> {
    /// Squared error of each sample of the planes.
    fn errors(&self) -> candle_core::Result<Tensor> {
        (self.residual - self.wanted)?.sqr()
    }

    /// Mean squared error of luma.
    ///
    /// # Errors
    /// A failing device.
    pub fn luma_error(&self) -> candle_core::Result<f64> {
        let here = Corners { residual: &self.residual.detach(), ..*self };
        let error = here.errors()?.narrow(1, 0, LUMA)?.mean_all()?.to_scalar::<f32>()?;
        Ok(f64::from(error))
    }
}
