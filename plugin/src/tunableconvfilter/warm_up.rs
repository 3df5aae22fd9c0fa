//! First frames before the stream's first: they pay for threads, caches and memory, and show how
//! long a frame takes.

use std::time::{Duration, Instant};

use tunableconv::Result;
use tunableconv::engine::Engine;
use tunableconv::frame::FrameFormat;
use tunableconv::picture::Picture;
use tunableconv::tuning::Tuning;

/// Frames after the first, which is far slower than those of a running stream.
const MEASURED_FRAMES: usize = 3;

/// After this time no further frame is started.
const BUDGET: Duration = Duration::from_secs(1);

/// Larger frames are measured on as many of their rows, so that negotiation stays short.
const MAX_PIXELS: usize = 1920 * 1088;

/// Latency over the slowest frame measured: the machine will not always be as idle.
const HEADROOM: f64 = 1.5;

/// Runs grey frames of this format through the engine and returns the latency to announce.
/// Afterwards the engine stands at `tuning`.
///
/// # Errors
/// As [`Engine::process`].
pub fn warm_up(engine: &mut dyn Engine, format: FrameFormat, tuning: &Tuning) -> Result<Duration> {
    engine.set_tuning(&busy_tuning(engine)?)?;
    let measured = measure(engine, format);
    engine.set_tuning(tuning)?;
    Ok(measured?.mul_f64(HEADROOM))
}

/// Every parameter at its maximum: surely not one that the engine could shortcut.
fn busy_tuning(engine: &dyn Engine) -> Result<Tuning> {
    let space = &engine.metadata().tuning;
    let maxima: Vec<f64> = space.parameters.iter().map(|p| p.maximum).collect();
    space.tuning_from_weights(&maxima)
}

/// The longest time of a frame.
fn measure(engine: &mut dyn Engine, format: FrameFormat) -> Result<Duration> {
    let rows = format.height.min((MAX_PIXELS / format.width).max(1));
    let scale = format.height as f64 / rows as f64;
    let format = FrameFormat { height: rows, ..format };
    let input = Picture::grey(format)?;
    let mut output = input.clone();
    let mut run = || {
        let start = Instant::now();
        engine.process(&input.frame(), &mut output.frame_mut()).map(|()| start.elapsed())
    };

    let begun = Instant::now();
    let first = run()?;
    let mut slowest = Duration::ZERO;
    for _ in 0..MEASURED_FRAMES {
        if begun.elapsed() >= BUDGET {
            break;
        }
        slowest = slowest.max(run()?);
    }
    // Without a second frame the first must do.
    let slowest = if slowest.is_zero() { first } else { slowest };
    Ok(slowest.mul_f64(scale))
}

#[cfg(test)]
mod tests {
    use tunableconv::checkpoint::{Architecture, Metadata, Provenance};
    use tunableconv::frame::{Frame, FrameMut, Range, SampleFormat};
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

        fn precision(&self) -> tunableconv::engine::Precision {
            tunableconv::engine::Precision::F32
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
        for (width, height) in [(1, 1), (1920, 1080), (8192, 8192), (1, 8192)] {
            let mut engine =
                Recorder { metadata: metadata.clone(), tuning: None, processed: Vec::new() };
            let format =
                FrameFormat { width, height, range: Range::Limited, samples: SampleFormat::U8 };
            warm_up(&mut engine, format, &zero).unwrap();
            assert_eq!(engine.tuning.as_ref(), Some(&zero));
            assert!(!engine.processed.is_empty());
            for (pixels, tuning) in engine.processed {
                assert_eq!(tuning.as_ref(), Some(&maximum));
                assert!(pixels <= MAX_PIXELS && (pixels == width * height || height == 8192));
            }
        }
    }
}
