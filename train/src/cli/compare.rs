//! `compare`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use clap::builder::PossibleValuesParser;
use tunableconv_train::compare::{
    CONTENDERS, Contender, Progress, Rates, Runner, Settings, TASKS, oracle_name, report,
};
use tunableconv_train::tell;
use tunableconv_train::trainer::Sources;

use super::interrupt::Interrupt;
use crate::threads;

#[derive(Args)]
pub struct CompareArgs {
    /// What to compare on.
    #[arg(value_parser = PossibleValuesParser::new(TASKS.iter().map(|task| task.name)))]
    task: Option<String>,
    /// Folders of PNG, JPEG or WebP images to train on.
    #[arg(long, num_args = 1.., value_name = "DIR", required_unless_present = "report")]
    data: Vec<PathBuf>,
    /// Folders of images to measure on.
    #[arg(long, num_args = 1.., value_name = "DIR", required_unless_present = "report")]
    test: Vec<PathBuf>,
    /// Crops of them.
    #[arg(long, default_value_t = 48)]
    pictures: usize,
    /// Weights of a feature network (VGG-19 or SqueezeNet), for losses on features.
    #[arg(long, value_name = "FILE")]
    features: Option<PathBuf>,
    /// Contenders, or `oracles`; all that are not done if not given.
    #[arg(long, num_args = 1.., value_name = "NAME")]
    only: Vec<String>,
    /// Seeds, one after the other.
    #[arg(long, value_delimiter = ',', default_value = "1")]
    seeds: Vec<u64>,
    /// Steps of each run, instead of the task's.
    #[arg(long, value_parser = super::at_least_one())]
    steps: Option<u64>,
    /// Learning rates to try for each contender and oracle, of which the one that is best on --val is
    /// measured; instead of the task's. The first seed chooses for the others.
    #[arg(long, value_delimiter = ',', value_name = "RATES", requires = "val")]
    rates: Vec<f64>,
    /// Folders of images to choose learning rates on.
    #[arg(long, num_args = 1.., value_name = "DIR", requires = "rates")]
    val: Vec<PathBuf>,
    /// Folder for the runs, which go on where they were stopped.
    #[arg(long, value_name = "DIR", default_value = "runs/compare")]
    runs: PathBuf,
    /// Folder of the results, one file for each task.
    #[arg(long, value_name = "DIR", default_value = "results")]
    results: PathBuf,
    /// Page to write of all results, beside their folder; without a task nothing is trained.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// What the oracles are called together.
const ORACLES: &str = "oracles";

pub fn run(args: CompareArgs) -> anyhow::Result<ExitCode> {
    for name in &args.only {
        let names: Vec<_> = CONTENDERS.iter().map(|contender| contender.name).collect();
        ensure!(
            name == ORACLES || Contender::named(name).is_some(),
            "--only {name}: expected {ORACLES}, {}",
            names.join(", ")
        );
    }
    let Some(name) = &args.task else {
        let Some(path) = &args.report else { bail!("give a task, or --report FILE") };
        report(&args.results, path)?;
        return Ok(ExitCode::SUCCESS);
    };
    let task = TASKS.iter().find(|task| task.name == name).context("a known task")?;
    std::fs::create_dir_all(&args.results).with_context(|| args.results.display().to_string())?;
    let settings = Settings {
        task,
        // Everything is measured on test pictures.
        sources: Sources {
            folders: args.data,
            features: args.features,
            val_share: Some(0.0),
            ..Sources::default()
        },
        test: args.test,
        pictures: args.pictures,
        runs: args.runs,
        results: args.results.join(format!("{name}.jsonl")),
        steps: args.steps,
        rates: Rates { rates: args.rates, folders: args.val },
    };
    threads::join();
    let interrupt = Interrupt::default();
    let stop = || interrupt.is_asked();
    let mut runner = Runner::new(settings)?;
    let asked = |name: &str| args.only.is_empty() || args.only.iter().any(|own| own == name);
    for seed in args.seeds {
        for contender in CONTENDERS.iter().filter(|c| asked(c.name)) {
            if !contender.fits(task) {
                if !args.only.is_empty() {
                    tell!("{}: it has nothing to do with `{name}`", contender.name);
                }
                continue;
            }
            if runner.contender(contender, seed, &stop)? == Progress::Stopped {
                return Ok(interrupt.exit_code());
            }
        }
        for point in task.points.iter().filter(|_| asked(ORACLES)) {
            if runner.oracle(point, seed, &stop)? == Progress::Stopped {
                tell!("stopped in {}", oracle_name(point));
                return Ok(interrupt.exit_code());
            }
        }
    }
    if let Some(path) = &args.report {
        report(&args.results, path)?;
    }
    Ok(ExitCode::SUCCESS)
}
