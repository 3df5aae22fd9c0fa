//! First frames of an engine before the stream's first: they pay for threads, caches and memory, and
//! show how long a frame takes.

use std::time::Duration;

use gstreamer as gst;
use gstreamer_video as gst_video;

use gst_video::{VideoFrame, VideoInfo};
use tunableconv::engine::Engine;
use tunableconv::tuning::Tuning;
use tunableconv::{Error, Result};

use super::fields::Rows;
use super::live::Moment;
use super::load::Loaded;
use super::{formats, frame, frame_times, scaled, unpack};

/// Frames after the first, which is far slower than those of a running stream.
const MEASURED_FRAMES: usize = 3;

/// After this time no further frame is started.
const BUDGET: Duration = Duration::from_millis(50);

/// Larger frames are measured on as many of their rows, so that negotiation stays short.
const MAX_PIXELS: u32 = 1280 * 256;

/// What tells the time.
pub type Clock<'a> = &'a dyn Fn() -> Moment;

/// How long a frame of these caps takes: measured on black ones, unless the process knows it from
/// such an engine. Afterwards the engine stands at `tuning`.
///
/// # Errors
/// As [`Engine::process`].
pub fn time_of_a_frame(
    loaded: &mut Loaded,
    info: &VideoInfo,
    tuning: &Tuning,
    clock: Clock<'_>,
) -> Result<Duration> {
    let known = loaded.alike.as_deref().and_then(|engine| frame_times::known(engine, info));
    if let Some(time) = known {
        return Ok(time);
    }
    let bits = info.comp_depth(0);
    let unpacked = match formats::UNPACKED.contains(&info.format()) {
        true => Some(unpack::unpacked(info)?),
        false => None,
    };
    let info_of = (unpacked.as_ref().unwrap_or(info), bits);
    let time = warm_up(&mut *loaded.engine, loaded.scale, info_of, tuning, clock)?;
    if let Some(engine) = &loaded.alike {
        frame_times::learn(engine, info, time);
    }
    Ok(time)
}

/// Runs black frames of these caps, with samples of so many bits, through the engine.
fn warm_up(
    engine: &mut dyn Engine,
    scale: usize,
    (info, bits): (&VideoInfo, u32),
    tuning: &Tuning,
    clock: Clock<'_>,
) -> Result<Duration> {
    engine.set_tuning(&busy_tuning(engine)?)?;
    let measured = measure(engine, scale, (info, bits), clock);
    engine.set_tuning(tuning)?;
    measured
}

/// Every parameter at its maximum: surely not one that the engine could shortcut.
fn busy_tuning(engine: &dyn Engine) -> Result<Tuning> {
    let space = &engine.metadata().tuning;
    let maxima: Vec<f64> = space.parameters.iter().map(|p| p.maximum).collect();
    space.tuning_from_weights(&maxima)
}

/// The longest time of a frame.
fn measure(
    engine: &mut dyn Engine,
    scale: usize,
    (info, bits): (&VideoInfo, u32),
    clock: Clock<'_>,
) -> Result<Duration> {
    let rows = info.height().min((MAX_PIXELS / info.width()).max(1));
    let of_all = f64::from(info.height()) / f64::from(rows);
    let no_frame = |reason: glib::BoolError| Error::Frame(reason.to_string());
    let info = VideoInfo::builder(info.format(), info.width(), rows)
        .colorimetry(&info.colorimetry())
        .build()
        .map_err(no_frame)?;
    let buffer = |info: &VideoInfo| {
        let mut buffer = gst::Buffer::with_size(info.size())?;
        buffer.make_mut().memset(.., 0)?;
        Ok(buffer)
    };
    let input = VideoFrame::from_buffer_readable(buffer(&info).map_err(no_frame)?, &info);
    let input = input.map_err(|_| Error::Frame("a buffer cannot be read".into()))?;
    let out_info = scaled::info(&info, scale)?;
    let output = VideoFrame::from_buffer_writable(buffer(&out_info).map_err(no_frame)?, &out_info);
    let mut output = output.map_err(|_| Error::Frame("a buffer cannot be written".into()))?;
    let mut run = || -> Result<Duration> {
        let start = clock();
        let (input, mut output) = (input.as_video_frame_ref(), output.as_mut_video_frame_ref());
        let input = frame::readable(formats::format_of(&info, bits)?, &input, Rows::All)?;
        let format = formats::format_of(&out_info, bits)?;
        engine.process(&input, &mut frame::writable(format, &mut output, Rows::All)?)?;
        Ok(clock().since(&start))
    };

    let begun = clock();
    let first = run()?;
    let mut slowest = Duration::ZERO;
    for _ in 0..MEASURED_FRAMES {
        if clock().since(&begun) >= BUDGET {
            break;
        }
        slowest = slowest.max(run()?);
    }
    // Without a second frame the first must do.
    let slowest = if slowest.is_zero() { first } else { slowest };
    Ok(slowest.mul_f64(of_all))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use gst_video::VideoFormat;
    use tunableconv::checkpoint::{Architecture, Metadata, Provenance};
    use tunableconv::engine::Precision;
    use tunableconv::frame::{Frame, FrameFormat, FrameMut};
    use tunableconv::nn::VideoNetConfig;
    use tunableconv::tuning::{Domain, Parameter, TuningSpace};

    use super::*;

    /// Writes down what it is asked for.
    struct Recorder {
        metadata: Metadata,
        tuning: Option<Tuning>,
        processed: Vec<(usize, Option<Tuning>)>,
    }

    impl Engine for Recorder {
        fn metadata(&self) -> &Metadata {
            &self.metadata
        }

        fn description(&self) -> &str {
            "recorder"
        }

        fn precision(&self) -> Precision {
            Precision::F32
        }

        fn set_tuning(&mut self, tuning: &Tuning) -> Result<bool> {
            self.tuning = Some(*tuning);
            Ok(true)
        }

        fn is_identity(&self) -> bool {
            false
        }

        fn process(&mut self, input: &Frame<'_>, output: &mut FrameMut<'_>) -> Result<()> {
            assert_eq!(input.format(), output.format());
            let FrameFormat { width, height, .. } = input.format();
            self.processed.push((width * height, self.tuning));
            Ok(())
        }
    }

    #[test]
    fn it_works_at_the_maximum_and_leaves_the_tuning_as_told() {
        gst::init().unwrap();
        let parameter = Parameter {
            name: "denoise".into(),
            nick: String::new(),
            blurb: String::new(),
            minimum: 0.0,
            maximum: 5.0,
            default: 0.0,
            objective: String::new(),
        };
        let tuning = TuningSpace { domain: Domain::Box, parameters: vec![parameter] };
        let (zero, maximum) = (tuning.tuning(&[0.0]).unwrap(), tuning.tuning(&[5.0]).unwrap());
        let metadata = Metadata {
            architecture: Architecture::Video(VideoNetConfig::default()),
            tuning,
            provenance: Provenance::default(),
            calibration: None,
        };
        for (format, width, height) in [
            (VideoFormat::I420, 1, 1),
            (VideoFormat::Nv12, 1920, 1080),
            (VideoFormat::P01010le, 8192, 8192),
            (VideoFormat::Bgra, 1, 8192),
        ] {
            let mut engine =
                Recorder { metadata: metadata.clone(), tuning: None, processed: Vec::new() };
            let info = VideoInfo::builder(format, width, height).build().unwrap();
            let ticks = Cell::new(0);
            let system = gst::SystemClock::obtain();
            let clock = || {
                let now = gst::ClockTime::from_seconds(ticks.replace(ticks.get() + 1));
                Moment::on(Some((system.clone(), now)))
            };
            let time = warm_up(&mut engine, 1, (&info, info.comp_depth(0)), &zero, &clock).unwrap();
            // A second from look to look is more than the budget, so that one frame must do.
            let rows = f64::from(height.min((MAX_PIXELS / width).max(1)));
            assert_eq!(time, Duration::from_secs(1).mul_f64(f64::from(height) / rows));
            assert_eq!(engine.tuning.as_ref(), Some(&zero));
            assert_eq!(engine.processed.len(), 1);
            for (pixels, tuning) in engine.processed {
                assert_eq!(tuning.as_ref(), Some(&maximum));
                assert!(pixels <= MAX_PIXELS as usize);
                assert!(pixels == (width * height) as usize || width * height > MAX_PIXELS);
            }
        }
    }
}
