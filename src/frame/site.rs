//! Where samples of chroma lie, and what is at places where there is none.

/// Where the samples of chroma lie of which there is one for two columns of luma, or for two lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChromaSite {
    /// Across and down: whether a sample lies on the first of two pixels, rather than halfway between them.
    pub cosited: [bool; 2],
}

impl ChromaSite {
    /// On the left one of two columns, halfway between two lines: MPEG-2, H.264 and most video.
    pub const LEFT: Self = Self { cosited: [true, false] };
    /// In the middle of four pixels: JPEG and MPEG-1.
    pub const CENTRE: Self = Self { cosited: [false, false] };
    /// On the upper left one of four pixels: ITU-R BT.2020.
    pub const TOP_LEFT: Self = Self { cosited: [true, true] };
}

impl Default for ChromaSite {
    /// [`ChromaSite::LEFT`].
    fn default() -> Self {
        Self::LEFT
    }
}

/// Samples of chroma along one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Siting {
    /// Whether there is one for two pixels.
    pub(super) half: bool,
    /// Whether it then lies on the first of them.
    pub(super) cosited: bool,
}

impl Siting {
    /// Number of samples for so many pixels.
    pub(super) fn samples(self, pixels: usize) -> usize {
        if self.half { pixels.div_ceil(2) } else { pixels }
    }

    /// The samples that chroma at a pixel is interpolated from linearly, with their shares; they may be beyond
    /// the last.
    pub(super) fn around(self, pixel: usize) -> [(usize, f32); 2] {
        let sample = pixel / 2;
        match (self.half, self.cosited, pixel.is_multiple_of(2)) {
            (false, ..) => [(pixel, 1.0), (pixel, 0.0)],
            (true, true, true) => [(sample, 1.0), (sample, 0.0)],
            (true, true, false) => [(sample, 0.5), (sample + 1, 0.5)],
            (true, false, true) => [(sample, 0.75), (sample.saturating_sub(1), 0.25)],
            (true, false, false) => [(sample, 0.75), (sample + 1, 0.25)],
        }
    }

    /// The pixels that a sample is filtered from, with their shares: 1-2-1 around the one that it lies on, or the
    /// two that it lies between; they may be beyond the last.
    pub(super) fn under(self, sample: usize) -> [(usize, f32); 3] {
        let pixel = 2 * sample;
        match (self.half, self.cosited) {
            (false, _) => [(sample, 1.0), (sample, 0.0), (sample, 0.0)],
            (true, true) => [(pixel.saturating_sub(1), 0.25), (pixel, 0.5), (pixel + 1, 0.25)],
            (true, false) => [(pixel, 0.5), (pixel + 1, 0.5), (pixel, 0.0)],
        }
    }

    /// Pixels from one sample to the next, and to the middle of the first from where that of a sample as wide as
    /// they are would be.
    fn spacing_and_offset(self) -> (f64, f64) {
        match (self.half, self.cosited) {
            (false, _) => (1.0, 0.0),
            (true, true) => (2.0, -0.5),
            (true, false) => (2.0, 0.0),
        }
    }

    /// Samples from one of another picture's to the next, and to its first in the same sense, see
    /// [`Axis::spaced`](crate::resample::Axis::spaced); `scale` is the length of this one's side over that one's.
    pub(super) fn resampled(self, to: Self, scale: f64) -> (f64, f64) {
        let ((spacing, offset), (to_spacing, to_offset)) =
            (self.spacing_and_offset(), to.spacing_and_offset());
        (scale * to_spacing / spacing, (scale * to_offset - offset) / spacing)
    }
}
