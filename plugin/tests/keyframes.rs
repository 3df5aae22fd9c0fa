//! The property `keyframes`.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{FRAME_DURATION, Model, Picture, first_error, messages, stamped};
use gstreamer as gst;
use gstreamer_controller as gst_controller;
use gstreamer_video as gst_video;

use gst::prelude::*;
use gst_controller::prelude::*;
use gst_controller::{DirectControlBinding, InterpolationControlSource};
use gst_video::VideoFormat;

#[test]
fn frames_have_the_values_of_their_stream_times() {
    let model = Model::new();
    let picture = Picture::random(32, 16);
    let info = picture.info(VideoFormat::I420);
    let element = model.element();
    element.set_property("keyframes", "alpha=200ms:0,400ms:1;beta(step)=0s:0.5,0.3s:0.25");
    let mut harness = model.harness(&element, &info);
    for index in 0..12 {
        let output = harness.push_and_pull(stamped(picture.buffer(&info), index)).unwrap();
        let ms = (FRAME_DURATION * index).mseconds() as f64;
        let alpha = ((ms - 200.0) / 200.0).clamp(0.0, 1.0);
        let beta = if ms < 300.0 { 0.5 } else { 0.25 };
        let got = (element.property::<f64>("alpha"), element.property::<f64>("beta"));
        assert!((got.0 - alpha).abs() < 1e-9 && got.1 == beta, "{ms}: {got:?}");
        let want = model.filter(&picture, &[got.0, got.1]);
        assert_eq!(picture.read(&info, output), want, "{ms}");
    }
}

#[test]
fn a_frame_that_a_seek_begins_in_has_the_value_of_its_target() {
    let model = Model::new();
    let picture = Picture::random(16, 16);
    let info = picture.info(VideoFormat::I420);
    let element = model.element();
    element.set_property("keyframes", "alpha=0s:0,1s:1");
    let mut harness = model.harness(&element, &info);
    harness.push_and_pull(stamped(picture.buffer(&info), 0)).unwrap();
    let start = FRAME_DURATION * 10 + gst::ClockTime::from_mseconds(30);
    let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
    segment.set_start(start);
    segment.set_time(start);
    assert!(harness.push_event(gst::event::Segment::new(&segment)));
    for (index, ms) in [(10, 430.0), (11, 440.0)] {
        harness.push_and_pull(stamped(picture.buffer(&info), index)).unwrap();
        let alpha = element.property::<f64>("alpha");
        assert!((alpha - ms / 1000.0).abs() < 1e-9, "{ms}: {alpha}");
    }
}

#[test]
fn they_may_change_while_the_element_is_stopped() {
    let model = Model::new();
    let picture = Picture::random(16, 16);
    let info = picture.info(VideoFormat::I420);
    let element = model.element();
    for (keyframes, value) in [("alpha=0s:0.5", 0.5), ("alpha=0s:0.25", 0.25), ("", 0.25)] {
        element.set_property("keyframes", keyframes);
        let mut harness = model.harness(&element, &info);
        harness.push_and_pull(stamped(picture.buffer(&info), 0)).unwrap();
        assert_eq!(element.property::<f64>("alpha"), value);
        assert_eq!(element.control_binding("alpha").is_some(), !keyframes.is_empty());
        drop(harness);
        element.set_state(gst::State::Null).unwrap();
    }
}

#[test]
fn wrong_ones_are_one_error_that_says_what_was_expected() {
    let model = Model::new();
    for (keyframes, expected) in [
        ("alpha=0:1", "keyframes: `0:1`: expected a time like 0s, 1.5s or 40ms"),
        ("gain=0s:1", "keyframes: no parameter `gain`, expected alpha, beta, gamma, delta"),
        ("alpha=0s:2", "keyframes: `alpha` is 2 at 0:00:00.000000000, expected 0.0..=1.0"),
    ] {
        let element = model.element();
        element.set_property("keyframes", keyframes);
        let bus = gst::Bus::new();
        element.set_bus(Some(&bus));
        assert!(element.set_state(gst::State::Paused).is_err());
        let (_, text) = first_error(&bus);
        assert_eq!(text, format!("Cannot use the settings: {expected}"));
        assert!(messages(&bus, &[gst::MessageType::Error]).is_empty());
        element.set_state(gst::State::Null).unwrap();
    }
}

/// A binding to a constant.
fn bind(element: &gst::Element, value: f64) {
    let source = InterpolationControlSource::new();
    assert!(source.set(gst::ClockTime::ZERO, value));
    let binding = DirectControlBinding::new_absolute(element, "alpha", &source);
    element.add_control_binding(&binding).unwrap();
}

#[test]
fn a_binding_of_the_application_wins_and_is_reported_once() {
    for is_before_start in [true, false] {
        let model = Model::new();
        let picture = Picture::random(16, 16);
        let info = picture.info(VideoFormat::I420);
        let element = model.element();
        element.set_property("keyframes", "alpha=0s:0.25;beta=0s:0.75");
        if is_before_start {
            bind(&element, 0.5);
        }
        let bus = gst::Bus::new();
        element.set_state(gst::State::Null).unwrap();
        let mut harness =
            gstreamer_check::Harness::with_element(&element, Some("sink"), Some("src"));
        element.set_bus(Some(&bus));
        element.set_state(gst::State::Null).unwrap();
        element.set_state(gst::State::Playing).unwrap();
        let caps = info.to_caps().unwrap();
        harness.set_caps(caps.clone(), caps);
        if !is_before_start {
            bind(&element, 0.5);
        }
        for index in 0..3 {
            harness.push_and_pull(stamped(picture.buffer(&info), index)).unwrap();
        }
        assert_eq!(element.property::<f64>("alpha"), 0.5);
        assert_eq!(element.property::<f64>("beta"), 0.75);
        let warnings = messages(&bus, &[gst::MessageType::Warning]);
        assert_eq!(warnings.len(), 1, "{is_before_start}");
        let gst::MessageView::Warning(warning) = warnings[0].view() else { unreachable!() };
        let text = warning.error().to_string();
        assert_eq!(text, "`keyframes` has no effect on `alpha`: the application controls it");
    }
}
