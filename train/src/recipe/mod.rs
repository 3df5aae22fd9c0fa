//! Recipes: everything that decides the weights of a training run, but the images.

mod batch;
mod culprit;
mod link;
mod objective;
mod optimiser;
pub mod templates;

use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};
use tunableconv::checkpoint::Architecture;
use tunableconv::tuning::{Domain, RESERVED_NAMES, TuningSpace};

use crate::control::Control;
use crate::degrade::{Degradation, check_chain};
use crate::loss::{ErrorKind, LossKind};
use crate::view::View;

pub use batch::{Batch, Tunings};
pub use link::{Level, Link};
pub use objective::{Discriminator, Objective, Target};
pub use optimiser::Optimiser;

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
    #[serde(default)]
    pub degradations: Vec<Link>,
    /// What the net is asked for; the targets of all corners if left out.
    #[serde(default = "corner_targets")]
    pub objectives: Vec<Objective>,
    /// Divides each objective by the running mean of its loss, so that weights compare what they
    /// weigh whatever its scale; but for adversarial ones.
    #[serde(default)]
    pub adaptive_weights: bool,
    /// The net that adversarial objectives are trained against.
    #[serde(default)]
    pub discriminator: Option<Discriminator>,
    /// Trains more weights than the net has, see [`crate::collapse`].
    #[serde(default)]
    pub overparameterise: Option<Overparameterise>,
    /// How kernels depend on the tuning where they are not free, see [`crate::control`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<Control>,
    /// Trains the integer arithmetic of the int8 engine and the ranges of its activations, starting
    /// from a calibrated checkpoint, see [`crate::quantised`].
    #[serde(default)]
    pub quantised: bool,
    /// How batches are put together.
    #[serde(default)]
    pub batch: Batch,
    /// Adam and its schedule.
    #[serde(default)]
    pub optimiser: Optimiser,
}

/// Kernels as sums of a direct one and a product of two wider ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overparameterise {
    /// Channels between the two factors of a kernel.
    pub channels: usize,
}

/// Samples of a micro-batch at least, where a recipe does not list them.
const USUAL_SAMPLES: usize = 4;

impl Recipe {
    /// The samples of a recipe that does not list them.
    fn usual_samples(&self) -> Vec<Vec<String>> {
        let mut names: Vec<String> = vec![];
        for name in self.degradations.iter().map(Link::name) {
            if !names.iter().any(|other| other == name) {
                names.push(name.to_owned());
            }
        }
        let alone: Vec<Vec<String>> = names.iter().map(|name| vec![name.clone()]).collect();
        let together = vec![names.clone(); alone.len()];
        let round = [alone, together].concat();
        // Nothing may be degraded.
        let round = if round.is_empty() { vec![vec![]] } else { round };
        let count = round.len().max(USUAL_SAMPLES);
        round.into_iter().cycle().take(count).collect()
    }

    /// Reads and validates a recipe.
    ///
    /// # Errors
    /// Names the file, and the key or value at fault.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read recipe {}", path.display()))?;
        let mut recipe =
            Self::parse(&text).with_context(|| format!("recipe {}", path.display()))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        for objective in &mut recipe.objectives {
            // A run keeps the recipe elsewhere.
            objective.loss.as_loss_mut().resolve(folder)?;
        }
        Ok(recipe)
    }

    /// Parses and validates the text of a recipe.
    ///
    /// # Errors
    /// Names the key or value at fault.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let mut recipe: Self = toml::from_str(text).map_err(|error| explain(text, &error))?;
        if recipe.batch.samples.is_empty() {
            recipe.batch.samples = recipe.usual_samples();
        }
        if recipe.batch.size == 0 {
            recipe.batch.size = recipe.batch.samples.len();
        }
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
        ensure!(!self.tuning.is_empty(), "tuning: no parameters, expected at least 1");
        ensure!(self.tuning.len() <= 8, "tuning: at most 8 parameters can be trained");
        let unit = |p: &tunableconv::tuning::Parameter| (p.minimum, p.maximum) == (0.0, 1.0);
        let named = self.tuning.parameters.iter().find(|p| !unit(p));
        ensure!(
            named.is_none(),
            "tuning: parameter `{}` ranges from {} to {}, expected 0 to 1",
            named.map_or("", |p| &p.name),
            named.map_or(0.0, |p| p.minimum),
            named.map_or(0.0, |p| p.maximum)
        );
        let reserved = self.tuning.parameters.iter().find(|p| RESERVED_NAMES.contains(&&*p.name));
        ensure!(
            reserved.is_none(),
            "tuning: parameter `{}`: the element has another property of this name",
            reserved.map_or("", |p| &p.name)
        );
        ensure!(self.steps > 0, "steps = 0, expected at least 1");
        self.check_net().context("net")?;
        if let Some(control) = &self.control {
            control.validate(&self.net, &self.tuning).context("control")?;
            ensure!(!self.quantised, "control: quantised does not go with it");
        }

        let known = |name: &str| self.tuning.parameters.iter().any(|p| p.name == name);
        for link in &self.degradations {
            let name = &link.parameter;
            ensure!(known(name), "degradations: no parameter `{name}` in tuning");
            let context = || format!("degradation of `{name}`");
            link.degradation.check().with_context(context)?;
            if let Some(level) = link.level {
                level.validate(link).with_context(context)?;
                ensure!(self.tuning.domain == Domain::Box, "{}: a level needs a box", context());
            }
            let mut twins = self.degradations.iter().filter(|other| &other.parameter == name);
            ensure!(
                twins.all(|twin| twin.level == link.level),
                "{}: all degradations of a parameter have the same `level`",
                context()
            );
        }
        check_chain(&self.chain()).context("degradations")?;
        let degraded = |name: &String| self.degradations.iter().any(|link| link.name() == name);
        for name in self.batch.samples.iter().flatten() {
            ensure!(degraded(name), "batch.samples: no degradation belongs to `{name}`");
        }
        for sample in &self.batch.samples {
            let own = self.links_of(sample);
            let recorded = own.filter(|link| link.degradation.is_recorded()).count();
            ensure!(recorded < 2, "batch.samples: {sample:?} has {recorded} recorded degradations");
        }

        self.validate_objectives()?;
        self.check_knobs()?;

        let Batch { crop, micro_batches, size, tunings, .. } = &self.batch;
        ensure!(*crop >= 8 && crop.is_multiple_of(2), "batch.crop = {crop}, expected even, ≥ 8");
        ensure!(*crop <= 1024, "batch.crop = {crop}, expected at most 1024");
        let halo = self.batch.halo;
        ensure!(halo <= 64, "batch.halo = {halo}, expected at most 64");
        let drawn = self.batch.drawn;
        ensure!((0.0..=1.0).contains(&drawn), "batch.drawn = {drawn}, expected 0 to 1");
        let wrong = self.batch.wrong;
        ensure!((0.0..=1.0).contains(&wrong), "batch.wrong = {wrong}, expected 0 to 1");
        let is_told = self.levels().iter().any(Option::is_some);
        ensure!(wrong == 0.0 || is_told, "batch.wrong = {wrong}: no parameter is told a level");
        let size = micro_batches.saturating_mul(*size);
        ensure!((1..=4096).contains(&size), "batch: {size} samples a step, expected 1 to 4096");
        tunings.validate(&self.tuning).context("batch.tunings")?;
        self.optimiser.validate()
    }

    /// Checks that the net can be asked for what the recipe says.
    fn check_net(&self) -> anyhow::Result<()> {
        let io = self.net.io();
        if self.quantised {
            io.check_yuv420("quantised recipes")?;
        }
        ensure!(io.history == 0, "it remembers frames, which samples do not have");
        if io.scale == 1 {
            return Ok(());
        }
        let scale = io.scale;
        for objective in &self.objectives {
            let clean = matches!(objective.target(), None | Some(Target::Clean));
            ensure!(
                clean && !objective.is_corner_targets(),
                "it makes pictures of {scale} times the size: objective `{}` compares them with what is \
                 not of that size, expected the target \"clean\"",
                objective.name()
            );
        }
        ensure!(
            !self.needs_pairs(),
            "it makes pictures of {scale} times the size, pairs are of one"
        );
        let Batch { crop, halo, .. } = self.batch;
        ensure!(
            crop.is_multiple_of(scale) && halo.is_multiple_of(scale),
            "batch.crop = {crop}, batch.halo = {halo}: expected multiples of {scale}, by which it enlarges"
        );
        Ok(())
    }

    /// What the net sees of pictures.
    pub fn view(&self) -> View {
        View::of(&self.net.io())
    }

    /// Whether a parameter is the level of a degradation that some sample has.
    fn tells(&self, name: &str) -> bool {
        let samples = self.batch.samples.iter();
        let mut links = samples.flat_map(|sample| self.links_of(sample));
        links.any(|link| link.parameter == name && link.level.is_some())
    }

    /// Checks that every parameter can have an effect.
    fn check_knobs(&self) -> anyhow::Result<()> {
        let is_degraded = |name: &str| {
            let samples = self.batch.samples.iter();
            samples.flat_map(|sample| self.links_of(sample)).any(|link| link.parameter == name)
        };
        let parameters = &self.tuning.parameters;
        // On a simplex one parameter may stand for leaving all as it is.
        let some_is_degraded = parameters.iter().any(|p| is_degraded(&p.name));
        let may_keep = self.tuning.domain == Domain::Simplex && some_is_degraded;
        for name in parameters.iter().map(|parameter| &parameter.name) {
            let undoes = self.has_corner_targets() && (is_degraded(name) || may_keep);
            // What it is told of may have an effect under any loss.
            let is_told = self.tells(name);
            let weighs = self.objectives.iter().any(|o| o.parameter.as_ref() == Some(name));
            ensure!(
                undoes || weighs || is_told,
                "parameter `{name}` would have no effect: no sample has a degradation that it \
                 undoes, and no objective names it"
            );
        }
        Ok(())
    }

    fn validate_objectives(&self) -> anyhow::Result<()> {
        ensure!(!self.objectives.is_empty(), "objectives: expected at least one");
        for (index, objective) in self.objectives.iter().enumerate() {
            let twin = |other: &Objective| other.name() == objective.name();
            ensure!(
                !self.objectives[..index].iter().any(twin),
                "objectives: `{}` is given twice",
                objective.name()
            );
            let context = || format!("objective `{}`", objective.name());
            objective.validate(&self.tuning).with_context(context)?;
        }
        let is_game = self.objectives.iter().any(|objective| objective.loss.as_loss().is_game());
        match (&self.discriminator, is_game) {
            (None, true) => bail!("an adversarial objective needs a [discriminator]"),
            (Some(_), false) => bail!("discriminator: no objective is adversarial"),
            (Some(discriminator), true) => discriminator.validate().context("discriminator")?,
            (None, false) => {}
        }
        if let Some(Overparameterise { channels }) = self.overparameterise {
            ensure!(
                (1..=4096).contains(&channels),
                "overparameterise.channels = {channels}, expected 1 to 4096"
            );
        }
        Ok(())
    }

    /// Whether an objective needs the net given with `--features`.
    pub fn needs_features(&self) -> bool {
        self.objectives.iter().any(|objective| objective.loss.as_loss().needs_features())
    }

    /// Whether a degradation is a recorded one.
    pub fn needs_pairs(&self) -> bool {
        self.degradations.iter().any(|link| link.degradation.is_recorded())
    }

    /// For each parameter how its level is told, where it is.
    pub fn levels(&self) -> Vec<Option<Level>> {
        let level = |name: &str| self.degradations.iter().find(|l| l.parameter == name)?.level;
        self.tuning.parameters.iter().map(|p| level(&p.name)).collect()
    }

    /// The degradations of a sample of [`Batch::samples`].
    fn links_of<'a>(&'a self, sample: &'a [String]) -> impl Iterator<Item = &'a Link> {
        self.degradations.iter().filter(|link| sample.iter().any(|name| name == link.name()))
    }

    /// Which of the degradations a sample of [`Batch::samples`] has.
    pub fn is_active(&self, sample: &[String]) -> Vec<bool> {
        let is_in = |link: &Link| sample.iter().any(|name| name == link.name());
        self.degradations.iter().map(is_in).collect()
    }

    /// The parameter that undoes a degradation, by its index.
    pub fn parameter_of(&self, link: &Link) -> Option<usize> {
        self.tuning.parameters.iter().position(|p| p.name == link.parameter)
    }

    /// Whether the targets of the corners are needed.
    pub fn has_corner_targets(&self) -> bool {
        self.objectives.iter().any(|objective| objective.is_corner_targets())
    }

    /// Whether one of them looks at the target of each corner by itself, not at their mean.
    pub fn has_single_corners(&self) -> bool {
        let is_absolute = |objective: &Objective| match &objective.loss {
            LossKind::CornerTargets(loss) => loss.error == ErrorKind::Absolute,
            _ => false,
        };
        self.objectives.iter().any(is_absolute)
    }

    /// Whether nothing else is asked for than the targets of the corners.
    pub fn is_restoration(&self) -> bool {
        self.objectives.iter().all(|objective| objective.is_corner_targets())
    }

    /// Which degradations the picture keeps that an objective compares the output with; `None` if
    /// that is the input, or there is no such picture.
    pub fn kept_by(&self, objective: &Objective) -> Option<Vec<bool>> {
        match objective.target()? {
            Target::Input => None,
            Target::Clean => Some(vec![false; self.degradations.len()]),
            Target::Restored => {
                let own = |link: &Link| Some(&link.parameter) != objective.parameter.as_ref();
                Some(self.degradations.iter().map(own).collect())
            }
        }
    }

    /// The different masks that [`Recipe::kept_by`] gives.
    pub fn target_masks(&self) -> Vec<Vec<bool>> {
        let mut masks: Vec<_> = self.objectives.iter().filter_map(|o| self.kept_by(o)).collect();
        masks.sort();
        masks.dedup();
        masks
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

/// An error with the key at fault and its line.
fn explain(text: &str, error: &toml::de::Error) -> anyhow::Error {
    let Ok(table) = text.parse::<toml::Table>() else {
        // No TOML at all: the error shows where.
        return anyhow::anyhow!("{}", error.to_string().trim_end());
    };
    let parse = |table: toml::Table| {
        let parsed = Recipe::deserialize(table).map(drop);
        parsed.map_err(|error| error.message().to_owned())
    };
    let path = culprit::find(&table, &parse);
    let line = culprit::line_of(text, error.span().map_or(0, |span| span.start), &path);
    match path.is_empty() {
        true => anyhow::anyhow!("{}", error.message()),
        false => anyhow::anyhow!("line {line}: {path}: {}", error.message()),
    }
}

fn corner_targets() -> Vec<Objective> {
    vec![Objective::corner_targets()]
}
