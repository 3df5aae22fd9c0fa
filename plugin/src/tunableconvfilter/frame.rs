//! GStreamer's frames as the library's: same memory, no copy.

use gstreamer as gst;
use gstreamer_video as gst_video;

use gst_video::prelude::*;
use gst_video::{VideoColorRange, VideoFrameRef, VideoInfo};
use tunableconv::frame::{
    Chroma, Frame, FrameFormat, FrameMut, Plane, PlaneMut, Range, SampleFormat,
};
use tunableconv::{Error, Result};

/// Components of a 4:2:0 format, as GStreamer counts them.
const Y: u32 = 0;
const U: u32 = 1;
const V: u32 = 2;

/// Size and range of the frames; a range that the caps leave open is limited.
pub fn format_of(info: &VideoInfo) -> FrameFormat {
    let range = match info.colorimetry().range() {
        VideoColorRange::Range0_255 => Range::Full,
        _ => Range::Limited,
    };
    FrameFormat {
        width: info.width() as usize,
        height: info.height() as usize,
        range,
        samples: SampleFormat::U8,
    }
}

/// The frame to read from.
///
/// # Errors
/// [`Error::Frame`] when the memory does not hold such a frame.
pub fn readable<'a>(
    format: FrameFormat,
    frame: &'a VideoFrameRef<&gst::BufferRef>,
) -> Result<Frame<'a>> {
    let layout = Layout::of(frame)?;
    let planes = frame.planes_data();
    let plane =
        |index: usize| Plane { data: planes[index], stride_bytes: layout.strides_bytes[index] };
    let chroma = match layout.chroma {
        Chroma::Planar { u, v } => Chroma::Planar { u: plane(u), v: plane(v) },
        Chroma::SemiPlanar { uv, v_first } => Chroma::SemiPlanar { uv: plane(uv), v_first },
    };
    Frame::new(format, plane(0), chroma)
}

/// The frame to write to.
///
/// # Errors
/// [`Error::Frame`] when the memory does not hold such a frame.
pub fn writable<'a>(
    format: FrameFormat,
    frame: &'a mut VideoFrameRef<&mut gst::BufferRef>,
) -> Result<FrameMut<'a>> {
    let layout = Layout::of(frame)?;
    let [y, first, second, _] = frame.planes_data_mut();
    let plane = |data, index: usize| PlaneMut { data, stride_bytes: layout.strides_bytes[index] };
    let chroma = match layout.chroma {
        Chroma::Planar { u, v } => {
            let (u_data, v_data) = if u < v { (first, second) } else { (second, first) };
            Chroma::Planar { u: plane(u_data, u), v: plane(v_data, v) }
        }
        Chroma::SemiPlanar { uv, v_first } => Chroma::SemiPlanar { uv: plane(first, uv), v_first },
    };
    FrameMut::new(format, plane(y, 0), chroma)
}

/// Where the components lie: strides by plane, and planes of chroma.
struct Layout {
    strides_bytes: Vec<usize>,
    chroma: Chroma<usize>,
}

impl Layout {
    fn of<T>(frame: &VideoFrameRef<T>) -> Result<Self> {
        debug_assert_eq!(frame.comp_plane(Y), 0, "luma is the first plane of every 4:2:0 format");
        let (u, v) = (frame.comp_plane(U) as usize, frame.comp_plane(V) as usize);
        let chroma = if u == v {
            Chroma::SemiPlanar { uv: u, v_first: frame.comp_poffset(V) < frame.comp_poffset(U) }
        } else {
            Chroma::Planar { u, v }
        };
        let stride = |&stride: &i32| {
            usize::try_from(stride).map_err(|_| Error::Frame(format!("stride {stride}")))
        };
        let strides_bytes = frame.plane_stride().iter().map(stride).collect::<Result<_>>()?;
        Ok(Self { strides_bytes, chroma })
    }
}
