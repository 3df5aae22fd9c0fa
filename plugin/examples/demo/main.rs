//! Plays a clip through `tunableconvfilter` with `alpha` keyframed 0 → 0.6 → 0, and measures what
//! each value of `alpha` does.
//!
//! ```text
//! cargo run --release -p gst-plugin-tunableconv --example demo -- \
//!     --input pipelines/media/flower_720p.264 --output-dir out
//! ```
//!
//! It writes the decoded clip (`clean.y4m`), the clip with the noise of a camera in a dim room
//! (`noisy.y4m`), noisy and filtered side by side (`demo.mkv`) and a contact sheet (`demo.png`).

mod figures;
mod pipelines;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Parser;
use gstreamer as gst;
use tunableconv_train::video::degrade_y4m;
use tunableconv_train::yuv::Matrix;

/// The noise added, as `tunableconv-train degrade` reads it.
const NOISE: &str = "camera:0.03:sigma=4:smoothing=1:sharpening=0.3";

/// How strong the noise is said to be at most: stronger than it is.
const STRONGEST: f64 = 0.6;

/// Seed of that noise.
const NOISE_SEED: u64 = 1;

/// Plays a clip through tunableconvfilter with alpha keyframed 0 → 0.6 → 0.
#[derive(Parser)]
struct Arguments {
    /// Clip to play: anything GStreamer decodes.
    #[arg(long)]
    input: PathBuf,
    /// Folder for the results; created if missing.
    #[arg(long)]
    output_dir: PathBuf,
    /// Frames to take from the start of the clip.
    #[arg(long, default_value_t = 90)]
    frames: u32,
    /// Checkpoint to run; the built-in one if left out.
    #[arg(long)]
    model: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    gst::init()?;
    gsttunableconv::plugin_register_static()?;
    pipelines::check_installed()?;
    let folder = &arguments.output_dir;
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    let (clean, noisy) = (folder.join("clean.y4m"), folder.join("noisy.y4m"));
    let model = arguments.model.as_deref();

    println!("1/4 decoding {}", arguments.input.display());
    pipelines::decode(&arguments.input, &clean, arguments.frames)?;
    println!("2/4 adding noise: {NOISE}");
    let count = add_noise(&clean, &noisy)?;
    println!("3/4 filtering {count} frames, alpha 0 -> {STRONGEST} -> 0");
    let video = folder.join("demo.mkv");
    pipelines::sweep(&noisy, &video, count, model)?;
    println!("4/4 measuring");
    let sheet = folder.join("demo.png");
    let scores = figures::measure(&clean, &noisy, &sheet, model)?;
    println!("\n{scores}\nwrote {} and {}", video.display(), sheet.display());
    Ok(())
}

fn add_noise(clean: &Path, noisy: &Path) -> anyhow::Result<usize> {
    degrade_y4m(clean, noisy, &NOISE.parse()?, NOISE_SEED, Matrix::Bt709)
}
