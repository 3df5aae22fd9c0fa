//! Values of the properties.

use tunableconv::engine::{self, DeviceChoice, Options};
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
    #[enum_value(name = "Filtered", nick = "none")]
    None,
    /// The left half as it came in.
    #[enum_value(name = "Left half as it came in", nick = "split")]
    Split,
}

/// What to do with a frame that would come too late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "TunableConvOverload")]
pub enum Overload {
    /// Send it as it is where a sink has said that it drops late frames.
    #[default]
    #[enum_value(name = "Automatic", nick = "auto")]
    Auto,
    /// Filter it all the same.
    #[enum_value(name = "Filter every frame", nick = "wait")]
    Wait,
    /// Send it as it is.
    #[enum_value(name = "Pass late frames unfiltered", nick = "passthrough")]
    Passthrough,
}

/// Where to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "TunableConvDevice")]
pub enum Device {
    /// CUDA if it can.
    #[default]
    #[enum_value(name = "Automatic", nick = "auto")]
    Auto,
    /// The CPU.
    #[enum_value(name = "CPU", nick = "cpu")]
    Cpu,
    /// A CUDA device.
    #[enum_value(name = "CUDA", nick = "cuda")]
    Cuda,
}

/// Number format to compute in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "TunableConvPrecision")]
pub enum Precision {
    /// The fastest.
    #[default]
    #[enum_value(name = "Automatic", nick = "auto")]
    Auto,
    /// 32-bit float.
    #[enum_value(name = "32-bit float", nick = "f32")]
    F32,
    /// 16-bit float.
    #[enum_value(name = "16-bit float, on CUDA", nick = "f16")]
    F16,
    /// 8-bit integer.
    #[enum_value(name = "8-bit integer", nick = "int8")]
    Int8,
}

/// What decides which engine runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Choice {
    /// Path of the checkpoint, of elements with that property; empty for the built-in one.
    pub model: String,
    /// Where it runs.
    pub device: Device,
    /// Which CUDA device.
    pub cuda_device_id: u32,
    /// What it computes in.
    pub precision: Precision,
    /// Threads on the CPU; 0 for all cores, shared with other elements.
    pub threads: u32,
    /// Rows and columns that are made at once, where whole frames would be; 0 for the library's choice.
    pub tile_size: u32,
}

impl Choice {
    /// As the library takes it.
    pub fn options(&self) -> Options {
        Options {
            device: match self.device {
                Device::Auto => DeviceChoice::Auto,
                Device::Cpu => DeviceChoice::Cpu,
                Device::Cuda => DeviceChoice::Cuda(self.cuda_device_id as usize),
            },
            precision: match self.precision {
                Precision::Auto => engine::Precision::Auto,
                Precision::F32 => engine::Precision::F32,
                Precision::F16 => engine::Precision::F16,
                Precision::Int8 => engine::Precision::Int8,
            },
            threads: self.threads as usize,
            tile_size: self.tile_size as usize,
        }
    }
}

/// Everything that can be set from outside, and what properties tell of the running model.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which engine is to run.
    pub choice: Choice,
    /// Which one runs, or is the next to; `None` while stopped.
    pub in_force: Option<Choice>,
    /// As [`super::keyframes::parse`] reads it.
    pub keyframes: String,
    /// What may change with every frame.
    pub live: Live,
    /// What knobs that were never set stand at, in the model last loaded.
    pub defaults: [f64; MAX_PARAMETERS],
    /// A knob that was never set and follows the noise, and where it stands.
    pub followed: Option<(usize, f64)>,
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
    pub post_messages: bool,
    /// Whether the knob for noise follows the noise.
    pub auto_level: bool,
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
            choice: Choice::default(),
            in_force: None,
            keyframes: String::new(),
            live: Live {
                knobs: Knobs::unset(definition.scale),
                compare: Compare::default(),
                overload: Overload::default(),
                post_messages: false,
                auto_level: false,
            },
            defaults,
            followed: None,
            engine: Running::default(),
        }
    }

    /// What a knob's property reads as.
    pub fn knob(&self, index: usize) -> f64 {
        let followed = self.followed.filter(|(followed, _)| *followed == index);
        let set = self.live.knobs.values[index];
        let default = self.defaults[index];
        // Where it stands by itself it may be followed although it was set, see `State::set_for_level`.
        let own = set.filter(|value| *value != default);
        own.or(followed.map(|(_, value)| value)).unwrap_or(default)
    }
}
