//! Views of strided frames, and their conversion from and to the net's tensors.
//!
//! The net works at half the luma size on six channels: the four luma samples of each 2×2 block
//! (Y00 Y01 Y10 Y11, row by row), then U and V. Luma is normalised by the stream's range, chroma to
//! [0, 1] around 0.5. Odd widths and heights replicate the last column or row.
//!
//! Of frames that are not 4:2:0 only the residual is: the net sees the mean chroma of each block,
//! and every pixel of the block gets the block's chroma residual. What the pixels' chroma differs
//! from the mean, the net does not see. *Smoothing* takes a share of it away, as the net does with
//! noise that it sees: 0 leaves it, 1 leaves the mean alone. With R, G and B normalised as
//! luma is, and K the weights of [`Matrix`],
//! `Y = K_R R + K_G G + K_B B`, `U = (B − Y) / (2 (1 − K_B)) + ½`, `V = (R − Y) / (2 (1 − K_R)) + ½`.

mod chroma;
mod direct;
mod lines;
mod luma;
mod planes;
mod rescale;
mod rgb;
mod rows;
mod samples;
mod site;
#[cfg(test)]
mod tests;
mod video;
mod yuv;

use serde::{Deserialize, Serialize};

use crate::engine::cpu::kernels::Level;
use crate::{Error, Result};
pub use luma::Recolour;
pub use planes::{Matrix, Plane, PlaneMut, Planes, RgbPixel, Subsampling, YuvPixel};
pub use rescale::Rescale;
pub(crate) use rows::FrameWriter;
use samples::Normal;
pub(crate) use samples::Value;
pub use site::ChromaSite;
pub(crate) use video::{Component as YuvComponent, Yuv420};

/// Largest width and height in pixels.
pub const MAX_SIDE: usize = 8192;

/// Channels of the net's input and residual.
pub const CHANNELS: usize = 6;

/// Range of the code values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Range {
    /// Luma 16–235, chroma 16–240 (ITU-R BT.601, BT.709).
    Limited,
    /// 0–255.
    Full,
}

impl Range {
    /// Code value of black and code values from black to white, for samples of `bits` bits.
    pub fn luma(self, bits: u32) -> (f32, f32) {
        let unit = (1 << (bits - 8)) as f32;
        match self {
            Range::Limited => (16.0 * unit, 219.0 * unit),
            Range::Full => (0.0, 256.0 * unit - 1.0),
        }
    }

    /// Code value of normalised chroma 0 and code values from there to 1 (neutral is at 0.5), for
    /// samples of `bits` bits.
    pub fn chroma(self, bits: u32) -> (f32, f32) {
        let unit = (1 << (bits - 8)) as f32;
        let span = match self {
            Range::Limited => 224.0 * unit,
            Range::Full => 256.0 * unit - 1.0,
        };
        (128.0 * unit - span / 2.0, span)
    }
}

/// How a sample is stored: words are of 16 bits, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleFormat {
    /// 8 bits in a byte.
    U8,
    /// 10 bits in the low bits of a word (I420_10LE).
    U10Low,
    /// 10 bits in the high bits of a word (P010_10LE). The others stay as they are.
    U10High,
    /// 12 bits in the low bits of a word (I420_12LE).
    U12Low,
    /// 12 bits in the high bits of a word (P012_LE). The others stay as they are.
    U12High,
    /// A word (GRAY16_LE).
    U16,
}

impl SampleFormat {
    /// Bits of a code value.
    pub fn bits(self) -> u32 {
        match self {
            SampleFormat::U8 => 8,
            SampleFormat::U10Low | SampleFormat::U10High => 10,
            SampleFormat::U12Low | SampleFormat::U12High => 12,
            SampleFormat::U16 => 16,
        }
    }

    /// Bytes of a sample.
    pub fn bytes(self) -> usize {
        match self {
            SampleFormat::U8 => 1,
            _ => 2,
        }
    }
}

/// Size, range and sample format of a frame. R, G and B have the range of luma.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameFormat {
    /// Luma width in pixels.
    pub width: usize,
    /// Luma height in pixels.
    pub height: usize,
    /// Range of the code values.
    pub range: Range,
    /// How a sample is stored.
    pub samples: SampleFormat,
}

impl FrameFormat {
    /// Width and height of the net's tensors and of 4:2:0 chroma planes:
    /// `ceil(width / 2)`, `ceil(height / 2)`.
    pub fn half_size(&self) -> (usize, usize) {
        (self.width.div_ceil(2), self.height.div_ceil(2))
    }

    /// What luma is made of where nothing says it: that of television of this size.
    fn usual_matrix(&self) -> Matrix {
        if self.height > 576 { Matrix::Bt709 } else { Matrix::Bt601 }
    }

    /// # Errors
    /// [`Error::Frame`] unless both sides are 1 to [`MAX_SIDE`].
    pub fn validate(&self) -> Result<()> {
        if (1..=MAX_SIDE).contains(&self.width) && (1..=MAX_SIDE).contains(&self.height) {
            return Ok(());
        }
        Err(Error::Frame(format!(
            "size {}×{}, expected 1×1 to {MAX_SIDE}×{MAX_SIDE}",
            self.width, self.height
        )))
    }
}

/// A readable frame.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    format: FrameFormat,
    planes: Planes<Plane<'a>>,
    matrix: Matrix,
    site: ChromaSite,
}

/// A writable frame.
#[derive(Debug)]
pub struct FrameMut<'a> {
    format: FrameFormat,
    planes: Planes<PlaneMut<'a>>,
    matrix: Matrix,
    site: ChromaSite,
}

impl<'a> Frame<'a> {
    /// # Errors
    /// [`Error::Frame`] when the size is out of bounds, the samples of a pixel overlap or do not lie
    /// in it, or a plane is too short.
    pub fn new(format: FrameFormat, planes: Planes<Plane<'a>>) -> Result<Self> {
        planes::check(&format, planes.as_ref().map(|p| (p.data.len(), p.stride_bytes)))?;
        let site = ChromaSite::default();
        Ok(Self { format, planes, matrix: format.usual_matrix(), site })
    }

    /// What luma of YUV is made of, if not what it usually is at this size; RGB has its own.
    #[must_use]
    pub fn with_matrix(self, matrix: Matrix) -> Self {
        Self { matrix, ..self }
    }

    /// Where chroma of 4:2:0 and 4:2:2 lies, if not [on the left](ChromaSite::LEFT): for what makes the picture
    /// anew, in RGB, or at another size.
    #[must_use]
    pub fn with_chroma_site(self, site: ChromaSite) -> Self {
        Self { site, ..self }
    }

    /// Size, range and sample format.
    pub fn format(&self) -> FrameFormat {
        self.format
    }

    /// Whether [`Frame::read_pairs`] makes doubled codes of it, rather than values of a tensor.
    pub(crate) fn is_in_codes(&self) -> bool {
        self.planes.is_in_codes() && self.format.samples.bits() <= 12
    }

    /// Fills `tensor`, `[6, ceil(height / 2), ceil(width / 2)]`, with normalised samples.
    ///
    /// # Panics
    /// If `tensor` has another length.
    pub fn unpack(&self, tensor: &mut [f32]) {
        let (half_width, half_height) = self.format.half_size();
        assert_eq!(tensor.len(), CHANNELS * half_width * half_height, "tensor length");
        let mut pairs = [(); 3].map(|()| vec![0f32; 2 * half_width]);
        for row in 0..half_height {
            let parts = pairs.each_mut().map(Vec::as_mut_slice);
            self.read_pairs(Level::current(), row, 0..half_width, parts);
            for (channel, plane) in tensor.chunks_exact_mut(half_width * half_height).enumerate() {
                let line = &mut plane[row * half_width..][..half_width];
                let pairs = pairs[channel / 2].chunks_exact(2);
                line.iter_mut().zip(pairs).for_each(|(v, pair)| *v = pair[channel % 2]);
            }
        }
    }
}

impl<'a> FrameMut<'a> {
    /// # Errors
    /// [`Error::Frame`] when the size is out of bounds, the samples of a pixel overlap or do not lie
    /// in it, or a plane is too short.
    pub fn new(format: FrameFormat, planes: Planes<PlaneMut<'a>>) -> Result<Self> {
        planes::check(&format, planes.as_ref().map(|p| (p.data.len(), p.stride_bytes)))?;
        let site = ChromaSite::default();
        Ok(Self { format, planes, matrix: format.usual_matrix(), site })
    }

    /// As [`Frame::with_matrix`].
    #[must_use]
    pub fn with_matrix(self, matrix: Matrix) -> Self {
        Self { matrix, ..self }
    }

    /// As [`Frame::with_chroma_site`].
    #[must_use]
    pub fn with_chroma_site(self, site: ChromaSite) -> Self {
        Self { site, ..self }
    }

    /// Size, range and sample format.
    pub fn format(&self) -> FrameFormat {
        self.format
    }

    /// Writes `input` plus `residual`, `[6, ceil(height / 2), ceil(width / 2)]` in normalised
    /// units, rounded to the nearest code value (ties to even) and clamped to the codes there are.
    /// `smoothing`, from 0 to 1, is what share of the chroma that differs inside a block is taken
    /// away. A residual of zero without smoothing copies the input bit for bit.
    ///
    /// # Errors
    /// [`Error::Frame`] when `input` has another format, or another layout: only the order of 4:2:0
    /// chroma may differ.
    ///
    /// # Panics
    /// If `residual` has another length.
    pub fn pack_sum(&mut self, input: &Frame<'_>, residual: &[f32], smoothing: f32) -> Result<()> {
        self.check_same_format(input)?;
        let (half_width, half_height) = self.format.half_size();
        assert_eq!(residual.len(), CHANNELS * half_width * half_height, "residual length");
        let writer = self.writer(smoothing);
        let mut pairs = [(); 3].map(|()| vec![0f32; 2 * half_width]);
        for row in 0..half_height {
            for (channel, plane) in residual.chunks_exact(half_width * half_height).enumerate() {
                let line = &plane[row * half_width..][..half_width];
                let pairs = pairs[channel / 2].chunks_exact_mut(2);
                line.iter().zip(pairs).for_each(|(v, pair)| pair[channel % 2] = *v);
            }
            let parts = pairs.each_ref().map(Vec::as_slice);
            // SAFETY: one row after the other on one thread.
            unsafe { writer.write_pairs(Level::current(), input, row, 0..half_width, parts) }
        }
        Ok(())
    }

    /// # Errors
    /// [`Error::Frame`] unless it has this width and height.
    pub(crate) fn check_size(&self, expected: (usize, usize)) -> Result<()> {
        let got = (self.format.width, self.format.height);
        if got == expected {
            return Ok(());
        }
        Err(Error::Frame(format!("output is {got:?}, expected {expected:?}")))
    }

    /// # Errors
    /// [`Error::Frame`] when `input` has another format or layout.
    pub(crate) fn check_same_format(&self, input: &Frame<'_>) -> Result<()> {
        if input.format != self.format {
            let (got, expected) = (self.format, input.format);
            return Err(Error::Frame(format!(
                "output is {got:?}, expected the input's {expected:?}"
            )));
        }
        if !input.planes.fits(&self.planes) {
            let (got, expected) = (self.planes.layout(), input.planes.layout());
            let (got, expected) = (got.describe(), expected.describe());
            return Err(Error::Frame(format!("output is {got}, expected the input's {expected}")));
        }
        Ok(())
    }
}
