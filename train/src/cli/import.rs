//! `import-onnx` and `import-dni`: published nets as checkpoints of ours, and two of them as one with a knob.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use tunableconv::checkpoint::Checkpoint;
use tunableconv_train::import_dni::interpolate;
use tunableconv_train::import_onnx::import;
use tunableconv_train::tell;

use super::{check_output, output};

#[derive(Args)]
pub struct ImportOnnxArgs {
    /// ONNX model: a chain of Conv, Relu, LeakyRelu, PRelu, DepthToSpace and Add that takes and gives R, G and
    /// B, `[N,3,H,W]`, or luma, `[N,1,H,W]`, in 0 to 1.
    input: PathBuf,
    /// Checkpoint to write; - is stdout.
    #[arg(long, value_name = "FILE", value_parser = output)]
    output: PathBuf,
}

#[derive(Args)]
pub struct ImportDniArgs {
    /// Checkpoint that the net is at 0.
    first: PathBuf,
    /// Checkpoint that the net is at 1, of the same shape.
    second: PathBuf,
    /// Name of the parameter.
    #[arg(long, value_name = "NAME")]
    parameter: String,
    /// Checkpoint to write; - is stdout.
    #[arg(long, value_name = "FILE", value_parser = output)]
    output: PathBuf,
}

pub fn onnx(args: &ImportOnnxArgs) -> anyhow::Result<()> {
    let ImportOnnxArgs { input, output } = args;
    check_output(output, &[input])?;
    let name = input.display().to_string();
    let file = std::fs::read(input).with_context(|| name.clone())?;
    write(&import(&name, file.into())?, output)
}

pub fn dni(args: &ImportDniArgs) -> anyhow::Result<()> {
    let ImportDniArgs { first, second, parameter, output } = args;
    check_output(output, &[first, second])?;
    let names = [first, second].map(|path| path.display().to_string());
    let [a, b] = [Checkpoint::read(first)?, Checkpoint::read(second)?];
    write(&interpolate([(&names[0], &a), (&names[1], &b)], parameter)?, output)
}

fn write(checkpoint: &Checkpoint, output: &std::path::Path) -> anyhow::Result<()> {
    checkpoint.write(output)?;
    let (architecture, tuning) = (&checkpoint.metadata.architecture, &checkpoint.metadata.tuning);
    tell!("{}, parameters: {}", architecture.describe(), tuning.names());
    Ok(())
}
