//! The one error type of the library.

use std::path::PathBuf;

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong; each message names the file, tensor, parameter or frame at fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not a checkpoint, or is truncated or malformed.
    #[error("{file}: not a valid checkpoint: {reason}")]
    Checkpoint {
        /// The file, or "built-in checkpoint".
        file: String,
        /// What was expected and what was found.
        reason: String,
    },
    /// A tensor of a checkpoint is missing, unexpected, misshaped, of the wrong type or not finite.
    #[error("{file}: tensor `{tensor}`: {reason}")]
    Tensor {
        /// The file, or "built-in checkpoint".
        file: String,
        /// The tensor's name.
        tensor: String,
        /// What was expected and what was found.
        reason: String,
    },
    /// A precision cannot be had.
    #[error("precision {precision}: {reason}")]
    Precision {
        /// What was asked for.
        precision: String,
        /// Why not.
        reason: String,
    },
    /// A tuning has the wrong number of entries.
    #[error("tuning has {got} entries, the model has {expected} parameters ({names})")]
    TuningLen {
        /// Number of parameters.
        expected: usize,
        /// Number of entries given.
        got: usize,
        /// The parameters' names.
        names: String,
    },
    /// A tuning entry is outside its parameter's range, or not a number.
    #[error("parameter `{name}`: {value} is outside {minimum}..={maximum}")]
    TuningRange {
        /// The parameter's name.
        name: String,
        /// The value given.
        value: f64,
        /// Smallest value allowed.
        minimum: f64,
        /// Largest value allowed.
        maximum: f64,
    },
    /// A tuning names a parameter that the model does not have.
    #[error("no parameter `{name}`; the model has {names}")]
    UnknownParameter {
        /// The name given.
        name: String,
        /// The parameters' names.
        names: String,
    },
    /// A tuning on the simplex does not sum to one.
    #[error("tuning sums to {sum}, the entries of a simplex must sum to 1")]
    TuningSum {
        /// Sum of the entries.
        sum: f64,
    },
    /// A description of tuning parameters contradicts itself.
    #[error("parameter `{name}`: {reason}")]
    Parameter {
        /// The parameter's name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A net's configuration is out of bounds.
    #[error("net configuration: {0}")]
    Config(String),
    /// A frame's planes do not fit its size, or two frames do not fit each other.
    #[error("frame: {0}")]
    Frame(String),
    /// A device cannot be used.
    #[error("device {device}: {reason}")]
    Device {
        /// The device asked for.
        device: String,
        /// Why it cannot be used.
        reason: String,
    },
    /// The tensor library failed.
    #[error("candle: {0}")]
    Candle(#[from] candle_core::Error),
}
