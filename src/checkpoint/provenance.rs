//! Where a checkpoint comes from.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A data set used for training.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSet {
    /// Its name.
    pub name: String,
    /// Its licence, as its source states it.
    pub licence: String,
    /// Images, or pairs of clips, that were read of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Content hash of those.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
}

/// Where a checkpoint comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// Name of the recipe.
    pub recipe: String,
    /// Seed of the run.
    pub seed: u64,
    /// Optimiser steps taken.
    pub steps: u64,
    /// Data sets and their licences.
    pub data: Vec<DataSet>,
    /// Version of the crate that trained it.
    pub crate_version: String,
    /// What it was trained to undo: a chain of degradations in the order in which they happen, as the
    /// trainer's recipes have them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub degradations: Vec<serde_json::Value>,
    /// [`weights_hash`](super::Checkpoint::weights_hash) of the checkpoint that it was trained on from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
}

/// How the ranges of the inner activations were measured; the engine needs them for int8.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Data they were measured on.
    pub data: String,
    /// Number of images.
    pub images: u64,
    /// Seed of the degradations.
    pub seed: u64,
    /// Share of the values that are inside the ranges.
    pub quantile: f64,
    /// Whether the net was trained with activations that end at these ranges: f32 clamps them, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bounds: bool,
}

impl Calibration {
    /// # Errors
    /// [`Error::Config`].
    pub fn validate(&self) -> Result<()> {
        let Self { images, quantile, .. } = self;
        if *images == 0 || !(0.5..=1.0).contains(quantile) {
            let reason = format!(
                "calibration on {images} images at the quantile {quantile}, expected at least one at \
                 0.5 to 1"
            );
            return Err(Error::Config(reason));
        }
        Ok(())
    }
}
