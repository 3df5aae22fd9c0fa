//! Keys of the optimiser.

use anyhow::ensure;
use serde::{Deserialize, Serialize};

/// Adam (Kingma and Ba, 2015) with warm-up, cosine schedule, clipping and averaging.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Optimiser {
    /// Largest learning rate.
    pub learning_rate: f64,
    /// Learning rate at the last step.
    pub final_learning_rate: f64,
    /// Steps of linear warm-up.
    pub warmup_steps: u64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Global gradient norm above which gradients are scaled down.
    pub clip_norm: f64,
    /// Decay per step of the exponential moving average of the weights, which is what is shipped.
    pub ema_decay: f64,
}

impl Default for Optimiser {
    fn default() -> Self {
        Self {
            learning_rate: 1.2e-3,
            final_learning_rate: 1e-6,
            warmup_steps: 500,
            beta1: 0.9,
            beta2: 0.99,
            clip_norm: 1.0,
            ema_decay: 0.999,
        }
    }
}

impl Optimiser {
    pub(super) fn validate(&self) -> anyhow::Result<()> {
        let positive = |name: &str, value: f64| {
            ensure!(value > 0.0 && value.is_finite(), "optimiser.{name} = {value}, expected > 0");
            Ok(())
        };
        positive("learning_rate", self.learning_rate)?;
        ensure!(
            self.clip_norm >= 1e-6 && self.clip_norm.is_finite(),
            "optimiser.clip_norm = {:?}, expected at least 1e-6",
            self.clip_norm
        );
        ensure!(
            (0.0..=self.learning_rate).contains(&self.final_learning_rate),
            "optimiser.final_learning_rate = {}, expected 0 to learning_rate = {}",
            self.final_learning_rate,
            self.learning_rate
        );
        for (name, value) in
            [("beta1", self.beta1), ("beta2", self.beta2), ("ema_decay", self.ema_decay)]
        {
            ensure!((0.0..1.0).contains(&value), "optimiser.{name} = {value}, expected 0 ≤ x < 1");
        }
        Ok(())
    }
}
