//! Gaussian noise of one strength everywhere.

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::kind::{Fixed, Kind, check_range, within};
use super::{standard_normal, stream_of};
use crate::rgb::Rgb;

/// Greatest `sigma`, of 255: nothing is left of a picture.
const MAX_SIGMA: f32 = 1000.0;

/// Gaussian noise, independent per pixel and RGB channel, then clipped to `[0, 1]`.
#[derive(Deserialize, Serialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Noise {
    /// Least and greatest standard deviation, of 255, 0 to 1000.
    pub sigma: [f32; 2],
}

impl Kind for Noise {
    const STRENGTH: Option<&'static str> = Some("sigma");
    const NOISE: bool = true;

    fn strengths(&self) -> [f32; 2] {
        self.sigma
    }

    fn at(&self, severity: f32) -> Self {
        Self { sigma: within(self.sigma, severity) }
    }

    fn check(&self) -> anyhow::Result<()> {
        check_range("sigma", self.sigma, [0.0, MAX_SIGMA])
    }

    fn fix(
        &self,
        sigma: f32,
        mut rng: ChaCha8Rng,
        (width, height): (usize, usize),
    ) -> Option<Fixed> {
        let field = (sigma > 0.0).then(|| standard_normal(3 * width * height, &mut rng))?;
        Some(Box::new(move |image| add_noise(image, &field, sigma)))
    }
}

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
fn add_noise(image: &Rgb, field: &[f32], sigma: f32) -> Rgb {
    let scale = sigma / 255.0;
    let data = image
        .data
        .iter()
        .zip(field)
        .map(|(&value, &normal)| (value + scale * normal).clamp(0.0, 1.0))
        .collect();
    Rgb::new(image.width, image.height, data)
}
