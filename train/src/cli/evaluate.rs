//! `evaluate`: a directory that reports on a checkpoint.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use candle_core::{Device, Tensor};
use clap::Args;
use tunableconv::checkpoint::Checkpoint;
use tunableconv_train::evaluate::{self, Distance, Settings, Undoes};
use tunableconv_train::loss::perceptual::Lpips;
use tunableconv_train::rgb::Rgb;

use super::EngineArgs;

#[derive(Args)]
pub struct EvaluateArgs {
    /// Checkpoint.
    checkpoint: PathBuf,
    /// Folder of clean images.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Directory to make; an earlier report is replaced.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Standard deviations of the noise, of 255; the first also goes with each blur.
    #[arg(long, value_delimiter = ',', default_values_t = [15.0, 25.0, 50.0])]
    noise: Vec<f32>,
    /// Standard deviations of the blur, in pixels.
    #[arg(long, value_delimiter = ',', default_values_t = [1.5])]
    blur: Vec<f32>,
    /// What a parameter undoes, noise or blur; known of `denoise` and `deblur`.
    #[arg(long, value_name = "NAME=WHAT", value_delimiter = ',', value_parser = undoes)]
    undoes: Vec<(String, Undoes)>,
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
    let settings = Settings {
        data: args.data,
        images: args.images,
        noise: args.noise,
        blur: args.blur,
        undoes: args.undoes,
        clip: args.clip,
        lpips,
    };
    evaluate::evaluate(&args.checkpoint, &checkpoint, engine.as_mut(), &settings, &args.out)?;
    println!("{}", args.out.join("report.md").display());
    Ok(())
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

fn undoes(text: &str) -> anyhow::Result<(String, Undoes)> {
    let (name, what) = text.split_once('=').context("expected NAME=noise or NAME=blur")?;
    match what {
        "noise" => Ok((name.into(), Undoes::Noise)),
        "blur" => Ok((name.into(), Undoes::Blur)),
        _ => anyhow::bail!("expected NAME=noise or NAME=blur"),
    }
}
