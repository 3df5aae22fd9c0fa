//! `evaluate`: a directory that reports on a checkpoint.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use candle_core::{Device, Tensor};
use clap::Args;
use tunableconv::checkpoint::Checkpoint;
use tunableconv_train::condition::Condition;
use tunableconv_train::evaluate::{self, Distance, Settings};
use tunableconv_train::loss::perceptual::Lpips;
use tunableconv_train::rgb::Rgb;
use tunableconv_train::terminal::say;

use super::EngineArgs;
use super::pictures::{ConditionsArgs, PicturesArgs};

/// Standard deviations of noise, of 255, that any net is measured with; the first also goes with each
/// blur.
const NOISE: [f32; 3] = [15.0, 25.0, 50.0];

/// Standard deviations of blur, in pixels.
const BLUR: [f32; 1] = [1.5];

#[derive(Args)]
pub struct EvaluateArgs {
    /// Checkpoint.
    checkpoint: PathBuf,
    #[command(flatten)]
    pictures: PicturesArgs,
    /// Directory to make; an earlier report is replaced.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    conditions: ConditionsArgs,
    /// Kinds of degradation that a parameter undoes, as in dejpeg=jpeg [default: as the checkpoint
    /// says].
    #[arg(long, value_name = "NAME=KIND", value_delimiter = ',', value_parser = undoes)]
    undoes: Vec<(String, String)>,
    /// Most images used.
    #[arg(long, default_value_t = usize::MAX, hide_default_value = true)]
    images: usize,
    /// Y4M clip, 8-bit 4:2:0, to measure flicker on.
    #[arg(long, value_name = "FILE")]
    clip: Option<PathBuf>,
    /// Weights of SqueezeNet 1.1, for LPIPS.
    #[arg(long, value_name = "FILE", requires = "lpips_heads")]
    lpips: Option<PathBuf>,
    /// Weights of LPIPS's linear heads for SqueezeNet.
    #[arg(long, value_name = "FILE", requires = "lpips")]
    lpips_heads: Option<PathBuf>,
    #[command(flatten)]
    engine: EngineArgs,
}

pub fn run(args: EvaluateArgs, threads: usize) -> anyhow::Result<()> {
    let checkpoint = Checkpoint::read(&args.checkpoint)?;
    let mut engine = args.engine.open(&checkpoint, threads)?;
    let lpips = match (&args.lpips, &args.lpips_heads) {
        (Some(net), Some(heads)) => Some(lpips(net, heads)?),
        _ => None,
    };
    let scale = checkpoint.metadata.architecture.io().scale;
    let mut set = args.pictures.open()?.for_scale(scale)?;
    set.truncate(args.images);
    if lpips.is_some() {
        set = set.at_least(Lpips::SMALLEST_SIDE);
    }
    let conditions = args.conditions.conditions(&checkpoint.metadata, &set, |noise, blur| {
        Condition::noise_and_blur(noise.unwrap_or(&NOISE), blur.unwrap_or(&BLUR))
    })?;
    let settings = Settings { set, conditions, undoes: args.undoes, clip: args.clip, lpips };
    evaluate::evaluate(&args.checkpoint, &checkpoint, engine.as_mut(), &settings, &args.out)?;
    say(&format!("{}\n", args.out.join("report.md").display()))
}

fn lpips(net: &Path, heads: &Path) -> anyhow::Result<Box<Distance>> {
    let device = Device::Cpu;
    let lpips = Lpips::load(net, heads, &device)?;
    Ok(Box::new(move |a: &Rgb, b: &Rgb| {
        let picture =
            |rgb: &Rgb| Tensor::from_slice(&rgb.data, (1, 3, rgb.height, rgb.width), &device);
        let distance = lpips.distance(&picture(a)?, &picture(b)?)?;
        Ok(f64::from(distance.get(0)?.to_scalar::<f32>()?))
    }))
}

fn undoes(text: &str) -> anyhow::Result<(String, String)> {
    let (name, kind) = text.split_once('=').context("expected NAME=KIND")?;
    Ok((name.into(), kind.into()))
}
