//! Control bindings: one tuning a frame, taken at its stream time.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{FRAME_DURATION, Model, Picture, filter, stamped};
use gst_check::Harness;
use gstreamer as gst;
use gstreamer_check as gst_check;
use gstreamer_controller as gst_controller;
use gstreamer_video as gst_video;

use gst::prelude::*;
use gst_controller::prelude::*;
use gst_controller::{DirectControlBinding, InterpolationControlSource, InterpolationMode};
use gst_video::VideoFormat;
use tunableconv::checkpoint::Checkpoint;

const FRAMES: u64 = 25;

/// Keys `alpha` from 0 at stream time `from` to 1 one second later.
fn ramp(element: &gst::Element, from: gst::ClockTime) -> InterpolationControlSource {
    let source = InterpolationControlSource::new();
    source.set_mode(InterpolationMode::Linear);
    assert!(source.set(from, 0.0));
    assert!(source.set(from + gst::ClockTime::SECOND, 1.0));
    let binding = DirectControlBinding::new_absolute(element, "alpha", &source);
    element.add_control_binding(&binding).unwrap();
    source
}

/// Frames whose timestamps start at `first_pts`, through a segment; each must be filtered at the
/// ramp's value at its stream time, which starts at `first_stream_time`. Returns the effects.
fn effects(
    segment: &gst::FormattedSegment<gst::ClockTime>,
    first_pts: gst::ClockTime,
    first_stream_time: gst::ClockTime,
) -> Vec<f64> {
    let model = Model::new();
    let picture = Picture::random(64, 48);
    let info = picture.info(VideoFormat::I420);
    let element = model.element();
    element.set_property("beta", 0.0);
    let source = ramp(&element, gst::ClockTime::from_seconds(2));
    let mut harness = model.harness(&element, &info);
    assert!(harness.push_event(gst::event::Segment::new(segment)));
    (0..FRAMES)
        .map(|index| {
            let mut buffer = stamped(picture.buffer(&info), 0);
            buffer.get_mut().unwrap().set_pts(first_pts + FRAME_DURATION * index);
            let output = harness.push_and_pull(buffer).unwrap();
            let output = picture.read(&info, output);
            let stream_time = first_stream_time + FRAME_DURATION * index;
            let alpha = ControlSourceExt::value(&source, stream_time).unwrap();
            assert_eq!(output, model.filter(&picture, &[alpha, 0.0]), "frame {index}");
            output.luma_difference(&picture)
        })
        .collect()
}

fn assert_ramp(effects: &[f64]) {
    assert_eq!(effects[0], 0.0);
    assert!(effects.is_sorted(), "{effects:?}");
    assert!(effects[FRAMES as usize - 1] > 1.0, "{effects:?}");
}

#[test]
fn the_effect_follows_a_ramp() {
    common::init();
    let segment = gst::FormattedSegment::<gst::ClockTime>::new();
    let start = gst::ClockTime::from_seconds(2);
    assert_ramp(&effects(&segment, start, start));
}

#[test]
fn the_ramp_runs_in_stream_time() {
    common::init();
    // A clip cut at 10 s, played from 2 s of the stream, in a pipeline that has run for 30 s.
    let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
    segment.set_start(gst::ClockTime::from_seconds(10));
    segment.set_time(gst::ClockTime::from_seconds(2));
    segment.set_base(gst::ClockTime::from_seconds(30));
    let pts = gst::ClockTime::from_seconds(10);
    assert_eq!(segment.to_running_time(pts), Some(gst::ClockTime::from_seconds(30)));
    assert_ramp(&effects(&segment, pts, gst::ClockTime::from_seconds(2)));
}

#[test]
fn frames_without_timestamp_keep_the_tuning() {
    let model = Model::new();
    let picture = Picture::random(16, 16);
    let info = picture.info(VideoFormat::I420);
    let element = model.element();
    element.set_property("alpha", 0.5);
    ramp(&element, gst::ClockTime::ZERO);
    let mut harness = model.harness(&element, &info);
    let output = harness.push_and_pull(picture.buffer(&info)).unwrap();
    assert_eq!(picture.read(&info, output), model.filter(&picture, &[0.5, 0.0]));
}

#[test]
fn a_curve_may_end_one_step_of_rounding_beyond_the_range() {
    common::init();
    let picture = Picture::random(16, 16);
    let info = picture.info(VideoFormat::I420);
    // GStreamer's cubic curves overshoot such points by rounding, and GObject lets it pass.
    let source = InterpolationControlSource::new();
    source.set_mode(InterpolationMode::Cubic);
    for (ms, value) in [(0, 1.0), (1200, 1.0), (2200, 1.0)] {
        assert!(source.set(gst::ClockTime::from_mseconds(ms), value));
    }
    let element = gst::ElementFactory::make("tunableconv-broadcast")
        .property_from_str("precision", "f32")
        .build()
        .unwrap();
    let binding = DirectControlBinding::new_absolute(&element, "denoise", &source);
    element.add_control_binding(&binding).unwrap();
    let mut harness = Harness::with_element(&element, Some("sink"), Some("src"));
    let caps = info.to_caps().unwrap();
    harness.set_caps(caps.clone(), caps);
    let checkpoint = Checkpoint::built_in().unwrap();
    let mut beyond = 0;
    for frame in 0..132 {
        let time = gst::ClockTime::SECOND.mul_div_floor(frame, 60).unwrap();
        beyond += u32::from(ControlSourceExt::value(&source, time).unwrap() > 1.0);
        let mut buffer = picture.buffer(&info);
        buffer.get_mut().unwrap().set_pts(time);
        let output = harness.push_and_pull(buffer).unwrap();
        assert_eq!(picture.read(&info, output), filter(&checkpoint, &picture, &[1.0, 0.0, 0.0]));
    }
    assert!(beyond > 0, "no value of the curve is beyond the range");
}
