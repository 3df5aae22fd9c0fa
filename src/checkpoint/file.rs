//! What is refused of a file, whatever net it has.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use half::f16;
use safetensors::tensor::{Dtype, TensorView};

use crate::nn::TensorSpec;
use crate::{Error, Result};

/// Largest file read.
pub const MAX_FILE_BYTES: u64 = 1 << 30;

/// Bytes of the header's length at the start of a file.
pub(super) const HEADER_LENGTH_BYTES: usize = 8;

/// Largest magnitude of an activation that a calibration may name; those of trained nets are near 1.
pub const MAX_ACTIVATION: f32 = 1e4;

/// Largest magnitude of a value in a tensor; those of trained nets are near 1.
pub const MAX_WEIGHT: f32 = 1e6;

pub(super) fn read_bounded(path: &Path) -> Result<Vec<u8>> {
    checked_length(path)?;
    fs::read(path).map_err(|source| Error::Io { path: path.into(), source })
}

/// The length of a file, if it is one and not absurdly long; pipes and devices are not opened, which could wait.
pub(super) fn checked_length(path: &Path) -> Result<u64> {
    let io = |source| Error::Io { path: path.into(), source };
    let found = fs::metadata(path).map_err(io)?;
    if !found.is_file() && !found.is_dir() {
        let reason = "a pipe or a device, expected a file".into();
        return Err(Error::Checkpoint { file: path.display().to_string(), reason });
    }
    let length = found.len();
    if length > MAX_FILE_BYTES {
        let reason = format!("{length} bytes, expected at most {MAX_FILE_BYTES}");
        return Err(Error::Checkpoint { file: path.display().to_string(), reason });
    }
    Ok(length)
}

pub(super) fn malformed(file: &str, reason: &dyn std::fmt::Display) -> Error {
    let reason = format!("not a whole safetensors file: {reason}");
    Error::Checkpoint { file: file.into(), reason }
}

/// Checks that a header has no name twice: which tensor it means would depend on the reader.
pub(super) fn check_names(file: &str, json: &[u8]) -> Result<()> {
    struct Names(BTreeSet<String>);

    impl<'de> serde::de::Visitor<'de> for Names {
        type Value = ();

        fn expecting(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            to.write_str("the tensors of a file by their names")
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(
            mut self,
            mut map: A,
        ) -> std::result::Result<(), A::Error> {
            while let Some(name) = map.next_key::<String>()? {
                map.next_value::<serde::de::IgnoredAny>()?;
                if !self.0.insert(name.clone()) {
                    return Err(serde::de::Error::custom(format!("`{name}` is there twice")));
                }
            }
            Ok(())
        }
    }

    let mut header = serde_json::Deserializer::from_slice(json);
    serde::Deserializer::deserialize_map(&mut header, Names(BTreeSet::new()))
        .map_err(|e| malformed(file, &e))
}

/// Types that tensors are stored in.
pub(super) const DTYPES: [Dtype; 2] = [Dtype::F32, Dtype::F16];

/// Values of a tensor that has its shape, and one of the [`DTYPES`].
pub(super) fn values_of(file: &str, spec: &TensorSpec, view: &TensorView<'_>) -> Result<Vec<f32>> {
    let values: Vec<f32> = if view.dtype() == Dtype::F16 {
        let (words, _) = view.data().as_chunks::<2>();
        words.iter().map(|word| f16::from_le_bytes(*word).to_f32()).collect()
    } else {
        let (words, _) = view.data().as_chunks::<4>();
        words.iter().map(|word| f32::from_le_bytes(*word)).collect()
    };
    // True of NaN too.
    match values.iter().position(|v| !(-MAX_WEIGHT..=MAX_WEIGHT).contains(v)) {
        None => Ok(values),
        Some(at) => {
            let reason =
                format!("element {at} is {:?}, expected at most ±{MAX_WEIGHT}", values[at]);
            Err(tensor_error(file, &spec.name, reason))
        }
    }
}

pub(super) fn tensor_error(file: &str, tensor: &str, reason: String) -> Error {
    Error::Tensor { file: file.into(), tensor: tensor.into(), reason }
}
