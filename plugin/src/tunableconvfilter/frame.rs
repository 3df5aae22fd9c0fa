//! GStreamer's frames as the library's: same memory, no copy.

use gstreamer as gst;
use gstreamer_video as gst_video;

use gst_video::prelude::*;
use gst_video::{VideoColorRange, VideoFrameRef, VideoInfo};
use tunableconv::frame::{
    Frame, FrameFormat, FrameMut, Plane, PlaneMut, Planes, Range, SampleFormat, Subsampling,
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
    Frame::new(format, layout.planes.map(plane))
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
    let mut planes = frame.planes_data_mut();
    let plane = |index: usize| PlaneMut {
        data: std::mem::take(&mut planes[index]),
        stride_bytes: layout.strides_bytes[index],
    };
    FrameMut::new(format, layout.planes.map(plane))
}

/// Where the components lie: strides by plane, and the index of each plane.
struct Layout {
    strides_bytes: Vec<usize>,
    planes: Planes<usize>,
}

impl Layout {
    fn of<T>(frame: &VideoFrameRef<T>) -> Result<Self> {
        debug_assert_eq!(frame.comp_plane(Y), 0, "luma is the first plane of every 4:2:0 format");
        let (u, v) = (frame.comp_plane(U) as usize, frame.comp_plane(V) as usize);
        let planes = if u == v {
            let v_first = frame.comp_poffset(V) < frame.comp_poffset(U);
            Planes::SemiPlanar { y: 0, uv: u, v_first }
        } else {
            Planes::Planar { y: 0, u, v, subsampling: Subsampling::Yuv420 }
        };
        let stride = |&stride: &i32| {
            usize::try_from(stride).map_err(|_| Error::Frame(format!("stride {stride}")))
        };
        let strides_bytes = frame.plane_stride().iter().map(stride).collect::<Result<_>>()?;
        Ok(Self { strides_bytes, planes })
    }
}
