//! GStreamer's frames as the library's: same memory, no copy.

use gstreamer as gst;
use gstreamer_video as gst_video;

use gst_video::prelude::*;
use gst_video::{
    VideoColorMatrix, VideoColorPrimaries, VideoColorRange, VideoColorimetry, VideoFormat,
    VideoFrameRef, VideoInfo,
};
use tunableconv::frame::{
    Frame, FrameFormat, FrameMut, Matrix, Plane, PlaneMut, Planes, Range, RgbPixel, SampleFormat,
    Subsampling,
};
use tunableconv::{Error, Result};

use super::fields::Rows;

/// Pixel formats that the element takes and that the net reads as they are.
pub const NATIVE_FORMATS: [VideoFormat; 4] =
    [VideoFormat::I420, VideoFormat::Yv12, VideoFormat::Nv12, VideoFormat::Nv21];

/// Other pixel formats that the element takes.
pub const OTHER_FORMATS: [VideoFormat; 16] = [
    VideoFormat::I42010le,
    VideoFormat::P01010le,
    VideoFormat::Y42b,
    VideoFormat::Y444,
    VideoFormat::Gray8,
    VideoFormat::Rgb,
    VideoFormat::Bgr,
    VideoFormat::Rgbx,
    VideoFormat::Bgrx,
    VideoFormat::Xrgb,
    VideoFormat::Xbgr,
    VideoFormat::Rgba,
    VideoFormat::Bgra,
    VideoFormat::Argb,
    VideoFormat::Abgr,
    VideoFormat::Gbr,
];

/// Size, range and samples of the frames; a range that the caps leave open is limited for YUV and
/// full for RGB.
pub fn format_of(info: &VideoInfo) -> FrameFormat {
    let range = match info.colorimetry().range() {
        VideoColorRange::Range0_255 => Range::Full,
        VideoColorRange::Range16_235 => Range::Limited,
        _ if info.is_rgb() => Range::Full,
        _ => Range::Limited,
    };
    let samples = match info.format() {
        VideoFormat::I42010le => SampleFormat::U10Low,
        VideoFormat::P01010le => SampleFormat::U10High,
        _ => SampleFormat::U8,
    };
    FrameFormat { width: info.width() as usize, height: info.height() as usize, range, samples }
}

/// The matrix that turns RGB of these caps into luma and chroma for the net. Their own matrix is
/// none, so the primaries tell.
fn matrix_of(colorimetry: &VideoColorimetry) -> Matrix {
    match (colorimetry.matrix(), colorimetry.primaries()) {
        (VideoColorMatrix::Bt601, _) => Matrix::Bt601,
        (VideoColorMatrix::Bt2020, _) => Matrix::Bt2020,
        (VideoColorMatrix::Smpte240m, _) => Matrix::Smpte240m,
        (VideoColorMatrix::Fcc, _) => Matrix::Fcc,
        (VideoColorMatrix::Bt709, _) => Matrix::Bt709,
        (
            _,
            VideoColorPrimaries::Smpte170m
            | VideoColorPrimaries::Bt470bg
            | VideoColorPrimaries::Bt470m,
        ) => Matrix::Bt601,
        (_, VideoColorPrimaries::Smpte240m) => Matrix::Smpte240m,
        (_, VideoColorPrimaries::Bt2020) => Matrix::Bt2020,
        _ => Matrix::Bt709,
    }
}

/// These rows of a frame, to read from.
///
/// # Errors
/// [`Error::Frame`] when the memory does not hold such a frame.
pub fn readable<'a>(
    format: FrameFormat,
    frame: &'a VideoFrameRef<&gst::BufferRef>,
    rows: Rows,
) -> Result<Frame<'a>> {
    let (first, step) = rows.first_and_step();
    let strides = strides(frame)?;
    let data = frame.planes_data();
    let plane = |index: usize| {
        let stride = strides[index];
        Plane {
            data: data[index].get(first * stride..).unwrap_or_default(),
            stride_bytes: step * stride,
        }
    };
    Frame::new(of_rows(format, rows), planes(frame, plane)?)
}

/// These rows of a frame, to write to.
///
/// # Errors
/// [`Error::Frame`] when the memory does not hold such a frame.
pub fn writable<'a>(
    format: FrameFormat,
    frame: &'a mut VideoFrameRef<&mut gst::BufferRef>,
    rows: Rows,
) -> Result<FrameMut<'a>> {
    let (first, step) = rows.first_and_step();
    let strides = strides(frame)?;
    // The planes' indices, to take each once.
    let order = planes(frame, |index| index)?;
    let mut data = frame.planes_data_mut().map(Some);
    let plane = |index: usize| {
        let stride = strides[index];
        let data = data[index].take().expect("no two components of these formats share a plane");
        PlaneMut {
            data: data.get_mut(first * stride..).unwrap_or_default(),
            stride_bytes: step * stride,
        }
    };
    let planes = order.map(plane);
    FrameMut::new(of_rows(format, rows), planes)
}

fn of_rows(format: FrameFormat, rows: Rows) -> FrameFormat {
    FrameFormat { height: rows.count(format.height), ..format }
}

/// The planes of a frame by what is in them; `plane` makes one from its index.
fn planes<T, P>(frame: &VideoFrameRef<T>, plane: impl Fn(usize) -> P) -> Result<Planes<P>> {
    let of = |component: u32| plane(frame.comp_plane(component) as usize);
    let offset = |component: u32| frame.comp_poffset(component) as usize;
    let matrix = || matrix_of(&frame.info().colorimetry());
    Ok(match frame.format() {
        VideoFormat::I420 | VideoFormat::Yv12 | VideoFormat::I42010le => {
            Planes::Planar { y: of(0), u: of(1), v: of(2), subsampling: Subsampling::Yuv420 }
        }
        VideoFormat::Y42b => {
            Planes::Planar { y: of(0), u: of(1), v: of(2), subsampling: Subsampling::Yuv422 }
        }
        VideoFormat::Y444 => {
            Planes::Planar { y: of(0), u: of(1), v: of(2), subsampling: Subsampling::Yuv444 }
        }
        VideoFormat::Nv12 | VideoFormat::Nv21 | VideoFormat::P01010le => {
            Planes::SemiPlanar { y: of(0), uv: of(1), v_first: offset(2) < offset(1) }
        }
        VideoFormat::Gray8 => Planes::Grey { y: of(0) },
        VideoFormat::Gbr => Planes::PlanarRgb { r: of(0), g: of(1), b: of(2), matrix: matrix() },
        format if OTHER_FORMATS.contains(&format) => {
            let bytes = frame.comp_pstride(0) as usize;
            let pixel = RgbPixel { bytes, r: offset(0), g: offset(1), b: offset(2) };
            Planes::PackedRgb { pixels: of(0), pixel, matrix: matrix() }
        }
        format => return Err(Error::Frame(format!("format {format}"))),
    })
}

/// Bytes from row to row of each plane.
fn strides<T>(frame: &VideoFrameRef<T>) -> Result<[usize; 4]> {
    let mut strides = [0; 4];
    for (to, &stride) in strides.iter_mut().zip(frame.plane_stride()) {
        *to = usize::try_from(stride).map_err(|_| {
            Error::Frame(format!("stride {stride}, expected rows from top to bottom"))
        })?;
    }
    Ok(strides)
}
