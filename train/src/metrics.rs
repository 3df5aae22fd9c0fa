//! How far a picture is from its reference: PSNR and SSIM, higher is better.

use anyhow::ensure;
use candle_core::{Device, Tensor};
use serde::Serialize;

use crate::loss::{self, ssim::WINDOW};
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

/// Structural similarity, as [`loss::ssim::ssim`], in double precision. 1 for identical planes.
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
    let plane = |values: &[f32]| {
        let values: Vec<f64> = values.iter().map(|v| f64::from(*v) / peak).collect();
        Tensor::from_vec(values, (1, 1, height, width), &Device::Cpu)
    };
    Ok(loss::ssim::ssim(&plane(a)?, &plane(b)?)?.squeeze(0)?.to_scalar()?)
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
