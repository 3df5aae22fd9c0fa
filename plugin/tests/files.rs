//! Real files, each through `gst-launch-1.0`, a network, `pipelines/file.sh` and `playbin`: every
//! frame comes out, at its time, in its size, and filtered only if asked.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;

use common::play::{Frame, Player, frames_of, media, packed};
use common::{Model, init, missing, script};
use gstreamer as gst;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;

use gst::prelude::*;
use gst_video::{VideoFormat, VideoInfo, VideoInterlaceMode};

/// A file of `tests/media`, and what is in it.
struct Clip {
    name: &'static str,
    frames: usize,
    size: (u32, u32),
    format: VideoFormat,
}

const fn clip(name: &'static str, frames: usize, size: (u32, u32)) -> Clip {
    Clip { name, frames, size, format: VideoFormat::I420 }
}

const PROGRESSIVE: [Clip; 6] = [
    clip("phone.mp4", 23, (192, 108)),
    clip("variable.mp4", 12, (192, 108)),
    Clip { format: VideoFormat::Rgb, ..clip("still.png", 1, (192, 108)) },
    clip("still.jpg", 1, (192, 108)),
    Clip { format: VideoFormat::I42010le, ..clip("ten.mp4", 12, (192, 108)) },
    clip("odd.webm", 12, (161, 91)),
];

/// Frames as they are stored; there are twice as many after `deinterlace`.
const INTERLACED: [Clip; 2] =
    [clip("interlaced.mp4", 12, (192, 112)), clip("mixed.mp4", 24, (192, 112))];

/// The frames that each clip gives after `deinterlace`, which leaves progressive ones alone.
fn deinterlaced() -> impl Iterator<Item = Clip> {
    PROGRESSIVE.into_iter().chain(INTERLACED.map(|clip| Clip { frames: 2 * clip.frames, ..clip }))
}

/// What decodes the clips, and what the tests here put around the element.
const ELEMENTS: [&str; 15] = [
    "avdec_aac",
    "avdec_h264",
    "deinterlace",
    "h264parse",
    "jpegdec",
    "matroskademux",
    "playbin",
    "pngdec",
    "qtdemux",
    "rtpvp8depay",
    "rtpvp8pay",
    "udpsink",
    "vp8dec",
    "vp8enc",
    "x264enc",
];

/// The model to filter with; `None` after saying which element is missing.
fn model() -> Option<Model> {
    let model = Model::new();
    if let Some(reason) = missing(&model, &ELEMENTS) {
        println!("skipped: {reason}");
        return None;
    }
    Some(model)
}

/// Everything of a frame but its pixels.
fn head(frame: &Frame) -> (Option<gst::ClockTime>, Option<gst::ClockTime>, &gst::Caps) {
    (frame.time, frame.duration, &frame.caps)
}

/// Checks frames that passed the element at `alpha=0` and `alpha=0.5` against those that did not.
fn assert_filtered(clip: &Clip, plain: &[Frame], at_zero: &[Frame], at_half: &[Frame]) {
    let name = clip.name;
    assert_eq!(plain.len(), clip.frames, "{name}");
    assert!(plain.is_sorted_by(|a, b| a.time < b.time), "{name}");
    assert!(plain.iter().all(|frame| frame.time.is_some() && frame.size() == clip.size), "{name}");
    for (alpha, frames) in [(0.0, at_zero), (0.5, at_half)] {
        assert_eq!(frames.len(), plain.len(), "{name} alpha={alpha}");
        for (index, (frame, plain)) in frames.iter().zip(plain).enumerate() {
            assert_eq!(head(frame), head(plain), "{name} alpha={alpha} frame {index}");
            assert_eq!(frame.data != plain.data, alpha > 0.0, "{name} alpha={alpha} frame {index}");
        }
    }
}

#[test]
fn the_clips_are_what_they_are_for() {
    if model().is_none() {
        return;
    }
    for clip in PROGRESSIVE.iter().chain(&INTERLACED) {
        let frames = frames_of(&media(clip.name), "decodebin");
        let first = &frames[0];
        assert_eq!(frames.len(), clip.frames, "{}", clip.name);
        assert_eq!((first.size(), first.format()), (clip.size, clip.format), "{}", clip.name);
        let has_no_rate = first.info.as_ref().unwrap().fps().numer() == 0;
        let has_no_durations = frames.iter().all(|frame| frame.duration.is_none());
        let is_silent = matches!(clip.name, "variable.mp4" | "still.png" | "still.jpg");
        assert_eq!((has_no_rate, has_no_durations), (is_silent, is_silent), "{}", clip.name);
        let modes: Vec<_> =
            frames.iter().map(|frame| frame.info.as_ref().unwrap().interlace_mode()).collect();
        let expected: &[VideoInterlaceMode] = match clip.name {
            "interlaced.mp4" => &[VideoInterlaceMode::Interleaved],
            "mixed.mp4" => &[VideoInterlaceMode::Interleaved, VideoInterlaceMode::Mixed],
            _ => &[VideoInterlaceMode::Progressive],
        };
        let parts: Vec<_> = modes.chunk_by(|a, b| a == b).map(|part| part[0]).collect();
        assert_eq!(parts, expected, "{}", clip.name);
    }
    let phone = frames_of(&media("phone.mp4"), "decodebin");
    let times: Vec<_> = phone.iter().map(|frame| frame.time.unwrap()).collect();
    let mut steps: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    steps.sort();
    assert!(steps[0] * 3 < *steps.last().unwrap(), "{steps:?}");
}

/// The frames that `gst-launch-1.0` gets of a clip, in a process of its own with the shared library.
fn launch(model: &Model, clip: &Clip, elements: &str) -> Vec<Frame> {
    let decoder = match clip.name {
        "still.png" => "pngdec",
        "still.jpg" => "jpegdec",
        // Else `decodebin` may keep the end from gst-launch-1.0, see pipelines/file.sh.
        _ => "decodebin async-handling=true",
    };
    let output = model.folder.path().join("frames");
    let text = format!(
        "--verbose --no-fault filesrc location={} ! {decoder} ! videoconvert ! {elements} \
         ! identity name=seen silent=false ! filesink location={}",
        media(clip.name).display(),
        output.display()
    );
    let mut command = model.command("gst-launch-1.0");
    command.args(text.split_whitespace()).env("G_DEBUG", "fatal-criticals");
    let result = command.output().unwrap();
    assert!(result.status.success(), "{text}: {result:?}");

    let report = String::from_utf8(result.stdout).unwrap();
    let data = fs::read(&output).unwrap();
    let mut data = data.as_slice();
    let mut caps = None;
    let mut frames = Vec::new();
    for line in report.lines() {
        if let Some((_, text)) = line.split_once("GstIdentity:seen.GstPad:sink: caps = ") {
            caps = text.parse::<gst::Caps>().ok();
        } else if line.contains("seen: last-message = chain") {
            let caps = caps.clone().unwrap();
            let info = VideoInfo::from_caps(&caps).unwrap();
            let frame;
            (frame, data) = data.split_at(info.size());
            frames.push(Frame {
                time: reported(line, "pts"),
                duration: reported(line, "duration"),
                data: packed(gst::Buffer::from_slice(frame.to_vec()), &info),
                info: Some(info),
                caps,
            });
        }
    }
    assert!(data.is_empty(), "{text}");
    frames
}

/// A time in the report of `identity`, `field: 0:00:00.000000000` or `field: none`.
fn reported(line: &str, field: &str) -> Option<gst::ClockTime> {
    let (_, text) = line.split_once(&format!(" {field}: ")).unwrap();
    let (time, _) = text.split_once(',').unwrap();
    let parts = time.split([':', '.']).map(|part| part.parse().ok());
    let [hours, minutes, seconds, nanoseconds] = parts.collect::<Option<Vec<u64>>>()?[..] else {
        return None;
    };
    Some(gst::ClockTime::from_nseconds(
        ((hours * 60 + minutes) * 60 + seconds) * 1_000_000_000 + nanoseconds,
    ))
}

#[test]
fn gst_launch_filters_every_clip() {
    let Some(model) = model() else { return };
    let filter = format!("tunableconvfilter model={}", model.path());
    let as_they_are = PROGRESSIVE.into_iter().chain(INTERLACED).map(|clip| (clip, "identity"));
    let others = INTERLACED.map(|clip| (Clip { frames: 2 * clip.frames, ..clip }, "deinterlace"));
    for (clip, before) in as_they_are.chain(others) {
        let plain = launch(&model, &clip, before);
        let at_zero = launch(&model, &clip, &format!("{before} ! {filter} alpha=0"));
        let at_half = launch(&model, &clip, &format!("{before} ! {filter} alpha=0.5"));
        assert_filtered(&clip, &plain, &at_zero, &at_half);
    }
}

#[test]
fn frames_from_a_network_are_filtered() {
    let Some(model) = model() else { return };
    let filter = format!("tunableconvfilter model={}", model.path());
    for clip in deinterlaced() {
        // Any free port.
        let receiver = Player::of_text(&format!(
            "udpsrc name=source address=127.0.0.1 port=0 buffer-size=4000000 \
             caps=application/x-rtp,media=video,clock-rate=90000,encoding-name=VP8 \
             ! queue ! rtpvp8depay ! queue max-size-buffers=0 max-size-time=0 ! vp8dec ! tee name=tee \
             tee. ! queue ! appsink async=false name=frames0 \
             tee. ! queue ! {filter} alpha=0 ! appsink async=false name=frames1 \
             tee. ! queue ! {filter} alpha=0.5 ! appsink async=false name=frames2"
        ));
        let (started, state, _) = receiver.pipeline.state(gst::ClockTime::from_seconds(60));
        assert_eq!((started.is_ok(), state), (true, gst::State::Playing));
        let port = receiver.pipeline.by_name("source").unwrap().property::<i32>("port");
        let sender = Player::of_text(&format!(
            "filesrc location={} ! decodebin ! videoconvert ! deinterlace ! vp8enc deadline=1 \
             ! rtpvp8pay ! udpsink host=127.0.0.1 port={port} sync=false",
            media(clip.name).display()
        ));
        let frames = [0, 1, 2].map(|sink| {
            (0..clip.frames).map(|_| receiver.next(sink).unwrap().unwrap()).collect::<Vec<_>>()
        });
        drop(sender);
        assert_filtered(&clip, &frames[0], &frames[1], &frames[2]);
    }
}

/// Plays a clip in `playbin` with a video filter.
fn playbin(clip: &Clip, filter: Option<gst::Element>) -> Result<Vec<Frame>, (String, String)> {
    init();
    let sink = gst_app::AppSink::builder().build();
    let playbin = gst::ElementFactory::make("playbin")
        .property("uri", gst::glib::filename_to_uri(media(clip.name), None).unwrap().as_str())
        .property("video-sink", &sink)
        .property("audio-sink", gst::ElementFactory::make("fakesink").build().unwrap())
        .build()
        .unwrap();
    playbin.set_property("video-filter", filter);
    Player::new(playbin.downcast().unwrap(), vec![sink]).frames()
}

#[test]
fn playbin_filters_every_clip() {
    let Some(model) = model() else { return };
    for clip in deinterlaced() {
        let filtered = |alpha: f64| {
            let element = model.element();
            element.set_property("alpha", alpha);
            playbin(&clip, Some(element)).unwrap()
        };
        let plain = playbin(&clip, None).unwrap();
        assert_filtered(&clip, &plain, &filtered(0.0), &filtered(0.5));
    }
}

#[test]
fn file_sh_filters_every_clip() {
    let Some(model) = model() else { return };
    let upright = "decodebin ! videoconvert ! deinterlace ! videoflip video-direction=auto \
                   ! videoconvert ! video/x-raw,format=I420";
    for (clip, suffix) in deinterlaced().zip(["mp4", "mkv"].into_iter().cycle()) {
        let name = clip.name;
        let filtered = |alpha: &str| {
            let output = model.folder.path().join(format!("{alpha}-{name}.{suffix}"));
            let mut run = model.command(script("file.sh"));
            run.arg(media(name)).arg(&output).arg(alpha).env("MODEL", &model.path);
            let result = run.output().unwrap();
            assert!(result.status.success(), "{name}: {result:?}");
            frames_of(&output, upright)
        };
        let crop = "videocrop right=1 bottom=1";
        let odd = name == "odd.webm";
        let elements = if odd { format!("{upright} ! {crop}") } else { upright.into() };
        let plain = frames_of(&media(name), &elements);
        let (at_zero, at_one) = (filtered("0"), filtered("1"));
        assert_eq!(plain.len(), clip.frames, "{name}");
        for frames in [&at_zero, &at_one] {
            assert_eq!(frames.len(), plain.len(), "{name}");
            for (frame, plain) in frames.iter().zip(&plain) {
                let times = (frame.time.unwrap(), plain.time.unwrap());
                // MP4 and Matroska count in about as much.
                let error = times.0.max(times.1) - times.0.min(times.1);
                assert!(error <= gst::ClockTime::MSECOND, "{name} {times:?}");
            }
        }
        for ((plain, at_zero), at_one) in plain.iter().zip(&at_zero).zip(&at_one) {
            let (coding, both) = (plain.difference(at_zero), plain.difference(at_one));
            assert!(coding < 2.0 && both > 2.0 * coding, "{name} {coding} {both}");
        }
    }
}
