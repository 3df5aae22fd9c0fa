//! Corner targets: one objective per corner of the domain, weighted by the tuning that also mixes
//! the kernels (Maggioni et al., CVPR 2023, sec. 3).
//!
//! Every corner has a target, the degraded image with the degradations of the parameters that are
//! on undone, and a squared error towards it. The weighted sum of squared errors is the squared
//! error to the weighted mean of the targets plus a constant without gradient,
//! `Σ w_c ‖y − t_c‖² = ‖y − t̄‖² + Σ w_c ‖t_c − t̄‖²`, and that is how it is computed here.
//!
//! Each sample's error is divided by its own input-to-clean error, luma's and chroma's apart: weak
//! degradations, whose errors are tiny beside strong noise, are heard, and so is chroma, whose errors
//! are small beside luma's. [`ErrorScale::Log`](crate::loss::ErrorScale) takes their logarithms
//! instead, whose gradient divides by what is left of an error rather than by what there was.

use tunableconv::tuning::Domain;

use crate::recipe::Recipe;
use crate::view::View;

/// Added to the divisor: errors far below two code values do not matter to anyone.
const FLOOR: f64 = (2.0 / 255.0) * (2.0 / 255.0);

/// Weight of each of [`Recipe::corners`] at a tuning: Π_j (ω_j or 1 − ω_j) in a box, ω_j on the
/// simplex. They sum to 1. A parameter that tells a [level](crate::recipe::Level) is on at any value.
pub fn corner_weights(recipe: &Recipe, tuning: &[f32]) -> Vec<f32> {
    let tuning: Vec<f32> = tuning
        .iter()
        .zip(recipe.levels())
        .map(|(value, level)| if level.is_some() { 1.0 } else { *value })
        .collect();
    let weight = |corner: &usize| match recipe.tuning.domain {
        Domain::Box => {
            let on = |j: usize| corner >> j & 1 == 1;
            tuning.iter().enumerate().map(|(j, &w)| if on(j) { w } else { 1.0 - w }).product()
        }
        Domain::Simplex => tuning[corner.trailing_zeros() as usize],
    };
    recipe.corners().iter().map(weight).collect()
}

/// Weighted mean of equally long targets.
pub fn mean_target(weights: &[f32], targets: &[Vec<f32>]) -> Vec<f32> {
    let mut mean = vec![0.0; targets.first().map_or(0, Vec::len)];
    for (weight, target) in weights.iter().zip(targets) {
        for (mean, value) in mean.iter_mut().zip(target) {
            *mean += weight * value;
        }
    }
    mean
}

/// What the mean squared error of each of a sample's channels is multiplied with: 1 / (input-to-clean error +
/// floor), one value for each [group](View::groups) of channels.
///
/// # Shapes
/// - `input`, `clean`: `[C, H, W]`; returns `[C]`
pub fn channel_scales(view: View, input: &[f32], clean: &[f32]) -> Vec<f32> {
    let each = input.len() / view.channels();
    let (mut first, mut scales) = (0, vec![]);
    for count in view.groups() {
        let part = first * each..(first + count) * each;
        let squared = |(a, b): (&f32, &f32)| f64::from(a - b).powi(2);
        let squares = input[part.clone()].iter().zip(&clean[part.clone()]).map(squared);
        let error = squares.sum::<f64>() / part.len() as f64;
        scales.extend(vec![(1.0 / (error + FLOOR)) as f32; *count]);
        first += count;
    }
    scales
}
