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
pub mod levels;
mod markdown;
mod pictures;
pub mod points;
mod quality;
mod roles;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use candle_core::Device;
use serde::Serialize;
use tunableconv::checkpoint::{Architecture, Checkpoint, Provenance};
use tunableconv::engine::Engine;
use tunableconv::net::Net;
use tunableconv::tuning::TuningSpace;

use crate::condition::Condition;
use crate::inspect::describe_net;
use crate::rgb::Rgb;
use crate::test_set::TestSet;

use levels::Levels;
pub use quality::{ConditionReport, Control, Numbers, PointReport};
use roles::Roles;

/// A perceptual distance of an RGB picture from its reference, 0 for identical ones.
pub type Distance = dyn Fn(&Rgb, &Rgb) -> anyhow::Result<f64>;

/// What is measured on what.
pub struct Settings {
    /// Pictures.
    pub set: TestSet,
    /// How they are degraded; what is given twice is measured once.
    pub conditions: Vec<Condition>,
    /// What kinds of degradation a parameter undoes, by its name, where it is not as the checkpoint
    /// says.
    pub undoes: Vec<(String, String)>,
    /// Y4M clip to measure flicker on, 8-bit 4:2:0.
    pub clip: Option<PathBuf>,
    /// LPIPS or the like.
    pub lpips: Option<Box<Distance>>,
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
    /// Kinds of degradation that each parameter undoes, where known.
    pub undoes: Vec<Vec<String>>,
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
    let set = &settings.set;
    let conditions = set.settle_all(&settings.conditions)?;
    ensure!(
        set.scale() > 1 || conditions.iter().any(|condition| condition.kinds().len() > 0),
        "no condition: give a degradation"
    );
    let roles = Roles::new(metadata, &settings.undoes)?;
    let levels = Levels::new(metadata)?;
    let clip = settings.clip.as_deref().map(flicker::Checked::read).transpose()?;
    let net = Net::new(checkpoint, &Device::Cpu)?;
    let draft = directory::Draft::begin(out)?;

    let lpips = settings.lpips.as_deref();
    let measured = quality::measure(engine, &net, set, &conditions, (&roles, &levels), lpips)?;
    ensure!(measured.images > 0, "{}: no image in it can be used", set.folder().display());
    let flicker = clip.map_or_else(|| Ok(Vec::new()), |clip| clip.flicker(engine))?;
    let report = Report {
        format: directory::FORMAT,
        checkpoint: file.into(),
        architecture: metadata.architecture.clone(),
        net: describe_net(metadata).join("; "),
        tuning: metadata.tuning.clone(),
        provenance: metadata.provenance.clone(),
        engine: engine.description().into(),
        data: set.folder().into(),
        images: measured.images,
        skipped: measured.skipped,
        undoes: roles.kinds().to_vec(),
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
    let shown = conditions.last().context("there is a condition")?;
    pictures::sheet(engine, set, shown)?.save(&draft.path("sheet.png"))?;
    write("report.json", serde_json::to_string_pretty(&report)?)?;
    write("report.md", markdown::render(&report))?;
    draft.publish()?;
    Ok(report)
}
