//! Live streams and other threads.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{Model, Picture, stamped};
use gstreamer as gst;
use gstreamer_video as gst_video;

use gst::prelude::*;
use gst_video::VideoFormat;

#[test]
fn the_latency_query_adds_to_upstream() {
    let model = Model::new();
    let picture = Picture::random(64, 48);
    let info = picture.info(VideoFormat::I420);
    let mut harness = model.harness(&model.element(), &info);
    let upstream = gst::ClockTime::from_mseconds(7);
    harness.set_upstream_latency(upstream);
    harness.push_and_pull(stamped(picture.buffer(&info), 0)).unwrap();
    assert!(harness.query_latency().unwrap() > upstream);
}

#[test]
fn a_live_pipeline_learns_the_latency() {
    let model = Model::new();
    common::init();
    let description = format!(
        "videotestsrc is-live=true num-buffers=5 ! video/x-raw,width=64,height=48,framerate=25/1 \
         ! tunableconvfilter name=filter model={} ! fakesink sync=true",
        model.path()
    );
    let pipeline = gst::parse::launch(&description).unwrap().downcast::<gst::Pipeline>().unwrap();
    let bus = pipeline.bus().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let mut announced = 0;
    for message in bus.iter_timed(gst::ClockTime::NONE) {
        match message.view() {
            gst::MessageView::Latency(latency) => {
                announced += usize::from(latency.src().is_some_and(|src| src.name() == "filter"));
            }
            gst::MessageView::Error(error) => panic!("{error:?}"),
            gst::MessageView::Eos(_) => break,
            _ => {}
        }
    }
    assert_eq!(announced, 1);
    let mut query = gst::query::Latency::new();
    assert!(pipeline.query(&mut query));
    let (live, min, _) = query.result();
    assert!(live);
    let mut upstream = gst::query::Latency::new();
    let filter = pipeline.by_name("filter").unwrap();
    assert!(filter.static_pad("sink").unwrap().peer_query(&mut upstream));
    assert!(min > upstream.result().1);
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn other_threads_set_and_read_properties_meanwhile() {
    let model = Model::new();
    let picture = Picture::random(64, 48);
    let info = picture.info(VideoFormat::I420);
    let element = model.element();
    let mut harness = model.harness(&element, &info);
    let results: Vec<Picture> =
        [[0.25, 0.0], [1.0, 0.0]].iter().map(|tuning| model.filter(&picture, tuning)).collect();
    element.set_property("alpha", 0.25);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for step in 0..20_000 {
                let value = if step % 2 == 0 { 1.0 } else { 0.25 };
                element.set_property("alpha", value);
                assert_eq!(element.property::<f64>("alpha"), value);
                assert_eq!(element.property::<u32>("threads"), 0);
            }
        });
        for index in 0..100 {
            let output = harness.push_and_pull(stamped(picture.buffer(&info), index)).unwrap();
            assert!(results.contains(&picture.read(&info, output)), "a torn tuning");
        }
    });
}

#[test]
fn late_frames_are_not_dropped_by_the_base_class() {
    let model = Model::new();
    assert!(!model.element().property::<bool>("qos"));
}
