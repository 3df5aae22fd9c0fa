//! Noise whose strength follows the signal.

use crate::rgb::Rgb;

/// Adds the field, scaled to the variance `gain · x + (sigma / 255)²` at each value `x` of the
/// image: other images get the same sample of noise at their own strength.
pub fn add_poisson_gaussian(image: &Rgb, field: &[f32], gain: f32, sigma: f32) -> Rgb {
    let read = (sigma / 255.0) * (sigma / 255.0);
    let data = image
        .data
        .iter()
        .zip(field)
        .map(|(&value, &normal)| (value + (gain * value + read).sqrt() * normal).clamp(0.0, 1.0))
        .collect();
    Rgb::new(image.width, image.height, data)
}
