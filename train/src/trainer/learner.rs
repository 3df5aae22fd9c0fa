//! What training changes: the net's weights and all that goes with them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use candle_core::{Device, Module as _, Tensor};
use tunableconv::checkpoint::{Calibration, Checkpoint, DataSet, Metadata, Provenance};
use tunableconv::engine::InputScale;
use tunableconv::net::Net;
use tunableconv::nn::{FoldedNet, TensorSpec};

use super::transfer::{Transfer, transfer};
use super::window::Window;
use crate::adversary::{self, Adversary};
use crate::collapse::{collapse, only_direct, trained_tensors};
use crate::loss::features::FeatureNet;
use crate::multi_loss::{DeviceBatch, Evaluation, Made, MultiLoss};
use crate::optimiser::{Adam, Slot, initial_slots};
use crate::quantised::{QuantisedNet, initial_ranges, project_ranges, range_names};
use crate::recipe::Recipe;
use crate::run_dir::{Progress, State};

/// The weights a run starts with: fresh ones, or those of the checkpoint `start` where they fit.
///
/// # Errors
/// Weights that do not fit.
pub fn initial_state(
    recipe: &Recipe,
    start: Option<&Checkpoint>,
) -> anyhow::Result<(State, Transfer)> {
    let mut slots = initial_slots(&trained(recipe), recipe.seed);
    slots.extend(Adversary::fresh_slots(recipe));
    let transfer = match (start, &recipe.control) {
        (None, Some(control)) => {
            ensure!(
                !control.frozen || control.base.is_none(),
                "kernels that are frozen at a base come from a checkpoint: give --from"
            );
            Transfer::default()
        }
        (Some(start), Some(control)) => {
            let mut values = control.start(start, &recipe.net, &recipe.tuning)?;
            // What is frozen is all that a difference is trained upon.
            let is_whole = control.frozen || {
                control.start_differences(start, &recipe.net, &recipe.tuning, &mut values)
            };
            for (name, value) in values {
                only_direct(&mut slots, &name);
                // Frozen kernels are not trained.
                slots.entry(name).and_modify(|slot| *slot = value);
            }
            Transfer { is_at_one_tuning: !is_whole, ..Default::default() }
        }
        (None, None) => Transfer::default(),
        (Some(start), None) => {
            let transfer = transfer(&mut slots, start, recipe);
            ensure!(!transfer.taken.is_empty(), "no layer of it fits into the recipe's net");
            transfer
        }
    };
    if recipe.quantised {
        let start = start.context("a quantised recipe starts from a checkpoint: give --from")?;
        let Metadata { architecture, tuning, .. } = &start.metadata;
        let same = (architecture, tuning) == (&recipe.net, &recipe.tuning);
        ensure!(same, "its net or tuning is not that of the recipe, which is quantised");
        let ranges = initial_ranges(start)?;
        for spec in start.metadata.tensors() {
            if let Some(values) = ranges.get(&spec.name) {
                slots.insert(spec.name, Slot::new(spec.shape, values.clone()));
            }
        }
    }
    let means = if recipe.adaptive_weights { vec![0.0; recipe.objectives.len()] } else { vec![] };
    let window = Window::new(recipe.objectives.len());
    let progress = Progress { steps: 0, window, best: None };
    Ok((State { progress, slots, means }, transfer))
}

/// The tensors to train.
fn trained(recipe: &Recipe) -> Vec<TensorSpec> {
    let specs = match &recipe.control {
        Some(control) => control.trained(&recipe.net, &recipe.tuning),
        None => recipe.net.tensors(recipe.tuning.len()),
    };
    trained_tensors(&specs, recipe.overparameterise)
}

/// How many numbers a run of a recipe trains, but for a discriminator's.
#[must_use]
pub fn trained_numbers(recipe: &Recipe) -> usize {
    trained(recipe).iter().map(|spec| spec.shape.iter().product::<usize>()).sum()
}

/// The kernels of a control strategy that are not trained.
fn frozen(recipe: &Recipe, start: Option<&Checkpoint>) -> anyhow::Result<HashMap<String, Tensor>> {
    let Some(control) = recipe.control.as_ref().filter(|control| control.frozen) else {
        return Ok(HashMap::new());
    };
    let values = match start {
        Some(start) => control.start(start, &recipe.net, &recipe.tuning)?,
        None => initial_slots(&control.shared(&recipe.net, &recipe.tuning), recipe.seed),
    };
    let values = values.into_iter();
    let tensor =
        |(name, k): (String, Slot)| Ok((name, Tensor::from_vec(k.value, k.shape, &Device::Cpu)?));
    values.map(tensor).collect()
}

/// Everything that training changes.
pub struct Learner {
    recipe: Arc<Recipe>,
    /// Of a control strategy.
    frozen: HashMap<String, Tensor>,
    /// Where it computes.
    pub device: Device,
    /// Steps taken.
    pub steps: u64,
    adam: Adam,
    adversary: Option<Adversary>,
    multi_loss: MultiLoss,
    metadata: Metadata,
}

/// What one step came to.
pub struct Taken {
    /// What was minimised.
    pub loss: f32,
    /// Before clipping.
    pub gradient_norm: f64,
    /// The losses.
    pub evaluation: Evaluation,
    /// Of an adversarial recipe.
    pub discriminator_loss: Option<f64>,
}

impl Learner {
    /// With the weights of `state`.
    ///
    /// # Errors
    /// What the losses need and cannot be read; a failing device.
    pub fn new(
        recipe: Arc<Recipe>,
        features: Option<FeatureNet>,
        origin: Origin,
        state: &State,
    ) -> anyhow::Result<Self> {
        let device = Device::Cpu;
        let mut multi_loss = MultiLoss::new(&recipe, features, &device)?;
        if let Some(own) = multi_loss.means() {
            own.clone_from(&state.means);
        }
        let slots = state.slots.clone().into_iter();
        let (own, slots): (BTreeMap<_, _>, BTreeMap<_, _>) =
            slots.partition(|(name, _)| name.starts_with(adversary::PREFIX));
        let adversary = recipe.discriminator.as_ref();
        let adversary =
            adversary.map(|config| Adversary::new(&recipe, config, own, &device)).transpose()?;
        let adam = Adam::new(recipe.optimiser.clone(), recipe.steps, slots, &device)?;
        let frozen = frozen(&recipe, origin.start.as_ref())?;
        let metadata = metadata(&recipe, origin)?;
        let steps = state.progress.steps;
        Ok(Self { recipe, frozen, device, steps, adam, adversary, multi_loss, metadata })
    }

    /// Takes a step.
    ///
    /// # Errors
    /// [`Diverged`](crate::optimiser::Diverged); a failing device.
    pub fn step(&mut self, batch: &DeviceBatch) -> anyhow::Result<Taken> {
        let made = self.made(self.tensors()?, batch)?;
        let judge = self.adversary.as_ref().map(Adversary::judge).transpose()?;
        let judge = judge.as_ref().zip(self.adversary.as_ref().map(Adversary::config));
        let evaluation = self.multi_loss.evaluate(batch, &made, judge)?;

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

    /// Mean loss of the averaged weights on `batches`, of those losses that can be compared between
    /// steps; see [`MultiLoss::measure`].
    ///
    /// # Errors
    /// A failing device.
    pub fn measure(&self, batches: &[DeviceBatch]) -> anyhow::Result<f64> {
        let averages = self.averages()?;
        let loss = |batch: &DeviceBatch| {
            let made = self.made(averages.clone(), batch)?;
            self.multi_loss.measure(batch, &made)
        };
        mean(batches, loss)
    }

    /// [`Self::measure`] of a net that changes nothing.
    ///
    /// # Errors
    /// A failing device.
    pub fn measure_unfiltered(&self, batches: &[DeviceBatch]) -> anyhow::Result<f64> {
        let view = self.recipe.view();
        let loss = |batch: &DeviceBatch| self.multi_loss.measure(batch, &batch.unfiltered(view)?);
        mean(batches, loss)
    }

    /// What the net with these tensors makes of a batch.
    fn made(&self, tensors: HashMap<String, Tensor>, batch: &DeviceBatch) -> anyhow::Result<Made> {
        let io = self.recipe.net.io();
        if !self.recipe.quantised {
            let folded = self.fold(tensors, batch)?;
            return Ok(batch.filtered(&io, |x| folded.forward(x))?);
        }
        let inputs: Vec<_> =
            batch.ranges.iter().map(|range| InputScale::of_frames(*range, 8)).collect();
        let net = QuantisedNet::new(self.metadata.clone(), tensors)?;
        let folded = net.fold(&batch.tunings, &inputs)?;
        let residual = folded.forward(&batch.input)?;
        Ok(batch.filtered(&io, |_| Ok(residual))?)
    }

    /// The net's averaged tensors.
    fn averages(&self) -> anyhow::Result<HashMap<String, Tensor>> {
        let averages = self.adam.slots().iter().map(|(name, slot)| {
            let average = Tensor::from_slice(&slot.ema, slot.shape.as_slice(), &Device::Cpu)?;
            Ok((name.clone(), average))
        });
        self.net_of(averages.collect::<anyhow::Result<_>>()?)
    }

    /// The net's tensors at this step, to be differentiated.
    fn tensors(&self) -> anyhow::Result<HashMap<String, Tensor>> {
        let vars = self.adam.vars().iter();
        self.net_of(vars.map(|(name, var)| (name.clone(), var.as_tensor().clone())).collect())
    }

    /// The net's tensors from those that are trained.
    fn net_of(&self, trained: HashMap<String, Tensor>) -> anyhow::Result<HashMap<String, Tensor>> {
        let mut trained = collapse(&trained)?;
        let Some(control) = &self.recipe.control else { return Ok(trained) };
        trained.extend(self.frozen.iter().map(|(name, k)| (name.clone(), k.clone())));
        control.net(&self.recipe.net, &self.recipe.tuning, &trained)
    }

    fn fold(
        &self,
        tensors: HashMap<String, Tensor>,
        batch: &DeviceBatch,
    ) -> anyhow::Result<FoldedNet> {
        let net = Net::from_tensors(self.metadata.clone(), tensors, &self.device)?;
        Ok(net.model().fold(&batch.tunings)?)
    }

    /// Share of the channels between layers that are positive somewhere: it falls when a run
    /// collapses. 1 for a net that is no chain.
    ///
    /// # Errors
    /// A failing device.
    pub fn live_channels(&self, batch: &DeviceBatch) -> anyhow::Result<f64> {
        let folded = self.fold(self.tensors()?, batch)?;
        let Some(folded) = folded.chain() else { return Ok(1.0) };
        let (mut live, mut all) = (0.0, 0.0);
        let last = folded.layers.len() - 1;
        folded.forward_showing(&batch.input.detach(), |layer, x| {
            if layer < last {
                let largest = x.detach().max(3)?.max(2)?.max(0)?.to_vec1::<f32>()?;
                live += largest.iter().filter(|v| **v > 0.0).count() as f64;
                all += largest.len() as f64;
            }
            anyhow::Ok(())
        })?;
        Ok(live / f64::max(all, 1.0))
    }

    /// Learning rate of the step just taken.
    #[must_use]
    pub fn learning_rate(&self) -> f64 {
        self.adam.learning_rate(self.steps.saturating_sub(1))
    }

    /// The averaged weights.
    ///
    /// # Errors
    /// A failing device.
    pub fn checkpoint(&self) -> anyhow::Result<Checkpoint> {
        let values = self
            .averages()?
            .into_iter()
            .map(|(name, average)| Ok((name, average.flatten_all()?.to_vec1::<f32>()?)));
        let tensors = values.collect::<anyhow::Result<_>>()?;
        let mut metadata = self.metadata.clone();
        metadata.provenance.steps += self.steps;
        Ok(Checkpoint { metadata, tensors })
    }

    /// What it needs to go on, with this progress.
    #[must_use]
    pub fn state(&mut self, progress: Progress) -> State {
        let mut slots = self.adam.slots().clone();
        slots.extend(self.adversary.iter().flat_map(|a| a.slots().clone()));
        State { progress, slots, means: self.multi_loss.means().cloned().unwrap_or_default() }
    }
}

fn mean(
    batches: &[DeviceBatch],
    loss: impl FnMut(&DeviceBatch) -> anyhow::Result<f64>,
) -> anyhow::Result<f64> {
    let losses = batches.iter().map(loss).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(losses.iter().sum::<f64>() / losses.len() as f64)
}

/// What a run came from besides its recipe.
pub struct Origin {
    /// The data sets that it is trained on.
    pub data: Vec<DataSet>,
    /// The checkpoint that it started from, if it did.
    pub start: Option<Checkpoint>,
}

/// What the checkpoints of a run say of themselves, without the steps of the run itself.
pub(super) fn metadata(
    recipe: &Recipe,
    Origin { data, start }: Origin,
) -> anyhow::Result<Metadata> {
    let degradations =
        recipe.degradations.iter().map(serde_json::to_value).collect::<Result<_, _>>()?;
    let mut metadata = Metadata {
        architecture: recipe.net.clone(),
        tuning: recipe.tuning.clone(),
        provenance: Provenance {
            recipe: recipe.name.clone(),
            seed: recipe.seed,
            steps: 0,
            data,
            crate_version: env!("CARGO_PKG_VERSION").into(),
            degradations,
            parent: start.as_ref().map(Checkpoint::weights_hash),
        },
        calibration: None,
    };
    let Some(Checkpoint { metadata: start, .. }) = start else { return Ok(metadata) };
    let provenance = &mut metadata.provenance;
    provenance.recipe = format!("{}, then {}", start.provenance.recipe, recipe.name);
    provenance.steps = start.provenance.steps;
    for data in start.provenance.data {
        // The same content under another name is the same data.
        let is_same = |other: &DataSet| match (&other.hash, &data.hash) {
            (Some(a), Some(b)) => a == b && other.licence == data.licence,
            _ => *other == data,
        };
        if !provenance.data.iter().any(is_same) {
            provenance.data.push(data);
        }
    }
    if recipe.quantised {
        metadata.calibration = start.calibration.map(|calibration| Calibration {
            data: format!("{}, then trained by {}", calibration.data, recipe.name),
            // What it learns is what int8 computes: activations end at their ranges.
            bounds: true,
            ..calibration
        });
    }
    Ok(metadata)
}
