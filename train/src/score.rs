//! Scores a checkpoint on pictures, through the engine and 8-bit planes that video goes through
//! (protocol "Y420").
//!
//! Clean picture → the [`Condition`]'s degradations in RGB, seeded by the picture's index, clipped, not
//! rounded → BT.601 limited 4:2:0, chroma the mean of 2×2, planes rounded to 8 bit → engine. The
//! reference is the clean picture, or one that keeps some degradations, through the same conversion.
//! For a net that enlarges, the clean picture is first scaled down bicubically (Keys, a = −0.5, stretched),
//! and what it is compared with, beside the clean one, is the input enlarged the same way.
//! PSNR has peak 255 and is averaged over pictures in dB; UV is both chroma planes together. Nothing
//! is cropped.

use anyhow::{Context as _, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tunableconv::engine::Engine;
use tunableconv::frame::{ChromaSite, FrameFormat, SampleFormat};
use tunableconv::picture::Picture;
use tunableconv::tuning::Tuning;

use crate::condition::Condition;
use crate::metrics::Scores;
use crate::rgb::Rgb;
use crate::tell;
use crate::terminal::causes;
use crate::test_set::{TestPicture, TestSet};
use crate::view::View;
use crate::yuv::{Matrix, Range, Yuv420};

pub(crate) const MATRIX: Matrix = Matrix::Bt601;
pub(crate) const RANGE: Range = Range::Limited;

/// What identical pictures count as in a mean, in dB.
pub(crate) const IDENTICAL_DB: f64 = 100.0;

/// A picture as 8-bit planes.
pub(crate) fn planes(picture: &Rgb) -> Yuv420 {
    let mut planes = Yuv420::from_rgb(picture, MATRIX, RANGE);
    planes.round_to_8bit();
    planes
}

impl TestPicture {
    /// What of a condition's degradations `keep` says, as 8-bit planes of the size that the net gets.
    pub(crate) fn planes(&self, condition: &Condition, index: usize, keep: &[bool]) -> Yuv420 {
        let small = View { scale: self.scale, ..View::YUV420 }.small(&self.clean);
        planes(&condition.apply(&small, self.twin.as_ref(), index as u64, keep))
    }

    /// The same at the size of what the net makes; where that is larger, without degradation.
    pub(crate) fn target(&self, condition: &Condition, index: usize, keep: &[bool]) -> Yuv420 {
        if self.scale == 1 { self.planes(condition, index, keep) } else { self.reference() }
    }

    /// What there is of a degraded picture without a net: enlarged bicubically.
    pub(crate) fn unfiltered(&self, degraded: &Yuv420) -> Yuv420 {
        degraded.enlarged(self.scale)
    }

    /// Under all of a condition's degradations.
    pub(crate) fn degraded(&self, condition: &Condition, index: usize) -> Yuv420 {
        self.planes(condition, index, &vec![true; condition.kinds().len()])
    }

    /// Under none.
    pub(crate) fn reference(&self) -> Yuv420 {
        planes(&self.clean)
    }
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
    pub condition: Condition,
    /// Kinds of its degradations that the reference has too.
    pub keep: Vec<&'static str>,
    /// Entries of the tuning; with [`Self::level`] only of parameters that are told no level.
    pub tuning: Vec<f32>,
    /// What every picture's own levels were multiplied with, if they were told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<f64>,
}

/// The tuning for a picture, by its index and the condition.
pub type OwnTuning<'a> = dyn Fn(&TestPicture, &Condition, usize) -> anyhow::Result<Tuning> + 'a;

/// Scores `engine` at a tuning, or at every picture's own, on `set`, against references that keep the
/// degradations which `keep` says. A picture that is broken, or too small or large, is skipped with a
/// warning and counted.
///
/// # Errors
/// No usable picture, a condition that does not go with the set, or a failing engine.
///
/// # Panics
/// If `keep` has another length than the condition.
pub fn score(
    engine: &mut dyn Engine,
    set: &TestSet,
    condition: Condition,
    keep: &[bool],
    tuning: &Tuning,
    own: Option<&OwnTuning<'_>>,
) -> anyhow::Result<Report> {
    ensure!(
        set.scale() == 1 || keep.iter().all(|keep| !keep),
        "the net makes pictures of another size, of which none keeps degradations"
    );
    engine.set_tuning(tuning)?;
    let bar = ProgressBar::new(set.len() as u64).with_style(bar_style("images"));
    let (mut output, mut input) = (Mean::default(), Mean::default());
    let mut skipped = 0;
    for index in 0..set.len() {
        bar.inc(1);
        let picture = match set.load(index) {
            Ok(picture) => picture,
            Err(error) => {
                bar.suspend(|| tell!("warning: skipped: {}", causes(&error)));
                skipped += 1;
                continue;
            }
        };
        let degraded = picture.degraded(&condition, index);
        let reference = picture.target(&condition, index, keep);
        if let Some(own) = own {
            engine.set_tuning(&own(&picture, &condition, index)?)?;
        }
        let scores =
            |picture: &Yuv420| Scores::of(picture, &reference).with_context(|| set.describe(index));
        input.add(scores(&picture.unfiltered(&degraded))?);
        output.add(scores(&filter(engine, &degraded)?)?);
    }
    bar.finish_and_clear();
    ensure!(output.count > 0, "{}: no image in it can be used", set.folder().display());
    let images = output.count;
    let (output, input) = (output.mean(), input.mean());
    Ok(Report {
        images,
        skipped,
        output,
        input_psnr_y: input.psnr_y,
        input_psnr_uv: input.psnr_uv,
        input_ssim_y: input.ssim_y,
        keep: condition
            .kinds()
            .zip(keep)
            .filter(|(_, keep)| **keep)
            .map(|(kind, _)| kind)
            .collect(),
        condition,
        tuning: tuning.values().to_vec(),
        level: None,
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
    let (width, height) = engine.output_size(picture.width, picture.height);
    let mut output = Picture::grey(FrameFormat { width, height, ..format })?;
    // Of what clips are made of, the nets in 4:2:0 do not ask.
    let site = ChromaSite::CENTRE;
    let input = input.frame().with_matrix(MATRIX).with_chroma_site(site);
    let mut filtered = output.frame_mut().with_matrix(MATRIX).with_chroma_site(site);
    engine.process(&input, &mut filtered)?;
    Yuv420::from_bytes(width, height, output.planes())
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
