//! Structural similarity of pictures whose peak is 1.
//!
//! Windows are Gaussian, 11×11 with σ = 1.5, and lie wholly inside the picture; K₁ = 0.01,
//! K₂ = 0.03 (Wang, Bovik, Sheikh, Simoncelli, IEEE TIP 2004).

use candle_core::{Result, Tensor, bail};
use serde::{Deserialize, Serialize};
use tunableconv::nn::conv::conv2d;
use tunableconv::nn::{Activation, ConvGeometry};

use super::{Loss, Seen};

/// Side of the window in pixels.
pub(crate) const WINDOW: usize = 11;
const SIGMA: f64 = 1.5;
const C1: f64 = 0.01 * 0.01;
const C2: f64 = 0.03 * 0.03;

/// Exponents of the scales, fine to coarse (Wang, Simoncelli, Bovik, Asilomar 2003).
const SCALE_WEIGHTS: [f64; 5] = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333];

/// Least value of a factor of [`ms_ssim`]: its power has no gradient at 0, nor a value below.
const FLOOR: f64 = 1e-4;

/// 1 − SSIM of luma.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ssim {}

impl Loss for Ssim {
    fn per_sample(&self, seen: &Seen<'_>) -> anyhow::Result<Tensor> {
        let similarity = ssim(&seen.luma(seen.output)?, &seen.luma(seen.target)?)?;
        Ok(similarity.affine(-1.0, 1.0)?)
    }
}

/// 1 − MS-SSIM of luma, over as many scales as the crop has room for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MsSsim {}

impl Loss for MsSsim {
    fn per_sample(&self, seen: &Seen<'_>) -> anyhow::Result<Tensor> {
        let similarity = ms_ssim(&seen.luma(seen.output)?, &seen.luma(seen.target)?)?;
        Ok(similarity.affine(-1.0, 1.0)?)
    }
}

/// Mean structural similarity over windows and channels; 1 for identical inputs.
///
/// # Shapes
/// - `x`, `y`: `[N, C, H, W]`, values in 0 to 1; returns `[N]`
///
/// # Errors
/// Shapes or types that differ, sides of less than 11 pixels.
pub fn ssim(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let (n, ..) = check(x, y)?;
    let (luminance, structure) = maps(&as_planes(x)?, &as_planes(y)?)?;
    (luminance * structure)?.reshape((n, ()))?.mean(1)
}

/// Structural similarity on several scales, halved by 2×2 means (an odd last row or column is
/// dropped); the product is taken channel by channel, then averaged. 1 for identical inputs.
///
/// Five scales need 176 pixels a side. With less, the scales that fit an 11-pixel window are used
/// (three at 64 pixels), their exponents divided by their share of the five's sum. A factor below
/// 0.0001, which only unrelated or opposite structures have, is raised to it and then has no
/// gradient.
///
/// # Shapes
/// - `x`, `y`: `[N, C, H, W]`, values in 0 to 1; returns `[N]`
///
/// # Errors
/// Shapes or types that differ, sides of less than 11 pixels.
pub fn ms_ssim(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let (n, c, h, w) = check(x, y)?;
    let fits = |scale: &usize| h.min(w) >> scale >= WINDOW;
    let scales = (0..SCALE_WEIGHTS.len()).take_while(fits).count();
    let weights = &SCALE_WEIGHTS[..scales];
    let share = weights.iter().sum::<f64>() / SCALE_WEIGHTS.iter().sum::<f64>();

    let (mut x, mut y) = (as_planes(x)?, as_planes(y)?);
    let mut product = Tensor::ones(n * c, x.dtype(), x.device())?;
    for (scale, weight) in weights.iter().enumerate() {
        let (luminance, structure) = maps(&x, &y)?;
        let factor = if scale + 1 == scales {
            (luminance * structure)?
        } else {
            (x, y) = (halve(&x)?, halve(&y)?);
            structure
        };
        let factor = factor.flatten_from(1)?.mean(1)?;
        product = (product * factor.maximum(FLOOR)?.powf(weight / share)?)?;
    }
    product.reshape((n, c))?.mean(1)
}

fn check(x: &Tensor, y: &Tensor) -> Result<(usize, usize, usize, usize)> {
    if x.dims() != y.dims() {
        bail!("ssim: inputs of different shapes {:?} and {:?}", x.dims(), y.dims());
    }
    let (n, c, h, w) = x.dims4()?;
    if h < WINDOW || w < WINDOW {
        bail!("ssim: expected at least {WINDOW}×{WINDOW} pixels, got {w}×{h}");
    }
    Ok((n, c, h, w))
}

/// `[N, C, H, W]` → `[N C, 1, H, W]`: every plane is filtered alike.
fn as_planes(x: &Tensor) -> Result<Tensor> {
    let (n, c, h, w) = x.dims4()?;
    x.reshape((n * c, 1, h, w))
}

/// The luminance term and the product of the contrast and structure terms, in every window:
/// two of `[P, 1, H − 10, W − 10]`.
fn maps(x: &Tensor, y: &Tensor) -> Result<(Tensor, Tensor)> {
    let planes = x.dim(0)?;
    // The formulas need the variances' sum only.
    let moments = Tensor::cat(&[x, y, &(x.sqr()? + y.sqr()?)?, &(x * y)?], 0)?;
    let means = gaussian(&moments)?;
    let mean = |i: usize| means.narrow(0, i * planes, planes);
    let (mx, my) = (mean(0)?, mean(1)?);
    let (squares, product) = ((mx.sqr()? + my.sqr()?)?, (mx * my)?);
    let variances = (mean(2)? - &squares)?;
    let covariance = (mean(3)? - &product)?;
    let luminance = (product.affine(2.0, C1)? / (squares + C1)?)?;
    let structure = (covariance.affine(2.0, C2)? / (variances + C2)?)?;
    Ok((luminance, structure))
}

/// Gaussian means of all windows inside, one axis after the other.
fn gaussian(x: &Tensor) -> Result<Tensor> {
    let weights: [f64; WINDOW] = std::array::from_fn(|i| {
        let distance = i as f64 - (WINDOW / 2) as f64;
        (-0.5 * (distance / SIGMA).powi(2)).exp()
    });
    let sum: f64 = weights.iter().sum();
    let weights = Tensor::new(&weights.map(|w| w / sum), x.device())?.to_dtype(x.dtype())?;
    let across = filter(x, &weights.reshape((1, 1, 1, 1, WINDOW))?, 1)?;
    filter(&across, &weights.reshape((1, 1, 1, WINDOW, 1))?, 1)
}

/// Means of 2×2 blocks.
fn halve(x: &Tensor) -> Result<Tensor> {
    let quarter = Tensor::full(0.25, (1, 1, 1, 2, 2), x.device())?.to_dtype(x.dtype())?;
    filter(x, &quarter, 2)
}

fn filter(x: &Tensor, kernel: &Tensor, stride: usize) -> Result<Tensor> {
    conv2d(x, kernel, None, ConvGeometry { stride, ..Default::default() }, Activation::None)
}
