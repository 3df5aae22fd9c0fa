//! Motion along a straight line.

use std::f32::consts::PI;

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::kind::{Fixed, Kind, check_range, within};
use super::rows::{add_pair, pad, scale_row};
use super::uniform;
use crate::rgb::Rgb;

/// Greatest `length`, in pixels.
const MAX_LENGTH: f32 = 64.0;

/// Points per pixel at which the path is sampled.
const POINTS_PER_PIXEL: f64 = 16.0;

/// Motion at constant speed along a straight line in a random direction, edges replicated.
#[derive(Deserialize, Serialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct MotionBlur {
    /// Least and greatest length of the path, 0 to 64 pixels.
    pub length: [f32; 2],
}

impl Kind for MotionBlur {
    const STRENGTH: Option<&'static str> = Some("length");

    fn strengths(&self) -> [f32; 2] {
        self.length
    }

    fn at(&self, severity: f32) -> Self {
        Self { length: within(self.length, severity) }
    }

    fn check(&self) -> anyhow::Result<()> {
        check_range("length", self.length, [0.0, MAX_LENGTH])
    }

    fn fix(&self, length: f32, mut rng: ChaCha8Rng, _: (usize, usize)) -> Option<Fixed> {
        let path = (length > 0.0).then(|| Path::new(length, uniform([0.0, PI], &mut rng)))?;
        Some(Box::new(move |image| path.apply(image)))
    }
}

/// Blur by motion at constant speed along a line of `length` pixels centred at every pixel, the
/// image between pixels being interpolated bilinearly; edges replicated. `angle` in radians, from
/// the rows' direction towards the columns', so clockwise as pictures are shown. The image itself
/// if `length` is 0.
#[must_use]
pub fn motion_blur(image: &Rgb, length: f32, angle: f32) -> Rgb {
    if length > 0.0 { Path::new(length, angle).apply(image) } else { image.clone() }
}

/// A kernel symmetric about its centre.
struct Path {
    centre: f32,
    /// `(dx, dy, weight)` of one pixel of each pair `±(dx, dy)`.
    pairs: Vec<(isize, isize, f32)>,
    radius: usize,
}

impl Path {
    /// Normalised to sum 1. `length` above 0, in pixels.
    fn new(length: f32, angle: f32) -> Self {
        let length = f64::from(length);
        let (sin, cos) = f64::from(angle).sin_cos();
        let radius = (length / 2.0).ceil() as isize;
        let side = 2 * radius + 1;
        let mut kernel = vec![0.0; (side * side) as usize];
        let index = |dx: isize, dy: isize| ((dy + radius) * side + dx + radius) as usize;
        // Half of the path; the other half mirrors it.
        let points = (POINTS_PER_PIXEL * length / 2.0).ceil();
        for point in 0..points as usize {
            let t = length / 2.0 * (point as f64 + 0.5) / points;
            let (x, y) = (t * cos, t * sin);
            for dx in [x.floor(), x.floor() + 1.0] {
                for dy in [y.floor(), y.floor() + 1.0] {
                    let weight = (1.0 - (x - dx).abs()) * (1.0 - (y - dy).abs());
                    // At a whole number the pixel beyond has weight 0 and may lie outside.
                    if weight > 0.0 {
                        kernel[index(dx as isize, dy as isize)] += weight;
                        kernel[index(-dx as isize, -dy as isize)] += weight;
                    }
                }
            }
        }
        let sum: f64 = kernel.iter().sum();
        let tap = |dx, dy| (kernel[index(dx, dy)] / sum) as f32;
        let ahead = |dx: isize, dy: isize| dy > 0 || dy == 0 && dx > 0;
        let pairs = (0..=radius)
            .flat_map(|dy| (-radius..=radius).map(move |dx| (dx, dy)))
            .filter(|&(dx, dy)| ahead(dx, dy) && tap(dx, dy) > 0.0)
            .map(|(dx, dy)| (dx, dy, tap(dx, dy)))
            .collect();
        Self { centre: tap(0, 0), pairs, radius: radius as usize }
    }

    fn apply(&self, image: &Rgb) -> Rgb {
        let (width, radius) = (image.width, self.radius);
        let stride = width + 2 * radius;
        let mut data = vec![0.0; image.data.len()];
        let mut padded = Vec::with_capacity(stride * (image.height + 2 * radius));
        for (c, out) in data.chunks_exact_mut(width * image.height).enumerate() {
            pad(image.plane(c), width, radius, &mut padded);
            for (y, out) in out.chunks_exact_mut(width).enumerate() {
                let here = (y + radius) * stride + radius;
                scale_row(out, &padded[here..][..width], self.centre);
                for &(dx, dy, tap) in &self.pairs {
                    let offset = dy * stride as isize + dx;
                    let ahead = &padded[here.wrapping_add_signed(offset)..][..width];
                    let behind = &padded[here.wrapping_add_signed(-offset)..][..width];
                    add_pair(out, ahead, behind, tap);
                }
            }
        }
        Rgb::new(width, image.height, data)
    }
}
