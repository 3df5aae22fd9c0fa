//! Loads the model of an element and makes an engine for it: when the element starts, and beside the
//! one that runs when another is chosen.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gstreamer as gst;

use tunableconv::Error;
use tunableconv::checkpoint::Metadata;
use tunableconv::engine::{Engine, Model};

use super::definition::{Definition, ModelSource};
use super::knobs::parameter_knobs;
use super::models::{built_in, load};
use super::settings::{Choice, Running};

/// An engine, and what is to be told of it.
pub struct Loaded {
    /// The engine.
    pub engine: Box<dyn Engine>,
    /// How many times as large it makes frames.
    pub scale: usize,
    /// What `stats` tells.
    pub running: Running,
    /// The name that it shares with all engines that are as fast, see [`super::frame_times`].
    pub alike: Option<String>,
}

/// Where another engine waits for the streaming thread.
#[derive(Default)]
pub struct Slot {
    /// Number of starts and stops of the element, after which nobody waits for it any more.
    pub start: u64,
    /// The engine.
    pub next: Option<Next>,
    /// Whether somebody is about to look at what is chosen, and make that engine.
    pub is_asked_for: bool,
}

/// Another engine than the one that runs, for the next frame.
pub struct Next {
    /// The engine.
    pub loaded: Loaded,
    /// How long a frame takes, if there were caps.
    pub time: Option<Duration>,
}

/// Why there is no engine.
#[derive(Debug)]
pub struct LoadError {
    /// Its code on the bus.
    pub code: gst::ResourceError,
    /// For people.
    pub text: String,
}

impl LoadError {
    /// As `start` gives it.
    pub fn message(&self) -> gst::ErrorMessage {
        gst::error_msg!(self.code, ("{}", self.text))
    }
}

impl Loaded {
    /// Loads what is chosen.
    ///
    /// # Errors
    /// With the library's own text.
    pub fn open(definition: &Definition, choice: &Choice) -> Result<Self, LoadError> {
        let model = match file_of(definition, choice) {
            None => Arc::clone(built_in().map_err(of_model)?),
            Some(path) => load(path).map_err(of_model)?,
        };
        let name = name_of(definition, choice);
        if definition.source != ModelSource::Property {
            let known = names(definition.knobs.iter().map(|knob| &knob.name));
            let knobs = parameter_knobs(&model.metadata().tuning);
            let now = names(knobs.iter().map(|knob| &knob.name));
            if known != now {
                return Err(LoadError {
                    code: gst::ResourceError::OpenRead,
                    text: format!(
                        "Cannot load the model: {name}: its parameters are {now}, but were {known} \
                         when GStreamer looked for models; start the application again"
                    ),
                });
            }
        }
        let engine = open_engine(&model, choice)?;
        let running = running(&*engine, name);
        let alike = Some(format!("{}: {}", running.model, running.engine));
        Ok(Self { scale: scale_of(&*engine), engine, running, alike })
    }

    /// Checks that it can take over from an engine of this scale, for which the caps are negotiated.
    ///
    /// # Errors
    /// It has another.
    pub fn check_scale(&self, running: usize) -> Result<(), LoadError> {
        let scale = self.scale;
        if scale == running {
            return Ok(());
        }
        Err(LoadError {
            code: gst::ResourceError::Settings,
            text: format!(
                "Cannot use the settings: the model makes frames {scale} times as large, not {running}; \
                 stop the element first"
            ),
        })
    }

    /// An engine that is there already.
    pub fn of_engine(engine: Box<dyn Engine>, definition: &Definition, choice: &Choice) -> Self {
        let running = running(&*engine, name_of(definition, choice));
        Self { scale: scale_of(&*engine), running, engine, alike: None }
    }
}

/// How many times as large the chosen model makes frames, as the header of its file says.
///
/// # Errors
/// As [`Loaded::open`].
pub fn look(definition: &Definition, choice: &Choice) -> Result<usize, LoadError> {
    let Some(path) = file_of(definition, choice) else { return Ok(definition.enlarges) };
    Metadata::read(path).map(|metadata| metadata.architecture.io().scale).map_err(of_model)
}

fn scale_of(engine: &dyn Engine) -> usize {
    engine.metadata().architecture.io().scale
}

fn running(engine: &dyn Engine, model: String) -> Running {
    Running {
        engine: engine.description().into(),
        precision: engine.precision().to_string(),
        model,
    }
}

fn names<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// The file of the model; `None` for the built-in one.
fn file_of<'a>(definition: &'a Definition, choice: &'a Choice) -> Option<&'a Path> {
    match &definition.source {
        ModelSource::BuiltIn => None,
        ModelSource::File(path) => Some(path),
        ModelSource::Property => (!choice.model.is_empty()).then(|| Path::new(&choice.model)),
    }
}

/// As messages name the model.
fn name_of(definition: &Definition, choice: &Choice) -> String {
    file_of(definition, choice)
        .map_or_else(|| "built-in model".into(), |path| path.display().to_string())
}

fn open_engine(model: &Model, choice: &Choice) -> Result<Box<dyn Engine>, LoadError> {
    model.open(&choice.options()).map_err(|error| match error {
        Error::Device { .. } | Error::Precision { .. } => LoadError {
            code: gst::ResourceError::Settings,
            text: format!("Cannot use the settings: {error}"),
        },
        _ => of_model(error),
    })
}

/// An error of the model.
pub fn of_model(error: Error) -> LoadError {
    LoadError {
        code: gst::ResourceError::OpenRead,
        text: format!("Cannot load the model: {error}"),
    }
}
