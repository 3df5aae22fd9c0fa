//! Pixel formats: which the element takes, and where the samples of each are.
//!
//! The places are those of GStreamer's own table of formats, as long as samples are whole bytes or
//! words. Formats that pack them otherwise are unpacked by GStreamer, see [`super::unpack`].

use gstreamer_video as gst_video;

use gst_video::{
    VideoChromaSite, VideoColorMatrix, VideoColorPrimaries, VideoColorRange, VideoColorimetry,
    VideoFormat, VideoFormatInfo, VideoInfo,
};
use tunableconv::frame::{
    ChromaSite, FrameFormat, Matrix, Planes, Range, RgbPixel, SampleFormat, Subsampling, YuvPixel,
};
use tunableconv::{Error, Result};

/// Those that the net reads as they are. A source that can give any takes one of these.
pub const FIRST: [VideoFormat; 4] =
    [VideoFormat::I420, VideoFormat::Yv12, VideoFormat::Nv12, VideoFormat::Nv21];

/// Others whose samples the library finds by itself.
pub const OTHERS: [VideoFormat; 48] = [
    VideoFormat::I42010le,
    VideoFormat::I42012le,
    VideoFormat::P01010le,
    VideoFormat::P012Le,
    VideoFormat::P016Le,
    VideoFormat::A420,
    VideoFormat::A42010le,
    VideoFormat::Y42b,
    VideoFormat::Nv16,
    VideoFormat::Nv61,
    VideoFormat::Yuy2,
    VideoFormat::Uyvy,
    VideoFormat::Yvyu,
    VideoFormat::Vyuy,
    VideoFormat::I42210le,
    VideoFormat::I42212le,
    VideoFormat::A42210le,
    VideoFormat::V216,
    VideoFormat::Y444,
    VideoFormat::Nv24,
    VideoFormat::V308,
    VideoFormat::Iyu2,
    VideoFormat::Ayuv,
    VideoFormat::Vuya,
    VideoFormat::Y44410le,
    VideoFormat::Y44412le,
    VideoFormat::Y44416le,
    VideoFormat::A44410le,
    VideoFormat::Ayuv64,
    VideoFormat::Gray8,
    VideoFormat::Gray16Le,
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
    VideoFormat::Gbra,
    VideoFormat::Gbr10le,
    VideoFormat::Gbra10le,
    VideoFormat::Gbr12le,
    VideoFormat::Gbra12le,
    VideoFormat::Argb64,
];

/// Those that GStreamer unpacks and packs: their samples are not whole words, or its table does not
/// tell where they are. UYVP and NV16_10LE32 are not among them, as rows of
/// odd width do not fit the strides that GStreamer 1.22 gives them.
pub const UNPACKED: [VideoFormat; 10] = [
    VideoFormat::V210,
    VideoFormat::Y210,
    VideoFormat::Y212Le,
    VideoFormat::Y410,
    VideoFormat::Y412Le,
    VideoFormat::Y41b,
    VideoFormat::Gray10Le32,
    VideoFormat::R210,
    VideoFormat::Rgb10a2Le,
    VideoFormat::Bgr10a2Le,
];

/// All, in the order above.
pub fn all() -> impl Iterator<Item = VideoFormat> {
    FIRST.into_iter().chain(OTHERS).chain(UNPACKED)
}

/// Size, range and samples of the frames, of so many bits; a range that the caps leave open is
/// limited for YUV and full for RGB.
///
/// # Errors
/// [`Error::Frame`] for a format that is neither in [`FIRST`] nor in [`OTHERS`].
pub fn format_of(info: &VideoInfo, bits: u32) -> Result<FrameFormat> {
    let range = match info.colorimetry().range() {
        VideoColorRange::Range0_255 => Range::Full,
        VideoColorRange::Range16_235 => Range::Limited,
        _ if info.is_rgb() => Range::Full,
        _ => Range::Limited,
    };
    let samples = samples_of(&info.format_info(), bits)?;
    Ok(FrameFormat { width: info.width() as usize, height: info.height() as usize, range, samples })
}

/// How samples of so many bits are stored; they are the upper ones where the format has more.
fn samples_of(format: &VideoFormatInfo, bits: u32) -> Result<SampleFormat> {
    let (depth, shift) = (format.depth()[0], format.shift()[0]);
    let is_high = shift > 0 || bits < depth;
    if format.name().ends_with("BE") {
        return Err(unknown(format.format()));
    }
    match (bits, is_high) {
        (8, false) => Ok(SampleFormat::U8),
        (10, false) => Ok(SampleFormat::U10Low),
        (10, true) => Ok(SampleFormat::U10High),
        (12, false) => Ok(SampleFormat::U12Low),
        (12, true) => Ok(SampleFormat::U12High),
        (16, false) => Ok(SampleFormat::U16),
        _ => Err(unknown(format.format())),
    }
}

/// The indices of the planes of a format by what is in them.
///
/// # Errors
/// As [`format_of`].
pub fn planes_of(info: &VideoInfo) -> Result<Planes<usize>> {
    if !FIRST.contains(&info.format()) && !OTHERS.contains(&info.format()) {
        return Err(unknown(info.format()));
    }
    place(info)
}

/// [`planes_of`] any format.
fn place(info: &VideoInfo) -> Result<Planes<usize>> {
    let format = info.format_info();
    let plane = |component: usize| format.plane()[component] as usize;
    let offset = |component: usize| format.poffset()[component] as usize;
    let step = |component: usize| format.pixel_stride()[component] as usize;
    if format.is_gray() {
        return Ok(Planes::Grey { y: plane(0) });
    }
    let is_packed = plane(0) == plane(1);
    if format.is_rgb() {
        let matrix = matrix_of(info);
        return Ok(if is_packed {
            let pixel = RgbPixel { bytes: step(0), r: offset(0), g: offset(1), b: offset(2) };
            Planes::PackedRgb { pixels: plane(0), pixel, matrix }
        } else {
            Planes::PlanarRgb { r: plane(0), g: plane(1), b: plane(2), matrix }
        });
    }
    if is_packed {
        let (y, u, v) = (offset(0), offset(1), offset(2));
        let pixel = YuvPixel { bytes: step(1), y, u, v, is_pair: format.w_sub()[1] == 1 };
        return Ok(Planes::PackedYuv { pixels: plane(0), pixel });
    }
    let subsampling = match (format.w_sub()[1], format.h_sub()[1]) {
        (1, 1) => Subsampling::Yuv420,
        (1, 0) => Subsampling::Yuv422,
        (0, 0) => Subsampling::Yuv444,
        _ => return Err(unknown(info.format())),
    };
    Ok(if plane(1) == plane(2) {
        let v_first = offset(2) < offset(1);
        Planes::SemiPlanar { y: plane(0), uv: plane(1), v_first, subsampling }
    } else {
        Planes::Planar { y: plane(0), u: plane(1), v: plane(2), subsampling }
    })
}

fn unknown(format: VideoFormat) -> Error {
    Error::Frame(format!("format {format}"))
}

/// The matrix between RGB and luma and chroma of these caps. That of RGB is none, so the primaries tell.
pub fn matrix_of(info: &VideoInfo) -> Matrix {
    let colorimetry: VideoColorimetry = info.colorimetry();
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

/// Where chroma of these caps lies; where they do not say it, on the left, as that of most video.
pub fn site_of(info: &VideoInfo) -> ChromaSite {
    let site = info.chroma_site();
    if site.is_empty() {
        return ChromaSite::default();
    }
    let cosited = [VideoChromaSite::H_COSITED, VideoChromaSite::V_COSITED];
    ChromaSite { cosited: cosited.map(|flag| site.contains(flag)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chroma_lies_where_the_caps_say_and_else_on_the_left() {
        gstreamer::init().unwrap();
        let of = |site: VideoChromaSite| {
            let info = VideoInfo::builder(VideoFormat::I420, 32, 16).chroma_site(site);
            site_of(&info.build().unwrap())
        };
        assert_eq!(of(VideoChromaSite::JPEG), ChromaSite::CENTRE);
        assert_eq!(of(VideoChromaSite::MPEG2), ChromaSite::LEFT);
        assert_eq!(of(VideoChromaSite::COSITED), ChromaSite::TOP_LEFT);
        assert_eq!(of(VideoChromaSite::empty()), ChromaSite::LEFT);
    }

    #[test]
    fn every_format_has_a_layout_or_is_unpacked_into_one() {
        gstreamer::init().unwrap();
        for format in all() {
            let mut info = VideoInfo::builder(format, 32, 16).build().unwrap();
            let bits = info.comp_depth(0);
            if UNPACKED.contains(&format) {
                let unpacked = info.format_info().unpack_format();
                info = VideoInfo::builder(unpacked, 32, 16).build().unwrap();
            }
            format_of(&info, bits).unwrap();
            planes_of(&info).unwrap();
        }
    }

    #[test]
    fn what_no_layout_can_say_is_refused_even_if_a_list_has_it() {
        gstreamer::init().unwrap();
        let info = |format| VideoInfo::builder(format, 32, 16).build().unwrap();
        for format in [VideoFormat::Gray16Be, VideoFormat::I42010be, VideoFormat::Gbr12be] {
            let error = format_of(&info(format), info(format).comp_depth(0)).unwrap_err();
            assert!(error.to_string().contains(&format.to_string()), "{error}");
        }
        for format in [VideoFormat::Yuv9, VideoFormat::Y41b] {
            let error = place(&info(format)).unwrap_err();
            assert!(error.to_string().contains(&format.to_string()), "{error}");
        }
    }
}
