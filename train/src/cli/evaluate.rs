//! `evaluate`: a directory that reports on a checkpoint.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use tunableconv::checkpoint::Checkpoint;
use tunableconv_train::evaluate::{self, Settings, Undoes};

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
    #[command(flatten)]
    engine: EngineArgs,
}

pub fn run(args: EvaluateArgs, threads: usize) -> anyhow::Result<()> {
    let checkpoint = Checkpoint::read(&args.checkpoint)?;
    let mut engine = args.engine.open(&checkpoint, threads)?;
    let settings = Settings {
        data: args.data,
        images: args.images,
        noise: args.noise,
        blur: args.blur,
        undoes: args.undoes,
        clip: args.clip,
        lpips: None,
    };
    evaluate::evaluate(&args.checkpoint, &checkpoint, engine.as_mut(), &settings, &args.out)?;
    println!("{}", args.out.join("report.md").display());
    Ok(())
}

fn undoes(text: &str) -> anyhow::Result<(String, Undoes)> {
    let (name, what) = text.split_once('=').context("expected NAME=noise or NAME=blur")?;
    match what {
        "noise" => Ok((name.into(), Undoes::Noise)),
        "blur" => Ok((name.into(), Undoes::Blur)),
        _ => anyhow::bail!("expected NAME=noise or NAME=blur"),
    }
}
