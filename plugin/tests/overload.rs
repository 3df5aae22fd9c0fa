//! Frames that would come too late, on a clock that only the engine moves.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{FRAME_DURATION, Picture, messages, random_checkpoint, stamped};
use gst_check::{Harness, TestClock};
use gstreamer as gst;
use gstreamer_check as gst_check;
use gstreamer_video as gst_video;
use gsttunableconv::tunableconvfilter::set_engine;

use gst::prelude::*;
use gst_video::VideoFormat;
use tunableconv::Result;
use tunableconv::checkpoint::Metadata;
use tunableconv::engine::{self, Engine, Options, Precision};
use tunableconv::frame::{Frame, FrameMut};
use tunableconv::tuning::{Domain, Tuning};

/// An engine for each of whose frames the clock goes on by `cost`.
struct Slow {
    engine: Box<dyn Engine>,
    clock: TestClock,
    cost: gst::ClockTime,
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
        self.clock.advance_time(self.cost.nseconds() as gst::ClockTimeDiff);
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

/// Plays frames through an engine that takes `cost` for each; a frame that comes while another is
/// filtered waits.
fn play(overload: &str, cost: gst::ClockTime, count: u64) -> Outcome {
    common::init();
    let picture = Picture::random(32, 16);
    let info = picture.info(VideoFormat::I420);
    let element = gst::ElementFactory::make("tunableconvfilter")
        .property("alpha", 1.0)
        .property_from_str("overload", overload)
        .build()
        .unwrap();
    let clock = TestClock::new();
    let checkpoint = random_checkpoint(Domain::Box);
    let engine =
        engine::open(&checkpoint, &Options { precision: Precision::F32, ..Options::default() })
            .unwrap();
    set_engine(&element, Box::new(Slow { engine, clock: clock.clone(), cost }));

    let mut harness = Harness::with_element(&element, Some("sink"), Some("src"));
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    element.set_clock(Some(&clock)).unwrap();
    element.set_base_time(gst::ClockTime::ZERO);
    let caps = info.to_caps().unwrap();
    harness.set_caps(caps.clone(), caps);
    // Negotiation comes with the first buffer, and the warm-up with it.
    harness.push_and_pull(stamped(picture.buffer(&info), 0)).unwrap();
    let latency = harness.query_latency().unwrap();
    let start = clock.time();
    element.set_base_time(start);
    let before = element.property::<gst::Structure>("stats");

    let (mut untouched, mut lateness) = (vec![], vec![]);
    for index in 0..count {
        let due = start + FRAME_DURATION * index;
        if clock.time() < due {
            clock.set_time(due);
        }
        let output = harness.push_and_pull(stamped(picture.buffer(&info), index)).unwrap();
        untouched.push(picture.read(&info, output) == picture);
        lateness.push(clock.time().saturating_sub(due + latency));
    }
    let after = element.property::<gst::Structure>("stats");
    let counted = |name: &str| after.get::<u64>(name).unwrap() - before.get::<u64>(name).unwrap();
    let (frames, overloaded) = (counted("frames"), counted("overloaded"));
    let qos = messages(&bus, &[gst::MessageType::Qos]);
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
