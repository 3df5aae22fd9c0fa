//! `noise-level` tells how strong the noise is, and with `auto-level` its knob follows.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::play::{Player, frames_of, media};
use common::{Model, Picture, Random, stamped};
use gst::prelude::*;
use gst_check::Harness;
use gst_video::VideoFormat;
use gstreamer as gst;
use gstreamer_check as gst_check;
use gstreamer_video as gst_video;

const WIDTH: usize = 320;
const HEIGHT: usize = 240;

/// Root mean square of luma, of 255, for which the built-in model's `denoise` is 1.
const MOST: f64 = 35.0;

/// Full-range I420 of a grey slope with noise, about normal, of this standard deviation.
fn noisy(sigma: f32, random: &mut Random) -> Vec<u8> {
    let mut normal = || (0..12).map(|_| random.next()).sum::<f32>() / 2.0;
    let slope = |at: usize| 90.0 + (at % WIDTH) as f32 * 0.2;
    let luma = (0..WIDTH * HEIGHT).map(|at| (slope(at) + sigma * normal()).round() as u8);
    let chroma = std::iter::repeat_n(128, WIDTH * HEIGHT / 2);
    luma.chain(chroma).collect()
}

fn element(name: &str, properties: &str) -> gst::Element {
    common::init();
    let text = format!("{name} precision=f32 device=cpu {properties}");
    gst::parse::launch(&text).unwrap()
}

fn playing(element: &gst::Element) -> Harness {
    let mut harness = Harness::with_element(element, Some("sink"), Some("src"));
    let caps = format!(
        "video/x-raw,format=I420,width={WIDTH},height={HEIGHT},framerate=25/1,colorimetry=1:4:0:0"
    );
    harness.set_caps_str(&caps, &caps);
    harness
}

fn level(element: &gst::Element) -> f64 {
    let level = element.property::<f64>("noise-level");
    let stats = element.property::<gst::Structure>("stats");
    assert_eq!(stats.get::<f64>("noise-level").unwrap(), level);
    level
}

/// Pushes frames with noise and returns the value of a property after each.
fn follow(
    harness: &mut Harness,
    element: &gst::Element,
    knob: &str,
    sigmas: impl Iterator<Item = f32>,
) -> Vec<f64> {
    let mut random = Random(5);
    let values = sigmas.enumerate().map(|(index, sigma)| {
        let buffer = gst::Buffer::from_slice(noisy(sigma, &mut random));
        harness.push_and_pull(stamped(buffer, index as u64)).unwrap();
        element.property::<f64>(knob)
    });
    values.collect()
}

fn near(value: f64, expected: f64) -> bool {
    (value / expected - 1.0).abs() < 0.15
}

#[test]
fn the_level_is_known_from_the_first_frame_on_whatever_the_knobs_are() {
    for properties in ["alpha=0.3", "alpha=0", "alpha=0 auto-level=true"] {
        let element = element("tunableconvfilter", properties);
        assert_eq!(level(&element), 0.0);
        let mut harness = playing(&element);
        for sigma in [3.0, 20.0] {
            follow(&mut harness, &element, "alpha", [sigma; 80].into_iter());
            assert!(near(level(&element), sigma.into()), "{} for {sigma}", level(&element));
        }
        // It is not that of the stream before.
        element.set_state(gst::State::Null).unwrap();
        harness.play();
    }
}

#[test]
fn a_knob_that_nobody_set_follows_and_does_not_jump() {
    for (name, knob) in [("tunableconvfilter", "alpha"), ("tunableconv-broadcast", "denoise")] {
        let element = element(name, "auto-level=true");
        let default = element.property::<f64>(knob);
        let mut harness = playing(&element);
        let sigmas = std::iter::repeat_n(3.5, 40).chain(std::iter::repeat_n(28.0, 160));
        let values = follow(&mut harness, &element, knob, sigmas);
        assert!(near(values[0], 3.5 / MOST), "{values:?}");
        assert!(near(values[39], 3.5 / MOST) && near(values[199], 28.0 / MOST), "{values:?}");
        for pair in values.windows(2) {
            assert!((pair[1] - pair[0]).abs() < 0.25, "{pair:?}");
        }
        // Noise that stays is no reason to fold the net again and again.
        let steady: Vec<f64> = values[..40].to_vec();
        assert!(steady.iter().all(|v| near(*v, steady[0])), "{steady:?}");
        element.set_property("auto-level", false);
        let values = follow(&mut harness, &element, knob, [28.0].into_iter());
        assert_eq!(values, [default]);
    }
}

#[test]
fn what_is_set_or_bound_wins() {
    let set = element("tunableconv-broadcast", "auto-level=true denoise=0.25");
    let bus = gst::Bus::new();
    set.set_bus(Some(&bus));
    let mut harness = playing(&set);
    let values = follow(&mut harness, &set, "denoise", [10.0; 20].into_iter());
    assert_eq!(values, [0.25; 20]);
    let told = "`auto-level` has no effect: `denoise` is set, or bound to a control source";
    assert_eq!(warnings(&bus), [told]);

    // Where it stands by itself anyway, as hosts that load all properties set it.
    let loaded = element("tunableconv-broadcast", "auto-level=true denoise=0.05");
    let bus = gst::Bus::new();
    loaded.set_bus(Some(&bus));
    let mut harness = playing(&loaded);
    let values = follow(&mut harness, &loaded, "denoise", [10.0; 20].into_iter());
    assert!(near(values[19], 10.0 / MOST), "{values:?}");
    assert_eq!(warnings(&bus), [""; 0]);
    let bound = element("tunableconv-broadcast", "auto-level=true keyframes=\"denoise=0s:0.05\"");
    let mut harness = playing(&bound);
    let values = follow(&mut harness, &bound, "denoise", [10.0; 20].into_iter());
    assert_eq!(values, [0.05; 20]);

    let bound = element("tunableconv-broadcast", "auto-level=true keyframes=\"denoise=0s:0.6\"");
    let mut harness = playing(&bound);
    let values = follow(&mut harness, &bound, "denoise", [10.0; 20].into_iter());
    assert_eq!(values, [0.6; 20]);
}

/// The texts of all warnings on a bus.
fn warnings(bus: &gst::Bus) -> Vec<String> {
    let text = |message: gst::Message| match message.view() {
        gst::MessageView::Warning(warning) => Some(warning.error().to_string()),
        _ => None,
    };
    bus.iter_filtered(&[gst::MessageType::Warning]).filter_map(text).collect()
}

/// As the tuning that it stands at is used.
#[test]
fn frames_are_filtered_at_the_level() {
    let mut random = Random(9);
    let frame = noisy(10.0, &mut random);
    let filtered = |element: &gst::Element| {
        let mut harness = playing(element);
        let buffer = gst::Buffer::from_slice(frame.clone());
        let buffer = harness.push_and_pull(stamped(buffer, 0)).unwrap();
        (buffer.map_readable().unwrap().to_vec(), element.property::<f64>("denoise"))
    };
    let (followed, value) = filtered(&element("tunableconv-broadcast", "auto-level=true"));
    assert!(near(value, 10.0 / MOST), "{value}");
    let set = element("tunableconv-broadcast", "");
    set.set_property("denoise", value);
    assert!(followed == filtered(&set).0, "at {value}");
}

#[test]
fn a_model_that_is_not_told_of_noise_says_so_once() {
    let model = Model::new();
    let element = model.element();
    element.set_property("auto-level", true);
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    let picture = Picture::random(64, 48);
    let info = picture.info(VideoFormat::I420);
    let mut harness = model.harness(&element, &info);
    for index in 0..20 {
        harness.push_and_pull(stamped(picture.buffer(&info), index)).unwrap();
    }
    assert_eq!(
        warnings(&bus),
        ["`auto-level` has no effect: none of the model's parameters is the level of its noise"]
    );
}

#[test]
fn every_format_has_the_same_level() {
    common::init();
    let file = media("still.png");
    let size = frames_of(&file, "pngdec ! videoconvert ! video/x-raw,format=RGBA")[0].size();
    let level_in = |format: &str| {
        let player = Player::of_text(&format!(
            "filesrc location={} ! pngdec ! videoconvert ! video/x-raw,format={format} \
             ! tunableconvfilter name=filter precision=f32 ! appsink name=frames0",
            file.display()
        ));
        player.next(0).unwrap().unwrap();
        level(&player.pipeline.by_name("filter").unwrap())
    };
    let expected = level_in("I420");
    assert!(expected > 0.2, "{expected} of {size:?}");
    for format in ["NV12", "RGBA", "GBR", "YUY2", "v210", "P010_10LE", "GRAY8", "AYUV64"] {
        let level = level_in(format);
        assert!((level / expected - 1.0).abs() < 0.15, "{format}: {level}, in I420 {expected}");
    }
}
