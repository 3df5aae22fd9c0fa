//! The demonstration's GStreamer pipelines.

use std::ops::Deref;
use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use gst::prelude::*;
use gst_controller::prelude::*;
use gst_controller::{DirectControlBinding, InterpolationControlSource, InterpolationMode};
use gstreamer as gst;
use gstreamer_app as gst_app;
use gstreamer_controller as gst_controller;
use gstreamer_video as gst_video;
use tunableconv_train::clip::{Clip, ClipWriter};
use tunableconv_train::yuv::Yuv420;

use crate::STRONGEST;

/// Elements used, with the Debian package that brings each.
const ELEMENTS: [(&str, &str); 7] = [
    ("h264parse", "gstreamer1.0-plugins-bad"),
    ("avdec_h264", "gstreamer1.0-libav"),
    ("y4mdec", "gstreamer1.0-plugins-bad"),
    ("compositor", "gstreamer1.0-plugins-base"),
    ("textoverlay", "gstreamer1.0-x"),
    ("x264enc", "gstreamer1.0-plugins-ugly"),
    ("matroskamux", "gstreamer1.0-plugins-good"),
];

/// Names the first element that is not installed, and its package.
pub fn check_installed() -> anyhow::Result<()> {
    for (element, package) in ELEMENTS {
        if gst::ElementFactory::find(element).is_none() {
            bail!("GStreamer element `{element}` is missing; on Debian: apt install {package}");
        }
    }
    Ok(())
}

/// Decodes the first frames of any clip to Y4M.
pub fn decode(input: &Path, output: &Path, frames: u32) -> anyhow::Result<()> {
    // Not `y4menc`: up to GStreamer 1.22 it writes the padding of decoded frames into the file.
    let pipeline = parse(
        "filesrc name=source ! decodebin ! videoconvert ! video/x-raw,format=I420 \
         ! appsink name=frames sync=false max-buffers=4",
    )?;
    set_location(&pipeline, "source", input)?;
    tunableconv::atomic_file::write::<anyhow::Error>(output, |file| {
        let mut file = Some(file);
        let mut clip = None;
        each_frame(&pipeline, frames, |picture| {
            if let Some(file) = file.take() {
                clip = Some(ClipWriter::new(file, (picture.width, picture.height), picture.fps)?);
            }
            clip.as_mut().map_or(Ok(()), |clip| Ok(clip.write(&picture.planes)?))
        })
    })
    .with_context(|| format!("cannot decode {}", input.display()))
}

/// Filters a Y4M clip with `alpha` keyframed 0 → strongest → 0; encodes input and output side by side.
pub fn sweep(
    input: &Path,
    output: &Path,
    frames: usize,
    model: Option<&Path>,
) -> anyhow::Result<()> {
    let pipeline = parse(
        "filesrc name=source ! y4mdec ! tee name=split \
         compositor name=sides ! video/x-raw,format=I420 ! queue \
         ! x264enc speed-preset=veryfast pass=quant quantizer=28 ! h264parse ! matroskamux \
         ! filesink name=sink \
         split. ! queue ! textoverlay text=noisy valignment=top ! sides.sink_0 \
         split. ! queue ! tunableconvfilter name=filter beta=0 \
         ! textoverlay name=label valignment=top ! sides.sink_1",
    )?;
    set_location(&pipeline, "source", input)?;
    set_location(&pipeline, "sink", output)?;
    let filter = element(&pipeline, "filter")?;
    set_model(&filter, model);
    let middle = {
        let (width, fps) = header_of(input)?;
        let sides = element(&pipeline, "sides")?;
        let right = sides.static_pad("sink_1").context("the compositor has no second pad")?;
        right.set_property("xpos", width);
        gst::ClockTime::from_nseconds((frames as f64 / fps * 0.5e9) as u64)
    };
    keyframe(&filter, &[(gst::ClockTime::ZERO, 0.0), (middle, STRONGEST), (middle * 2, 0.0)])?;
    label_with_alpha(&filter, &element(&pipeline, "label")?)?;
    play(&pipeline).with_context(|| format!("cannot write {}", output.display()))
}

/// Filters the first frames of a Y4M clip at one `alpha`, and hands each over as it comes.
pub fn filter_frames(
    input: &Path,
    alpha: f64,
    frames: u32,
    model: Option<&Path>,
    mut each: impl FnMut(usize, Yuv420) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let pipeline = parse(&format!(
        "filesrc name=source ! y4mdec ! tunableconvfilter name=filter alpha={alpha} beta=0 \
         ! video/x-raw,format=I420 ! appsink name=frames sync=false max-buffers=4"
    ))?;
    set_location(&pipeline, "source", input)?;
    set_model(&element(&pipeline, "filter")?, model);
    let mut index = 0;
    each_frame(&pipeline, frames, |picture| {
        let [y, u, v] = &picture.planes;
        each(index, Yuv420::from_bytes(picture.width, picture.height, [y, u, v])?)?;
        index += 1;
        Ok(())
    })
}

/// A pipeline that stops when it is dropped, as GStreamer demands.
struct Stopping(gst::Pipeline);

impl Deref for Stopping {
    type Target = gst::Pipeline;

    fn deref(&self) -> &gst::Pipeline {
        &self.0
    }
}

impl Drop for Stopping {
    fn drop(&mut self) {
        // A pipeline that cannot stop has said so on its bus.
        let _ = self.0.set_state(gst::State::Null);
    }
}

fn parse(description: &str) -> anyhow::Result<Stopping> {
    let pipeline = gst::parse::launch(description)?.downcast();
    Ok(Stopping(pipeline.map_err(|_| anyhow!("not a pipeline: {description}"))?))
}

fn element(pipeline: &gst::Pipeline, name: &str) -> anyhow::Result<gst::Element> {
    pipeline.by_name(name).with_context(|| format!("the pipeline has no `{name}`"))
}

fn set_location(pipeline: &gst::Pipeline, name: &str, path: &Path) -> anyhow::Result<()> {
    element(pipeline, name)?.set_property("location", path);
    Ok(())
}

fn set_model(filter: &gst::Element, model: Option<&Path>) {
    filter.set_property("model", model.map(|path| path.display().to_string()));
}

/// Width and frames a second of a Y4M clip.
fn header_of(path: &Path) -> anyhow::Result<(i32, f64)> {
    let clip = Clip::open(path)?;
    Ok((clip.size().0 as i32, clip.rate()))
}

/// Sets linear keyframes of `alpha`.
fn keyframe(filter: &gst::Element, points: &[(gst::ClockTime, f64)]) -> anyhow::Result<()> {
    let source = InterpolationControlSource::new();
    source.set_mode(InterpolationMode::Linear);
    for (time, value) in points {
        source.set(*time, *value);
    }
    let binding = DirectControlBinding::new_absolute(filter, "alpha", &source);
    Ok(filter.add_control_binding(&binding)?)
}

/// Lets a text overlay after the filter show the `alpha` of each frame.
fn label_with_alpha(filter: &gst::Element, label: &gst::Element) -> anyhow::Result<()> {
    let pad = filter.static_pad("src").context("the filter has no source pad")?;
    let (filter, label) = (filter.downgrade(), label.clone());
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        if let Some(filter) = filter.upgrade() {
            let alpha: f64 = filter.property("alpha");
            label.set_property("text", format!("alpha {alpha:.2}"));
        }
        gst::PadProbeReturn::Ok
    });
    Ok(())
}

/// Plays to the end.
fn play(pipeline: &gst::Pipeline) -> anyhow::Result<()> {
    let bus = pipeline.bus().context("the pipeline has no bus")?;
    pipeline.set_state(gst::State::Playing).map_err(|_| failure(pipeline))?;
    let ends = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = bus.timed_pop_filtered(gst::ClockTime::NONE, &ends);
    match message.as_ref().map(|message| message.view()) {
        Some(gst::MessageView::Error(error)) => Err(anyhow!(describe(error))),
        _ => Ok(()),
    }
}

/// The first error on the bus.
fn failure(pipeline: &gst::Pipeline) -> anyhow::Error {
    let message = pipeline.bus().and_then(|bus| bus.pop_filtered(&[gst::MessageType::Error]));
    match message.as_ref().map(|message| message.view()) {
        Some(gst::MessageView::Error(error)) => anyhow!(describe(error)),
        _ => anyhow!("the pipeline failed without a reason"),
    }
}

fn describe(error: &gst::message::Error) -> String {
    let source = error.src().map(|source| source.name()).unwrap_or_default();
    format!("{source}: {}", error.error())
}

/// A frame of I420 without padding.
struct Picture {
    width: usize,
    height: usize,
    /// Frames a second, as a fraction.
    fps: (usize, usize),
    planes: [Vec<u8>; 3],
}

/// Plays until this many frames, or all, have reached the appsink `frames`; hands over each.
fn each_frame(
    pipeline: &gst::Pipeline,
    frames: u32,
    mut each: impl FnMut(Picture) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let sink = element(pipeline, "frames")?
        .downcast::<gst_app::AppSink>()
        .map_err(|_| anyhow!("`frames` is no appsink"))?;
    pipeline.set_state(gst::State::Playing).map_err(|_| failure(pipeline))?;
    for _ in 0..frames {
        let Some(sample) = next_sample(pipeline, &sink)? else { break };
        each(picture(&sample)?)?;
    }
    Ok(())
}

/// `None` at the end of the stream. An error does not end the wait for a sample by itself.
fn next_sample(
    pipeline: &gst::Pipeline,
    sink: &gst_app::AppSink,
) -> anyhow::Result<Option<gst::Sample>> {
    let bus = pipeline.bus().context("the pipeline has no bus")?;
    loop {
        if let Some(sample) = sink.try_pull_sample(gst::ClockTime::from_mseconds(100)) {
            return Ok(Some(sample));
        }
        if sink.is_eos() {
            return Ok(None);
        }
        if let Some(message) = bus.pop_filtered(&[gst::MessageType::Error])
            && let gst::MessageView::Error(error) = message.view()
        {
            return Err(anyhow!(describe(error)));
        }
    }
}

fn picture(sample: &gst::Sample) -> anyhow::Result<Picture> {
    use gst_video::prelude::*;

    let info = gst_video::VideoInfo::from_caps(sample.caps().context("a sample without caps")?)?;
    let buffer = sample.buffer_owned().context("a sample without buffer")?;
    let frame = gst_video::VideoFrame::from_buffer_readable(buffer, &info)
        .map_err(|_| anyhow!("a frame cannot be mapped"))?;
    let plane = |component: u32| -> anyhow::Result<Vec<u8>> {
        let (width, stride) = (frame.comp_width(component), frame.comp_stride(component));
        let lines = frame.comp_data(component)?.chunks(stride as usize);
        let height = frame.comp_height(component) as usize;
        Ok(lines.take(height).flat_map(|line| &line[..width as usize]).copied().collect())
    };
    let fps = info.fps();
    Ok(Picture {
        width: info.width() as usize,
        height: info.height() as usize,
        // Raw streams may not tell.
        fps: if fps.numer() > 0 { (fps.numer() as usize, fps.denom() as usize) } else { (30, 1) },
        planes: [plane(0)?, plane(1)?, plane(2)?],
    })
}
