//! Noise that leaves luma alone, in blotches as cameras make them.

use rand_chacha::ChaCha8Rng;

use super::gaussian_blur::{blur_columns, blur_rows, gaussian_half};
use super::standard_normal;
use crate::rgb::Rgb;
use crate::yuv::Matrix;

/// One sample of noise on Cb and Cr, for images of one size.
pub struct ChromaNoise {
    /// What is added to red, green and blue, `[3, height, width]`.
    offsets: Vec<f32>,
}

impl ChromaNoise {
    /// `sigma` of 255; `radius` in pixels, see
    /// [`Degradation::ChromaNoise`](super::Degradation::ChromaNoise).
    pub fn new(width: usize, height: usize, sigma: f32, radius: f32, rng: &mut ChaCha8Rng) -> Self {
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

    pub fn add_to(&self, image: &Rgb) -> Rgb {
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
