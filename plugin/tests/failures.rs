//! What cannot work fails with a reason on the bus, and the process goes on.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;
use std::path::Path;

use common::{Model, Picture, first_error, init, messages, stamped};
use gstreamer as gst;
use gstreamer_check as gst_check;
use gstreamer_video as gst_video;

use gst::prelude::*;
use gst_check::Harness;
use gst_video::VideoFormat;

/// Starts a pipeline with the element, expects it to fail, and returns the error's text.
fn start_error(properties: &[(&str, &str)]) -> String {
    init();
    let pipeline = gst::parse::launch(
        "videotestsrc num-buffers=2 ! video/x-raw,width=16,height=16 \
         ! tunableconvfilter name=filter device=cpu ! fakesink",
    )
    .unwrap()
    .downcast::<gst::Pipeline>()
    .unwrap();
    let filter = pipeline.by_name("filter").unwrap();
    for (name, value) in properties {
        filter.set_property_from_str(name, value);
    }
    assert!(pipeline.set_state(gst::State::Paused).is_err());
    let (source, text) = first_error(&pipeline.bus().unwrap());
    pipeline.set_state(gst::State::Null).unwrap();
    assert_eq!(source, "filter", "{text}");
    text
}

fn model_error(path: &Path) -> String {
    let text = start_error(&[("model", path.to_str().unwrap())]);
    assert!(text.contains(path.to_str().unwrap()), "{text}");
    text
}

/// A copy of the model's file with other bytes; its path.
fn damaged(model: &Model, damage: impl FnOnce(&mut Vec<u8>)) -> std::path::PathBuf {
    let mut bytes = fs::read(&model.path).unwrap();
    damage(&mut bytes);
    let path = model.folder.path().join("damaged.safetensors");
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn a_missing_model_is_named() {
    let text = model_error(Path::new("/nonexistent/model.safetensors"));
    assert!(text.contains("No such file"), "{text}");
}

#[test]
fn a_truncated_model_is_named() {
    let model = Model::new();
    for keep in [0, 4, 100, 3000] {
        let text = model_error(&damaged(&model, |bytes| bytes.truncate(keep)));
        assert!(text.contains("not a valid checkpoint"), "{text}");
    }
}

#[test]
fn a_misshaped_tensor_is_named() {
    let model = Model::new();
    let path = damaged(&model, |bytes| {
        let (old, new) = (b"[1,2,6,8,3,3]", b"[1,2,8,6,3,3]");
        let at = bytes.windows(old.len()).position(|window| window == old).unwrap();
        bytes[at..at + old.len()].copy_from_slice(new);
    });
    let text = model_error(&path);
    assert!(text.contains("`tail.weight`"), "{text}");
}

#[test]
fn a_weight_that_is_not_a_number_is_named() {
    let model = Model::new();
    let path = damaged(&model, |bytes| {
        let end = bytes.len();
        bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    let text = model_error(&path);
    assert!(text.contains("tensor `") && text.contains("NaN"), "{text}");
}

#[test]
fn unknown_devices_and_precisions_cannot_be_set() {
    init();
    for text in ["device=tpu", "precision=f8", "precision=bf16"] {
        let (name, value) = text.split_once('=').unwrap();
        let error = gst::parse::launch(&format!("tunableconvfilter {text}")).unwrap_err();
        let error = error.to_string();
        let expected = format!("could not set property \"{name}\"");
        assert!(error.contains(&expected) && error.contains(value), "{error}");
    }
}

#[test]
fn a_precision_that_cannot_be_had_is_named_with_the_reason() {
    let model = Model::new();
    let text = start_error(&[("model", model.path()), ("precision", "int8")]);
    assert!(
        text.contains("precision int8") && text.contains("tunableconv-train calibrate"),
        "{text}"
    );
}

#[test]
fn a_device_that_is_not_there_is_named_with_the_reason() {
    let model = Model::new();
    // No machine has so many.
    let settings = [("model", model.path()), ("device", "cuda"), ("cuda-device-id", "1000000")];
    let text = start_error(&settings);
    assert!(text.starts_with("Cannot use the settings: device cuda:1000000: "), "{text}");
}

#[test]
fn the_element_starts_after_a_failure() {
    let model = Model::new();
    let element = model.element();
    element.set_property("model", "/nonexistent/model.safetensors");
    assert!(element.set_state(gst::State::Paused).is_err());
    element.set_state(gst::State::Null).unwrap();
    element.set_property("model", model.path());
    let picture = Picture::random(16, 16);
    let info = picture.info(VideoFormat::I420);
    let mut harness = model.harness(&element, &info);
    let output = harness.push_and_pull(stamped(picture.buffer(&info), 0)).unwrap();
    assert_eq!(picture.read(&info, output), model.filter(&picture, &[1.0, 0.0]));
}

/// A harness whose element posts to the bus returned.
fn with_bus(element: &gst::Element) -> (Harness, gst::Bus) {
    let harness = Harness::with_element(element, Some("sink"), Some("src"));
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    (harness, bus)
}

#[test]
fn a_slot_without_parameter_is_one_warning() {
    let model = Model::new();
    let picture = Picture::random(16, 16);
    let info = picture.info(VideoFormat::I420);
    let element = model.element();
    let (mut harness, bus) = with_bus(&element);
    let caps = info.to_caps().unwrap();
    harness.set_caps(caps.clone(), caps);
    for index in 0..5 {
        element.set_property("gamma", 0.1 * index as f64);
        harness.push_and_pull(stamped(picture.buffer(&info), index)).unwrap();
    }
    let warnings = messages(&bus, &[gst::MessageType::Warning]);
    assert_eq!(warnings.len(), 1);
    let gst::MessageView::Warning(warning) = warnings[0].view() else { unreachable!() };
    let text = warning.error().to_string();
    assert!(text.contains("`gamma`") && text.contains("denoise, deblur"), "{text}");
    assert!(messages(&bus, &[gst::MessageType::Error]).is_empty());
}

#[test]
fn caps_that_the_element_cannot_take_are_refused_with_a_reason() {
    let model = Model::new();
    for caps in [
        "video/x-raw,format=RGB16,width=16,height=16,framerate=25/1",
        "video/x-raw,format=NV12_64Z32,width=16,height=16,framerate=25/1",
        "video/x-raw,format=I420,width=8193,height=16,framerate=25/1",
        "video/x-raw(memory:GLMemory),format=RGBA,width=16,height=16,framerate=25/1",
        "video/x-h264,width=16,height=16,framerate=25/1",
    ] {
        let (mut harness, bus) = with_bus(&model.element());
        harness.set_src_caps_str(caps);
        let flow = harness.push(gst::Buffer::with_size(16 * 16 * 4).unwrap());
        assert_eq!(flow, Err(gst::FlowError::NotNegotiated), "{caps}");
        let errors = messages(&bus, &[gst::MessageType::Error]);
        assert_eq!(errors.len(), 1, "{caps}");
        let gst::MessageView::Error(error) = errors[0].view() else { unreachable!() };
        let text = error.error().to_string();
        assert!(text.starts_with("Cannot filter video/x-"), "{text}");
        assert!(text.contains("expected raw video of 1×1 to 8192×8192 in one of I420"), "{text}");
    }
    let linked = gst::parse::launch(
        "videotestsrc ! video/x-raw,format=RGB16 ! tunableconvfilter ! fakesink",
    );
    assert!(linked.unwrap_err().to_string().contains("could not link"));
}
