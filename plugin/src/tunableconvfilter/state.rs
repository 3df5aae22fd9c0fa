//! The loaded model while the element is started.

use std::path::Path;
use std::time::Duration;

use gstreamer as gst;
use gstreamer_video as gst_video;

use gst_video::{VideoFrameRef, VideoInfo};
use once_cell::sync::OnceCell;
use tunableconv::checkpoint::{Checkpoint, Colour};
use tunableconv::engine::{self, Engine, Options};
use tunableconv::frame::FrameFormat;
use tunableconv::tuning::{Tuning, TuningSpace};
use tunableconv::{Error, Result};

use super::settings::{SLOT_NAMES, SLOTS, Settings, Slots};
use super::{frame, warm_up};

/// The built-in checkpoint, parsed once for all elements.
///
/// # Errors
/// As [`Checkpoint::built_in`].
pub fn built_in() -> Result<&'static Checkpoint> {
    static BUILT_IN: OnceCell<Checkpoint> = OnceCell::new();
    BUILT_IN.get_or_try_init(Checkpoint::built_in)
}

/// Belongs to the streaming thread, and to `start` and `stop` when there is none.
pub struct State {
    engine: Box<dyn Engine>,
    /// What the engine is set to.
    tuning: Tuning,
    /// Why it could not be set, until a frame reports it.
    failure: Option<Error>,
    /// Of the caps; `None` before negotiation.
    info: Option<VideoInfo>,
    /// What the engine was warmed up for.
    warm_for: Option<FrameFormat>,
    /// Slots without a parameter of which the bus has been told.
    warned: [bool; SLOTS],
}

impl State {
    /// Loads the model and makes an engine for it.
    ///
    /// # Errors
    /// A message for the bus, with the library's own.
    pub fn open(settings: &Settings) -> Result<Self, gst::ErrorMessage> {
        let options = Options {
            device: settings.device.parse().map_err(settings_error)?,
            precision: settings.precision.parse().map_err(settings_error)?,
            threads: settings.threads as usize,
        };
        let engine = match settings.model.as_deref().filter(|path| !path.is_empty()) {
            None => {
                let checkpoint = built_in().map_err(model_error)?;
                open_engine(checkpoint, &options)?
            }
            Some(path) => {
                let checkpoint = Checkpoint::read(Path::new(path)).map_err(model_error)?;
                open_engine(&checkpoint, &options)?
            }
        };
        let tuning = settings.slots.tuning(&engine.metadata().tuning).map_err(model_error)?;
        Ok(Self {
            engine,
            tuning,
            failure: None,
            info: None,
            warm_for: None,
            warned: [false; SLOTS],
        })
    }

    /// Which engine runs, on what.
    pub fn description(&self) -> &str {
        self.engine.description()
    }

    /// The model's tuning parameters.
    pub fn space(&self) -> &TuningSpace {
        &self.engine.metadata().tuning
    }

    /// Sets the tuning of the next frame. A failure is reported by that frame's
    /// [`State::transform`].
    pub fn set_slots(&mut self, slots: Slots) {
        let set = slots.tuning(self.space()).and_then(|tuning| {
            self.engine.set_tuning(&tuning)?;
            self.tuning = tuning;
            Ok(())
        });
        self.failure = set.err();
    }

    /// Messages about slots that were set without a parameter, each slot once.
    pub fn new_warnings(&mut self, slots: Slots) -> Vec<String> {
        let mut warnings = Vec::new();
        for index in slots.without_parameter(&self.engine.metadata().tuning) {
            if !std::mem::replace(&mut self.warned[index], true) {
                warnings.push(format!(
                    "`{}` has no effect: the model's tuning parameters are {}",
                    SLOT_NAMES[index],
                    self.space().names()
                ));
            }
        }
        warnings
    }

    /// Prepares for frames of these caps; returns the latency to announce when it was measured
    /// anew.
    ///
    /// # Errors
    /// As [`warm_up::warm_up`].
    pub fn set_info(&mut self, info: &VideoInfo) -> Result<Option<Duration>> {
        self.info = Some(info.clone());
        let format = frame::format_of(info);
        if self.warm_for == Some(format) {
            return Ok(None);
        }
        let latency = warm_up::warm_up(&mut *self.engine, format, &self.tuning)?;
        self.warm_for = Some(format);
        Ok(Some(latency))
    }

    /// The caps that were negotiated, if frames come out as they go in.
    pub fn identity_info(&self) -> Option<&VideoInfo> {
        let is_identity = self.failure.is_none() && self.engine.is_identity();
        self.info.as_ref().filter(|_| is_identity)
    }

    /// Filters one frame.
    ///
    /// # Errors
    /// Also a failure to set its tuning.
    pub fn transform(
        &mut self,
        input: &VideoFrameRef<&gst::BufferRef>,
        output: &mut VideoFrameRef<&mut gst::BufferRef>,
    ) -> Result<()> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let info = self.info.as_ref().ok_or_else(|| Error::Frame("no caps yet".into()))?;
        let format = frame::format_of(info);
        let input = frame::readable(format, input)?;
        self.engine.process(&input, &mut frame::writable(format, output)?)
    }
}

fn open_engine(
    checkpoint: &Checkpoint,
    options: &Options,
) -> Result<Box<dyn Engine>, gst::ErrorMessage> {
    let io = checkpoint.metadata.architecture.io();
    if io.colour != Colour::Yuv420 || io.scale != 1 {
        let (colour, scale) = (io.colour, io.scale);
        return Err(gst::error_msg!(
            gst::ResourceError::Settings,
            ("This model turns {colour:?} into {scale} times its size; tunableconvfilter runs \
              models that turn Yuv420 into the same size")
        ));
    }
    engine::open(checkpoint, options).map_err(|error| match error {
        Error::Device { .. } | Error::Precision { .. } => settings_error(error),
        _ => model_error(error),
    })
}

fn model_error(error: Error) -> gst::ErrorMessage {
    gst::error_msg!(gst::ResourceError::OpenRead, ("Cannot load the model: {error}"))
}

fn settings_error(error: Error) -> gst::ErrorMessage {
    gst::error_msg!(gst::ResourceError::Settings, ("Cannot use the settings: {error}"))
}
