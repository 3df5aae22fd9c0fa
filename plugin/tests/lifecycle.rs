//! What happens to a filter in a pipeline from start to stop, step by step.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZero;
use std::sync::{Arc, Mutex};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use common::source::Source;
use common::{FRAME_DURATION, Model, Picture, init, stamped};
use gst_check::Harness;
use gstreamer as gst;
use gstreamer_app as gst_app;
use gstreamer_check as gst_check;
use gstreamer_controller as gst_controller;
use gstreamer_video as gst_video;

use gst::prelude::*;
use gst_controller::prelude::*;
use gst_controller::{InterpolationControlSource, InterpolationMode};
use gst_video::{VideoFormat, VideoInfo};

/// Longer than anything here takes, on any machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// `alpha` is the stream time in seconds, up to 1.
const RAMP: &str = "alpha=0s:0,1s:1";

/// The value of the ramp.
fn ramp(time: gst::ClockTime) -> f64 {
    init();
    let source = InterpolationControlSource::new();
    source.set_mode(InterpolationMode::Linear);
    source.set(gst::ClockTime::ZERO, 0.0);
    source.set(gst::ClockTime::SECOND, 1.0);
    ControlSourceExt::value(&source, time).unwrap()
}

fn picture() -> Picture {
    Picture::random(48, 32)
}

fn info() -> VideoInfo {
    picture().info(VideoFormat::I420)
}

/// What went into a filter, by timestamp.
type Inputs = Arc<Mutex<BTreeMap<gst::ClockTime, Picture>>>;

/// A source, a filter and a sink, which stops the others while nobody takes its frames.
struct Play {
    pipeline: gst::Pipeline,
    source: Source,
    before: gst::Element,
    filter: gst::Element,
    sink: gst_app::AppSink,
    inputs: Inputs,
}

impl Play {
    fn new(model: &Model, properties: &[(&str, &str)]) -> Self {
        let filter = model.element();
        for (name, value) in properties {
            filter.set_property_from_str(name, value);
        }
        let source = Source::new(false, &info().to_caps().unwrap());
        let before = gst::ElementFactory::make("identity").build().unwrap();
        let sink = gst_app::AppSink::builder().sync(false).max_buffers(2).build();
        let pipeline = gst::Pipeline::new();
        let elements = [source.upcast_ref(), &before, &filter, sink.upcast_ref()];
        pipeline.add_many(elements).unwrap();
        gst::Element::link_many(elements).unwrap();
        let inputs = Inputs::default();
        let recorded = Arc::clone(&inputs);
        let pad = before.static_pad("sink").unwrap();
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, probe| {
            let buffer = probe.buffer().unwrap().to_owned();
            let pts = buffer.pts().unwrap();
            recorded.lock().unwrap().insert(pts, picture().read(&info(), buffer));
            gst::PadProbeReturn::Ok
        });
        Self { pipeline, source, before, filter, sink, inputs }
    }

    /// Goes to a state and waits until it is there.
    fn set(&self, state: gst::State) {
        self.pipeline.set_state(state).unwrap();
        let (result, reached, _) = self.pipeline.state(gst::ClockTime::from_seconds(60));
        result.unwrap();
        assert_eq!(reached, state);
    }

    fn seek(&self, rate: f64, start: u64, stop: Option<u64>) {
        let time = gst::ClockTime::from_mseconds;
        let (flush, set) = (gst::SeekFlags::FLUSH, gst::SeekType::Set);
        self.pipeline.seek(rate, flush, set, time(start), set, stop.map(time)).unwrap();
    }

    fn next(&self) -> Option<Output> {
        let sample = self.sink.try_pull_sample(gst::ClockTime::from_seconds(60));
        assert!(sample.is_some() || self.sink.is_eos(), "no frame");
        sample.map(|sample| self.output(&sample))
    }

    /// The frame that a paused pipeline shows.
    fn preroll(&self) -> Output {
        self.output(&self.sink.pull_preroll().unwrap())
    }

    fn output(&self, sample: &gst::Sample) -> Output {
        let buffer = sample.buffer_owned().unwrap();
        let segment = sample.segment().unwrap().downcast_ref::<gst::ClockTime>().unwrap();
        let pts = buffer.pts().unwrap();
        Output {
            pts,
            stream_time: segment.to_stream_time(pts).unwrap(),
            running_time: segment.to_running_time(pts).unwrap(),
            input: self.inputs.lock().unwrap()[&pts].clone(),
            picture: picture().read(&info(), buffer),
        }
    }
}

impl Drop for Play {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// A frame that came out.
struct Output {
    pts: gst::ClockTime,
    stream_time: gst::ClockTime,
    running_time: gst::ClockTime,
    input: Picture,
    picture: Picture,
}

impl Output {
    fn assert_filtered(&self, model: &Model, alpha: f64) {
        let expected = model.filter(&self.input, &[alpha, 0.0]);
        assert_eq!(self.picture, expected, "at {} with alpha {alpha}", self.pts);
        // A little may round to nothing.
        assert!(alpha < 0.2 || self.picture != self.input, "at {}", self.pts);
    }
}

#[test]
fn a_hundred_starts_and_stops() {
    let model = Model::new();
    let play = Play::new(&model, &[("alpha", "0.5")]);
    for _ in 0..100 {
        play.inputs.lock().unwrap().clear();
        play.set(gst::State::Playing);
        for index in 0..3 {
            let output = play.next().unwrap();
            assert_eq!(output.pts, FRAME_DURATION * index);
            output.assert_filtered(&model, 0.5);
        }
        play.set(gst::State::Null);
    }
}

#[test]
fn pipelines_at_once_give_what_each_gives_alone() {
    let model = Model::new();
    let alphas = [0.25, 1.0];
    let plays = alphas.map(|alpha| Play::new(&model, &[("alpha", &alpha.to_string())]));
    plays.iter().for_each(|play| play.set(gst::State::Playing));
    for _ in 0..10 {
        for (play, alpha) in plays.iter().zip(alphas) {
            play.next().unwrap().assert_filtered(&model, alpha);
        }
    }
}

#[test]
fn keyframes_are_right_at_any_rate() {
    let model = Model::new();
    for rate in [1.0, 2.0, 0.5, -1.0, -2.0] {
        let play = Play::new(&model, &[("keyframes", RAMP)]);
        play.set(gst::State::Paused);
        play.seek(rate, 200, Some(800));
        play.set(gst::State::Playing);
        let outputs: Vec<_> = std::iter::from_fn(|| play.next()).collect();
        let mut times: Vec<_> = (5..20).map(|index| FRAME_DURATION * index).collect();
        if rate < 0.0 {
            times.reverse();
        }
        let got: Vec<_> = outputs.iter().map(|output| output.stream_time).collect();
        assert_eq!(got, times, "rate {rate}");
        for output in outputs {
            output.assert_filtered(&model, ramp(output.stream_time));
        }
    }
}

#[test]
fn the_first_frame_after_a_seek_has_the_value_of_its_own_time() {
    let model = Model::new();
    let play = Play::new(&model, &[("keyframes", RAMP)]);
    for state in [gst::State::Paused, gst::State::Playing] {
        play.set(state);
        for ms in [800, 0, 400, 1200, 40] {
            play.seek(1.0, ms, None);
            play.set(state);
            let output = match state {
                gst::State::Paused => play.preroll(),
                _ => play.next().unwrap(),
            };
            assert_eq!(output.stream_time, gst::ClockTime::from_mseconds(ms));
            output.assert_filtered(&model, ramp(output.stream_time.min(gst::ClockTime::SECOND)));
        }
    }
}

#[test]
fn keyframes_follow_stream_time_wherever_running_time_is() {
    let model = Model::new();
    let ms = gst::ClockTime::from_mseconds;
    for (offset, time, base) in [(0, 0, 0), (700, 0, 0), (0, 300, 5000), (700, 300, 5000)] {
        let play = Play::new(&model, &[("keyframes", RAMP)]);
        let pad = play.source.static_pad("src").unwrap();
        pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, probe| {
            let event = probe.event().unwrap();
            if let gst::EventView::Segment(segment) = event.view() {
                let segment = segment.segment().downcast_ref::<gst::ClockTime>().unwrap();
                let mut segment = segment.clone();
                segment.set_time(ms(time));
                segment.set_base(ms(base));
                probe.data = Some(gst::PadProbeData::Event(gst::event::Segment::new(&segment)));
            }
            gst::PadProbeReturn::Ok
        });
        play.before.static_pad("src").unwrap().set_offset(ms(offset).nseconds() as i64);
        play.set(gst::State::Playing);
        for index in 0..10 {
            let output = play.next().unwrap();
            let pts = FRAME_DURATION * index;
            let times = (output.pts, output.stream_time, output.running_time);
            assert_eq!(times, (pts, pts + ms(time), pts + ms(base + offset)));
            output.assert_filtered(&model, ramp(output.stream_time));
        }
    }
}

/// The serialised events that came out of a harness.
fn events(harness: &mut Harness) -> Vec<gst::Event> {
    std::iter::from_fn(|| harness.try_pull_event()).filter(|event| event.is_serialized()).collect()
}

#[test]
fn a_gap_passes_in_its_place() {
    let model = Model::new();
    let element = model.element();
    let mut harness = model.harness(&element, &info());
    harness.push(stamped(picture().buffer(&info()), 0)).unwrap();
    events(&mut harness);
    assert!(harness.push_event(gst::event::Gap::new(FRAME_DURATION, FRAME_DURATION)));
    let events = events(&mut harness);
    let [event] = &events[..] else { panic!("{events:?}") };
    let gst::EventView::Gap(gap) = event.view() else { panic!("{event:?}") };
    assert_eq!(gap.get(), (FRAME_DURATION, Some(FRAME_DURATION)));
    harness.push(stamped(picture().buffer(&info()), 2)).unwrap();
    for index in [0, 2] {
        let output = harness.pull().unwrap();
        assert_eq!(output.pts(), Some(FRAME_DURATION * index));
        let expected = model.filter(&picture(), &[1.0, 0.0]);
        assert_eq!(picture().read(&info(), output), expected);
    }
    let stats = element.property::<gst::Structure>("stats");
    assert_eq!(stats.get::<u64>("frames"), Ok(2));
}

#[test]
fn the_end_comes_once_after_every_frame() {
    let model = Model::new();
    let play = Play::new(&model, &[("alpha", "0.5")]);
    let seen = Arc::<Mutex<Vec<Option<gst::ClockTime>>>>::default();
    let recorded = Arc::clone(&seen);
    let types = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
    play.sink.static_pad("sink").unwrap().add_probe(types, move |_, probe| {
        if let Some(buffer) = probe.buffer() {
            recorded.lock().unwrap().push(buffer.pts());
        } else if probe.event().is_some_and(|event| event.type_() == gst::EventType::Eos) {
            recorded.lock().unwrap().push(None);
        }
        gst::PadProbeReturn::Ok
    });
    play.set(gst::State::Paused);
    seen.lock().unwrap().clear();
    play.seek(1.0, 0, Some(400));
    play.set(gst::State::Playing);
    assert_eq!(std::iter::from_fn(|| play.next()).count(), 10);
    play.set(gst::State::Null);
    let frames = (0..10).map(|index| Some(FRAME_DURATION * index));
    let expected: Vec<_> = frames.chain([None]).collect();
    let seen = seen.lock().unwrap();
    // The frames before the seek are flushed, but had been here.
    assert_eq!(seen[seen.len().saturating_sub(11)..], expected);
    assert_eq!(seen.iter().filter(|pts| pts.is_none()).count(), 1);
}

#[test]
fn nothing_passes_after_the_end() {
    let model = Model::new();
    let mut harness = model.harness(&model.element(), &info());
    harness.push(stamped(picture().buffer(&info()), 0)).unwrap();
    events(&mut harness);
    assert!(harness.push_event(gst::event::Eos::new()));
    let types: Vec<_> = events(&mut harness).iter().map(|event| event.type_()).collect();
    assert_eq!(types, [gst::EventType::Eos]);
    let pushed = harness.push(stamped(picture().buffer(&info()), 1));
    assert_eq!(pushed, Err(gst::FlowError::Eos));
    assert_eq!(harness.buffers_in_queue(), 1);
}

#[test]
fn it_comes_into_a_playing_pipeline_and_goes() {
    const PART: u64 = 5;
    let model = Model::new();
    let play = Play::new(&model, &[("alpha", "0.5")]);
    let (pipeline, filter) = (play.pipeline.downgrade(), play.filter.clone());
    let (before, sink) = (play.before.downgrade(), play.sink.downgrade());
    let mut count = 0;
    let change = Mutex::new(move || {
        count += 1;
        if count % PART != 1 || count == 1 {
            return;
        }
        let (pipeline, before) = (pipeline.upgrade().unwrap(), before.upgrade().unwrap());
        let sink = sink.upgrade().unwrap();
        if filter.parent().is_some() {
            before.unlink(&filter);
            filter.unlink(&sink);
            pipeline.remove(&filter).unwrap();
            filter.set_state(gst::State::Null).unwrap();
            before.link(&sink).unwrap();
        } else {
            before.unlink(&sink);
            pipeline.add(&filter).unwrap();
            gst::Element::link_many([&before, &filter, sink.upcast_ref()]).unwrap();
            filter.sync_state_with_parent().unwrap();
        }
    });
    let types = gst::PadProbeType::BLOCK | gst::PadProbeType::BUFFER;
    play.before.static_pad("src").unwrap().add_probe(types, move |_, _| {
        (change.lock().unwrap())();
        gst::PadProbeReturn::Pass
    });
    play.set(gst::State::Playing);
    for index in 0..6 * PART {
        let output = play.next().unwrap();
        assert_eq!(output.pts, FRAME_DURATION * index);
        let is_in = (index / PART).is_multiple_of(2);
        output.assert_filtered(&model, if is_in { 0.5 } else { 0.0 });
    }
}

/// Threads of this process that compute frames.
fn workers() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).ok();
    let names = tasks.filter_map(|task| name(task.ok()?));
    names.filter(|name| name.starts_with("tunableconv-")).count()
}

#[test]
fn filters_without_a_number_of_threads_share_a_thread_per_core() {
    let model = Model::new();
    let plays = [(); 4].map(|()| Play::new(&model, &[("threads", "0"), ("alpha", "0.5")]));
    for play in &plays {
        play.set(gst::State::Playing);
        play.next().unwrap();
    }
    // Whoever calls computes too. Threads take their names, and old ones go, a moment later.
    let expected = available_parallelism().map_or(1, NonZero::get) - 1;
    let begin = Instant::now();
    while workers() != expected && begin.elapsed() < PATIENCE {
        std::thread::yield_now();
    }
    assert_eq!(workers(), expected);
}
