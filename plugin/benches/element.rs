//! What GStreamer adds to the engine: `videotestsrc ! tunableconvfilter ! fakesink` against the
//! engine alone, at the same size, precision and threads, in turns.
//!
//! `cargo bench -p gst-plugin-tunableconv --bench element`. The pipeline's time is the median
//! interval between frames that arrive at the sink, so it includes drawing the test picture, which
//! the last column shows by itself.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use gst::prelude::*;
use gstreamer as gst;
use tunableconv::checkpoint::Checkpoint;
use tunableconv::engine::{self, Options, Precision};
use tunableconv::frame::{FrameFormat, Range, SampleFormat};
use tunableconv::picture::Picture;

const SIZES: [(usize, usize); 3] = [(640, 360), (1280, 720), (1920, 1080)];
const ROUNDS: usize = 7;
const FRAMES: usize = 40;
/// The first intervals of a run, with negotiation and cold caches.
const WARM_UP: usize = 5;

fn main() -> anyhow::Result<()> {
    gst::init()?;
    gsttunableconv::plugin_register_static()?;
    println!("medians of {ROUNDS} rounds of {FRAMES} frames, ms per frame");
    println!("precision  size        engine  pipeline  ratio  videotestsrc");
    for precision in [Precision::F32, Precision::Int8] {
        for size in SIZES {
            if !compare(precision, size)? {
                println!("{precision:<9}  skipped: this CPU or model has no {precision}");
                break;
            }
        }
    }
    Ok(())
}

/// Prints one line; false where the precision cannot be had.
fn compare(precision: Precision, (width, height): (usize, usize)) -> anyhow::Result<bool> {
    let checkpoint = Checkpoint::built_in()?;
    let Ok(mut engine) = engine::open(&checkpoint, &Options { precision, ..Options::default() })
    else {
        return Ok(false);
    };
    let format = FrameFormat { width, height, range: Range::Limited, samples: SampleFormat::U8 };
    let input = Picture::grey(format)?;
    let mut output = input.clone();

    let (mut alone, mut filtered, mut drawn) = (vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        for frame in 0..FRAMES {
            let start = Instant::now();
            engine.process(&input.frame(), &mut output.frame_mut())?;
            if frame >= WARM_UP {
                alone.push(start.elapsed());
            }
        }
        filtered.extend(intervals(&format!("tunableconvfilter precision={precision}"), format)?);
        drawn.extend(intervals("identity", format)?);
    }
    let [alone, filtered, drawn] = [alone, filtered, drawn].map(median_ms);
    println!(
        "{precision:<9}  {:<10}  {alone:>6.2}  {filtered:>8.2}  {:>5.3}  {drawn:>12.2}",
        format!("{width}x{height}"),
        filtered / alone,
    );
    Ok(true)
}

/// Times between frames behind the element of that description, after the first few.
fn intervals(element: &str, format: FrameFormat) -> anyhow::Result<Vec<Duration>> {
    let FrameFormat { width, height, .. } = format;
    let pipeline = gst::parse::launch(&format!(
        "videotestsrc num-buffers={FRAMES} \
         ! video/x-raw,format=I420,width={width},height={height} \
         ! {element} ! fakesink name=sink sync=false"
    ))?;
    let pipeline = pipeline.downcast::<gst::Pipeline>().ok().context("a pipeline")?;
    let pad = pipeline.by_name("sink").and_then(|sink| sink.static_pad("sink")).context("a pad")?;
    let arrivals = Arc::new(Mutex::new(Vec::with_capacity(FRAMES)));
    let probe_arrivals = Arc::clone(&arrivals);
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        probe_arrivals.lock().expect("no panic in a probe").push(Instant::now());
        gst::PadProbeReturn::Ok
    });
    pipeline.set_state(gst::State::Playing)?;
    let bus = pipeline.bus().context("a bus")?;
    let types = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = bus.timed_pop_filtered(gst::ClockTime::NONE, &types).context("a message")?;
    pipeline.set_state(gst::State::Null)?;
    if let gst::MessageView::Error(error) = message.view() {
        bail!("{}", error.error());
    }
    let arrivals = arrivals.lock().expect("no panic in a probe");
    Ok(arrivals.windows(2).skip(WARM_UP).map(|pair| pair[1] - pair[0]).collect())
}

fn median_ms(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e3
}
