//! Frames that would come too late, on a clock that only the engine moves.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::mpsc::channel;

use common::{
    FRAME_DURATION, Model, Picture, messages, random_checkpoint, random_checkpoint_of, stamped,
};
use gst_check::{Harness, TestClock};
use gstreamer as gst;
use gstreamer_check as gst_check;
use gstreamer_video as gst_video;
use gsttunableconv::tunableconvfilter::set_engine;

use gst::prelude::*;
use gst_video::{VideoFormat, VideoInfo};
use tunableconv::Result;
use tunableconv::checkpoint::{Architecture, Checkpoint, Metadata};
use tunableconv::engine::{self, Engine, Options, Precision};
use tunableconv::frame::{Frame, FrameMut};
use tunableconv::nn::EdsrConfig;
use tunableconv::tuning::{Domain, Tuning};

/// An engine for each of whose frames the clock goes on by `cost`.
struct Slow {
    engine: Box<dyn Engine>,
    clock: TestClock,
    /// Of each frame, from the warm-up on.
    cost: Box<dyn FnMut() -> gst::ClockTime + Send>,
}

impl Engine for Slow {
    fn metadata(&self) -> &Metadata {
        self.engine.metadata()
    }

    fn description(&self) -> &str {
        "slow"
    }

    fn precision(&self) -> Precision {
        self.engine.precision()
    }

    fn set_tuning(&mut self, tuning: &Tuning) -> Result<bool> {
        self.engine.set_tuning(tuning)
    }

    fn is_identity(&self) -> bool {
        self.engine.is_identity()
    }

    fn process(&mut self, input: &Frame<'_>, output: &mut FrameMut<'_>) -> Result<()> {
        self.clock.advance_time((self.cost)().nseconds() as gst::ClockTimeDiff);
        self.engine.process(input, output)
    }
}

/// What came out of a live stream.
struct Outcome {
    untouched: Vec<bool>,
    /// Time after the frame was due, 0 if before.
    lateness: Vec<gst::ClockTime>,
    frames: u64,
    overloaded: u64,
    qos: Vec<gst::Message>,
}

/// The element between pads on a clock that only its engine moves; a frame takes `cost`.
struct Live {
    harness: Harness,
    element: gst::Element,
    clock: TestClock,
    bus: gst::Bus,
    picture: Picture,
    info: VideoInfo,
    /// What comes out of a frame that is not filtered.
    untouched: Picture,
    out_info: VideoInfo,
    latency: gst::ClockTime,
    start: gst::ClockTime,
}

impl Live {
    fn new(overload: &str, cost: impl FnMut() -> gst::ClockTime + Send + 'static) -> Self {
        Self::of(random_checkpoint(Domain::Box), overload, cost)
    }

    fn of(
        checkpoint: Checkpoint,
        overload: &str,
        cost: impl FnMut() -> gst::ClockTime + Send + 'static,
    ) -> Self {
        common::init();
        let picture = Picture::random(32, 16);
        let info = picture.info(VideoFormat::I420);
        let scale = checkpoint.metadata.architecture.io().scale;
        let untouched = if scale == 1 { picture.clone() } else { picture.bicubic(scale) };
        let out_info = VideoInfo::builder(VideoFormat::I420, 32 * scale as u32, 16 * scale as u32)
            .fps(info.fps())
            .colorimetry(&info.colorimetry())
            .build()
            .unwrap();
        let element = gst::ElementFactory::make("tunableconvfilter")
            .property("alpha", 1.0)
            .property_from_str("overload", overload)
            .build()
            .unwrap();
        let clock = TestClock::new();
        let engine =
            engine::open(&checkpoint, &Options { precision: Precision::F32, ..Options::default() })
                .unwrap();
        let cost = Box::new(cost);
        set_engine(&element, Box::new(Slow { engine, clock: clock.clone(), cost }));

        let mut harness = Harness::with_element(&element, Some("sink"), Some("src"));
        let bus = gst::Bus::new();
        element.set_bus(Some(&bus));
        element.set_clock(Some(&clock)).unwrap();
        element.set_base_time(gst::ClockTime::ZERO);
        harness.set_caps(info.to_caps().unwrap(), out_info.to_caps().unwrap());
        // Negotiation comes with the first buffer, and the warm-up with it.
        harness.push_and_pull(stamped(picture.buffer(&info), 0)).unwrap();
        let latency = harness.query_latency().unwrap();
        let start = clock.time();
        element.set_base_time(start);
        Self { harness, element, clock, bus, picture, info, untouched, out_info, latency, start }
    }

    /// Sends a frame when it is due, or when the one before is done; whether it comes out as it
    /// went in, and how late.
    fn push(&mut self, index: u64) -> (bool, gst::ClockTime) {
        let due = self.start + FRAME_DURATION * index;
        if self.clock.time() < due {
            self.clock.set_time(due);
        }
        let buffer = stamped(self.picture.buffer(&self.info), index);
        let output = self.harness.push_and_pull(buffer).unwrap();
        let untouched = self.untouched.read(&self.out_info, output) == self.untouched;
        (untouched, self.clock.time().saturating_sub(due + self.latency))
    }

    fn count(&self, name: &str) -> u64 {
        self.element.property::<gst::Structure>("stats").get(name).unwrap()
    }
}

/// Plays frames through an engine that takes `cost` for each; a frame that comes while another is
/// filtered waits.
fn play(overload: &str, cost: gst::ClockTime, count: u64) -> Outcome {
    play_live(Live::new(overload, move || cost), count)
}

fn play_live(mut live: Live, count: u64) -> Outcome {
    let before = ["frames", "overloaded"].map(|name| live.count(name));
    let (untouched, lateness) = (0..count).map(|index| live.push(index)).unzip();
    let [frames, overloaded] = ["frames", "overloaded"].map(|name| live.count(name));
    let qos = messages(&live.bus, &[gst::MessageType::Qos]);
    let (frames, overloaded) = (frames - before[0], overloaded - before[1]);
    Outcome { untouched, lateness, frames, overloaded, qos }
}

fn ms(ms: u64) -> gst::ClockTime {
    gst::ClockTime::from_mseconds(ms)
}

#[test]
fn passthrough_delivers_every_frame_in_time_and_counts_those_untouched() {
    let outcome = play("passthrough", ms(100), 200);
    assert_eq!(outcome.lateness.iter().max(), Some(&gst::ClockTime::ZERO));
    let untouched = outcome.untouched.iter().filter(|&&untouched| untouched).count() as u64;
    assert!(untouched > 150, "{untouched}");
    assert_eq!((outcome.frames, outcome.overloaded), (200 - untouched, untouched));
    // Seldom from one to the other.
    let changes = outcome.untouched.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(changes < 20, "{changes}");

    assert_eq!(outcome.qos.len() as u64, untouched);
    let gst::MessageView::Qos(last) = outcome.qos.last().unwrap().view() else { unreachable!() };
    let (processed, dropped) = last.stats();
    let count = |count| gst::GenericFormattedValue::from(gst::format::Default::from_u64(count));
    assert_eq!(dropped, count(untouched));
    // The first frame of all was before the counts.
    assert_eq!(processed, count(200 - untouched + 1));
    assert!(last.values().1 > 2.0, "a frame takes 100 ms of 40");
}

#[test]
fn larger_frames_that_would_be_late_are_bicubic() {
    let config = EdsrConfig { channels: 8, blocks: 1, scale: 2, ..Default::default() };
    let checkpoint = random_checkpoint_of(Architecture::Edsr(config), Domain::Box);
    let outcome = play_live(Live::of(checkpoint, "passthrough", || ms(100)), 40);
    assert_eq!(outcome.lateness.iter().max(), Some(&gst::ClockTime::ZERO));
    let untouched = outcome.untouched.iter().filter(|&&untouched| untouched).count() as u64;
    assert!(untouched > 20, "{untouched}");
    assert_eq!((outcome.frames, outcome.overloaded), (40 - untouched, untouched));
}

#[test]
fn an_engine_that_keeps_up_filters_every_frame() {
    let outcome = play("passthrough", ms(30), 200);
    assert_eq!(outcome.lateness.iter().max(), Some(&gst::ClockTime::ZERO));
    assert_eq!((outcome.frames, outcome.overloaded, outcome.qos.len()), (200, 0, 0));
}

#[test]
fn wait_filters_every_frame_however_late() {
    let outcome = play("wait", ms(100), 50);
    assert!(outcome.untouched.iter().all(|&untouched| !untouched));
    assert_eq!((outcome.frames, outcome.overloaded, outcome.qos.len()), (50, 0, 0));
    assert!(*outcome.lateness.last().unwrap() > gst::ClockTime::SECOND);
}

/// Ten milliseconds, but 150 for one frame. A pipeline that has so much latency that the frames
/// after it are in time is not disturbed.
#[test]
fn deadlines_are_those_of_the_whole_pipeline() {
    for (pipeline_latency, is_disturbed) in [(None, true), (Some(ms(500)), false)] {
        let mut frames = 0;
        let mut live = Live::new("passthrough", move || {
            frames += 1;
            ms(if frames == 20 { 150 } else { 10 })
        });
        if let Some(latency) = pipeline_latency {
            assert!(live.harness.push_upstream_event(gst::event::Latency::new(latency)));
        }
        let untouched = (0..40).filter(|&index| live.push(index).0).count();
        assert_eq!(untouched > 0, is_disturbed, "{pipeline_latency:?}: {untouched}");
    }
}

/// The first takes 100 s on its clock, the other some milliseconds.
#[test]
fn an_engine_that_is_chosen_before_the_first_frame_is_the_one_that_is_timed() {
    let model = Model::new();
    let element = model.element();
    let clock = TestClock::new();
    let options = Options { precision: Precision::F32, ..Options::default() };
    let engine = engine::open(&model.checkpoint, &options).unwrap();
    let cost = Box::new(|| gst::ClockTime::from_seconds(100));
    set_engine(&element, Box::new(Slow { engine, clock: clock.clone(), cost }));
    element.set_clock(Some(&clock)).unwrap();
    let (sender, notified) = channel();
    element.connect_notify(Some("stats"), move |_, _| {
        let _ = sender.send(());
    });
    let mut harness = Harness::with_element(&element, Some("sink"), Some("src"));
    element.set_property("threads", 1u32);
    notified.recv().unwrap();
    let picture = Picture::random(32, 16);
    let info = picture.info(VideoFormat::I420);
    let caps = info.to_caps().unwrap();
    harness.set_caps(caps.clone(), caps);
    harness.push_and_pull(stamped(picture.buffer(&info), 0)).unwrap();
    assert!(harness.query_latency() < Some(gst::ClockTime::from_seconds(100)));
}

/// What a sink says of the frame that it has last seen.
fn qos(index: u64, late: gst::ClockTimeDiff) -> gst::Event {
    let time = FRAME_DURATION * index;
    gst::event::Qos::builder(gst::QOSType::Underflow, 1.0, late).timestamp(time).build()
}

/// Whether the next upstream event is of this kind.
fn is_told_upstream(harness: &mut Harness) -> bool {
    let mut is_told = false;
    while let Some(event) = harness.try_pull_upstream_event() {
        is_told |= event.type_() == gst::EventType::Qos;
    }
    is_told
}

#[test]
fn a_sink_that_wants_fewer_frames_gets_filtered_ones() {
    let mut live = Live::new("auto", || ms(10));
    for index in 0..20 {
        assert!(!live.push(index).0, "{index}");
        is_told_upstream(&mut live.harness);
        let time = FRAME_DURATION * index;
        let throttle = gst::event::Qos::builder(gst::QOSType::Throttle, 0.4, 100_000_000);
        live.harness.push_upstream_event(throttle.timestamp(time).build());
        assert!(is_told_upstream(&mut live.harness), "{index}");
    }
}

/// 50 ms are more than a frame of 40 has, and less than one that is shown for 80.
#[test]
fn at_half_the_rate_frames_may_take_twice_as_long() {
    let mut live = Live::new("auto", || ms(50));
    let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
    segment.set_rate(0.5);
    assert!(live.harness.push_event(gst::event::Segment::new(&segment)));
    assert!((0..5).all(|index| !live.push(index).0));
    // Of the frame that was shown at 320 ms.
    live.harness.push_upstream_event(qos(8, 100_000_000));
    assert!(live.push(5).0);
    let untouched: Vec<bool> = (6..40).map(|index| live.push(index).0).collect();
    let back = untouched.iter().position(|untouched| !untouched).unwrap();
    assert!(untouched[back..].iter().all(|untouched| !untouched), "{untouched:?}");
}

#[test]
fn a_sink_that_drops_frames_is_sent_untouched_ones_but_by_wait() {
    const LATE: gst::ClockTimeDiff = 100_000_000;
    for (overload, yields) in [("auto", true), ("passthrough", true), ("wait", false)] {
        let mut live = Live::new(overload, || ms(10));
        assert!((0..5).all(|index| !live.push(index).0), "{overload}");
        is_told_upstream(&mut live.harness);
        // A little late is shown all the same.
        live.harness.push_upstream_event(qos(4, 3_000_000));
        assert!(!live.push(5).0, "{overload}");
        assert!(is_told_upstream(&mut live.harness));

        live.harness.push_upstream_event(qos(5, LATE));
        assert_eq!(is_told_upstream(&mut live.harness), !yields, "{overload}");
        assert_eq!(live.push(6).0, yields, "{overload}");
        // Those before were late without the filter.
        live.harness.push_upstream_event(qos(6, LATE));
        assert!(is_told_upstream(&mut live.harness), "{overload}");
        // It comes back.
        let back = (7..100).find(|&index| {
            live.harness.push_upstream_event(qos(index - 1, -1_000_000));
            !live.push(index).0
        });
        assert!(back.is_some(), "{overload}");
    }
}
