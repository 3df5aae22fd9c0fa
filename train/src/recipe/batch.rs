//! Keys of batches.

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use tunableconv::tuning::{Domain, TuningSpace};

/// How batches are put together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Batch {
    /// Side of a crop, in luma pixels; even.
    pub crop: usize,
    /// Pixels around a crop that the degradations see.
    pub halo: usize,
    /// Share of the crops that are [drawn](crate::dead_leaves) rather than cut from a photograph, so that
    /// the net has seen pure colours and hard edges too; but for recorded degradations.
    pub drawn: f64,
    /// Share of the micro-batches of which every parameter that tells a level is told one at random, of every
    /// other such micro-batch that of a corner, so that no mixture of settings breaks a picture: by
    /// [`Level::wrong`](super::Level::wrong) each parameter is wrong by itself, and all of them hardly ever.
    pub wrong: f64,
    /// Tunings per step: one for each micro-batch.
    pub micro_batches: usize,
    /// Samples in a micro-batch; one for each of [`Self::samples`] if left out.
    pub size: usize,
    /// Which degradations samples have, by [their names](super::Link::name); taken by turns, from step to step.
    /// If left out, those of each name alone and of all together, in at least four samples.
    pub samples: Vec<Vec<String>>,
    /// How tunings are drawn.
    pub tunings: Tunings,
}

/// How tunings are drawn from their domain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Tunings {
    /// Uniformly.
    Uniform {},
    /// A share from the corners (other than ω = 0 of a box), the others uniformly.
    CornerBoosted {
        /// 0 to 1.
        share: f64,
    },
    /// A share from the corners that changes evenly throughout the run, the others uniformly.
    Annealed {
        /// In the first step, 0 to 1.
        from: f64,
        /// In the last step, 0 to 1.
        to: f64,
    },
    /// The tunings of a step from all over the domain: each parameter's range is cut into as many parts as there are
    /// micro-batches, and of each part comes one (Latin hypercube); on a simplex of two parameters the second's.
    Stratified {},
    /// Every entry from Beta(a, b): on a box, or on a simplex of two parameters for the second.
    Beta {
        /// First shape parameter, > 0.
        a: f64,
        /// Second shape parameter, > 0.
        b: f64,
    },
    /// One of these, all alike.
    Fixed {
        /// Tunings of the domain.
        values: Vec<Vec<f64>>,
    },
}

impl Default for Batch {
    fn default() -> Self {
        let tunings = Tunings::CornerBoosted { share: 0.5 };
        Self {
            crop: 64,
            halo: 8,
            drawn: 0.0,
            wrong: 0.0,
            micro_batches: 4,
            size: 0,
            samples: vec![],
            tunings,
        }
    }
}

impl Tunings {
    pub(super) fn validate(&self, space: &TuningSpace) -> anyhow::Result<()> {
        let one_knob = space.domain == Domain::Box || space.len() == 2;
        let is_share = |name: &str, share: &f64| {
            ensure!((0.0..=1.0).contains(share), "{name} = {share}, expected 0 to 1");
            Ok(())
        };
        match self {
            Self::Uniform {} => {}
            Self::CornerBoosted { share } => is_share("share", share)?,
            Self::Annealed { from, to } => {
                is_share("from", from)?;
                is_share("to", to)?;
            }
            Self::Stratified {} => {
                ensure!(one_knob, "stratified: expected a box, or a simplex of two parameters");
            }
            Self::Beta { a, b } => {
                let positive = |v: &f64| *v > 0.0 && v.is_finite();
                ensure!(positive(a) && positive(b), "a = {a}, b = {b}, expected both > 0");
                ensure!(one_knob, "beta: expected a box, or a simplex of two parameters");
            }
            Self::Fixed { values } => {
                ensure!(!values.is_empty(), "fixed: no tuning, expected at least 1");
                for value in values {
                    space.tuning(value).with_context(|| format!("fixed: {value:?}"))?;
                }
            }
        }
        Ok(())
    }
}
