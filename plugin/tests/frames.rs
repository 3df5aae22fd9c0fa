//! Frames through the element are what the core engine makes of them.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{FRAME_DURATION, Model, Picture, filter, stamped};
use gst_check::Harness;
use gstreamer as gst;
use gstreamer_check as gst_check;
use gstreamer_video as gst_video;

use gst::prelude::*;
use gst_video::{VideoFormat, VideoInfo};
use tunableconv::checkpoint::Checkpoint;
use tunableconv::frame::Range;
use tunableconv::tuning::Domain;

const SIZES: [(usize, usize); 5] = [(64, 48), (641, 361), (16, 16), (1, 1), (3, 2)];

#[test]
fn every_format_and_size_gives_what_the_engine_gives() {
    Model::new().gives_what_its_engine_gives(&SIZES);
}

#[test]
fn timestamps_and_caps_are_kept() {
    let model = Model::new();
    let picture = Picture::random(64, 48);
    let info = picture.info(VideoFormat::Nv12);
    let mut harness = model.harness(&model.element(), &info);
    for index in 0..5 {
        let output = harness.push_and_pull(stamped(picture.buffer(&info), index)).unwrap();
        assert_eq!(output.pts(), Some(FRAME_DURATION * index));
        assert_eq!(output.duration(), Some(FRAME_DURATION));
    }
    let caps = harness.sinkpad().unwrap().current_caps().unwrap();
    assert_eq!(VideoInfo::from_caps(&caps).unwrap(), info);
}

#[test]
fn new_caps_in_the_stream_change_the_size() {
    let model = Model::new();
    let small = Picture::random(16, 16);
    let mut harness = model.harness(&model.element(), &small.info(VideoFormat::I420));
    for picture in [small, Picture::random(64, 48), Picture::random(3, 2)] {
        let info = picture.info(VideoFormat::I420);
        let caps = info.to_caps().unwrap();
        harness.set_caps(caps.clone(), caps);
        let output = harness.push_and_pull(stamped(picture.buffer(&info), 0)).unwrap();
        assert_eq!(picture.read(&info, output), model.filter(&picture, &[1.0, 0.0]));
    }
}

#[test]
fn the_range_of_the_caps_is_used() {
    let model = Model::new();
    let mut picture = Picture::random(64, 48);
    for (colorimetry, range) in
        [("2:4:7:1", Range::Limited), ("1:4:7:1", Range::Full), ("0:4:7:1", Range::Limited)]
    {
        picture.format.range = range;
        let info = VideoInfo::builder(VideoFormat::I420, 64, 48)
            .fps((25, 1))
            .colorimetry(&colorimetry.parse().unwrap())
            .build()
            .unwrap();
        let mut harness = model.harness(&model.element(), &info);
        let output = harness.push_and_pull(stamped(picture.buffer(&info), 0)).unwrap();
        let expected = model.filter(&picture, &[1.0, 0.0]);
        assert_eq!(picture.read(&info, output), expected, "{colorimetry}");
    }
}

#[test]
fn zero_tuning_forwards_the_buffer_itself_and_changes_act_on_the_next() {
    let model = Model::new();
    let picture = Picture::random(64, 48);
    let info = picture.info(VideoFormat::I420);
    let element = model.element();
    let mut harness = model.harness(&element, &info);
    let mut step = |alpha: f64, beta: f64| {
        element.set_property("alpha", alpha);
        element.set_property("beta", beta);
        let input = stamped(picture.buffer(&info), 0);
        let address = input.as_ptr();
        let output = harness.push_and_pull(input).unwrap();
        assert_eq!(output.as_ptr() == address, (alpha, beta) == (0.0, 0.0), "{alpha} {beta}");
        assert_eq!(picture.read(&info, output), model.filter(&picture, &[alpha, beta]));
    };
    for (alpha, beta) in
        [(0.0, 0.0), (1.0, 0.0), (0.0, 0.0), (0.0, 0.5), (0.25, 0.5), (0.0, 0.0), (0.0, 0.0)]
    {
        step(alpha, beta);
    }
}

#[test]
fn zero_tuning_does_not_forward_padding_that_nobody_asked_for() {
    let model = Model::new();
    let picture = Picture::random(17, 9);
    let info = picture.info(VideoFormat::I420);
    let element = model.element();
    element.set_property("alpha", 0.0);
    let mut harness = model.harness(&element, &info);
    let output = harness.push_and_pull(stamped(picture.padded_buffer(&info), 0)).unwrap();
    assert_eq!(output.size(), info.size());
    let map = output.map_readable().unwrap();
    assert_eq!(map.as_slice()[..17], picture.planes[0][..17]);
    assert_eq!(map.as_slice()[info.stride()[0] as usize..][..17], picture.planes[0][17..34]);
    drop(map);
    assert_eq!(picture.read(&info, output), picture);
}

#[test]
fn unset_slots_stand_at_the_defaults_of_the_model() {
    let model = Model::new();
    let picture = Picture::random(16, 16);
    let info = picture.info(VideoFormat::I420);
    let element = model.element();
    let mut harness = model.harness(&element, &info);
    let output = harness.push_and_pull(stamped(picture.buffer(&info), 0)).unwrap();
    assert_eq!(picture.read(&info, output), model.filter(&picture, &[1.0, 0.0]));
    assert_eq!(element.property::<f64>("alpha"), 1.0);
    assert_eq!(element.property::<f64>("beta"), 0.0);
}

#[test]
fn one_slot_moves_along_a_simplex_of_two() {
    let model = Model::with_domain(Domain::Simplex);
    let picture = Picture::random(16, 16);
    let info = picture.info(VideoFormat::I420);
    let element = model.element();
    let mut harness = model.harness(&element, &info);
    for t in [0.0, 0.25, 1.0] {
        element.set_property("alpha", t);
        let output = harness.push_and_pull(stamped(picture.buffer(&info), 0)).unwrap();
        assert_eq!(picture.read(&info, output), model.filter(&picture, &[1.0 - t, t]));
    }
}

#[test]
fn without_a_model_the_built_in_one_runs() {
    common::init();
    let checkpoint = Checkpoint::built_in().unwrap();
    let parameters = &checkpoint.metadata.tuning.parameters;
    let names: Vec<&str> = parameters.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["denoise", "deblur", "deblock"]);
    let defaults: Vec<f64> = parameters.iter().map(|p| p.default).collect();

    let element = gst::ElementFactory::make("tunableconvfilter")
        .property_from_str("device", "cpu")
        .property_from_str("precision", "f32")
        .build()
        .unwrap();
    let alpha = element.find_property("alpha").unwrap();
    assert!(alpha.blurb().unwrap().contains("`denoise`"));
    assert_eq!(alpha.default_value().get::<f64>().unwrap(), defaults[0]);
    assert_eq!(element.property::<f64>("alpha"), defaults[0]);
    assert_eq!(element.property::<f64>("beta"), defaults[1]);
    assert_eq!(element.property::<f64>("gamma"), defaults[2]);

    let picture = Picture::random(64, 48);
    let info = picture.info(VideoFormat::I420);
    let mut harness = Harness::with_element(&element, Some("sink"), Some("src"));
    let caps = info.to_caps().unwrap();
    harness.set_caps(caps.clone(), caps);
    let output = harness.push_and_pull(stamped(picture.buffer(&info), 0)).unwrap();
    assert_eq!(picture.read(&info, output), filter(&checkpoint, &picture, &defaults));
}

/// A ramp across and down with a ripple, and noise of ±12 codes: something to smooth and something
/// to keep.
fn noisy_ramp(width: usize, height: usize) -> Picture {
    let mut picture = Picture::random(width, height);
    for (plane, width) in picture.planes.iter_mut().zip([width, width / 2, width / 2]) {
        for (index, sample) in plane.iter_mut().enumerate() {
            let (x, y) = ((index % width) as f64, (index / width) as f64);
            let smooth = 60.0 + 0.6 * x + 0.4 * y + 10.0 * (x / 9.0).sin();
            *sample = (smooth + 24.0 * (f64::from(*sample) / 255.0 - 0.5)).round() as u8;
        }
    }
    picture
}

/// Bounds in code values: rounding makes differences of 1, activations of 255 steps a few more, and in
/// single pixels outliers beyond the measured ranges more; a wrong scale, zero point or range makes tens
/// everywhere.
#[test]
fn int8_gives_nearly_the_frames_of_f32() {
    const WORST: u8 = 6;
    const MEAN: f64 = 0.5;
    common::init();
    let picture = noisy_ramp(128, 96);
    let info = picture.info(VideoFormat::I420);
    let filtered = |precision: &str, [alpha, beta, gamma]: [f64; 3]| {
        let element = gst::ElementFactory::make("tunableconvfilter")
            .property_from_str("device", "cpu")
            .property_from_str("precision", precision)
            .property("alpha", alpha)
            .property("beta", beta)
            .property("gamma", gamma)
            .build()
            .unwrap();
        let mut harness = Harness::with_element(&element, Some("sink"), Some("src"));
        let caps = info.to_caps().unwrap();
        harness.set_caps(caps.clone(), caps);
        let output = harness.push_and_pull(stamped(picture.buffer(&info), 0)).unwrap();
        let stats = element.property::<gst::Structure>("stats");
        let engine: String = stats.get("engine").unwrap();
        assert!(engine.contains(precision), "{engine}");
        picture.read(&info, output)
    };
    for tuning in [
        [0.05, 0.0, 0.0],
        [0.2, 0.0, 0.0],
        [0.4, 0.0, 0.0],
        [0.2, 0.2, 0.2],
        [0.0, 0.3, 0.0],
        [0.0, 0.0, 0.5],
    ] {
        let (int8, f32) = (filtered("int8", tuning), filtered("f32", tuning));
        assert_ne!(int8, f32, "both computed in the same precision");
        for (plane, (int8, f32)) in int8.planes.iter().zip(&f32.planes).enumerate() {
            let differences = || int8.iter().zip(f32).map(|(a, b)| a.abs_diff(*b));
            let worst = differences().max().unwrap();
            let mean = differences().map(f64::from).sum::<f64>() / f32.len() as f64;
            println!("{tuning:?} {plane}: {worst} {mean:.3}");
            assert!(worst <= WORST && mean <= MEAN, "{tuning:?} {plane}: {worst} {mean}");
        }
    }
}
