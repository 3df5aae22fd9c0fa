//! Checkpoints: one `.safetensors` file with the net's tensors and, as JSON strings in its
//! metadata, everything needed to use them.
//!
//! Reading is strict: a file whose tensors are not exactly those of its architecture, with exact
//! shapes and finite values, is refused.

mod file;
mod metadata;
mod provenance;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use half::f16;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

pub use file::{MAX_ACTIVATION, MAX_FILE_BYTES, MAX_WEIGHT};
pub(crate) use metadata::ACTIVATIONS;
pub use metadata::{FORMAT_VERSION, MAX_CORNERS, Metadata, STATISTICS};
pub use provenance::{Calibration, DataSet, Provenance};

use crate::nn::TensorSpec;
pub use crate::nn::{Architecture, Colour, Io};
use crate::{Error, Result, atomic_file};
use file::{HEADER_LENGTH_BYTES, check_names, malformed, read_bounded, tensor_error, values_of};

/// Label of the checkpoint inside the library in messages.
const BUILT_IN: &str = "built-in checkpoint";

/// A checkpoint in memory: metadata and the values of each tensor, in its specified order.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// Everything but the tensors.
    pub metadata: Metadata,
    /// By name; shapes are those of [`Metadata::tensors`].
    pub tensors: BTreeMap<String, Vec<f32>>,
}

impl Checkpoint {
    /// Reads and validates a file.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Checkpoint`] or [`Error::Tensor`], each naming the file.
    pub fn read(path: &Path) -> Result<Self> {
        Self::from_bytes(&path.display().to_string(), &read_bounded(path)?)
    }

    /// The `broadcast` checkpoint that the library carries.
    ///
    /// # Errors
    /// None in a correctly built library.
    pub fn built_in() -> Result<Self> {
        let bytes = include_bytes!("../checkpoints/broadcast.safetensors");
        Self::from_bytes(BUILT_IN, bytes)
    }

    /// Validates the bytes of a file; `file` is its name in messages.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] or [`Error::Tensor`].
    pub fn from_bytes(file: &str, bytes: &[u8]) -> Result<Self> {
        let (length, header) =
            SafeTensors::read_metadata(bytes).map_err(|e| malformed(file, &e))?;
        check_names(file, &bytes[HEADER_LENGTH_BYTES..][..length])?;
        let (metadata, weights) = Metadata::from_header(file, &header)?;
        let data = SafeTensors::deserialize(bytes).map_err(|e| malformed(file, &e))?;
        let read = |spec: TensorSpec| {
            let view = data.tensor(&spec.name).map_err(|e| malformed(file, &e))?;
            Ok((spec.name.clone(), values_of(file, &spec, &view)?))
        };
        let tensors = metadata.tensors().into_iter().map(read).collect::<Result<_>>()?;
        let checkpoint = Self { tensors, metadata };
        checkpoint.check_ranges(file)?;
        if weights.is_some_and(|hash| hash != checkpoint.weights_hash()) {
            let reason = "its weights are not those it was written with: it is damaged".into();
            return Err(Error::Checkpoint { file: file.into(), reason });
        }
        Ok(checkpoint)
    }

    /// Writes a file, whole or not at all.
    ///
    /// # Errors
    /// [`Error::Tensor`] when the tensors are not those of the metadata; [`Error::Io`].
    pub fn write(&self, path: &Path) -> Result<()> {
        let bytes = self.to_bytes(&path.display().to_string())?;
        atomic_file::write(path, |file| file.write_all(&bytes))
            .map_err(|source| Error::Io { path: path.into(), source })
    }

    /// The bytes of a file; validated as when read. `file` is its name in messages.
    ///
    /// # Errors
    /// [`Error::Tensor`] when the tensors are not those of the metadata.
    pub fn to_bytes(&self, file: &str) -> Result<Vec<u8>> {
        self.bytes_of(file, Dtype::F32, |v| v.to_le_bytes().to_vec())
    }

    /// With every value rounded to the nearest of 16 bits, as [`Self::write_half`] stores it.
    #[must_use]
    pub fn rounded_to_half(mut self) -> Self {
        for values in self.tensors.values_mut() {
            values.iter_mut().for_each(|value| *value = f16::from_f32(*value).to_f32());
        }
        self
    }

    /// Writes a file of half the size, whole or not at all: every value in 16 bits. Read again it is as
    /// [`Self::rounded_to_half`].
    ///
    /// # Errors
    /// As [`Self::write`]; [`Error::Tensor`] for a value beyond ±65504, which 16 bits do not hold.
    pub fn write_half(&self, path: &Path) -> Result<()> {
        let rounded = self.clone().rounded_to_half();
        let file = path.display().to_string();
        let bytes =
            rounded.bytes_of(&file, Dtype::F16, |v| f16::from_f32(v).to_le_bytes().to_vec())?;
        atomic_file::write(path, |file| file.write_all(&bytes))
            .map_err(|source| Error::Io { path: path.into(), source })
    }

    fn bytes_of(
        &self,
        file: &str,
        dtype: Dtype,
        bytes_of: impl Fn(f32) -> Vec<u8>,
    ) -> Result<Vec<u8>> {
        let specs = self.metadata.tensors();
        let bytes: BTreeMap<&str, Vec<u8>> = self
            .tensors
            .iter()
            .map(|(name, values)| {
                (name.as_str(), values.iter().flat_map(|v| bytes_of(*v)).collect())
            })
            .collect();
        let views = specs.iter().map(|spec| {
            let data = bytes.get(spec.name.as_str()).ok_or_else(|| {
                tensor_error(file, &spec.name, format!("missing, expected {spec}"))
            })?;
            let view = TensorView::new(dtype, spec.shape.clone(), data)
                .map_err(|_| tensor_error(file, &spec.name, format!("expected {spec}")))?;
            Ok((spec.name.as_str(), view))
        });
        let views = views.collect::<Result<Vec<_>>>()?;
        let bytes =
            safetensors::serialize(views, Some(self.metadata.to_strings(self.weights_hash())))
                .map_err(|e| Error::Checkpoint { file: file.into(), reason: e.to_string() })?;
        Self::from_bytes(file, &bytes)?;
        Ok(bytes)
    }
}

impl Checkpoint {
    /// BLAKE3 of the names, shapes and values of all tensors, which tells weights from others.
    #[must_use]
    pub fn weights_hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let number = |hasher: &mut blake3::Hasher, number: usize| {
            hasher.update(&(number as u64).to_le_bytes());
        };
        for spec in self.metadata.tensors() {
            number(&mut hasher, spec.name.len());
            hasher.update(spec.name.as_bytes());
            number(&mut hasher, spec.shape.len());
            spec.shape.iter().for_each(|side| number(&mut hasher, *side));
            for value in self.tensors.get(&spec.name).into_iter().flatten() {
                hasher.update(&value.to_le_bytes());
            }
        }
        hasher.finalize().to_hex().to_string()
    }

    /// Ranges of activations have to be ranges.
    fn check_ranges(&self, file: &str) -> Result<()> {
        for spec in self.metadata.calibration_tensors() {
            let values = self.tensors.get(&spec.name).map_or(&[][..], Vec::as_slice);
            for (at, channel) in values.chunks_exact(STATISTICS).enumerate() {
                let [minimum, maximum, mean] = [channel[0], channel[1], channel[2]];
                let bounded = minimum.abs().max(maximum.abs()) <= MAX_ACTIVATION;
                if !bounded || !(minimum..=maximum).contains(&mean) {
                    let reason = format!(
                        "range {at} is {minimum} to {maximum} around {mean}, expected minimum ≤ \
                         mean ≤ maximum within ±{MAX_ACTIVATION}"
                    );
                    return Err(tensor_error(file, &spec.name, reason));
                }
            }
        }
        Ok(())
    }
}
