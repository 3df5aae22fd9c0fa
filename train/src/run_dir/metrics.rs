//! The metrics log: a CSV file of one line per logged or validated step.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, ensure};

use crate::metrics::Scores;
use crate::recipe::Recipe;
use crate::validation::Measured;

use super::write_text;

/// One line.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Steps taken.
    pub step: u64,
    /// Mean loss since the last line.
    pub loss: f64,
    /// Mean luma PSNR to the mean target of the corners since the last line, in dB, from black to white.
    pub psnr_db: Option<f64>,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Mean gradient norm since the last line.
    pub gradient_norm: f64,
    /// Share of inner channels that are positive somewhere in the batch.
    pub live_channels: f64,
    /// Mean of each objective's loss since the last line, samples weighted by w(ω); not a number
    /// where no sample counted.
    pub objectives: Vec<f64>,
    /// Mean loss of the discriminator since the last line.
    pub discriminator_loss: Option<f64>,
    /// What was measured on the validation pictures at this step.
    pub validation: Option<Measured>,
}

const FIRST: &str = "step,loss,psnr_db,learning_rate,gradient_norm,live_channels";

/// Name of the column of the validation's loss.
pub const VAL_LOSS: &str = "val_loss";

/// How the names of the columns of luma PSNR at the validation's points begin.
pub const VAL_PSNR: &str = "val_psnr_y";

/// Names of the columns; `points` are those that a validation measures at.
pub fn header<'a>(recipe: &Recipe, points: impl Iterator<Item = &'a str>) -> String {
    let mut names = vec![FIRST.to_string()];
    names.extend(recipe.objectives.iter().map(|objective| objective.name().to_string()));
    names.extend(recipe.discriminator.is_some().then(|| "discriminator".to_string()));
    let points: Vec<&str> = points.collect();
    if !points.is_empty() {
        names.push(VAL_LOSS.into());
    }
    for kind in [VAL_PSNR, "val_psnr_uv", "val_ssim_y"] {
        names.extend(points.iter().map(|point| format!("{kind} {point}")));
    }
    names.join(",")
}

impl Metrics {
    /// The line, for a log with as many points.
    fn line(&self, points: usize) -> String {
        let Self { step, loss, learning_rate, gradient_norm, live_channels, .. } = self;
        let psnr = self.psnr_db.map_or(String::new(), |psnr| format!("{psnr:.3}"));
        let mut line = format!(
            "{step},{loss:.6},{psnr},{learning_rate:.3e},{gradient_norm:.4},{live_channels:.4}"
        );
        for value in self.objectives.iter().chain(&self.discriminator_loss) {
            line += &format!(",{value:.6}");
        }
        match &self.validation {
            Some(Measured { loss, scores }) => {
                line += &format!(",{loss:.6}");
                let columns: [fn(&Scores) -> f64; 3] = [|s| s.psnr_y, |s| s.psnr_uv, |s| s.ssim_y];
                for of in columns {
                    scores.iter().for_each(|scores| line += &format!(",{:.4}", of(scores)));
                }
            }
            None if points > 0 => line += &",".repeat(1 + 3 * points),
            None => {}
        }
        line
    }

    /// Appends it to the log at `path`.
    ///
    /// # Errors
    /// The I/O error, naming the file.
    pub fn append(&self, path: &Path, points: usize) -> anyhow::Result<()> {
        let file = OpenOptions::new().append(true).open(path);
        file.and_then(|mut file| writeln!(file, "{}", self.line(points)))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Drops lines after `step`, which a resumed run will write again.
///
/// # Errors
/// Another header than `header`; the I/O error, naming the file.
pub fn rewind(path: &Path, header: &str, step: u64) -> anyhow::Result<()> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let step_of = |line: &str| line.split(',').next().and_then(|s| s.parse::<u64>().ok());
    let found = text.lines().next().unwrap_or_default();
    ensure!(found == header, "{}: its columns are not those of this run", path.display());
    let kept = text.lines().skip(1).filter(|line| step_of(line).is_some_and(|s| s <= step));
    let lines: Vec<&str> = std::iter::once(header).chain(kept).collect();
    write_text(path, &(lines.join("\n") + "\n"))
}

/// A column by name: each value with its step.
pub type Column = (String, Vec<(f64, f64)>);

/// The columns of a log.
///
/// # Errors
/// The I/O error, naming the file.
pub fn columns(path: &Path) -> anyhow::Result<Vec<Column>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let mut lines = text.lines();
    let names = lines.next().unwrap_or_default().split(',');
    let mut columns: Vec<_> = names.map(|name| (name.to_string(), vec![])).collect();
    for line in lines {
        let values: Vec<Option<f64>> = line.split(',').map(|value| value.parse().ok()).collect();
        let Some(Some(step)) = values.first() else { continue };
        for ((_, points), value) in columns.iter_mut().zip(&values) {
            points.extend(value.filter(|value| value.is_finite()).map(|value| (*step, value)));
        }
    }
    Ok(columns)
}
