//! The `stats` property.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::play::{Player, media};
use common::{Model, Picture, stamped};
use gstreamer as gst;
use gstreamer_check as gst_check;
use gstreamer_video as gst_video;

use gst::prelude::*;
use gst_check::Harness;
use gst_video::VideoFormat;

/// The fields, in the order of the documentation.
#[derive(Debug, Default, PartialEq)]
struct Stats {
    engine: String,
    precision: String,
    model: String,
    frames: u64,
    passthrough: u64,
    overloaded: u64,
    refolds: u64,
    frame_time_ns: u64,
    frame_time_mean_ns: u64,
    frame_time_p95_ns: u64,
    latency_ns: u64,
    saturation: f64,
    noise_level: f64,
}

fn stats(element: &gst::Element) -> Stats {
    let stats = element.property::<gst::Structure>("stats");
    assert_eq!(stats.name(), "application/x-tunableconvfilter-stats");
    assert_eq!(stats.n_fields(), 13);
    Stats {
        engine: stats.get("engine").unwrap(),
        precision: stats.get("precision").unwrap(),
        model: stats.get("model").unwrap(),
        frames: stats.get("frames").unwrap(),
        passthrough: stats.get("passthrough").unwrap(),
        overloaded: stats.get("overloaded").unwrap(),
        refolds: stats.get("refolds").unwrap(),
        frame_time_ns: stats.get("frame-time-ns").unwrap(),
        frame_time_mean_ns: stats.get("frame-time-mean-ns").unwrap(),
        frame_time_p95_ns: stats.get("frame-time-p95-ns").unwrap(),
        latency_ns: stats.get("latency-ns").unwrap(),
        saturation: stats.get("saturation").unwrap(),
        noise_level: stats.get("noise-level").unwrap(),
    }
}

#[test]
fn they_are_empty_before_count_during_and_keep_the_counts_after() {
    let model = Model::new();
    let element = model.element();
    assert_eq!(stats(&element), Stats::default());

    let picture = Picture::random(64, 48);
    let info = picture.info(VideoFormat::I420);
    let mut harness = model.harness(&element, &info);
    let mut push = |alpha: f64, count: u64| {
        element.set_property("alpha", alpha);
        for index in 0..count {
            harness.push_and_pull(stamped(picture.buffer(&info), index)).unwrap();
        }
        stats(&element)
    };
    let during = push(1.0, 3);
    assert_eq!((during.frames, during.passthrough), (3, 0));
    assert!(during.frame_time_ns > 0 && during.latency_ns > 0, "{during:?}");
    assert!(during.frame_time_mean_ns > 0 && during.frame_time_p95_ns >= during.frame_time_ns);
    assert!(during.engine.contains("CPU"), "{during:?}");
    assert_eq!((during.precision.as_str(), during.model.as_str()), ("f32", model.path()));
    // The default, which the engine starts at, is what was set.
    assert_eq!(during.refolds, 0);
    let during = push(0.0, 4);
    assert_eq!((during.frames, during.passthrough, during.refolds), (3, 4, 1));
    let during = push(0.5, 40);
    assert_eq!((during.frames, during.passthrough), (43, 4));

    drop(harness);
    element.set_state(gst::State::Null).unwrap();
    let none = String::new;
    let after = Stats { engine: none(), precision: none(), model: none(), latency_ns: 0, ..during };
    assert_eq!(stats(&element), after);
    let mut harness = model.harness(&element, &info);
    harness.push_and_pull(stamped(picture.buffer(&info), 0)).unwrap();
    let again = stats(&element);
    assert_eq!((again.frames, again.passthrough), (1, 0), "a start counts anew");
}

/// The element on the built-in model, in f32.
fn built_in_f32(threads: u32) -> gst::Element {
    common::init();
    gst::ElementFactory::make("tunableconvfilter")
        .property_from_str("device", "cpu")
        .property_from_str("precision", "f32")
        .property("threads", threads)
        .build()
        .unwrap()
}

/// The element between pads with the caps of a picture, playing.
fn playing(element: &gst::Element, picture: &Picture) -> Harness {
    let mut harness = Harness::with_element(element, Some("sink"), Some("src"));
    let caps = picture.info(VideoFormat::I420).to_caps().unwrap();
    harness.set_caps(caps.clone(), caps);
    harness
}

#[test]
fn the_engine_is_told_with_its_precision_and_threads() {
    for threads in [1, 3] {
        let element = built_in_f32(threads);
        let _harness = playing(&element, &Picture::random(16, 16));
        let engine = stats(&element).engine;
        assert!(engine.contains(&format!("{threads} threads")), "{engine}");
        assert!(engine.contains("f32") && !engine.contains("int8"), "{engine}");
    }
}

#[test]
fn they_cannot_be_set() {
    let stats = Model::new().element().find_property("stats").unwrap();
    assert!(!stats.flags().contains(glib::ParamFlags::WRITABLE));
    assert_eq!(stats.value_type(), gst::Structure::static_type());
}

#[test]
fn saturation_is_more_where_a_frame_is_no_picture() {
    let saturation = |source: &str, precision: &str| {
        let player = Player::of_text(&format!(
            "{source} ! videoscale ! video/x-raw,format=I420,width=320,height=180 \
             ! tunableconvfilter name=filter precision={precision} ! appsink name=frames0"
        ));
        player.next(0).unwrap().unwrap();
        stats(&player.pipeline.by_name("filter").unwrap()).saturation
    };
    let picture =
        format!("filesrc location={} ! pngdec ! videoconvert", media("still.png").display());
    let snow = "videotestsrc num-buffers=1 pattern=snow";
    assert_eq!(saturation(&picture, "f32"), 0.0);
    assert_eq!(saturation(snow, "f32"), 0.0);
    let (of_picture, of_snow) = (saturation(&picture, "int8"), saturation(snow, "int8"));
    println!("picture {of_picture}, snow {of_snow}");
    assert!(of_picture > 0.0 && 2.0 * of_picture < of_snow, "{of_picture}, {of_snow}");
}
