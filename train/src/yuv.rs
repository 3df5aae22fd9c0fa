//! Y'CbCr 4:2:0 pictures and their conversion from and to RGB
//! (ITU-R BT.601 and BT.709, 8 bit).

use anyhow::ensure;
pub use tunableconv::frame::{Matrix, Range};
use tunableconv::resample::{Filter, Resize};

use crate::rgb::Rgb;

/// Code value of zero chroma, in both ranges.
const CHROMA_ZERO: f32 = 128.0;

/// A 4:2:0 picture in 8-bit code values, held as floats so that rounding is a separate step.
#[derive(Clone, Debug, PartialEq)]
pub struct Yuv420 {
    /// Luma width in pixels.
    pub width: usize,
    /// Luma height in pixels.
    pub height: usize,
    /// `[height, width]`.
    pub y: Vec<f32>,
    /// Cb, `[⌈height/2⌉, ⌈width/2⌉]`.
    pub u: Vec<f32>,
    /// Cr, `[⌈height/2⌉, ⌈width/2⌉]`.
    pub v: Vec<f32>,
}

impl Yuv420 {
    /// Converts without rounding. Chroma is the mean of its 2×2 block; where an odd side cuts
    /// the block, the last row or column is repeated.
    #[must_use]
    pub fn from_rgb(rgb: &Rgb, matrix: Matrix, range: Range) -> Self {
        let (width, height) = (rgb.width, rgb.height);
        let [kr, kg, kb] = matrix.weights();
        let (red, green, blue) = (rgb.plane(0), rgb.plane(1), rgb.plane(2));
        // Luma in 0..1 first: the chroma of a block follows from its mean colour.
        let mut y: Vec<f32> = red
            .iter()
            .zip(green)
            .zip(blue)
            .map(|((&r, &g), &b)| kr * r + kg * g + kb * b)
            .collect();
        let (chroma_width, chroma_height) = (width.div_ceil(2), height.div_ceil(2));
        let mut u = Vec::with_capacity(chroma_width * chroma_height);
        let mut v = Vec::with_capacity(chroma_width * chroma_height);
        let u_scale = range.chroma(8).1 / (2.0 * (1.0 - kb));
        let v_scale = range.chroma(8).1 / (2.0 * (1.0 - kr));
        for i in 0..chroma_height {
            let top = 2 * i * width;
            let bottom = (2 * i + 1).min(height - 1) * width;
            for j in 0..chroma_width {
                let (left, right) = (2 * j, (2 * j + 1).min(width - 1));
                let mean = |plane: &[f32]| {
                    0.25 * ((plane[top + left] + plane[top + right])
                        + (plane[bottom + left] + plane[bottom + right]))
                };
                let luma = mean(&y);
                u.push(CHROMA_ZERO + u_scale * (mean(blue) - luma));
                v.push(CHROMA_ZERO + v_scale * (mean(red) - luma));
            }
        }
        for value in &mut y {
            *value = range.luma(8).0 + range.luma(8).1 * *value;
        }
        Self { width, height, y, u, v }
    }

    /// Enlarged bicubically and rounded: what there is without a net.
    #[must_use]
    pub fn enlarged(&self, scale: usize) -> Self {
        if scale == 1 {
            return self.clone();
        }
        let (width, height) = (scale * self.width, scale * self.height);
        let half = |side: usize| side.div_ceil(2);
        // Of an odd side chroma has half a sample more than luma.
        let spacing = 1.0 / scale as f64;
        let plane = |values: &[f32], from: (usize, usize), to: (usize, usize)| {
            let mut out = vec![];
            Resize::spaced(Filter::Bicubic, from, to, spacing).plane(values, &mut out);
            out
        };
        let chroma = |values: &[f32]| {
            plane(values, (half(self.width), half(self.height)), (half(width), half(height)))
        };
        let y = plane(&self.y, (self.width, self.height), (width, height));
        let (u, v) = (chroma(&self.u), chroma(&self.v));
        let mut enlarged = Self { width, height, y, u, v };
        enlarged.round_to_8bit();
        enlarged
    }

    /// Rounds every sample to the nearest integer (ties away from zero) and clamps it to 0–255.
    pub fn round_to_8bit(&mut self) {
        for plane in [&mut self.y, &mut self.u, &mut self.v] {
            for value in plane {
                *value = value.round().clamp(0.0, 255.0);
            }
        }
    }

    /// Converts to RGB, each chroma sample serving its whole 2×2 block; clipped to `[0, 1]`.
    #[must_use]
    pub fn to_rgb(&self, matrix: Matrix, range: Range) -> Rgb {
        let (width, size) = (self.width, self.width * self.height);
        let [kr, kg, kb] = matrix.weights();
        let chroma_width = width.div_ceil(2);
        let mut data = vec![0.0; 3 * size];
        let (red, rest) = data.split_at_mut(size);
        let (green, blue) = rest.split_at_mut(size);
        for i in 0..self.height {
            let row = i * width;
            let chroma_row = i / 2 * chroma_width;
            for j in 0..width {
                let luma = (self.y[row + j] - range.luma(8).0) / range.luma(8).1;
                let cb = (self.u[chroma_row + j / 2] - CHROMA_ZERO) / range.chroma(8).1;
                let cr = (self.v[chroma_row + j / 2] - CHROMA_ZERO) / range.chroma(8).1;
                let r = luma + 2.0 * (1.0 - kr) * cr;
                let b = luma + 2.0 * (1.0 - kb) * cb;
                let g = (luma - kr * r - kb * b) / kg;
                red[row + j] = r.clamp(0.0, 1.0);
                green[row + j] = g.clamp(0.0, 1.0);
                blue[row + j] = b.clamp(0.0, 1.0);
            }
        }
        Rgb::new(width, self.height, data)
    }

    /// The planes Y, U, V as bytes, rounded and clamped like [`Self::round_to_8bit`].
    #[must_use]
    pub fn to_bytes(&self) -> [Vec<u8>; 3] {
        // `as u8` saturates.
        [&self.y, &self.u, &self.v]
            .map(|plane| plane.iter().map(|value| value.round() as u8).collect())
    }

    /// From the planes Y, U, V without padding.
    ///
    /// # Errors
    /// If a side is 0 or a plane has another length than `width · height`, or
    /// `⌈width/2⌉ · ⌈height/2⌉` for chroma.
    pub fn from_bytes(width: usize, height: usize, planes: [&[u8]; 3]) -> anyhow::Result<Self> {
        ensure!(width > 0 && height > 0, "empty picture {width}x{height}");
        let chroma = width.div_ceil(2) * height.div_ceil(2);
        for (name, plane, expected) in
            [("Y", planes[0], width * height), ("U", planes[1], chroma), ("V", planes[2], chroma)]
        {
            ensure!(
                plane.len() == expected,
                "{name} plane of a {width}x{height} 4:2:0 picture: expected {expected} bytes, got {}",
                plane.len()
            );
        }
        let [y, u, v] = planes.map(|plane| plane.iter().map(|&b| f32::from(b)).collect());
        Ok(Self { width, height, y, u, v })
    }

    /// What a 4:2:0 net sees: luma unfolded 2×2 to half size, and chroma.
    ///
    /// # Shapes
    /// Returns `[6, ⌈height/2⌉, ⌈width/2⌉]` in the order Y00 Y01 Y10 Y11 U V, where Yrc is the
    /// luma at row `2i + r`, column `2j + c`; the last row and column of odd sides are repeated.
    /// Luma runs from 0 (black) to 1 (white); chroma likewise around 0.5.
    #[must_use]
    pub fn normalised(&self, range: Range) -> Vec<f32> {
        let (half_width, half_height) = (self.width.div_ceil(2), self.height.div_ceil(2));
        let mut out = Vec::with_capacity(6 * half_width * half_height);
        let luma = |value: f32| (value - range.luma(8).0) / range.luma(8).1;
        for r in 0..2 {
            for c in 0..2 {
                for i in 0..half_height {
                    let row = (2 * i + r).min(self.height - 1) * self.width;
                    let row = &self.y[row..row + self.width];
                    out.extend((0..half_width).map(|j| luma(row[(2 * j + c).min(self.width - 1)])));
                }
            }
        }
        for plane in [&self.u, &self.v] {
            out.extend(plane.iter().map(|&value| (value - range.chroma(8).0) / range.chroma(8).1));
        }
        out
    }
}
