//! Makes [pairs of clips](crate::pairs) of photographs: a view moves over each, a camera adds its noise, an
//! encoder takes away what it can.
//!
//! There are two kinds, each in a folder of its own: in `noisy` clips with the noise of a camera or, less
//! often, independent noise, encoded well to badly; in `compressed` clips without noise, encoded. The
//! clean clip is the moving photograph. A clip depends on the seed, its number and its photograph only, and
//! those that are there already are not made again.

mod motion;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use indicatif::{ParallelProgressIterator as _, ProgressBar, ProgressStyle};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use tunableconv::atomic_file;

use crate::clip::write_clip;
use crate::condition::Condition;
use crate::content::hash_set;
use crate::data::{describe, list_images};
use crate::degrade::Camera;
use crate::encoder::{ENCODERS, Encoder};
use crate::pairs::{CLEAN, DEGRADED};
use crate::rgb::Rgb;
use crate::tell;
use crate::yuv::{Matrix, Range, Yuv420};
use motion::Motion;

/// Width and height of a clip, in pixels.
const VIEW: (usize, usize) = (256, 256);

/// Frames that are encoded; of these every third is kept, as neighbours are alike, the last ones among
/// them, which refer to others.
const FRAMES: usize = 12;
const KEPT: usize = 3;

/// As [`crate::pairs`] reads clips of this height.
const MATRIX: Matrix = Matrix::Bt601;
const RANGE: Range = Range::Limited;

/// Of so many clips in a row one is without noise, and of those with noise one has an independent one.
const COMPRESSED: usize = 3;
const INDEPENDENT: usize = 4;

/// Strongest shot noise, read noise, blur of colour and sharpening of a camera.
const CAMERA: [f32; 4] = [0.03, 4.0, 2.0, 0.8];

/// Strongest independent noise.
const SIGMA: f32 = 40.0;

/// How many are made, and of which.
pub struct Settings {
    /// Number of clips.
    pub clips: usize,
    /// Seed of every random choice.
    pub seed: u64,
}

/// One clip, not made yet.
struct Plan {
    photograph: usize,
    encoder: &'static Encoder,
    quantiser: u32,
    /// What is done to every frame before it is encoded.
    noise: Condition,
    /// Where its files go, without their endings.
    stem: PathBuf,
    rng: ChaCha8Rng,
}

/// Makes pairs of the photographs in `folders` below `out`. Returns how many were made, and how many were
/// there. Of photographs that cannot be read there are none, which is told.
///
/// # Errors
/// No photograph large enough, or none that can be read; an encoder that is missing or fails; a file that cannot be written.
pub fn make_pairs(
    folders: &[PathBuf],
    out: &Path,
    settings: &Settings,
) -> anyhow::Result<(usize, usize)> {
    let mut photographs = vec![];
    for folder in folders {
        photographs.extend(list_images(folder)?);
    }
    let large = |path: &PathBuf| match image::image_dimensions(path) {
        Ok((width, height)) => width as usize >= VIEW.0 && height as usize >= VIEW.1,
        Err(error) => {
            tell!("warning: skipped: {}: {error}", path.display());
            false
        }
    };
    photographs.retain(large);
    ensure!(
        !photographs.is_empty(),
        "no image of at least {}x{} pixels in the folders given",
        VIEW.0,
        VIEW.1
    );
    ENCODERS.iter().try_for_each(Encoder::check)?;
    for kind in ["noisy", "compressed"] {
        let folder = out.join(kind);
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    write_description(folders, out)?;

    let plan = |number| Plan::new(number, settings.seed, photographs.len(), out);
    let all: Vec<Plan> = (0..settings.clips).map(plan).collect();
    let (there, missing): (Vec<_>, Vec<_>) = all.into_iter().partition(Plan::is_made);
    let style = ProgressStyle::with_template("making [{bar:40}] {pos}/{len} clips {eta}")?;
    let bar = ProgressBar::new(missing.len() as u64).with_style(style.progress_chars("=> "));
    let made: Vec<bool> = missing
        .into_par_iter()
        .progress_with(bar)
        .map(|plan| {
            let name = plan.stem.display().to_string();
            let path = &photographs[plan.photograph];
            let photograph = match Rgb::load(path) {
                Ok(photograph) => photograph,
                Err(error) => {
                    tell!("warning: no {name}: {}: {error:#}", path.display());
                    return Ok(false);
                }
            };
            plan.make(&photograph)
                .with_context(|| format!("cannot make {name} of {}", path.display()))?;
            Ok(true)
        })
        .collect::<anyhow::Result<_>>()?;
    let made_now = made.iter().filter(|made| **made).count();
    ensure!(made_now + there.len() > 0 || made.is_empty(), "none of the photographs can be read");
    Ok((made_now, there.len()))
}

impl Plan {
    fn new(number: usize, seed: u64, photographs: usize, out: &Path) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(number as u64);
        // Half of them are the most usual.
        let usual = rng.random_bool(0.5);
        let other = rng.random_range(0..ENCODERS.len());
        let encoder = &ENCODERS[if usual { 0 } else { other }];
        let quantiser = rng.random_range(encoder.quantisers[0]..=encoder.quantisers[1]);
        let is_noisy = !(number + 1).is_multiple_of(COMPRESSED);
        let noise = match (is_noisy, rng.random_range(0..INDEPENDENT)) {
            (false, _) => Condition::default(),
            (true, 0) => Condition::blur_and_noise(0.0, SIGMA * rng.random::<f32>()),
            (true, _) => {
                let [gain, sigma, smoothing, sharpening] = CAMERA.map(|m| m * rng.random::<f32>());
                // Weak noise as often as strong: what it grows with is the root of this.
                let gain = gain * gain / CAMERA[0];
                let fixed = |value: f32| [value; 2];
                Condition::of(vec![
                    Camera {
                        gain: fixed(gain),
                        sigma: fixed(sigma),
                        smoothing: fixed(smoothing),
                        sharpening: fixed(sharpening),
                    }
                    .into(),
                ])
            }
        };
        let kind = if is_noisy { "noisy" } else { "compressed" };
        let stem = out.join(kind).join(format!("{number:05}-{}-{quantiser}", encoder.name));
        let photograph = rng.random_range(0..photographs);
        Self { photograph, encoder, quantiser, noise, stem, rng }
    }

    fn path(&self, ending: &str) -> PathBuf {
        let mut path = self.stem.clone().into_os_string();
        path.push(ending);
        path.into()
    }

    /// The degraded clip is written last.
    fn is_made(&self) -> bool {
        self.path(DEGRADED).exists() && self.path(CLEAN).exists()
    }

    fn make(mut self, photograph: &Rgb) -> anyhow::Result<()> {
        let size = (photograph.width, photograph.height);
        let motion = Motion::new(size, VIEW, FRAMES, &mut self.rng);
        let seed = self.rng.random();
        let (mut clean, mut noisy) = (vec![], vec![]);
        for frame in 0..FRAMES {
            let view = motion.view(photograph, VIEW, frame);
            clean.push(Yuv420::from_rgb(&view, MATRIX, RANGE).to_bytes());
            let frame_seed = self.rng.random();
            let degraded = self.noise.apply_to_frame(view, seed, frame_seed);
            noisy.push(Yuv420::from_rgb(&degraded, MATRIX, RANGE).to_bytes());
        }
        let decoded = self.encoder.pass(self.quantiser, VIEW, &noisy)?;
        let kept = |frames: &[[Vec<u8>; 3]], path: &Path| {
            write_clip(path, VIEW, frames.iter().skip(KEPT - 1).step_by(KEPT))
        };
        kept(&clean, &self.path(CLEAN))?;
        kept(&decoded, &self.path(DEGRADED))
    }
}

/// Says beside the pairs what they were made of, unless that is said already.
fn write_description(folders: &[PathBuf], out: &Path) -> anyhow::Result<()> {
    let (mut names, mut licences) = (vec![], vec![]);
    for folder in folders {
        let set = describe(folder, 0, hash_set([]))?;
        names.push(set.name);
        licences.push(set.licence);
    }
    licences.sort();
    licences.dedup();
    let name = format!("{}, moving, noisy and encoded", names.join(" and "));
    let description = BTreeMap::from([("name", name), ("licence", licences.join("; "))]);
    let text = toml::to_string(&description)?;
    let path = out.join("dataset.toml");
    if let Ok(there) = fs::read_to_string(&path) {
        if there != text {
            tell!("warning: {} is left as it is", path.display());
        }
        return Ok(());
    }
    atomic_file::write::<anyhow::Error>(&path, |file| Ok(file.write_all(text.as_bytes())?))
        .with_context(|| path.display().to_string())
}
