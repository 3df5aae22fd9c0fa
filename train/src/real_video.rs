//! Scores a checkpoint on clips of which a camera and an encoder have taken something (protocol "real
//! video").
//!
//! Clean clip → noise, frame by frame → an encoder and its decoder → engine, on 8-bit 4:2:0 planes. The
//! reference is the clean clip. PSNR has peak 255, and is averaged over frames in dB; UV is both chroma
//! planes together. Measured are the best setting of a grid, which is what a viewer finds who turns the
//! knobs, and parameters that are told a level at that of each frame, at half and at twice of it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context as _, bail, ensure};
use indicatif::ProgressBar;
use serde::{Serialize, Serializer};
use tunableconv::checkpoint::{Checkpoint, Metadata};
use tunableconv::engine::Engine;
use tunableconv::tuning::TuningSpace;

use crate::clip::Clip;
use crate::condition::{Condition, trained_for};
use crate::encoder::{ENCODERS, Encoder, play};
use crate::evaluate::levels::{FACTORS, Levels};
use crate::metrics::{psnr, psnr_uv};
use crate::score::{IDENTICAL_DB, MATRIX, RANGE, bar_style, filter, planes};
use crate::test_set::TestPicture;
use crate::video::seed_of_frame;
use crate::yuv::Yuv420;

/// What is measured where nothing is asked for: noise, a camera, an encoder, and both.
pub const CASES: [&str; 8] = [
    "noise:15",
    "camera:0.003:sigma=1",
    "h264:28",
    "h264:34",
    "h264:40",
    "noise:15+h264:23",
    "camera:0.003:sigma=1+h264:23",
    "camera:0.003:sigma=1+h264:30",
];

/// What is done to a clip, as text `camera:0.01+h264:30`: a [`Condition`], then a codec of [`ENCODERS`] and
/// its quantiser; either may be missing.
#[derive(Clone)]
pub struct Case {
    condition: Condition,
    encoder: Option<(&'static Encoder, u32)>,
}

impl FromStr for Case {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (before, last) = text.rsplit_once('+').unwrap_or(("clean", text));
        let (name, quantiser) = last.split_once(':').unwrap_or((last, ""));
        let Some(encoder) = ENCODERS.iter().find(|encoder| encoder.name == name) else {
            let condition: Condition = text.parse().with_context(|| {
                let names = ENCODERS.each_ref().map(|encoder| encoder.name).join(", ");
                format!("`{text}` does not end in an encoder either ({names})")
            })?;
            ensure!(!condition.is_recorded(), "what is recorded comes with a pair of clips");
            return Ok(Self { condition, encoder: None });
        };
        let [least, greatest] = encoder.range;
        let quantiser = quantiser.parse().ok().filter(|q| (least..=greatest).contains(q));
        let quantiser = quantiser
            .with_context(|| format!("`{last}`: expected {name}:{least} to {greatest}"))?;
        let condition: Condition = before.parse()?;
        ensure!(!condition.is_recorded(), "what is recorded comes with a pair of clips");
        Ok(Self { condition, encoder: Some((encoder, quantiser)) })
    }
}

impl fmt::Display for Case {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_clean = self.condition.kinds().len() == 0;
        match self.encoder {
            None => write!(to, "{}", self.condition),
            Some((encoder, quantiser)) if is_clean => write!(to, "{}:{quantiser}", encoder.name),
            Some((encoder, quantiser)) => {
                write!(to, "{}+{}:{quantiser}", self.condition, encoder.name)
            }
        }
    }
}

impl Serialize for Case {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// What is measured.
pub struct Settings {
    /// What is done to every clip.
    pub cases: Vec<Case>,
    /// Frames used at most, from the first on.
    pub frames: usize,
    /// Values that every parameter takes which has to do with a case.
    pub grid: Vec<f64>,
}

/// PSNR in dB, mean over frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Psnr {
    /// Of luma.
    pub y: f64,
    /// Of both chroma planes together.
    pub uv: f64,
}

/// What is left at a tuning.
#[derive(Clone, Debug, Serialize)]
pub struct Point {
    /// Values of the parameters.
    pub tuning: Vec<f64>,
    /// Output against reference.
    pub output: Psnr,
}

/// What became of one clip in one case.
#[derive(Debug, Serialize)]
pub struct Row {
    /// The clip's file.
    pub clip: PathBuf,
    /// What was done to it.
    pub case: String,
    /// Frames used.
    pub frames: usize,
    /// Without filter.
    pub input: Psnr,
    /// Where luma is best in the grid; of equals the first one.
    pub best: Point,
    /// Where it is worst.
    pub worst: Point,
    /// At each frame's level times [`FACTORS`]; empty where no parameter is told one.
    pub told: Vec<Psnr>,
}

/// Measures every case on every clip.
///
/// # Errors
/// A clip that cannot be read, an encoder that is missing or fails, a failing engine.
pub fn measure(
    checkpoint: &Checkpoint,
    engine: &mut dyn Engine,
    clips: &[PathBuf],
    settings: &Settings,
) -> anyhow::Result<Vec<Row>> {
    let metadata = &checkpoint.metadata;
    let scale = metadata.architecture.io().scale;
    ensure!(scale == 1, "the net makes pictures of {scale} times the size, clips are of one");
    let levels = Levels::new(metadata)?;
    let encoders = settings.cases.iter().filter_map(|case| case.encoder);
    encoders.into_iter().try_for_each(|(encoder, _)| encoder.check())?;
    let bar = ProgressBar::new((clips.len() * settings.cases.len()) as u64);
    bar.set_style(bar_style("cases"));
    let mut rows = vec![];
    for path in clips {
        let clean = read(path, settings.frames)
            .with_context(|| format!("cannot read {}", path.display()))?;
        for case in &settings.cases {
            let degraded = case.degrade(&clean).with_context(|| case.to_string())?;
            let shown = Shown { clean: &clean, degraded: &degraded, space: &metadata.tuning };
            let grid = grid(metadata, case, &settings.grid)?;
            let [best, worst] = shown.best_and_worst(engine, &grid)?;
            let told = match levels.are_told() {
                true => shown.told(engine, &levels, case)?,
                false => vec![],
            };
            rows.push(Row {
                clip: path.clone(),
                case: case.to_string(),
                frames: clean.len(),
                input: mean(degraded.iter().zip(&clean).map(|(d, c)| Ok(psnr_of(d, c))))?,
                best,
                told,
                worst,
            });
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(rows)
}

/// The first frames of a clip of any kind that GStreamer decodes, of a size that encoders take: rows of
/// chroma of whole words, as `y4menc` writes what pads them, and even columns.
fn read(path: &Path, frames: usize) -> anyhow::Result<Vec<Yuv420>> {
    let room = tempfile::tempdir()?;
    let mut clip = match Clip::open(path) {
        Ok(clip) => clip,
        // By way of another format, as some decoders hand out frames with padding, too.
        Err(_) if path.is_file() => {
            let decoded = room.path().join("decoded.y4m");
            // The end comes in the place of that frame.
            let end = frames + 1;
            let pipeline = format!(
                "decodebin ! identity eos-after={end} ! videoconvert ! video/x-raw,format=NV12 ! videoconvert"
            );
            let range = play(path, &pipeline, &decoded)?;
            let mut clip = Clip::open(&decoded).context("what was decoded")?;
            // Of which nothing is said in what is written.
            clip.range = range;
            let width = clip.size().0;
            ensure!(
                width.is_multiple_of(8),
                "it is {width} pixels wide, expected a multiple of 8: crop it, or make it a Y4M clip"
            );
            clip
        }
        Err(error) => return Err(error),
    };
    let (width, height) = clip.size();
    let (width, height) = (width / 8 * 8, height / 2 * 2);
    ensure!(width > 0 && height > 0, "it is {:?} pixels, expected at least (8, 2)", clip.size());
    let mut read = vec![];
    while read.len() < frames
        && let Some(frame) = clip.next_frame()?
    {
        let Yuv420 { width: row, y, u, v, .. } = &frame.picture;
        let crop = |plane: &[f32], row: usize, width: usize, height: usize| {
            let rows = plane.chunks_exact(row).take(height);
            rows.flat_map(|row| &row[..width]).copied().collect()
        };
        let chroma = |plane| crop(plane, row.div_ceil(2), width / 2, height / 2);
        let (y, u, v) = (crop(y, *row, width, height), chroma(u), chroma(v));
        let picture = Yuv420 { width, height, y, u, v };
        read.push(match clip.range {
            RANGE => picture,
            range => planes(&picture.to_rgb(MATRIX, range)),
        });
    }
    ensure!(!read.is_empty(), "the clip holds no frame");
    Ok(read)
}

impl Case {
    fn degrade(&self, clean: &[Yuv420]) -> anyhow::Result<Vec<Yuv420>> {
        let noisy = clean.iter().enumerate().map(|(index, frame)| {
            if self.condition.kinds().len() == 0 {
                return frame.clone();
            }
            let picture = frame.to_rgb(MATRIX, RANGE);
            planes(&self.condition.apply_to_frame(picture, 0, seed_of_frame(0, index as u64)))
        });
        let noisy: Vec<Yuv420> = noisy.collect();
        let Some((encoder, quantiser)) = self.encoder else {
            return Ok(noisy);
        };
        let size = (clean[0].width, clean[0].height);
        let bytes: Vec<_> = noisy.iter().map(Yuv420::to_bytes).collect();
        let decoded = encoder.pass(quantiser, size, &bytes)?;
        let picture = |[y, u, v]: &[Vec<u8>; 3]| Yuv420::from_bytes(size.0, size.1, [y, u, v]);
        decoded.iter().map(picture).collect()
    }

    /// In the folders that pairs of this kind are in: [`crate::make_pairs`].
    fn folder(&self) -> String {
        let is_noisy = self.condition.kinds().len() > 0;
        if is_noisy { "noisy" } else { "compressed" }.to_owned()
    }
}

/// The tunings of the domain with grid values for every parameter that was trained for something in the
/// case, or for all where none was, and the least value for the others.
fn grid(metadata: &Metadata, case: &Case, values: &[f64]) -> anyhow::Result<Vec<Vec<f64>>> {
    let space = &metadata.tuning;
    let links = trained_for(metadata)?;
    let undoes = |name: &str| {
        let mut own = links.iter().filter(|link| link.parameter == name);
        own.any(|link| {
            let kind = link.degradation.kind();
            let is_there = case.condition.kinds().any(|other| other == kind);
            is_there || (case.encoder.is_some() && link.degradation.is_recorded())
        })
    };
    let mut moved: Vec<bool> = space.parameters.iter().map(|p| undoes(&p.name)).collect();
    if !moved.contains(&true) {
        moved.fill(true);
    }
    let mut all = vec![vec![]];
    for (parameter, moved) in space.parameters.iter().zip(moved) {
        let within = |v: &f64| (parameter.minimum..=parameter.maximum).contains(v);
        let values: Vec<f64> = match moved {
            true => values.iter().copied().filter(within).collect(),
            false => vec![parameter.minimum],
        };
        all = all
            .iter()
            .flat_map(|begun| values.iter().map(|&v| [&begun[..], &[v]].concat()))
            .collect();
    }
    all.retain(|tuning| space.tuning(tuning).is_ok());
    if all.is_empty() {
        bail!("the grid has no tuning of the domain: {values:?}");
    }
    Ok(all)
}

/// A clip, without and with what was done to it.
struct Shown<'a> {
    clean: &'a [Yuv420],
    degraded: &'a [Yuv420],
    space: &'a TuningSpace,
}

impl Shown<'_> {
    fn best_and_worst(
        &self,
        engine: &mut dyn Engine,
        grid: &[Vec<f64>],
    ) -> anyhow::Result<[Point; 2]> {
        let mut all = vec![];
        for tuning in grid {
            engine.set_tuning(&self.space.tuning(tuning)?)?;
            let frames = self.clean.iter().zip(self.degraded);
            let output = mean(frames.map(|(c, d)| Ok(psnr_of(&filter(engine, d)?, c))))?;
            all.push(Point { tuning: tuning.clone(), output });
        }
        let by_luma = |a: &&Point, b: &&Point| a.output.y.total_cmp(&b.output.y);
        // Of equals `min_by` finds the first, `max_by` the last.
        let best = all.iter().rev().max_by(by_luma).context("the grid is empty")?;
        let worst = all.iter().min_by(by_luma).context("the grid is empty")?;
        Ok([best.clone(), worst.clone()])
    }

    fn told(
        &self,
        engine: &mut dyn Engine,
        levels: &Levels,
        case: &Case,
    ) -> anyhow::Result<Vec<Psnr>> {
        let condition = match case.encoder {
            Some(_) => Condition::default().recorded(),
            None => case.condition.clone(),
        };
        let at = |factor: f64| {
            let frames = self.clean.iter().zip(self.degraded).enumerate();
            mean(frames.map(|(index, (clean, degraded))| {
                let picture = TestPicture {
                    name: String::new(),
                    clean: clean.to_rgb(MATRIX, RANGE),
                    scale: 1,
                    twin: case.encoder.map(|_| degraded.to_rgb(MATRIX, RANGE)),
                    folders: vec![case.folder()],
                };
                let tuning = levels.tuning(&picture, &condition, index, factor);
                engine.set_tuning(&self.space.tuning(&tuning)?)?;
                Ok(psnr_of(&filter(engine, degraded)?, clean))
            }))
        };
        FACTORS.into_iter().map(at).collect()
    }
}

fn psnr_of(picture: &Yuv420, reference: &Yuv420) -> Psnr {
    Psnr {
        y: psnr(&picture.y, &reference.y, 255.0).min(IDENTICAL_DB),
        uv: psnr_uv(picture, reference).min(IDENTICAL_DB),
    }
}

fn mean(frames: impl Iterator<Item = anyhow::Result<Psnr>>) -> anyhow::Result<Psnr> {
    let frames = frames.collect::<anyhow::Result<Vec<_>>>()?;
    let of = |value: fn(&Psnr) -> f64| frames.iter().map(value).sum::<f64>() / frames.len() as f64;
    Ok(Psnr { y: of(|p| p.y), uv: of(|p| p.uv) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_full_range_are_read_as_such_whatever_holds_them() {
        let room = tempfile::tempdir().unwrap();
        let [y4m, mkv] = ["c.y4m", "c.mkv"].map(|name| room.path().join(name));
        let mut text = b"YUV4MPEG2 W64 H32 F25:1 Ip C420jpeg XCOLORRANGE=FULL\n".to_vec();
        for frame in 0..20u8 {
            text.extend(b"FRAME\n");
            // From black to white.
            text.extend((0..32 * 64).map(|i: i32| (i % 64 * 4) as u8 + frame % 4));
            text.extend([100 + frame; 2 * 16 * 32]);
        }
        std::fs::write(&y4m, text).unwrap();
        let matroska =
            "y4mdec ! capssetter caps=video/x-raw,colorimetry=1:4:0:0 ! avenc_ffv1 ! matroskamux";
        let mut launch = std::process::Command::new("gst-launch-1.0");
        launch.args(["-q", "filesrc"]).arg(format!("location={}", y4m.display())).arg("!");
        launch.args(matroska.split(' ')).args(["!", "filesink"]);
        assert!(launch.arg(format!("location={}", mkv.display())).status().unwrap().success());

        let [plain, decoded] = [&y4m, &mkv].map(|path| read(path, 12).unwrap());
        assert_eq!((plain.len(), decoded.len()), (12, 12));
        for (plain, decoded) in plain.iter().zip(&decoded) {
            assert!((&plain.y, &plain.u, &plain.v) == (&decoded.y, &decoded.u, &decoded.v));
        }
        // White is 235 in limited range.
        assert!(plain.iter().all(|frame| frame.y.iter().all(|code| *code < 236.0)));
    }
}
