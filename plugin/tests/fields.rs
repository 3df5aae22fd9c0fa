//! Interlaced video: what is a picture of its own, what is told, and what stays as it is.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{Model, Picture, messages, stamped};
use gstreamer as gst;
use gstreamer_check as gst_check;
use gstreamer_video as gst_video;

use gst::prelude::*;
use gst_check::Harness;
use gst_video::prelude::*;
use gst_video::{VideoBufferFlags, VideoFormat, VideoInfo, VideoInterlaceMode};

const WIDTH: usize = 20;

/// The element at this value of its first knob, between caps of 20 × `height` in `mode`, and its bus.
fn start(model: &Model, height: u32, mode: &str, alpha: f64) -> (Harness, VideoInfo, gst::Bus) {
    let element = model.element();
    element.set_property("alpha", alpha);
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    let mut harness = Harness::with_element(&element, Some("sink"), Some("src"));
    let info = VideoInfo::builder(VideoFormat::I420, WIDTH as u32, height)
        .fps((25, 1))
        .interlace_mode(VideoInterlaceMode::from_string(mode))
        .build()
        .unwrap();
    let mut caps = info.to_caps().unwrap();
    if mode == "alternate" {
        let features = gst::CapsFeatures::new([gst_video::CAPS_FEATURE_FORMAT_INTERLACED]);
        caps.get_mut().unwrap().set_features_simple(Some(features));
    }
    harness.set_caps(caps.clone(), caps);
    (harness, info, bus)
}

fn flagged(mut buffer: gst::Buffer, flags: VideoBufferFlags) -> gst::Buffer {
    buffer.get_mut().unwrap().set_video_flags(flags);
    buffer
}

/// Every second row, from this one on.
fn field(picture: &Picture, first: usize) -> Picture {
    let mut field = Picture::random(WIDTH, picture.format.height / 2);
    for (plane, (of, width)) in
        field.planes.iter_mut().zip(picture.planes.iter().zip([WIDTH, WIDTH / 2, WIDTH / 2]))
    {
        *plane = of.chunks(width).skip(first).step_by(2).flatten().copied().collect();
    }
    field
}

#[test]
fn the_flags_of_a_frame_tell_and_stay() {
    let model = Model::new();
    let picture = Picture::random(WIDTH, 12);
    let whole = model.filter(&picture, &[0.5, 0.0]);
    let fields = [0, 1].map(|first| model.filter(&field(&picture, first), &[0.5, 0.0]));
    let interlaced = VideoBufferFlags::INTERLACED;
    for (mode, flags, is_whole) in [
        ("progressive", VideoBufferFlags::empty(), true),
        ("mixed", VideoBufferFlags::empty(), true),
        ("mixed", VideoBufferFlags::TFF, true),
        ("mixed", interlaced, false),
        ("mixed", interlaced | VideoBufferFlags::TFF | VideoBufferFlags::RFF, false),
        ("interleaved", VideoBufferFlags::empty(), false),
        ("interleaved", interlaced | VideoBufferFlags::TFF, false),
    ] {
        let (mut harness, info, bus) = start(&model, 12, mode, 0.5);
        let buffer = flagged(stamped(picture.buffer(&info), 0), flags);
        let output = harness.push_and_pull(buffer).unwrap();
        assert_eq!(output.video_flags(), flags, "{mode}");
        let output = picture.read(&info, output);
        assert_eq!(output == whole, is_whole, "{mode} {flags:?}");
        if !is_whole {
            assert_eq!([0, 1].map(|first| field(&output, first)), fields, "{mode} {flags:?}");
        }
        assert!(messages(&bus, &[gst::MessageType::Warning, gst::MessageType::Error]).is_empty());
    }
}

#[test]
fn frames_whose_fields_cannot_be_told_apart_pass_with_one_warning() {
    let model = Model::new();
    // 6 rows of luma are two fields of 3, but 3 rows of chroma are none of 2.
    for (mode, height) in [("fields", 12), ("alternate", 12), ("interleaved", 6), ("mixed", 6)] {
        for alpha in [0.0, 0.5] {
            let (mut harness, info, bus) = start(&model, height, mode, alpha);
            for index in 0..3 {
                // `VideoFrame` would look for whole frames in it, where there are fields.
                let buffer = gst::Buffer::with_size(info.size()).unwrap();
                let buffer = stamped(buffer, index);
                let buffer = flagged(buffer, VideoBufferFlags::INTERLACED);
                let output = harness.push_and_pull(buffer.clone()).unwrap();
                assert_eq!(output.as_ptr(), buffer.as_ptr(), "{mode}: not as it was");
            }
            let warnings = messages(&bus, &[gst::MessageType::Warning, gst::MessageType::Error]);
            assert_eq!(warnings.len(), usize::from(alpha > 0.0), "{mode} {alpha}");
            for warning in warnings {
                let gst::MessageView::Warning(warning) = warning.view() else { unreachable!() };
                let text = warning.error().to_string();
                assert!(text.starts_with("Interlaced frames pass unfiltered"), "{text}");
            }
        }
    }
}
