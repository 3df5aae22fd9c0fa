//! A whole report on a tunable checkpoint: quality over its domain, how well each parameter
//! controls, flicker, and pictures, in a directory of Markdown, JSON, SVG and PNG.
//!
//! Pictures are degraded, filtered and compared by protocol "Y420" of [`crate::score`], whose numbers
//! these are. The report measures, as is usual for tunable nets (Maggioni et al., CVPR 2023, compare
//! at corners and along the parameters):
//! - PSNR and SSIM at the corners, midpoints of edges and centre of the domain, against the clean
//!   picture and at the corners against their own targets: the picture with the degradations that
//!   this corner leaves alone.
//! - *Monotone control*: Spearman's rank correlation of ω_j with PSNR-Y, that is with −loss, towards
//!   the target where parameter j is on. 1: every step along ω_j comes nearer. The correlation with
//!   the loss itself is its negative.
//! - *Smoothness*: the largest second difference of that PSNR-Y between tenths of the way, in dB.
//! - *Extrapolation*: the same response a tenth beyond either end.
//! - *Flicker* that a moving tuning adds: [`flicker`].

pub mod control;
mod curves;
mod directory;
pub mod flicker;
mod markdown;
mod pictures;
pub mod points;
mod quality;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use candle_core::Device;
use serde::Serialize;
use tunableconv::checkpoint::{Architecture, Checkpoint, Provenance};
use tunableconv::engine::Engine;
use tunableconv::net::Net;
use tunableconv::tuning::TuningSpace;

use crate::data::list_images;
use crate::inspect::describe_net;
use crate::rgb::Rgb;
use crate::score::Conditions;

pub use quality::{ConditionReport, Control, Numbers, PointReport};

/// A perceptual distance of an RGB picture from its reference, 0 for identical ones.
pub type Distance = dyn Fn(&Rgb, &Rgb) -> anyhow::Result<f64>;

/// A degradation that a parameter may undo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Undoes {
    /// Gaussian noise.
    Noise,
    /// Gaussian blur.
    Blur,
}

/// What is measured on what.
pub struct Settings {
    /// Folder of clean images.
    pub data: PathBuf,
    /// Most files used, the first of the folder.
    pub images: usize,
    /// Standard deviations of noise, of 255; each but 0 is a condition.
    pub noise: Vec<f32>,
    /// Standard deviations of blur, in pixels; each but 0 is a condition, and with the first
    /// noise another.
    pub blur: Vec<f32>,
    /// Which parameter undoes which degradation, by name. `denoise` undoes noise and `deblur` blur
    /// unless they are named here.
    pub undoes: Vec<(String, Undoes)>,
    /// Y4M clip to measure flicker on, 8-bit 4:2:0.
    pub clip: Option<PathBuf>,
    /// LPIPS or the like.
    pub lpips: Option<Box<Distance>>,
}

impl Settings {
    /// Noise alone, blur alone, then both.
    fn conditions(&self) -> anyhow::Result<Vec<Conditions>> {
        let condition = |noise, blur| Conditions { noise, blur, ..Default::default() };
        let present = |sigmas: &[f32]| -> Vec<f32> {
            sigmas.iter().copied().filter(|sigma| *sigma != 0.0).collect()
        };
        let (noise, blur) = (present(&self.noise), present(&self.blur));
        let mut all: Vec<_> = noise.iter().map(|&noise| condition(noise, 0.0)).collect();
        for noise in [0.0].iter().chain(noise.first()) {
            all.extend(blur.iter().map(|&blur| condition(*noise, blur)));
        }
        // What is given twice is measured once.
        let mut seen: Vec<Conditions> = vec![];
        all.retain(|condition| {
            let is_new = !seen.contains(condition);
            seen.push(*condition);
            is_new
        });
        ensure!(!all.is_empty(), "no condition: give a noise or a blur above 0");
        all.iter().try_for_each(Conditions::validate)?;
        Ok(all)
    }

    /// What each parameter undoes.
    fn roles(&self, space: &TuningSpace) -> anyhow::Result<Vec<Option<Undoes>>> {
        let parameters = &space.parameters;
        for (name, _) in &self.undoes {
            let known = parameters.iter().any(|p| &p.name == name);
            ensure!(known, "no parameter `{name}`, there are {}", space.names());
        }
        let given = |name: &str| self.undoes.iter().find(|(n, _)| n == name).map(|(_, u)| *u);
        let role = |name: &str| match given(name) {
            Some(undoes) => Some(undoes),
            None if name == "denoise" => Some(Undoes::Noise),
            None if name == "deblur" => Some(Undoes::Blur),
            None => None,
        };
        Ok(parameters.iter().map(|p| role(&p.name)).collect())
    }
}

/// Everything in the report, as `report.json` has it. PSNR is in dB with peak 255, averaged over
/// images; an identical picture counts as 100 dB. SSIM is at most 1.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Marks the file.
    pub format: &'static str,
    /// The checkpoint's file.
    pub checkpoint: PathBuf,
    /// Its net.
    pub architecture: Architecture,
    /// It in words.
    pub net: String,
    /// Its parameters and their domain.
    pub tuning: TuningSpace,
    /// Where it comes from.
    pub provenance: Provenance,
    /// Engine, device and precision, in words.
    pub engine: String,
    /// Folder of clean images.
    pub data: PathBuf,
    /// Images used.
    pub images: usize,
    /// Files left out because they could not be used.
    pub skipped: usize,
    /// What each parameter undoes, where known.
    pub undoes: Vec<Option<Undoes>>,
    /// Quality, one entry per condition.
    pub conditions: Vec<ConditionReport>,
    /// Control, one entry per parameter and condition that shows it.
    pub control: Vec<Control>,
    /// The clip flicker was measured on.
    pub clip: Option<PathBuf>,
    /// Flicker per parameter; empty without a clip.
    pub flicker: Vec<flicker::Flicker>,
}

/// Measures `checkpoint` (read from `file`) through `engine` and writes the report to the directory
/// `out`, whole or not at all; an earlier report there is replaced.
///
/// # Errors
/// `out` holds something else, bad settings, no usable image, a broken clip, or a failing engine.
pub fn evaluate(
    file: &Path,
    checkpoint: &Checkpoint,
    engine: &mut dyn Engine,
    settings: &Settings,
    out: &Path,
) -> anyhow::Result<Report> {
    let metadata = &checkpoint.metadata;
    let conditions = settings.conditions()?;
    let roles = settings.roles(&metadata.tuning)?;
    let clip = settings.clip.as_deref().map(flicker::Checked::read).transpose()?;
    let mut paths = list_images(&settings.data)?;
    paths.truncate(settings.images);
    let net = Net::new(checkpoint, &Device::Cpu)?;
    let draft = directory::Draft::begin(out)?;

    let lpips = settings.lpips.as_deref();
    let measured = quality::measure(engine, &net, &paths, &conditions, &roles, lpips)?;
    ensure!(measured.images > 0, "{}: no image in it can be used", settings.data.display());
    let flicker = clip.map_or_else(|| Ok(Vec::new()), |clip| clip.flicker(engine))?;
    let report = Report {
        format: directory::FORMAT,
        checkpoint: file.into(),
        architecture: metadata.architecture.clone(),
        net: describe_net(metadata).join("; "),
        tuning: metadata.tuning.clone(),
        provenance: metadata.provenance.clone(),
        engine: engine.description().into(),
        data: settings.data.clone(),
        images: measured.images,
        skipped: measured.skipped,
        undoes: roles,
        conditions: measured.conditions,
        control: measured.control,
        clip: settings.clip.clone(),
        flicker,
    };

    let write = |name: &str, text: String| -> anyhow::Result<()> {
        tunableconv::atomic_file::write::<std::io::Error>(&draft.path(name), |file| {
            file.write_all(text.as_bytes())
        })
        .with_context(|| format!("cannot write {name} of {}", out.display()))
    };
    for parameter in &report.tuning.parameters {
        if let Some(svg) = curves::response(&report, &parameter.name)? {
            write(&format!("response-{}.svg", parameter.name), svg)?;
        }
    }
    for flicker in &report.flicker {
        write(&format!("flicker-{}.svg", flicker.parameter), curves::flicker(flicker)?)?;
    }
    // The last condition has the most degradations.
    let shown = *conditions.last().context("there is a condition")?;
    pictures::sheet(engine, &paths, shown)?.save(&draft.path("sheet.png"))?;
    write("report.json", serde_json::to_string_pretty(&report)?)?;
    write("report.md", markdown::render(&report))?;
    draft.publish()?;
    Ok(report)
}
