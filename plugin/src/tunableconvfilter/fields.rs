//! Interlaced video: rows of a frame that were taken at one time are a picture of their own.

use gst_video::prelude::*;
use gst_video::{VideoBufferFlags, VideoInfo, VideoInterlaceMode};
use gstreamer as gst;
use gstreamer_video as gst_video;

/// How the rows of a frame were taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan {
    /// All at one time.
    Progressive,
    /// Every second one at one time, the others at another.
    Interleaved,
    /// As above, but the rows of chroma cannot be shared out.
    Unclear,
    /// Fields that do not lie in one frame.
    Apart,
}

/// Rows of a frame that are filtered as one picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// Every one.
    All,
    /// The first, third and so on.
    Top,
    /// The second, fourth and so on.
    Bottom,
}

impl Scan {
    /// Of a frame with the caps of `info`.
    pub fn of(info: &VideoInfo, buffer: &gst::BufferRef) -> Self {
        let is_flagged = || buffer.video_flags().contains(VideoBufferFlags::INTERLACED);
        match info.interlace_mode() {
            VideoInterlaceMode::Progressive => Self::Progressive,
            VideoInterlaceMode::Mixed if !is_flagged() => Self::Progressive,
            VideoInterlaceMode::Mixed | VideoInterlaceMode::Interleaved => {
                if has_whole_fields(info) { Self::Interleaved } else { Self::Unclear }
            }
            _ => Self::Apart,
        }
    }

    /// Whether such frames can be filtered.
    pub fn is_known(self) -> bool {
        matches!(self, Self::Progressive | Self::Interleaved)
    }

    /// The pictures of a frame of this height.
    pub fn pictures(self, height: u32) -> &'static [Rows] {
        match self {
            // A single row is a picture of its own.
            Self::Interleaved if height > 1 => &[Rows::Top, Rows::Bottom],
            _ => &[Rows::All],
        }
    }
}

impl Rows {
    /// Their number in a frame of `height` rows.
    pub fn count(self, height: usize) -> usize {
        match self {
            Self::All => height,
            Self::Top => height.div_ceil(2),
            Self::Bottom => height / 2,
        }
    }

    /// The first of them, and the step from one to the next.
    pub fn first_and_step(self) -> (usize, usize) {
        match self {
            Self::All => (0, 1),
            Self::Top => (0, 2),
            Self::Bottom => (1, 2),
        }
    }
}

/// Whether every field has all rows of chroma that belong to its rows of luma.
fn has_whole_fields(info: &VideoInfo) -> bool {
    let height = info.height() as usize;
    let format = info.format_info();
    (0..info.n_components()).all(|component| {
        let rows = info.comp_height(component as u8) as usize;
        [Rows::Top, Rows::Bottom].into_iter().all(|field| {
            let expected = format.scale_height(component as u8, field.count(height) as u32);
            field.count(rows) >= expected as usize
        })
    })
}
