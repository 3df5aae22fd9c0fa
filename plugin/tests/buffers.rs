//! Buffers without times, and frames that lie oddly in memory or not at all; `streams.rs` has them
//! in any order.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{Model, Picture, first_error};
use gst_check::Harness;
use gstreamer as gst;
use gstreamer_check as gst_check;
use gstreamer_video as gst_video;

use gst::prelude::*;
use gst_video::{VideoFormat, VideoInfo, VideoMeta};

/// An element on `model` at `alpha`, playing, with its bus.
fn playing(model: &Model, info: &VideoInfo, alpha: f64) -> (gst::Element, Harness, gst::Bus) {
    let element = model.element();
    element.set_property("alpha", alpha);
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    let harness = model.harness(&element, info);
    (element, harness, bus)
}

fn add_meta(buffer: &mut gst::Buffer, info: &VideoInfo, offsets: &[usize], strides: &[i32]) {
    let flags = gst_video::VideoFrameFlags::empty();
    let (format, width, height) = (info.format(), info.width(), info.height());
    let buffer = buffer.get_mut().unwrap();
    VideoMeta::add_full(buffer, flags, format, width, height, offsets, strides).unwrap();
}

#[test]
fn a_still_has_no_rate_and_no_duration() {
    let model = Model::new();
    let picture = Picture::random(34, 18);
    let rates = [Some((0, 1)), None];
    for (rate, alpha, overload) in
        rates.map(|r| [(r, 0.0, "wait"), (r, 0.5, "wait"), (r, 0.5, "passthrough")]).concat()
    {
        let mut caps = gst::Caps::builder("video/x-raw")
            .field("format", "I420")
            .field("width", 34)
            .field("height", 18);
        if let Some((numer, denom)) = rate {
            caps = caps.field("framerate", gst::Fraction::new(numer, denom));
        }
        let info = VideoInfo::from_caps(&caps.build()).unwrap();
        let (element, mut harness, _bus) = playing(&model, &info, alpha);
        element.set_property_from_str("overload", overload);
        let expected = model.filter(&picture, &[alpha, 0.0]);
        for pts in [Some(gst::ClockTime::ZERO), None, Some(gst::ClockTime::SECOND)] {
            let mut buffer = picture.buffer(&info);
            buffer.get_mut().unwrap().set_pts(pts);
            let output = harness.push_and_pull(buffer).unwrap();
            assert_eq!((output.pts(), output.duration()), (pts, None));
            assert_eq!(picture.read(&info, output), expected, "{rate:?} {alpha} {overload}");
        }
    }
}

#[test]
fn a_frame_may_end_with_its_last_pixel_and_span_memories() {
    let model = Model::new();
    let picture = Picture::random(17, 9);
    let info = picture.info(VideoFormat::I420);
    let (_element, mut harness, _bus) = playing(&model, &info, 0.5);
    let padded = picture.padded_buffer(&info);
    let bytes = padded.map_readable().unwrap().to_vec();
    let meta = padded.meta::<VideoMeta>().unwrap();
    let end = meta.offset()[2] + 4 * meta.stride()[2] as usize + 9;
    for memories in [1, 2, 7] {
        let mut buffer = gst::Buffer::new();
        for part in bytes[..end].chunks(end.div_ceil(memories)) {
            buffer.get_mut().unwrap().append_memory(gst::Memory::from_slice(part.to_vec()));
        }
        add_meta(&mut buffer, &info, meta.offset(), meta.stride());
        let output = harness.push_and_pull(buffer).unwrap();
        let expected = model.filter(&picture, &[0.5, 0.0]);
        assert_eq!(picture.read(&info, output), expected, "{memories} memories");
    }
}

#[test]
fn a_buffer_that_does_not_hold_its_frame_is_one_error() {
    let model = Model::new();
    let picture = Picture::random(17, 9);
    let info = picture.info(VideoFormat::I420);
    let (offsets, strides) = (info.offset().to_vec(), info.stride().to_vec());
    let with_meta = |offset: usize, stride: i32| {
        let mut buffer = picture.buffer(&info);
        let offsets = [offset, offsets[1], offsets[2]];
        add_meta(&mut buffer, &info, &offsets, &[stride, strides[1], strides[2]]);
        buffer
    };
    let short = || gst::Buffer::with_size(info.size() - 1).unwrap();
    let size = info.size();
    let plane = format!("a buffer of {size} bytes with plane 0 from byte");
    let expected = "expected 9 rows of at least 17 in it";
    for (buffer, reason) in [
        (
            short(),
            format!("a buffer of {} bytes, expected at least {size} for I420 of 17×9", size - 1),
        ),
        (gst::Buffer::new(), format!("a buffer of 0 bytes, expected at least {size}")),
        (with_meta(size, 20), format!("{plane} {size} in rows of 20, {expected}")),
        (with_meta(usize::MAX, 20), format!("{plane} {} in rows of 20, {expected}", usize::MAX)),
        (with_meta(0, 400), format!("{plane} 0 in rows of 400, {expected}")),
        (with_meta(0, 16), format!("{plane} 0 in rows of 16, {expected}")),
        (with_meta(0, -20), format!("{plane} 0 in rows of -20, {expected}")),
    ] {
        let (_element, mut harness, bus) = playing(&model, &info, 0.5);
        assert_eq!(harness.push(buffer), Err(gst::FlowError::Error));
        let (_, text) = first_error(&bus);
        assert!(text.contains(&reason), "{text}\n{reason}");
        assert!(bus.pop_filtered(&[gst::MessageType::Error]).is_none());
    }
}

#[test]
fn an_empty_buffer_after_a_reconfiguration_is_one_error() {
    let model = Model::new();
    let picture = Picture::random(17, 9);
    let info = picture.info(VideoFormat::I420);
    let (element, mut harness, bus) = playing(&model, &info, 0.0);
    // The base class gives its pool away when it renegotiates in passthrough.
    harness.push_and_pull(picture.buffer(&info)).unwrap();
    harness.push_upstream_event(gst::event::Reconfigure::new());
    harness.push_and_pull(picture.buffer(&info)).unwrap();
    element.set_property("alpha", 0.5);
    assert_eq!(harness.push(gst::Buffer::new()), Err(gst::FlowError::Error));
    assert!(first_error(&bus).1.contains("a buffer of 0 bytes"));
}

#[test]
fn segments_need_not_be_of_time() {
    let model = Model::new();
    let picture = Picture::random(17, 9);
    let info = picture.info(VideoFormat::I420);
    let (_element, mut harness, _bus) = playing(&model, &info, 0.5);
    let mut backwards = gst::FormattedSegment::<gst::ClockTime>::new();
    backwards.set_rate(-1.0);
    for segment in [
        gst::event::Segment::new(&gst::FormattedSegment::<gst::format::Bytes>::new()),
        gst::event::Segment::new(&gst::FormattedSegment::<gst::format::Default>::new()),
        gst::event::Segment::new(&backwards),
    ] {
        assert!(harness.push_event(segment));
        let mut buffer = picture.buffer(&info);
        buffer.get_mut().unwrap().set_pts(gst::ClockTime::SECOND);
        let output = harness.push_and_pull(buffer).unwrap();
        assert_eq!(picture.read(&info, output), model.filter(&picture, &[0.5, 0.0]));
    }
}
