//! `train`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use bytesize::ByteSize;
use clap::Args;
use clap::builder::PossibleValuesParser;
use tunableconv_train::recipe::Recipe;
use tunableconv_train::recipe::templates::{TEMPLATES, template};
use tunableconv_train::tell;
use tunableconv_train::terminal::say;
use tunableconv_train::trainer::{self, CadenceChange, Outcome, Sources};

use super::at_least_one;
use super::interrupt::Interrupt;
use crate::threads;

#[derive(Args)]
pub struct TrainArgs {
    /// Recipe (TOML); left out with --resume.
    recipe: Option<PathBuf>,
    /// Print a recipe with comments to begin with, and do nothing else.
    #[arg(long, value_name = "NAME", exclusive = true, value_parser = template_names())]
    print_recipe: Option<String>,
    /// Folders of PNG, JPEG or WebP images; with --resume those of the run if not given.
    #[arg(
        long,
        num_args = 1..,
        value_name = "DIR",
        required_unless_present_any = ["resume", "print_recipe"]
    )]
    data: Vec<PathBuf>,
    /// Run directory to make, or with --resume to continue.
    #[arg(long, value_name = "DIR", required_unless_present = "print_recipe")]
    run: Option<PathBuf>,
    /// Folders of pairs of clips, NAME.clean.y4m and NAME.degraded.y4m, for recipes with a recorded
    /// degradation.
    #[arg(long, num_args = 1.., value_name = "DIR")]
    pairs: Vec<PathBuf>,
    /// Folders of images to validate on; a share of --data is set aside if not given.
    #[arg(long, num_args = 1.., value_name = "DIR")]
    val: Vec<PathBuf>,
    /// Folders of pairs of clips to validate on; a share of --pairs is set aside if not given.
    #[arg(long, num_args = 1.., value_name = "DIR")]
    val_pairs: Vec<PathBuf>,
    /// Share that is set aside for validation, of 8 images or more and at most 32 of them; 0 for none
    /// [default: 0.05].
    #[arg(long, value_name = "SHARE", conflicts_with = "resume")]
    val_share: Option<f64>,
    /// Most memory that pictures take, as in 2GiB; of images larger than their share pieces are kept
    /// [default: a quarter of the machine's].
    #[arg(long, value_name = "SIZE", conflicts_with = "resume")]
    cache_size: Option<ByteSize>,
    /// Weights of a feature network (VGG-19 or SqueezeNet), for recipes with losses on features.
    #[arg(long, value_name = "FILE")]
    features: Option<PathBuf>,
    /// Start from the weights of this checkpoint, whose parameters or layers may be others: what fits
    /// is taken, and a parameter that it does not have starts without effect.
    #[arg(long, value_name = "CKPT", conflicts_with = "resume")]
    from: Option<PathBuf>,
    /// Continue the run in --run from its last saved state.
    #[arg(long)]
    resume: bool,
    /// Instead of the recipe's number of steps. With --resume the run gets another length, and its
    /// learning rate follows the schedule of that from where it is.
    #[arg(long)]
    steps: Option<u64>,
    /// Instead of the recipe's seed.
    #[arg(long)]
    seed: Option<u64>,
    /// Steps between lines of the metrics log [default: 100, or as the run had it].
    #[arg(long, value_name = "STEPS", value_parser = at_least_one())]
    log_every: Option<u64>,
    /// Steps between saved states [default: 500, or as the run had it].
    #[arg(long, value_name = "STEPS", value_parser = at_least_one())]
    save_every: Option<u64>,
    /// Steps between validations [default: a fortieth of the run but at least 100, or as the run had
    /// it].
    #[arg(long, value_name = "STEPS", value_parser = at_least_one())]
    val_every: Option<u64>,
}

fn template_names() -> PossibleValuesParser {
    PossibleValuesParser::new(TEMPLATES.map(|(name, _)| name))
}

pub fn run(args: TrainArgs) -> anyhow::Result<ExitCode> {
    let Some(run) = args.run else {
        say(args.print_recipe.as_deref().and_then(template).unwrap_or_default())?;
        return Ok(ExitCode::SUCCESS);
    };
    threads::join();
    let cadence = CadenceChange {
        log_every: args.log_every,
        save_every: args.save_every,
        val_every: args.val_every,
    };
    let sources = Sources {
        folders: args.data,
        pairs: args.pairs,
        features: args.features,
        val: args.val,
        val_pairs: args.val_pairs,
        val_share: args.val_share,
        cache: args.cache_size.map(|size| size.as_u64()),
    };
    let interrupt = Interrupt::default();
    let stop = || interrupt.is_asked();
    let outcome = match (args.recipe, args.resume) {
        (None, true) => {
            if args.seed.is_some() {
                bail!("--seed is part of the run's recipe, which --resume keeps");
            }
            trainer::resume(sources, &run, args.steps, cadence, &stop)?
        }
        (Some(path), false) => {
            let mut recipe = Recipe::read(&path)?;
            recipe.steps = args.steps.unwrap_or(recipe.steps);
            recipe.seed = args.seed.unwrap_or(recipe.seed);
            recipe.validate()?;
            trainer::start(recipe, sources, args.from.as_deref(), &run, cadence, &stop)?
        }
        (Some(_), true) => bail!("give a recipe or --resume, not both: a run keeps its recipe"),
        (None, false) => bail!("give a recipe, or --resume to continue the run in --run"),
    };
    match outcome {
        Outcome::Finished(checkpoint) => {
            say(&format!("{}\n", checkpoint.display()))?;
            Ok(ExitCode::SUCCESS)
        }
        Outcome::Stopped { steps } => {
            let run = run.display();
            tell!("stopped and saved at step {steps}; `train --resume --run {run}` goes on");
            Ok(interrupt.exit_code())
        }
    }
}
