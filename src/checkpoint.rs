//! Checkpoints: one `.safetensors` file with the net's tensors and, as JSON strings in its
//! metadata, everything needed to use them.
//!
//! Reading is strict: a file whose tensors are not exactly those of its architecture, with exact
//! shapes and finite values, is refused.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use crate::nn::chain::{self, ChainLayer};
use crate::nn::video::luma_reach;
use crate::nn::{Init, PhiConfig, TensorSpec, TwoScaleConfig, VideoNetConfig};
use crate::tuning::TuningSpace;
use crate::{Error, Result, atomic_file};

/// Version written, and the only one read.
pub const FORMAT_VERSION: u32 = 1;

/// Largest file read.
pub const MAX_FILE_BYTES: u64 = 1 << 30;

/// More than the header of any net takes, of which a scanner reads many.
const MAX_HEADER_BYTES: u64 = 4 << 20;

/// Bytes of the header's length at the start of a file.
const HEADER_LENGTH_BYTES: usize = 8;

/// Label of the checkpoint inside the library in messages.
const BUILT_IN: &str = "built-in checkpoint";

/// The net and its configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "net", rename_all = "lowercase")]
pub enum Architecture {
    /// A chain at one size.
    Video(VideoNetConfig),
    /// A chain that works at two.
    #[serde(rename = "two-scale")]
    TwoScale(TwoScaleConfig),
}

impl Architecture {
    /// # Errors
    /// [`Error::Config`].
    pub fn validate(&self) -> Result<()> {
        match self {
            Architecture::Video(config) => config.validate(),
            Architecture::TwoScale(config) => config.validate(),
        }
    }

    /// The layers of such a net.
    pub fn chain(&self) -> Vec<ChainLayer> {
        match self {
            Architecture::Video(config) => config.chain(),
            Architecture::TwoScale(config) => config.chain(),
        }
    }

    /// φ of every layer but the last.
    pub fn phi(&self) -> PhiConfig {
        match self {
            Architecture::Video(config) => config.phi,
            Architecture::TwoScale(config) => config.phi,
        }
    }

    /// The tensors of such a net with `p` parameters.
    pub fn tensors(&self, p: usize) -> Vec<TensorSpec> {
        chain::tensors(&self.chain(), p)
    }

    /// Name and output channels of every layer but the last.
    pub fn inner_outputs(&self) -> Vec<(String, usize)> {
        let mut layers = self.chain();
        layers.pop();
        layers.into_iter().map(|layer| (layer.name.clone(), layer.channels())).collect()
    }

    /// What such a net reads and writes.
    pub fn io(&self) -> Io {
        Io { colour: Colour::Yuv420, scale: 1, reach: luma_reach(&self.chain()) }
    }
}

/// Colour representation a net works in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Colour {
    /// Normalised 4:2:0, see [`crate::frame`].
    Yuv420,
    /// RGB in 0 to 1.
    Rgb,
}

/// What a net reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Io {
    /// Colour representation.
    pub colour: Colour,
    /// Output size over input size.
    pub scale: usize,
    /// How far an output pixel looks, in input pixels.
    pub reach: usize,
}

/// A data set used for training.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSet {
    /// Its name.
    pub name: String,
    /// Its licence, as its source states it.
    pub licence: String,
    /// Images, or pairs of clips, that were read of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Content hash of those.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
}

/// Where a checkpoint comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// Name of the recipe.
    pub recipe: String,
    /// Seed of the run.
    pub seed: u64,
    /// Optimiser steps taken.
    pub steps: u64,
    /// Data sets and their licences.
    pub data: Vec<DataSet>,
    /// Version of the crate that trained it.
    pub crate_version: String,
    /// What it was trained to undo: a chain of degradations in the order in which they happen, as the
    /// trainer's recipes have them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub degradations: Vec<serde_json::Value>,
    /// [`Checkpoint::weights_hash`] of the checkpoint that it was trained on from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
}

/// How the ranges of the inner activations were measured; the engine needs them for int8.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Data they were measured on.
    pub data: String,
    /// Number of images.
    pub images: u64,
    /// Seed of the degradations.
    pub seed: u64,
    /// Share of the values that are inside the ranges.
    pub quantile: f64,
    /// Whether the net was trained with activations that end at these ranges: f32 clamps them, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bounds: bool,
}

impl Calibration {
    /// # Errors
    /// [`Error::Config`].
    pub fn validate(&self) -> Result<()> {
        let Self { images, quantile, .. } = self;
        if *images == 0 || !(0.5..=1.0).contains(quantile) {
            let reason = format!(
                "calibration on {images} images at the quantile {quantile}, expected at least one at \
                 0.5 to 1"
            );
            return Err(Error::Config(reason));
        }
        Ok(())
    }
}

/// Numbers per corner and channel in a layer's `activations` tensor: minimum, maximum and mean of
/// its output, after the activation.
pub const STATISTICS: usize = 3;

/// End of the name of a layer's `activations` tensor.
pub(crate) const ACTIVATIONS: &str = ".activations";

/// Most corners of the domain that a calibration may have: those of a box of four parameters.
pub const MAX_CORNERS: usize = 16;

/// Everything in a checkpoint but the tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct Metadata {
    /// The net.
    pub architecture: Architecture,
    /// Its tuning parameters and their domain.
    pub tuning: TuningSpace,
    /// Where it comes from.
    pub provenance: Provenance,
    /// There if the file has ranges for integer activations: beside the net's own tensors one
    /// `LAYER.activations`, `[corners, C_out, 3]`, for every layer but the last.
    pub calibration: Option<Calibration>,
}

/// The one key in the file's metadata. A single JSON document keeps files reproducible: the order
/// of several keys would be random.
const KEY: &str = "tunableconv";

/// The JSON document.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format_version: u32,
    architecture: Architecture,
    io: Io,
    tuning: TuningSpace,
    provenance: Provenance,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    calibration: Option<Calibration>,
    /// [`Checkpoint::weights_hash`]; files of older versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weights: Option<String>,
}

impl Metadata {
    fn to_strings(&self, weights: String) -> HashMap<String, String> {
        let document = Document {
            format_version: FORMAT_VERSION,
            architecture: self.architecture.clone(),
            io: self.architecture.io(),
            tuning: self.tuning.clone(),
            provenance: self.provenance.clone(),
            calibration: self.calibration.clone(),
            weights: Some(weights),
        };
        let json = serde_json::to_string(&document).expect("plain data is JSON");
        HashMap::from([(KEY.into(), json)])
    }

    /// And the hash of the weights, where the file has one.
    fn from_strings(
        file: &str,
        strings: &HashMap<String, String>,
    ) -> Result<(Self, Option<String>)> {
        let refuse = |reason: String| Error::Checkpoint { file: file.into(), reason };
        let json = strings
            .get(KEY)
            .ok_or_else(|| refuse(format!("no metadata `{KEY}`: not made for tunableconv")))?;
        let malformed = |e: serde_json::Error| refuse(format!("metadata `{KEY}`: {e}"));
        // The version first: other versions may have other fields.
        let any: serde_json::Value = serde_json::from_str(json).map_err(malformed)?;
        if any["format_version"] != FORMAT_VERSION {
            let version = &any["format_version"];
            return Err(refuse(format!("format version {version}, expected {FORMAT_VERSION}")));
        }
        let document: Document = serde_json::from_value(any).map_err(malformed)?;
        let Document { architecture, io, tuning, provenance, calibration, weights, .. } = document;
        architecture
            .validate()
            .and_then(|()| tuning.validate())
            .and_then(|()| calibration.as_ref().map_or(Ok(()), Calibration::validate))
            .map_err(|e| refuse(e.to_string()))?;
        if io != architecture.io() {
            let expected = architecture.io();
            return Err(refuse(format!("io is {io:?}, this architecture has {expected:?}")));
        }
        let metadata = Self { architecture, tuning, provenance, calibration };
        let corners = metadata.tuning.corner_count();
        if metadata.calibration.is_some() && corners > MAX_CORNERS {
            let reason = format!("calibration of {corners} corners, expected ≤ {MAX_CORNERS}");
            return Err(refuse(reason));
        }
        Ok((metadata, weights))
    }

    /// Reads and validates all of a file but the values of its tensors.
    ///
    /// # Errors
    /// As [`Checkpoint::read`], but for values.
    pub fn read(path: &Path) -> Result<Self> {
        let (name, io) =
            (path.display().to_string(), |source| Error::Io { path: path.into(), source });
        let mut file = fs::File::open(path).map_err(io)?;
        let length = check_length(path, file.metadata().map_err(io)?.len())?;
        let mut start = [0; HEADER_LENGTH_BYTES];
        let short =
            |what: &str| malformed(&name, &format!("{what}, at {length} bytes of the whole file"));
        file.read_exact(&mut start).map_err(|_| short("cut before its header"))?;
        let header_len = u64::from_le_bytes(start);
        if header_len > length - HEADER_LENGTH_BYTES as u64 {
            return Err(short("cut inside its header"));
        }
        if header_len > MAX_HEADER_BYTES {
            let reason =
                format!("its header has {header_len} bytes, expected at most {MAX_HEADER_BYTES}");
            return Err(malformed(&name, &reason));
        }
        let mut json = vec![0; header_len as usize];
        file.read_exact(&mut json).map_err(io)?;
        let header: safetensors::tensor::Metadata =
            serde_json::from_slice(&json).map_err(|e| malformed(&name, &e))?;
        if (HEADER_LENGTH_BYTES + json.len() + header.data_len()) as u64 != length {
            return Err(short("its tensors end elsewhere than the file"));
        }
        check_names(&name, &json)?;
        Ok(Self::from_header(&name, &header)?.0)
    }

    /// Validates everything that a header tells.
    fn from_header(
        file: &str,
        header: &safetensors::tensor::Metadata,
    ) -> Result<(Self, Option<String>)> {
        let strings = header.metadata().clone().unwrap_or_default();
        let (metadata, weights) = Self::from_strings(file, &strings)?;
        let specs = metadata.tensors();
        let expected: BTreeSet<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
        let mut names = header.offset_keys();
        names.sort_unstable();
        if let Some(extra) = names.iter().find(|name| !expected.contains(name.as_str())) {
            let reason = if extra.ends_with(ACTIVATIONS) && metadata.calibration.is_none() {
                "not expected, as the metadata has no `calibration`"
            } else {
                "not part of this architecture"
            };
            return Err(tensor_error(file, extra, reason.into()));
        }
        for spec in &specs {
            let Some(info) = header.info(&spec.name) else {
                return Err(tensor_error(file, &spec.name, format!("missing, expected {spec}")));
            };
            if info.dtype != Dtype::F32 || info.shape != spec.shape {
                let got = format!("{:?} {:?}, expected {spec}", info.dtype, info.shape);
                return Err(tensor_error(file, &spec.name, got));
            }
        }
        Ok((metadata, weights))
    }

    /// The tensors that the file must hold.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        let mut tensors = self.architecture.tensors(self.tuning.len());
        tensors.extend(self.calibration_tensors());
        tensors
    }

    /// The `activations` tensors, see [`Metadata::calibration`].
    fn calibration_tensors(&self) -> Vec<TensorSpec> {
        if self.calibration.is_none() {
            return vec![];
        }
        let corners = self.tuning.corner_count();
        let outputs = self.architecture.inner_outputs().into_iter();
        let spec = |(layer, channels): (String, usize)| {
            let shape = [corners, channels, STATISTICS];
            TensorSpec::new(format!("{layer}{ACTIVATIONS}"), &shape, Init::Constant(0.0))
        };
        outputs.map(spec).collect()
    }
}

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
        let specs = self.metadata.tensors();
        let bytes: BTreeMap<&str, Vec<u8>> = self
            .tensors
            .iter()
            .map(|(name, values)| {
                (name.as_str(), values.iter().flat_map(|v| v.to_le_bytes()).collect())
            })
            .collect();
        let views = specs.iter().map(|spec| {
            let data = bytes.get(spec.name.as_str()).ok_or_else(|| {
                tensor_error(file, &spec.name, format!("missing, expected {spec}"))
            })?;
            let view = TensorView::new(Dtype::F32, spec.shape.clone(), data)
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

/// Largest magnitude of an activation that a calibration may name; those of trained nets are near 1.
pub const MAX_ACTIVATION: f32 = 1e4;

/// Largest magnitude of a value in a tensor; those of trained nets are near 1.
pub const MAX_WEIGHT: f32 = 1e6;

fn read_bounded(path: &Path) -> Result<Vec<u8>> {
    let io = |source| Error::Io { path: path.into(), source };
    check_length(path, fs::metadata(path).map_err(io)?.len())?;
    fs::read(path).map_err(io)
}

/// Returns the length if it is not absurd.
fn check_length(path: &Path, length: u64) -> Result<u64> {
    if length > MAX_FILE_BYTES {
        let reason = format!("{length} bytes, expected at most {MAX_FILE_BYTES}");
        return Err(Error::Checkpoint { file: path.display().to_string(), reason });
    }
    Ok(length)
}

fn malformed(file: &str, reason: &dyn std::fmt::Display) -> Error {
    let reason = format!("not a whole safetensors file: {reason}");
    Error::Checkpoint { file: file.into(), reason }
}

/// Checks that a header has no name twice: which tensor it means would depend on the reader.
fn check_names(file: &str, json: &[u8]) -> Result<()> {
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

/// Values of a tensor that has its shape.
fn values_of(file: &str, spec: &TensorSpec, view: &TensorView<'_>) -> Result<Vec<f32>> {
    let (words, _) = view.data().as_chunks::<4>();
    let values: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
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

fn tensor_error(file: &str, tensor: &str, reason: String) -> Error {
    Error::Tensor { file: file.into(), tensor: tensor.into(), reason }
}
