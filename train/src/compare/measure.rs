//! What a net makes of test pictures at the points of a task, and along its way.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use candle_core::{Device, Tensor};

use super::{Point, Task};
use crate::batch::{self, Pictures};
use crate::loss::features::FeatureNet;
use crate::multi_loss::{DeviceBatch, MultiLoss};
use crate::recipe::{Batch, Recipe, Tunings};

/// Side of the crops of test pictures, in pixels.
pub const SIDE: usize = 160;

/// Tunings along the way.
pub const WAY: usize = 11;

/// What stands for a net: of a tuning, `[1, p]`, and what it reads, `[N, C, H, W]`, what it gives.
pub type Filter<'f> = &'f dyn Fn(&Tensor, &Tensor) -> anyhow::Result<Tensor>;

/// Test pictures, degraded once and for all: the same for every contender and seed.
pub struct Measure {
    recipe: Recipe,
    losses: MultiLoss,
    points: Vec<(Vec<f64>, Vec<DeviceBatch>)>,
    /// Pictures for the way, and the tunings along it.
    way: (Vec<DeviceBatch>, Vec<Vec<f64>>),
}

impl Measure {
    /// Prepares `count` crops of `pictures` for each of these tunings.
    ///
    /// # Errors
    /// A failing device; features that the recipe needs and that are not given.
    pub fn new(
        task: &Task,
        tunings: &[&[f64]],
        features: Option<FeatureNet>,
        pictures: &Pictures,
        count: usize,
    ) -> anyhow::Result<Self> {
        let recipe = task.recipe()?;
        let device = Device::Cpu;
        let losses = MultiLoss::new(&recipe, features, &device)?;
        let batches = |tuning: &[f64]| -> anyhow::Result<Vec<DeviceBatch>> {
            let samples = &recipe.batch.samples;
            let batch = |index: usize| {
                let tunings = Tunings::Fixed { values: vec![tuning.to_vec()] };
                // One picture each, of one kind after the other.
                let samples = vec![samples[index % samples.len()].clone()];
                let batch = Batch {
                    crop: SIDE,
                    micro_batches: 1,
                    size: 1,
                    samples,
                    tunings,
                    ..recipe.batch.clone()
                };
                let of_index = Recipe { seed: 0, batch, ..recipe.clone() };
                let host = batch::make(&of_index, pictures, index as u64);
                DeviceBatch::new(&host, &of_index, &device)
            };
            (0..count).map(batch).collect()
        };
        let points = tunings.iter().map(|point| Ok((point.to_vec(), batches(point)?)));
        let points = points.collect::<anyhow::Result<_>>()?;
        let between = |t: f64| -> Vec<f64> {
            task.way[0].iter().zip(task.way[1]).map(|(a, b)| (1.0 - t) * a + t * b).collect()
        };
        let way = (0..WAY).map(|step| between(step as f64 / (WAY - 1) as f64)).collect();
        let way = (batches(&between(0.5))?, way);
        Ok(Self { recipe, losses, points, way })
    }

    /// What the recipe asks for, at every point.
    ///
    /// # Errors
    /// Those of `filter`; a failing device.
    pub fn points(&self, filter: Filter<'_>) -> anyhow::Result<Vec<Point>> {
        let io = self.recipe.net.io();
        let point = |(tuning, batches): &(Vec<f64>, Vec<DeviceBatch>)| {
            let omega = tensor(tuning)?;
            let (mut squares, mut loss, mut losses) = (0.0, 0.0, BTreeMap::new());
            for batch in batches {
                let made = batch.filtered(&io, |x| {
                    filter(&omega, x).map_err(|error| candle_core::Error::Msg(format!("{error:#}")))
                })?;
                squares += self.losses.luma_error(batch, &made)?;
                loss += self.losses.measure(batch, &made)?;
                for (name, value) in self.losses.each(batch, &made)? {
                    *losses.entry(name).or_insert(0.0) += value / batches.len() as f64;
                }
            }
            ensure!(
                squares.is_finite() && loss.is_finite(),
                "what the net makes at {tuning:?} is not finite"
            );
            let count = batches.len() as f64;
            // Of all pictures together: one in which nothing is to be done would outweigh all others.
            let psnr = -10.0 * (squares / count).max(f64::MIN_POSITIVE).log10();
            Ok(Point { tuning: tuning.clone(), psnr, loss: loss / count, losses })
        };
        self.points.iter().map(point).collect()
    }

    /// How far outputs are from those at the beginning of the way, along it, in code values.
    ///
    /// # Errors
    /// Those of `filter`.
    pub fn response(&self, filter: Filter<'_>) -> anyhow::Result<Vec<f64>> {
        let (batches, way) = &self.way;
        let outputs = |tuning: &Vec<f64>| {
            let omega = tensor(tuning)?;
            let output = |batch: &DeviceBatch| filter(&omega, &batch.input);
            batches.iter().map(output).collect::<anyhow::Result<Vec<Tensor>>>()
        };
        let first = outputs(way.first().context("a way without tunings")?)?;
        let distance = |tuning| {
            let mut sum = 0.0;
            for (output, first) in outputs(tuning)?.iter().zip(&first) {
                let square = (output - first)?.sqr()?.mean_all()?;
                sum += f64::from(square.to_scalar::<f32>()?);
            }
            Ok(255.0 * (sum / batches.len() as f64).sqrt())
        };
        way.iter().map(distance).collect()
    }
}

fn tensor(tuning: &[f64]) -> anyhow::Result<Tensor> {
    let values: Vec<f32> = tuning.iter().map(|value| *value as f32).collect();
    Ok(Tensor::from_vec(values, (1, tuning.len()), &Device::Cpu)?)
}
