//! The training loop.

mod learner;
mod progress;
mod sources;
mod transfer;
mod window;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use candle_core::Device;
use serde::{Deserialize, Serialize};
use tunableconv::checkpoint::Checkpoint;
use tunableconv::engine::cpu::kernels::level_name;

use crate::batch::{self, Batches, Pictures};
use crate::multi_loss::DeviceBatch;
use crate::recipe::Recipe;
use crate::run_dir::{Best, Metrics, RunDir, RunRecord, State, metrics};
use crate::tell;
use crate::validation::Validation;

use learner::{Learner, Origin, initial_state};
use progress::Progress;
use sources::Loaded;

pub use learner::trained_numbers;
pub use sources::{Sources, VAL_SHARE};
pub use window::Window;

/// How often a run reports, saves and validates; none of it changes the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cadence {
    /// Steps between lines of the metrics log.
    pub log_every: u64,
    /// Steps between saved states.
    pub save_every: u64,
    /// Steps between validations.
    pub val_every: u64,
}

impl Cadence {
    /// For a run of so many steps.
    #[must_use]
    pub fn of(steps: u64) -> Self {
        Self { log_every: 100, save_every: 500, val_every: (steps / 40).max(100) }
    }
}

/// What is asked for of a [`Cadence`]; the rest is as it was, or as [`Cadence::of`] has it.
#[derive(Clone, Copy, Debug, Default)]
pub struct CadenceChange {
    /// Steps between lines of the metrics log.
    pub log_every: Option<u64>,
    /// Steps between saved states.
    pub save_every: Option<u64>,
    /// Steps between validations.
    pub val_every: Option<u64>,
}

impl CadenceChange {
    fn of(self, cadence: Cadence) -> Cadence {
        Cadence {
            log_every: self.log_every.unwrap_or(cadence.log_every),
            save_every: self.save_every.unwrap_or(cadence.save_every),
            val_every: self.val_every.unwrap_or(cadence.val_every),
        }
    }
}

/// Whether the run is asked to stop; asked first when there is something to save.
pub type Stop<'a> = &'a dyn Fn() -> bool;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its checkpoint.
    Finished(PathBuf),
    /// It was asked to stop, and saved its state.
    Stopped {
        /// Steps taken.
        steps: u64,
    },
}

/// Trains `recipe` in a new run directory, from fresh weights or those of the checkpoint `from`, whose
/// net or tuning may be another: a parameter that it does not have starts without effect.
///
/// # Errors
/// Unusable images or features, a checkpoint of another net, an existing run, a diverging run, or a
/// failed write.
pub fn start(
    recipe: Recipe,
    sources: Sources,
    from: Option<&Path>,
    run: &Path,
    cadence: CadenceChange,
    stop: Stop<'_>,
) -> anyhow::Result<Outcome> {
    RunDir::check_free(run)?;
    let sources = sources.settled()?;
    let start = from.map(Checkpoint::read).transpose()?;
    let (state, transfer) = initial_state(&recipe, start.as_ref()).with_context(|| match from {
        Some(path) => format!("cannot start from {}", path.display()),
        None => "cannot start".into(),
    })?;
    if let Some((from, told)) = from.zip(transfer.describe()) {
        tell!("from {}: {told}", from.display());
    }
    let loaded = Loaded::new(&sources, &recipe)?;
    let cadence = cadence.of(Cadence::of(recipe.steps));
    let kernels = level_name().into();
    let record = RunRecord { sources, data: loaded.record.clone(), cadence, kernels };
    let run_of = Run::new(recipe, loaded, start.clone(), &state, cadence)?;
    // Now that nothing is missing.
    let dir = RunDir::create(run, &run_of.recipe, &record, start.as_ref(), &run_of.header())?;
    run_of.train(state, &dir, stop)
}

/// Continues the run in `run` to its last step; the weights become those of an uninterrupted run.
/// What is not given in `sources` and `cadence` is as it was; what is, the run keeps. With `steps` the run gets another
/// length: its learning rate follows the schedule of that from where it is.
///
/// # Errors
/// As [`start`], and when `run` holds no run, its sources differ, or it has taken `steps` already.
pub fn resume(
    sources: Sources,
    run: &Path,
    steps: Option<u64>,
    cadence: CadenceChange,
    stop: Stop<'_>,
) -> anyhow::Result<Outcome> {
    let (dir, mut recipe, record) = RunDir::open(run)?;
    let start = dir.start()?;
    let (initial, _) = initial_state(&recipe, start.as_ref())?;
    let state = State::read(&dir.state_path(), &initial)?.unwrap_or(initial);
    let taken = state.progress.steps;
    if let Some(steps) = steps {
        ensure!(steps > taken, "--steps {steps}: the run has taken {taken} steps already");
        recipe.steps = steps;
    }
    let sources = sources.or(&record.sources).settled()?;
    let loaded = Loaded::new(&sources, &recipe)?;
    record.data.check(&loaded.record)?;
    if record.kernels != level_name() {
        tell!(
            "warning: the run began with {} kernels and goes on with {}: its weights will differ from \
             those of an uninterrupted one by rounding",
            record.kernels,
            level_name()
        );
    }
    let kernels = level_name().into();
    let record = RunRecord { sources, cadence: cadence.of(record.cadence), kernels, ..record };
    let run_of = Run::new(recipe, loaded, start, &state, record.cadence)?;
    dir.write_record(&record)?;
    metrics::rewind(&dir.metrics_path(), &run_of.header(), taken)?;
    if steps.is_some() {
        dir.write_recipe(&run_of.recipe)?;
    }
    let last = run_of.recipe.steps;
    if taken == last {
        tell!("the run has taken all of its {last} steps; --steps N trains it further");
    } else {
        tell!("resuming at step {taken} of {last}");
    }
    run_of.train(state, &dir, stop)
}

/// Batches that recipes with other objectives than restoration are validated on.
const HELD_BATCHES: u64 = 8;

/// Crops of pictures that a run is not trained on, the same for every seed.
fn held_batches(recipe: &Recipe, held: &Pictures) -> anyhow::Result<Vec<DeviceBatch>> {
    let fixed = Recipe { seed: 0, ..recipe.clone() };
    let batch = |step| DeviceBatch::new(&batch::make(&fixed, held, step), &fixed, &Device::Cpu);
    (0..HELD_BATCHES).map(batch).collect()
}

/// A run, ready to train.
struct Run {
    recipe: Arc<Recipe>,
    pictures: Arc<Pictures>,
    validation: Option<Validation>,
    /// What recipes with other objectives than restoration are validated by.
    held: Vec<DeviceBatch>,
    learner: Learner,
    cadence: Cadence,
}

impl Run {
    fn new(
        recipe: Recipe,
        loaded: Loaded,
        start: Option<Checkpoint>,
        state: &State,
        cadence: Cadence,
    ) -> anyhow::Result<Self> {
        let held = loaded.held.as_ref();
        let validation = held.map(|held| Validation::new(&recipe, held)).transpose()?;
        let held = match held {
            Some(held) if !recipe.is_restoration() => held_batches(&recipe, held)?,
            _ => vec![],
        };
        let recipe = Arc::new(recipe);
        let origin = Origin { data: loaded.sets, start };
        let learner = Learner::new(recipe.clone(), loaded.features, origin, state)?;
        let pictures = Arc::new(loaded.pictures);
        Ok(Self { recipe, pictures, validation, held, learner, cadence })
    }

    /// Of the metrics log.
    fn header(&self) -> String {
        metrics::header(&self.recipe, self.validation.iter().flat_map(Validation::labels))
    }

    fn train(mut self, state: State, dir: &RunDir, stop: Stop<'_>) -> anyhow::Result<Outcome> {
        let mut progress = state.progress;
        let (first, last) = (progress.steps, self.recipe.steps);
        if let Some(validation) = &self.validation {
            let mut input = validation.input()?;
            if !self.held.is_empty() {
                input.loss = self.learner.measure_unfiltered(&self.held)?;
            }
            tell!("unfiltered: validation loss {:.4}  {:.2} dB", input.loss, input.psnr_y());
        }
        let mut batches = Batches::new(&self.recipe, &self.pictures, first..last);
        if first == last {
            // The checkpoint may come from an older version.
            self.learner.checkpoint()?.write(&dir.checkpoint_path())?;
        }
        let shown = Progress::new(&self.recipe.name, first, last);
        // From here on there is something to save.
        stop();
        let due = |every: u64, step: u64| step.is_multiple_of(every) || step == last;
        while progress.steps < last {
            let batch = batches.next().context("a batch thread stopped early")?;
            let batch = DeviceBatch::new(&batch, &self.recipe, &self.learner.device)?;
            progress.window.add(&self.learner.step(&batch)?);
            progress.steps += 1;
            let step = progress.steps;

            let validates = self.validation.is_some() && due(self.cadence.val_every, step);
            if validates || due(self.cadence.log_every, step) {
                let metrics = self.log(&mut progress, &batch, validates, dir)?;
                shown.tell(&metrics, validates && progress.best.is_some_and(|b| b.step == step));
            }
            shown.set(step);
            let stops = stop();
            if stops || due(self.cadence.save_every, step) {
                self.learner.checkpoint()?.write(&dir.checkpoint_path())?;
                self.learner.state(progress.clone()).write(&dir.state_path())?;
            }
            if stops && step < last {
                shown.finish();
                return Ok(Outcome::Stopped { steps: step });
            }
        }
        shown.finish();
        if let Some(best) = progress.best {
            tell!("best at step {}: {}", best.step, dir.best_path().display());
        }
        Ok(Outcome::Finished(dir.checkpoint_path()))
    }

    /// Writes a line of the log, after a validation where one is due.
    fn log(
        &mut self,
        progress: &mut crate::run_dir::Progress,
        batch: &DeviceBatch,
        validates: bool,
        dir: &RunDir,
    ) -> anyhow::Result<Metrics> {
        let step = progress.steps;
        let mut measured = None;
        if let Some(validation) = self.validation.as_ref().filter(|_| validates) {
            let checkpoint = self.learner.checkpoint()?;
            let (mut scores, sheet) = validation.measure(&checkpoint)?;
            if !self.held.is_empty() {
                scores.loss = self.learner.measure(&self.held)?;
            }
            sheet.save(&dir.samples_path())?;
            if progress.best.is_none_or(|best| scores.loss < best.loss) {
                checkpoint.write(&dir.best_path())?;
                progress.best = Some(Best { step, loss: scores.loss });
            }
            measured = Some(scores);
        }
        let means = progress.window.take();
        let metrics = Metrics {
            step,
            loss: means.loss,
            psnr_db: means.psnr_db,
            learning_rate: self.learner.learning_rate(),
            gradient_norm: means.gradient_norm,
            live_channels: self.learner.live_channels(batch)?,
            objectives: means.objectives,
            discriminator_loss: means.discriminator_loss,
            validation: measured,
        };
        let points = self.validation.as_ref().map_or(0, |validation| validation.labels().count());
        metrics.append(&dir.metrics_path(), points)?;
        if validates || step == self.recipe.steps {
            dir.draw_curves(&format!("{}, step {step}", self.recipe.name))?;
        }
        Ok(metrics)
    }
}
