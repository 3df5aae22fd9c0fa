//! What stages are made of.

use std::sync::{Arc, Condvar, Mutex};

use gst::prelude::*;
use gst_video::VideoInfo;
use gstreamer as gst;
use gstreamer_video as gst_video;

use super::common::Random;
use super::knobs::Ticker;
use super::{below, pick};

const FORMATS: [&str; 12] = [
    "I420",
    "NV12",
    "YV12",
    "GRAY8",
    "Y444",
    "RGBA",
    "I420_10LE",
    "P010_10LE",
    "YUY2",
    "UYVY",
    "v210",
    "Y42B",
];

/// Of frames whose fields have whole rows of chroma.
const MODES: [&str; 3] = ["progressive", "mixed", "interleaved"];

const SIZES: [(i32, i32); 4] = [(48, 32), (32, 48), (17, 9), (64, 36)];

/// High, so that nothing waits long for a clock.
const RATES: [i32; 3] = [250, 500, 1000];

/// What has come out of the filter, or out of `before` where it is taken out.
#[derive(Default)]
pub struct Flow {
    pub frames: u64,
    /// Running time does not matter here, the frame's own does.
    pub last_pts: Option<gst::ClockTime>,
    /// Until someone who starts the stream anew takes it back.
    pub has_ended: bool,
    /// Number of the last time that a pad was blocked, to do something meanwhile; a probe may still
    /// be called after its removal.
    pub last_block: u64,
    blocks: u64,
}

#[derive(Clone, Default)]
pub struct Flowing(Arc<(Mutex<Flow>, Condvar)>);

impl Flowing {
    pub fn change(&self, change: impl FnOnce(&mut Flow)) {
        change(&mut self.0.0.lock().unwrap());
        self.0.1.notify_all();
    }

    pub fn last_pts(&self) -> Option<gst::ClockTime> {
        self.0.0.lock().unwrap().last_pts
    }

    pub fn has_ended(&self) -> bool {
        self.0.0.lock().unwrap().has_ended
    }

    /// Waits for so many frames more, or the end.
    pub fn wait_for(&self, frames: u64) {
        let flow = self.0.0.lock().unwrap();
        let enough = flow.frames + frames;
        let waiting = |flow: &mut Flow| flow.frames < enough && !flow.has_ended;
        drop(self.0.1.wait_while(flow, waiting).unwrap());
    }

    /// Number of a time that a pad will be blocked.
    pub fn new_block(&self) -> u64 {
        let mut flow = self.0.0.lock().unwrap();
        flow.blocks += 1;
        flow.blocks
    }

    /// Waits until a pad is blocked for this time, and returns true, or the stream has ended.
    pub fn wait_for_block(&self, block: u64) -> bool {
        let flow = self.0.0.lock().unwrap();
        let waiting = |flow: &mut Flow| flow.last_block != block && !flow.has_ended;
        !self.0.1.wait_while(flow, waiting).unwrap().has_ended
    }
}

/// More than all queues between source and sink hold.
pub const FRAMES_ON_THE_WAY: u64 = 12;

pub fn make(factory: &str) -> gst::Element {
    let element = gst::ElementFactory::make(factory).build().unwrap();
    if factory == "queue" {
        element.set_property("max-size-buffers", 2u32);
    }
    element
}

pub fn random_caps(random: &mut Random) -> gst::Caps {
    let (width, height) = pick(random, &SIZES);
    let mode = if height % 4 == 0 { pick(random, &MODES) } else { MODES[0] };
    gst::Caps::builder("video/x-raw")
        .field("format", pick(random, &FORMATS))
        .field("width", width)
        .field("height", height)
        .field("interlace-mode", mode)
        .field("framerate", gst::Fraction::new(pick(random, &RATES), 1))
        .build()
}

/// A sink, which may want memory of its own kind.
pub fn new_sink(is_synced: bool, random: &mut Random) -> gst::Element {
    let kind = below(random, 4);
    let sink = make(if kind == 0 { "appsink" } else { "fakesink" });
    sink.set_property("sync", is_synced);
    if kind == 0 {
        sink.set_property("max-buffers", 1u32);
        sink.set_property("drop", true);
        // Nobody pulls its frames.
        sink.set_property("wait-on-eos", false);
    }
    if kind > 1 {
        let pad = sink.static_pad("sink").unwrap();
        pad.add_probe(gst::PadProbeType::QUERY_DOWNSTREAM, move |_, info| {
            let Some(gst::QueryViewMut::Allocation(query)) = info.query_mut().map(|q| q.view_mut())
            else {
                return gst::PadProbeReturn::Ok;
            };
            match kind {
                2 => propose_padding(query),
                _ => propose_pool(query),
            }
            gst::PadProbeReturn::Handled
        });
    }
    sink
}

fn propose_padding(query: &mut gst::query::Allocation) {
    query.add_allocation_meta::<gst_video::VideoMeta>(None);
    let params = gst::AllocationParams::new(gst::MemoryFlags::empty(), 63, 16, 16);
    query.add_allocation_param(None::<&gst::Allocator>, params);
}

fn propose_pool(query: &mut gst::query::Allocation) {
    let (caps, wants_pool) = query.get_owned();
    let Some(info) = caps.as_ref().and_then(|caps| VideoInfo::from_caps(caps).ok()) else { return };
    let pool = wants_pool.then(|| {
        let pool = gst_video::VideoBufferPool::new();
        let mut config = pool.config();
        config.set_params(caps.as_ref(), info.size() as u32, 3, 0);
        pool.set_config(config).unwrap();
        pool
    });
    query.add_allocation_pool(pool.as_ref(), info.size() as u32, 3, 0);
}

/// The pad that leads on from an element, on a tee whose other pad leads to a sink of its own if
/// asked for.
pub fn branch(
    pipeline: &gst::Pipeline,
    element: &gst::Element,
    has_tee: bool,
    is_synced: bool,
    random: &mut Random,
) -> gst::Pad {
    if !has_tee {
        return element.static_pad("src").unwrap();
    }
    let (tee, sink) = (make("tee"), new_sink(is_synced, random));
    // Before all sinks have a first frame, a queue that has one would keep the query until then, and
    // with it the frames of the other.
    let types = gst::PadProbeType::QUERY_DOWNSTREAM;
    tee.static_pad("sink").unwrap().add_probe(types, |_, info| {
        let is_allocation = info.query().is_some_and(|q| q.type_() == gst::QueryType::Allocation);
        if is_allocation { gst::PadProbeReturn::Drop } else { gst::PadProbeReturn::Ok }
    });
    let queues = [make("queue"), make("queue")];
    // Neither branch waits for the other: a full queue would keep frames from a paused sink that has
    // none.
    queues[1].set_property_from_str("leaky", "downstream");
    sink.set_property("async", false);
    pipeline.add_many([&tee, &queues[0], &queues[1], &sink]).unwrap();
    element.link(&tee).unwrap();
    tee.link(&queues[0]).unwrap();
    tee.link(&queues[1]).unwrap();
    queues[1].link(&sink).unwrap();
    queues[0].static_pad("src").unwrap()
}

/// Counts what passes a pad.
pub fn watch(pad: &gst::Pad, flowing: &Flowing, ticker: &Ticker) {
    let (flowing, ticker) = (flowing.clone(), ticker.clone());
    let types = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
    pad.add_probe(types, move |_, info| {
        if let Some(buffer) = info.buffer() {
            flowing.change(|flow| {
                flow.frames += 1;
                flow.last_pts = buffer.pts();
            });
            ticker.tick();
        } else if info.event().is_some_and(|event| event.type_() == gst::EventType::Eos) {
            flowing.change(|flow| flow.has_ended = true);
        }
        gst::PadProbeReturn::Ok
    });
}
