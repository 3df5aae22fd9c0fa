//! Views of strided 4:2:0 frames of 8 or 10 bits, and their conversion from and to the net's tensors.
//!
//! The net works at half the luma size on six channels: the four luma samples of each 2×2 block
//! (Y00 Y01 Y10 Y11, row by row), then U and V. Luma is normalised by the stream's range, chroma to
//! [0, 1] around 0.5. Odd widths and heights replicate the last luma column or row.

mod rows;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::engine::cpu::kernels::Level;
use crate::{Error, Result};
pub(crate) use rows::{FrameWriter, Value};

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

/// How a sample is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleFormat {
    /// 8 bits in a byte.
    U8,
    /// 10 bits in the low bits of a little-endian 16-bit word (I420_10LE).
    U10Low,
    /// 10 bits in the high bits of a little-endian 16-bit word (P010_10LE).
    U10High,
}

impl SampleFormat {
    /// Bits of a code value.
    pub fn bits(self) -> u32 {
        match self {
            SampleFormat::U8 => 8,
            SampleFormat::U10Low | SampleFormat::U10High => 10,
        }
    }

    /// Bytes of a sample.
    pub fn bytes(self) -> usize {
        match self {
            SampleFormat::U8 => 1,
            SampleFormat::U10Low | SampleFormat::U10High => 2,
        }
    }
}

/// Size, range and sample format of a 4:2:0 frame; chroma planes are `ceil(width / 2) × ceil(height / 2)`.
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
    /// Width and height of the chroma planes and of the net's tensors.
    pub fn half_size(&self) -> (usize, usize) {
        (self.width.div_ceil(2), self.height.div_ceil(2))
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

/// Samples of one plane: rows of bytes, `stride_bytes` apart.
#[derive(Clone, Copy, Debug)]
pub struct Plane<'a> {
    /// The first row starts at the first byte; the last row may end before a full stride.
    pub data: &'a [u8],
    /// Bytes from one row to the next.
    pub stride_bytes: usize,
}

/// Samples of one plane, writable.
#[derive(Debug)]
pub struct PlaneMut<'a> {
    /// As [`Plane::data`].
    pub data: &'a mut [u8],
    /// Bytes from one row to the next.
    pub stride_bytes: usize,
}

/// How the two chroma components lie in memory.
#[derive(Clone, Copy, Debug)]
pub enum Chroma<P> {
    /// A plane each (I420, YV12).
    Planar {
        /// Blue difference.
        u: P,
        /// Red difference.
        v: P,
    },
    /// One plane of pairs (NV12; NV21 has V first).
    SemiPlanar {
        /// The pairs.
        uv: P,
        /// Whether V comes before U in each pair.
        v_first: bool,
    },
}

/// A readable frame.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    format: FrameFormat,
    y: Plane<'a>,
    chroma: Chroma<Plane<'a>>,
}

/// A writable frame.
#[derive(Debug)]
pub struct FrameMut<'a> {
    format: FrameFormat,
    y: PlaneMut<'a>,
    chroma: Chroma<PlaneMut<'a>>,
}

impl<'a> Frame<'a> {
    /// # Errors
    /// [`Error::Frame`] when the size is out of bounds or a plane is too short for it.
    pub fn new(format: FrameFormat, y: Plane<'a>, chroma: Chroma<Plane<'a>>) -> Result<Self> {
        let lens = chroma_lens(&chroma, |p| (p.data.len(), p.stride_bytes));
        check_planes(&format, (y.data.len(), y.stride_bytes), lens)?;
        Ok(Self { format, y, chroma })
    }

    /// Size, range and sample format.
    pub fn format(&self) -> FrameFormat {
        self.format
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
    /// [`Error::Frame`] when the size is out of bounds or a plane is too short for it.
    pub fn new(format: FrameFormat, y: PlaneMut<'a>, chroma: Chroma<PlaneMut<'a>>) -> Result<Self> {
        let lens = chroma_lens(&chroma, |p| (p.data.len(), p.stride_bytes));
        check_planes(&format, (y.data.len(), y.stride_bytes), lens)?;
        Ok(Self { format, y, chroma })
    }

    /// Size, range and sample format.
    pub fn format(&self) -> FrameFormat {
        self.format
    }

    /// Writes `input` plus `residual`, `[6, ceil(height / 2), ceil(width / 2)]` in normalised
    /// units, rounded to the nearest code value (ties to even) and clamped to the codes there are.
    /// A residual of zero copies the input bit for bit.
    ///
    /// # Errors
    /// [`Error::Frame`] when `input` has another format.
    ///
    /// # Panics
    /// If `residual` has another length.
    pub fn pack_sum(&mut self, input: &Frame<'_>, residual: &[f32]) -> Result<()> {
        self.check_same_format(input)?;
        let (half_width, half_height) = self.format.half_size();
        assert_eq!(residual.len(), CHANNELS * half_width * half_height, "residual length");
        let writer = self.writer();
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
    /// [`Error::Frame`] when `input` has another format.
    pub(crate) fn check_same_format(&self, input: &Frame<'_>) -> Result<()> {
        if input.format == self.format {
            return Ok(());
        }
        let (got, expected) = (self.format, input.format);
        Err(Error::Frame(format!("output is {got:?}, expected the input's {expected:?}")))
    }
}

/// Length and stride of each chroma plane.
fn chroma_lens<P>(
    chroma: &Chroma<P>,
    len: impl Fn(&P) -> (usize, usize),
) -> Chroma<(usize, usize)> {
    match chroma {
        Chroma::Planar { u, v } => Chroma::Planar { u: len(u), v: len(v) },
        Chroma::SemiPlanar { uv, v_first } => Chroma::SemiPlanar { uv: len(uv), v_first: *v_first },
    }
}

fn check_planes(
    format: &FrameFormat,
    y: (usize, usize),
    chroma: Chroma<(usize, usize)>,
) -> Result<()> {
    format.validate()?;
    let (half_width, half_height) = format.half_size();
    let bytes = format.samples.bytes();
    check_plane("Y", y, format.width * bytes, format.height)?;
    match chroma {
        Chroma::Planar { u, v } => {
            check_plane("U", u, half_width * bytes, half_height)?;
            check_plane("V", v, half_width * bytes, half_height)
        }
        Chroma::SemiPlanar { uv, .. } => check_plane("UV", uv, 2 * half_width * bytes, half_height),
    }
}

fn check_plane(name: &str, (len, stride): (usize, usize), width: usize, rows: usize) -> Result<()> {
    let needed = stride.checked_mul(rows - 1).and_then(|n| n.checked_add(width));
    if stride >= width && needed.is_some_and(|needed| needed <= len) {
        return Ok(());
    }
    Err(Error::Frame(format!(
        "plane {name} has {len} bytes at stride {stride}, expected {rows} rows of {width} bytes"
    )))
}
