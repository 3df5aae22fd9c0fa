//! `import-mindspore`: a checkpoint of the authors', as one of ours.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use tunableconv::tuning::Domain;
use tunableconv_train::import_mindspore::{Choices, Config, import};
use tunableconv_train::tell;

use super::{check_output, output};

#[derive(Args)]
pub struct ImportMindsporeArgs {
    /// MindSpore checkpoint (.ckpt).
    input: PathBuf,
    /// JSON file that says which net it is, such as {"arch": "edsr", "num_blocks": 16, "num_channels": 64,
    /// "scale": 4, "num_params": 2, "mode": "mlp"}; others are nafnet, stylenet and swinir. What is left out
    /// is what the authors' code takes then.
    #[arg(long, value_name = "JSON")]
    config: PathBuf,
    /// Names of the tuning parameters, in their order; knob-1, knob-2 and so on if not given.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    parameters: Vec<String>,
    /// Their domain; if not given a box for EDSR at scale 1, else a simplex.
    #[arg(long, value_enum)]
    domain: Option<Kind>,
    /// Checkpoint to write; - is stdout.
    #[arg(long, value_name = "FILE", value_parser = output)]
    output: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// Every parameter for itself.
    Box,
    /// Parameters that sum to 1.
    Simplex,
}

pub fn run(args: ImportMindsporeArgs) -> anyhow::Result<()> {
    check_output(&args.output, &[&args.input, &args.config])?;
    let config = Config::load(&args.config)?;
    let name = args.input.display().to_string();
    let domain = args.domain.map(|kind| match kind {
        Kind::Box => Domain::Box,
        Kind::Simplex => Domain::Simplex,
    });
    let choices = Choices { names: args.parameters, domain };
    let file = std::fs::read(&args.input).with_context(|| name.clone())?;
    let imported = import(&name, &file, &config, &choices)?;
    // Not while it is written, too.
    drop(file);
    imported.checkpoint.write(&args.output)?;
    let metadata = &imported.checkpoint.metadata;
    tell!("{}, tuned by {}", metadata.architecture.describe(), metadata.tuning.names());
    if imported.ignored_count > 0 {
        let more = imported.ignored_count - imported.ignored.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        tell!("ignored: {}{more}", imported.ignored.join(", "));
    }
    Ok(())
}
