//! A pipeline that goes through anything.
//!
//! ```text
//! source [→ tee → queue → sink] → before → filter → after [→ tee → queue → sink] → sink
//! ```
//!
//! `before` and `after` are queues or nothing much, and stay where they are when the filter between
//! them is taken out.

use gst::prelude::*;
use gstreamer as gst;

use super::common::source::Source;
use super::common::{Model, Random};
use super::guard::Guard;
use super::knobs::{Ticker, Writers};
use super::parts::{FRAMES_ON_THE_WAY, Flowing, branch, make, new_sink, random_caps, watch};
use super::{below, pick};

/// Every kind of step, and how often it is taken among those that are possible.
pub const WEIGHTS: [(&str, usize); 19] = [
    ("frames", 8),
    ("state", 6),
    ("seek", 4),
    ("gentle seek", 2),
    ("flush", 2),
    ("flush and seek", 1),
    ("caps", 3),
    ("take out", 2),
    ("put in", 6),
    ("relink", 3),
    ("end", 1),
    ("gap", 2),
    ("keyframes", 3),
    ("half keyframes", 1),
    ("wrong keyframes", 1),
    ("latency", 2),
    ("lateness", 2),
    ("offset", 1),
    ("reconfigure", 1),
];

const STATES: [gst::State; 4] =
    [gst::State::Null, gst::State::Ready, gst::State::Paused, gst::State::Playing];

const KEYFRAMES: [&str; 4] = [
    "",
    "alpha=0s:0,1s:1,2s:0",
    "alpha(step)=0s:0,500ms:1,600ms:0;beta=1s:0,10s:0.5",
    "beta(cubic)=0s:0,1s:1,3s:0.5",
];

pub struct Stage {
    name: String,
    pipeline: gst::Pipeline,
    bus: gst::Bus,
    source: Source,
    before: gst::Element,
    filter: gst::Element,
    is_in: bool,
    after: gst::Element,
    /// What leads to the sink, and the sink.
    link: gst::Pad,
    sink: gst::Element,
    flowing: Flowing,
    model_path: String,
    is_live: bool,
    is_synced: bool,
    /// The state last asked for.
    target: gst::State,
    /// Whether the stream may end by itself.
    is_limited: bool,
    /// Whether something is new that frames have not passed yet.
    is_changing: bool,
    ticker: Ticker,
    guard: Guard,
}

impl Stage {
    pub fn new(
        model: &Model,
        index: usize,
        random: &mut Random,
        writers: &Writers,
        guard: &Guard,
    ) -> Self {
        let is_live = below(random, 2) == 0;
        let is_synced = below(random, 2) == 0;
        let tee_at = below(random, 4);
        let mut between = || make(pick(random, &["queue", "identity"]));
        let (before, after) = (between(), between());
        let name = format!("stage{index}");
        guard.enter(format!(
            "{name}: new, live={is_live} sync={is_synced} tee={tee_at} before={} after={}",
            before.name(),
            after.name()
        ));
        let pipeline = gst::Pipeline::with_name(&name);
        guard.add(&pipeline);
        let source = Source::new(is_live, &random_caps(random));
        let filter = model.element();
        filter.set_property("threads", below(random, 3) as u32);
        let sink = new_sink(is_synced, random);
        pipeline.add_many([source.upcast_ref(), &before, &filter, &after, &sink]).unwrap();
        gst::Element::link_many([&before, &filter, &after]).unwrap();
        // A second sink on a tee before or after the filter, where there is one.
        let start = branch(&pipeline, source.upcast_ref(), tee_at == 0, is_synced, random);
        start.link(&before.static_pad("sink").unwrap()).unwrap();
        let link = branch(&pipeline, &after, tee_at == 1, is_synced, random);
        link.link(&sink.static_pad("sink").unwrap()).unwrap();

        let ticker = writers.ticker();
        ticker.add(&filter);
        let flowing = Flowing::default();
        watch(&after.static_pad("sink").unwrap(), &flowing, &ticker);
        Self {
            name,
            bus: pipeline.bus().unwrap(),
            pipeline,
            source,
            before,
            filter,
            is_in: true,
            after,
            link,
            sink,
            flowing,
            model_path: model.path().into(),
            is_live,
            is_synced,
            target: gst::State::Null,
            is_limited: false,
            is_changing: false,
            ticker,
            guard: guard.clone(),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Takes a random step, and returns its name.
    pub fn step(&mut self, random: &mut Random, number: usize) -> &'static str {
        let possible: Vec<_> = WEIGHTS.into_iter().filter(|&(step, _)| self.can(step)).collect();
        let mut at = below(random, possible.iter().map(|(_, weight)| weight).sum());
        let (step, _) = *possible
            .iter()
            .find(|(_, weight)| {
                let is_here = at < *weight;
                at = at.wrapping_sub(*weight);
                is_here
            })
            .unwrap();
        let number = format!("{number}: {} {:?}: {step}", self.name, self.target);
        self.is_changing |=
            matches!(step, "caps" | "take out" | "put in" | "relink" | "offset" | "reconfigure")
                && self.target >= gst::State::Paused;
        let enter = |what: String| self.guard.enter(format!("{number} {what}"));
        match step {
            "frames" => {
                let frames = 1 + below(random, 4) as u64;
                enter(frames.to_string());
                self.settle();
                self.flowing.wait_for(frames);
            }
            "state" => {
                let state = pick(random, &STATES);
                let waits = below(random, 3) > 0;
                enter(format!("{state:?}, waits={waits}"));
                // Two changes up at once may leave the pipeline waiting though no element does.
                if self.target.min(state) >= gst::State::Paused {
                    self.settle();
                }
                self.set_state(state);
                if waits {
                    self.settle();
                }
            }
            "seek" | "gentle seek" | "flush and seek" => {
                let is_gentle = step == "gentle seek";
                let rates: &[f64] =
                    if is_gentle { &[1.0, 2.0, 0.5] } else { &[1.0, 2.0, 0.5, -1.0] };
                let rate = pick(random, rates);
                let start = gst::ClockTime::from_useconds(below(random, 5_000_000) as u64);
                let has_stop = !is_gentle && (rate < 0.0 || below(random, 4) == 0);
                let length = gst::ClockTime::from_useconds(below(random, 5_000_000) as u64 + 1);
                let stop = has_stop.then_some(start + length);
                enter(format!("rate {rate} from {start} to {stop:?}"));
                self.settle();
                if !is_gentle {
                    self.wait_for_change();
                }
                self.is_limited = has_stop;
                if step == "flush and seek" {
                    let pad = self.filter.static_pad("sink").unwrap();
                    self.while_blocked(&self.before, || {
                        pad.send_event(gst::event::FlushStart::new());
                        pad.send_event(gst::event::FlushStop::new(true));
                        self.seek(is_gentle, rate, start, stop);
                    });
                } else {
                    self.seek(is_gentle, rate, start, stop);
                }
            }
            "flush" => {
                enter(String::new());
                self.settle();
                self.wait_for_change();
                let pad = self.filter.static_pad("sink").unwrap();
                self.while_blocked(&self.before, || {
                    let segment = pad.sticky_event::<gst::event::Segment>(0);
                    pad.send_event(gst::event::FlushStart::new());
                    pad.send_event(gst::event::FlushStop::new(false));
                    if let Some(segment) = segment {
                        pad.send_event(segment.to_owned());
                    }
                });
            }
            "caps" => {
                let caps = random_caps(random);
                enter(caps.to_string());
                self.source.set_next_caps(&caps);
            }
            "take out" => {
                enter(String::new());
                self.settle();
                self.take_out();
            }
            "put in" => {
                let is_new = below(random, 2) == 0;
                enter(format!("new={is_new}"));
                self.settle();
                self.put_in(is_new);
            }
            "relink" => {
                let sink = new_sink(self.is_synced, random);
                // One that came late and then loses its frame to a flush would wait for a state that
                // its pipeline thinks it has.
                sink.set_property("async", false);
                enter(String::new());
                self.settle();
                self.relink(sink);
            }
            "end" => {
                enter(String::new());
                self.settle();
                self.finish();
            }
            "gap" => {
                enter(String::new());
                self.settle();
                // Sinks are then ready to pause, which is too early while the source still negotiates.
                self.flowing.wait_for(1);
                let pad = self.filter.static_pad("sink").unwrap();
                self.while_blocked(&self.before, || {
                    let pts = self.flowing.last_pts();
                    if let Some(pts) = pts.filter(|_| pad.has_current_caps()) {
                        pad.send_event(gst::event::Gap::new(pts, gst::ClockTime::from_mseconds(1)));
                    }
                });
            }
            "keyframes" => {
                let keyframes = pick(random, &KEYFRAMES);
                enter(keyframes.into());
                self.filter.set_property("keyframes", keyframes);
            }
            "half keyframes" => {
                let keyframes = self.filter.property::<String>("keyframes");
                enter(keyframes.clone());
                self.filter.set_property("keyframes", "alpha=0s:");
                self.filter.set_property("keyframes", keyframes);
                self.check_messages_but(|message| match message.view() {
                    gst::MessageView::Warning(warning) => {
                        warning.error().to_string().contains("keyframes: `0s:`: expected")
                    }
                    _ => false,
                });
            }
            "wrong keyframes" => {
                enter(String::new());
                self.fail_to_start();
            }
            "latency" => {
                enter(String::new());
                let mut query = gst::query::Latency::new();
                self.pipeline.query(&mut query);
                let _ = self.pipeline.recalculate_latency();
                self.pipeline.query_position::<gst::ClockTime>();
            }
            "lateness" => {
                let jitter = below(random, 100) as i64 * 1_000_000 - 50_000_000;
                enter(jitter.to_string());
                let time = gst::ClockTime::from_mseconds(50 + below(random, 1000) as u64);
                let event = gst::event::Qos::builder(gst::QOSType::Underflow, 1.0, jitter);
                let pad = self.filter.static_pad("src").unwrap();
                pad.send_event(event.timestamp(time).build());
            }
            "offset" => {
                let offset = pick(random, &[0, 1_000_000, -1_000_000]);
                enter(offset.to_string());
                self.before.static_pad("src").unwrap().set_offset(offset);
            }
            "reconfigure" => {
                enter(String::new());
                let pad = self.filter.static_pad("src").unwrap();
                pad.send_event(gst::event::Reconfigure::new());
            }
            _ => unreachable!("a step without its deed: {step}"),
        }
        step
    }

    /// Whether a step makes sense now.
    fn can(&self, step: &str) -> bool {
        let is_running = self.target == gst::State::Playing && !self.flowing.has_ended();
        match step {
            "state" | "caps" | "latency" | "keyframes" | "half keyframes" => true,
            "seek" if self.is_live => false,
            "seek" => is_running || self.target >= gst::State::Paused && !self.is_changing,
            "flush and seek" => is_running && self.is_in && !self.is_live,
            // What waits for a segment's end is not sought without a flush.
            "gentle seek" => is_running && !self.is_limited && !self.is_live,
            "end" => is_running && !self.is_limited,
            "frames" => is_running,
            // Where time is set back by a seek, a sink that came later may wait for the old time.
            "relink" => is_running && (self.is_live || !self.is_synced),
            "flush" | "take out" | "gap" => is_running && self.is_in,
            "put in" => is_running && !self.is_in,
            "wrong keyframes" => self.target <= gst::State::Ready && self.is_in,
            _ => self.is_in,
        }
    }

    /// No error comes that no step explains.
    pub fn check_messages(&self) {
        self.check_messages_but(|_| false);
    }

    /// No error comes but those that the step explains.
    fn check_messages_but(&self, is_explained: impl Fn(&gst::Message) -> bool) {
        let mut is_latency_new = false;
        while let Some(message) = self.bus.pop() {
            if is_explained(&message) {
                continue;
            }
            match message.view() {
                gst::MessageView::Error(error) => self.guard.fail(&format!("{error:?}")),
                gst::MessageView::Warning(warning)
                    if message.src() == Some(self.filter.upcast_ref()) =>
                {
                    self.guard.fail(&format!("{warning:?}"));
                }
                gst::MessageView::Latency(_) => is_latency_new = true,
                _ => {}
            }
        }
        if is_latency_new {
            let _ = self.pipeline.recalculate_latency();
        }
    }

    pub fn end(mut self) {
        self.set_state(gst::State::Null);
        self.ticker.remove(&self.filter);
        // Messages hold the element, and it the bus.
        self.bus.set_flushing(true);
    }

    fn set_state(&mut self, state: gst::State) {
        self.check_messages();
        // A live `GstBaseSrc` that negotiates can't be paused: it waits, locked, for an answer which
        // comes after the frames that paused sinks keep.
        if self.is_live && self.target == gst::State::Playing && state < self.target {
            self.wait_for_change();
        }
        // One that waits for the clock when it is paused ends its task, and where it is set to play again
        // before it has, for good: it is paused while a frame of its is on the way.
        let mut is_set = false;
        if self.is_live && self.target == gst::State::Playing && state == gst::State::Paused {
            // Events may be pushed locked; a buffer is not.
            let pad = self.source.static_pad("src").unwrap();
            let at = gst::PadProbeType::BLOCK | gst::PadProbeType::BUFFER;
            self.while_pad_blocked(&pad, at, || {
                self.set_state_now(state);
                is_set = true;
            });
        }
        if !is_set {
            self.set_state_now(state);
        }
        self.target = state;
        if state <= gst::State::Ready {
            self.flowing.change(|flow| flow.has_ended = false);
            self.is_limited = false;
            self.is_changing = false;
        }
    }

    fn set_state_now(&self, state: gst::State) {
        if let Err(error) = self.pipeline.set_state(state) {
            self.check_messages();
            self.guard.fail(&format!("{state:?}: {error}"));
        }
        if state <= gst::State::Ready {
            // Sinks stop first, and whoever asks one for caps meanwhile takes it for a refusal.
            self.check_messages_but(|message| match message.view() {
                gst::MessageView::Error(error) => {
                    message.src() != Some(self.filter.upcast_ref())
                        && error.debug().is_some_and(|text| text.contains("streaming stopped"))
                }
                gst::MessageView::Warning(warning) => {
                    warning.debug().is_some_and(|text| text.ends_with("not negotiated"))
                }
                _ => false,
            });
        }
    }

    /// Waits until the pipeline is in the state that was asked for.
    fn settle(&self) {
        let (result, state, _) = self.pipeline.state(gst::ClockTime::NONE);
        if result.is_err() || state != self.target {
            self.check_messages();
            self.guard.fail(&format!("{result:?} in {state:?}"));
        }
    }

    /// Waits until frames have passed what is new. A flush meanwhile would make the refusals of
    /// flushing pads look like those of elements, and end the stream with an error.
    fn wait_for_change(&mut self) {
        if self.is_changing {
            self.flowing.wait_for(FRAMES_ON_THE_WAY);
            self.is_changing = false;
        }
    }

    /// Does something while nothing passes the source pad of an element, unless the stream has
    /// ended.
    fn while_blocked(&self, element: &gst::Element, work: impl FnOnce()) {
        let pad = element.static_pad("src").unwrap();
        self.while_pad_blocked(&pad, gst::PadProbeType::BLOCK_DOWNSTREAM, work);
    }

    fn while_pad_blocked(&self, pad: &gst::Pad, at: gst::PadProbeType, work: impl FnOnce()) {
        // Not when the pad is idle: it may be so between the events that go before a buffer and the
        // buffer.
        let (flowing, block) = (self.flowing.clone(), self.flowing.new_block());
        let probe = pad.add_probe(at, move |_, _| {
            flowing.change(|flow| flow.last_block = block);
            gst::PadProbeReturn::Ok
        });
        if self.flowing.wait_for_block(block) {
            work();
        }
        pad.remove_probe(probe.unwrap());
    }

    fn seek(
        &self,
        is_gentle: bool,
        rate: f64,
        start: gst::ClockTime,
        stop: Option<gst::ClockTime>,
    ) {
        let flags = if is_gentle { gst::SeekFlags::empty() } else { gst::SeekFlags::FLUSH };
        if !is_gentle {
            self.flowing.change(|flow| flow.has_ended = false);
        }
        let set = gst::SeekType::Set;
        let sought = self.pipeline.seek(rate, flags, set, start, set, stop);
        if let Err(error) = sought {
            self.check_messages();
            self.guard.fail(&error.to_string());
        }
    }

    fn take_out(&mut self) {
        let Self { pipeline, before, filter, after, .. } = &*self;
        let mut is_in = true;
        self.while_blocked(before, || {
            before.unlink(filter);
            filter.unlink(after);
            pipeline.remove(filter).unwrap();
            filter.set_state(gst::State::Null).unwrap();
            before.link(after).unwrap();
            is_in = false;
        });
        self.is_in = is_in;
    }

    fn put_in(&mut self, is_new: bool) {
        if is_new {
            self.ticker.remove(&self.filter);
            self.filter = gst::ElementFactory::make("tunableconvfilter")
                .property("model", &self.model_path)
                .property_from_str("device", "cpu")
                .property_from_str("precision", "f32")
                .build()
                .unwrap();
            self.ticker.add(&self.filter);
        }
        let Self { pipeline, before, filter, after, .. } = &*self;
        let mut is_in = false;
        self.while_blocked(before, || {
            before.unlink(after);
            pipeline.add(filter).unwrap();
            gst::Element::link_many([before, filter, after]).unwrap();
            filter.sync_state_with_parent().unwrap();
            is_in = true;
        });
        self.is_in = is_in;
    }

    fn relink(&mut self, sink: gst::Element) {
        let mut is_new = false;
        self.while_pad_blocked(&self.link, gst::PadProbeType::BLOCK_DOWNSTREAM, || {
            self.link.unlink(&self.sink.static_pad("sink").unwrap()).unwrap();
            self.pipeline.remove(&self.sink).unwrap();
            self.sink.set_state(gst::State::Null).unwrap();
            self.pipeline.add(&sink).unwrap();
            self.link.link(&sink.static_pad("sink").unwrap()).unwrap();
            sink.sync_state_with_parent().unwrap();
            is_new = true;
        });
        if is_new {
            self.sink = sink;
        }
    }

    /// Ends the stream from the source on, and waits for the end of the pipeline.
    fn finish(&self) {
        self.check_messages();
        assert!(self.pipeline.send_event(gst::event::Eos::new()));
        let types = [gst::MessageType::Eos, gst::MessageType::Error];
        let message = self.bus.timed_pop_filtered(gst::ClockTime::NONE, &types).unwrap();
        if message.type_() == gst::MessageType::Error {
            self.guard.fail(&format!("{message:?}"));
        }
        assert!(self.flowing.has_ended());
    }

    /// Keyframes that nobody can read are one error.
    fn fail_to_start(&mut self) {
        self.check_messages();
        let keyframes = self.filter.property::<String>("keyframes");
        self.filter.set_property("keyframes", "alpha=soon:1");
        assert!(self.pipeline.set_state(gst::State::Paused).is_err());
        let errors = std::iter::from_fn(|| self.bus.pop_filtered(&[gst::MessageType::Error]));
        let errors: Vec<_> = errors.collect();
        let sources: Vec<_> = errors.iter().map(|error| error.src()).collect();
        assert_eq!(sources, [Some(self.filter.upcast_ref())], "{errors:?}");
        self.set_state(gst::State::Null);
        self.filter.set_property("keyframes", keyframes);
    }
}
