//! A chain of degradations that can be replayed with parts left out.
//!
//! The corner targets of a tunable net are the clean image with some degradations undone and
//! the others kept (Maggioni et al., CVPR 2023). So one [`Draw`] fixes every random choice of
//! a sample, and [`apply`] reruns the chain with any subset: what is kept has the same
//! strength and the same noise sample whatever is left out.

use anyhow::ensure;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, StandardNormal};
use serde::{Deserialize, Serialize};

use crate::rgb::Rgb;

/// One link of a chain, with the range its strength is drawn from.
#[derive(Deserialize, Serialize, Clone, Debug, PartialEq)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Degradation {
    /// Gaussian blur, 21×21 taps, edges replicated.
    Blur {
        /// Least and greatest standard deviation, in pixels.
        sigma: [f32; 2],
    },
    /// Gaussian noise, independent per pixel and RGB channel, then clipped to `[0, 1]`.
    Noise {
        /// Least and greatest standard deviation, of 255.
        sigma: [f32; 2],
    },
}

impl Degradation {
    /// Least and greatest strength.
    #[must_use]
    pub fn strengths(&self) -> [f32; 2] {
        match *self {
            Self::Blur { sigma } | Self::Noise { sigma } => sigma,
        }
    }

    /// Checks what the type cannot: `0 ≤ least ≤ greatest`, both finite.
    ///
    /// # Errors
    /// If the range is not such a range.
    pub fn check(&self) -> anyhow::Result<()> {
        let [low, high] = self.strengths();
        ensure!(
            0.0 <= low && low <= high && high.is_finite(),
            "{self:?}: sigma must be [least, greatest] with 0 <= least <= greatest"
        );
        Ok(())
    }
}

/// Every random choice made for one sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Draw {
    /// Strength of each degradation, in its unit; `None` where it is not applied.
    pub strengths: Vec<Option<f32>>,
    /// Seed of the noise fields.
    pub seed: u64,
}

impl Draw {
    /// Draws strengths uniformly from their ranges, and a seed. Takes the same amount from
    /// `rng` whatever is active.
    ///
    /// # Panics
    /// If `active` and `chain` differ in length.
    pub fn sample<R: rand::Rng + ?Sized>(
        chain: &[Degradation],
        active: &[bool],
        rng: &mut R,
    ) -> Self {
        assert_eq!(chain.len(), active.len(), "one flag per degradation");
        let strengths = chain
            .iter()
            .zip(active)
            .map(|(degradation, &active)| {
                let [low, high] = degradation.strengths();
                let strength = low + (high - low) * rng.random::<f32>();
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
/// `keep`. The `n`-th noise of a chain uses stream `n` of a ChaCha8 generator seeded with
/// [`Draw::seed`].
///
/// # Panics
/// If `draw` or `keep` differs from `chain` in length.
#[must_use]
pub fn apply(chain: &[Degradation], draw: &Draw, keep: &[bool], clean: &Rgb) -> Rgb {
    let mut images = apply_all_corners(chain, draw, &[keep.to_vec()], clean);
    images.swap_remove(0)
}

/// [`apply`] for several masks at once, in their order: each noise field is drawn once, and
/// masks with a common beginning share that part of the work.
///
/// # Panics
/// If `draw` or a mask differs from `chain` in length.
#[must_use]
pub fn apply_all_corners(
    chain: &[Degradation],
    draw: &Draw,
    masks: &[Vec<bool>],
    clean: &Rgb,
) -> Vec<Rgb> {
    assert_eq!(chain.len(), draw.strengths.len(), "one strength per degradation");
    for mask in masks {
        assert_eq!(chain.len(), mask.len(), "one flag per degradation");
    }
    // Distinct images so far, and for every mask which of them is its own.
    let mut images = vec![clean.clone()];
    let mut image_of = vec![0; masks.len()];
    let mut noise_index = 0;
    for (i, degradation) in chain.iter().enumerate() {
        let stream = noise_index;
        noise_index += u64::from(matches!(degradation, Degradation::Noise { .. }));
        let Some(sigma) = draw.strengths[i].filter(|&strength| strength > 0.0) else {
            continue;
        };
        let mut field = None;
        let mut degraded = vec![None; images.len()];
        for (mask, image) in masks.iter().zip(&mut image_of) {
            if !mask[i] {
                continue;
            }
            let before = *image;
            *image = *degraded[before].get_or_insert_with(|| {
                let after = match degradation {
                    Degradation::Blur { .. } => blur(&images[before], sigma),
                    Degradation::Noise { .. } => {
                        let field = field.get_or_insert_with(|| {
                            noise_field(clean.data.len(), draw.seed, stream)
                        });
                        add_noise(&images[before], field, sigma)
                    }
                };
                images.push(after);
                images.len() - 1
            });
        }
    }
    image_of.into_iter().map(|image| images[image].clone()).collect()
}

/// The noise of the evaluation protocol: `N(0, sigma/255)` on every RGB value in planar order,
/// from ChaCha8 seeded (`seed_from_u64`) with the index of the image in its sorted folder;
/// clipped to `[0, 1]`, not rounded. Where a test blurs too, `clean` is the [`blur`]red image.
///
/// This is what [`apply`] does with `image_index` for a seed.
#[must_use]
pub fn noise_for_eval(clean: &Rgb, sigma: f32, image_index: u64) -> Rgb {
    if sigma <= 0.0 {
        return clean.clone();
    }
    add_noise(clean, &noise_field(clean.data.len(), image_index, 0), sigma)
}

fn noise_field(len: usize, seed: u64, stream: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    StandardNormal.sample_iter(&mut rng).take(len).collect()
}

fn add_noise(image: &Rgb, field: &[f32], sigma: f32) -> Rgb {
    let scale = sigma / 255.0;
    let data = image
        .data
        .iter()
        .zip(field)
        .map(|(&value, &normal)| (value + scale * normal).clamp(0.0, 1.0))
        .collect();
    Rgb::new(image.width, image.height, data)
}

/// Taps on either side of the centre of the 21×21 kernel.
const BLUR_RADIUS: usize = 10;

/// Taps lighter than this, relative to the centre, are below the resolution of `f32` sums.
const NEGLIGIBLE: f64 = 1e-7;

/// 21×21 Gaussian with a standard deviation of `sigma` pixels, normalised to sum 1, edges
/// replicated. The image itself if `sigma` is 0.
#[must_use]
pub fn blur(image: &Rgb, sigma: f32) -> Rgb {
    let taps = gaussian_half(sigma);
    if taps.len() == 1 {
        return image.clone();
    }
    let mut data = vec![0.0; image.data.len()];
    let mut rows = vec![0.0; image.width * image.height];
    for (c, out) in data.chunks_exact_mut(rows.len()).enumerate() {
        blur_rows(image.plane(c), image.width, &taps, &mut rows);
        blur_columns(&rows, image.width, &taps, out);
    }
    Rgb::new(image.width, image.height, data)
}

/// The centre tap and those on one side of it.
fn gaussian_half(sigma: f32) -> Vec<f32> {
    let exponent = -0.5 / f64::from(sigma).powi(2);
    let mut half = vec![1.0];
    if sigma > 0.0 {
        half.extend(
            (1..=BLUR_RADIUS)
                .map(|t| ((t * t) as f64 * exponent).exp())
                .take_while(|&weight| weight > NEGLIGIBLE),
        );
    }
    let sum = 1.0 + 2.0 * half[1..].iter().sum::<f64>();
    half.iter().map(|weight| (weight / sum) as f32).collect()
}

fn blur_rows(plane: &[f32], width: usize, taps: &[f32], out: &mut [f32]) {
    let radius = taps.len() - 1;
    let mut padded = vec![0.0; width + 2 * radius];
    for (row, out) in plane.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
        padded[..radius].fill(row[0]);
        padded[radius..][..width].copy_from_slice(row);
        padded[radius + width..].fill(row[width - 1]);
        scale_row(out, row, taps[0]);
        for (t, &tap) in taps.iter().enumerate().skip(1) {
            add_pair(out, &padded[radius - t..], &padded[radius + t..], tap);
        }
    }
}

fn blur_columns(plane: &[f32], width: usize, taps: &[f32], out: &mut [f32]) {
    let last = plane.len() / width - 1;
    let row = |y: usize| &plane[y * width..][..width];
    for (y, out) in out.chunks_exact_mut(width).enumerate() {
        scale_row(out, row(y), taps[0]);
        for (t, &tap) in taps.iter().enumerate().skip(1) {
            add_pair(out, row(y.saturating_sub(t)), row((y + t).min(last)), tap);
        }
    }
}

fn scale_row(out: &mut [f32], row: &[f32], tap: f32) {
    for (out, &value) in out.iter_mut().zip(row) {
        *out = tap * value;
    }
}

/// `out += tap · (a + b)`; the kernel is symmetric.
fn add_pair(out: &mut [f32], a: &[f32], b: &[f32], tap: f32) {
    for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
        *out += tap * (a + b);
    }
}
