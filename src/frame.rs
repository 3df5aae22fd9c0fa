//! Views of strided 8-bit 4:2:0 frames, and their conversion from and to the net's tensors.
//!
//! The net works at half the luma size on six channels: the four luma samples of each 2×2 block
//! (Y00 Y01 Y10 Y11, row by row), then U and V. Luma is normalised by the stream's range, chroma to
//! [0, 1] around 0.5. Odd widths and heights replicate the last luma column or row.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

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
    /// Code value of black and code values from black to white.
    pub fn luma(self) -> (f32, f32) {
        match self {
            Range::Limited => (16.0, 219.0),
            Range::Full => (0.0, 255.0),
        }
    }

    /// Code value of normalised chroma 0 and code values from there to 1 (neutral is at 0.5).
    pub fn chroma(self) -> (f32, f32) {
        match self {
            Range::Limited => (128.0 - 112.0, 224.0),
            Range::Full => (128.0 - 127.5, 255.0),
        }
    }
}

/// Size and range of a 4:2:0 frame; chroma planes are `ceil(width / 2) × ceil(height / 2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameFormat {
    /// Luma width in pixels.
    pub width: usize,
    /// Luma height in pixels.
    pub height: usize,
    /// Range of the code values.
    pub range: Range,
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

    /// Size and range.
    pub fn format(&self) -> FrameFormat {
        self.format
    }

    /// Fills `tensor`, `[6, ceil(height / 2), ceil(width / 2)]`, with normalised samples.
    ///
    /// # Panics
    /// If `tensor` has another length.
    pub fn unpack(&self, tensor: &mut [f32]) {
        let (half_width, half_height) = self.format.half_size();
        let area = half_width * half_height;
        assert_eq!(tensor.len(), CHANNELS * area, "tensor length");
        let FrameFormat { width, height, range, .. } = self.format;
        let (luma, chroma) = tensor.split_at_mut(4 * area);
        luma.par_chunks_mut(half_width).enumerate().for_each(|(index, out)| {
            let (channel, row) = (index / half_height, index % half_height);
            let line = row_of(&self.y, (2 * row + channel / 2).min(height - 1), width);
            unpack_row(out, line, channel % 2, 2, range.luma());
        });
        chroma.par_chunks_mut(half_width).enumerate().for_each(|(index, out)| {
            let (is_v, row) = (index / half_height == 1, index % half_height);
            let (plane, first, step) = match &self.chroma {
                Chroma::Planar { u, v } => (if is_v { v } else { u }, 0, 1),
                Chroma::SemiPlanar { uv, v_first } => (uv, usize::from(is_v != *v_first), 2),
            };
            unpack_row(out, row_of(plane, row, half_width * step), first, step, range.chroma());
        });
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

    /// Size and range.
    pub fn format(&self) -> FrameFormat {
        self.format
    }

    /// Writes `input` plus `residual`, `[6, ceil(height / 2), ceil(width / 2)]` in normalised
    /// units, rounded to the nearest code value (ties to even) and clamped to 0–255. A residual of
    /// zero copies the input bit for bit.
    ///
    /// # Errors
    /// [`Error::Frame`] when `input` has another format.
    ///
    /// # Panics
    /// If `residual` has another length.
    pub fn pack_sum(&mut self, input: &Frame<'_>, residual: &[f32]) -> Result<()> {
        if input.format != self.format {
            return Err(Error::Frame(format!(
                "output is {:?}, expected the input's {:?}",
                self.format, input.format
            )));
        }
        let (half_width, half_height) = self.format.half_size();
        let area = half_width * half_height;
        assert_eq!(residual.len(), CHANNELS * area, "residual length");
        let FrameFormat { width, height, range, .. } = self.format;
        let rows = |channel: usize, row: usize| {
            &residual[(channel * half_height + row) * half_width..][..half_width]
        };

        let stride = self.y.stride_bytes;
        self.y.data.par_chunks_mut(stride).take(height).enumerate().for_each(|(row, out)| {
            let line = row_of(&input.y, row, width);
            let channel = 2 * (row % 2);
            let pair = [rows(channel, row / 2), rows(channel + 1, row / 2)];
            pack_row(&mut out[..width], line, pair, range.luma().1);
        });

        match &mut self.chroma {
            Chroma::Planar { u, v } => {
                for (is_v, plane) in [(false, u), (true, v)] {
                    let stride = plane.stride_bytes;
                    let lines = plane.data.par_chunks_mut(stride).take(half_height).enumerate();
                    lines.for_each(|(row, out)| {
                        let scale = range.chroma().1;
                        let residual = rows(4 + usize::from(is_v), row);
                        for (x, (out, r)) in out.iter_mut().zip(residual).enumerate() {
                            *out = add_residual(input.chroma_at(is_v, row, x), *r, scale);
                        }
                    });
                }
            }
            Chroma::SemiPlanar { uv, v_first } => {
                let (stride, v_first) = (uv.stride_bytes, *v_first);
                let lines = uv.data.par_chunks_mut(stride).take(half_height).enumerate();
                lines.for_each(|(row, out)| {
                    for (x, pair) in out[..2 * half_width].chunks_exact_mut(2).enumerate() {
                        for (position, out) in pair.iter_mut().enumerate() {
                            let is_v = (position == 1) != v_first;
                            let residual = rows(4 + usize::from(is_v), row)[x];
                            let code = input.chroma_at(is_v, row, x);
                            *out = add_residual(code, residual, range.chroma().1);
                        }
                    }
                });
            }
        }
        Ok(())
    }
}

impl Frame<'_> {
    #[inline]
    fn chroma_at(&self, is_v: bool, row: usize, x: usize) -> u8 {
        match &self.chroma {
            Chroma::Planar { u, v } => {
                let plane = if is_v { v } else { u };
                plane.data[row * plane.stride_bytes + x]
            }
            Chroma::SemiPlanar { uv, v_first } => {
                uv.data[row * uv.stride_bytes + 2 * x + usize::from(is_v != *v_first)]
            }
        }
    }
}

#[inline]
fn add_residual(code: u8, residual: f32, scale: f32) -> u8 {
    // `as` saturates at 0 and 255.
    (f32::from(code) + residual * scale).round_ties_even() as u8
}

fn unpack_row(out: &mut [f32], line: &[u8], first: usize, step: usize, (black, span): (f32, f32)) {
    let last = line.len() - 1;
    for (x, out) in out.iter_mut().enumerate() {
        // Only the last column of an odd width is ever clamped.
        *out = (f32::from(line[(first + step * x).min(last)]) - black) / span;
    }
}

fn pack_row(out: &mut [u8], line: &[u8], pair: [&[f32]; 2], scale: f32) {
    let pairs = out.chunks_mut(2).zip(line.chunks(2));
    for ((out, code), (even, odd)) in pairs.zip(pair[0].iter().zip(pair[1])) {
        for ((out, code), residual) in out.iter_mut().zip(code).zip([even, odd]) {
            *out = add_residual(*code, *residual, scale);
        }
    }
}

fn row_of<'p>(plane: &'p Plane<'_>, row: usize, len: usize) -> &'p [u8] {
    &plane.data[row * plane.stride_bytes..][..len]
}

/// `(name, (length, stride), samples per chroma pixel)` of each chroma plane.
type ChromaLens = Vec<(&'static str, (usize, usize), usize)>;

fn chroma_lens<P>(chroma: &Chroma<P>, len: impl Fn(&P) -> (usize, usize)) -> ChromaLens {
    match chroma {
        Chroma::Planar { u, v } => vec![("U", len(u), 1), ("V", len(v), 1)],
        Chroma::SemiPlanar { uv, .. } => vec![("UV", len(uv), 2)],
    }
}

fn check_planes(format: &FrameFormat, y: (usize, usize), chroma: ChromaLens) -> Result<()> {
    format.validate()?;
    let (half_width, half_height) = format.half_size();
    check_plane("Y", y, format.width, format.height)?;
    for (name, plane, samples) in chroma {
        check_plane(name, plane, half_width * samples, half_height)?;
    }
    Ok(())
}

fn check_plane(name: &str, (len, stride): (usize, usize), width: usize, rows: usize) -> Result<()> {
    let needed = stride.checked_mul(rows - 1).and_then(|n| n.checked_add(width));
    if stride >= width && needed.is_some_and(|needed| needed <= len) {
        return Ok(());
    }
    Err(Error::Frame(format!(
        "plane {name} has {len} bytes at stride {stride}, expected {rows} rows of {width}"
    )))
}
