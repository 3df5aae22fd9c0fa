//! The training loop.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use anyhow::{Context as _, ensure};
use candle_core::{Device, Module as _, Tensor};
use indicatif::{ProgressBar, ProgressStyle};
use tunableconv::checkpoint::{Calibration, Checkpoint, Metadata, Provenance};
use tunableconv::engine::InputScale;
use tunableconv::net::Net;
use tunableconv::nn::FoldedChain;

use crate::adversary::{self, Adversary};
use crate::batch::{Batches, Pictures};
use crate::collapse::{self, collapse, trained_tensors};
use crate::data::ImageFolder;
use crate::loss::features::FeatureNet;
use crate::multi_loss::{DeviceBatch, Evaluation, MultiLoss};
use crate::optimiser::{Adam, Slot, initial_slots};
use crate::pairs::PairFolder;
use crate::quantised::{QuantisedNet, initial_ranges, project_ranges, range_names};
use crate::recipe::Recipe;
use crate::run_dir::{DataRecord, Metrics, RunDir, State};

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

/// What a run reads besides its recipe.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Folders of clean images.
    pub folders: Vec<PathBuf>,
    /// Folders of pairs of clips, for recorded degradations.
    pub pairs: Vec<PathBuf>,
    /// Weights of a feature network, for losses on features.
    pub features: Option<PathBuf>,
}

/// Trains `recipe` in a new run directory, from fresh weights or those of the checkpoint `from`.
///
/// # Errors
/// Unusable images or features, a checkpoint of another net, an existing run, a diverging run, or a
/// failed write.
pub fn start(
    recipe: Recipe,
    sources: &Sources,
    from: Option<&Path>,
    run: &Path,
    cadence: Cadence,
) -> anyhow::Result<PathBuf> {
    let start = from.map(Checkpoint::read).transpose()?;
    initial_state(&recipe, start.as_ref()).with_context(|| match from {
        Some(path) => format!("cannot start from {}", path.display()),
        None => "cannot start".into(),
    })?;
    let loaded = Loaded::new(sources, &recipe)?;
    let dir = RunDir::create(run, &recipe, &loaded.record, start.as_ref())?;
    train(recipe, loaded, &dir, cadence)
}

/// Continues the run in `run` to its last step; the weights become those of an uninterrupted run.
///
/// # Errors
/// As [`start`], and when `run` holds no run or the sources differ.
pub fn resume(sources: &Sources, run: &Path, cadence: Cadence) -> anyhow::Result<PathBuf> {
    let (dir, recipe) = RunDir::open(run)?;
    let loaded = Loaded::new(sources, &recipe)?;
    dir.check_data(&loaded.record)?;
    train(recipe, loaded, &dir, cadence)
}

struct Loaded {
    pictures: Arc<Pictures>,
    features: Option<FeatureNet>,
    record: DataRecord,
}

impl Loaded {
    fn new(sources: &Sources, recipe: &Recipe) -> anyhow::Result<Self> {
        let used = sources.features.as_deref().filter(|_| recipe.needs_features());
        ensure!(
            used.is_some() || !recipe.needs_features(),
            "the recipe has losses on features: give --features FILE"
        );
        let features = used.map(|path| FeatureNet::load(path, &Device::Cpu)).transpose()?;
        let (side, folders) = (recipe.batch.crop, &sources.folders);
        ensure!(
            !(recipe.needs_pairs() && sources.pairs.is_empty()),
            "the recipe has a recorded degradation: give --pairs DIR"
        );
        let images = ImageFolder::load(folders, side)?;
        eprintln!("{} images, {} skipped", images.len(), images.skipped());
        let pairs = recipe.needs_pairs().then(|| PairFolder::load(&sources.pairs, side));
        let pairs = pairs.transpose()?;
        if let Some(pairs) = &pairs {
            eprintln!("{} pairs of frames, {} clips skipped", pairs.len(), pairs.skipped());
        }
        let frames = pairs.as_ref().map(PairFolder::len);
        let record = DataRecord::new(folders, &images, frames, used)?;
        Ok(Self { pictures: Arc::new(Pictures { images, pairs }), features, record })
    }
}

/// The weights a run starts with: fresh ones, or those of the checkpoint `start`.
fn initial_state(recipe: &Recipe, start: Option<&Checkpoint>) -> anyhow::Result<State> {
    let specs = recipe.net.tensors(recipe.tuning.len());
    let mut slots = initial_slots(&trained_tensors(&specs, recipe.overparameterise), recipe.seed);
    slots.extend(Adversary::fresh_slots(recipe));
    if let Some(start) = start {
        let Metadata { architecture, tuning, .. } = &start.metadata;
        let same = (architecture, tuning) == (&recipe.net, &recipe.tuning);
        ensure!(same, "its net or tuning is not that of the recipe");
        for (name, slot) in &mut slots {
            if let Some(values) = start.tensors.get(name) {
                *slot = Slot::new(slot.shape.clone(), values.clone());
            } else if name.ends_with(collapse::SECOND) {
                // The product of the factors is 0: the kernel is the checkpoint's.
                *slot = Slot::new(slot.shape.clone(), vec![0.0; slot.value.len()]);
            }
        }
    }
    if recipe.quantised {
        let start = start.context("a quantised recipe starts from a checkpoint: give --from")?;
        let ranges = initial_ranges(start)?;
        for spec in start.metadata.tensors() {
            if let Some(values) = ranges.get(&spec.name) {
                slots.insert(spec.name, Slot::new(spec.shape, values.clone()));
            }
        }
    }
    let means = if recipe.adaptive_weights { vec![0.0; recipe.objectives.len()] } else { vec![] };
    Ok(State { steps: 0, slots, means })
}

fn train(
    recipe: Recipe,
    loaded: Loaded,
    dir: &RunDir,
    cadence: Cadence,
) -> anyhow::Result<PathBuf> {
    let recipe = Arc::new(recipe);
    let Loaded { pictures, features, .. } = loaded;
    let mut learner = Learner::new(recipe.clone(), features, dir)?;
    let first = learner.steps;
    dir.rewind_log(first)?;
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut batches = Batches::start(&recipe, &pictures, first..recipe.steps, threads)?;

    if first == recipe.steps {
        // Nothing left to train; the checkpoint may come from an older version.
        learner.save(dir)?;
    }
    let bar = progress_bar(&recipe, first);
    let mut window = Window::new(recipe.objectives.len());
    while learner.steps < recipe.steps {
        let batch = batches.next().context("a batch thread stopped early")?;
        let batch = DeviceBatch::new(&batch, &recipe, &learner.device)?;
        let taken = learner.step(&batch)?;
        window.add(&taken);

        let (done, last) = (learner.steps, learner.steps == recipe.steps);
        if done.is_multiple_of(cadence.log_every) || last {
            let live_channels = learner.live_channels(&batch)?;
            let learning_rate = learner.adam.learning_rate(done - 1);
            let metrics = window.take(done, learning_rate, live_channels);
            dir.log(&metrics)?;
            let psnr = metrics.psnr_db.map_or(String::new(), |psnr| format!("  {psnr:.2} dB"));
            bar.set_message(format!("loss {:.4}{psnr}", metrics.loss));
        }
        if done.is_multiple_of(cadence.save_every) || last {
            learner.save(dir)?;
        }
        bar.set_position(done);
    }
    bar.finish();
    Ok(dir.checkpoint_path())
}

/// Everything that training changes.
struct Learner {
    recipe: Arc<Recipe>,
    device: Device,
    steps: u64,
    adam: Adam,
    adversary: Option<Adversary>,
    multi_loss: MultiLoss,
    metadata: Metadata,
}

/// What one step came to.
struct Taken {
    loss: f32,
    gradient_norm: f64,
    evaluation: Evaluation,
    discriminator_loss: Option<f64>,
}

impl Learner {
    /// As the run left it, or at its start.
    fn new(
        recipe: Arc<Recipe>,
        features: Option<FeatureNet>,
        dir: &RunDir,
    ) -> anyhow::Result<Self> {
        let device = Device::Cpu;
        let start = dir.start()?;
        let initial = initial_state(&recipe, start.as_ref())?;
        let State { steps, slots, means } = dir.read_state(&initial)?.unwrap_or(initial);
        let mut multi_loss = MultiLoss::new(&recipe, features, &device)?;
        if let Some(own) = multi_loss.means() {
            *own = means;
        }
        let (own, slots): (BTreeMap<_, _>, BTreeMap<_, _>) =
            slots.into_iter().partition(|(name, _)| name.starts_with(adversary::PREFIX));
        let adversary = recipe.discriminator.as_ref();
        let adversary =
            adversary.map(|config| Adversary::new(&recipe, config, own, &device)).transpose()?;
        let adam = Adam::new(recipe.optimiser.clone(), recipe.steps, slots, &device)?;
        let metadata = metadata(&recipe, start.map(|start| start.metadata));
        Ok(Self { recipe, device, steps, adam, adversary, multi_loss, metadata })
    }

    fn step(&mut self, batch: &DeviceBatch) -> anyhow::Result<Taken> {
        let tensors = self.tensors()?;
        let residual = if self.recipe.quantised {
            let inputs: Vec<_> =
                batch.ranges.iter().map(|range| InputScale::of_frames(*range, 8)).collect();
            let net = QuantisedNet::new(self.metadata.clone(), tensors)?;
            net.fold(&batch.tunings, &inputs)?.forward(&batch.input)?
        } else {
            self.fold(tensors, batch)?.forward(&batch.input)?
        };
        let judge = self.adversary.as_ref().map(Adversary::judge).transpose()?;
        let judge = judge.as_ref().zip(self.adversary.as_ref().map(Adversary::config));
        let evaluation = self.multi_loss.evaluate(batch, &residual, judge)?;

        let gradient_norm = self.adam.step(self.steps, &evaluation.total.backward()?)?;
        if self.recipe.quantised {
            for name in range_names(&self.metadata) {
                self.adam.project(&name, project_ranges)?;
            }
        }
        let discriminator_loss = match (&mut self.adversary, &evaluation.judged) {
            (Some(adversary), Some(judged)) => Some(adversary.step(self.steps, judged)?),
            _ => None,
        };
        self.steps += 1;
        let loss = evaluation.total.to_scalar::<f32>()?;
        Ok(Taken { loss, gradient_norm, evaluation, discriminator_loss })
    }

    /// The net's tensors at this step, to be differentiated.
    fn tensors(&self) -> anyhow::Result<HashMap<String, Tensor>> {
        let vars = self.adam.vars().iter();
        let trained = vars.map(|(name, var)| (name.clone(), var.as_tensor().clone())).collect();
        Ok(collapse(&trained)?)
    }

    fn fold(
        &self,
        tensors: HashMap<String, Tensor>,
        batch: &DeviceBatch,
    ) -> anyhow::Result<FoldedChain> {
        let net = Net::from_tensors(self.metadata.clone(), tensors, &self.device)?;
        Ok(net.model().fold(&batch.tunings)?)
    }

    /// Share of the channels between layers that are positive somewhere: it falls when a run
    /// collapses.
    fn live_channels(&self, batch: &DeviceBatch) -> anyhow::Result<f64> {
        let folded = self.fold(self.tensors()?, batch)?;
        let (mut live, mut all) = (0.0, 0.0);
        let mut x = batch.input.detach();
        for layer in &folded.layers[..folded.layers.len() - 1] {
            x = layer.forward(&x)?.detach();
            let largest = x.max(3)?.max(2)?.max(0)?.to_vec1::<f32>()?;
            live += largest.iter().filter(|v| **v > 0.0).count() as f64;
            all += largest.len() as f64;
        }
        Ok(live / f64::max(all, 1.0))
    }

    /// Writes the checkpoint of the averaged weights, and the state.
    fn save(&mut self, dir: &RunDir) -> anyhow::Result<()> {
        let averages = self.adam.slots().iter().map(|(name, slot)| {
            let average = Tensor::from_slice(&slot.ema, slot.shape.as_slice(), &Device::Cpu)?;
            Ok((name.clone(), average))
        });
        let averages = collapse(&averages.collect::<anyhow::Result<_>>()?)?;
        let values = averages
            .into_iter()
            .map(|(name, average)| Ok((name, average.flatten_all()?.to_vec1::<f32>()?)));
        let tensors = values.collect::<anyhow::Result<_>>()?;
        let mut metadata = self.metadata.clone();
        metadata.provenance.steps += self.steps;
        Checkpoint { metadata, tensors }.write(&dir.checkpoint_path())?;

        let mut slots = self.adam.slots().clone();
        slots.extend(self.adversary.iter().flat_map(|a| a.slots().clone()));
        let means = self.multi_loss.means().cloned().unwrap_or_default();
        dir.write_state(&State { steps: self.steps, slots, means })
    }
}

/// What the checkpoints of a run say of themselves, without the steps of the run itself.
fn metadata(recipe: &Recipe, start: Option<Metadata>) -> Metadata {
    let mut metadata = Metadata {
        architecture: recipe.net.clone(),
        tuning: recipe.tuning.clone(),
        provenance: Provenance {
            recipe: recipe.name.clone(),
            seed: recipe.seed,
            steps: 0,
            data: recipe.data.clone(),
            crate_version: env!("CARGO_PKG_VERSION").into(),
        },
        calibration: None,
    };
    let Some(start) = start else { return metadata };
    let provenance = &mut metadata.provenance;
    provenance.recipe = format!("{}, then {}", start.provenance.recipe, recipe.name);
    provenance.steps = start.provenance.steps;
    for data in start.provenance.data {
        if !provenance.data.contains(&data) {
            provenance.data.push(data);
        }
    }
    if recipe.quantised {
        metadata.calibration = start.calibration.map(|calibration| Calibration {
            data: format!("{}, then trained by {}", calibration.data, recipe.name),
            ..calibration
        });
    }
    metadata
}

/// Sums since the last line of the log.
#[derive(Default)]
struct Window {
    steps: f64,
    loss: f64,
    luma_error: Option<f64>,
    gradient_norm: f64,
    discriminator_loss: Option<f64>,
    objectives: Vec<(f64, f64)>,
}

impl Window {
    fn new(objectives: usize) -> Self {
        Self { objectives: vec![(0.0, 0.0); objectives], ..Default::default() }
    }

    fn add(&mut self, taken: &Taken) {
        self.steps += 1.0;
        self.loss += f64::from(taken.loss);
        self.gradient_norm += taken.gradient_norm;
        let sum = |total: &mut Option<f64>, value: Option<f64>| {
            if let Some(value) = value {
                *total = Some(total.unwrap_or(0.0) + value);
            }
        };
        sum(&mut self.luma_error, taken.evaluation.luma_error);
        sum(&mut self.discriminator_loss, taken.discriminator_loss);
        for (total, step) in self.objectives.iter_mut().zip(&taken.evaluation.sums) {
            *total = (total.0 + step.0, total.1 + step.1);
        }
    }

    fn take(&mut self, step: u64, learning_rate: f64, live_channels: f64) -> Metrics {
        let taken = std::mem::replace(self, Self::new(self.objectives.len()));
        let steps = taken.steps;
        Metrics {
            step,
            loss: taken.loss / steps,
            psnr_db: taken.luma_error.map(|error| -10.0 * (error / steps).log10()),
            learning_rate,
            gradient_norm: taken.gradient_norm / steps,
            live_channels,
            objectives: taken.objectives.iter().map(|(sum, weight)| sum / weight).collect(),
            discriminator_loss: taken.discriminator_loss.map(|loss| loss / steps),
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
