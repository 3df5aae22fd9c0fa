//! Losses between samples at the same place.

use anyhow::ensure;
use candle_core::{Result, Tensor, bail};
use serde::{Deserialize, Serialize};

use super::{Loss, Seen, mean_per_sample};

/// Mean absolute error of the planes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct L1 {}

impl Loss for L1 {
    fn per_sample(&self, seen: &Seen<'_>) -> anyhow::Result<Tensor> {
        Ok(l1(seen.output, seen.target)?)
    }
}

/// Mean squared error of the planes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct L2 {}

impl Loss for L2 {
    fn per_sample(&self, seen: &Seen<'_>) -> anyhow::Result<Tensor> {
        Ok(l2(seen.output, seen.target)?)
    }
}

/// Mean of √(d² + ε²) over the planes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Charbonnier {
    /// ε.
    pub epsilon: f64,
}

impl Loss for Charbonnier {
    fn check(&self) -> anyhow::Result<()> {
        let epsilon = self.epsilon;
        ensure!(epsilon > 0.0 && epsilon <= 1.0, "epsilon = {epsilon}, expected 0 < x ≤ 1");
        Ok(())
    }

    fn per_sample(&self, seen: &Seen<'_>) -> anyhow::Result<Tensor> {
        Ok(charbonnier(seen.output, seen.target, self.epsilon)?)
    }
}

/// Total variation of the output, in RGB.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TotalVariation {}

impl Loss for TotalVariation {
    fn has_target(&self) -> bool {
        false
    }

    fn per_sample(&self, seen: &Seen<'_>) -> anyhow::Result<Tensor> {
        Ok(total_variation(&seen.rgb(seen.output)?)?)
    }
}

/// Mean absolute error. Its gradient is 0 where the inputs are equal.
///
/// # Shapes
/// - `x`, `y`: `[N, C, H, W]`; returns `[N]`
///
/// # Errors
/// Shapes or types that differ.
pub fn l1(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    mean_per_sample(&absolute(&(x - y)?)?)
}

/// Mean squared error.
///
/// # Shapes
/// - `x`, `y`: `[N, C, H, W]`; returns `[N]`
///
/// # Errors
/// Shapes or types that differ.
pub fn l2(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    mean_per_sample(&(x - y)?.sqr()?)
}

/// Mean of `√((x − y)² + ε²)`: squared error below ε, absolute error above it
/// (Charbonnier et al., ICIP 1994). Identical inputs give ε.
///
/// # Shapes
/// - `x`, `y`: `[N, C, H, W]`; returns `[N]`
///
/// # Errors
/// Shapes or types that differ; an `epsilon` that is not above 0, in the unit of the samples.
pub fn charbonnier(x: &Tensor, y: &Tensor, epsilon: f64) -> Result<Tensor> {
    if !(epsilon > 0.0 && epsilon.is_finite()) {
        bail!("charbonnier: expected a finite epsilon above 0, got {epsilon}");
    }
    mean_per_sample(&((x - y)?.sqr()? + epsilon * epsilon)?.sqrt()?)
}

/// Anisotropic total variation: mean absolute difference to the pixel below, plus that to the pixel
/// on the right. A side of one pixel has no differences and adds 0. The gradient of a difference of
/// 0 is 0.
///
/// # Shapes
/// - `x`: `[N, C, H, W]`; returns `[N]`
///
/// # Errors
/// An input of another rank.
pub fn total_variation(x: &Tensor) -> Result<Tensor> {
    let n = x.dims4()?.0;
    let mut sum = Tensor::zeros(n, x.dtype(), x.device())?;
    for dim in [2, 3] {
        let differences = x.dim(dim)?.saturating_sub(1);
        if differences > 0 {
            let difference = (x.narrow(dim, 1, differences)? - x.narrow(dim, 0, differences)?)?;
            sum = (sum + mean_per_sample(&absolute(&difference)?)?)?;
        }
    }
    Ok(sum)
}

/// `|x|` with gradient 0 at 0, where candle's has 1.
pub(super) fn absolute(x: &Tensor) -> Result<Tensor> {
    x * x.sign()?.detach()
}
