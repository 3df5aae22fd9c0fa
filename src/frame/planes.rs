//! Planes of a frame: where its samples lie, and whether they are all there.

use serde::{Deserialize, Serialize};

use super::FrameFormat;
use crate::{Error, Result};

/// Most bytes of a packed pixel, or of two: four words.
const MAX_PIXEL: usize = 8;

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

/// Where the samples of a frame lie, and what they are.
///
/// Luma, R, G and B are `width × height` samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planes<P> {
    /// A plane each (I420, YV12, Y42B, Y444, I422_10LE).
    Planar {
        /// Luma.
        y: P,
        /// Blue difference.
        u: P,
        /// Red difference.
        v: P,
        /// Size of the chroma planes.
        subsampling: Subsampling,
    },
    /// Luma, then one plane of chroma pairs (NV12, P010_10LE, NV16, NV24; NV21 has V first).
    SemiPlanar {
        /// Luma.
        y: P,
        /// The pairs.
        uv: P,
        /// Whether V comes before U in each pair.
        v_first: bool,
        /// Size of the plane of pairs.
        subsampling: Subsampling,
    },
    /// Whole pixels, or pairs of them (YUY2, UYVY, AYUV, Y210).
    PackedYuv {
        /// The pixels.
        pixels: P,
        /// Where Y, U and V are in each.
        pixel: YuvPixel,
    },
    /// Luma only; chroma is neutral (GRAY8).
    Grey {
        /// Luma.
        y: P,
    },
    /// Whole pixels (RGB, BGRx, ARGB64).
    PackedRgb {
        /// The pixels.
        pixels: P,
        /// Where R, G and B are in each.
        pixel: RgbPixel,
        /// What luma is made of.
        matrix: Matrix,
    },
    /// A plane each (GBR).
    PlanarRgb {
        /// Red.
        r: P,
        /// Green.
        g: P,
        /// Blue.
        b: P,
        /// What luma is made of.
        matrix: Matrix,
    },
}

/// Size of the chroma planes; halves are rounded up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subsampling {
    /// Half the width and half the height.
    Yuv420,
    /// Half the width.
    Yuv422,
    /// That of luma.
    Yuv444,
}

/// Byte offsets in a pixel of `bytes` bytes; those of alpha or padding are copied from the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RgbPixel {
    /// Bytes of a pixel.
    pub bytes: usize,
    /// Offset of red.
    pub r: usize,
    /// Offset of green.
    pub g: usize,
    /// Offset of blue.
    pub b: usize,
}

/// Byte offsets in a pixel of `bytes` bytes, or in two pixels that share their chroma; those of
/// alpha or padding are copied from the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct YuvPixel {
    /// Bytes of a pixel, or of two.
    pub bytes: usize,
    /// Offset of luma; that of the second pixel of two comes half the bytes later.
    pub y: usize,
    /// Offset of the blue difference.
    pub u: usize,
    /// Offset of the red difference.
    pub v: usize,
    /// Whether two pixels share their chroma (4:2:2).
    pub is_pair: bool,
}

/// What luma is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Matrix {
    /// ITU-R BT.601.
    Bt601,
    /// ITU-R BT.709.
    Bt709,
    /// ITU-R BT.2020, non-constant luminance.
    Bt2020,
    /// SMPTE 240M.
    Smpte240m,
    /// FCC 73.682.
    Fcc,
}

impl Matrix {
    /// Weights of R, G and B in luma, `[K_R, K_G, K_B]`; that of G is what the others leave of 1.
    pub fn weights(self) -> [f32; 3] {
        let (kr, kb) = match self {
            Self::Bt601 => (0.299, 0.114),
            Self::Bt709 => (0.2126, 0.0722),
            Self::Bt2020 => (0.2627, 0.0593),
            Self::Smpte240m => (0.212, 0.087),
            Self::Fcc => (0.30, 0.11),
        };
        [kr, 1.0 - kr - kb, kb]
    }
}

impl Subsampling {
    fn name(self) -> &'static str {
        match self {
            Self::Yuv420 => "4:2:0",
            Self::Yuv422 => "4:2:2",
            Self::Yuv444 => "4:4:4",
        }
    }

    /// Width and height of a chroma plane.
    fn size(self, format: &FrameFormat) -> (usize, usize) {
        let (half_width, half_height) = format.half_size();
        match self {
            Self::Yuv420 => (half_width, half_height),
            Self::Yuv422 => (half_width, format.height),
            Self::Yuv444 => (format.width, format.height),
        }
    }
}

impl<P> Planes<P> {
    /// The same layout of what `f` makes of each plane, which it is given in the order above.
    pub fn map<Q>(self, mut f: impl FnMut(P) -> Q) -> Planes<Q> {
        match self {
            Self::Planar { y, u, v, subsampling } => {
                Planes::Planar { y: f(y), u: f(u), v: f(v), subsampling }
            }
            Self::SemiPlanar { y, uv, v_first, subsampling } => {
                Planes::SemiPlanar { y: f(y), uv: f(uv), v_first, subsampling }
            }
            Self::PackedYuv { pixels, pixel } => Planes::PackedYuv { pixels: f(pixels), pixel },
            Self::Grey { y } => Planes::Grey { y: f(y) },
            Self::PackedRgb { pixels, pixel, matrix } => {
                Planes::PackedRgb { pixels: f(pixels), pixel, matrix }
            }
            Self::PlanarRgb { r, g, b, matrix } => {
                Planes::PlanarRgb { r: f(r), g: f(g), b: f(b), matrix }
            }
        }
    }

    pub(super) fn as_ref(&self) -> Planes<&P> {
        match self {
            Self::Planar { y, u, v, subsampling } => {
                Planes::Planar { y, u, v, subsampling: *subsampling }
            }
            Self::SemiPlanar { y, uv, v_first, subsampling } => {
                Planes::SemiPlanar { y, uv, v_first: *v_first, subsampling: *subsampling }
            }
            Self::PackedYuv { pixels, pixel } => Planes::PackedYuv { pixels, pixel: *pixel },
            Self::Grey { y } => Planes::Grey { y },
            Self::PackedRgb { pixels, pixel, matrix } => {
                Planes::PackedRgb { pixels, pixel: *pixel, matrix: *matrix }
            }
            Self::PlanarRgb { r, g, b, matrix } => Planes::PlanarRgb { r, g, b, matrix: *matrix },
        }
    }

    pub(super) fn as_mut(&mut self) -> Planes<&mut P> {
        match self {
            Self::Planar { y, u, v, subsampling } => {
                Planes::Planar { y, u, v, subsampling: *subsampling }
            }
            Self::SemiPlanar { y, uv, v_first, subsampling } => {
                Planes::SemiPlanar { y, uv, v_first: *v_first, subsampling: *subsampling }
            }
            Self::PackedYuv { pixels, pixel } => Planes::PackedYuv { pixels, pixel: *pixel },
            Self::Grey { y } => Planes::Grey { y },
            Self::PackedRgb { pixels, pixel, matrix } => {
                Planes::PackedRgb { pixels, pixel: *pixel, matrix: *matrix }
            }
            Self::PlanarRgb { r, g, b, matrix } => Planes::PlanarRgb { r, g, b, matrix: *matrix },
        }
    }

    /// The layout alone.
    pub(super) fn layout(&self) -> Planes<()> {
        self.as_ref().map(|_| ())
    }

    fn is_yuv420(&self) -> bool {
        matches!(
            self,
            Self::Planar { subsampling: Subsampling::Yuv420, .. }
                | Self::SemiPlanar { subsampling: Subsampling::Yuv420, .. }
        )
    }

    pub(super) fn is_rgb(&self) -> bool {
        matches!(self, Self::PackedRgb { .. } | Self::PlanarRgb { .. })
    }

    /// What luma is made of, where R, G and B are there themselves.
    pub(super) fn matrix(&self) -> Option<Matrix> {
        match self {
            Self::PackedRgb { matrix, .. } | Self::PlanarRgb { matrix, .. } => Some(*matrix),
            _ => None,
        }
    }

    /// Whether every value of the net's input is a doubled code, see [`super::Value`].
    pub(super) fn is_in_codes(&self) -> bool {
        self.is_yuv420() || matches!(self, Self::Grey { .. })
    }

    /// Whether a frame of these planes can be filtered into one of those.
    pub(super) fn fits<Q>(&self, output: &Planes<Q>) -> bool {
        self.is_yuv420() && output.is_yuv420() || self.layout() == output.layout()
    }
}

impl Planes<()> {
    /// Names the layout in an error.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Planar { subsampling, .. } => subsampling.name().into(),
            // Where chroma is finer, its order must be the same.
            Self::SemiPlanar { subsampling: Subsampling::Yuv420, .. } => "4:2:0".into(),
            Self::SemiPlanar { subsampling, v_first, .. } => {
                let order = if *v_first { "VU" } else { "UV" };
                format!("{} in pairs of {order}", subsampling.name())
            }
            Self::PackedYuv { pixel: YuvPixel { bytes, y, u, v, is_pair }, .. } => {
                let pixels = if *is_pair { "pairs of pixels" } else { "pixels" };
                format!("YUV in {pixels} of {bytes} bytes with Y, U, V at {y}, {u}, {v}")
            }
            Self::Grey { .. } => "grey".into(),
            Self::PackedRgb { pixel: RgbPixel { bytes, r, g, b }, matrix, .. } => {
                format!("RGB in pixels of {bytes} bytes with R, G, B at {r}, {g}, {b} ({matrix:?})")
            }
            Self::PlanarRgb { matrix, .. } => format!("RGB in planes ({matrix:?})"),
        }
    }
}

/// Checks planes by their length and stride.
///
/// # Errors
/// [`Error::Frame`] when the size is out of bounds, samples or pixels are not of a kind that the
/// layout can have, or a plane is too short.
pub(super) fn check(format: &FrameFormat, planes: Planes<(usize, usize)>) -> Result<()> {
    format.validate()?;
    let FrameFormat { width, height, samples, .. } = *format;
    let bytes = samples.bytes();
    match planes {
        Planes::Planar { y, u, v, subsampling } => {
            let (chroma_width, chroma_height) = subsampling.size(format);
            check_plane("Y", y, width * bytes, height)?;
            check_plane("U", u, chroma_width * bytes, chroma_height)?;
            check_plane("V", v, chroma_width * bytes, chroma_height)
        }
        Planes::SemiPlanar { y, uv, subsampling, .. } => {
            let (chroma_width, chroma_height) = subsampling.size(format);
            check_plane("Y", y, width * bytes, height)?;
            check_plane("UV", uv, 2 * chroma_width * bytes, chroma_height)
        }
        Planes::PackedYuv { pixels, pixel: YuvPixel { bytes: all, y, u, v, is_pair } } => {
            let names = "Y, U, V";
            let count = if is_pair {
                if !all.is_multiple_of(2) {
                    let reason = format!("pairs of pixels of {all} bytes, expected an even number");
                    return Err(Error::Frame(reason));
                }
                check_pixel(names, all, &[y, y + all / 2, u, v], bytes)?;
                width.div_ceil(2)
            } else {
                check_pixel(names, all, &[y, u, v], bytes)?;
                width
            };
            check_plane("YUV", pixels, count * all, height)
        }
        Planes::Grey { y } => check_plane("Y", y, width * bytes, height),
        Planes::PackedRgb { pixels, pixel: RgbPixel { bytes: all, r, g, b }, .. } => {
            check_pixel("R, G, B", all, &[r, g, b], bytes)?;
            check_plane("RGB", pixels, width * all, height)
        }
        Planes::PlanarRgb { r, g, b, .. } => {
            check_plane("R", r, width * bytes, height)?;
            check_plane("G", g, width * bytes, height)?;
            check_plane("B", b, width * bytes, height)
        }
    }
}

/// Checks where samples of `sample` bytes are in a pixel of `bytes`.
fn check_pixel(names: &str, bytes: usize, offsets: &[usize], sample: usize) -> Result<()> {
    if !(sample..=MAX_PIXEL).contains(&bytes) || !bytes.is_multiple_of(sample) {
        return Err(Error::Frame(format!(
            "pixels of {bytes} bytes, expected at most {MAX_PIXEL} in samples of {sample}"
        )));
    }
    let is_free = |(index, offset): (usize, &usize)| {
        offset.is_multiple_of(sample) && *offset < bytes && !offsets[..index].contains(offset)
    };
    if !offsets.iter().enumerate().all(is_free) {
        return Err(Error::Frame(format!(
            "{names} at bytes {offsets:?} of a pixel, expected different samples of {sample} \
             below {bytes}"
        )));
    }
    Ok(())
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
