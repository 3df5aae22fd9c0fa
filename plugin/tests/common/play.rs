//! Pipelines in the test's own process, and the frames that come out of them.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use gst::prelude::*;
use gst_video::{VideoFormat, VideoFrame, VideoInfo};
use gstreamer as gst;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;

use super::init;

/// Longer than any frame takes, on any machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A file of `tests/media`.
pub fn media(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/media").join(name)
}

/// What came out of a sink.
#[derive(Clone)]
pub struct Frame {
    /// Of a video frame.
    pub info: Option<VideoInfo>,
    pub caps: gst::Caps,
    /// Stream time.
    pub time: Option<gst::ClockTime>,
    pub duration: Option<gst::ClockTime>,
    /// Rows without padding.
    pub data: Vec<u8>,
}

impl Frame {
    fn new(sample: &gst::Sample) -> Self {
        let (caps, buffer) = (sample.caps_owned().unwrap(), sample.buffer_owned().unwrap());
        let segment = sample.segment().unwrap().downcast_ref::<gst::ClockTime>().unwrap();
        let (time, duration) = (segment.to_stream_time(buffer.pts()), buffer.duration());
        let info = VideoInfo::from_caps(&caps).ok();
        let data = match &info {
            Some(info) => packed(buffer, info),
            None => buffer.map_readable().unwrap().to_vec(),
        };
        Self { info, caps, time, duration, data }
    }

    pub fn size(&self) -> (u32, u32) {
        let info = self.info.as_ref().unwrap();
        (info.width(), info.height())
    }

    pub fn format(&self) -> VideoFormat {
        self.info.as_ref().unwrap().format()
    }

    /// Mean absolute difference of all 8-bit samples, in code values.
    pub fn difference(&self, other: &Self) -> f64 {
        assert_eq!((self.format(), self.size()), (other.format(), other.size()));
        let pairs = self.data.iter().zip(&other.data);
        let sum: u64 = pairs.map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        sum as f64 / self.data.len() as f64
    }
}

/// The pixels of a video frame, rows without padding.
pub fn packed(buffer: gst::Buffer, info: &VideoInfo) -> Vec<u8> {
    let mut copy = gst::Buffer::with_size(info.size()).unwrap();
    copy.get_mut().unwrap().memset(.., 0).unwrap();
    let frame = VideoFrame::from_buffer_readable(buffer, info).unwrap();
    let mut copied = VideoFrame::from_buffer_writable(copy, info).unwrap();
    frame.copy(&mut copied).unwrap();
    copied.into_buffer().map_readable().unwrap().to_vec()
}

enum Event {
    Frame(Frame),
    End,
    /// The element's name and its message.
    Error(String, String),
}

/// A pipeline that plays, until this is dropped.
pub struct Player {
    pub pipeline: gst::Pipeline,
    sinks: Vec<Receiver<Event>>,
}

impl Player {
    /// Plays a pipeline that ends in sinks called `frames0`, `frames1` and so on.
    pub fn of_text(text: &str) -> Self {
        init();
        let pipeline = gst::parse::launch(text).unwrap().downcast::<gst::Pipeline>().unwrap();
        let sinks = (0..).map_while(|index| pipeline.by_name(&format!("frames{index}")));
        let sinks = sinks.map(|sink| sink.downcast::<gst_app::AppSink>().unwrap()).collect();
        Self::new(pipeline, sinks)
    }

    pub fn new(pipeline: gst::Pipeline, sinks: Vec<gst_app::AppSink>) -> Self {
        let (senders, receivers): (Vec<_>, _) = sinks.iter().map(|_| mpsc::channel()).unzip();
        for (sink, sender) in sinks.iter().zip(&senders) {
            sink.set_sync(false);
            report_frames(sink, sender.clone());
        }
        pipeline.bus().unwrap().set_sync_handler(move |_, message| {
            if let gst::MessageView::Error(error) = message.view() {
                let source = error.src().unwrap().name();
                let text = error.error().to_string();
                eprintln!("{source}: {text}");
                for sender in &senders {
                    let _ = sender.send(Event::Error(source.to_string(), text.clone()));
                }
            }
            gst::BusSyncReply::Drop
        });
        // A failure is among the events.
        let _ = pipeline.set_state(gst::State::Playing);
        Self { pipeline, sinks: receivers }
    }

    /// The next frame of a sink, or the first error in the pipeline with the element it came from;
    /// `None` at the end.
    pub fn next(&self, sink: usize) -> Result<Option<Frame>, (String, String)> {
        match self.sinks[sink].recv_timeout(PATIENCE).expect("a frame, the end or an error") {
            Event::Frame(frame) => Ok(Some(frame)),
            Event::End => Ok(None),
            Event::Error(element, text) => Err((element, text)),
        }
    }

    /// All frames of the first sink.
    pub fn frames(&self) -> Result<Vec<Frame>, (String, String)> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next(0)? {
            frames.push(frame);
        }
        Ok(frames)
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

fn report_frames(sink: &gst_app::AppSink, sender: Sender<Event>) {
    let at_end = sender.clone();
    let callbacks = gst_app::AppSinkCallbacks::builder()
        .new_sample(move |sink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            let _ = sender.send(Event::Frame(Frame::new(&sample)));
            Ok(gst::FlowSuccess::Ok)
        })
        .eos(move |_| {
            let _ = at_end.send(Event::End);
        })
        .build();
    sink.set_callbacks(callbacks);
}

/// The frames of a file, which are passed through `elements` first.
pub fn frames_of(file: &Path, elements: &str) -> Vec<Frame> {
    let file = file.display();
    let text = format!("filesrc location=\"{file}\" ! {elements} ! appsink name=frames0");
    Player::of_text(&text).frames().unwrap()
}
