//! Nets that work in RGB, on frames of every kind.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{FORMATS, Model, Picture, Random, first_error, random_checkpoint_of, stamped};
use gstreamer as gst;
use gstreamer_video as gst_video;

use gst::prelude::*;
use gst_video::{VideoFormat, VideoInfo};
use tunableconv::checkpoint::Architecture;
use tunableconv::engine::{self, Options};
use tunableconv::frame::{
    Frame, FrameFormat, FrameMut, Matrix, Plane, PlaneMut, Planes, Range, RgbPixel, SampleFormat,
};
use tunableconv::nn::EdsrConfig;
use tunableconv::tuning::Domain;

const SIZES: [(usize, usize); 4] = [(64, 48), (33, 17), (1, 1), (3, 2)];

fn edsr(scale: usize) -> Model {
    let config = EdsrConfig { channels: 8, blocks: 1, scale, ..Default::default() };
    Model::of(random_checkpoint_of(Architecture::Edsr(config), Domain::Box))
}

#[test]
fn frames_in_420_give_what_the_engine_gives() {
    let model = edsr(1);
    for (width, height) in SIZES {
        let picture = Picture::random(width, height);
        let expected = model.filter(&picture, &[0.75, 0.25]);
        assert_ne!(picture, expected, "the test's net does nothing");
        for format in FORMATS {
            let info = picture.info(format);
            let element = model.element();
            element.set_property("alpha", 0.75);
            element.set_property("beta", 0.25);
            let mut harness = model.harness(&element, &info);
            let output = harness.push_and_pull(stamped(picture.buffer(&info), 0)).unwrap();
            assert_eq!(picture.read(&info, output), expected, "{format:?}");
        }
    }
}

/// What the engine makes of packed pixels, blue first.
fn filtered(model: &Model, (width, height): (usize, usize), stride: usize, data: &[u8]) -> Vec<u8> {
    let mut engine = engine::open(&model.checkpoint, &Options::default()).unwrap();
    let (range, samples) = (Range::Full, SampleFormat::U8);
    let format = FrameFormat { width, height, range, samples };
    let pixel = RgbPixel { bytes: 4, r: 2, g: 1, b: 0 };
    let matrix = Matrix::Bt601;
    let mut output = data.to_vec();
    let input = Planes::PackedRgb { pixels: Plane { data, stride_bytes: stride }, pixel, matrix };
    let plane = PlaneMut { data: &mut output, stride_bytes: stride };
    let mut out =
        FrameMut::new(format, Planes::PackedRgb { pixels: plane, pixel, matrix }).unwrap();
    engine.process(&Frame::new(format, input).unwrap(), &mut out).unwrap();
    output
}

#[test]
fn frames_in_rgb_give_what_the_engine_gives_and_keep_their_alpha() {
    let model = edsr(1);
    for (width, height) in SIZES {
        let info = VideoInfo::builder(VideoFormat::Bgra, width as u32, height as u32)
            .fps((25, 1))
            .build()
            .unwrap();
        let bytes = Random(9).bytes(info.size());
        let expected = filtered(&model, (width, height), info.stride()[0] as usize, &bytes);
        let is_changed = bytes != expected;
        assert!(is_changed, "the test's net does nothing");
        let mut harness = model.harness(&model.element(), &info);
        let buffer = stamped(gst::Buffer::from_slice(bytes), 0);
        let output = harness.push_and_pull(buffer).unwrap();
        let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(&output, &info).unwrap();
        let is_equal = frame.plane_data(0).unwrap() == expected;
        assert!(is_equal, "{width}×{height}");
    }
}

#[test]
fn the_matrix_of_the_caps_is_used() {
    let model = edsr(1);
    let picture = Picture::random(32, 16);
    let [first, second] = ["2:4:5:1", "2:3:5:1"].map(|colorimetry| {
        let info = VideoInfo::builder(VideoFormat::I420, 32, 16)
            .fps((25, 1))
            .colorimetry(&colorimetry.parse().unwrap())
            .build()
            .unwrap();
        let mut harness = model.harness(&model.element(), &info);
        let output = harness.push_and_pull(stamped(picture.buffer(&info), 0)).unwrap();
        picture.read(&info, output)
    });
    assert_ne!(first, second);
    // Small pictures are of BT.601 where nothing is said.
    assert_eq!(first, model.filter(&picture, &[1.0, 0.0]));
}

#[test]
fn a_net_that_makes_larger_frames_is_refused() {
    let model = edsr(2);
    let element = model.element();
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    assert!(element.set_state(gst::State::Paused).is_err());
    let (_, error) = first_error(&bus);
    assert!(error.contains("This model makes frames 2 times as large"), "{error}");
    element.set_state(gst::State::Null).unwrap();
}
