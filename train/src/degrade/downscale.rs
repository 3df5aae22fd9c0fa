//! Lost resolution: scaled down and back up.

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use tunableconv::resample::{Axis, Filter, transpose};

use super::kind::{Fixed, Kind, check_range, within};
use super::rows::clip;
use crate::rgb::Rgb;

/// Scaled down, and back up with [`Filter::Bicubic`].
#[derive(Deserialize, Serialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Downscale {
    /// Least and greatest factor, 1 to 4; sides are rounded to whole pixels.
    pub factor: [f32; 2],
    /// How it is scaled down; [`Filter::Area`] is the default.
    #[serde(default = "area")]
    pub filter: Filter,
}

fn area() -> Filter {
    Filter::Area
}

impl Kind for Downscale {
    const STRENGTH: Option<&'static str> = Some("factor");
    const NOTHING: f32 = 1.0;

    fn strengths(&self) -> [f32; 2] {
        self.factor
    }

    fn at(&self, severity: f32) -> Self {
        Self { factor: within(self.factor, severity), filter: self.filter }
    }

    fn check(&self) -> anyhow::Result<()> {
        check_range("factor", self.factor, [1.0, 4.0])
    }

    fn fix(
        &self,
        factor: f32,
        _: ChaCha8Rng,
        (width, height): (usize, usize),
    ) -> Option<Fixed> {
        let rescale = Rescale::new(width, height, factor, self.filter)?;
        Some(Box::new(move |image| rescale.apply(image)))
    }

    fn details(&self) -> Vec<(&'static str, String)> {
        let filter = match self.filter {
            Filter::Area => "area",
            Filter::Bicubic => "bicubic",
        };
        vec![("filter", filter.into())]
    }
}

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
struct Rescale {
    /// Across and down the image.
    down: [Axis; 2],
    up: [Axis; 2],
}

impl Rescale {
    /// `None` if the sides would stay as they are.
    fn new(width: usize, height: usize, factor: f32, filter: Filter) -> Option<Self> {
        let sides = [width, height];
        let small = sides.map(|side| ((side as f32 / factor.max(1.0)).round() as usize).max(1));
        (small != sides).then(|| Self {
            down: [0, 1].map(|i| Axis::new(filter, sides[i], small[i])),
            up: [0, 1].map(|i| Axis::new(Filter::Bicubic, small[i], sides[i])),
        })
    }

    fn apply(&self, image: &Rgb) -> Rgb {
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
