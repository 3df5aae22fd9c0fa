//! Errors to the targets of all corners at once, see [`crate::corner_targets`].

use anyhow::Context as _;
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::pixel::absolute;
use super::{Corners, Loss, Seen};
use crate::view::View;

/// Squared error below which its logarithm hardly changes: half a code value does not matter to anyone.
const LOG_FLOOR: f64 = (0.5 / 255.0) * (0.5 / 255.0);

/// The targets of all corners of the domain.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CornerTargets {
    /// What makes errors of weak and of strong degradations alike.
    #[serde(default)]
    pub scale: ErrorScale,
    /// How far the output is from a target.
    #[serde(default, skip_serializing_if = "is_default")]
    pub error: ErrorKind,
}

/// How far the output is from the target of a corner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// By its square: between corners the best output is the mean of their targets.
    #[default]
    Squared,
    /// By its size: between corners the best output is a median, which is the target of one of them.
    Absolute,
}

fn is_default(error: &ErrorKind) -> bool {
    *error == ErrorKind::default()
}

/// What makes errors of weak and of strong degradations alike, luma's and chroma's apart.
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
        let (errors, power) = match self.error {
            ErrorKind::Squared => (corners.errors()?, 1.0),
            ErrorKind::Absolute => (corners.absolute_errors()?, 0.5),
        };
        let of_channels = errors.mean((2, 3))?;
        Ok(match self.scale {
            ErrorScale::Input => of_channels.mul(&corners.scales.powf(power)?)?.mean(1)?,
            ErrorScale::Log => {
                let channels = seen.view.channels() as f64;
                let (mut first, mut logs) = (0, vec![]);
                for &count in seen.view.groups() {
                    let error = of_channels.narrow(1, first, count)?.mean(1)?;
                    let log = error.affine(LOG_FLOOR.powf(-power), 1.0)?.log()?;
                    logs.push((log * (count as f64 / channels))?);
                    first += count;
                }
                let (first, others) = logs.split_first().context("no channels")?;
                others.iter().try_fold(first.clone(), |sum, log| sum + log)?
            }
        })
    }
}

impl Corners<'_> {
    /// Squared error of each sample of the planes.
    fn errors(&self) -> candle_core::Result<Tensor> {
        (self.residual - self.wanted)?.sqr()
    }

    /// Weighted sum of the absolute errors to each corner's target, of each sample of the planes.
    fn absolute_errors(&self) -> anyhow::Result<Tensor> {
        let mut sum = None::<Tensor>;
        for (weights, wanted) in self.each {
            let error = absolute(&(self.residual - wanted)?)?.broadcast_mul(weights)?;
            sum = Some(match sum {
                None => error,
                Some(sum) => (sum + error)?,
            });
        }
        sum.context("the batch has no targets of single corners")
    }

    /// Mean squared error of luma, or of all where there is nothing beside it.
    ///
    /// # Errors
    /// A failing device.
    pub fn luma_error(&self, view: View) -> candle_core::Result<f64> {
        let here = Corners { residual: &self.residual.detach(), ..*self };
        let error =
            here.errors()?.narrow(1, 0, view.groups()[0])?.mean_all()?.to_scalar::<f32>()?;
        Ok(f64::from(error))
    }
}
