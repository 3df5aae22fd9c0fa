//! Measures the ranges of a net's inner activations at every corner of its tuning domain, for the
//! engine's int8 arithmetic.
//!
//! Per image, corner, layer and channel: the mean, and the smallest and largest value once a share
//! of 1 − quantile of all values, divided between both ends, is left out. A range is the union of
//! the images' ranges, a mean the mean of their means.

use anyhow::{Context as _, ensure};
use candle_core::{Device, Tensor};
use indicatif::ProgressBar;
use tunableconv::checkpoint::{Calibration, Checkpoint, MAX_CORNERS, STATISTICS};
use tunableconv::engine::CpuEngine;
use tunableconv::net::Net;
use tunableconv::nn::FoldedChain;
use tunableconv::tuning::Tuning;

use crate::condition::Condition;
use crate::data::name_of;
use crate::rgb::Rgb;
use crate::score::{MATRIX, RANGE};
use crate::tell;
use crate::terminal::causes;
use crate::test_set::TestSet;
use crate::view::View;

/// Standard deviations of noise, of 255, that a net is usually measured with, one after the other.
pub const NOISE: [f32; 4] = [0.0, 15.0, 25.0, 50.0];

/// Standard deviations of blur, in pixels, the next after each round of noise.
pub const BLUR: [f32; 2] = [0.0, 1.5];

/// What the ranges are measured on.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// How pictures are degraded: the i-th as the i-th says, around and around.
    pub conditions: Vec<Condition>,
    /// Share of the values that are inside the ranges, 0.5 to 1.
    pub quantile: f64,
    /// Most images used, spread over the folder.
    pub images: usize,
    /// Seed of the noise.
    pub seed: u64,
    /// For a net that was trained within ranges: they end where its activations do, so that int8 has finer
    /// steps, and contain 0 as they always do first; the net is then to be trained on.
    pub narrow: bool,
}

impl Default for Settings {
    fn default() -> Self {
        let blurred = |blur| NOISE.map(|noise| Condition::blur_and_noise(blur, noise));
        let conditions = BLUR.map(blurred).concat();
        Self { conditions, quantile: 0.999, images: 24, seed: 0, narrow: false }
    }
}

impl Settings {
    /// # Errors
    /// Names the setting that is out of its range.
    pub fn validate(&self) -> anyhow::Result<()> {
        ensure!(!self.conditions.is_empty(), "no condition, expected at least one");
        let quantile = self.quantile;
        ensure!((0.5..=1.0).contains(&quantile), "quantile = {quantile}, expected 0.5 to 1");
        ensure!(self.images > 0, "images = 0, expected at least 1");
        Ok(())
    }
}

/// The checkpoint with ranges measured on pictures of `set`, spread over it; a net that enlarges gets them
/// reduced, from a set [made for that](TestSet::for_scale).
///
/// # Errors
/// Settings out of range, a set for another scale, too many corners, no usable image, or a net whose activations are not
/// finite.
pub fn calibrate(
    checkpoint: &Checkpoint,
    set: &TestSet,
    settings: &Settings,
) -> anyhow::Result<Checkpoint> {
    settings.validate()?;
    let io = checkpoint.metadata.architecture.io();
    let view = View::of(&io);
    ensure!(
        set.scale() == view.scale,
        "the pictures are for a net of scale {}, this one has {}",
        set.scale(),
        view.scale
    );
    CpuEngine::check_int8(&checkpoint.metadata.architecture)?;
    let is_bounded = checkpoint.metadata.calibration.as_ref().is_some_and(|c| c.bounds);
    ensure!(
        !is_bounded || settings.narrow,
        "the net was trained within the ranges that it has: others would make another net of it, but \
         for narrower ones (--narrow)"
    );
    ensure!(is_bounded || !settings.narrow, "the net was not trained within ranges yet");
    let conditions = set.settle_all(&settings.conditions)?;
    let space = &checkpoint.metadata.tuning;
    let corners = space.corner_count();
    ensure!(corners <= MAX_CORNERS, "the domain has {corners} corners, int8 takes {MAX_CORNERS}");
    let net = Net::new(checkpoint, &Device::Cpu)?;
    let fold = |corner: Tuning| Ok(net.fold(&corner)?.into_chain()?);
    let folded: Vec<FoldedChain> = space.corners().map(fold).collect::<anyhow::Result<_>>()?;
    let layers = checkpoint.metadata.architecture.inner_outputs();
    let mut ranges: Vec<Vec<Range3>> =
        layers.iter().map(|(_, channels)| vec![Range3::default(); corners * channels]).collect();

    let count = settings.images.min(set.len());
    let bar = ProgressBar::new((count * corners) as u64);
    let mut used = 0;
    for index in 0..count {
        let place = index * set.len() / count;
        let picture = match set.read(place) {
            Ok(picture) => picture,
            Err(error) => {
                bar.suspend(|| tell!("warning: skipped: {}", causes(&error)));
                continue;
            }
        };
        let seed = settings.seed.wrapping_add(index as u64);
        let condition = &conditions[index % conditions.len()];
        let keep = vec![true; condition.kinds().len()];
        // What a net enlarges is the smaller picture.
        let small = view.small(&picture.clean);
        let degraded = condition.apply(&small, picture.twin.as_ref(), seed, &keep);
        let x = input(&degraded, view, io.mean)?;
        for (corner, chain) in folded.iter().enumerate() {
            chain.forward_showing(&x, |layer, activations| {
                let Some(ranges) = ranges.get_mut(layer) else { return Ok(()) };
                let channels = ranges.len() / corners;
                let of_corner = &mut ranges[corner * channels..][..channels];
                widen(of_corner, activations, settings.quantile)
                    .with_context(|| set.describe(place))
            })?;
            bar.inc(1);
        }
        used += 1;
    }
    bar.finish_and_clear();
    ensure!(used > 0, "{}: no image in it can be read", set.folder().display());

    let mut calibrated = checkpoint.clone();
    for ((layer, _), ranges) in layers.iter().zip(&ranges) {
        let name = format!("{layer}.activations");
        let mut values: Vec<f32> = ranges.iter().flat_map(|range| range.statistics(used)).collect();
        if let Some(before) = checkpoint.tensors.get(&name).filter(|_| settings.narrow) {
            narrow(&mut values, before);
        }
        calibrated.tensors.insert(name, values);
    }
    calibrated.metadata.calibration = Some(Calibration {
        data: name_of(set.folder())?,
        images: used as u64,
        seed: settings.seed,
        quantile: settings.quantile,
        bounds: settings.narrow,
    });
    Ok(calibrated)
}

/// What the layers of a net read for one image, `[1, C, H, W]`.
fn input(picture: &Rgb, view: View, mean: Option<[f32; 3]>) -> anyhow::Result<Tensor> {
    let (height, width) = (view.planes_side(picture.height), view.planes_side(picture.width));
    let planes = view.planes(picture, MATRIX, RANGE);
    let x = Tensor::from_vec(planes, (1, view.channels(), height, width), &Device::Cpu)?;
    Ok(match mean {
        Some(mean) => x.broadcast_sub(&Tensor::new(&mean, &Device::Cpu)?.reshape((1, 3, 1, 1))?)?,
        None => x,
    })
}

/// One channel's range so far, and the sum of its means.
#[derive(Clone, Copy, Debug, Default)]
struct Range3 {
    minimum: f32,
    maximum: f32,
    means: f64,
}

impl Range3 {
    fn statistics(&self, images: usize) -> [f32; STATISTICS] {
        let mean = (self.means / images as f64) as f32;
        // A mean of values that are mostly outside the range cannot be used.
        [self.minimum, self.maximum, mean.clamp(self.minimum, self.maximum)]
    }
}

/// Keeps ranges within those that a layer had: the last one's activations may lie somewhat beyond theirs.
fn narrow(ranges: &mut [f32], before: &[f32]) {
    let (ranges, before) =
        (ranges.as_chunks_mut::<STATISTICS>().0, before.as_chunks::<STATISTICS>().0);
    for ([low, high, mean], [lowest, highest, _]) in ranges.iter_mut().zip(before) {
        *low = low.max(*lowest).min(*highest);
        *high = high.min(*highest).max(*low);
        *mean = mean.clamp(*low, *high);
    }
}

/// Takes in the activations `[1, C, H, W]` of one image; ranges start at 0, which the engine's
/// always contain.
fn widen(ranges: &mut [Range3], activations: &Tensor, quantile: f64) -> anyhow::Result<()> {
    let mut values: Vec<f32> = activations.flatten_all()?.to_vec1()?;
    let each = values.len() / ranges.len();
    let outside = ((1.0 - quantile) / 2.0 * each as f64) as usize;
    for (range, values) in ranges.iter_mut().zip(values.chunks_exact_mut(each)) {
        ensure!(values.iter().all(|v| v.is_finite()), "an activation is not finite");
        range.means += values.iter().map(|&v| f64::from(v)).sum::<f64>() / each as f64;
        let (_, low, _) = values.select_nth_unstable_by(outside, f32::total_cmp);
        range.minimum = range.minimum.min(*low);
        let (_, high, _) = values.select_nth_unstable_by(each - 1 - outside, f32::total_cmp);
        range.maximum = range.maximum.max(*high);
    }
    Ok(())
}
