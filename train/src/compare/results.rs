//! What comes of a run, and where it is kept: one line of JSON for each.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tunableconv::atomic_file;

/// What a contender, or an oracle, came to with a seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// Name of the contender.
    pub contender: String,
    /// Of its first weights and of every random choice.
    pub seed: u64,
    /// Of the task, the steps of a run and the test pictures: what is compared has the same.
    pub comparison: String,
    /// Of the recipe, and of those that it began with: tells whether it is still the same.
    pub recipe: String,
    /// Test pictures.
    pub pictures: usize,
    /// Steps of all runs that it took.
    pub steps: u64,
    /// Learning rate, where it was chosen from several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
    /// How long they took, in seconds, measuring left out; where none was stopped and went on later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// Numbers that were trained for its knob and its kernels.
    pub trained: usize,
    /// Numbers of its net once folded.
    pub folded: usize,
    /// Multiplications and additions to fold it anew.
    pub folding: f64,
    /// Multiplications and additions for each pixel.
    pub macs: f64,
    /// At each point of the task.
    pub points: Vec<Point>,
    /// How far outputs are from those at the beginning of the way, along it, in code values (root of the mean
    /// square).
    pub response: Vec<f64>,
}

/// At one tuning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// ω.
    pub tuning: Vec<f64>,
    /// PSNR of luma to what is wanted there, in dB, by the mean squared error of all pictures.
    pub psnr: f64,
    /// What is minimised there.
    pub loss: f64,
    /// Each loss of the recipe by itself.
    pub losses: BTreeMap<String, f64>,
}

/// The outcomes of a task, in a file.
pub struct Results {
    path: PathBuf,
    outcomes: Vec<Outcome>,
}

impl Results {
    /// Reads those there are.
    ///
    /// # Errors
    /// A file that holds something else; names it, and the line.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            text => text.with_context(|| path.display().to_string())?,
        };
        let outcome = |(number, line): (usize, &str)| {
            serde_json::from_str(line)
                .with_context(|| format!("{}, line {}", path.display(), number + 1))
        };
        let outcomes = text.lines().enumerate().map(outcome).collect::<anyhow::Result<_>>()?;
        Ok(Self { path: path.to_owned(), outcomes })
    }

    /// All of them, by contender and seed.
    #[must_use]
    pub fn outcomes(&self) -> &[Outcome] {
        &self.outcomes
    }

    /// That of a contender and a seed.
    #[must_use]
    pub fn get(&self, contender: &str, seed: u64) -> Option<&Outcome> {
        self.outcomes.iter().find(|own| own.contender == contender && own.seed == seed)
    }

    /// The learning rate that was chosen for a contender with another seed.
    #[must_use]
    pub fn rate(&self, contender: &str, seed: u64) -> Option<f64> {
        let others = |own: &&Outcome| own.contender == contender && own.seed != seed;
        self.outcomes.iter().filter(others).find_map(|own| own.learning_rate)
    }

    /// Takes one in, instead of an older one, and writes the file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put(&mut self, outcome: Outcome) -> anyhow::Result<()> {
        let key = |own: &Outcome| (own.contender.clone(), own.seed);
        self.outcomes.retain(|own| key(own) != key(&outcome));
        self.outcomes.push(outcome);
        self.outcomes.sort_by_key(key);
        atomic_file::write::<anyhow::Error>(&self.path, |file| {
            for outcome in &self.outcomes {
                writeln!(file, "{}", serde_json::to_string(outcome)?)?;
            }
            Ok(())
        })
        .with_context(|| self.path.display().to_string())
    }
}
