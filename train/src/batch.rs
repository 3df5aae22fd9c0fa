//! Batches: made on another thread, ahead of the trainer; each is a function of seed and step only.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use anyhow::Context as _;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::data::ImageFolder;
use crate::degrade::{Draw, apply_all_corners};
use crate::objective::{channel_scales, corner_weights, mean_target, sample_tuning};
use crate::recipe::Recipe;
use crate::rgb::Rgb;
use crate::yuv::{Matrix, Range, Yuv420};

/// Batches made ahead.
const AHEAD: usize = 4;

/// One step's samples, on the host. N samples in B micro-batches; H and W are half the crop.
#[derive(Clone, Debug, PartialEq)]
pub struct HostBatch {
    /// Tunings, `[B, p]`.
    pub tunings: Vec<f32>,
    /// Degraded input, `[N, 6, H, W]`.
    pub input: Vec<f32>,
    /// Weighted mean target minus input, `[N, 6, H, W]`: what the residual should be.
    pub residual: Vec<f32>,
    /// Factor of each channel's mean squared error, `[N, 6]`.
    pub scales: Vec<f32>,
}

/// Makes the batch of a step.
pub fn make(recipe: &Recipe, folder: &ImageFolder, step: u64) -> HostBatch {
    let mut rng = ChaCha8Rng::seed_from_u64(recipe.seed);
    // Stream 0 belongs to the initial weights.
    rng.set_stream(step + 1);
    let mut batch = HostBatch { tunings: vec![], input: vec![], residual: vec![], scales: vec![] };
    for _ in 0..recipe.batch.micro_batches {
        let tuning = sample_tuning(recipe, &mut rng);
        let weights = corner_weights(recipe, &tuning);
        for active in &recipe.batch.samples {
            push_sample(&mut batch, recipe, folder, (active, &weights), &mut rng);
        }
        batch.tunings.extend(tuning);
    }
    batch
}

fn push_sample(
    batch: &mut HostBatch,
    recipe: &Recipe,
    folder: &ImageFolder,
    (active, weights): (&[String], &[f32]),
    rng: &mut ChaCha8Rng,
) {
    let chain = recipe.chain();
    let active: Vec<bool> =
        recipe.degradations.iter().map(|link| active.contains(&link.parameter)).collect();
    let clean = folder.sample_crop(recipe.batch.crop, recipe.batch.halo, rng);
    let draw = Draw::sample(&chain, &active, rng);
    let matrix = if rng.random() { Matrix::Bt601 } else { Matrix::Bt709 };
    let range = if rng.random() { Range::Limited } else { Range::Full };

    // The input keeps every degradation, the clean image none; then the corners that count.
    let corners = recipe.corners().into_iter().zip(weights).filter(|(_, weight)| **weight > 0.0);
    let (corners, weights): (Vec<usize>, Vec<f32>) = corners.unzip();
    let mut masks = vec![vec![true; chain.len()], vec![false; chain.len()]];
    masks.extend(corners.iter().map(|&corner| recipe.kept_at(corner)));

    let images = apply_all_corners(&chain, &draw, &masks, &clean);
    let mut planes = images.iter().map(|image| {
        let mut yuv = Yuv420::from_rgb(&centre(image, recipe.batch.crop), matrix, range);
        // Video arrives rounded; so does the input here, and whatever is compared with it.
        yuv.round_to_8bit();
        yuv.normalised(range)
    });
    let (Some(input), Some(clean)) = (planes.next(), planes.next()) else { return };
    let targets: Vec<Vec<f32>> = planes.collect();
    let mean = mean_target(&weights, &targets);
    batch.scales.extend(channel_scales(&input, &clean));
    batch.residual.extend(mean.iter().zip(&input).map(|(mean, input)| mean - input));
    batch.input.extend(input);
}

fn centre(image: &Rgb, side: usize) -> Rgb {
    image.crop((image.width - side) / 2, (image.height - side) / 2, side, side)
}

/// Makes the batches of `steps` in order on a thread of its own, a few ahead of the reader.
///
/// # Errors
/// When the thread cannot be started.
pub fn stream(
    recipe: Arc<Recipe>,
    folder: Arc<ImageFolder>,
    steps: std::ops::Range<u64>,
) -> anyhow::Result<Receiver<HostBatch>> {
    let (sender, receiver) = sync_channel(AHEAD);
    let work = move || {
        for step in steps {
            if sender.send(make(&recipe, &folder, step)).is_err() {
                return; // the trainer stopped
            }
        }
    };
    thread::Builder::new()
        .name("batches".into())
        .spawn(work)
        .context("cannot start the batch thread")?;
    Ok(receiver)
}
