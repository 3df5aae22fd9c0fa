//! Random tunings for training.

use rand::seq::SliceRandom as _;
use rand::{Rng, RngExt as _};
use rand_distr::{Beta, Distribution as _};
use tunableconv::tuning::Domain;

use crate::recipe::{Recipe, Tunings};

/// How the tunings of a step are drawn, one for each micro-batch.
pub struct StepTunings<'r> {
    recipe: &'r Recipe,
    /// How far the run has come, 0 in its first step, 1 in its last.
    progress: f64,
    /// Of stratified tunings, for each parameter the parts of its range, in the order of the micro-batches.
    strata: Vec<Vec<usize>>,
}

impl<'r> StepTunings<'r> {
    /// Those of a step.
    pub fn new<R: Rng + ?Sized>(recipe: &'r Recipe, step: u64, rng: &mut R) -> Self {
        let progress = (step as f64 / recipe.steps.saturating_sub(1).max(1) as f64).min(1.0);
        let mut strata = vec![];
        if recipe.batch.tunings == (Tunings::Stratified {}) {
            strata = vec![(0..recipe.batch.micro_batches).collect(); recipe.tuning.len()];
            strata.iter_mut().for_each(|parts: &mut Vec<usize>| parts.shuffle(rng));
        }
        Self { recipe, progress, strata }
    }

    /// Draws that of a micro-batch.
    ///
    /// # Panics
    /// If the recipe is not valid, or has fewer micro-batches.
    pub fn draw<R: Rng + ?Sized>(&self, micro_batch: usize, rng: &mut R) -> Vec<f32> {
        let (recipe, domain, p) =
            (self.recipe, self.recipe.tuning.domain, self.recipe.tuning.len());
        match recipe.batch.tunings {
            Tunings::Uniform {} => uniform(domain, p, rng),
            Tunings::CornerBoosted { share } => corner_boosted(recipe, share, rng),
            Tunings::Annealed { from, to } => {
                corner_boosted(recipe, from + (to - from) * self.progress, rng)
            }
            Tunings::Stratified {} => {
                let parts = recipe.batch.micro_batches as f64;
                let entry = |strata: &Vec<usize>, rng: &mut R| {
                    (strata[micro_batch] as f64 + rng.random::<f64>()) / parts
                };
                one_by_one(domain, p, |j| entry(&self.strata[j], rng))
            }
            Tunings::Beta { a, b } => {
                let beta = Beta::new(a, b).expect("a validated recipe has positive shapes");
                one_by_one(domain, p, |_| beta.sample(rng))
            }
            Tunings::Fixed { ref values } => {
                let value = &values[rng.random_range(0..values.len())];
                value.iter().map(|value| *value as f32).collect()
            }
        }
    }
}

/// Draws a tuning from all over the recipe's domain: one of two from its corners.
pub fn sample_any_tuning<R: Rng + ?Sized>(recipe: &Recipe, rng: &mut R) -> Vec<f32> {
    corner_boosted(recipe, 0.5, rng)
}

/// A share of them from the corners, the others uniformly.
fn corner_boosted<R: Rng + ?Sized>(recipe: &Recipe, share: f64, rng: &mut R) -> Vec<f32> {
    if rng.random::<f64>() < share {
        corner(recipe, rng)
    } else {
        uniform(recipe.tuning.domain, recipe.tuning.len(), rng)
    }
}

/// Each entry by itself: those of a box, or the second of the two of a simplex.
fn one_by_one(domain: Domain, p: usize, mut entry: impl FnMut(usize) -> f64) -> Vec<f32> {
    match domain {
        Domain::Box => (0..p).map(|j| entry(j) as f32).collect(),
        Domain::Simplex => {
            let second = entry(1);
            vec![(1.0 - second) as f32, second as f32]
        }
    }
}

fn corner<R: Rng + ?Sized>(recipe: &Recipe, rng: &mut R) -> Vec<f32> {
    let p = recipe.tuning.len();
    match recipe.tuning.domain {
        Domain::Box => {
            // Nothing can be learned where a net is the identity.
            let first = usize::from(recipe.net.passes_at_zero());
            let corner = rng.random_range(first..1usize << p);
            (0..p).map(|j| (corner >> j & 1) as f32).collect()
        }
        Domain::Simplex => {
            let corner = rng.random_range(0..p);
            (0..p).map(|j| f32::from(u8::from(j == corner))).collect()
        }
    }
}

fn uniform<R: Rng + ?Sized>(domain: Domain, p: usize, rng: &mut R) -> Vec<f32> {
    match domain {
        Domain::Box => (0..p).map(|_| rng.random()).collect(),
        Domain::Simplex => {
            // Normalised exponentials are uniform on the simplex.
            let draws: Vec<f64> = (0..p).map(|_| -(1.0 - rng.random::<f64>()).ln()).collect();
            let sum: f64 = draws.iter().sum::<f64>().max(f64::MIN_POSITIVE);
            draws.iter().map(|d| (d / sum) as f32).collect()
        }
    }
}
