//! Chains of degradations that can be replayed with parts left out.
//!
//! The corner targets of a tunable net are the clean image with some degradations undone and
//! the others kept (Maggioni et al., CVPR 2023). So one [`Draw`] fixes every random choice of
//! a sample, and [`apply`] reruns the chain with any subset: what is kept has the same
//! strength and the same noise sample whatever is left out.
//!
//! The kinds, and the range of every number, are those of [`Degradation`]; all work on RGB in
//! `[0, 1]` and give an image of the same size.

use rand::{Rng, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, StandardNormal};

use crate::rgb::Rgb;

mod kind;
mod rows;

pub use downscale::downscale;
pub use gaussian_blur::blur;
pub use jpeg::jpeg;
pub use kind::check_chain;
use kind::{Fixed, Kind};
pub use motion_blur::motion_blur;
pub use noise::noise_for_eval;
pub use tunableconv::resample::Filter;

// The kinds there are: a file, its type, and what it is called in recipes. What can be trained can so be
// scored, evaluated, swept, calibrated and degraded with.
kind::kinds! {
    /// Gaussian blur.
    gaussian_blur: Blur as "blur",
    /// Gaussian noise.
    noise: Noise as "noise",
    /// Noise whose strength follows the signal.
    poisson_gaussian: PoissonGaussian as "poisson-gaussian",
    /// Noise that leaves luma alone.
    chroma_noise: ChromaNoise as "chroma-noise",
    /// Noise as a camera makes it.
    camera: Camera as "camera",
    /// Motion along a straight line.
    motion_blur: MotionBlur as "motion-blur",
    /// Lost resolution.
    downscale: Downscale as "downscale",
    /// JPEG compression.
    jpeg: Jpeg as "jpeg",
    /// Whatever happened to the twin of a clean image.
    recorded: Recorded as "recorded",
}

/// Every random choice made for one sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Draw {
    /// Strength of each degradation, in its unit; `None` where it is not applied.
    pub strengths: Vec<Option<f32>>,
    /// Seed of every other choice: noise fields, angles, grids, second strengths.
    pub seed: u64,
}

impl Draw {
    /// Draws strengths uniformly from their ranges, and a seed. Takes the same amount from
    /// `rng` whatever is active.
    ///
    /// # Panics
    /// If `active` and `chain` differ in length.
    pub fn sample<R: Rng + ?Sized>(chain: &[Degradation], active: &[bool], rng: &mut R) -> Self {
        assert_eq!(chain.len(), active.len(), "one flag per degradation");
        let strengths = chain
            .iter()
            .zip(active)
            .map(|(degradation, &active)| {
                let strength = uniform(degradation.strengths(), rng);
                active.then_some(strength)
            })
            .collect();
        Self { strengths, seed: rng.random() }
    }

    /// The given strengths (`None`: not applied) and seed.
    #[must_use]
    pub fn fixed(strengths: &[Option<f32>], seed: u64) -> Self {
        Self { strengths: strengths.to_vec(), seed }
    }
}

/// Runs the chain on `clean`, in order, with those degradations that are both in `draw` and in
/// `keep`. Where [`Degradation::Recorded`] is among them, it starts from `recorded`, the degraded
/// twin of `clean`, instead.
///
/// Each degradation has a stream of its own of the ChaCha8 generator seeded with [`Draw::seed`]:
/// the `n`-th [`Degradation::Noise`] of a chain stream `n`, any other at index `i` stream
/// `2³² + i`.
///
/// # Panics
/// If `draw` or `keep` differs from `chain` in length; if a recorded degradation is not the first,
/// or is to be applied and `recorded` is missing or differs from `clean` in size.
#[must_use]
pub fn apply(
    chain: &[Degradation],
    draw: &Draw,
    keep: &[bool],
    clean: &Rgb,
    recorded: Option<&Rgb>,
) -> Rgb {
    let mut images = apply_all_corners(chain, draw, &[keep.to_vec()], clean, recorded);
    images.swap_remove(0)
}

/// [`apply`] for several masks at once, in their order: each noise field is drawn once, and
/// masks with a common beginning share that part of the work.
///
/// # Panics
/// Like [`apply`], for every mask.
#[must_use]
pub fn apply_all_corners(
    chain: &[Degradation],
    draw: &Draw,
    masks: &[Vec<bool>],
    clean: &Rgb,
    recorded: Option<&Rgb>,
) -> Vec<Rgb> {
    assert_eq!(chain.len(), draw.strengths.len(), "one strength per degradation");
    for mask in masks {
        assert_eq!(chain.len(), mask.len(), "one flag per degradation");
    }
    // Distinct images so far, and for every mask which of them is its own.
    let mut images = vec![clean.clone()];
    let mut image_of = vec![0; masks.len()];
    for (i, degradation) in chain.iter().enumerate() {
        let Some(strength) = draw.strengths[i].filter(|_| masks.iter().any(|mask| mask[i])) else {
            continue;
        };
        let mut degraded = vec![None; images.len()];
        if degradation.is_recorded() && strength > 0.0 {
            assert_eq!(images.len(), 1, "a recorded degradation comes first");
            let twin = recorded.expect("a recorded degradation needs the degraded twin");
            assert_eq!((twin.width, twin.height), (clean.width, clean.height), "twins differ");
            images.push(twin.clone());
            degraded[0] = Some(1);
        }
        let size = (clean.width, clean.height);
        let link = degradation.fix(strength, generator(chain, i, draw.seed), size);
        for (_, image) in masks.iter().zip(&mut image_of).filter(|(mask, _)| mask[i]) {
            let before = *image;
            *image = match (&link, degraded[before]) {
                (_, Some(after)) => after,
                (None, None) => before,
                (Some(link), None) => {
                    let after = link(&images[before]);
                    images.push(after);
                    images.len() - 1
                }
            };
            degraded[before] = Some(*image);
        }
    }
    image_of.into_iter().map(|image| images[image].clone()).collect()
}

/// Where the streams of the kinds other than [`Degradation::Noise`] begin.
const OTHER_STREAMS: u64 = 1 << 32;

/// The generator of the degradation at index `i`; see [`apply`].
fn generator(chain: &[Degradation], i: usize, seed: u64) -> ChaCha8Rng {
    let is_noise = |degradation: &&Degradation| matches!(degradation, Degradation::Noise(_));
    let stream = if is_noise(&&chain[i]) {
        chain[..i].iter().filter(is_noise).count() as u64
    } else {
        OTHER_STREAMS + i as u64
    };
    stream_of(seed, stream)
}

fn stream_of(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    rng
}

fn uniform<R: Rng + ?Sized>([low, high]: [f32; 2], rng: &mut R) -> f32 {
    low + (high - low) * rng.random::<f32>()
}

fn standard_normal(len: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    StandardNormal.sample_iter(rng).take(len).collect()
}
