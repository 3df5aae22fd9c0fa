//! `model`, `precision`, `threads` and `keyframes` set while frames flow.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::mpsc::{Receiver, channel};

use common::{Model, Picture, messages, stamped};
use gstreamer as gst;
use gstreamer_check as gst_check;
use gstreamer_video as gst_video;

use gst::prelude::*;
use gst_check::Harness;
use gst_video::{VideoFormat, VideoInfo};
use tunableconv::checkpoint::Checkpoint;

/// The element between pads, its bus, and what it has told of.
struct Playing {
    element: gst::Element,
    harness: Harness,
    bus: gst::Bus,
    picture: Picture,
    info: VideoInfo,
    frames: u64,
    notified: Receiver<String>,
}

impl Playing {
    fn new(model: &Model) -> Self {
        let element = model.element();
        let bus = gst::Bus::new();
        element.set_bus(Some(&bus));
        let picture = Picture::random(32, 16);
        let info = picture.info(VideoFormat::I420);
        let harness = model.harness(&element, &info);
        let (sender, notified) = channel();
        element.connect_notify(None, move |_, property| {
            let _ = sender.send(property.name().to_owned());
        });
        let mut playing = Self { element, harness, bus, picture, info, frames: 0, notified };
        playing.next();
        playing
    }

    /// What becomes of the next frame.
    fn next(&mut self) -> Picture {
        let buffer = stamped(self.picture.buffer(&self.info), self.frames);
        self.frames += 1;
        let output = self.harness.push_and_pull(buffer).unwrap();
        self.picture.read(&self.info, output)
    }

    /// Waits until the next engine is there.
    fn wait_for_engine(&self) {
        assert!(self.notified.iter().any(|name| name == "stats"));
    }

    /// Waits until the element warns, which it does once its properties stand where they were; that
    /// they do may be told together with that they were set.
    fn wait_for_warning(&self) -> String {
        let types = [gst::MessageType::Warning, gst::MessageType::Error];
        let message = self.bus.timed_pop_filtered(gst::ClockTime::NONE, &types).unwrap();
        text_of(&message)
    }

    fn stat(&self, name: &str) -> String {
        self.element.property::<gst::Structure>("stats").get(name).unwrap()
    }

    fn warnings(&self) -> Vec<String> {
        let all = messages(&self.bus, &[gst::MessageType::Warning, gst::MessageType::Error]);
        all.iter().map(text_of).collect()
    }
}

/// The text of a warning.
fn text_of(message: &gst::Message) -> String {
    match message.view() {
        gst::MessageView::Warning(warning) => warning.error().to_string(),
        other => panic!("{other:?}"),
    }
}

/// Another model, in another file.
fn other_model() -> (Model, Checkpoint) {
    let model = Model::new();
    let mut checkpoint = model.checkpoint.clone();
    for values in checkpoint.tensors.values_mut() {
        values.iter_mut().for_each(|value| *value *= 0.5);
    }
    checkpoint.write(&model.path).unwrap();
    (model, checkpoint)
}

#[test]
fn another_model_takes_over_between_two_frames() {
    let model = Model::new();
    let (other, checkpoint) = other_model();
    let mut playing = Playing::new(&model);
    let picture = playing.picture.clone();
    let (first, second) =
        (model.filter(&picture, &[1.0, 0.0]), common::filter(&checkpoint, &picture, &[1.0, 0.0]));
    assert!(first != second);
    assert_eq!(playing.next(), first);
    playing.element.set_property("model", other.path());
    playing.wait_for_engine();
    assert_eq!(playing.element.property::<String>("model"), other.path());
    assert_eq!(playing.next(), second);
    assert_eq!(playing.stat("model"), other.path());
    assert_eq!(playing.warnings(), [""; 0]);
}

/// The tuning of the first would not be one of the second.
#[test]
fn a_model_of_other_parameters_takes_over_before_there_are_caps() {
    let mut three = Checkpoint::built_in().unwrap();
    three.metadata.provenance.recipe = "three".into();
    let (two, three) = (Model::new(), Model::of(three));
    for (first, second) in [(&two, &three), (&three, &two)] {
        let element = first.element();
        element.set_property("alpha", 0.75);
        let (sender, notified) = channel();
        element.connect_notify(Some("stats"), move |_, _| {
            let _ = sender.send(());
        });
        let mut harness = Harness::with_element(&element, Some("sink"), Some("src"));
        harness.play();
        element.set_property("model", second.path());
        notified.recv().unwrap();
        let picture = Picture::random(36, 20);
        let info = picture.info(VideoFormat::I420);
        let caps = info.to_caps().unwrap();
        harness.set_caps(caps.clone(), caps);
        let output = harness.push_and_pull(stamped(picture.buffer(&info), 0)).unwrap();
        let space = &second.checkpoint.metadata.tuning;
        let rest = space.parameters[1..].iter().map(|parameter| parameter.default);
        let tuning: Vec<f64> = [0.75].into_iter().chain(rest).collect();
        assert_eq!(picture.read(&info, output), second.filter(&picture, &tuning));
    }
}

#[test]
fn a_model_that_cannot_be_loaded_is_told_and_the_one_before_stays() {
    let model = Model::new();
    let mut playing = Playing::new(&model);
    let before = playing.next();
    playing.element.set_property("model", "/nonexistent/x.safetensors");
    let warning = playing.wait_for_warning();
    assert_eq!(playing.element.property::<String>("model"), model.path());
    assert_eq!(playing.next(), before);
    assert_eq!(playing.stat("model"), model.path());
    let text = "Cannot load the model: /nonexistent/x.safetensors: No such file or directory (os \
                error 2); the one that runs stays";
    assert_eq!(warning, text);
    assert_eq!(playing.warnings(), [""; 0]);
}

#[test]
fn precision_and_threads_are_those_of_the_next_engine() {
    let model = Model::new();
    let mut playing = Playing::new(&model);
    let before = playing.next();
    playing.element.set_property("threads", 3u32);
    playing.wait_for_engine();
    assert_eq!(playing.next(), before);
    assert!(playing.stat("engine").contains("3 threads"), "{}", playing.stat("engine"));
    playing.element.set_property_from_str("precision", "int8");
    let warning = playing.wait_for_warning();
    assert_eq!(playing.next(), before);
    assert_eq!(playing.stat("precision"), "f32");
    assert!(warning.contains("tunableconv-train calibrate"), "{warning}");
    assert_eq!(playing.warnings(), [""; 0]);
}

#[test]
fn keyframes_are_in_force_at_once_and_the_last_good_ones_while_others_are_typed() {
    let model = Model::new();
    let mut playing = Playing::new(&model);
    let picture = playing.picture.clone();
    for alpha in [0.25, 0.75] {
        let text = format!("alpha=0s:{alpha}");
        playing.element.set_property("keyframes", &text);
        assert_eq!(playing.next(), model.filter(&picture, &[alpha, 0.0]));
        playing.element.set_property("keyframes", "alpha=0s:2");
        assert_eq!(playing.element.property::<String>("keyframes"), "alpha=0s:2");
        assert_eq!(playing.next(), model.filter(&picture, &[alpha, 0.0]));
    }
    let warnings = playing.warnings();
    let text = "Cannot use the settings: keyframes: `alpha` is 2 at 0:00:00.000000000, expected \
                0.0..=1.0; those before stay in force";
    assert_eq!(warnings, [text; 2]);
    playing.element.set_property("keyframes", None::<String>);
    assert_eq!(playing.element.property::<String>("keyframes"), "");
    playing.element.set_property("alpha", 0.5);
    assert_eq!(playing.next(), model.filter(&picture, &[0.5, 0.0]));
}

#[test]
fn what_cannot_be_used_is_told_when_it_is_set_to_a_stopped_element() {
    let element = Model::new().element();
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    element.set_property("model", "/nonexistent/x.safetensors");
    element.set_property("keyframes", "alpha=0:1");
    let texts = messages(&bus, &[gst::MessageType::Warning]).into_iter().map(|message| {
        let gst::MessageView::Warning(warning) = message.view() else { unreachable!() };
        warning.error().to_string()
    });
    let texts: Vec<String> = texts.collect();
    assert_eq!(texts.len(), 2, "{texts:?}");
    assert!(texts[0].contains("/nonexistent/x.safetensors: No such file"), "{texts:?}");
    assert!(texts[1].contains("keyframes: `0:1`: expected a time"), "{texts:?}");
}

/// The last one counts, whatever the order in which threads get to it; and nothing is left of one
/// that was made while the element stopped.
#[test]
fn many_choices_and_restarts_end_with_the_last() {
    let model = Model::new();
    let (other, checkpoint) = other_model();
    let mut playing = Playing::new(&model);
    let picture = playing.picture.clone();
    let second = common::filter(&checkpoint, &picture, &[1.0, 0.0]);
    for round in 0..10u32 {
        playing.element.set_property("model", model.path());
        playing.element.set_property("threads", 1 + round % 2);
        playing.element.set_property("model", other.path());
        playing.next();
        if round % 3 == 0 {
            playing.element.set_state(gst::State::Null).unwrap();
            playing.harness.play();
            playing.element.set_state(gst::State::Playing).unwrap();
            let caps = playing.info.to_caps().unwrap();
            playing.harness.push_event(gst::event::StreamStart::new("again"));
            playing.harness.set_caps(caps.clone(), caps);
        }
    }
    // Frames go on until the last choice is in force.
    let is_last = |playing: &mut Playing| playing.next() == second;
    assert!((0..10_000).any(|_| is_last(&mut playing)));
    assert!((0..10).all(|_| is_last(&mut playing)));
    assert_eq!(playing.element.property::<String>("model"), other.path());
}
