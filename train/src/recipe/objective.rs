//! What a net is asked for: the terms of the parametric multi-loss, as a recipe states them.

use anyhow::{bail, ensure};
use serde::{Deserialize, Serialize};
use tunableconv::tuning::{Domain, TuningSpace};

use crate::loss::LossKind;
use crate::loss::adversarial::{AdversarialKind, DiscriminatorConfig};
use crate::loss::corners::CornerTargets;

/// One term of `L(θ; ω) = Σ w(ω) λ L(f(x; ω, θ), target)` (Maggioni et al., CVPR 2023, sec. 3).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Objective {
    /// The parameter whose ω is w(ω); left out, w is 1 at every tuning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
    /// Weighted by 1 − ω instead: what is wanted where the parameter is off. In a box only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub off: bool,
    /// What the output is compared with; [`Target::Clean`] if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// λ, which brings the losses to one scale.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub weight: f64,
    /// L.
    pub loss: LossKind,
}

/// A picture that a loss compares the output with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// The picture before every degradation.
    Clean,
    /// The degraded input: with L1 or L2 this is noise preservation.
    Input,
    /// The input without the degradations of the objective's own parameter.
    Restored,
}

/// The discriminator of adversarial objectives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Discriminator {
    /// Hinge or relativistic.
    pub loss: AdversarialKind,
    /// Its layers.
    pub net: DiscriminatorConfig,
    /// Its largest learning rate; the rest of its optimiser is that of the recipe.
    pub learning_rate: f64,
}

impl Objective {
    /// The paper's default for degradations: every corner of the domain has its own target.
    pub fn corner_targets() -> Self {
        Self {
            parameter: None,
            off: false,
            target: None,
            weight: 1.0,
            loss: LossKind::CornerTargets(CornerTargets::default()),
        }
    }

    /// Whether it is the targets of the corners.
    pub fn is_corner_targets(&self) -> bool {
        matches!(self.loss, LossKind::CornerTargets(_))
    }

    /// What the output is compared with, if with anything.
    pub fn target(&self) -> Option<Target> {
        self.loss.as_loss().has_target().then(|| self.target.unwrap_or(Target::Clean))
    }

    /// Short name for logs, such as `deblur.l1`.
    pub fn name(&self) -> String {
        let loss = self.loss.name();
        match (&self.parameter, self.off) {
            (None, _) => loss.into(),
            (Some(parameter), false) => format!("{parameter}.{loss}"),
            (Some(parameter), true) => format!("{parameter}-off.{loss}"),
        }
    }

    /// w(ω).
    pub fn weight_at(&self, space: &TuningSpace, tuning: &[f32]) -> f32 {
        let index = |name: &String| space.parameters.iter().position(|p| &p.name == name);
        match self.parameter.as_ref().and_then(index) {
            None => 1.0,
            Some(j) if self.off => 1.0 - tuning[j],
            Some(j) => tuning[j],
        }
    }

    pub(super) fn validate(&self, space: &TuningSpace) -> anyhow::Result<()> {
        if let Some(name) = &self.parameter {
            ensure!(space.parameters.iter().any(|p| &p.name == name), "no parameter `{name}`");
        }
        let weight = self.weight;
        ensure!(weight > 0.0 && weight.is_finite(), "weight = {weight}, expected > 0");
        if self.is_corner_targets() && self.parameter.is_some() {
            bail!("corner-targets are weighted by every parameter, expected none of its own");
        }
        if self.off && (self.parameter.is_none() || space.domain == Domain::Simplex) {
            bail!("`off` needs a parameter of a box");
        }
        if self.target.is_some() && !self.loss.as_loss().has_target() {
            bail!("{} has no target to choose", self.loss.name());
        }
        if self.target == Some(Target::Restored) && self.parameter.is_none() {
            bail!("target = \"restored\" needs a parameter");
        }
        self.loss.as_loss().check()
    }
}

impl Discriminator {
    pub(super) fn validate(&self) -> anyhow::Result<()> {
        let rate = self.learning_rate;
        ensure!(rate > 0.0 && rate.is_finite(), "learning_rate = {rate}, expected > 0");
        self.net.validate()
    }
}

fn one() -> f64 {
    1.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_one(value: &f64) -> bool {
    *value == 1.0
}
