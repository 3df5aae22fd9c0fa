//! `real-video`.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::ensure;
use clap::Args;
use tunableconv::checkpoint::Checkpoint;
use tunableconv_train::evaluate::levels::FACTORS;
use tunableconv_train::real_video::{CASES, Case, Psnr, Row, Settings, measure};
use tunableconv_train::terminal::say;

use super::EngineArgs;

#[derive(Args)]
pub struct RealVideoArgs {
    /// Checkpoint.
    checkpoint: PathBuf,
    /// Clean clips, of any kind that GStreamer decodes.
    #[arg(required = true, value_name = "CLIP")]
    clips: Vec<PathBuf>,
    /// What is done to each, and after a comma others: degradations as in noise:15+camera:0.01, last of all
    /// an encoder (h264, mpeg2, vp8, av1) and its quantiser, as in camera:0.003:sigma=1+h264:30.
    #[arg(long, value_name = "CHAIN", value_delimiter = ',', default_values = CASES)]
    degrade: Vec<Case>,
    /// Frames used, from the first on.
    #[arg(long, default_value_t = 12, value_parser = super::at_least_one())]
    frames: u64,
    /// Values of the parameters that were trained for what is done to a clip; all of their combinations are
    /// tried.
    #[arg(
        long,
        value_name = "VALUE",
        value_delimiter = ',',
        default_value = "0,0.05,0.1,0.2,0.4,1"
    )]
    grid: Vec<f64>,
    #[command(flatten)]
    engine: EngineArgs,
    /// Print a JSON array.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &RealVideoArgs, threads: usize) -> anyhow::Result<()> {
    ensure!(args.grid.iter().all(|value| value.is_finite()), "--grid: expected finite numbers");
    let checkpoint = Checkpoint::read(&args.checkpoint)?;
    let mut engine = args.engine.open(&checkpoint, threads)?;
    let settings = Settings {
        cases: args.degrade.clone(),
        frames: args.frames as usize,
        grid: args.grid.clone(),
    };
    let rows = measure(&checkpoint, engine.as_mut(), &args.clips, &settings)?;
    if args.json {
        return say(&(serde_json::to_string_pretty(&rows)? + "\n"));
    }
    let names: Vec<&str> =
        checkpoint.metadata.tuning.parameters.iter().map(|p| p.name.as_str()).collect();
    let mut text = table(&rows, &names)?;
    if args.clips.len() > 1 {
        text += &means(&rows)?;
    }
    say(&text)
}

/// A Markdown table of each clip: PSNR-Y / PSNR-UV, what is gained.
fn table(rows: &[Row], names: &[&str]) -> anyhow::Result<String> {
    let mut text = String::new();
    for clip in rows.chunk_by(|a, b| a.clip == b.clip) {
        let (first, told) = (&clip[0], !clip[0].told.is_empty());
        writeln!(text, "{}, {} frames, PSNR-Y / PSNR-UV\n", first.clip.display(), first.frames)?;
        let factors = if told { FACTORS.map(at_level).join("") } else { String::new() };
        writeln!(text, "| case | input, dB | best of the grid | where |{factors} worst |")?;
        writeln!(text, "|---|--:|--:|---|{}--:|", factors_rule(told))?;
        for row in clip {
            let where_best = names.iter().zip(&row.best.tuning).filter(|(_, value)| **value != 0.0);
            let mut named: Vec<String> =
                where_best.map(|(name, value)| format!("{name} {value}")).collect();
            if named.is_empty() {
                named.push("all at 0".into());
            }
            let (y, uv) = (row.input.y, row.input.uv);
            write!(text, "| {} | {y:.2} / {uv:.2} | {} |", row.case, gain(row, &row.best.output))?;
            write!(text, " {} |", named.join(", "))?;
            for told in &row.told {
                write!(text, " {} |", gain(row, told))?;
            }
            writeln!(text, " {} |", gain(row, &row.worst.output))?;
        }
        text.push('\n');
    }
    Ok(text)
}

fn at_level(factor: f64) -> String {
    match factor {
        1.0 => " at the level |".into(),
        factor => format!(" times {factor} |"),
    }
}

fn factors_rule(told: bool) -> String {
    if told { "--:|".repeat(FACTORS.len()) } else { String::new() }
}

fn gain(row: &Row, output: &Psnr) -> String {
    format!("{:+.2} / {:+.2}", output.y - row.input.y, output.uv - row.input.uv)
}

/// Of all clips.
fn means(rows: &[Row]) -> anyhow::Result<String> {
    let mut cases: Vec<&str> = vec![];
    for row in rows {
        if !cases.contains(&row.case.as_str()) {
            cases.push(&row.case);
        }
    }
    let mut text =
        "mean gain over the clips\n\n| case | best of the grid |\n|---|--:|\n".to_owned();
    for case in cases {
        let own: Vec<&Row> = rows.iter().filter(|row| row.case == case).collect();
        let mean =
            |gain: fn(&Row) -> f64| own.iter().map(|r| gain(r)).sum::<f64>() / own.len() as f64;
        let y = mean(|row| row.best.output.y - row.input.y);
        let uv = mean(|row| row.best.output.uv - row.input.uv);
        writeln!(text, "| {case} | {y:+.2} / {uv:+.2} |")?;
    }
    Ok(text)
}
