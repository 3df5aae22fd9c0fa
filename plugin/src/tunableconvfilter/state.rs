//! The loaded model while the element is started.

use std::time::Duration;

use gstreamer as gst;
use gstreamer_video as gst_video;

use gst::prelude::*;
use gst_video::prelude::*;
use gst_video::{VideoFrameRef, VideoInfo};
use tunableconv::engine::Engine;
use tunableconv::noise_level::told;
use tunableconv::tuning::{MAX_PARAMETERS, Tuning, TuningSpace};
use tunableconv::{Error, Result};

use super::fields::Scan;
use super::knobs::{Knobs, Scale, defaults};
use super::load::Loaded;
use super::noise::Noise;
use super::overload::{Decision, Policy};
use super::scaled::Scaled;
use super::settings::Compare;
use super::unpack::Unpacked;
use super::warm_up::Clock;
use super::{formats, frame, frame_times, memory, mix, warm_up};

/// What claims to be shorter is of a stream whose rate nobody knew: muxers and encoders then write
/// frames of a nanosecond.
const SHORTEST_FRAME: gst::ClockTime = gst::ClockTime::from_useconds(100);

/// Belongs to the streaming thread, and to `start` and `stop` when there is none.
pub struct State {
    loaded: Loaded,
    /// What the engine is set to.
    tuning: Tuning,
    /// Why it could not be set, until a frame reports it.
    failure: Option<Error>,
    /// Of the input's caps; `None` before negotiation.
    info: Option<VideoInfo>,
    /// Of the output's caps.
    out_info: Option<VideoInfo>,
    /// The input as large as the output, from the first time on that it is shown.
    scaled: Option<Scaled>,
    /// Memory for frames that lie oddly in theirs, from the first such frame on.
    packed: Option<gst::Buffer>,
    /// Room to unpack frames, for formats that need it.
    unpacked: Option<Unpacked>,
    /// Knobs without a parameter of which the bus has been told.
    warned: [bool; MAX_PARAMETERS],
    /// Whether the bus has been told that no knob of this model follows the noise.
    warned_of_level: bool,
    /// Whether the bus has been told of frames of these caps whose fields cannot be filtered.
    warned_of_fields: bool,
    /// What to do with frames that would be late.
    pub policy: Policy,
    /// What was decided for the frame that is being filtered.
    pub frame: FrameTask,
    /// What is known of the stream's noise.
    pub noise: Noise,
    /// The model's parameter that is told of noise, and the noise for which it is 1.
    told: Option<(usize, f64)>,
    /// Running time of the last frame.
    last_running_time: Option<gst::ClockTime>,
    /// Running time at which statistics were last posted.
    last_message: Option<gst::ClockTime>,
}

/// What to do with one frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FrameTask {
    /// Whether to filter it.
    pub decision: Decision,
    /// How to show it.
    pub compare: Compare,
    /// How its rows were taken.
    pub scan: Scan,
}

/// Why no knob follows the noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WithoutLevel {
    /// No parameter of the model is the level of its noise.
    NoParameter,
    /// The knob of that index was set.
    IsSet(usize),
}

impl FrameTask {
    /// Whether the frame goes out as it came in.
    pub fn is_untouched(&self) -> bool {
        self.decision == Decision::Bypass || !self.scan.is_known()
    }
}

impl State {
    /// A state with an engine.
    ///
    /// # Errors
    /// As [`Knobs::tuning`].
    pub fn new(loaded: Loaded, knobs: Knobs) -> Result<Self> {
        let metadata = loaded.engine.metadata();
        let (tuning, told) = (knobs.tuning(&metadata.tuning)?, told(metadata));
        Ok(Self {
            loaded,
            noise: Noise::default(),
            told,
            tuning,
            failure: None,
            info: None,
            out_info: None,
            scaled: None,
            packed: None,
            unpacked: None,
            warned: [false; MAX_PARAMETERS],
            warned_of_level: false,
            warned_of_fields: false,
            policy: Policy::new(gst::ClockTime::ZERO),
            frame: FrameTask {
                decision: Decision::Filter(1.0),
                compare: Compare::None,
                scan: Scan::Progressive,
            },
            last_running_time: None,
            last_message: None,
        })
    }

    /// Puts another engine in the place of this one, which it returns; the knobs are those of its next frame.
    pub fn replace(&mut self, next: Loaded, time: Option<Duration>, knobs: Knobs) -> Loaded {
        // It may have other parameters.
        let space = &next.engine.metadata().tuning;
        if let Ok(tuning) = knobs.tuning(space).or_else(|_| space.default_tuning()) {
            self.tuning = tuning;
        }
        self.warned = [false; MAX_PARAMETERS];
        self.warned_of_level = false;
        self.failure = None;
        if let Some(time) = time {
            self.policy = Policy::new(clock_time(time));
        }
        self.told = told(next.engine.metadata());
        std::mem::replace(&mut self.loaded, next)
    }

    /// The model's tuning parameters.
    pub fn space(&self) -> &TuningSpace {
        &self.loaded.engine.metadata().tuning
    }

    /// Sets the tuning of the next frame; returns whether it is another one than that of the last.
    /// A failure is reported by that frame's [`State::transform`].
    pub fn set_knobs(&mut self, knobs: Knobs) -> bool {
        let set = knobs.tuning(self.space()).and_then(|tuning| {
            let folded = self.loaded.engine.set_tuning(&tuning)?;
            self.tuning = tuning;
            Ok(folded)
        });
        match set {
            Ok(folded) => {
                self.failure = None;
                folded
            }
            Err(failure) => {
                self.failure = Some(failure);
                false
            }
        }
    }

    /// Indices of knobs that were set without a parameter, each once.
    pub fn newly_without_parameter(&mut self, knobs: Knobs) -> Vec<usize> {
        let unknown = knobs.without_parameter(self.space());
        unknown.filter(|&index| !std::mem::replace(&mut self.warned[index], true)).collect()
    }

    /// How many times as large frames become.
    pub fn scale(&self) -> usize {
        self.loaded.scale
    }

    /// Prepares for frames of these caps, and those made of them; returns how long one takes, unless they are those before.
    ///
    /// # Errors
    /// As [`warm_up::time_of_a_frame`].
    pub fn set_info(
        &mut self,
        info: &VideoInfo,
        out_info: &VideoInfo,
        clock: Clock<'_>,
    ) -> Result<Option<Duration>> {
        self.warned_of_fields &= self.info.as_ref() == Some(info);
        let is_known = self.info.as_ref().is_some_and(|old| {
            let size = |info: &VideoInfo| (info.format(), info.width(), info.height());
            size(old) == size(info) && old.colorimetry().range() == info.colorimetry().range()
        });
        (self.info, self.out_info) = (Some(info.clone()), Some(out_info.clone()));
        self.packed = None;
        let is_unpacked = formats::UNPACKED.contains(&info.format());
        self.unpacked = is_unpacked.then(|| Unpacked::new(info, out_info)).transpose()?;
        self.scaled = None;
        self.noise.forget();
        if is_known {
            return Ok(None);
        }
        let time = warm_up::time_of_a_frame(&mut self.loaded, info, &self.tuning, clock)?;
        self.policy = Policy::new(clock_time(time));
        self.last_running_time = None;
        Ok(Some(time))
    }

    /// The caps that were negotiated for the output.
    pub fn out_info(&self) -> Option<&VideoInfo> {
        self.out_info.as_ref()
    }

    /// The caps that were negotiated for the input.
    pub fn info(&self) -> Option<&VideoInfo> {
        self.info.as_ref()
    }

    /// How the rows of a frame were taken.
    pub fn scan(&self, buffer: &gst::BufferRef) -> Scan {
        self.info.as_ref().map_or(Scan::Apart, |info| Scan::of(info, buffer))
    }

    /// Whether the bus is to be told that frames like this one cannot be filtered.
    pub fn is_newly_unknown(&mut self, scan: Scan) -> bool {
        !scan.is_known() && !std::mem::replace(&mut self.warned_of_fields, true)
    }

    /// The knobs as far as they are set where one follows the noise: hosts that load all properties leave one where it
    /// stands by itself, which is not to set it, unless it is bound to a control source.
    pub fn set_for_level(&self, mut knobs: Knobs, is_bound: [bool; MAX_PARAMETERS]) -> Knobs {
        if let Some((index, _)) = self.told
            && let Some(value) = knobs.values.get_mut(index)
            && *value == Some(defaults(self.space(), knobs.scale)[index])
            && !is_bound[index]
        {
            *value = None;
        }
        knobs
    }

    /// The knob that follows the noise, unless it was set, and where it stands.
    pub fn followed(&self, knobs: Knobs) -> Option<(usize, f64)> {
        let ((index, most), noise) = (self.told?, self.noise.followed()?);
        let parameter = &self.space().parameters[index];
        let level = (noise / most).clamp(parameter.minimum, parameter.maximum);
        let value = match knobs.scale {
            Scale::Unit => (level - parameter.minimum) / (parameter.maximum - parameter.minimum),
            Scale::Parameter => level,
        };
        (index < MAX_PARAMETERS && knobs.values[index].is_none()).then_some((index, value))
    }

    /// Why no knob of this model follows the noise, if the bus is to be told.
    pub fn newly_without_level(&mut self, knobs: Knobs) -> Option<WithoutLevel> {
        let reason = match self.told {
            None => WithoutLevel::NoParameter,
            Some((index, _)) if knobs.values.get(index)?.is_some() => WithoutLevel::IsSet(index),
            Some(_) => return None,
        };
        (!std::mem::replace(&mut self.warned_of_level, true)).then_some(reason)
    }

    /// Whether frames come out as they go in.
    pub fn is_identity(&self) -> bool {
        self.failure.is_none() && self.loaded.engine.is_identity()
    }

    /// Running time from this frame to the next, which is played at this rate: what the buffer or the caps say, or as
    /// from the last.
    pub fn frame_duration(
        &mut self,
        running_time: Option<gst::ClockTime>,
        rate: f64,
        buffer: &gst::BufferRef,
    ) -> Option<gst::ClockTime> {
        let last = std::mem::replace(&mut self.last_running_time, running_time);
        let of_caps = || {
            let fps = self.info.as_ref()?.fps();
            let (numer, denom) =
                (u64::try_from(fps.numer()).ok()?, u64::try_from(fps.denom()).ok()?);
            // Stills and streams of variable rate have 0/1.
            (numer > 0).then(|| gst::ClockTime::SECOND.mul_div_floor(denom, numer))?
        };
        let elapsed = || running_time?.checked_sub(last?);
        let is_some = |time: &gst::ClockTime| *time >= SHORTEST_FRAME;
        let of_stream = buffer.duration().filter(is_some).or_else(|| of_caps().filter(is_some));
        let played = |time: gst::ClockTime| {
            let time = (time.nseconds() as f64 / rate) as u64;
            gst::ClockTime::from_nseconds(time.min(u64::MAX - 1))
        };
        of_stream.map(played).filter(is_some).or_else(|| elapsed().filter(is_some))
    }

    /// Whether something that is due every `interval` of running time is due now.
    pub fn is_due(
        &mut self,
        running_time: Option<gst::ClockTime>,
        interval: gst::ClockTime,
    ) -> bool {
        let Some(now) = running_time else { return false };
        let last = *self.last_message.get_or_insert(now);
        // After a flush running time starts anew.
        let is_due = now < last || now - last >= interval;
        if is_due {
            self.last_message = Some(now);
        }
        is_due
    }

    /// Forgets what depends on running time, which starts anew.
    pub fn flush(&mut self) {
        self.policy.flush();
        self.noise.forget();
        self.last_running_time = None;
        self.last_message = None;
    }

    /// See [`Engine::saturation`].
    pub fn saturation(&self) -> f64 {
        self.loaded.engine.saturation()
    }

    /// Tells the process how long frames of this stream take.
    pub fn learn(&self, time: Duration) {
        if let (Some(engine), Some(info)) = (&self.loaded.alike, &self.info) {
            frame_times::learn(engine, info, time);
        }
    }

    /// Measures the noise of a frame, if it is time to. One that cannot be read is left to
    /// [`State::transform`] to complain of.
    pub fn measure_noise(&mut self, input: &gst::BufferRef, scan: Scan) {
        if !scan.is_known() || !self.noise.is_due() {
            return;
        }
        let Self { info: Some(info), packed, unpacked, noise, .. } = self else { return };
        let (rows, bits) = (scan.pictures(info.height())[0], info.comp_depth(0));
        let mut measure = |info: &VideoInfo, input: &VideoFrameRef<&gst::BufferRef>| {
            let format = formats::format_of(info, bits)?;
            Ok(noise.meter.measure(&frame::readable(format, input, rows)?))
        };
        let measured = map(input, info, packed).and_then(|input| match unpacked {
            None => measure(info, &input),
            Some(unpacked) => {
                unpacked.unpack(&input, scan == Scan::Interleaved);
                measure(unpacked.input.info(), &unpacked.input.as_video_frame_ref())
            }
        });
        noise.measured(measured.unwrap_or_default());
    }

    /// Filters one frame.
    ///
    /// # Errors
    /// [`Error::Frame`] when a buffer does not hold a frame of the caps, or fields apart. Also a failure to set its
    /// tuning.
    pub fn transform(&mut self, input: &gst::BufferRef, output: &mut gst::BufferRef) -> Result<()> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let info = self.info.as_ref().ok_or_else(|| Error::Frame("no caps yet".into()))?;
        if self.frame.scan == Scan::Apart {
            // `GstVideoFrame` would look for whole frames in these buffers.
            return Err(Error::Frame("fields apart".into()));
        }
        let (out_info, scale) = (self.out_info.as_ref().unwrap_or(info), self.loaded.scale);
        let input = map(input, info, &mut self.packed)?;
        let mut output = VideoFrameRef::from_buffer_ref_writable(output, out_info)
            .map_err(|error| Error::Frame(error.to_string()))?;
        if self.frame.is_untouched() && scale == 1 {
            return input.copy(&mut output).map_err(|error| Error::Frame(error.to_string()));
        }
        let (engine, bits) = (&mut *self.loaded.engine, info.comp_depth(0));
        let mut render = Render { engine, task: self.frame, bits, scale, scaled: &mut self.scaled };
        let Some(unpacked) = &mut self.unpacked else {
            return render.run((&input, info), &mut output);
        };
        let is_interleaved = self.frame.scan == Scan::Interleaved;
        unpacked.unpack(&input, is_interleaved);
        let (from, to) = (&unpacked.input, &mut unpacked.output);
        let input = (&from.as_video_frame_ref(), from.info());
        render.run(input, &mut to.as_mut_video_frame_ref())?;
        unpacked.pack(&mut output, is_interleaved);
        Ok(())
    }
}

/// The frame in a buffer, which is copied to `packed` first if it lies oddly.
///
/// # Errors
/// [`Error::Frame`] when the buffer does not hold a frame of the caps.
fn map<'a>(
    buffer: &'a gst::BufferRef,
    info: &VideoInfo,
    packed: &'a mut Option<gst::Buffer>,
) -> Result<VideoFrameRef<&'a gst::BufferRef>> {
    let failed = |error: glib::BoolError| Error::Frame(error.to_string());
    let buffer = if memory::is_mappable(buffer, info)? {
        buffer
    } else {
        let packed = match packed {
            Some(packed) => packed,
            packed => packed.insert(gst::Buffer::with_size(info.size()).map_err(failed)?),
        };
        memory::pack(buffer, info, packed.make_mut())?;
        &**packed
    };
    VideoFrameRef::from_buffer_ref_readable(buffer, info).map_err(failed)
}

/// Makes a frame whose samples have so many bits.
struct Render<'s> {
    engine: &'s mut dyn Engine,
    task: FrameTask,
    bits: u32,
    /// How many times as large the output is.
    scale: usize,
    scaled: &'s mut Option<Scaled>,
}

impl Render<'_> {
    /// Of a frame of these caps, which may be larger itself than they say.
    fn run(
        &mut self,
        (input, info): (&VideoFrameRef<&gst::BufferRef>, &VideoInfo),
        output: &mut VideoFrameRef<&mut gst::BufferRef>,
    ) -> Result<()> {
        let FrameTask { decision, compare, scan } = self.task;
        if !self.task.is_untouched() {
            let formats = (
                formats::format_of(info, self.bits)?,
                formats::format_of(output.info(), self.bits)?,
            );
            for &rows in scan.pictures(info.height()) {
                let readable = frame::readable(formats.0, input, rows)?;
                self.engine.process(&readable, &mut frame::writable(formats.1, output, rows)?)?;
            }
            mix::copy_alpha(input, output, self.scale);
        }
        let weight = match decision {
            Decision::Filter(weight) if !self.task.is_untouched() => weight,
            _ => 0.0,
        };
        if weight >= 1.0 && compare != Compare::Split {
            return Ok(());
        }
        if self.scale > 1 && self.scaled.is_none() {
            *self.scaled = Some(Scaled::new(info, output.info())?);
        }
        let scaled = self.scaled.as_mut().map(|scaled| scaled.of(input, (info, self.bits)));
        let scaled = scaled.transpose()?;
        let before = scaled.as_ref().unwrap_or(input);
        if weight < 1.0 {
            mix::blend(before, output, weight);
        }
        if compare == Compare::Split {
            mix::split(before, output);
        }
        Ok(())
    }
}

/// As GStreamer counts time.
pub fn clock_time(time: Duration) -> gst::ClockTime {
    gst::ClockTime::from_nseconds(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX - 1))
}
