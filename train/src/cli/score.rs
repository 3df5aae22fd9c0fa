//! `score`: one condition at one tuning.

use std::path::PathBuf;

use anyhow::ensure;
use clap::Args;
use tunableconv::checkpoint::Checkpoint;
use tunableconv::tuning::Tuning;
use tunableconv_train::condition::Condition;
use tunableconv_train::evaluate::levels::Levels;
use tunableconv_train::freeze::freeze_inner_layers;
use tunableconv_train::score::{OwnTuning, Report, score};
use tunableconv_train::terminal::say;
use tunableconv_train::test_set::TestPicture;

use super::pictures::{ConditionArgs, PicturesArgs};
use super::{TuningArgs, name_value};

#[derive(Args)]
pub struct ScoreArgs {
    /// Checkpoint.
    checkpoint: PathBuf,
    #[command(flatten)]
    pictures: PicturesArgs,
    #[command(flatten)]
    degradation: ConditionArgs,
    /// Kinds of degradation that the reference keeps, as the target of a corner that leaves them
    /// alone.
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    keep: Vec<String>,
    #[command(flatten)]
    tuning: TuningArgs,
    /// Tell every picture's own level to the parameters that take one, times FACTOR: 1 where none is
    /// given.
    #[arg(long, value_name = "FACTOR", num_args = 0..=1, default_missing_value = "1")]
    level: Option<f64>,
    /// Fix all layers but the last at this tuning (an ablation).
    #[arg(long, value_name = "NAME=VALUE", value_delimiter = ',', value_parser = name_value)]
    freeze: Vec<(String, f64)>,
    /// Print a JSON object.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &ScoreArgs, threads: usize) -> anyhow::Result<()> {
    let mut checkpoint = Checkpoint::read(&args.checkpoint)?;
    let tuning = checkpoint.metadata.tuning.tuning_from_names(&args.tuning.tuning)?;
    if !args.freeze.is_empty() {
        let frozen = checkpoint.metadata.tuning.tuning_from_names(&args.freeze)?;
        freeze_inner_layers(&mut checkpoint, &frozen)?;
    }
    let mut engine = args.tuning.engine.open(&checkpoint, threads)?;
    let levels = Levels::new(&checkpoint.metadata)?;
    if let Some(factor) = args.level {
        ensure!(factor >= 0.0 && factor.is_finite(), "--level {factor}, expected at least 0");
        ensure!(levels.are_told(), "--level: no parameter of the checkpoint is told a level");
    }
    let own = |picture: &TestPicture, condition: &Condition, index: usize| {
        let factor = args.level.unwrap_or(1.0);
        let values = levels.told(tuning.values(), picture, condition, index, factor);
        Ok(checkpoint.metadata.tuning.tuning(&values)?)
    };
    let own = args.level.map(|_| &own as &OwnTuning<'_>);
    let scale = checkpoint.metadata.architecture.io().scale;
    let set = args.pictures.open()?.for_scale(scale)?;
    let condition = set.settle(args.degradation.condition()?)?;
    for kept in &args.keep {
        let kinds: Vec<_> = condition.kinds().collect();
        ensure!(
            kinds.contains(&kept.as_str()),
            "--keep {kept}: it is not among the degradations, {condition}"
        );
    }
    let keep: Vec<bool> =
        condition.kinds().map(|kind| args.keep.iter().any(|kept| kept == kind)).collect();
    let report = score(engine.as_mut(), &set, condition, &keep, &tuning, own)?;
    let report = Report { level: args.level, ..report };
    if args.json {
        say(&(serde_json::to_string_pretty(&report)? + "\n"))
    } else {
        say(&table(&report, &checkpoint, &tuning))
    }
}

fn table(report: &Report, checkpoint: &Checkpoint, tuning: &Tuning) -> String {
    let parameters = checkpoint.metadata.tuning.parameters.iter().zip(tuning.values());
    let mut named: Vec<String> = parameters.map(|(p, v)| format!("{}={v}", p.name)).collect();
    named.extend(report.level.map(|factor| format!("levels told times {factor}")));
    let skipped = match report.skipped {
        0 => String::new(),
        skipped => format!(" ({skipped} skipped)"),
    };
    let condition = report.condition.label();
    let row = |name: &str, y: f64, uv: f64, ssim: f64| {
        format!("{name:<7} {y:>7.2}  {uv:>7.2}  {ssim:>6.4}\n")
    };
    [
        format!("{} images{skipped}, {condition}, {}\n", report.images, named.join(" ")),
        "         PSNR-Y   PSNR-UV  SSIM-Y\n".into(),
        row("input", report.input_psnr_y, report.input_psnr_uv, report.input_ssim_y),
        row("output", report.output.psnr_y, report.output.psnr_uv, report.output.ssim_y),
    ]
    .concat()
}
