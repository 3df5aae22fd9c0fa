//! Gaussian blur.

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::kind::{Fixed, Kind, check_range, within};
use super::rows::{add_pair, scale_row};
use crate::rgb::Rgb;

/// Greatest `sigma`, in pixels: far beyond the kernel, which is a box there.
const MAX_SIGMA: f32 = 1000.0;

/// Gaussian blur, 21×21 taps, edges replicated.
#[derive(Deserialize, Serialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Blur {
    /// Least and greatest standard deviation, 0 to 1000 pixels.
    pub sigma: [f32; 2],
}

impl Kind for Blur {
    const STRENGTH: Option<&'static str> = Some("sigma");

    fn strengths(&self) -> [f32; 2] {
        self.sigma
    }

    fn at(&self, severity: f32) -> Self {
        Self { sigma: within(self.sigma, severity) }
    }

    fn check(&self) -> anyhow::Result<()> {
        check_range("sigma", self.sigma, [0.0, MAX_SIGMA])
    }

    fn fix(&self, sigma: f32, _: ChaCha8Rng, _: (usize, usize)) -> Option<Fixed> {
        (sigma > 0.0).then(|| -> Fixed { Box::new(move |image| blur(image, sigma)) })
    }
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
pub fn gaussian_half(sigma: f32) -> Vec<f32> {
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

/// Filters the rows of a plane of that width.
pub fn blur_rows(plane: &[f32], width: usize, taps: &[f32], out: &mut [f32]) {
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

/// Filters the columns of a plane of that width.
pub fn blur_columns(plane: &[f32], width: usize, taps: &[f32], out: &mut [f32]) {
    let last = plane.len() / width - 1;
    let row = |y: usize| &plane[y * width..][..width];
    for (y, out) in out.chunks_exact_mut(width).enumerate() {
        scale_row(out, row(y), taps[0]);
        for (t, &tap) in taps.iter().enumerate().skip(1) {
            add_pair(out, row(y.saturating_sub(t)), row((y + t).min(last)), tap);
        }
    }
}
