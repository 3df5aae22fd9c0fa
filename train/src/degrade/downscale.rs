//! Lost resolution: scaled down and back up.

use tunableconv::resample::{Axis, Filter, transpose};

use super::rows::clip;
use crate::rgb::Rgb;

/// Scales the image down by `factor` with `filter` and back up to its size with
/// [`Filter::Bicubic`], clipped to `[0, 1]` after each. Sides are rounded to whole pixels in
/// between; the image itself if that changes neither.
#[must_use]
pub fn downscale(image: &Rgb, factor: f32, filter: Filter) -> Rgb {
    match Rescale::new(image.width, image.height, factor, filter) {
        Some(rescale) => rescale.apply(image),
        None => image.clone(),
    }
}

/// The way down and up, for images of one size.
pub struct Rescale {
    /// Across and down the image.
    down: [Axis; 2],
    up: [Axis; 2],
}

impl Rescale {
    /// `None` if the sides would stay as they are.
    pub fn new(width: usize, height: usize, factor: f32, filter: Filter) -> Option<Self> {
        let sides = [width, height];
        let small = sides.map(|side| ((side as f32 / factor.max(1.0)).round() as usize).max(1));
        (small != sides).then(|| Self {
            down: [0, 1].map(|i| Axis::new(filter, sides[i], small[i])),
            up: [0, 1].map(|i| Axis::new(Filter::Bicubic, small[i], sides[i])),
        })
    }

    pub fn apply(&self, image: &Rgb) -> Rgb {
        let mut data = Vec::with_capacity(image.data.len());
        let (mut plane, mut other) = (Vec::new(), Vec::new());
        for c in 0..3 {
            // Rows are resampled as the columns of the transposed plane.
            self.down[1].columns(image.plane(c), image.width, &mut plane);
            transpose(&plane, image.width, &mut other);
            self.down[0].columns(&other, self.down[1].len(), &mut plane);
            clip(&mut plane);
            self.up[0].columns(&plane, self.down[1].len(), &mut other);
            transpose(&other, self.down[1].len(), &mut plane);
            self.up[1].columns(&plane, image.width, &mut other);
            clip(&mut other);
            data.extend_from_slice(&other);
        }
        Rgb::new(image.width, image.height, data)
    }
}
