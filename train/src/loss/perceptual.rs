//! Distances between the features of a [`FeatureNet`].

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use candle_core::{Device, Result, Tensor, bail};
use image::imageops::{FilterType, resize};
use serde::{Deserialize, Serialize};

use super::features::FeatureNet;
use super::weights::Weights;
use super::{Loss, Seen, mean_per_sample};
use crate::rgb::{Rgb, load_image};

/// Longest side of a style picture, in pixels: brush strokes are some tens of them.
const STYLE_SIDE: u32 = 512;

/// Added to the length of a feature vector in the published code.
const LENGTH_FLOOR: f64 = 1e-10;

/// Added under the root, so that a vector of zeros has a gradient; far below [`LENGTH_FLOOR`]².
const SQUARED_LENGTH_FLOOR: f64 = 1e-36;

/// Keeps a division by the size of features that are all 0 finite.
const SIZE_FLOOR: f64 = 1e-30;

/// Distance between the features of a net that the user gives, in RGB.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Features {
    /// Names of the taps looked at; all if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taps: Vec<String>,
    /// Whether each tap's distance is in units of what its target differs from nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub relative: bool,
}

impl Loss for Features {
    fn needs_features(&self) -> bool {
        true
    }

    /// Nothing, but the taps are looked for.
    fn prepare(&self, net: Option<&FeatureNet>, _: &Device) -> anyhow::Result<Vec<Tensor>> {
        net.context("no feature net")?.select(&self.taps)?;
        Ok(vec![])
    }

    fn per_sample(&self, seen: &Seen<'_>) -> anyhow::Result<Tensor> {
        let output = seen.features(seen.output, &self.taps)?;
        let target = seen.features(seen.target, &self.taps)?;
        Ok(match self.relative {
            true => relative_feature_loss(&output, &target)?,
            false => feature_loss(&output, &target)?,
        })
    }
}

/// Distance between the Gram matrices of those features and of a picture's, in RGB.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Style {
    /// The picture, relative to the recipe.
    pub image: PathBuf,
    /// As of [`Features`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taps: Vec<String>,
    /// As of [`Features`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub relative: bool,
    /// Whether means and covariances are compared rather than Gram matrices, in which the means outweigh all
    /// else.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub centred: bool,
    /// Pixels along the border of the output that are not seen: what a net makes there of the zeros around
    /// its input is no way to look like the picture.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub margin: usize,
}

/// Widest margin of a [`Style`].
const MAX_MARGIN: usize = 256;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(value: &usize) -> bool {
    *value == 0
}

/// Features of a picture `width` pixels wide, without those of pixels that are nearer than `margin` to its border.
fn inside(features: &Tensor, margin: usize, width: usize) -> anyhow::Result<Tensor> {
    if margin == 0 {
        return Ok(features.clone());
    }
    let (_, _, h, w) = features.dims4()?;
    let left_out = (margin * w).div_ceil(width);
    ensure!(
        h.min(w) > 2 * left_out,
        "style: a margin of {margin} pixels leaves nothing of a picture {width} wide"
    );
    let rows = features.narrow(2, left_out, h - 2 * left_out)?;
    Ok(rows.narrow(3, left_out, w - 2 * left_out)?.contiguous()?)
}

impl Style {
    /// What is compared at each tap: the Gram matrix; or the covariances, and the means as a vector.
    fn statistics(&self, features: &[Tensor]) -> Result<Vec<Tensor>> {
        let mut statistics = vec![];
        for f in features {
            if !self.centred {
                statistics.push(gram(f)?);
                continue;
            }
            let mean = f.mean_keepdim(3)?.mean_keepdim(2)?;
            statistics.push(gram(&f.broadcast_sub(&mean)?)?);
            statistics.push(mean.squeeze(3)?);
        }
        Ok(statistics)
    }
}

impl Loss for Style {
    fn has_target(&self) -> bool {
        false
    }

    fn needs_features(&self) -> bool {
        true
    }

    fn check(&self) -> anyhow::Result<()> {
        let margin = self.margin;
        ensure!(margin <= MAX_MARGIN, "margin = {margin}, expected at most {MAX_MARGIN}");
        Ok(())
    }

    fn file(&self) -> Option<&Path> {
        Some(&self.image)
    }

    fn resolve(&mut self, folder: &Path) -> anyhow::Result<()> {
        let picture = folder.join(&self.image);
        self.image =
            std::path::absolute(&picture).with_context(|| picture.display().to_string())?;
        Ok(())
    }

    /// The Gram matrices of the picture.
    fn prepare(&self, net: Option<&FeatureNet>, device: &Device) -> anyhow::Result<Vec<Tensor>> {
        let net = net.context("no feature net")?;
        let taps = net.select(&self.taps)?;
        let rgb = style_picture(&self.image)?;
        let shape = (1, 3, rgb.height, rgb.width);
        let features = net.features(&Tensor::from_vec(rgb.data, shape, device)?)?;
        let features: Vec<Tensor> = taps.iter().map(|tap| features[*tap].clone()).collect();
        Ok(self.statistics(&features)?)
    }

    fn per_sample(&self, seen: &Seen<'_>) -> anyhow::Result<Tensor> {
        let width = seen.width()?;
        let features = seen.features(seen.output, &self.taps)?;
        let inside = features.iter().map(|features| inside(features, self.margin, width));
        let output = self.statistics(&inside.collect::<anyhow::Result<Vec<_>>>()?)?;
        Ok(match self.relative {
            true => relative_matrix_loss(&output, seen.prepared)?,
            false => matrix_loss(&output, seen.prepared)?,
        })
    }
}

/// A picture, made smaller if a side is longer than [`STYLE_SIDE`].
fn style_picture(path: &Path) -> anyhow::Result<Rgb> {
    let image = load_image(path)?;
    let (width, height) = image.dimensions();
    let longest = width.max(height);
    if longest <= STYLE_SIDE {
        return Ok(Rgb::from_image(&image));
    }
    let scaled = |side: u32| (side * STYLE_SIDE).div_ceil(longest);
    let (width, height) = (scaled(width), scaled(height));
    Ok(Rgb::from_image(&resize(&image, width, height, FilterType::CatmullRom)))
}

/// Mean squared distance of features, averaged over the taps (Johnson et al., ECCV 2016, sec. 3.2).
/// To the features of what a picture shall show it is the content loss.
///
/// # Shapes
/// - `x`, `y`: per tap `[N, C, H, W]`, the same in both; returns `[N]`
///
/// # Errors
/// No taps, other numbers of them, shapes that differ.
pub fn feature_loss(x: &[Tensor], y: &[Tensor]) -> Result<Tensor> {
    mean_of_taps(x, y, |x, y| mean_per_sample(&(x - y)?.sqr()?))
}

/// [`feature_loss`] with each tap's distance divided by the mean square of `y` there: 1 from features
/// that are all 0, whatever the net's scale.
///
/// # Shapes
/// As of that.
///
/// # Errors
/// As of that.
pub fn relative_feature_loss(x: &[Tensor], y: &[Tensor]) -> Result<Tensor> {
    mean_of_taps(x, y, |x, y| {
        let size = (mean_per_sample(&y.sqr()?)? + SIZE_FLOOR)?;
        mean_per_sample(&(x - y)?.sqr()?)? / size
    })
}

/// Gram matrix of the channels, divided by `C H W` (Johnson et al., ECCV 2016, sec. 3.2).
///
/// # Shapes
/// - `f`: `[N, C, H, W]`; returns `[N, C, C]`
///
/// # Errors
/// An input of another rank.
pub fn gram(f: &Tensor) -> Result<Tensor> {
    let (n, c, h, w) = f.dims4()?;
    let f = f.reshape((n, c, h * w))?;
    f.matmul(&f.t()?)? / (c * h * w) as f64
}

/// Squared Frobenius distance of the features' [`gram`] matrices to the targets, averaged over the
/// taps (Gatys et al., CVPR 2016, with the normalisation of Johnson et al.).
///
/// # Shapes
/// - `x`: per tap `[N, C, H, W]`; `targets`: per tap `[N, C, C]`, or `[1, C, C]` for one style of
///   all samples; returns `[N]`
///
/// # Errors
/// No taps, other numbers of them, shapes that do not fit.
pub fn style_loss(x: &[Tensor], targets: &[Tensor]) -> Result<Tensor> {
    matrix_loss(&x.iter().map(gram).collect::<Result<Vec<_>>>()?, targets)
}

/// Squared Frobenius distance of matrices `[N, R, C]`, averaged over the taps; of each tap or of all samples as
/// in [`style_loss`].
///
/// # Errors
/// As of that.
pub fn matrix_loss(x: &[Tensor], targets: &[Tensor]) -> Result<Tensor> {
    mean_of_taps(x, targets, |x, target| x.broadcast_sub(target)?.sqr()?.flatten_from(1)?.sum(1))
}

/// [`matrix_loss`] with each tap's distance divided by the target's own squared norm, so that all taps count
/// alike.
///
/// # Errors
/// As of that.
pub fn relative_matrix_loss(x: &[Tensor], targets: &[Tensor]) -> Result<Tensor> {
    mean_of_taps(x, targets, |x, target| {
        let size = (target.sqr()?.flatten_from(1)?.sum(1)? + SIZE_FLOOR)?;
        x.broadcast_sub(target)?.sqr()?.flatten_from(1)?.sum(1)?.broadcast_div(&size)
    })
}

fn mean_of_taps(
    x: &[Tensor],
    y: &[Tensor],
    distance: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    if x.is_empty() || x.len() != y.len() {
        bail!("features at {} and {} taps, expected as many, and one at least", x.len(), y.len());
    }
    let distances = x.iter().zip(y).map(|(x, y)| distance(x, y)).collect::<Result<Vec<_>>>()?;
    Tensor::stack(&distances, 0)?.mean(0)
}

/// Learned perceptual distance, LPIPS version 0.1 on SqueezeNet (Zhang, Isola, Efros, Shechtman,
/// Wang, CVPR 2018): features of unit length at every pixel, squared differences weighted by
/// channel, mean over pixels, sum over taps.
pub struct Lpips {
    net: FeatureNet,
    /// Per tap `[1, C, 1, 1]`.
    heads: Vec<Tensor>,
}

impl Lpips {
    /// Fewest pixels on a side that SqueezeNet does not shrink to nothing.
    pub const SMALLEST_SIDE: usize = 17;

    /// Reads SqueezeNet 1.1 and the heads `lin0.weight`, `lin1.weight`, …, `[1, C, 1, 1]`.
    ///
    /// # Errors
    /// As [`FeatureNet::load`]; a net of another layout; a missing or misshaped head.
    pub fn load(squeezenet: &Path, heads: &Path, device: &Device) -> anyhow::Result<Self> {
        let net = FeatureNet::load(squeezenet, device)?;
        ensure!(
            net.layout() == "SqueezeNet 1.1",
            "{}: LPIPS needs SqueezeNet 1.1, this is {}",
            squeezenet.display(),
            net.layout()
        );
        Self::new(net, &Weights::read(heads, device)?)
    }

    /// From a net and heads named as in a file.
    ///
    /// # Errors
    /// A missing or misshaped head.
    pub fn from_tensors(net: FeatureNet, heads: HashMap<String, Tensor>) -> anyhow::Result<Self> {
        Self::new(net, &Weights::new(heads))
    }

    fn new(net: FeatureNet, weights: &Weights) -> anyhow::Result<Self> {
        let head = |(tap, &channels): (usize, &usize)| {
            let shape = [Some(1), Some(channels), Some(1), Some(1)];
            weights.get(&format!("lin{tap}.weight"), &shape)
        };
        let heads = net.widths().iter().enumerate().map(head);
        Ok(Self { heads: heads.collect::<anyhow::Result<_>>()?, net })
    }

    /// The distance; 0 for identical inputs. SqueezeNet's own normalisation of the input is the
    /// published one: `(2 v − 1 − shift) / scale` of LPIPS is ImageNet's `(v − mean) / deviation`.
    ///
    /// # Shapes
    /// - `x`, `y`: `[N, 3, H, W]`, RGB in 0 to 1; returns `[N]`
    ///
    /// # Errors
    /// As [`FeatureNet::features`]; shapes that differ.
    pub fn distance(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        let (x, y) = (self.net.features(x)?, self.net.features(y)?);
        let mut sum = Tensor::zeros(x[0].dim(0)?, x[0].dtype(), x[0].device())?;
        for ((x, y), head) in x.iter().zip(&y).zip(&self.heads) {
            let difference = (unit_length(x)? - unit_length(y)?)?.sqr()?;
            let weighted = difference.broadcast_mul(head)?.sum(1)?;
            sum = (sum + mean_per_sample(&weighted)?)?;
        }
        Ok(sum)
    }
}

/// Each pixel's channels divided by their Euclidean length.
fn unit_length(f: &Tensor) -> Result<Tensor> {
    let length = (f.sqr()?.sum_keepdim(1)? + SQUARED_LENGTH_FLOOR)?.sqrt()?;
    f.broadcast_div(&(length + LENGTH_FLOOR)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn centred_statistics_tell_means_from_what_varies() {
        let f = Tensor::randn(0f64, 1.0, (2, 3, 5, 7), &Device::Cpu).unwrap();
        let offsets = Tensor::new(&[1.0, -2.0, 3.0], &Device::Cpu).unwrap();
        let offsets = offsets.reshape((1, 3, 1, 1)).unwrap();
        let style = |centred| Style {
            image: PathBuf::new(),
            taps: vec![],
            relative: true,
            centred,
            margin: 0,
        };
        let of = |f: &Tensor| style(true).statistics(std::slice::from_ref(f)).unwrap();
        let (one, other) = (of(&f), of(&f.broadcast_add(&offsets).unwrap()));
        let apart =
            |a: &Tensor, b: &Tensor| (a - b).unwrap().flatten_all().unwrap().to_vec1::<f64>();
        assert_eq!((one[0].dims(), one[1].dims()), (&[2, 3, 3][..], &[2, 3, 1][..]));
        assert!(apart(&one[0], &other[0]).unwrap().iter().all(|v| v.abs() < 1e-12));
        let means = apart(&other[1], &one[1]).unwrap();
        let expected = [1.0, -2.0, 3.0].repeat(2);
        assert!(means.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{means:?}");
        // Of features without means, covariances are the Gram matrix.
        let mean = f.mean_keepdim((2, 3)).unwrap();
        let (centred, plain) = (of(&f), f.broadcast_sub(&mean).unwrap());
        let gram = style(false).statistics(&[plain]).unwrap();
        assert!(apart(&centred[0], &gram[0]).unwrap().iter().all(|v| v.abs() < 1e-12));
    }

    #[test]
    fn a_margin_leaves_out_what_is_near_the_border() {
        let f = Tensor::arange(0f32, 2.0 * 9.0 * 12.0, &Device::Cpu).unwrap();
        let f = f.reshape((1, 2, 9, 12)).unwrap();
        // Of a picture four times as wide: five pixels are two columns.
        let seen = inside(&f, 5, 48).unwrap();
        assert_eq!(seen.dims(), [1, 2, 5, 8]);
        assert_eq!(
            seen.get(0).unwrap().get(0).unwrap().get(0).unwrap().to_vec1::<f32>().unwrap()[0],
            26.0
        );
        assert_eq!(inside(&f, 0, 48).unwrap().dims(), f.dims());
        let error = inside(&f, 18, 48).unwrap_err().to_string();
        assert!(error.contains("18 pixels leaves nothing of a picture 48 wide"), "{error}");
    }
}
