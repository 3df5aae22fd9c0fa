//! GStreamer's frames as the library's: same memory, no copy.

use gstreamer as gst;
use gstreamer_video as gst_video;

use gst_video::VideoFrameRef;
use gst_video::prelude::*;
use tunableconv::frame::{Frame, FrameFormat, FrameMut, Plane, PlaneMut};
use tunableconv::{Error, Result};

use super::fields::Rows;
use super::formats::{matrix_of, planes_of, site_of};

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
    let planes = planes_of(frame.info())?.map(plane);
    let (matrix, site) = (matrix_of(frame.info()), site_of(frame.info()));
    Ok(Frame::new(of_rows(format, rows), planes)?.with_matrix(matrix).with_chroma_site(site))
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
    let (order, matrix) = (planes_of(frame.info())?, matrix_of(frame.info()));
    let site = site_of(frame.info());
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
    Ok(FrameMut::new(of_rows(format, rows), planes)?.with_matrix(matrix).with_chroma_site(site))
}

fn of_rows(format: FrameFormat, rows: Rows) -> FrameFormat {
    FrameFormat { height: rows.count(format.height), ..format }
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
