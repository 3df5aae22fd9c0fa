//! Nets that work in RGB, on frames of every kind.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::play::Player;
use common::{FORMATS, Model, Picture, Random, SMALL, first_error, random_checkpoint_of, stamped};
use gstreamer as gst;
use gstreamer_check as gst_check;
use gstreamer_video as gst_video;

use gst::prelude::*;
use gst_video::{VideoCropMeta, VideoFormat, VideoInfo, VideoRegionOfInterestMeta};
use tunableconv::checkpoint::Architecture;
use tunableconv::engine::{self, Options};
use tunableconv::frame::{
    Frame, FrameFormat, FrameMut, Matrix, Plane, PlaneMut, Planes, Range, RgbPixel, SampleFormat,
};
use tunableconv::nn::{Activation, Colour, EdsrConfig, Mode, PhiConfig, PlainConfig, PlainLayer};
use tunableconv::picture::Picture as CorePicture;
use tunableconv::tuning::Domain;

const SIZES: [(usize, usize); 4] = [(64, 48), (33, 17), (1, 1), (3, 2)];

fn edsr(scale: usize) -> Model {
    let config = EdsrConfig { channels: 8, blocks: 1, scale, ..Default::default() };
    Model::of(random_checkpoint_of(Architecture::Edsr(config), Domain::Box))
}

#[test]
fn frames_in_420_give_what_the_engine_gives() {
    edsr(1).gives_what_its_engine_gives(&SIZES);
}

/// A chain with slopes of its own, without a knob.
fn without_a_knob() -> Model {
    without_a_knob_on(Colour::Rgb, 1)
}

fn without_a_knob_on(colour: Colour, scale: usize) -> Model {
    let colours = if colour == Colour::Luma { 1 } else { 3 };
    let layer = |name: &str, channels, activation| PlainLayer::new(name, 3, channels, activation);
    let last = layer("last", colours * scale * scale, Activation::None);
    let last = PlainLayer { shuffle: scale, ..last };
    let layers = vec![layer("first", 8, Activation::PRelu), last];
    let phi = PhiConfig { mode: Mode::Multilinear, expand: 1 };
    let config = PlainConfig { colour, scale, residual: true, layers, phi };
    let mut checkpoint = random_checkpoint_of(Architecture::Plain(config), Domain::Box);
    checkpoint.metadata.tuning.parameters.clear();
    for spec in checkpoint.metadata.tensors() {
        // The first of its kernels.
        let values = checkpoint.tensors.get_mut(&spec.name).unwrap();
        values.truncate(spec.shape.iter().product());
    }
    Model::of(checkpoint)
}

#[test]
fn a_net_without_a_parameter_is_played_as_it_is() {
    let model = without_a_knob();
    model.gives_what_its_engine_gives(&SIZES);
    let element = model.element();
    element.set_state(gst::State::Ready).unwrap();
    let described = element.property::<gst::Structure>("stats").to_string();
    element.set_state(gst::State::Null).unwrap();
    assert!(!described.contains("NaN"), "{described}");
    // As an element of its own it has no properties but those of all.
    let mut inspect = model.command("gst-inspect-1.0");
    let inspect = inspect.env("TUNABLECONV_MODEL_PATH", model.folder.path());
    let output = inspect.arg("tunableconv-model").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("overload"), "{text}");
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

/// What the engine makes of a picture, so many times as large.
fn enlarged(model: &Model, picture: &Picture, tuning: &[f64]) -> Picture {
    let mut engine = engine::open(&model.checkpoint, &Options::default()).unwrap();
    let tuning = model.checkpoint.metadata.tuning.tuning(tuning).unwrap();
    engine.set_tuning(&tuning).unwrap();
    let input = CorePicture::new(picture.format, picture.planes.clone()).unwrap();
    let (width, height) = engine.output_size(picture.format.width, picture.format.height);
    let format = FrameFormat { width, height, ..picture.format };
    let mut output = CorePicture::grey(format).unwrap();
    // Larger frames are of the matrix of those that they were, and have their chroma where those had it.
    let frame = input.frame().with_chroma_site(SMALL);
    let mut frame_mut = output.frame_mut().with_matrix(Matrix::Bt601).with_chroma_site(SMALL);
    engine.process(&frame, &mut frame_mut).unwrap();
    Picture { format, planes: output.planes().map(<[u8]>::to_vec) }
}

/// Caps of the output of a harness whose element makes frames `scale` times as large.
fn larger(info: &VideoInfo, scale: u32) -> VideoInfo {
    VideoInfo::builder(info.format(), scale * info.width(), scale * info.height())
        .fps(info.fps())
        .colorimetry(&info.colorimetry())
        .chroma_site(info.chroma_site())
        .build()
        .unwrap()
}

/// The element between a pad with these caps and one that takes anything.
fn harness(element: &gst::Element, info: &VideoInfo) -> gst_check::Harness {
    let mut harness = gst_check::Harness::with_element(element, Some("sink"), Some("src"));
    harness.set_src_caps(info.to_caps().unwrap());
    harness
}

#[test]
fn larger_frames_are_what_the_engine_makes() {
    for scale in [2, 3, 4] {
        let model = edsr(scale);
        for (width, height) in SIZES {
            let picture = Picture::random(width, height);
            let expected = enlarged(&model, &picture, &[1.0, 0.0]);
            for format in FORMATS {
                let info = picture.info(format);
                let mut harness = harness(&model.element(), &info);
                let output = harness.push_and_pull(stamped(picture.buffer(&info), 0)).unwrap();
                let caps = harness.sinkpad().unwrap().current_caps().unwrap();
                let out_info = VideoInfo::from_caps(&caps).unwrap();
                assert_eq!(out_info, larger(&info, scale as u32), "{format:?}");
                let got = expected.read(&out_info, output);
                assert_eq!(got, expected, "×{scale} {format:?} {width}×{height}");
            }
        }
    }
}

#[test]
fn caps_are_scaled_both_ways_and_keep_the_colours_of_the_input() {
    common::init();
    let model = edsr(3);
    // Of television of 720 lines colours are others than of 240.
    let info = VideoInfo::builder(VideoFormat::Rgb, 320, 240).fps((25, 1)).build().unwrap();
    let small = VideoInfo::builder(VideoFormat::I420, 320, 240).fps((25, 1)).build().unwrap();
    for info in [info, small] {
        let element = model.element();
        let mut harness = harness(&element, &info);
        harness.push_and_pull(gst::Buffer::with_size(info.size()).unwrap()).unwrap();
        let caps = harness.sinkpad().unwrap().current_caps().unwrap();
        let out_info = VideoInfo::from_caps(&caps).unwrap();
        assert_eq!((out_info.width(), out_info.height()), (960, 720));
        assert_eq!(out_info.colorimetry(), info.colorimetry());
        assert_eq!(out_info.chroma_site(), info.chroma_site());
        let is_said = |field: &str| caps.structure(0).unwrap().has_field(field);
        assert!(is_said("colorimetry") && is_said("chroma-site") == info.is_yuv(), "{caps}");
        assert_eq!(out_info.par(), info.par());

        let sides = |pad: &str| {
            let caps = element.static_pad(pad).unwrap().query_caps(None);
            let structure = caps.structure(0).unwrap();
            ["width", "height"].map(|side| format!("{:?}", structure.value(side).unwrap()))
        };
        let sides = [sides("sink"), sides("src")].concat();
        assert!(sides.iter().all(|side| !side.contains("8192")), "{sides:?}");
    }
}

/// As on a command line, where pads are linked before anything starts.
#[test]
fn a_size_before_and_one_behind_are_linked() {
    let model = edsr(2);
    common::init();
    let text = |behind: &str| {
        format!(
            "videotestsrc num-buffers=2 ! video/x-raw,width=32,height=24 ! \
             tunableconvfilter precision=f32 device=cpu model={} ! video/x-raw,{behind} ! \
             appsink name=frames0",
            model.path()
        )
    };
    assert!(gst::parse::launch(&text("width=32,height=24")).is_err());
    let frames = Player::of_text(&text("width=64,height=48")).frames().unwrap();
    assert_eq!(frames.iter().map(|frame| frame.size()).collect::<Vec<_>>(), [(64, 48); 2]);
}

/// Whether it was refused before the stop, or nobody came to look at it.
#[test]
fn a_stopped_element_is_linked_by_the_model_that_it_names() {
    let (two, three) = (edsr(2), edsr(3));
    let element = two.element();
    let info = Picture::random(32, 24).info(VideoFormat::I420);
    let mut harness = harness(&element, &info);
    harness.push_and_pull(stamped(Picture::random(32, 24).buffer(&info), 0)).unwrap();
    for _ in 0..100 {
        element.set_state(gst::State::Playing).unwrap();
        element.set_property("model", three.path());
        element.set_state(gst::State::Null).unwrap();
        let scale = if element.property::<String>("model") == three.path() { 3 } else { 2 };
        let caps = gst_video::VideoCapsBuilder::new().width(96).height(96).build();
        let sink = element.static_pad("sink").unwrap();
        let peer = gst::Pad::builder(gst::PadDirection::Sink)
            .query_function(move |pad, parent, query| {
                if let gst::QueryViewMut::Caps(query) = query.view_mut() {
                    query.set_result(&caps);
                    return true;
                }
                gst::Pad::query_default(pad, parent, query)
            })
            .build();
        let src = element.static_pad("src").unwrap();
        if let Some(before) = src.peer() {
            src.unlink(&before).unwrap();
        }
        src.link_full(&peer, gst::PadLinkCheck::empty()).unwrap();
        let caps = sink.query_caps(None);
        let width = caps.structure(0).unwrap().get::<i32>("width").unwrap();
        assert_eq!(width, 96 / scale, "{caps}");
        element.set_property("model", two.path());
    }
}

/// What is pointed at in the larger frame is at another place of the smaller one.
#[test]
fn pointers_are_where_they_are_in_the_smaller_frame() {
    for (scale, expected) in [(1, 40.0), (2, 20.0)] {
        let model = edsr(scale);
        let element = model.element();
        let info = Picture::random(32, 16).info(VideoFormat::I420);
        let mut harness = harness(&element, &info);
        let structure = gst::Structure::builder("application/x-gst-navigation")
            .field("event", "mouse-move")
            .field("pointer_x", 40.0)
            .field("pointer_y", 40.0)
            .build();
        assert!(harness.push_upstream_event(gst::event::Navigation::new(structure)));
        let mut events = std::iter::from_fn(|| harness.try_pull_upstream_event());
        let event = events.find(|event| event.type_() == gst::EventType::Navigation).unwrap();
        let place = |name: &str| event.structure().unwrap().get::<f64>(name).unwrap();
        assert_eq!([place("pointer_x"), place("pointer_y")], [expected; 2], "×{scale}");
    }
}

#[test]
fn what_lies_beside_the_filtered_half_is_bicubic() {
    let model = edsr(2);
    let picture = Picture::random(32, 18);
    let expected = enlarged(&model, &picture, &[1.0, 0.0]);
    let bicubic = picture.bicubic(2);
    for format in FORMATS {
        let info = picture.info(format);
        let element = model.element();
        element.set_property_from_str("compare", "split");
        let mut harness = harness(&element, &info);
        let output = harness.push_and_pull(stamped(picture.buffer(&info), 0)).unwrap();
        let got = expected.read(&larger(&info, 2), output);
        for (which, (got, (left, right))) in
            got.planes.iter().zip(bicubic.planes.iter().zip(&expected.planes)).enumerate()
        {
            let width = if which == 0 { 64 } else { 32 };
            for ((got, left), right) in
                got.chunks(width).zip(left.chunks(width)).zip(right.chunks(width))
            {
                assert!(got[..width / 2] == left[..width / 2], "{format:?} {which}");
                assert!(got[width / 2..] == right[width / 2..], "{format:?} {which}");
            }
        }
    }
}

#[test]
fn nets_on_luma_leave_the_chroma_of_frames_of_the_same_size() {
    let model = without_a_knob_on(Colour::Luma, 1);
    model.gives_what_its_engine_gives(&SIZES);
    let picture = Picture::random(64, 48);
    let filtered = model.filter(&picture, &[]);
    assert!(filtered.planes[0] != picture.planes[0]);
    assert!(filtered.planes[1..] == picture.planes[1..]);
}

#[test]
fn every_format_comes_out_larger() {
    for model in [edsr(2), without_a_knob_on(Colour::Luma, 2)] {
        comes_out_larger_in_every_format(&model);
    }
}

fn comes_out_larger_in_every_format(model: &Model) {
    let formats =
        "BGRA GBR GBR_10LE A420 Y42B YUY2 AYUV Y444_12LE P010_10LE GRAY8 v210 r210 ARGB64";
    for format in formats.split_whitespace() {
        let player = Player::of_text(&format!(
            "videotestsrc num-buffers=2 pattern=smpte ! video/x-raw,format={format},width=33,height=17 ! \
             tunableconvfilter model={} device=cpu ! appsink name=frames0",
            model.path()
        ));
        let frames = player.frames().unwrap();
        assert_eq!(frames.len(), 2, "{format}");
        for frame in frames {
            assert_eq!(frame.size(), (66, 34), "{format}");
            assert_eq!(frame.format().to_str(), format);
        }
    }
}

#[test]
fn regions_and_crops_are_told_in_pixels_of_the_larger_frame() {
    let model = edsr(2);
    let picture = Picture::random(64, 48);
    let info = picture.info(VideoFormat::I420);
    let mut harness = harness(&model.element(), &info);
    let mut buffer = stamped(picture.buffer(&info), 0);
    {
        let buffer = buffer.get_mut().unwrap();
        VideoRegionOfInterestMeta::add(buffer, "face", (10, 12, 20, 16));
        VideoCropMeta::add(buffer, (2, 4, 60, 40));
        let mark = gst::Caps::new_empty_simple("timestamp/x-test");
        gst::ReferenceTimestampMeta::add(buffer, &mark, gst::ClockTime::SECOND, None);
    }
    let output = harness.push_and_pull(buffer).unwrap();
    let region = output.meta::<VideoRegionOfInterestMeta>().expect("the region");
    assert_eq!((region.roi_type(), region.rect()), ("face", (20, 24, 40, 32)));
    assert_eq!(output.meta::<VideoCropMeta>().expect("the crop").rect(), (4, 8, 120, 80));
    assert!(output.meta::<gst::ReferenceTimestampMeta>().is_some());
}

#[test]
fn fields_are_not_made_larger() {
    let model = edsr(2);
    let info = Picture::random(32, 16).info(VideoFormat::I420);
    let element = model.element();
    let _harness = harness(&element, &info);
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    let sink = element.static_pad("sink").unwrap();
    let in_mode = |mode: &str| {
        let mut caps = info.to_caps().unwrap();
        caps.make_mut().set("interlace-mode", mode);
        caps
    };
    assert!(sink.query_accept_caps(&in_mode("progressive")));
    let mut fields = in_mode("alternate");
    let features = gst::CapsFeatures::new([gst_video::CAPS_FEATURE_FORMAT_INTERLACED]);
    fields.make_mut().set_features_simple(Some(features));
    for caps in [in_mode("interleaved"), in_mode("mixed"), fields] {
        assert!(!sink.query_accept_caps(&caps), "{caps}");
        assert!(!sink.send_event(gst::event::Caps::new(&caps)));
        let (_, error) = first_error(&bus);
        let expected = "expected progressive video of at most 4096×4096, as the model makes it 2";
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn another_model_takes_over_only_at_the_same_scale() {
    let (model, other) = (edsr(2), edsr(3));
    let element = model.element();
    let picture = Picture::random(32, 16);
    let info = picture.info(VideoFormat::I420);
    let mut harness = harness(&element, &info);
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    harness.push_and_pull(stamped(picture.buffer(&info), 0)).unwrap();
    element.set_property("model", other.path());
    let warning = bus
        .timed_pop_filtered(gst::ClockTime::from_seconds(30), &[gst::MessageType::Warning])
        .expect("a warning");
    let gst::MessageView::Warning(warning) = warning.view() else { unreachable!() };
    let text = warning.error().to_string();
    assert!(text.contains("the model makes frames 3 times as large, not 2"), "{text}");
    assert_eq!(element.property::<String>("model"), model.path());
    let output = harness.push_and_pull(stamped(picture.buffer(&info), 1)).unwrap();
    assert_eq!(output.size(), larger(&info, 2).size());
}
