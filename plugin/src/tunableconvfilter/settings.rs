//! Values of the properties.

use tunableconv::tuning::MAX_PARAMETERS;

use super::definition::Definition;
use super::knobs::{Knobs, Scale, defaults};
use super::models::built_in;

/// How to show what the filter does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "TunableConvCompare")]
pub enum Compare {
    /// The filtered picture.
    #[default]
    #[enum_value(name = "The filtered picture", nick = "none")]
    None,
    /// The left half as it came in.
    #[enum_value(name = "The left half as it came in", nick = "split")]
    Split,
}

/// What to do with a frame that would come too late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "TunableConvOverload")]
pub enum Overload {
    /// Filter it all the same.
    #[default]
    #[enum_value(name = "Filter every frame, also when it will be late", nick = "wait")]
    Wait,
    /// Send it as it is.
    #[enum_value(name = "Send a frame that would be late as it came in", nick = "passthrough")]
    Passthrough,
}

/// Everything that can be set from outside, and what properties tell of the running model.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Path of the checkpoint, of elements with that property; empty for the built-in one.
    pub model: Option<String>,
    /// As [`tunableconv::engine::DeviceChoice`] reads it.
    pub device: String,
    /// As [`tunableconv::engine::Precision`] reads it.
    pub precision: String,
    /// Threads on the CPU; 0 for all cores, shared with other elements.
    pub threads: u32,
    /// As [`super::keyframes::parse`] reads it.
    pub keyframes: Option<String>,
    /// What may change with every frame.
    pub live: Live,
    /// What knobs that were never set stand at, in the model last loaded.
    pub defaults: [f64; MAX_PARAMETERS],
    /// What runs; the text is empty while stopped.
    pub engine: Running,
}

/// What may change with every frame; a frame sees one copy of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Live {
    /// What was set of the tuning.
    pub knobs: Knobs,
    /// How to show what the filter does.
    pub compare: Compare,
    /// What to do with frames that would be late.
    pub overload: Overload,
    /// Whether to post statistics.
    pub message: bool,
}

/// What `stats` tells of a started element.
#[derive(Clone, Debug, Default)]
pub struct Running {
    /// Engine, device, threads, precision and remarks.
    pub engine: String,
    /// Precision alone.
    pub precision: String,
    /// File of the model, or that it is built in.
    pub model: String,
}

impl Settings {
    /// Nothing set.
    pub fn new(definition: &Definition) -> Self {
        let of_built_in =
            |scale| built_in().map(|model| defaults(&model.metadata().tuning, scale)).ok();
        let defaults = match definition.scale {
            Scale::Unit => of_built_in(Scale::Unit).unwrap_or_default(),
            Scale::Parameter => {
                let mut defaults = [0.0; MAX_PARAMETERS];
                let knobs = defaults.iter_mut().zip(&definition.knobs);
                knobs.for_each(|(default, knob)| *default = knob.default);
                defaults
            }
        };
        Self {
            model: None,
            device: "auto".into(),
            precision: "auto".into(),
            threads: 0,
            keyframes: None,
            live: Live {
                knobs: Knobs::unset(definition.scale),
                compare: Compare::default(),
                overload: Overload::default(),
                message: false,
            },
            defaults,
            engine: Running::default(),
        }
    }

    /// What a knob's property reads as.
    pub fn knob(&self, index: usize) -> f64 {
        self.live.knobs.values[index].unwrap_or(self.defaults[index])
    }
}
