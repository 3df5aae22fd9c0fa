//! Noise that leaves luma alone, in blotches as cameras make them.

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::gaussian_blur::{blur_columns, blur_rows, gaussian_half};
use super::kind::{Fixed, Kind, check_range, within};
use super::{standard_normal, uniform};
use crate::rgb::Rgb;
use crate::yuv::Matrix;

/// Greatest `radius`, in pixels.
pub const MAX_RADIUS: f32 = 4.0;

/// Gaussian noise on Cb and Cr (BT.709), independent of each other; luma keeps its value
/// where the result needs no clipping to `[0, 1]`.
#[derive(Deserialize, Serialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ChromaNoise {
    /// Least and greatest standard deviation of Cb and of Cr, of 255, 0 to 255.
    pub sigma: [f32; 2],
    /// Least and greatest size of the blotches, 0 to 4 pixels: standard deviation of the
    /// Gaussian that white noise was filtered with. 0, the default: independent pixels.
    #[serde(default)]
    pub radius: [f32; 2],
}

impl Kind for ChromaNoise {
    const STRENGTH: Option<&'static str> = Some("sigma");
    const NOISE: bool = true;

    fn strengths(&self) -> [f32; 2] {
        self.sigma
    }

    fn at(&self, severity: f32) -> Self {
        Self { sigma: within(self.sigma, severity), radius: within(self.radius, severity) }
    }

    fn check(&self) -> anyhow::Result<()> {
        check_range("sigma", self.sigma, [0.0, 255.0])?;
        check_range("radius", self.radius, [0.0, MAX_RADIUS])
    }

    fn fix(
        &self,
        sigma: f32,
        mut rng: ChaCha8Rng,
        (width, height): (usize, usize),
    ) -> Option<Fixed> {
        let noise = (sigma > 0.0).then(|| {
            let radius = uniform(self.radius, &mut rng);
            Blotches::new(width, height, sigma, radius, &mut rng)
        })?;
        Some(Box::new(move |image| noise.add_to(image)))
    }

    fn details(&self) -> Vec<(&'static str, String)> {
        let [radius, _] = self.radius;
        (radius != 0.0).then(|| ("radius", radius.to_string())).into_iter().collect()
    }
}

/// One sample of noise on Cb and Cr, for images of one size.
struct Blotches {
    /// What is added to red, green and blue, `[3, height, width]`.
    offsets: Vec<f32>,
}

impl Blotches {
    /// `sigma` of 255; `radius` in pixels.
    fn new(width: usize, height: usize, sigma: f32, radius: f32, rng: &mut ChaCha8Rng) -> Self {
        let cb = correlated_field(width, height, radius, rng);
        let cr = correlated_field(width, height, radius, rng);
        // Y' stays when kr·ΔR + kg·ΔG + kb·ΔB = 0.
        let [kr, kg, kb] = Matrix::Bt709.weights();
        let red = 2.0 * (1.0 - kr) * sigma / 255.0;
        let blue = 2.0 * (1.0 - kb) * sigma / 255.0;
        let (green_cr, green_cb) = (-kr / kg * red, -kb / kg * blue);
        let mut offsets = Vec::with_capacity(3 * width * height);
        offsets.extend(cr.iter().map(|cr| red * cr));
        offsets.extend(cr.iter().zip(&cb).map(|(cr, cb)| green_cr * cr + green_cb * cb));
        offsets.extend(cb.iter().map(|cb| blue * cb));
        Self { offsets }
    }

    fn add_to(&self, image: &Rgb) -> Rgb {
        let data = image
            .data
            .iter()
            .zip(&self.offsets)
            .map(|(value, offset)| (value + offset).clamp(0.0, 1.0))
            .collect();
        Rgb::new(image.width, image.height, data)
    }
}

/// White noise filtered with a Gaussian and brought back to variance 1. The field is drawn larger
/// by the reach of the filter, so that its statistics are the same up to the edges.
fn correlated_field(width: usize, height: usize, radius: f32, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let mut taps = gaussian_half(radius);
    let reach = taps.len() - 1;
    // The variance of a sum of independent values is that of one times the sum of squared taps.
    let power = taps[0] * taps[0] + 2.0 * taps[1..].iter().map(|tap| tap * tap).sum::<f32>();
    taps.iter_mut().for_each(|tap| *tap /= power.sqrt());

    let (full_width, full_height) = (width + 2 * reach, height + 2 * reach);
    let mut field = standard_normal(full_width * full_height, rng);
    if reach > 0 {
        let mut rows = vec![0.0; field.len()];
        blur_rows(&field, full_width, &taps, &mut rows);
        blur_columns(&rows, full_width, &taps, &mut field);
    }
    let rows = field.chunks_exact(full_width).skip(reach).take(height);
    rows.flat_map(|row| &row[reach..][..width]).copied().collect()
}
