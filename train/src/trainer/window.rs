//! Sums since the last line of the metrics log.

use serde::{Deserialize, Serialize};

use super::learner::Taken;

/// What the next line has so far; part of a run's state, so that the log of a resumed run is that of
/// an uninterrupted one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    steps: f64,
    loss: f64,
    luma_error: Option<f64>,
    gradient_norm: f64,
    discriminator_loss: Option<f64>,
    objectives: Vec<(f64, f64)>,
}

/// Means over a window.
pub struct Means {
    /// Loss.
    pub loss: f64,
    /// PSNR of the mean squared error of luma, in dB, from black to white.
    pub psnr_db: Option<f64>,
    /// Gradient norm.
    pub gradient_norm: f64,
    /// Each objective's loss.
    pub objectives: Vec<f64>,
    /// Loss of the discriminator.
    pub discriminator_loss: Option<f64>,
}

impl Window {
    /// Of no step yet.
    #[must_use]
    pub fn new(objectives: usize) -> Self {
        Self { objectives: vec![(0.0, 0.0); objectives], ..Default::default() }
    }

    /// Number of objectives.
    #[must_use]
    pub fn objectives(&self) -> usize {
        self.objectives.len()
    }

    /// Adds a step.
    pub fn add(&mut self, taken: &Taken) {
        self.steps += 1.0;
        self.loss += f64::from(taken.loss);
        self.gradient_norm += taken.gradient_norm;
        let sum = |total: &mut Option<f64>, value: Option<f64>| {
            if let Some(value) = value {
                *total = Some(total.unwrap_or(0.0) + value);
            }
        };
        sum(&mut self.luma_error, taken.evaluation.luma_error);
        sum(&mut self.discriminator_loss, taken.discriminator_loss);
        for (total, step) in self.objectives.iter_mut().zip(&taken.evaluation.sums) {
            *total = (total.0 + step.0, total.1 + step.1);
        }
    }

    /// The means so far; begins anew.
    pub fn take(&mut self) -> Means {
        let taken = std::mem::replace(self, Self::new(self.objectives.len()));
        let steps = taken.steps;
        Means {
            loss: taken.loss / steps,
            psnr_db: taken.luma_error.map(|error| -10.0 * (error / steps).log10()),
            gradient_norm: taken.gradient_norm / steps,
            objectives: taken.objectives.iter().map(|(sum, weight)| sum / weight).collect(),
            discriminator_loss: taken.discriminator_loss.map(|loss| loss / steps),
        }
    }
}
