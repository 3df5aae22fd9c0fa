//! The run directory.
//!
//! | file | what |
//! |---|---|
//! | `recipe.toml` | the recipe with every value, its seed among them |
//! | `run.json` | what was read, with hashes of its contents, and how often the run reports and saves |
//! | `start.safetensors` | the checkpoint that the run started from, if it did |
//! | `metrics.csv` | one line per logged or validated step |
//! | `curves.svg` | the same as curves |
//! | `samples.png` | some validation pictures at the last validation |
//! | `state.safetensors` | weights, moments and averages at a step: what `--resume` reads |
//! | `checkpoint.safetensors` | the averaged weights as a checkpoint, ready for the element |
//! | `best.safetensors` | those of the best validation |

pub mod curves;
pub mod metrics;
pub mod record;
pub mod state;

use std::fs::{self, File, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use tunableconv::atomic_file;
use tunableconv::checkpoint::Checkpoint;

use crate::recipe::Recipe;
use crate::tell;

pub use metrics::Metrics;
pub use record::{DataRecord, RunRecord, Set};
pub use state::{Best, Progress, State};

/// A run directory on disk, which this process alone writes to.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    /// Locked as long as it is open.
    _lock: File,
}

impl RunDir {
    /// Makes a new run directory; `start` is the checkpoint that the run starts from, `header` the
    /// first line of the metrics log.
    ///
    /// # Errors
    /// When it already holds a run that has saved something, or another process trains there.
    pub fn create(
        path: &Path,
        recipe: &Recipe,
        record: &RunRecord,
        start: Option<&Checkpoint>,
        header: &str,
    ) -> anyhow::Result<Self> {
        Self::check_free(path)?;
        fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))?;
        let dir = Self::lock(path)?;
        Self::check_free(path)?;
        let recipe_path = path.join("recipe.toml");
        if recipe_path.exists() {
            fs::remove_file(&recipe_path)
                .with_context(|| format!("cannot replace {}", recipe_path.display()))?;
        }
        dir.write_record(record)?;
        write_text(&dir.metrics_path(), &format!("{header}\n"))?;
        if let Some(start) = start {
            start.write(&dir.start_path())?;
        } else if dir.start_path().exists() {
            fs::remove_file(dir.start_path())?;
        }
        dir.write_recipe(recipe)?;
        Ok(dir)
    }

    /// Checks that a run may begin in a folder: one that ended before it saved anything is nothing
    /// to keep.
    ///
    /// # Errors
    /// When there is something to keep.
    pub fn check_free(path: &Path) -> anyhow::Result<()> {
        let kept = ["state.safetensors", "checkpoint.safetensors", "best.safetensors"];
        ensure!(
            !kept.iter().any(|name| path.join(name).exists()),
            "{} already holds a run; continue it with --resume or choose another folder",
            path.display()
        );
        Ok(())
    }

    /// Opens the run directory of an earlier run; returns its recipe and record too.
    ///
    /// # Errors
    /// When it holds no run, or another process trains there.
    pub fn open(path: &Path) -> anyhow::Result<(Self, Recipe, RunRecord)> {
        let recipe = Recipe::read(&path.join("recipe.toml"))
            .with_context(|| format!("{} holds no run to resume", path.display()))?;
        let dir = Self::lock(path)?;
        let record = RunRecord::read(&dir.record_path())?;
        Ok((dir, recipe, record))
    }

    /// Takes the folder for this process, and clears away what a killed one was writing.
    fn lock(path: &Path) -> anyhow::Result<Self> {
        let lock = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!("another process trains in {}", path.display()),
            // Some network file systems cannot lock.
            Err(TryLockError::Error(error)) => {
                tell!("warning: cannot lock {}: {error}", path.display());
            }
        }
        let entries = fs::read_dir(path).with_context(|| path.display().to_string())?;
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with('.') && name.ends_with(".tmp") {
                // What stays costs room only.
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(Self { path: path.into(), _lock: lock })
    }

    /// Writes the recipe, which is what makes the folder a run.
    ///
    /// # Errors
    /// The I/O error, naming the file.
    pub fn write_recipe(&self, recipe: &Recipe) -> anyhow::Result<()> {
        write_text(&self.path.join("recipe.toml"), &recipe.to_toml()?)
    }

    /// Writes what the run is made of.
    ///
    /// # Errors
    /// The I/O error, naming the file.
    pub fn write_record(&self, record: &RunRecord) -> anyhow::Result<()> {
        write_text(&self.record_path(), &serde_json::to_string_pretty(record)?)
    }

    /// The checkpoint that the run started from, if it did.
    ///
    /// # Errors
    /// A broken file.
    pub fn start(&self) -> anyhow::Result<Option<Checkpoint>> {
        let path = self.start_path();
        Ok(path.exists().then(|| Checkpoint::read(&path)).transpose()?)
    }

    fn start_path(&self) -> PathBuf {
        self.path.join("start.safetensors")
    }

    fn record_path(&self) -> PathBuf {
        self.path.join("run.json")
    }

    /// Where the shippable checkpoint goes.
    #[must_use]
    pub fn checkpoint_path(&self) -> PathBuf {
        self.path.join("checkpoint.safetensors")
    }

    /// Where the checkpoint of the best validation goes.
    #[must_use]
    pub fn best_path(&self) -> PathBuf {
        self.path.join("best.safetensors")
    }

    /// Where the resumable state goes.
    #[must_use]
    pub fn state_path(&self) -> PathBuf {
        self.path.join("state.safetensors")
    }

    /// Where the metrics log goes.
    #[must_use]
    pub fn metrics_path(&self) -> PathBuf {
        self.path.join("metrics.csv")
    }

    /// Where the contact sheet of the last validation goes.
    #[must_use]
    pub fn samples_path(&self) -> PathBuf {
        self.path.join("samples.png")
    }

    /// Draws the metrics log anew.
    ///
    /// # Errors
    /// The I/O error, naming the file.
    pub fn draw_curves(&self, title: &str) -> anyhow::Result<()> {
        let columns = metrics::columns(&self.metrics_path())?;
        write_text(&self.path.join("curves.svg"), &curves::draw_columns(title, &columns)?)
    }
}

fn write_text(path: &Path, text: &str) -> anyhow::Result<()> {
    atomic_file::write(path, |file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}
