//! `make-pairs`.

use std::path::PathBuf;

use clap::Args;
use tunableconv_train::make_pairs::{Settings, make_pairs};
use tunableconv_train::tell;

#[derive(Args)]
pub struct MakePairsArgs {
    /// Folders of clean images.
    #[arg(required = true, value_name = "IMAGES")]
    images: Vec<PathBuf>,
    /// Folder of pairs; those that are missing are added.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Number of clips, of 0.8 MB each.
    #[arg(long, default_value_t = 600, value_parser = super::at_least_one())]
    clips: u64,
    /// Seed of every random choice.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub fn run(args: &MakePairsArgs) -> anyhow::Result<()> {
    let settings = Settings { clips: args.clips as usize, seed: args.seed };
    let (made, there) = make_pairs(&args.images, &args.out, &settings)?;
    tell!("{made} pairs made, {there} were there: {}", args.out.display());
    Ok(())
}
