//! The training loop.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use candle_core::{Device, Module as _, Tensor};
use indicatif::{ProgressBar, ProgressStyle};
use tunableconv::checkpoint::{Checkpoint, Metadata, Provenance};
use tunableconv::frame::CHANNELS;
use tunableconv::net::Net;
use tunableconv::nn::FoldedChain;

use crate::batch::{self, HostBatch};
use crate::data::ImageFolder;
use crate::optimiser::{Adam, initial_slots};
use crate::recipe::Recipe;
use crate::run_dir::{DataRecord, Metrics, RunDir};

/// How often a run reports and saves; none of it changes the weights.
#[derive(Clone, Copy, Debug)]
pub struct Cadence {
    /// Steps between lines of the metrics log.
    pub log_every: u64,
    /// Steps between saved states.
    pub save_every: u64,
}

impl Default for Cadence {
    fn default() -> Self {
        Self { log_every: 100, save_every: 500 }
    }
}

/// Trains `recipe` on the images of `folders` in a new run directory.
///
/// # Errors
/// Unusable images, an existing run, a diverging run, or a failed write.
pub fn start(
    recipe: Recipe,
    folders: &[PathBuf],
    run: &Path,
    cadence: Cadence,
) -> anyhow::Result<PathBuf> {
    let (folder, record) = load(folders, &recipe)?;
    let dir = RunDir::create(run, &recipe, &record)?;
    train(recipe, folder, &dir, cadence)
}

/// Continues the run in `run` to its last step; the weights become those of an uninterrupted run.
///
/// # Errors
/// As [`start`], and when `run` holds no run or the images differ.
pub fn resume(folders: &[PathBuf], run: &Path, cadence: Cadence) -> anyhow::Result<PathBuf> {
    let (dir, recipe) = RunDir::open(run)?;
    let (folder, record) = load(folders, &recipe)?;
    dir.check_data(&record)?;
    train(recipe, folder, &dir, cadence)
}

fn load(folders: &[PathBuf], recipe: &Recipe) -> anyhow::Result<(ImageFolder, DataRecord)> {
    let folder = ImageFolder::load(folders, recipe.batch.crop)?;
    eprintln!("{} images, {} skipped", folder.len(), folder.skipped());
    let record = DataRecord::new(folders, &folder);
    Ok((folder, record))
}

fn train(
    recipe: Recipe,
    folder: ImageFolder,
    dir: &RunDir,
    cadence: Cadence,
) -> anyhow::Result<PathBuf> {
    let device = Device::Cpu;
    let recipe = Arc::new(recipe);
    let fresh = initial_slots(&recipe.net.tensors(recipe.tuning.len()), recipe.seed);
    let (first, slots) = dir.read_state(&fresh)?.unwrap_or((0, fresh));
    dir.rewind_log(first)?;

    let mut adam = Adam::new(recipe.optimiser.clone(), recipe.steps, slots, &device)?;
    let tensors: HashMap<String, Tensor> =
        adam.vars().iter().map(|(name, var)| (name.clone(), var.as_tensor().clone())).collect();
    let net = Net::from_tensors(metadata(&recipe, first), tensors, &device)?;
    let batches = batch::stream(recipe.clone(), Arc::new(folder), first..recipe.steps)?;

    if first == recipe.steps {
        // Nothing left to train; the checkpoint may come from an older version.
        save(&recipe, &adam, first, dir)?;
    }
    let bar = progress_bar(&recipe, first);
    let mut window = Window::default();
    for step in first..recipe.steps {
        let batch = batches.recv().context("the batch thread stopped early")?;
        let batch = DeviceBatch::new(&batch, &recipe, &device)?;
        let folded = net.model().fold(&batch.tunings)?;
        let residual = folded.forward(&batch.input)?;
        let errors = (residual - &batch.residual)?.sqr()?;
        let loss = errors.mean((2, 3))?.mul(&batch.scales)?.mean_all()?;
        let gradients = loss.backward()?;
        let norm = adam.step(step, &gradients)?;
        let luma = errors.detach().narrow(1, 0, 4)?.mean_all()?.to_scalar::<f32>()?;
        window.add(loss.to_scalar::<f32>()?, luma, norm);

        let done = step + 1;
        let last = done == recipe.steps;
        if done.is_multiple_of(cadence.log_every) || last {
            let live_channels = live_channels(&folded, &batch.input)?;
            let learning_rate = adam.learning_rate(step);
            let metrics = window.take(done, learning_rate, live_channels);
            dir.log(&metrics)?;
            bar.set_message(format!("loss {:.4}  {:.2} dB", metrics.loss, metrics.psnr_db));
        }
        if done.is_multiple_of(cadence.save_every) || last {
            save(&recipe, &adam, done, dir)?;
        }
        bar.set_position(done);
    }
    bar.finish();
    Ok(dir.checkpoint_path())
}

fn save(recipe: &Recipe, adam: &Adam, steps: u64, dir: &RunDir) -> anyhow::Result<()> {
    let averages = adam.slots().iter().map(|(name, slot)| (name.clone(), slot.ema.clone()));
    let checkpoint = Checkpoint { metadata: metadata(recipe, steps), tensors: averages.collect() };
    checkpoint.write(&dir.checkpoint_path())?;
    dir.write_state(steps, adam.slots())
}

fn metadata(recipe: &Recipe, steps: u64) -> Metadata {
    Metadata {
        architecture: recipe.net.clone(),
        tuning: recipe.tuning.clone(),
        provenance: Provenance {
            recipe: recipe.name.clone(),
            seed: recipe.seed,
            steps,
            data: recipe.data.clone(),
            crate_version: env!("CARGO_PKG_VERSION").into(),
        },
        calibration: None,
    }
}

struct DeviceBatch {
    tunings: Tensor,
    input: Tensor,
    residual: Tensor,
    scales: Tensor,
}

impl DeviceBatch {
    fn new(batch: &HostBatch, recipe: &Recipe, device: &Device) -> anyhow::Result<Self> {
        let (n, side) = (batch.scales.len() / CHANNELS, recipe.batch.crop / 2);
        let shape = (n, CHANNELS, side, side);
        let tunings = (recipe.batch.micro_batches, recipe.tuning.len());
        Ok(Self {
            tunings: Tensor::from_slice(&batch.tunings, tunings, device)?,
            input: Tensor::from_slice(&batch.input, shape, device)?,
            residual: Tensor::from_slice(&batch.residual, shape, device)?,
            scales: Tensor::from_slice(&batch.scales, (n, CHANNELS), device)?,
        })
    }
}

/// Share of the channels between layers that are positive somewhere: it falls when a run collapses.
fn live_channels(folded: &FoldedChain, input: &Tensor) -> anyhow::Result<f64> {
    let (mut live, mut all) = (0.0, 0.0);
    let mut x = input.detach();
    for layer in &folded.layers[..folded.layers.len() - 1] {
        x = layer.forward(&x)?.detach();
        let largest = x.max(3)?.max(2)?.max(0)?.to_vec1::<f32>()?;
        live += largest.iter().filter(|v| **v > 0.0).count() as f64;
        all += largest.len() as f64;
    }
    Ok(live / f64::max(all, 1.0))
}

/// Sums since the last line of the log.
#[derive(Default)]
struct Window {
    steps: f64,
    loss: f64,
    luma_error: f64,
    gradient_norm: f64,
}

impl Window {
    fn add(&mut self, loss: f32, luma_error: f32, gradient_norm: f64) {
        self.steps += 1.0;
        self.loss += f64::from(loss);
        self.luma_error += f64::from(luma_error);
        self.gradient_norm += gradient_norm;
    }

    fn take(&mut self, step: u64, learning_rate: f64, live_channels: f64) -> Metrics {
        let Self { steps, loss, luma_error, gradient_norm } = std::mem::take(self);
        Metrics {
            step,
            loss: loss / steps,
            psnr_db: -10.0 * (luma_error / steps).log10(),
            learning_rate,
            gradient_norm: gradient_norm / steps,
            live_channels,
        }
    }
}

fn progress_bar(recipe: &Recipe, first: u64) -> ProgressBar {
    let style = "{prefix} {wide_bar} {pos}/{len}  {msg}  {per_sec}  ETA {eta}";
    let style =
        ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(recipe.steps).with_style(style).with_prefix(recipe.name.clone());
    bar.set_position(first);
    bar.reset_eta();
    bar
}
