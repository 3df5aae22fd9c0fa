//! Losses of tunable nets: differentiable, in f32 or f64, one value per sample.
//!
//! Every loss returns `[N]`, the mean over everything but the sample, because each sample is
//! weighted by its own tuning.
//!
//! | function | what | source | unit, direction |
//! |---|---|---|---|
//! | [`pixel::l1`] | mean of `\|x − y\|` | | samples, lower |
//! | [`pixel::l2`] | mean of `(x − y)²` | | samples², lower |
//! | [`pixel::charbonnier`] | mean of `√((x − y)² + ε²)` | Charbonnier et al., ICIP 1994 | samples, lower |
//! | [`pixel::total_variation`] | mean of `\|∂x\|`, down plus across | Rudin, Osher, Fatemi 1992, anisotropic | samples, lower |
//! | [`ssim::ssim`] | structural similarity | Wang et al., IEEE TIP 2004 | −1 to 1, higher |
//! | [`ssim::ms_ssim`] | the same on several scales | Wang, Simoncelli, Bovik, Asilomar 2003 | 0 to 1, higher |
//! | [`perceptual::feature_loss`] | squared distance of features (also: content) | Johnson et al., ECCV 2016 | features², lower |
//! | [`perceptual::style_loss`] | squared distance of Gram matrices | Gatys et al., CVPR 2016; Johnson et al. | features⁴, lower |
//! | [`perceptual::relative_feature_loss`], [`perceptual::relative_matrix_loss`] | the same, each tap over its target's size | | from 0, lower |
//! | [`perceptual::Lpips`] | learned perceptual distance | Zhang et al., CVPR 2018, v0.1 | from 0, lower |
//! | [`adversarial::generator_loss`] | hinge or relativistic average | Lim & Ye 2017; Jolicoeur-Martineau 2018 | logits or nats, lower |
//! | [`adversarial::discriminator_loss`] | the discriminator's side | as above | logits or nats, lower |
//!
//! Feature losses take RGB; [`colour`] makes it from the video net's planes.
//!
//! Only operations whose gradients are right in candle are used here: no pooling, upsampling or
//! strided convolution of its own, no square root at zero.

pub mod adversarial;
pub mod colour;
pub mod corners;
pub mod features;
mod kind;
pub mod perceptual;
pub mod pixel;
mod pool;
pub mod ssim;
mod weights;

pub use corners::{ErrorKind, ErrorScale};
pub use kind::{Corners, Loss, Seen};

use candle_core::{Result, Tensor};

// The losses there are: what they are, by module and type, and what they are called in recipes.
kind::losses! {
    /// The targets of all corners of the domain.
    corners::CornerTargets as "corner-targets",
    /// Mean absolute error of the planes.
    pixel::L1 as "l1",
    /// Mean squared error of the planes.
    pixel::L2 as "l2",
    /// Mean of √(d² + ε²) over the planes.
    pixel::Charbonnier as "charbonnier",
    /// 1 − SSIM of luma.
    ssim::Ssim as "ssim",
    /// 1 − MS-SSIM of luma.
    ssim::MsSsim as "ms-ssim",
    /// Distance between the features of a net that the user gives, in RGB.
    perceptual::Features as "features",
    /// Distance between the Gram matrices of those features and of a picture's, in RGB.
    perceptual::Style as "style",
    /// Total variation of the output, in RGB.
    pixel::TotalVariation as "total-variation",
    /// What a discriminator, trained along, says of the output, in RGB.
    adversarial::Adversarial as "adversarial",
}

/// `[N, …]` → `[N]`.
fn mean_per_sample(x: &Tensor) -> Result<Tensor> {
    x.flatten_from(1)?.mean(1)
}

/// Interleaves 2×2 phases: `[N, 4 C, H, W]` → `[N, C, 2 H, 2 W]`; of each pixel's four channels
/// the first two make the upper row.
fn shuffle(x: &Tensor) -> Result<Tensor> {
    let (n, c, h, w) = x.dims4()?;
    x.reshape((n, c / 4, 2, 2, h, w))?.permute((0, 1, 4, 2, 5, 3))?.reshape((
        n,
        c / 4,
        2 * h,
        2 * w,
    ))
}

/// The inverse of [`shuffle`]; the last row or column of an odd side is dropped.
fn unshuffle(x: &Tensor) -> Result<Tensor> {
    let (n, c, h, w) = x.dims4()?;
    let (h, w) = (h / 2, w / 2);
    x.narrow(2, 0, 2 * h)?
        .narrow(3, 0, 2 * w)?
        .reshape((n, c, h, 2, w, 2))?
        .permute((0, 1, 3, 5, 2, 4))?
        .reshape((n, 4 * c, h, w))
}
