//! Caps, frames and metas where the model makes frames larger.

use gstreamer as gst;
use gstreamer_video as gst_video;

use gst::prelude::*;
use gst_video::prelude::*;
use gst_video::video_frame::Writable;
use gst_video::video_meta::{VideoMetaTransformScale, tags};
use gst_video::{VideoCropMeta, VideoFrame, VideoFrameRef, VideoInfo};
use tunableconv::frame::{MAX_SIDE, Rescale};
use tunableconv::{Error, Result};

use super::fields::Rows;
use super::{formats, frame, mix};

/// The caps on the other side of a model that makes progressive frames `scale` times as large.
pub fn caps(direction: gst::PadDirection, caps: &gst::CapsRef, scale: i32) -> gst::Caps {
    let upwards = direction == gst::PadDirection::Sink;
    let structures = caps
        .iter_with_features()
        .filter(|(_, features)| !features.contains(gst_video::CAPS_FEATURE_FORMAT_INTERLACED));
    let scaled = structures.filter_map(|(structure, features)| {
        let mut scaled = structure.to_owned();
        for side in ["width", "height"] {
            if let Ok(value) = structure.value(side) {
                scaled.set_value(side, sizes(value, scale, upwards)?);
            }
        }
        // Fields would lie between each other's rows.
        if let Ok(mode) = structure.value("interlace-mode") {
            let progressive = "progressive".to_send_value();
            mode.intersect(&progressive)?;
            scaled.set_value("interlace-mode", progressive);
        }
        if upwards {
            keep_colours(structure, &mut scaled);
        }
        Some((scaled, features.to_owned()))
    });
    scaled.collect()
}

/// Says what the size of a frame says otherwise: larger ones may be of another colorimetry, and have their chroma
/// elsewhere.
fn keep_colours(structure: &gst::StructureRef, scaled: &mut gst::Structure) {
    let caps: gst::Caps = [structure.to_owned()].into_iter().collect();
    if caps.is_fixed()
        && let Ok(info) = VideoInfo::from_caps(&caps)
    {
        if !structure.has_field("colorimetry") {
            scaled.set("colorimetry", info.colorimetry().to_string());
        }
        if !structure.has_field("chroma-site") && !info.chroma_site().is_empty() {
            scaled.set("chroma-site", info.chroma_site().to_string());
        }
    }
}

/// Sizes on the other side; `None` where there are none.
fn sizes(value: &gst::glib::SendValue, scale: i32, upwards: bool) -> Option<gst::glib::SendValue> {
    let most = MAX_SIDE as i32;
    let of = |size: i32| match upwards {
        true => size.checked_mul(scale).filter(|size| *size <= most),
        false => (size % scale == 0).then_some(size / scale),
    };
    if let Ok(size) = value.get::<i32>() {
        return of(size).map(|size| size.to_send_value());
    }
    if let Ok(range) = value.get::<gst::IntRange<i32>>() {
        let (low, high) = match upwards {
            true => (range.min().checked_mul(scale)?, range.max().min(most / scale) * scale),
            false => (
                range.min().div_euclid(scale) + i32::from(range.min() % scale != 0),
                range.max() / scale,
            ),
        };
        let (low, high) = (low.max(1), high);
        return match (high - low, upwards) {
            (..0, _) => None,
            (0, _) => Some(low.to_send_value()),
            (_, true) => Some(gst::IntRange::<i32>::with_step(low, high, scale).to_send_value()),
            (_, false) => Some(gst::IntRange::<i32>::new(low, high).to_send_value()),
        };
    }
    let list = value.get::<gst::List>().ok()?;
    let sizes: Vec<_> = list.iter().filter_map(|value| sizes(value, scale, upwards)).collect();
    match &sizes[..] {
        [] => None,
        [one] => Some(one.clone()),
        _ => Some(gst::List::new(sizes).to_send_value()),
    }
}

/// Frames of these caps, so many times as large.
///
/// # Errors
/// [`Error::Frame`] when GStreamer has none of that size.
pub fn info(info: &VideoInfo, scale: usize) -> Result<VideoInfo> {
    let side = |side: u32| side.saturating_mul(u32::try_from(scale).unwrap_or(u32::MAX));
    VideoInfo::builder(info.format(), side(info.width()), side(info.height()))
        .colorimetry(&info.colorimetry())
        .chroma_site(info.chroma_site())
        .build()
        .map_err(|error| Error::Frame(error.to_string()))
}

/// The input as large as the output, to show beside it or in its place.
pub struct Scaled {
    rescale: Rescale,
    scale: usize,
    frame: VideoFrame<Writable>,
}

impl Scaled {
    /// From frames of these caps to those.
    ///
    /// # Errors
    /// [`Error::Frame`] when there is no memory.
    pub fn new(from: &VideoInfo, to: &VideoInfo) -> Result<Self> {
        let size = |info: &VideoInfo| [info.width() as usize, info.height() as usize];
        let failed = |error: gst::glib::BoolError| Error::Frame(error.to_string());
        let buffer = gst::Buffer::with_size(to.size()).map_err(failed)?;
        let frame = VideoFrame::from_buffer_writable(buffer, to)
            .map_err(|_| Error::Frame("a buffer cannot be written".into()))?;
        let scale = (to.width() / from.width()) as usize;
        Ok(Self { rescale: Rescale::new(size(from), size(to)), scale, frame })
    }

    /// The input, whose samples have so many bits, scaled.
    ///
    /// # Errors
    /// [`Error::Frame`] when it is of other caps.
    pub fn of(
        &mut self,
        input: &VideoFrameRef<&gst::BufferRef>,
        (from, bits): (&VideoInfo, u32),
    ) -> Result<VideoFrameRef<&gst::BufferRef>> {
        let readable = frame::readable(formats::format_of(from, bits)?, input, Rows::All)?;
        let format = formats::format_of(self.frame.info(), bits)?;
        {
            let mut output = self.frame.as_mut_video_frame_ref();
            self.rescale.run(&readable, &mut frame::writable(format, &mut output, Rows::All)?)?;
            mix::copy_alpha(input, &mut output, self.scale);
        }
        Ok(self.frame.as_video_frame_ref())
    }
}

/// Puts what a pointer does in the pixels of the smaller frame.
pub fn navigation(event: &mut gst::EventRef, scale: f64) {
    let structure = event.structure_mut();
    for name in ["pointer_x", "pointer_y"] {
        if let Ok(place) = structure.get::<f64>(name) {
            structure.set(name, place / scale);
        }
    }
}

/// Gives the output what a meta says of the input, in its own pixels; whether it is to be copied as it is.
pub fn meta(
    output: &mut gst::BufferRef,
    meta: &gst::MetaRef<'_, gst::Meta>,
    (from, to): (&VideoInfo, &VideoInfo),
) -> bool {
    let scale = to.width() / from.width();
    if let Some(crop) = meta.downcast_ref::<VideoCropMeta>() {
        let (x, y, width, height) = crop.rect();
        VideoCropMeta::add(output, (x * scale, y * scale, width * scale, height * scale));
        return false;
    }
    if !meta.has_tag::<tags::Size>() {
        return true;
    }
    // Those that cannot be scaled do not come along.
    let _ = meta.transform(output, &VideoMetaTransformScale::new(from, to));
    false
}
