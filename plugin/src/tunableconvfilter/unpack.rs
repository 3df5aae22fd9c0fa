//! Formats whose samples are not whole bytes or words: GStreamer unpacks their rows and packs them
//! again.

use gst_video::prelude::*;
use gst_video::video_frame::Writable;
use gst_video::{VideoFormatInfo, VideoFrame, VideoFrameRef, VideoInfo, VideoPackFlags};
use gstreamer as gst;
use gstreamer_video as gst_video;
use tunableconv::{Error, Result};

/// Room for an unpacked frame and what becomes of it.
pub struct Unpacked {
    /// As it came.
    pub input: VideoFrame<Writable>,
    /// As it goes.
    pub output: VideoFrame<Writable>,
    /// Of the packed format.
    format: VideoFormatInfo,
}

impl Unpacked {
    /// For frames of these caps, and those made of them.
    ///
    /// # Errors
    /// [`Error::Frame`] when there is no memory.
    pub fn new(info: &VideoInfo, out_info: &VideoInfo) -> Result<Self> {
        let frame = |info: &VideoInfo| {
            let unpacked = unpacked(info)?;
            let buffer = gst::Buffer::with_size(unpacked.size()).map_err(failed)?;
            let frame = VideoFrame::from_buffer_writable(buffer, &unpacked);
            frame.map_err(|_| Error::Frame("a buffer cannot be written".into()))
        };
        Ok(Self { input: frame(info)?, output: frame(out_info)?, format: info.format_info() })
    }

    /// Unpacks a frame into `input`.
    pub fn unpack(&mut self, from: &VideoFrameRef<&gst::BufferRef>, is_interleaved: bool) {
        // The low bits that the format does not have are zero, and lost again when it is packed.
        let flags = flags(is_interleaved) | VideoPackFlags::TRUNCATE_RANGE;
        let stride = self.input.plane_stride()[0] as usize;
        let (width, height) = (self.input.width() as i32, self.input.height() as i32);
        let planes = from.planes_data();
        let planes = &planes[..from.n_planes() as usize];
        let to = self.input.plane_data_mut(0).unwrap_or_default();
        for (y, row) in (0..height).zip(to.chunks_mut(stride)) {
            self.format.unpack(
                flags,
                row,
                planes,
                &from.plane_stride()[..planes.len()],
                0,
                y,
                width,
            );
        }
    }

    /// Packs `output` into a frame.
    pub fn pack(&self, to: &mut VideoFrameRef<&mut gst::BufferRef>, is_interleaved: bool) {
        let stride = self.output.plane_stride()[0];
        let (width, height) = (to.width() as i32, to.height() as i32);
        let count = to.n_planes() as usize;
        let mut strides = [0; 4];
        strides[..count].copy_from_slice(&to.plane_stride()[..count]);
        let site = to.info().chroma_site();
        let from = self.output.plane_data(0).unwrap_or_default();
        let mut planes = to.planes_data_mut();
        let planes = &mut planes[..count];
        for (y, row) in (0..height).zip(from.chunks(stride as usize)) {
            let flags = flags(is_interleaved);
            self.format.pack(flags, row, stride, planes, &strides[..count], site, y, width);
        }
    }
}

/// The frames that those of these caps are unpacked into.
///
/// # Errors
/// [`Error::Frame`] when GStreamer has none of this size.
pub fn unpacked(info: &VideoInfo) -> Result<VideoInfo> {
    VideoInfo::builder(info.format_info().unpack_format(), info.width(), info.height())
        .colorimetry(&info.colorimetry())
        .build()
        .map_err(failed)
}

fn flags(is_interleaved: bool) -> VideoPackFlags {
    match is_interleaved {
        true => VideoPackFlags::INTERLACED,
        false => VideoPackFlags::empty(),
    }
}

fn failed(error: glib::BoolError) -> Error {
    Error::Frame(error.to_string())
}
