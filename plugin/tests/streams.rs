//! Random streams: whatever comes in, every buffer comes out once, in order and as it should be, or
//! one error says why not. Nothing panics, and GLib has nothing critical to say.
//!
//! `PROPTEST_CASES=10000` makes it that many streams.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{FORMATS, Model, Picture, messages};
use gst_check::Harness;
use gstreamer as gst;
use gstreamer_check as gst_check;
use gstreamer_video as gst_video;

use gst::prelude::*;
use gst_video::{VideoFormat, VideoInfo, VideoMeta};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use tunableconv::engine::{Engine, Options, Precision};
use tunableconv::picture::Picture as CorePicture;

/// What happens on the sink pad, on the source pad or to the element.
#[derive(Clone, Debug)]
enum Step {
    Caps { format: VideoFormat, size: (usize, usize), rate: Option<(i32, i32)> },
    SameCaps,
    Segment { format: gst::Format, rate: f64, start: u64, base: u64 },
    Flush,
    Gap(u64),
    Alpha(f64),
    Overload(&'static str),
    Compare(&'static str),
    Late { time: u64, diff: i64 },
    Latency { upstream: u64 },
    Reconfigure,
    Buffer(Sent),
}

/// A buffer of a picture.
#[derive(Clone, Debug)]
struct Sent {
    times: [Option<u64>; 3],
    offsets: [u64; 2],
    flags: gst::BufferFlags,
    memory: Layout,
    read_only: bool,
}

/// How it lies in memory.
#[derive(Clone, Debug)]
enum Layout {
    /// As the caps say.
    Plain,
    /// As a video meta says: so many bytes before the first plane, and more in each row; in so
    /// many memories; without what comes after the last pixel; of a picture so much larger.
    Meta { before: usize, padding: usize, memories: usize, cut: bool, larger: (u32, u32) },
    /// Without memory.
    Empty,
    /// So many of the bytes that a frame takes are missing.
    Short(usize),
    /// A video meta that says something else than the caps, or than the memory.
    Wrong(Wrong),
}

#[derive(Clone, Copy, Debug)]
enum Wrong {
    Format,
    Size,
    Offset(usize),
    Stride(i32),
}

fn times() -> impl Strategy<Value = u64> {
    let end = gst::ClockTime::MAX.nseconds();
    prop_oneof![
        4 => (0u64..100).prop_map(|frame| frame * 40_000_000),
        2 => 0..1u64 << 42,
        1 => Just(0),
        1 => Just(end),
        1 => end - 1_000_000..end,
    ]
}

fn layouts() -> impl Strategy<Value = Layout> {
    let meta = (0usize..40, 0usize..40, 1usize..4, any::<bool>(), (0u32..5, 0u32..5)).prop_map(
        |(before, padding, memories, cut, larger)| Layout::Meta {
            before,
            padding,
            memories,
            cut,
            larger,
        },
    );
    let wrong = prop_oneof![
        Just(Wrong::Format),
        Just(Wrong::Size),
        (0usize..2000).prop_map(Wrong::Offset),
        Just(Wrong::Offset(usize::MAX)),
        any::<i32>().prop_map(Wrong::Stride),
        (-40i32..1).prop_map(Wrong::Stride),
    ];
    prop_oneof![
        8 => Just(Layout::Plain),
        8 => meta,
        1 => Just(Layout::Empty),
        1 => (1usize..40).prop_map(Layout::Short),
        1 => wrong.prop_map(Layout::Wrong),
    ]
}

fn buffers() -> impl Strategy<Value = Step> {
    let flags = prop_oneof![
        4 => Just(gst::BufferFlags::empty()),
        1 => Just(gst::BufferFlags::GAP),
        1 => Just(gst::BufferFlags::DISCONT),
        1 => Just(gst::BufferFlags::CORRUPTED),
        1 => Just(gst::BufferFlags::DISCONT | gst::BufferFlags::DROPPABLE),
    ];
    let offset = prop_oneof![Just(u64::MAX), Just(0), any::<u64>()];
    let time = || proptest::option::weighted(0.7, times());
    let times = [time(), time(), time()];
    (times, [offset.clone(), offset], flags, layouts(), any::<bool>()).prop_map(
        |(times, offsets, flags, memory, read_only)| {
            Step::Buffer(Sent { times, offsets, flags, memory, read_only })
        },
    )
}

fn steps() -> impl Strategy<Value = Step> {
    let caps = || {
        let side = || prop_oneof![1usize..=4, 5usize..=40];
        let rate = prop_oneof![
            Just(None),
            Just(Some((0, 1))),
            Just(Some((25, 1))),
            Just(Some((i32::MAX, 1))),
            Just(Some((1, i32::MAX))),
        ];
        (proptest::sample::select(&FORMATS[..]), (side(), side()), rate)
            .prop_map(|(format, size, rate)| Step::Caps { format, size, rate })
    };
    let segment = (
        proptest::sample::select(
            &[gst::Format::Time, gst::Format::Bytes, gst::Format::Default][..],
        ),
        proptest::sample::select(&[1.0, 2.0, 0.5, -1.0][..]),
        times(),
        times(),
    )
        .prop_map(|(format, rate, start, base)| Step::Segment { format, rate, start, base });
    let alpha = prop_oneof![
        3 => Just(0.0),
        2 => 0.0..=1.0,
        1 => Just(1.0),
    ];
    let late = (times(), any::<i64>().prop_map(|diff| diff >> 1))
        .prop_map(|(time, diff)| Step::Late { time, diff });
    prop_oneof![
        24 => buffers(),
        2 => caps(),
        1 => Just(Step::SameCaps),
        2 => segment,
        1 => Just(Step::Flush),
        1 => times().prop_map(Step::Gap),
        3 => alpha.prop_map(Step::Alpha),
        1 => proptest::sample::select(&["wait", "passthrough", "auto"][..]).prop_map(Step::Overload),
        1 => proptest::sample::select(&["none", "split"][..]).prop_map(Step::Compare),
        1 => late,
        1 => times().prop_map(|upstream| Step::Latency { upstream }),
        1 => Just(Step::Reconfigure),
    ]
}

/// What GLib has called critical so far.
static CRITICALS: AtomicUsize = AtomicUsize::new(0);

fn count_criticals() {
    glib::log_set_default_handler(|domain, level, text| {
        if matches!(level, glib::LogLevel::Critical | glib::LogLevel::Error) {
            CRITICALS.fetch_add(1, Ordering::SeqCst);
        }
        glib::log_default_handler(domain, level, Some(text));
    });
}

/// The element between two pads, and what is known of its state.
struct Stream<'a> {
    harness: Harness,
    element: gst::Element,
    bus: gst::Bus,
    engine: &'a RefCell<Box<dyn Engine>>,
    picture: Option<(VideoInfo, Picture)>,
    mark: gst::Caps,
    sent: u64,
    alpha: f64,
    overload: &'static str,
    compare: &'static str,
}

impl<'a> Stream<'a> {
    fn new(model: &Model, engine: &'a RefCell<Box<dyn Engine>>) -> Self {
        let element = model.element();
        element.set_property_from_str("precision", "f32");
        element.set_property("threads", 1u32);
        element.set_property_from_str("overload", "wait");
        element.set_property("alpha", 0.5);
        let bus = gst::Bus::new();
        element.set_bus(Some(&bus));
        let mut harness = Harness::with_element(&element, Some("sink"), Some("src"));
        harness.play();
        assert!(harness.push_event(gst::event::StreamStart::new("random")));
        Self {
            harness,
            element,
            bus,
            engine,
            picture: None,
            mark: gst::Caps::new_empty_simple("timestamp/x-test"),
            sent: 0,
            alpha: 0.5,
            overload: "wait",
            compare: "none",
        }
    }

    /// Does a step; returns whether the stream goes on.
    fn step(&mut self, step: &Step) -> Result<bool, TestCaseError> {
        let time = gst::ClockTime::from_nseconds;
        match *step {
            Step::Caps { format, size, rate } => {
                let picture = Picture::random(size.0, size.1);
                let mut caps = gst::Caps::builder("video/x-raw")
                    .field("format", format.to_str())
                    .field("width", size.0 as i32)
                    .field("height", size.1 as i32);
                if let Some((numer, denom)) = rate {
                    caps = caps.field("framerate", gst::Fraction::new(numer, denom));
                }
                let caps = caps.build();
                let is_first = self.picture.is_none();
                self.picture = Some((VideoInfo::from_caps(&caps).unwrap(), picture));
                prop_assert!(self.harness.push_event(gst::event::Caps::new(&caps)));
                if is_first {
                    let segment = gst::FormattedSegment::<gst::ClockTime>::new();
                    prop_assert!(self.harness.push_event(gst::event::Segment::new(&segment)));
                }
            }
            // Before the first caps only buffers are of interest.
            Step::Segment { .. } | Step::Flush | Step::Gap(_) if self.picture.is_none() => {}
            Step::SameCaps => {
                if let Some((info, _)) = &self.picture {
                    let caps = info.to_caps().unwrap();
                    prop_assert!(self.harness.push_event(gst::event::Caps::new(&caps)));
                }
            }
            Step::Segment { format, rate, start, base } => {
                let event = match format {
                    gst::Format::Time => {
                        let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
                        segment.set_rate(rate);
                        segment.set_start(time(start));
                        segment.set_base(time(base));
                        gst::event::Segment::new(&segment)
                    }
                    gst::Format::Bytes => {
                        gst::event::Segment::new(&gst::FormattedSegment::<gst::format::Bytes>::new())
                    }
                    _ => gst::event::Segment::new(
                        &gst::FormattedSegment::<gst::format::Default>::new(),
                    ),
                };
                prop_assert!(self.harness.push_event(event));
            }
            Step::Flush => {
                self.harness.push_event(gst::event::FlushStart::new());
                self.harness.push_event(gst::event::FlushStop::new(true));
                let segment = gst::FormattedSegment::<gst::ClockTime>::new();
                self.harness.push_event(gst::event::Segment::new(&segment));
            }
            Step::Gap(at) => {
                self.harness.push_event(gst::event::Gap::new(time(at), gst::ClockTime::NONE));
            }
            Step::Alpha(alpha) => {
                self.element.set_property("alpha", alpha);
                self.alpha = alpha;
            }
            Step::Overload(overload) => {
                self.element.set_property_from_str("overload", overload);
                self.overload = overload;
            }
            Step::Compare(compare) => {
                self.element.set_property_from_str("compare", compare);
                self.compare = compare;
            }
            Step::Late { time: at, diff } => {
                // An event cannot be of a time before 0.
                let diff = diff.max(i64::try_from(at).map_or(i64::MIN + 1, |at| -at));
                let event = gst::event::Qos::builder(gst::QOSType::Underflow, 1.0, diff)
                    .timestamp(time(at))
                    .build();
                self.harness.push_upstream_event(event);
            }
            Step::Latency { upstream } => {
                self.harness.set_upstream_latency(time(upstream));
                self.harness.query_latency();
            }
            Step::Reconfigure => {
                self.harness.push_upstream_event(gst::event::Reconfigure::new());
            }
            Step::Buffer(ref sent) => return self.buffer(sent),
        }
        Ok(true)
    }

    fn buffer(&mut self, sent: &Sent) -> Result<bool, TestCaseError> {
        let no_picture = (
            VideoInfo::builder(VideoFormat::I420, 16, 16).build().unwrap(),
            Picture::random(16, 16),
        );
        let (info, picture) = self.picture.as_ref().unwrap_or(&no_picture);
        let mut buffer = lay_out(info, picture, &sent.memory);
        if sent.read_only {
            buffer = read_only(&buffer);
        }
        {
            let buffer = buffer.get_mut().unwrap();
            let [pts, dts, duration] =
                sent.times.map(|time| time.map(gst::ClockTime::from_nseconds));
            buffer.set_pts(pts);
            buffer.set_dts(dts);
            buffer.set_duration(duration);
            buffer.set_offset(sent.offsets[0]);
            buffer.set_offset_end(sent.offsets[1]);
            buffer.set_flags(sent.flags);
            let index = gst::ClockTime::from_nseconds(self.sent);
            gst::ReferenceTimestampMeta::add(buffer, &self.mark, index, gst::ClockTime::NONE);
        }
        self.sent += 1;
        let kept = |buffer: &gst::BufferRef| {
            let index = buffer.iter_meta::<gst::ReferenceTimestampMeta>().next();
            let times = [buffer.pts(), buffer.dts(), buffer.duration()];
            (times, [buffer.offset(), buffer.offset_end()], index.map(|meta| meta.timestamp()))
        };
        let expected = kept(&buffer);
        let pushed = self.harness.push(buffer);
        let errors = errors(&self.bus);
        let is_sound = !matches!(
            sent.memory,
            Layout::Empty | Layout::Short(_) | Layout::Wrong(Wrong::Format | Wrong::Size)
        );
        if pushed.is_err() {
            if self.picture.is_none() {
                // GStreamer leaves it to the source to tell of this.
                prop_assert_eq!(pushed, Err(gst::FlowError::NotNegotiated));
                return Ok(false);
            }
            // One error, and no panic, which would be told as one.
            prop_assert_eq!(errors.len(), 1, "{:?} {:?}", pushed, errors);
            prop_assert!(!errors[0].contains("anicked"), "{:?}", errors);
            let is_wrong = matches!(sent.memory, Layout::Wrong(_));
            prop_assert!(!is_sound || is_wrong, "{:?}", errors);
            return Ok(false);
        }
        prop_assert!(errors.is_empty(), "{:?}", errors);
        prop_assert_eq!(self.harness.buffers_in_queue(), 1);
        let output = self.harness.pull().unwrap();
        prop_assert_eq!(kept(&output), expected);
        if !is_sound || matches!(sent.memory, Layout::Wrong(_)) {
            // Only as it came: nobody can tell what should be in it.
            return Ok(true);
        }
        let expected = if self.alpha == 0.0 {
            picture.clone()
        } else if self.overload == "wait" && self.compare == "none" {
            filtered(self.engine, picture, self.alpha)
        } else {
            return Ok(true);
        };
        prop_assert_eq!(picture.read(info, output), expected);
        Ok(true)
    }
}

/// What the core engine makes of a picture.
fn filtered(engine: &RefCell<Box<dyn Engine>>, picture: &Picture, alpha: f64) -> Picture {
    let mut engine = engine.borrow_mut();
    let tuning = engine.metadata().tuning.tuning(&[alpha, 0.0]).unwrap();
    engine.set_tuning(&tuning).unwrap();
    let input = CorePicture::new(picture.format, picture.planes.clone()).unwrap();
    let mut output = input.clone();
    engine.process(&input.frame(), &mut output.frame_mut()).unwrap();
    Picture { format: picture.format, planes: output.planes().map(<[u8]>::to_vec) }
}

/// The texts of all errors on the bus.
fn errors(bus: &gst::Bus) -> Vec<String> {
    let errors = messages(bus, &[gst::MessageType::Error]);
    let text = |message: &gst::Message| match message.view() {
        gst::MessageView::Error(error) => error.error().to_string(),
        _ => unreachable!(),
    };
    errors.iter().map(text).collect()
}

fn bytes(buffer: &gst::Buffer) -> Vec<u8> {
    buffer.map_readable().unwrap().to_vec()
}

/// These memories with the video meta of a buffer.
fn with_meta_of(buffer: &gst::Buffer, memories: impl Iterator<Item = gst::Memory>) -> gst::Buffer {
    let mut copy = gst::Buffer::new();
    memories.for_each(|memory| copy.get_mut().unwrap().append_memory(memory));
    if let Some(meta) = buffer.meta::<VideoMeta>() {
        let size = (meta.format(), meta.width(), meta.height());
        add_meta(&mut copy, size, meta.offset(), meta.stride());
    }
    copy
}

/// The same in memory that cannot be written.
fn read_only(buffer: &gst::Buffer) -> gst::Buffer {
    let bytes = |memory: &gst::MemoryRef| memory.map_readable().unwrap().to_vec();
    with_meta_of(
        buffer,
        buffer.iter_memories().map(|memory| gst::Memory::from_slice(bytes(memory))),
    )
}

/// The picture in a buffer.
fn lay_out(info: &VideoInfo, picture: &Picture, memory: &Layout) -> gst::Buffer {
    match *memory {
        Layout::Plain => picture.buffer(info),
        Layout::Empty => gst::Buffer::new(),
        Layout::Short(missing) => {
            let bytes = bytes(&picture.buffer(info));
            gst::Buffer::from_slice(bytes[..bytes.len().saturating_sub(missing)].to_vec())
        }
        Layout::Meta { before, padding, memories, cut, larger } => {
            let (width, height) = (info.width() + larger.0, info.height() + larger.1);
            let larger = VideoInfo::builder(info.format(), width, height).build().unwrap();
            let strides: Vec<i32> =
                larger.stride().iter().map(|stride| stride + padding as i32).collect();
            let mut offsets = vec![];
            let (mut end, mut last) = (before, 0);
            for (plane, stride) in strides.iter().enumerate() {
                offsets.push(end);
                let rows = |info: &VideoInfo| info.comp_height(plane as u8) as usize;
                let pixels = info.comp_width(plane as u8) * info.comp_pstride(plane as u8) as u32;
                last = end + (rows(info) - 1) * *stride as usize + pixels as usize;
                end += rows(&larger) * *stride as usize + before;
            }
            let mut buffer = gst::Buffer::with_size(end).unwrap();
            add_meta(&mut buffer, (info.format(), width, height), &offsets, &strides);
            let buffer = picture.fill(info, buffer);
            let bytes = &bytes(&buffer)[..if cut { last } else { end }];
            let parts = bytes.chunks(bytes.len().div_ceil(memories));
            with_meta_of(&buffer, parts.map(|part| gst::Memory::from_mut_slice(part.to_vec())))
        }
        Layout::Wrong(wrong) => {
            let mut buffer = picture.buffer(info);
            let (mut format, mut width) = (info.format(), info.width());
            let (mut offsets, mut strides) = (info.offset().to_vec(), info.stride().to_vec());
            match wrong {
                Wrong::Format => {
                    format = *FORMATS.iter().find(|other| **other != format).unwrap();
                }
                Wrong::Size => width -= 1,
                Wrong::Offset(offset) => offsets[0] = offset,
                Wrong::Stride(stride) => strides[0] = stride,
            }
            add_meta(&mut buffer, (format, width, info.height()), &offsets, &strides);
            buffer
        }
    }
}

fn add_meta(
    buffer: &mut gst::Buffer,
    (format, width, height): (VideoFormat, u32, u32),
    offsets: &[usize],
    strides: &[i32],
) {
    let flags = gst_video::VideoFrameFlags::empty();
    let buffer = buffer.get_mut().unwrap();
    VideoMeta::add_full(buffer, flags, format, width, height, offsets, strides).unwrap();
}

#[test]
fn every_buffer_comes_out_or_one_error_says_why_not() {
    common::init();
    count_criticals();
    let model = Model::new();
    let options = Options { precision: Precision::F32, threads: 1, ..Default::default() };
    let engine = RefCell::new(tunableconv::engine::open(&model.checkpoint, &options).unwrap());
    let config = Config { failure_persistence: None, ..Config::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let streams = proptest::collection::vec(steps(), 1..24);
    let first = Step::Caps { format: VideoFormat::I420, size: (17, 9), rate: Some((0, 1)) };
    let run = |(has_caps, steps): (bool, Vec<Step>)| {
        let before = CRITICALS.load(Ordering::SeqCst);
        let mut stream = Stream::new(&model, &engine);
        let first = has_caps.then_some(&first).into_iter();
        for step in first.chain(&steps) {
            if !stream.step(step)? {
                break;
            }
        }
        let element = stream.element.downgrade();
        // Messages on the bus hold the element, and it the bus.
        stream.bus.set_flushing(true);
        drop(stream);
        prop_assert!(element.upgrade().is_none(), "the element is still alive");
        prop_assert_eq!(CRITICALS.load(Ordering::SeqCst), before, "GLib criticals");
        Ok(())
    };
    let streams = (proptest::bool::weighted(0.9), streams);
    if let Err(error) = runner.run(&streams, run) {
        panic!("{error}");
    }
}
