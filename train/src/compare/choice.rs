//! The learning rate of a run, chosen on pictures that are neither trained on nor measured on.

use std::path::PathBuf;

use anyhow::ensure;
use candle_core::Device;

use super::Task;
use super::measure::{Filter, Measure};
use crate::batch::Pictures;
use crate::data::{ImageFolder, Keep};
use crate::loss::features::FeatureNet;

/// What to choose from, and on what.
#[derive(Clone, Debug, Default)]
pub struct Rates {
    /// Learning rates; none: each run has its recipe's.
    pub rates: Vec<f64>,
    /// Folders of pictures to choose on.
    pub folders: Vec<PathBuf>,
}

/// Chooses; see [`Rates`].
pub(super) struct Choice {
    rates: Vec<f64>,
    pictures: Pictures,
    /// Crops of them.
    count: usize,
    features: Option<PathBuf>,
}

impl Choice {
    /// Reads the pictures; `None` where there is nothing to choose.
    ///
    /// # Errors
    /// Rates without pictures, or that are none; pictures that cannot be read.
    pub(super) fn new(
        rates: Rates,
        span: usize,
        count: usize,
        features: Option<PathBuf>,
    ) -> anyhow::Result<Option<Self>> {
        let Rates { rates, folders } = rates;
        if rates.is_empty() {
            return Ok(None);
        }
        for rate in &rates {
            ensure!(*rate > 0.0 && rate.is_finite(), "--rates {rate}, expected more than 0");
        }
        ensure!(!folders.is_empty(), "--rates are chosen on pictures: give them with --val DIR");
        let images = ImageFolder::load(&folders, span, Keep::Everything)?;
        let pictures = Pictures { images, pairs: None };
        Ok(Some(Self { rates, pictures, count, features }))
    }

    /// What tells one choice from another.
    pub(super) fn id(&self) -> String {
        format!("rates {:?} {}", self.rates, self.pictures.images.hash())
    }

    /// What to choose from.
    pub(super) fn rates(&self) -> &[f64] {
        &self.rates
    }

    /// What is minimised, in the mean over these tunings.
    ///
    /// # Errors
    /// As [`Measure::points`].
    pub(super) fn loss(
        &self,
        task: &Task,
        tunings: &[&[f64]],
        filter: Filter<'_>,
    ) -> anyhow::Result<f64> {
        let features = self.features.as_deref();
        let features = features.map(|path| FeatureNet::load(path, &Device::Cpu)).transpose()?;
        let measure = Measure::new(task, tunings, features, &self.pictures, self.count)?;
        let points = measure.points(filter)?;
        Ok(points.iter().map(|point| point.loss).sum::<f64>() / points.len() as f64)
    }
}
