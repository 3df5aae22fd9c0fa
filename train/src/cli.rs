//! The command line: what each command takes, and which library call it is.

mod compare;
mod evaluate;
mod import;
mod import_mindspore;
mod interrupt;
mod make_pairs;
mod pictures;
mod real_video;
mod score;
mod train;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use clap::{Args, Parser, Subcommand};
use tunableconv::checkpoint::Checkpoint;
use tunableconv::engine::{self, DeviceChoice, Engine, Options, Precision};
use tunableconv::frame::Range;
use tunableconv::net::Net;
use tunableconv_train::calibrate::{self, Settings as Calibration};
use tunableconv_train::condition::Condition;
use tunableconv_train::export_onnx::{self, Form};
use tunableconv_train::forward::forward;
use tunableconv_train::inspect::describe;
use tunableconv_train::rgb::Rgb;
use tunableconv_train::sweep::sweep;
use tunableconv_train::tell;
use tunableconv_train::terminal::say;
use tunableconv_train::test_set::TestPicture;
use tunableconv_train::video::degrade_y4m;
use tunableconv_train::yuv::Matrix;

use pictures::{ConditionArgs, ConditionsArgs, PicturesArgs};

/// Trains and evaluates tunable video filters.
#[derive(Parser)]
#[command(version)]
pub struct Cli {
    /// Worker threads, at most 256; 0: one per core.
    #[arg(long, global = true, default_value_t = 0, value_parser = threads)]
    pub threads: usize,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train a recipe on folders of images.
    Train(train::TrainArgs),
    /// Score a checkpoint at one tuning on a folder of clean images.
    Score(score::ScoreArgs),
    /// Report on a checkpoint: quality over its domain, control, flicker and pictures.
    Evaluate(evaluate::EvaluateArgs),
    /// Compare ways to give a net a knob: train and measure what has not been yet.
    Compare(compare::CompareArgs),
    /// Run the net on tensors of a safetensors file.
    Forward(ForwardArgs),
    /// Measure the activation ranges that int8 needs and put them into the checkpoint.
    Calibrate(CalibrateArgs),
    /// Write the net as an ONNX model.
    ExportOnnx(ExportOnnxArgs),
    /// Make a checkpoint of one that the authors of tunable convolutions released for MindSpore.
    ImportMindspore(import_mindspore::ImportMindsporeArgs),
    /// Make a checkpoint of an ONNX model, a chain of convolutions on RGB or on luma.
    ImportOnnx(import::ImportOnnxArgs),
    /// Make one tunable net of two of the same shape, with a knob from the one to the other.
    ImportDni(import::ImportDniArgs),
    /// Write a checkpoint with its values in 16 bits, in half the space.
    Half {
        /// Checkpoint.
        checkpoint: PathBuf,
        /// Checkpoint to write; - is stdout.
        #[arg(long, value_name = "FILE", value_parser = output)]
        out: PathBuf,
    },
    /// Say what a checkpoint is.
    Inspect {
        /// Checkpoint.
        checkpoint: PathBuf,
    },
    /// Draw a contact sheet of one image over the tuning domain.
    Sweep(SweepArgs),
    /// Score a checkpoint on clips of which a camera and an encoder have taken something.
    RealVideo(real_video::RealVideoArgs),
    /// Make pairs of clips, clean and as a camera and an encoder leave them, of photographs.
    MakePairs(make_pairs::MakePairsArgs),
    /// Degrade a Y4M clip the way training images are.
    Degrade(DegradeArgs),
}

#[derive(Args)]
struct ForwardArgs {
    /// Checkpoint.
    checkpoint: PathBuf,
    /// Holds `x` [N,C,H,W], where C is 6 for 4:2:0, 3 for RGB and 1 for luma, and `omega` [N,p], both f32; - is stdin.
    #[arg(long, value_name = "FILE", value_parser = input)]
    input: PathBuf,
    /// Gets `y`, as many times the height and width as the net makes of it; - is stdout.
    #[arg(long, value_name = "FILE", value_parser = output)]
    output: PathBuf,
    /// cpu, cuda or cuda:N; auto is the CPU.
    #[arg(long, default_value_t)]
    device: DeviceChoice,
}

#[derive(Args)]
struct CalibrateArgs {
    /// Checkpoint.
    checkpoint: PathBuf,
    #[command(flatten)]
    pictures: PicturesArgs,
    #[command(flatten)]
    conditions: ConditionsArgs,
    /// Share of the values that are inside the ranges.
    #[arg(long, default_value_t = Calibration::default().quantile)]
    quantile: f64,
    /// Most images used.
    #[arg(long, default_value_t = Calibration::default().images)]
    images: usize,
    /// Seed of the noise.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Of a net that was trained within ranges: let them end where its activations do.
    #[arg(long)]
    narrow: bool,
    /// Checkpoint to write; the one read if not given.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Without --planes the model takes `x` [N,6,H,W] (Y00 Y01 Y10 Y11 U V, normalised, half the luma
/// size) and gives `y`, the filtered `x`, not clipped.
#[derive(Args)]
struct ExportOnnxArgs {
    /// Checkpoint.
    checkpoint: PathBuf,
    /// Fold the net at this tuning; those not named are 0. Without it the tuning is an input of
    /// the model, `tuning` [1,p].
    #[arg(long, value_name = "NAME=VALUE", value_delimiter = ',', value_parser = name_value)]
    tuning: Option<Vec<(String, f64)>>,
    /// Take and give 8-bit planes of this even luma size: `luma`, `u`, `v` to `luma_out`, `u_out`,
    /// `v_out`.
    #[arg(long, value_name = "WIDTHxHEIGHT", value_parser = size)]
    planes: Option<(usize, usize)>,
    /// Fix the shape of `x` to one tensor of this size.
    #[arg(long, value_name = "WIDTHxHEIGHT", value_parser = size, conflicts_with = "planes")]
    tensor: Option<(usize, usize)>,
    /// Range of the planes' code values: limited or full.
    #[arg(long, default_value = "limited", value_parser = range, requires = "planes")]
    range: Range,
    /// ONNX file to write; - is stdout.
    #[arg(long, value_name = "FILE", value_parser = output)]
    out: PathBuf,
}

#[derive(Args)]
struct SweepArgs {
    /// Checkpoint.
    checkpoint: PathBuf,
    /// Clean image.
    image: PathBuf,
    /// The same image, degraded by something real.
    #[arg(long, value_name = "IMAGE")]
    degraded: Option<PathBuf>,
    #[command(flatten)]
    degradation: ConditionArgs,
    /// Side of the square shown from the middle of the image, in pixels.
    #[arg(long, default_value_t = 320, value_parser = clap::value_parser!(u32).range(16..))]
    crop: u32,
    #[command(flatten)]
    engine: EngineArgs,
    /// PNG file to write; - is stdout.
    #[arg(long, value_name = "FILE", value_parser = output)]
    out: PathBuf,
}

#[derive(Args)]
struct DegradeArgs {
    /// Y4M clip, 8-bit 4:2:0; - is stdin.
    #[arg(value_parser = input)]
    input: PathBuf,
    #[command(flatten)]
    degradation: ConditionArgs,
    /// Seed of every random choice.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Matrix of the clip: bt601 or bt709.
    #[arg(long, default_value = "bt601", value_parser = matrix)]
    matrix: Matrix,
    /// Y4M clip to write; - is stdout.
    #[arg(long, value_name = "FILE", value_parser = output)]
    out: PathBuf,
}

#[derive(Args)]
struct TuningArgs {
    /// Parameters of the checkpoint; those not named are 0.
    #[arg(long, value_name = "NAME=VALUE", value_delimiter = ',', value_parser = name_value)]
    tuning: Vec<(String, f64)>,
    #[command(flatten)]
    engine: EngineArgs,
}

#[derive(Args)]
struct EngineArgs {
    /// auto, cpu, cuda or cuda:N.
    #[arg(long, default_value_t)]
    device: DeviceChoice,
    /// auto, f32, f16 (on CUDA) or int8.
    #[arg(long, default_value_t = Precision::F32)]
    precision: Precision,
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// Whatever went wrong, as a chain of causes.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Train(args) => return train::run(args),
            Command::Score(args) => score::run(&args, self.threads)?,
            Command::Evaluate(args) => evaluate::run(args, self.threads)?,
            Command::Compare(args) => return compare::run(args),
            Command::Forward(args) => {
                check_output(&args.output, &[&args.checkpoint, &args.input])?;
                let device = args.device.for_candle()?;
                forward(&Net::load(&args.checkpoint, &device)?, &args.input, &args.output)?;
            }
            Command::Calibrate(args) => calibrate(args)?,
            Command::ExportOnnx(args) => export_onnx(&args)?,
            Command::ImportMindspore(args) => import_mindspore::run(args)?,
            Command::ImportOnnx(args) => import::onnx(&args)?,
            Command::ImportDni(args) => import::dni(&args)?,
            Command::Half { checkpoint, out } => {
                check_output(&out, &[&checkpoint])?;
                Checkpoint::read(&checkpoint)?.write_half(&out)?;
            }
            Command::Inspect { checkpoint } => {
                say(&describe(&Checkpoint::read(&checkpoint)?))?;
            }
            Command::Sweep(args) => draw_sweep(&args, self.threads)?,
            Command::RealVideo(args) => real_video::run(&args, self.threads)?,
            Command::MakePairs(args) => make_pairs::run(&args)?,
            Command::Degrade(args) => degrade(&args)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn calibrate(args: CalibrateArgs) -> anyhow::Result<()> {
    let checkpoint = Checkpoint::read(&args.checkpoint)?;
    let set = args.pictures.open()?.for_scale(checkpoint.metadata.architecture.io().scale)?;
    let conditions = args.conditions.conditions(&checkpoint.metadata, &set, |noise, blur| {
        if noise.is_none() && blur.is_none() {
            return Calibration::default().conditions;
        }
        let blurred = |&blur: &f32| {
            let noise = noise.unwrap_or(&calibrate::NOISE).iter();
            noise.map(move |&noise| Condition::blur_and_noise(blur, noise)).collect::<Vec<_>>()
        };
        blur.unwrap_or(&calibrate::BLUR).iter().flat_map(blurred).collect()
    })?;
    let CalibrateArgs { quantile, images, seed, narrow, .. } = args;
    let settings = Calibration { conditions, quantile, images, seed, narrow };
    let calibrated = calibrate::calibrate(&checkpoint, &set, &settings)?;
    calibrated.write(args.out.as_ref().unwrap_or(&args.checkpoint))?;
    Ok(())
}

fn export_onnx(args: &ExportOnnxArgs) -> anyhow::Result<()> {
    check_output(&args.out, &[&args.checkpoint])?;
    let checkpoint = Checkpoint::read(&args.checkpoint)?;
    let space = &checkpoint.metadata.tuning;
    let tuning = args.tuning.as_deref().map(|named| space.tuning_from_names(named)).transpose()?;
    let form = match args.planes {
        Some(size) => Form::Planes { size, range: args.range },
        None => Form::Tensor(args.tensor),
    };
    export_onnx::export(&checkpoint, tuning.as_ref(), form, &args.out)
}

fn draw_sweep(args: &SweepArgs, threads: usize) -> anyhow::Result<()> {
    let checkpoint = Checkpoint::read(&args.checkpoint)?;
    check_output(&args.out, &[&args.checkpoint, &args.image])?;
    let mut condition = args.degradation.condition()?;
    let clean = Rgb::load(&args.image)?;
    let twin = args.degraded.as_deref().map(Rgb::load).transpose()?;
    if let Some(twin) = &twin {
        let sizes = [&clean, twin].map(|image| (image.width, image.height));
        ensure!(sizes[0] == sizes[1], "the images are {:?} and {:?} pixels", sizes[0], sizes[1]);
        condition = condition.recorded();
    }
    ensure!(
        twin.is_some() || !condition.is_recorded(),
        "give the recorded image: --degraded IMAGE"
    );
    let scale = checkpoint.metadata.architecture.io().scale;
    ensure!(
        scale == 1 || twin.is_none(),
        "--degraded: the net makes pictures of {scale} times the size, the two images are of one"
    );
    let side = |side: usize| side.min(args.crop as usize) / scale * scale;
    let (width, height) = (side(clean.width), side(clean.height));
    ensure!(width.min(height) > 0, "{}: smaller than {scale} pixels", args.image.display());
    let (x, y) = ((clean.width - width) / 2, (clean.height - height) / 2);
    let crop = |image: &Rgb| image.crop(x, y, width, height);
    let name = args.image.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let recipe = &checkpoint.metadata.provenance.recipe;
    let title = format!("{recipe} on {name}, {}", condition.label());
    let (clean, twin) = (crop(&clean), twin.as_ref().map(crop));
    let picture = TestPicture { name, clean, scale, twin, folders: vec![] };
    let mut engine = args.engine.open(&checkpoint, threads)?;
    sweep(engine.as_mut(), &title, &picture, &condition)?.save(&args.out)
}

fn degrade(args: &DegradeArgs) -> anyhow::Result<()> {
    check_output(&args.out, &[&args.input])?;
    let condition = args.degradation.condition()?;
    let frames = degrade_y4m(&args.input, &args.out, &condition, args.seed, args.matrix)?;
    tell!("{frames} frames: {}", args.out.display());
    Ok(())
}

impl EngineArgs {
    fn open(&self, checkpoint: &Checkpoint, threads: usize) -> anyhow::Result<Box<dyn Engine>> {
        let Self { device, precision } = *self;
        Ok(engine::open(checkpoint, &Options { device, precision, threads, ..Options::default() })?)
    }
}

/// Where the system keeps what a program reads and writes.
const STDIO: [&str; 2] = ["/dev/stdin", "/dev/stdout"];

fn input(text: &str) -> anyhow::Result<PathBuf> {
    Ok(if text == "-" { STDIO[0].into() } else { text.into() })
}

fn output(text: &str) -> anyhow::Result<PathBuf> {
    Ok(if text == "-" { STDIO[1].into() } else { text.into() })
}

/// Checks that an output is none of the inputs, which it would replace.
fn check_output(output: &Path, inputs: &[&Path]) -> anyhow::Result<()> {
    let whole = |path: &Path| path.canonicalize().ok().filter(|path| path.is_file());
    for input in inputs {
        ensure!(
            whole(output).is_none() || whole(output) != whole(input),
            "{} is an input: name another file to write",
            output.display()
        );
    }
    Ok(())
}

fn threads(text: &str) -> anyhow::Result<usize> {
    let threads = text.parse().ok().filter(|threads| *threads <= 256);
    threads.context("expected 0 to 256")
}

fn at_least_one() -> impl clap::builder::TypedValueParser<Value = u64> {
    clap::value_parser!(u64).range(1..)
}

fn name_value(text: &str) -> anyhow::Result<(String, f64)> {
    let (name, value) = text.split_once('=').context("expected NAME=VALUE")?;
    let value = value.parse().with_context(|| format!("`{value}` is not a number"))?;
    ensure!(!name.is_empty(), "expected NAME=VALUE");
    Ok((name.into(), value))
}

fn size(text: &str) -> anyhow::Result<(usize, usize)> {
    let (width, height) = text.split_once('x').context("expected WIDTHxHEIGHT")?;
    let side = |text: &str| text.parse().with_context(|| format!("`{text}` is not a size"));
    Ok((side(width)?, side(height)?))
}

fn range(text: &str) -> anyhow::Result<Range> {
    match text {
        "limited" => Ok(Range::Limited),
        "full" => Ok(Range::Full),
        _ => bail!("expected limited or full"),
    }
}

fn matrix(text: &str) -> anyhow::Result<Matrix> {
    match text {
        "bt601" => Ok(Matrix::Bt601),
        "bt709" => Ok(Matrix::Bt709),
        _ => bail!("expected bt601 or bt709"),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
