//! Scores a checkpoint on a folder of clean images, through the engine and 8-bit planes that video
//! goes through (protocol "Y420").
//!
//! Clean image → optional Gaussian blur (21×21, edges replicated) → noise N(0, σ/255) per RGB
//! channel, seeded by the image's index, clipped, not rounded → BT.601 limited 4:2:0, chroma the
//! mean of 2×2, planes rounded to 8 bit → engine. The reference is the clean image through the same
//! conversion. PSNR has peak 255 and is averaged over images in dB; UV is both chroma planes
//! together. Nothing is cropped.

use std::path::Path;

use anyhow::{Context as _, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tunableconv::engine::Engine;
use tunableconv::frame::{FrameFormat, MAX_SIDE, SampleFormat};
use tunableconv::picture::Picture;

use crate::data::list_images;
use crate::degrade::{blur, noise_for_eval};
use crate::metrics::{Scores, WINDOW};
use crate::rgb::Rgb;
use crate::yuv::{Matrix, Range, Yuv420};

pub(crate) const MATRIX: Matrix = Matrix::Bt601;
pub(crate) const RANGE: Range = Range::Limited;

/// What identical pictures count as in a mean, in dB.
pub(crate) const IDENTICAL_DB: f64 = 100.0;

/// How the clean images are degraded, and which of it the reference keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Conditions {
    /// Standard deviation of the noise, of 255.
    pub noise: f32,
    /// Standard deviation of the blur, in pixels.
    pub blur: f32,
    /// Whether the reference has the same noise: the target of a corner that leaves noise alone.
    pub keep_noise: bool,
    /// Whether the reference has the same blur: the target of a corner that leaves blur alone.
    pub keep_blur: bool,
}

impl Conditions {
    /// # Errors
    /// A strength that is negative or not a number.
    pub fn validate(&self) -> anyhow::Result<()> {
        for (name, sigma) in [("noise", self.noise), ("blur", self.blur)] {
            ensure!((0.0..=1000.0).contains(&sigma), "{name} = {sigma}, expected 0 to 1000");
        }
        Ok(())
    }

    /// The degraded picture, as 8-bit planes.
    pub fn degraded(&self, clean: &Rgb, image_index: usize) -> Yuv420 {
        planes(clean, self.blur, self.noise, image_index)
    }

    /// What the output is compared with.
    pub fn reference(&self, clean: &Rgb, image_index: usize) -> Yuv420 {
        let kept = |keep: bool, sigma: f32| if keep { sigma } else { 0.0 };
        let noise = kept(self.keep_noise, self.noise);
        planes(clean, kept(self.keep_blur, self.blur), noise, image_index)
    }
}

fn planes(clean: &Rgb, blur_sigma: f32, noise_sigma: f32, image_index: usize) -> Yuv420 {
    let blurred = blur(clean, blur_sigma);
    let noisy = noise_for_eval(&blurred, noise_sigma, image_index as u64);
    let mut yuv = Yuv420::from_rgb(&noisy, MATRIX, RANGE);
    yuv.round_to_8bit();
    yuv
}

/// Means over a folder.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Images scored.
    pub images: usize,
    /// Files left out because they could not be read.
    pub skipped: usize,
    /// Output against reference.
    #[serde(flatten)]
    pub output: Scores,
    /// Unprocessed luma against reference, dB.
    pub input_psnr_y: f64,
    /// Unprocessed chroma against reference, dB.
    pub input_psnr_uv: f64,
    /// SSIM of unprocessed luma.
    pub input_ssim_y: f64,
    /// How the images were degraded.
    #[serde(flatten)]
    pub conditions: Conditions,
    /// Entries of the tuning.
    pub tuning: Vec<f32>,
}

/// Reads an image that can be filtered and compared.
///
/// # Errors
/// Names it, when it is broken or its sides are not within 11 to 8192 pixels.
pub(crate) fn load(path: &Path) -> anyhow::Result<Rgb> {
    let image = Rgb::load(path)?;
    let (width, height) = (image.width, image.height);
    ensure!(
        width.min(height) >= WINDOW && width.max(height) <= MAX_SIDE,
        "{}: {width}x{height}, expected sides of {WINDOW} to {MAX_SIDE} pixels",
        path.display()
    );
    Ok(image)
}

/// Scores `engine`, at the tuning it has, on the images below `dir`. An image that is broken, or too
/// small or large, is skipped with a warning and counted.
///
/// # Errors
/// No usable image, or a failing engine.
pub fn score(
    engine: &mut dyn Engine,
    dir: &Path,
    conditions: Conditions,
    tuning: &[f32],
) -> anyhow::Result<Report> {
    conditions.validate()?;
    let paths = list_images(dir)?;
    let bar = ProgressBar::new(paths.len() as u64).with_style(bar_style("images"));
    let (mut output, mut input) = (Mean::default(), Mean::default());
    let mut skipped = 0;
    for (index, path) in paths.iter().enumerate() {
        bar.inc(1);
        let clean = match load(path) {
            Ok(clean) => clean,
            Err(error) => {
                bar.suspend(|| eprintln!("warning: skipped: {error:#}"));
                skipped += 1;
                continue;
            }
        };
        let degraded = conditions.degraded(&clean, index);
        let reference = conditions.reference(&clean, index);
        let scores = |picture: &Yuv420| {
            Scores::of(picture, &reference).with_context(|| path.display().to_string())
        };
        input.add(scores(&degraded)?);
        output.add(scores(&filter(engine, &degraded)?)?);
    }
    bar.finish_and_clear();
    ensure!(output.count > 0, "{}: no image in it can be used", dir.display());
    let images = output.count;
    let (output, input) = (output.mean(), input.mean());
    Ok(Report {
        images,
        skipped,
        output,
        input_psnr_y: input.psnr_y,
        input_psnr_uv: input.psnr_uv,
        input_ssim_y: input.ssim_y,
        conditions,
        tuning: tuning.to_vec(),
    })
}

/// Runs `engine` on 8-bit limited-range planes.
///
/// # Errors
/// A failing engine.
pub fn filter(engine: &mut dyn Engine, picture: &Yuv420) -> anyhow::Result<Yuv420> {
    filter_in(engine, picture, RANGE)
}

/// [`filter`] on planes of another range.
pub(crate) fn filter_in(
    engine: &mut dyn Engine,
    picture: &Yuv420,
    range: Range,
) -> anyhow::Result<Yuv420> {
    let format = FrameFormat {
        width: picture.width,
        height: picture.height,
        range,
        samples: SampleFormat::U8,
    };
    let input = Picture::new(format, picture.to_bytes())?;
    let mut output = input.clone();
    engine.process(&input.frame(), &mut output.frame_mut())?;
    Yuv420::from_bytes(picture.width, picture.height, output.planes())
}

/// Sums of scores.
#[derive(Clone, Default)]
pub(crate) struct Mean {
    pub(crate) count: usize,
    psnr_y: f64,
    psnr_uv: f64,
    ssim_y: f64,
}

impl Mean {
    pub(crate) fn add(&mut self, scores: Scores) {
        self.count += 1;
        self.psnr_y += scores.psnr_y.min(IDENTICAL_DB);
        self.psnr_uv += scores.psnr_uv.min(IDENTICAL_DB);
        self.ssim_y += scores.ssim_y;
    }

    pub(crate) fn mean(&self) -> Scores {
        let count = self.count as f64;
        Scores {
            psnr_y: self.psnr_y / count,
            psnr_uv: self.psnr_uv / count,
            ssim_y: self.ssim_y / count,
        }
    }
}

pub(crate) fn bar_style(what: &str) -> ProgressStyle {
    ProgressStyle::with_template(&format!("{what} {{wide_bar}} {{pos}}/{{len}}  ETA {{eta}}"))
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}
