//! The discriminator of adversarial objectives and its own optimiser.

use std::collections::{BTreeMap, HashMap};

use candle_core::{Device, Tensor};

use crate::loss::adversarial::{Discriminator, discriminator_loss};
use crate::multi_loss::Judged;
use crate::optimiser::{Adam, Slot, initial_slots};
use crate::recipe::{self, Recipe};

/// How the names of a discriminator's tensors begin.
pub const PREFIX: &str = "discriminator.";

/// Keeps the initial weights apart from those of the net, which come from the seed itself.
const SEED_OFFSET: u64 = 0x5eed_d15c;

/// A discriminator in training.
pub struct Adversary {
    config: recipe::Discriminator,
    adam: Adam,
}

impl Adversary {
    /// Fresh weights of the recipe's discriminator; none if it has none.
    pub fn fresh_slots(recipe: &Recipe) -> BTreeMap<String, Slot> {
        let seed = recipe.seed.wrapping_add(SEED_OFFSET);
        let specs = recipe.discriminator.as_ref().map(|config| config.net.tensors());
        specs.map(|specs| initial_slots(&specs, seed)).unwrap_or_default()
    }

    /// The discriminator of `config` with these weights.
    ///
    /// # Errors
    /// A failing device.
    pub fn new(
        recipe: &Recipe,
        config: &recipe::Discriminator,
        slots: BTreeMap<String, Slot>,
        device: &Device,
    ) -> anyhow::Result<Self> {
        let rate = config.learning_rate;
        let optimiser = recipe::Optimiser {
            learning_rate: rate,
            final_learning_rate: recipe.optimiser.final_learning_rate.min(rate),
            ..recipe.optimiser.clone()
        };
        let adam = Adam::new(optimiser, recipe.steps, slots, device)?;
        Ok(Self { config: config.clone(), adam })
    }

    /// What the recipe says of it.
    pub fn config(&self) -> &recipe::Discriminator {
        &self.config
    }

    /// The discriminator as it is, its weights without gradient.
    ///
    /// # Errors
    /// A failing device.
    pub fn judge(&self) -> anyhow::Result<Discriminator> {
        self.net(Tensor::detach)
    }

    /// Values, moments and averages, by name.
    pub fn slots(&self) -> &BTreeMap<String, Slot> {
        self.adam.slots()
    }

    /// Takes step number `step`; returns the mean loss where samples count.
    ///
    /// # Errors
    /// [`Diverged`](crate::optimiser::Diverged); a failing device.
    pub fn step(&mut self, step: u64, judged: &Judged) -> anyhow::Result<f64> {
        let net = self.net(Tensor::clone)?;
        let (real, fake) = (net.forward(&judged.real)?, net.forward(&judged.fake)?);
        let per_sample = discriminator_loss(self.config.loss, &real, &fake)?;
        let sum = (per_sample * &judged.weights)?.sum_all()?;
        let weight = f64::from(judged.weights.sum_all()?.to_scalar::<f32>()?);
        let loss = (sum / weight.max(f64::MIN_POSITIVE))?;
        if weight == 0.0 {
            return Ok(0.0);
        }
        self.adam.step(step, &loss.backward()?)?;
        Ok(f64::from(loss.to_scalar::<f32>()?))
    }

    fn net(&self, of: impl Fn(&Tensor) -> Tensor) -> anyhow::Result<Discriminator> {
        let tensors: HashMap<String, Tensor> = self
            .adam
            .vars()
            .iter()
            .map(|(name, var)| (name.clone(), of(var.as_tensor())))
            .collect();
        Discriminator::from_tensors(&self.config.net, &tensors)
    }
}
