//! Gaussian noise of one strength everywhere.

use super::{standard_normal, stream_of};
use crate::rgb::Rgb;

/// The noise of the evaluation protocol: `N(0, sigma/255)` on every RGB value in planar order,
/// from ChaCha8 seeded (`seed_from_u64`) with the index of the image in its sorted folder;
/// clipped to `[0, 1]`, not rounded. Where a test blurs too, `clean` is the
/// [`blur`](super::blur)red image.
///
/// This is what [`apply`](super::apply) does with `image_index` for a seed.
#[must_use]
pub fn noise_for_eval(clean: &Rgb, sigma: f32, image_index: u64) -> Rgb {
    if sigma <= 0.0 {
        return clean.clone();
    }
    let field = standard_normal(clean.data.len(), &mut stream_of(image_index, 0));
    add_noise(clean, &field, sigma)
}

/// Adds `sigma / 255` times the field.
pub fn add_noise(image: &Rgb, field: &[f32], sigma: f32) -> Rgb {
    let scale = sigma / 255.0;
    let data = image
        .data
        .iter()
        .zip(field)
        .map(|(&value, &normal)| (value + scale * normal).clamp(0.0, 1.0))
        .collect();
    Rgb::new(image.width, image.height, data)
}
