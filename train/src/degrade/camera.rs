//! What a camera makes of the noise of its sensor.
//!
//! Light falls on a mosaic of red, green and blue sites (Bayer's), each of which adds shot and read noise;
//! the missing colours are interpolated from neighbours, white is balanced, light is coded with a gamma,
//! colour is smoothed and edges are sharpened. All of that makes noise that is correlated over some
//! pixels, depends on the signal, and is stronger and coarser in colour than in luma (as in Brooks et al.,
//! "Unprocessing Images for Learned Raw Denoising", CVPR 2019). The picture itself stays sharp: what is
//! added is the difference between the same camera with and without noise.

use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::chroma_noise::MAX_RADIUS;
use super::gaussian_blur::{blur_columns, blur_rows, gaussian_half};
use super::kind::{Fixed, Kind, check_range, within};
use super::{standard_normal, uniform};
use crate::rgb::Rgb;
use crate::yuv::Matrix;

/// How much less red and blue sites see of white than green ones do.
const BALANCE: [[f32; 2]; 2] = [[1.4, 2.2], [1.3, 2.0]];

/// Standard deviation of the blur that edges are told by, in pixels.
const EDGES: f32 = 1.0;

/// Shot and read noise of a sensor behind a mosaic of colours, as a camera's processing leaves it:
/// correlated over some pixels, depending on the signal, coarser in colour than in luma. Of the
/// processing's own errors nothing is added.
#[derive(Deserialize, Serialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Camera {
    /// Least and greatest variance of the shot noise at white, in linear light, 0 to 1: one over
    /// the number of photons there.
    pub gain: [f32; 2],
    /// Least and greatest standard deviation of the read noise, of 255 in linear light, 0 to 64; none is
    /// the default.
    #[serde(default)]
    pub sigma: [f32; 2],
    /// Least and greatest blur of colour, 0 to 4 pixels; none is the default.
    #[serde(default)]
    pub smoothing: [f32; 2],
    /// Least and greatest amount of sharpening, 0 to 2; none is the default.
    #[serde(default)]
    pub sharpening: [f32; 2],
}

impl Kind for Camera {
    const STRENGTH: Option<&'static str> = Some("gain");
    const NOISE: bool = true;

    fn strengths(&self) -> [f32; 2] {
        self.gain
    }

    fn at(&self, severity: f32) -> Self {
        let [gain, sigma, smoothing, sharpening] =
            [self.gain, self.sigma, self.smoothing, self.sharpening]
                .map(|range| within(range, severity));
        Self { gain, sigma, smoothing, sharpening }
    }

    fn check(&self) -> anyhow::Result<()> {
        check_range("gain", self.gain, [0.0, 1.0])?;
        check_range("sigma", self.sigma, [0.0, 64.0])?;
        check_range("smoothing", self.smoothing, [0.0, MAX_RADIUS])?;
        check_range("sharpening", self.sharpening, [0.0, 2.0])
    }

    fn fix(
        &self,
        gain: f32,
        mut rng: ChaCha8Rng,
        (width, height): (usize, usize),
    ) -> Option<Fixed> {
        let sigma = uniform(self.sigma, &mut rng);
        let processing = [self.smoothing, self.sharpening].map(|range| uniform(range, &mut rng));
        let exposure = (gain > 0.0 || sigma > 0.0)
            .then(|| Exposure::new(width * height, gain, sigma, processing, &mut rng))?;
        Some(Box::new(move |image| exposure.apply(image)))
    }

    fn amount(gain: f32) -> f32 {
        gain.sqrt()
    }

    fn of_amount(amount: f32) -> f32 {
        amount * amount
    }

    fn details(&self) -> Vec<(&'static str, String)> {
        let processing = [("smoothing", self.smoothing), ("sharpening", self.sharpening)];
        let processing = processing.into_iter().filter(|(_, [value, _])| *value != 0.0);
        [("sigma", self.sigma)].into_iter().chain(processing)
            .map(|(key, [value, _])| (key, value.to_string()))
            .collect()
    }
}

/// One exposure, for images of one size.
struct Exposure {
    gain: f32,
    /// Variance of the read noise.
    read: f32,
    /// For red, green and blue.
    balance: [f32; 3],
    /// Column and row of the mosaic's corner, each 0 or 1.
    phase: [usize; 2],
    smoothing: f32,
    sharpening: f32,
    /// One value for each site.
    field: Vec<f32>,
}

impl Exposure {
    /// `gain`, `sigma`, `smoothing` and `sharpening` as in [`Camera`].
    fn new(
        sites: usize,
        gain: f32,
        sigma: f32,
        [smoothing, sharpening]: [f32; 2],
        rng: &mut ChaCha8Rng,
    ) -> Self {
        let [red, blue] = BALANCE.map(|range| uniform(range, rng));
        Self {
            gain,
            read: (sigma / 255.0).powi(2),
            balance: [red, 1.0, blue],
            phase: [rng.random_range(0..2), rng.random_range(0..2)],
            smoothing,
            sharpening,
            field: standard_normal(sites, rng),
        }
    }

    fn apply(&self, image: &Rgb) -> Rgb {
        let (quiet, noisy) = (self.develop(image, false), self.develop(image, true));
        let noise = noisy.data.iter().zip(&quiet.data).map(|(noisy, quiet)| noisy - quiet);
        let data =
            image.data.iter().zip(noise).map(|(value, noise)| (value + noise).clamp(0.0, 1.0));
        Rgb::new(image.width, image.height, data.collect())
    }

    /// The colour of a site.
    fn colour(&self, x: usize, y: usize) -> usize {
        match ((x + self.phase[0]) % 2, (y + self.phase[1]) % 2) {
            (0, 0) => 0,
            (1, 1) => 2,
            _ => 1,
        }
    }

    /// The picture that the camera makes of the scene.
    fn develop(&self, image: &Rgb, with_noise: bool) -> Rgb {
        let (width, height) = (image.width, image.height);
        let mut mosaic = Vec::with_capacity(width * height);
        for y in 0..height {
            for x in 0..width {
                let (colour, site) = (self.colour(x, y), y * width + x);
                // A gamma of 2 is near that of video and costs nothing.
                let light = image.plane(colour)[site].powi(2) / self.balance[colour];
                let deviation = (self.gain * light + self.read).sqrt();
                mosaic.push(if with_noise { light + deviation * self.field[site] } else { light });
            }
        }
        let mut picture = self.interpolated(&mosaic, width);
        for (plane, balance) in picture.data.chunks_exact_mut(width * height).zip(self.balance) {
            for value in plane {
                *value = (*value * balance).clamp(0.0, 1.0).sqrt();
            }
        }
        self.smooth_colour(&mut picture);
        self.sharpen(&mut picture);
        picture
    }

    /// Bilinear: every colour is the weighted mean of its sites among the nine around a pixel.
    fn interpolated(&self, mosaic: &[f32], width: usize) -> Rgb {
        let height = mosaic.len() / width;
        let mut data = vec![0.0; 3 * mosaic.len()];
        for y in 0..height {
            let rows = y.saturating_sub(1)..(y + 2).min(height);
            for x in 0..width {
                let (mut sums, mut weights) = ([0.0; 3], [0.0; 3]);
                for row in rows.clone() {
                    let beside_row = if row == y { 2.0 } else { 1.0 };
                    for column in x.saturating_sub(1)..(x + 2).min(width) {
                        let weight = beside_row * if column == x { 2.0 } else { 1.0 };
                        let colour = self.colour(column, row);
                        sums[colour] += weight * mosaic[row * width + column];
                        weights[colour] += weight;
                    }
                }
                let site = y * width + x;
                for (colour, (sum, weight)) in sums.into_iter().zip(weights).enumerate() {
                    // An image of one row or column lacks a colour.
                    let value = if weight > 0.0 { sum / weight } else { mosaic[site] };
                    data[colour * mosaic.len() + site] = value;
                }
            }
        }
        Rgb::new(width, height, data)
    }

    /// Blurs what differs from luma.
    fn smooth_colour(&self, picture: &mut Rgb) {
        if self.smoothing <= 0.0 {
            return;
        }
        let (taps, luma) = (gaussian_half(self.smoothing), luma(picture));
        for plane in picture.data.chunks_exact_mut(luma.len()) {
            let differences: Vec<f32> = plane.iter().zip(&luma).map(|(v, y)| v - y).collect();
            let smooth = blurred(&differences, picture.width, &taps);
            for ((value, y), difference) in plane.iter_mut().zip(&luma).zip(smooth) {
                *value = y + difference;
            }
        }
    }

    /// Adds what luma differs from its blur.
    fn sharpen(&self, picture: &mut Rgb) {
        if self.sharpening <= 0.0 {
            return;
        }
        let luma = luma(picture);
        let smooth = blurred(&luma, picture.width, &gaussian_half(EDGES));
        for plane in picture.data.chunks_exact_mut(luma.len()) {
            for ((value, y), smooth) in plane.iter_mut().zip(&luma).zip(&smooth) {
                *value += self.sharpening * (y - smooth);
            }
        }
    }
}

fn luma(picture: &Rgb) -> Vec<f32> {
    let [kr, kg, kb] = Matrix::Bt709.weights();
    let (red, green, blue) = (picture.plane(0), picture.plane(1), picture.plane(2));
    let pixels = red.iter().zip(green).zip(blue);
    pixels.map(|((red, green), blue)| kr * red + kg * green + kb * blue).collect()
}

fn blurred(plane: &[f32], width: usize, taps: &[f32]) -> Vec<f32> {
    let (mut rows, mut out) = (vec![0.0; plane.len()], vec![0.0; plane.len()]);
    blur_rows(plane, width, taps, &mut rows);
    blur_columns(&rows, width, taps, &mut out);
    out
}
