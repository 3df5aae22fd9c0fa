//! Keys of a degradation.

use anyhow::ensure;
use serde::{Deserialize, Serialize};

use crate::degrade::{Camera, Degradation, PoissonGaussian};

/// One degradation and the parameter whose job is to undo it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Name of the parameter that undoes it.
    pub parameter: String,
    /// What [`Batch::samples`](super::Batch::samples) calls it; as the parameter if left out. Those of one name come together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The degradation and its range of strengths.
    pub degradation: Degradation,
    /// Makes the parameter tell the net how strong the degradation is, rather than how much of it to
    /// undo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
}

/// A parameter whose value is the level of its degradation: in training samples are degraded as
/// strongly as the tuning says, and the target is without that degradation. As in denoisers that are
/// told the noise level (Zhang, Zuo and Zhang, "FFDNet", IEEE TIP 2018), a net that is told does better
/// than one that has to guess; and at 0 it still leaves everything alone.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Level {
    /// Standard deviation of the logarithm of the actual level over what is told, 0 to 1, so that the
    /// net forgives those who guess.
    #[serde(default)]
    pub jitter: f64,
    /// Root mean square error of luma, of 255, that is level 1: the level is then measured on the
    /// degraded picture, for kinds whose strength is no number. Else it is the strength, from 0 where
    /// nothing happens to 1 at the strongest of its range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<f64>,
    /// Share of the samples that are told a level drawn at random, whatever they have, so that no setting
    /// breaks a picture.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub wrong: f64,
}

fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

impl Link {
    /// What [`Batch::samples`](super::Batch::samples) calls it.
    pub fn name(&self) -> &str {
        self.name.as_ref().unwrap_or(&self.parameter)
    }
}

impl Level {
    pub(super) fn validate(self, link: &Link) -> anyhow::Result<()> {
        let Self { jitter, error, wrong } = self;
        ensure!((0.0..=1.0).contains(&jitter), "level.jitter = {jitter}, expected 0 to 1");
        ensure!((0.0..=1.0).contains(&wrong), "level.wrong = {wrong}, expected 0 to 1");
        let [low, high] = link.degradation.strengths();
        match error {
            Some(error) => ensure!(
                error > 0.0 && error <= 255.0,
                "level.error = {error}, expected above 0, at most 255"
            ),
            None => {
                let (kind, level) =
                    (link.degradation.kind(), |strength| link.degradation.level(strength));
                ensure!(
                    level(low) != level(high),
                    "the level of {kind} is no number of its own: give level.error"
                );
                // At 0 samples would have something, or be told of something that they do not have.
                let least = level(low).min(level(high));
                ensure!(
                    least.abs() < 1e-6,
                    "its range begins at the level {least:.3}, expected one from where nothing happens: extend it, \
                     or give level.error"
                );
                if let Degradation::Camera(Camera { sigma, .. })
                | Degradation::PoissonGaussian(PoissonGaussian { sigma, .. }) = link.degradation
                {
                    ensure!(
                        sigma[1] == 0.0,
                        "the level of {kind} is its gain, and {sigma:?} of read noise (sigma) come with it: expected \
                         none, or level.error"
                    );
                }
            }
        }
        Ok(())
    }
}
