//! How far a picture is from its reference: PSNR and SSIM, higher is better.

use anyhow::ensure;
use serde::Serialize;

use crate::yuv::Yuv420;

/// Peak signal-to-noise ratio in dB: `10 · log₁₀(peak² / MSE)`, summed in double precision.
/// Identical inputs give [`f64::INFINITY`], which a mean over images does not survive.
///
/// # Panics
/// If the lengths differ or are 0.
#[must_use]
pub fn psnr(a: &[f32], b: &[f32], peak: f64) -> f64 {
    psnr_of_error(squared_error(a, b), a.len(), peak)
}

/// [`psnr`] over both chroma planes together, peak 255.
///
/// # Panics
/// If the pictures differ in size.
#[must_use]
pub fn psnr_uv(a: &Yuv420, b: &Yuv420) -> f64 {
    let error = squared_error(&a.u, &b.u) + squared_error(&a.v, &b.v);
    psnr_of_error(error, a.u.len() + a.v.len(), 255.0)
}

fn squared_error(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len(), "planes of different sizes");
    a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum()
}

fn psnr_of_error(error: f64, count: usize, peak: f64) -> f64 {
    assert!(count > 0, "empty planes");
    10.0 * (peak * peak / (error / count as f64)).log10()
}

/// Side of the SSIM window.
pub(crate) const WINDOW: usize = 11;

/// Structural similarity (Wang et al., IEEE TIP 2004): Gaussian window 11×11, σ = 1.5,
/// K₁ = 0.01, K₂ = 0.03, mean over the windows that lie wholly inside. 1 for identical planes.
///
/// # Shapes
/// - `a`, `b`: `[height, width]`
///
/// # Errors
/// If a side is shorter than 11 pixels.
///
/// # Panics
/// If `a` or `b` does not hold `height · width` values.
pub fn ssim(a: &[f32], b: &[f32], width: usize, height: usize, peak: f64) -> anyhow::Result<f64> {
    assert_eq!(a.len(), width * height, "plane of {width}x{height}");
    assert_eq!(b.len(), width * height, "plane of {width}x{height}");
    ensure!(
        width >= WINDOW && height >= WINDOW,
        "SSIM needs at least {WINDOW}x{WINDOW} pixels, got {width}x{height}"
    );
    let mean = |f: fn(f64, f64) -> f64| {
        let values: Vec<f64> =
            a.iter().zip(b).map(|(&a, &b)| f(f64::from(a), f64::from(b))).collect();
        window_means(&values, width)
    };
    let mean_a = mean(|a, _| a);
    let mean_b = mean(|_, b| b);
    let mean_aa = mean(|a, _| a * a);
    let mean_bb = mean(|_, b| b * b);
    let mean_ab = mean(|a, b| a * b);
    let c1 = (0.01 * peak).powi(2);
    let c2 = (0.03 * peak).powi(2);
    let mut sum = 0.0;
    for i in 0..mean_a.len() {
        let (ma, mb) = (mean_a[i], mean_b[i]);
        let variances = mean_aa[i] - ma * ma + mean_bb[i] - mb * mb;
        let covariance = mean_ab[i] - ma * mb;
        sum += (2.0 * ma * mb + c1) * (2.0 * covariance + c2)
            / ((ma * ma + mb * mb + c1) * (variances + c2));
    }
    Ok(sum / mean_a.len() as f64)
}

/// Gaussian means over all windows inside: `[height − 10, width − 10]`.
fn window_means(values: &[f64], width: usize) -> Vec<f64> {
    let weights = window_weights();
    let inner = width - (WINDOW - 1);
    let across: Vec<f64> = values
        .chunks_exact(width)
        .flat_map(|row| {
            let mut out = vec![0.0; inner];
            for (t, weight) in weights.iter().enumerate() {
                add_scaled(&mut out, &row[t..], *weight);
            }
            out
        })
        .collect();
    let mut means = vec![0.0; across.len() - (WINDOW - 1) * inner];
    for (y, out) in means.chunks_exact_mut(inner).enumerate() {
        for (t, weight) in weights.iter().enumerate() {
            add_scaled(out, &across[(y + t) * inner..], *weight);
        }
    }
    means
}

fn add_scaled(out: &mut [f64], row: &[f64], weight: f64) {
    for (out, value) in out.iter_mut().zip(row) {
        *out += weight * value;
    }
}

fn window_weights() -> [f64; WINDOW] {
    let weights: [f64; WINDOW] = std::array::from_fn(|i| {
        let distance = i as f64 - (WINDOW / 2) as f64;
        (-0.5 * (distance / 1.5).powi(2)).exp()
    });
    let sum: f64 = weights.iter().sum();
    weights.map(|weight| weight / sum)
}

/// The numbers reported for one picture; peak 255.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Scores {
    /// dB over the luma plane.
    pub psnr_y: f64,
    /// dB over both chroma planes together.
    pub psnr_uv: f64,
    /// SSIM of the luma plane, at most 1.
    pub ssim_y: f64,
}

impl Scores {
    /// Compares a picture with its reference.
    ///
    /// # Errors
    /// If the sizes differ, or a side is shorter than the 11 pixels that SSIM needs.
    pub fn of(picture: &Yuv420, reference: &Yuv420) -> anyhow::Result<Self> {
        ensure!(
            (picture.width, picture.height) == (reference.width, reference.height),
            "a picture of {}x{} compared with a reference of {}x{}",
            picture.width,
            picture.height,
            reference.width,
            reference.height
        );
        Ok(Self {
            psnr_y: psnr(&picture.y, &reference.y, 255.0),
            psnr_uv: psnr_uv(picture, reference),
            ssim_y: ssim(&picture.y, &reference.y, picture.width, picture.height, 255.0)?,
        })
    }
}
