//! Trains and measures what has not been yet.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use candle_core::{Device, Module as _, Tensor};
use tunableconv::checkpoint::Checkpoint;
use tunableconv::net::Net;
use tunableconv::nn::TensorSpec;

use super::choice::{Choice, Rates};
use super::contenders::{self, Contender, Way, oracle_name};
use super::measure::{Measure, SIDE};
use super::{Outcome, Point, Results, Task};
use crate::batch::Pictures;
use crate::content::hash_bytes;
use crate::data::{ImageFolder, Keep};
use crate::loss::features::FeatureNet;
use crate::optimiser::Diverged;
use crate::recipe::Recipe;
use crate::tell;
use crate::trainer::{self, CadenceChange, Sources, Stop, trained_numbers};

/// How it is measured; another name makes another comparison.
const MEASURED: &str = "by the error of all pictures";

/// What a comparison is made with.
pub struct Settings {
    /// What to compare on.
    pub task: &'static Task,
    /// Pictures to train on, and what else runs need.
    pub sources: Sources,
    /// Folders of pictures to measure on.
    pub test: Vec<PathBuf>,
    /// Crops of them.
    pub pictures: usize,
    /// Folder of the runs.
    pub runs: PathBuf,
    /// File of the results.
    pub results: PathBuf,
    /// Steps of each run, instead of the task's.
    pub steps: Option<u64>,
    /// Learning rates to choose from, for each contender and oracle by itself.
    pub rates: Rates,
}

/// A comparison on its way.
pub struct Runner {
    settings: Settings,
    results: Results,
    measure: Measure,
    choice: Option<Choice>,
    /// Of [`Outcome::comparison`].
    comparison: String,
}

/// Whether there is more to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// What was asked for is there.
    Done,
    /// It was asked to stop, and goes on from there another time.
    Stopped,
}

impl Runner {
    /// Reads the results there are, and the test pictures.
    ///
    /// # Errors
    /// Pictures or features that cannot be read; results that are none, or of another comparison.
    pub fn new(settings: Settings) -> anyhow::Result<Self> {
        let task = settings.task;
        let recipe = task.recipe()?;
        let features = settings.sources.features.as_deref().filter(|_| recipe.needs_features());
        ensure!(
            features.is_some() || !recipe.needs_features(),
            "`{}` has losses on features: give --features FILE",
            task.name
        );
        let choice = Choice::new(
            settings.rates.clone(),
            SIDE + 2 * recipe.batch.halo,
            settings.pictures,
            features.map(Path::to_owned),
        )?;
        let features = features.map(|path| FeatureNet::load(path, &Device::Cpu)).transpose()?;
        let span = SIDE + 2 * recipe.batch.halo;
        let images = ImageFolder::load(&settings.test, span, Keep::Everything)?;
        let steps = settings.steps.unwrap_or(recipe.steps);
        let text = Recipe { steps, ..recipe }.to_toml()?;
        let mut told = format!("{MEASURED} {} {} {text}", settings.pictures, images.hash());
        told.extend(choice.as_ref().map(Choice::id));
        let comparison = short_hash(&told);
        let pictures = Pictures { images, pairs: None };
        let measure = Measure::new(task, task.points, features, &pictures, settings.pictures)?;
        let results = Results::read(&settings.results)?;
        ensure!(
            results.outcomes().iter().all(|own| own.comparison == comparison),
            "{} holds another comparison: other steps, rates, test pictures or another recipe; give another folder \
             with --results",
            settings.results.display()
        );
        Ok(Self { settings, results, measure, choice, comparison })
    }

    /// Trains and measures a contender, and the oracles that it needs.
    ///
    /// # Errors
    /// A run that fails; results that cannot be written.
    pub fn contender(
        &mut self,
        contender: &Contender,
        seed: u64,
        stop: Stop<'_>,
    ) -> anyhow::Result<Progress> {
        match contender.way {
            Way::Blend => self.blend(contender, seed, stop),
            Way::Trained(_) | Way::TrainedTwice(_) => {
                let task = self.settings.task;
                let recipe = contender.recipe(task, seed)?.context("it is trained")?;
                let from = match contender.way {
                    Way::TrainedTwice(_) => Some(task.base),
                    _ => None,
                };
                self.net(contender.name, recipe, from, task.points, seed, stop)
            }
        }
    }

    /// Trains and measures the oracle of a tuning.
    ///
    /// # Errors
    /// As [`Self::contender`].
    pub fn oracle(
        &mut self,
        tuning: &[f64],
        seed: u64,
        stop: Stop<'_>,
    ) -> anyhow::Result<Progress> {
        let recipe = contenders::oracle(self.settings.task, tuning, seed)?;
        self.net(&oracle_name(tuning), recipe, None, &[tuning], seed, stop)
    }

    fn net(
        &mut self,
        name: &str,
        recipe: Recipe,
        from: Option<&[f64]>,
        tunings: &[&[f64]],
        seed: u64,
        stop: Stop<'_>,
    ) -> anyhow::Result<Progress> {
        let first =
            from.map(|base| contenders::oracle(self.settings.task, base, seed)).transpose()?;
        let id = self.id([Some(&recipe), first.as_ref()])?;
        if self.has(name, seed, &id) {
            return Ok(Progress::Done);
        }
        if let Some(base) = from
            && self.oracle(base, seed, stop)? == Progress::Stopped
        {
            return Ok(Progress::Stopped);
        }
        let start = from.map(|base| self.kept(&oracle_name(base), seed)).transpose()?;
        let Some(Trained { checkpoint, net, seconds: own_seconds, learning_rate }) =
            self.best(name, &recipe, start.as_deref(), tunings, seed, stop)?
        else {
            return Ok(Progress::Stopped);
        };
        let filter = |omega: &Tensor, x: &Tensor| filtered(&net, omega, x);
        let architecture = &recipe.net;
        let kernels: Vec<_> = architecture.tensors(recipe.tuning.len());
        // What is mixed, but not φ.
        let banked = |spec: &&TensorSpec| !spec.name.contains(".mlp.");
        let numbers = |shape: &[usize]| shape.iter().product::<usize>();
        let folded = kernels.iter().filter(banked).map(|spec| numbers(&spec.shape[2..])).sum();
        let folding = kernels.iter().map(|spec| numbers(&spec.shape)).sum::<usize>();
        let mut seconds = own_seconds;
        if let Some(base) = from {
            let first = self.results.get(&oracle_name(base), seed);
            seconds = first.and_then(|first| Some(first.seconds? + own_seconds?));
        }
        let outcome = Outcome {
            contender: name.into(),
            seed,
            comparison: self.comparison.clone(),
            recipe: id,
            pictures: self.settings.pictures,
            steps: checkpoint.metadata.provenance.steps,
            learning_rate,
            seconds,
            trained: [Some(&recipe), first.as_ref()]
                .into_iter()
                .flatten()
                .map(trained_numbers)
                .sum(),
            folded,
            folding: folding as f64,
            macs: architecture.macs(),
            points: self.measure.points(&filter)?,
            response: self.measure.response(&filter)?,
        };
        self.put(outcome)
    }

    /// The outputs of the corners' oracles, mixed; leaving all alone needs no net.
    fn blend(
        &mut self,
        contender: &Contender,
        seed: u64,
        stop: Stop<'_>,
    ) -> anyhow::Result<Progress> {
        let task = self.settings.task;
        let space = task.recipe()?.tuning;
        let corners: Vec<Vec<f64>> = space
            .corners()
            .map(|corner| corner.values().iter().map(|value| f64::from(*value)).collect())
            .collect();
        let leaves = |corner: &Vec<f64>| corner.iter().all(|value| *value == 0.0);
        let recipes = corners.iter().filter(|corner| !leaves(corner));
        let recipes: Vec<Recipe> =
            recipes.map(|c| contenders::oracle(task, c, seed)).collect::<anyhow::Result<_>>()?;
        let id = self.id(recipes.iter().map(Some))?;
        if self.has(contender.name, seed, &id) {
            return Ok(Progress::Done);
        }
        let mut nets = vec![];
        for corner in &corners {
            if leaves(corner) {
                nets.push(None);
                continue;
            }
            if self.oracle(corner, seed, stop)? == Progress::Stopped {
                return Ok(Progress::Stopped);
            }
            let checkpoint = Checkpoint::read(&self.kept(&oracle_name(corner), seed)?)?;
            let corner: Vec<f32> = corner.iter().map(|value| *value as f32).collect();
            let omega = Tensor::from_vec(corner, (1, space.len()), &Device::Cpu)?;
            nets.push(Some(Net::new(&checkpoint, &Device::Cpu)?.model().fold(&omega)?));
        }
        let filter = |omega: &Tensor, x: &Tensor| -> anyhow::Result<Tensor> {
            let mut weights = vec![0.0; nets.len()];
            space.corner_weights(&omega.flatten_all()?.to_vec1::<f32>()?, &mut weights);
            let mut sum = x.zeros_like()?;
            for (net, weight) in nets.iter().zip(weights) {
                // Nets give what is added to the picture.
                if let Some(net) = net {
                    sum = (sum + (net.forward(x)? * f64::from(weight))?)?;
                }
            }
            Ok(sum)
        };
        let mut outcomes = vec![];
        for corner in corners.iter().filter(|corner| !leaves(corner)) {
            let oracle = self.results.get(&oracle_name(corner), seed);
            outcomes.push(oracle.context("measured above")?.clone());
        }
        let sum = |of: &dyn Fn(&Outcome) -> f64| outcomes.iter().map(of).sum::<f64>();
        let outcome = Outcome {
            contender: contender.name.into(),
            seed,
            comparison: self.comparison.clone(),
            recipe: id,
            pictures: self.settings.pictures,
            steps: outcomes.iter().map(|outcome| outcome.steps).sum(),
            learning_rate: None,
            seconds: outcomes.iter().map(|outcome| outcome.seconds).sum(),
            trained: outcomes.iter().map(|outcome| outcome.trained).sum(),
            folded: outcomes.iter().map(|outcome| outcome.folded).sum(),
            folding: 0.0,
            macs: sum(&|outcome| outcome.macs),
            points: self.measure.points(&filter)?,
            response: self.measure.response(&filter)?,
        };
        self.put(outcome)
    }

    /// What tells that an outcome is still of these recipes and test pictures.
    fn id<'r>(
        &self,
        recipes: impl IntoIterator<Item = Option<&'r Recipe>>,
    ) -> anyhow::Result<String> {
        let mut text = self.comparison.clone();
        for mut recipe in recipes.into_iter().flatten().cloned() {
            recipe.steps = self.settings.steps.unwrap_or(recipe.steps);
            text += &recipe.to_toml()?;
        }
        Ok(short_hash(&text))
    }

    fn has(&self, name: &str, seed: u64, id: &str) -> bool {
        self.results.get(name, seed).is_some_and(|outcome| outcome.recipe == id)
    }

    /// Where a run is; one at a rate that was chosen from several says which.
    fn run_dir(&self, name: &str, seed: u64, rate: Option<f64>) -> PathBuf {
        let rate = rate.map(|rate| format!("-{rate:e}")).unwrap_or_default();
        let folder = self.settings.runs.join(self.settings.task.name);
        folder.join(format!("{name}-{seed}{rate}"))
    }

    /// The checkpoint of a net that has been measured.
    fn kept(&self, name: &str, seed: u64) -> anyhow::Result<PathBuf> {
        let outcome = self.results.get(name, seed).context("measured before")?;
        let run = self.run_dir(name, seed, outcome.learning_rate);
        Ok(run.join("checkpoint.safetensors"))
    }

    /// A run at each of the rates that there are to choose from, of which the best is given; `None` if it was
    /// stopped. Where a contender is about the rate, it keeps its own; where another seed has chosen, that holds.
    fn best(
        &self,
        name: &str,
        recipe: &Recipe,
        from: Option<&Path>,
        tunings: &[&[f64]],
        seed: u64,
        stop: Stop<'_>,
    ) -> anyhow::Result<Option<Trained>> {
        let task = self.settings.task;
        let has_own = recipe.optimiser.learning_rate != task.recipe()?.optimiser.learning_rate;
        let Some(choice) = self.choice.as_ref().filter(|_| !has_own) else {
            return self.trained(name, recipe, None, from, seed, stop);
        };
        if let Some(rate) = self.results.rate(name, seed) {
            return self.trained(name, recipe, Some(rate), from, seed, stop);
        }
        let mut best: Option<(f64, Trained)> = None;
        for &rate in choice.rates() {
            let own = match self.trained(name, recipe, Some(rate), from, seed, stop) {
                Ok(Some(own)) => own,
                Ok(None) => return Ok(None),
                Err(error) if error.is::<Diverged>() => {
                    tell!("{name}, seed {seed}, learning rate {rate:e}: {error:#}");
                    continue;
                }
                Err(error) => return Err(error),
            };
            let loss = choice.loss(task, tunings, &|omega, x| filtered(&own.net, omega, x))?;
            tell!(
                "{name}, seed {seed}, learning rate {rate:e}: {loss:.5} on the pictures to choose on"
            );
            // One that diverged is not finite.
            if best.as_ref().is_none_or(|(least, _)| loss < *least || !least.is_finite()) {
                best = Some((loss, own));
            }
        }
        let (_, own) =
            best.with_context(|| format!("{name}, seed {seed}: it diverged at all --rates"))?;
        Ok(Some(own))
    }

    /// A run, at this rate or its recipe's, with how long it took if it was done at once; `None` if it was
    /// stopped.
    fn trained(
        &self,
        name: &str,
        recipe: &Recipe,
        rate: Option<f64>,
        from: Option<&Path>,
        seed: u64,
        stop: Stop<'_>,
    ) -> anyhow::Result<Option<Trained>> {
        let run = self.run_dir(name, seed, rate);
        let mut recipe = recipe.clone();
        recipe.steps = self.settings.steps.unwrap_or(recipe.steps);
        recipe.optimiser.learning_rate = rate.unwrap_or(recipe.optimiser.learning_rate);
        tell!("{}, seed {seed}", recipe.name);
        let sources = self.settings.sources.clone();
        let cadence = CadenceChange::default();
        let start = Instant::now();
        let is_resumed = run.join("state.safetensors").exists();
        let outcome = if is_resumed {
            let kept = Recipe::read(&run.join("recipe.toml"))?;
            ensure!(
                kept == recipe,
                "{} is a run of another recipe: remove it to begin anew",
                run.display()
            );
            trainer::resume(sources, &run, None, cadence, stop)?
        } else {
            if let Some(folder) = run.parent() {
                std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
            }
            trainer::start(recipe, sources, from, &run, cadence, stop)?
        };
        match outcome {
            trainer::Outcome::Stopped { .. } => Ok(None),
            trainer::Outcome::Finished(path) => {
                let seconds = (!is_resumed).then(|| start.elapsed().as_secs_f64().round());
                let checkpoint = Checkpoint::read(&path)?;
                let net = Net::new(&checkpoint, &Device::Cpu)?;
                Ok(Some(Trained { checkpoint, net, seconds, learning_rate: rate }))
            }
        }
    }

    fn put(&mut self, outcome: Outcome) -> anyhow::Result<Progress> {
        let told: Vec<String> =
            outcome.points.iter().map(|Point { psnr, .. }| format!("{psnr:.2}")).collect();
        tell!("{}, seed {}: {} dB", outcome.contender, outcome.seed, told.join(" "));
        self.results.put(outcome)?;
        Ok(Progress::Done)
    }
}

/// What a run came to.
struct Trained {
    checkpoint: Checkpoint,
    net: Net,
    seconds: Option<f64>,
    /// If it was one of several.
    learning_rate: Option<f64>,
}

/// What a net gives at a tuning.
fn filtered(net: &Net, omega: &Tensor, x: &Tensor) -> anyhow::Result<Tensor> {
    Ok(net.model().fold(omega)?.forward(x)?)
}

fn short_hash(text: &str) -> String {
    hash_bytes(text.as_bytes()).to_hex()[..16].to_owned()
}
