//! What a net sees of pictures, and what it is to make of them: planes of its colours, rounded as video is.

use std::borrow::Cow;

use tunableconv::frame::CHANNELS;
use tunableconv::nn::{Colour, Io};
use tunableconv::resample::Filter;

use crate::rgb::Rgb;
use crate::score::MATRIX;
use crate::yuv::{Matrix, Range, Yuv420};

/// Colours and scale of a net.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Colour representation.
    pub colour: Colour,
    /// Sides of its output over those of its input.
    pub scale: usize,
}

impl View {
    /// 4:2:0 at one size.
    pub const YUV420: Self = Self { colour: Colour::Yuv420, scale: 1 };

    /// Of a net that reads and writes this.
    #[must_use]
    pub fn of(io: &Io) -> Self {
        Self { colour: io.colour, scale: io.scale }
    }

    /// Channels that are alike: of 4:2:0 those of luma, then those of chroma.
    #[must_use]
    pub fn groups(self) -> &'static [usize] {
        match self.colour {
            Colour::Yuv420 => &[4, CHANNELS - 4],
            Colour::Rgb => &[3],
            Colour::Luma => &[1],
        }
    }

    /// Channels of its planes.
    #[must_use]
    pub fn channels(self) -> usize {
        self.groups().iter().sum()
    }

    /// Rows or columns of the planes of a picture that has so many.
    #[must_use]
    pub fn planes_side(self, side: usize) -> usize {
        if self.colour == Colour::Yuv420 { side.div_ceil(2) } else { side }
    }

    /// A picture as a net has it, rounded to 8 bit, from 0 to 1.
    ///
    /// # Shapes
    /// Returns `[C, H, W]`: of 4:2:0 what [`Yuv420::normalised`] gives, else R, G and B, or luma.
    #[must_use]
    pub fn planes(self, picture: &Rgb, matrix: Matrix, range: Range) -> Vec<f32> {
        if self.colour == Colour::Rgb {
            return picture.data.iter().map(|value| (value * 255.0).round() / 255.0).collect();
        }
        let mut yuv = Yuv420::from_rgb(picture, matrix, range);
        // Video arrives rounded; so does the input here, and whatever is compared with it.
        yuv.round_to_8bit();
        match self.colour {
            Colour::Luma => {
                let (black, white) = range.luma(8);
                yuv.y.iter().map(|value| (value - black) / white).collect()
            }
            _ => yuv.normalised(range),
        }
    }

    /// The picture that the net is to enlarge to `picture`, whose sides are multiples of the scale.
    #[must_use]
    pub fn small(self, picture: &Rgb) -> Rgb {
        match self.scale {
            1 => picture.clone(),
            scale => {
                let (width, height) = (picture.width / scale, picture.height / scale);
                picture.resized(width, height, Filter::Bicubic)
            }
        }
    }

    /// The upper left of a picture, whose sides are multiples of the scale.
    ///
    /// # Panics
    /// If a side is smaller than the scale.
    #[must_use]
    pub fn fitting(self, picture: Rgb) -> Rgb {
        let (width, height) = (picture.width, picture.height);
        match (width % self.scale, height % self.scale) {
            (0, 0) => picture,
            (right, below) => picture.crop(0, 0, width - right, height - below),
        }
    }

    /// Luma of the planes: a part of them, or what R, G and B come to.
    #[must_use]
    pub fn luma(self, planes: &[f32]) -> Cow<'_, [f32]> {
        if self.colour != Colour::Rgb {
            return Cow::Borrowed(&planes[..planes.len() / self.channels() * self.groups()[0]]);
        }
        let [kr, kg, kb] = MATRIX.weights();
        let (r, rest) = planes.split_at(planes.len() / 3);
        let (g, b) = rest.split_at(r.len());
        r.iter().zip(g).zip(b).map(|((r, g), b)| kr * r + kg * g + kb * b).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Or a net in RGB would be told of more noise in training than it is asked for afterwards.
    #[test]
    fn luma_is_the_same_in_every_view() {
        let data = (0..3 * 4 * 4).map(|i| (i * 37 % 101) as f32 / 100.0).collect();
        let picture = Rgb::new(4, 4, data);
        let of = |colour| {
            let view = View { colour, scale: 1 };
            let planes = view.planes(&picture, MATRIX, Range::Full);
            view.luma(&planes).into_owned()
        };
        let (luma, of_rgb) = (of(Colour::Luma), of(Colour::Rgb));
        assert_eq!((luma.len(), of(Colour::Yuv420).len()), (16, 16));
        assert!(
            luma.iter().zip(&of_rgb).all(|(a, b)| (a - b).abs() < 0.004),
            "{luma:?} {of_rgb:?}"
        );
    }
}
