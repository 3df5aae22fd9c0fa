//! Which precision an engine computes in.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

/// The precision asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Precision {
    /// int8 where the checkpoint is calibrated for it and the CPU has fast int8, else f16 where it
    /// is native, else f32.
    #[default]
    Auto,
    /// 32-bit float.
    F32,
    /// 16-bit float between the first and the last layer, sums of more than a few dozen products in
    /// f32; needs a CPU with AVX512-FP16.
    F16,
    /// 8-bit integer activations and weights between the first and the last layer, 16-bit ones
    /// there.
    Int8,
}

impl Precision {
    const ALL: [Self; 4] = [Self::Auto, Self::F32, Self::F16, Self::Int8];
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|p| p.to_string() == text).ok_or_else(|| Error::Precision {
            precision: format!("`{text}`"),
            reason: "expected auto, f32, f16 or int8".into(),
        })
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Precision::Auto => "auto",
            Precision::F32 => "f32",
            Precision::F16 => "f16",
            Precision::Int8 => "int8",
        })
    }
}
