//! Noise whose strength follows the signal.

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::kind::{Fixed, Kind, check_range, within};
use super::{standard_normal, uniform};
use crate::rgb::Rgb;

/// Shot and read noise of a sensor, independent per pixel and RGB channel: Gaussian of
/// variance `gain · x + (sigma / 255)²` at the value `x` (Foi et al., "Practical
/// Poissonian-Gaussian noise modeling and fitting", IEEE TIP 2008), then clipped to `[0, 1]`.
///
/// The Gaussian stands for the Poisson distribution of `x / gain` photons, which it comes
/// close to above some ten photons.
#[derive(Deserialize, Serialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct PoissonGaussian {
    /// Least and greatest variance of the shot noise at white, 0 to 1: one over the number
    /// of photons there.
    pub gain: [f32; 2],
    /// Least and greatest standard deviation of the read noise, of 255, 0 to 255; none is the default.
    #[serde(default)]
    pub sigma: [f32; 2],
}

impl Kind for PoissonGaussian {
    const STRENGTH: Option<&'static str> = Some("gain");
    const NOISE: bool = true;

    fn strengths(&self) -> [f32; 2] {
        self.gain
    }

    fn at(&self, severity: f32) -> Self {
        Self { gain: within(self.gain, severity), sigma: within(self.sigma, severity) }
    }

    fn check(&self) -> anyhow::Result<()> {
        check_range("gain", self.gain, [0.0, 1.0])?;
        check_range("sigma", self.sigma, [0.0, 255.0])
    }

    fn fix(
        &self,
        gain: f32,
        mut rng: ChaCha8Rng,
        (width, height): (usize, usize),
    ) -> Option<Fixed> {
        let sigma = uniform(self.sigma, &mut rng);
        let field = (gain > 0.0 || sigma > 0.0)
            .then(|| standard_normal(3 * width * height, &mut rng))?;
        Some(Box::new(move |image| add_poisson_gaussian(image, &field, gain, sigma)))
    }

    fn amount(gain: f32) -> f32 {
        gain.sqrt()
    }

    fn of_amount(amount: f32) -> f32 {
        amount * amount
    }

    fn details(&self) -> Vec<(&'static str, String)> {
        vec![("sigma", self.sigma[0].to_string())]
    }
}

/// Adds the field, scaled to the variance `gain · x + (sigma / 255)²` at each value `x` of the
/// image: other images get the same sample of noise at their own strength.
fn add_poisson_gaussian(image: &Rgb, field: &[f32], gain: f32, sigma: f32) -> Rgb {
    let read = (sigma / 255.0) * (sigma / 255.0);
    let data = image
        .data
        .iter()
        .zip(field)
        .map(|(&value, &normal)| (value + (gain * value + read).sqrt() * normal).clamp(0.0, 1.0))
        .collect();
    Rgb::new(image.width, image.height, data)
}
