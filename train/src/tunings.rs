//! Random tunings for training.

use rand::{Rng, RngExt as _};
use rand_distr::{Beta, Distribution as _};
use tunableconv::tuning::Domain;

use crate::recipe::{Recipe, Tunings};

/// Draws one tuning of the recipe's domain.
///
/// # Panics
/// If the recipe is not valid.
pub fn sample_tuning<R: Rng + ?Sized>(recipe: &Recipe, rng: &mut R) -> Vec<f32> {
    draw(recipe, &recipe.batch.tunings, rng)
}

/// Draws a tuning from all over the recipe's domain: one of two from its corners.
pub fn sample_any_tuning<R: Rng + ?Sized>(recipe: &Recipe, rng: &mut R) -> Vec<f32> {
    let anything = Tunings::CornerBoosted { share: 0.5 };
    draw(recipe, &anything, rng)
}

fn draw<R: Rng + ?Sized>(recipe: &Recipe, tunings: &Tunings, rng: &mut R) -> Vec<f32> {
    let (domain, p) = (recipe.tuning.domain, recipe.tuning.len());
    match *tunings {
        Tunings::Uniform {} => uniform(domain, p, rng),
        Tunings::CornerBoosted { share } if rng.random::<f64>() < share => corner(recipe, rng),
        Tunings::CornerBoosted { .. } => uniform(domain, p, rng),
        Tunings::Beta { a, b } => {
            let beta = Beta::new(a, b).expect("a validated recipe has positive shapes");
            match domain {
                Domain::Box => (0..p).map(|_| beta.sample(rng) as f32).collect(),
                Domain::Simplex => {
                    let second = beta.sample(rng);
                    vec![(1.0 - second) as f32, second as f32]
                }
            }
        }
        Tunings::Fixed { ref values } => {
            let value = &values[rng.random_range(0..values.len())];
            value.iter().map(|value| *value as f32).collect()
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
