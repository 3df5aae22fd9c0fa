//! Which precision an engine computes in.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

/// The precision asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Precision {
    /// On the CPU int8 where the checkpoint is calibrated for it and the CPU has fast int8, else f32; on CUDA f16.
    #[default]
    Auto,
    /// 32-bit float.
    F32,
    /// 16-bit float, summed in 32 bits; on CUDA only.
    F16,
    /// 8-bit integer activations and weights between the first and the last layer, 16-bit ones
    /// there.
    Int8,
}

impl Precision {
    const ALL: [Self; 4] = [Self::Auto, Self::F32, Self::F16, Self::Int8];

    /// What [`Precision::Auto`] is on a CPU: `multiplies_bytes` says whether it has an instruction for
    /// dot products of 8-bit integers, `takes_int8` whether the net runs in int8.
    pub(crate) fn fastest(multiplies_bytes: bool, takes_int8: bool) -> Self {
        if multiplies_bytes && takes_int8 { Self::Int8 } else { Self::F32 }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_is_int8_only_where_the_net_and_the_cpu_are_made_for_it() {
        for multiplies_bytes in [false, true] {
            for takes_int8 in [false, true] {
                let expected = match (multiplies_bytes, takes_int8) {
                    (true, true) => Precision::Int8,
                    _ => Precision::F32,
                };
                assert_eq!(Precision::fastest(multiplies_bytes, takes_int8), expected);
            }
        }
    }
}
