//! Batches: made ahead of the trainer, on all threads; each is a function of seed and step only.

use std::collections::BTreeMap;
use std::ops;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, StandardNormal};

use crate::corner_targets::{channel_scales, corner_weights, mean_target};
use crate::data::ImageFolder;
use crate::dead_leaves;
use crate::degrade::{Draw, Recorded, apply_all_corners};
use crate::pairs::PairFolder;
use crate::recipe::{Level, Link, Recipe};
use crate::rgb::Rgb;
use crate::tunings::{StepTunings, sample_any_tuning};
use crate::view::View;
use crate::yuv::{Matrix, Range};

/// Batches that are made ahead, for each thread.
const AHEAD: u64 = 2;

/// How long the trainer sleeps before it looks again whether it can help.
const PATIENCE: Duration = Duration::from_millis(1);

/// One step's samples, on the host: planes of C channels as the net's [`View`] has them. N samples in B
/// micro-batches; targets are larger than inputs where the net enlarges.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostBatch {
    /// Tunings, `[B, p]`.
    pub tunings: Vec<f32>,
    /// Degraded input, `[N, C, H, W]`.
    pub input: Vec<f32>,
    /// Weighted mean of the corners' targets minus input, `[N, C, H, W]`: what the residual should
    /// be. Empty for recipes without corner targets.
    pub residual: Vec<f32>,
    /// Factor of each channel's mean squared error to it, `[N, C]`.
    pub scales: Vec<f32>,
    /// Of each of [`Recipe::corners`], where the recipe [looks at them](Recipe::has_single_corners): its weights,
    /// `[N]`, and its target minus input, `[N, C, H, W]`, 0 where it has no weight.
    pub corners: Vec<(Vec<f32>, Vec<f32>)>,
    /// The picture of each of [`Recipe::target_masks`], `[N, C, H, W]`.
    pub targets: Vec<Vec<f32>>,
    /// Matrix of each sample's planes, `[N]`.
    pub matrices: Vec<Matrix>,
    /// Range of each sample's planes before they were normalised, `[N]`.
    pub ranges: Vec<Range>,
}

/// What samples are cut from.
pub struct Pictures {
    /// Clean images.
    pub images: ImageFolder,
    /// Pairs of clips, for samples with a recorded degradation.
    pub pairs: Option<PairFolder>,
}

/// Makes the batch of a step.
///
/// # Panics
/// If the recipe has a recorded degradation and there are no pairs.
pub fn make(recipe: &Recipe, pictures: &Pictures, step: u64) -> HostBatch {
    let mut rng = ChaCha8Rng::seed_from_u64(recipe.seed);
    // Stream 0 belongs to the initial weights.
    rng.set_stream(step + 1);
    let targets = recipe.target_masks();
    let mut batch = HostBatch { targets: vec![vec![]; targets.len()], ..Default::default() };
    if recipe.has_single_corners() {
        batch.corners = vec![<_>::default(); recipe.corners().len()];
    }
    let all_levels = recipe.levels();
    // A step goes on where the one before it ended.
    let (listed, batch_size) =
        (&recipe.batch.samples, recipe.batch.micro_batches * recipe.batch.size);
    let first = (step % listed.len() as u64 * batch_size as u64 % listed.len() as u64) as usize;
    let mut samples = listed.iter().cycle().skip(first).map(|sample| recipe.is_active(sample));
    let tunings = StepTunings::new(recipe, step, &mut rng);
    for index in 0..recipe.batch.micro_batches {
        let mut tuning = tunings.draw(index, &mut rng);
        let all_are_wrong = recipe.batch.wrong > 0.0 && rng.random_bool(recipe.batch.wrong);
        if all_are_wrong {
            let anything = sample_any_tuning(recipe, &mut rng);
            for ((value, any), level) in tuning.iter_mut().zip(anything).zip(&all_levels) {
                *value = if level.is_some() { any } else { *value };
            }
        }
        // Those that are told rightly.
        let mut is_right =
            |level: &Level| !all_are_wrong && (level.wrong == 0.0 || !rng.random_bool(level.wrong));
        let levels: Vec<_> =
            all_levels.iter().copied().map(|level| level.filter(&mut is_right)).collect();
        let mut measured = vec![vec![]; levels.len()];
        let samples: Vec<_> = samples.by_ref().take(recipe.batch.size).collect();
        for (j, value) in tuning.iter_mut().enumerate() {
            // What no sample has is of level 0.
            if levels[j].is_some() && !samples.iter().any(|active| undoes(recipe, j, active)) {
                *value = 0.0;
            }
        }
        for active in &samples {
            let told = Told { active, tuning: &tuning, levels: &levels, targets: &targets };
            push_sample(&mut batch, recipe, pictures, told, &mut measured, &mut rng);
        }
        for ((value, level), measured) in tuning.iter_mut().zip(&levels).zip(measured) {
            if let (Some(level), false) = (level, measured.is_empty()) {
                let mean = measured.iter().sum::<f32>() / measured.len() as f32;
                *value = jittered(mean, *level, &mut rng);
            }
        }
        batch.tunings.extend(tuning);
    }
    batch
}

/// Whether parameter `j` undoes one of the degradations that a sample has.
fn undoes(recipe: &Recipe, j: usize, active: &[bool]) -> bool {
    let mut links = recipe.degradations.iter().zip(active);
    links.any(|(link, active)| *active && recipe.parameter_of(link) == Some(j))
}

/// What is near a level.
fn jittered(value: f32, level: Level, rng: &mut ChaCha8Rng) -> f32 {
    let normal: f32 = StandardNormal.sample(rng);
    (value * (level.jitter as f32 * normal).exp()).min(1.0)
}

/// Level of a degraded picture by its error to one without that degradation.
pub(crate) fn measured_level(
    view: View,
    degraded: &[f32],
    without: &[f32],
    level: Level,
) -> Option<f32> {
    let most = level.error? / 255.0;
    let (luma, without) = (view.luma(degraded), view.luma(without));
    let squares = luma.iter().zip(&*without).map(|(a, b)| f64::from(a - b).powi(2));
    let error = (squares.sum::<f64>() / luma.len() as f64).sqrt();
    Some((error / most).min(1.0) as f32)
}

/// What a sample is made for.
#[derive(Clone, Copy)]
struct Told<'t> {
    /// Which degradations it has.
    active: &'t [bool],
    tuning: &'t [f32],
    /// Of each parameter that tells how strong its degradation is.
    levels: &'t [Option<Level>],
    /// What each of [`Recipe::target_masks`] keeps.
    targets: &'t [Vec<bool>],
}

fn push_sample(
    batch: &mut HostBatch,
    recipe: &Recipe,
    pictures: &Pictures,
    Told { active, tuning, levels, targets }: Told<'_>,
    measured: &mut [Vec<f32>],
    rng: &mut ChaCha8Rng,
) {
    let chain = recipe.chain();
    let (crop, halo, view) = (recipe.batch.crop, recipe.batch.halo, recipe.view());
    let mut active_links = chain.iter().zip(active).filter(|(_, active)| **active);
    let recorded = active_links.find_map(|(degradation, _)| degradation.as_recorded());
    let (clean, twin) = if let Some(Recorded { folder }) = recorded {
        let pairs = pictures.pairs.as_ref().expect("a recorded degradation comes with pairs");
        let (clean, twin) = pairs.sample_crop_pair(folder.as_deref(), crop, halo, rng);
        (clean, Some(twin))
    } else if recipe.batch.drawn > 0.0 && rng.random_bool(recipe.batch.drawn) {
        (dead_leaves::draw(crop + 2 * halo, rng), None)
    } else {
        (pictures.images.sample_crop(crop, halo, rng), None)
    };
    let mut draw = Draw::sample(&chain, active, rng);
    // Where a parameter tells the level, the degradation is as strong as that.
    let links = recipe.degradations.iter().zip(&mut draw.strengths);
    for (link, strength) in links.filter(|(_, strength)| strength.is_some()) {
        if let Some(j) = recipe.parameter_of(link)
            && let Some(level) = levels[j]
        {
            let told = jittered(tuning[j], level, rng);
            *strength = Some(link.degradation.strength_at(told));
        }
    }
    let matrix = if rng.random() { Matrix::Bt601 } else { Matrix::Bt709 };
    let range = if rng.random() { Range::Limited } else { Range::Full };

    // The input keeps every degradation; then what objectives ask for, and the corners that count.
    let mut masks = vec![vec![true; chain.len()]];
    masks.extend_from_slice(targets);
    let mut weights = vec![];
    // Weights of all corners, those of 0 too.
    let mut all_weights = vec![];
    let is_active = |j: usize| undoes(recipe, j, active);
    let to_measure: Vec<(usize, Level)> = (0..levels.len())
        .filter_map(|j| Some((j, levels[j].filter(|level| level.error.is_some() && is_active(j))?)))
        .collect();
    for (j, _) in &to_measure {
        let others = |link: &Link| recipe.parameter_of(link) != Some(*j);
        masks.push(recipe.degradations.iter().map(others).collect());
    }
    if recipe.has_corner_targets() {
        masks.push(vec![false; chain.len()]);
        all_weights = corner_weights(recipe, tuning);
        for (corner, &weight) in recipe.corners().into_iter().zip(&all_weights) {
            if weight > 0.0 {
                masks.push(recipe.kept_at(corner));
                weights.push(weight);
            }
        }
    }

    let small = view.small(&clean);
    let images = apply_all_corners(&chain, &draw, &masks, &small, twin.as_ref());
    let of = |image: &Rgb, side: usize| view.planes(&centre(image, side), matrix, range);
    let mut planes = images.iter().map(|image| of(image, crop / view.scale));
    let Some(input) = planes.next() else { return };
    for (target, picture) in batch.targets.iter_mut().zip(planes.by_ref()) {
        match view.scale {
            1 => target.extend(picture),
            // Nothing is compared with a small picture.
            _ => target.extend(of(&clean, crop)),
        }
    }
    for ((j, level), without) in to_measure.into_iter().zip(planes.by_ref()) {
        measured[j].extend(measured_level(view, &input, &without, level));
    }
    if let Some(clean) = planes.next() {
        let corners: Vec<Vec<f32>> = planes.collect();
        let mean = mean_target(&weights, &corners);
        batch.scales.extend(channel_scales(view, &input, &clean));
        batch.residual.extend(mean.iter().zip(&input).map(|(mean, input)| mean - input));
        let mut corners = corners.iter();
        for ((weights, wanted), weight) in batch.corners.iter_mut().zip(all_weights) {
            weights.push(weight);
            let target = if weight > 0.0 { corners.next().unwrap_or(&input) } else { &input };
            wanted.extend(target.iter().zip(&input).map(|(target, input)| target - input));
        }
    }
    batch.input.extend(input);
    batch.matrices.push(matrix);
    batch.ranges.push(range);
}

fn centre(image: &Rgb, side: usize) -> Rgb {
    image.crop((image.width - side) / 2, (image.height - side) / 2, side, side)
}

/// Batches in the order of their steps, made by whichever of rayon's threads is free, a few ahead of the
/// reader. With threads of their own there would be more than cores, and a step would wait for one that
/// the system has put aside.
pub struct Batches {
    recipe: Arc<Recipe>,
    pictures: Arc<Pictures>,
    /// Steps whose batches are not ordered yet.
    steps: ops::Range<u64>,
    /// The next step to be read.
    next: u64,
    ahead: u64,
    made: BTreeMap<u64, HostBatch>,
    sender: Sender<Made>,
    receiver: Receiver<Made>,
}

/// A step, and its batch unless making it panicked.
type Made = (u64, Option<HostBatch>);

impl Batches {
    /// The batches of `steps`.
    #[must_use]
    pub fn new(recipe: &Arc<Recipe>, pictures: &Arc<Pictures>, steps: ops::Range<u64>) -> Self {
        let (sender, receiver) = channel();
        Self {
            recipe: recipe.clone(),
            pictures: pictures.clone(),
            next: steps.start,
            steps,
            ahead: AHEAD * rayon::current_num_threads() as u64,
            made: BTreeMap::new(),
            sender,
            receiver,
        }
    }

    fn order(&self, step: u64) {
        let (recipe, pictures) = (self.recipe.clone(), self.pictures.clone());
        let sender = self.sender.clone();
        rayon::spawn_fifo(move || {
            let batch = catch_unwind(AssertUnwindSafe(|| make(&recipe, &pictures, step)));
            // Sending fails when the trainer has stopped.
            let _ = sender.send((step, batch.ok()));
        });
    }

    /// What was made meanwhile; helps if nothing was. `None` where there is still nothing.
    fn receive(&self) -> Option<Made> {
        self.receiver.try_recv().ok().or_else(|| match rayon::yield_now() {
            // This thread may be the only one.
            Some(rayon::Yield::Executed) => None,
            _ => self.receiver.recv_timeout(PATIENCE).ok(),
        })
    }
}

impl Iterator for Batches {
    type Item = HostBatch;

    /// `None` after the last step, or if a batch could not be made.
    fn next(&mut self) -> Option<HostBatch> {
        while !self.steps.is_empty() && self.steps.start < self.next + self.ahead {
            self.order(self.steps.start);
            self.steps.start += 1;
        }
        if self.next == self.steps.end {
            return None;
        }
        while !self.made.contains_key(&self.next) {
            if let Some((step, batch)) = self.receive() {
                self.made.insert(step, batch?);
            }
        }
        self.next += 1;
        self.made.remove(&(self.next - 1))
    }
}
