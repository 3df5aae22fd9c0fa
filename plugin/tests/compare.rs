//! `compare=split`, and statistics as messages.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{FORMATS, FRAME_DURATION, Model, Picture, messages, stamped};
use gstreamer as gst;
use gstreamer_video as gst_video;

use gst::prelude::*;
use gst_video::VideoFormat;

#[test]
fn split_leaves_the_left_half_as_it_came() {
    let model = Model::new();
    for (width, height) in [(64, 48), (33, 17), (3, 2), (1, 1)] {
        let picture = Picture::random(width, height);
        let filtered = model.filter(&picture, &[1.0, 0.0]);
        for format in FORMATS {
            let info = picture.info(format);
            let element = model.element();
            element.set_property_from_str("compare", "split");
            let mut harness = model.harness(&element, &info);
            for buffer in [picture.buffer(&info), picture.padded_buffer(&info)] {
                let output = harness.push_and_pull(stamped(buffer, 0)).unwrap();
                let output = picture.read(&info, output);
                let half = (width / 2) & !1;
                let columns = [(width, half), (width.div_ceil(2), half / 2)];
                for plane in 0..3 {
                    let (columns, half) = columns[plane.min(1)];
                    for (index, code) in output.planes[plane].iter().enumerate() {
                        let from = if index % columns < half { &picture } else { &filtered };
                        assert_eq!(*code, from.planes[plane][index], "{format} {width} {plane}");
                    }
                }
            }
        }
    }
}

#[test]
fn statistics_are_posted_for_every_second_of_the_stream() {
    let model = Model::new();
    let picture = Picture::random(16, 16);
    let info = picture.info(VideoFormat::I420);
    for (message, expected) in [(true, 4), (false, 0)] {
        let element = model.element();
        element.set_property("post-messages", message);
        let mut harness = model.harness(&element, &info);
        let bus = gst::Bus::new();
        element.set_bus(Some(&bus));
        let frames = gst::ClockTime::from_mseconds(4_100) / FRAME_DURATION;
        for index in 0..frames {
            harness.push_and_pull(stamped(picture.buffer(&info), index)).unwrap();
        }
        let posted = messages(&bus, &[gst::MessageType::Element]);
        assert_eq!(posted.len(), expected);
        for (second, message) in posted.iter().enumerate() {
            let stats = message.structure().unwrap();
            assert_eq!(stats.name(), "application/x-tunableconvfilter-stats");
            assert_eq!(stats.get::<u64>("frames").unwrap(), 25 * (second as u64 + 1));
        }
    }
}
