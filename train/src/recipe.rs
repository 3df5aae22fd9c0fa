//! Recipes: everything that decides the weights of a training run, but the images.

use std::path::Path;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use tunableconv::checkpoint::{Architecture, DataSet};
use tunableconv::tuning::{Domain, TuningSpace};

use crate::degrade::Degradation;

/// A recipe, as its TOML file holds it; unknown keys are refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Short name; ends up in the checkpoint.
    pub name: String,
    /// Seed of the initial weights and of every random choice.
    pub seed: u64,
    /// Optimiser steps.
    pub steps: u64,
    /// The net.
    pub net: Architecture,
    /// Its parameters and their domain.
    pub tuning: TuningSpace,
    /// What is done to clean images, in order.
    pub degradations: Vec<Link>,
    /// How batches are put together.
    pub batch: Batch,
    /// Adam and its schedule.
    pub optimiser: Optimiser,
    /// The data sets meant, for the checkpoint's provenance.
    pub data: Vec<DataSet>,
}

/// One degradation and the parameter whose job is to undo it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Name of the parameter that undoes it.
    pub parameter: String,
    /// The degradation and its range of strengths.
    pub degradation: Degradation,
}

/// How batches are put together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// Side of a crop, in luma pixels; even.
    pub crop: usize,
    /// Pixels around a crop that the degradations see.
    pub halo: usize,
    /// Tunings per step: one for each micro-batch.
    pub micro_batches: usize,
    /// Which degradations each sample of a micro-batch has, by their parameters' names; one list
    /// per sample.
    pub samples: Vec<Vec<String>>,
    /// Share of tunings drawn from the corners (other than ω = 0 of a box); the others are uniform
    /// over the domain.
    pub corner_share: f64,
}

/// Adam (Kingma and Ba, 2015) with warm-up, cosine schedule, clipping and averaging.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Optimiser {
    /// Largest learning rate.
    pub learning_rate: f64,
    /// Learning rate at the last step.
    pub final_learning_rate: f64,
    /// Steps of linear warm-up.
    pub warmup_steps: u64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Global gradient norm above which gradients are scaled down.
    pub clip_norm: f64,
    /// Decay per step of the exponential moving average of the weights, which is what is shipped.
    pub ema_decay: f64,
}

impl Recipe {
    /// Reads and validates a recipe.
    ///
    /// # Errors
    /// Names the file, and the key or value at fault.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read recipe {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("recipe {}", path.display()))
    }

    /// Parses and validates the text of a recipe.
    ///
    /// # Errors
    /// Names the key or value at fault.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let recipe: Self = toml::from_str(text)?;
        recipe.validate()?;
        Ok(recipe)
    }

    /// The text of the recipe with every value spelled out.
    ///
    /// # Errors
    /// None for a recipe that was parsed.
    pub fn to_toml(&self) -> anyhow::Result<String> {
        Ok(toml::to_string_pretty(self)?)
    }

    /// Checks what the types cannot.
    ///
    /// # Errors
    /// Names the key or value at fault.
    pub fn validate(&self) -> anyhow::Result<()> {
        self.net.validate()?;
        self.tuning.validate()?;
        ensure!(self.tuning.len() <= 8, "tuning: at most 8 parameters can be trained");
        let unit = |p: &tunableconv::tuning::Parameter| (p.minimum, p.maximum) == (0.0, 1.0);
        let named = self.tuning.parameters.iter().find(|p| !unit(p));
        ensure!(
            named.is_none(),
            "tuning: parameter `{}` must range from 0 to 1: corner targets need it",
            named.map_or("", |p| &p.name)
        );
        ensure!(self.steps > 0, "steps = 0, expected at least 1");

        let known = |name: &str| self.tuning.parameters.iter().any(|p| p.name == name);
        for link in &self.degradations {
            let name = &link.parameter;
            ensure!(known(name), "degradations: no parameter `{name}` in tuning");
            link.degradation.check().with_context(|| format!("degradation of `{name}`"))?;
        }
        let degraded = |name: &String| self.degradations.iter().any(|l| &l.parameter == name);
        for name in self.batch.samples.iter().flatten() {
            ensure!(degraded(name), "batch.samples: no degradation belongs to `{name}`");
        }

        let Batch { crop, micro_batches, samples, corner_share, .. } = &self.batch;
        ensure!(*crop >= 8 && crop.is_multiple_of(2), "batch.crop = {crop}, expected even, ≥ 8");
        ensure!(*crop <= 1024 && self.batch.halo <= 64, "batch: crop ≤ 1024 and halo ≤ 64");
        let size = micro_batches.saturating_mul(samples.len());
        ensure!((1..=4096).contains(&size), "batch: {size} samples a step, expected 1 to 4096");
        ensure!((0.0..=1.0).contains(corner_share), "batch.corner_share: expected 0 to 1");
        self.optimiser.validate()
    }

    /// The degradations alone.
    pub fn chain(&self) -> Vec<Degradation> {
        self.degradations.iter().map(|link| link.degradation.clone()).collect()
    }

    /// The objectives of the domain, each the set of parameters that are on: the 2^p corners of a
    /// box, the p corners of a simplex. Bit j stands for parameter j.
    pub fn corners(&self) -> Vec<usize> {
        let p = self.tuning.len();
        match self.tuning.domain {
            Domain::Box => (0..1 << p).collect(),
            Domain::Simplex => (0..p).map(|j| 1 << j).collect(),
        }
    }

    /// Which degradations the target of a corner keeps: those whose parameter is off there.
    pub fn kept_at(&self, corner: usize) -> Vec<bool> {
        let index = |name: &str| self.tuning.parameters.iter().position(|p| p.name == name);
        let kept = |link: &Link| index(&link.parameter).is_none_or(|j| corner >> j & 1 == 0);
        self.degradations.iter().map(kept).collect()
    }
}

impl Optimiser {
    fn validate(&self) -> anyhow::Result<()> {
        let positive = |name: &str, value: f64| {
            ensure!(value > 0.0 && value.is_finite(), "optimiser.{name} = {value}, expected > 0");
            Ok(())
        };
        positive("learning_rate", self.learning_rate)?;
        positive("clip_norm", self.clip_norm)?;
        ensure!(
            (0.0..=self.learning_rate).contains(&self.final_learning_rate),
            "optimiser.final_learning_rate: expected 0 to learning_rate"
        );
        for (name, value) in
            [("beta1", self.beta1), ("beta2", self.beta2), ("ema_decay", self.ema_decay)]
        {
            ensure!((0.0..1.0).contains(&value), "optimiser.{name} = {value}, expected 0 ≤ x < 1");
        }
        Ok(())
    }
}
