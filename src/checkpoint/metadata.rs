//! What a checkpoint says of itself, and which tensors it must hold.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::Read as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::file::{
    DTYPES, HEADER_LENGTH_BYTES, check_names, checked_length, malformed, tensor_error,
};
use super::provenance::{Calibration, Provenance};
use crate::nn::{Architecture, Init, Io, IoV1, TensorSpec};
use crate::tuning::TuningSpace;
use crate::{Error, Result};

/// Version written. Files of version 1 are read too: their `io` says less.
pub const FORMAT_VERSION: u32 = 2;

/// More than the header of any net takes, of which a scanner reads many.
const MAX_HEADER_BYTES: u64 = 4 << 20;

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
    /// [`Io`], or what version 1 said of it.
    io: Value,
    tuning: TuningSpace,
    provenance: Provenance,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    calibration: Option<Calibration>,
    /// [`weights_hash`](super::Checkpoint::weights_hash); files of older versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weights: Option<String>,
}

impl Metadata {
    pub(super) fn to_strings(&self, weights: String) -> HashMap<String, String> {
        let document = Document {
            format_version: FORMAT_VERSION,
            architecture: self.architecture.clone(),
            io: serde_json::to_value(self.architecture.io()).expect("plain data is JSON"),
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
        let any: Value = serde_json::from_str(json).map_err(malformed)?;
        let version = &any["format_version"];
        let agrees: fn(Value, &Io) -> serde_json::Result<bool> = match version.as_u64() {
            Some(1) => {
                |io, expected| serde_json::from_value(io).map(|io: IoV1| io.agrees(expected))
            }
            Some(2) => |io, expected| serde_json::from_value(io).map(|io: Io| io == *expected),
            _ => {
                let reason = format!("format version {version}, expected 1 to {FORMAT_VERSION}");
                return Err(refuse(reason));
            }
        };
        let document: Document = serde_json::from_value(any).map_err(malformed)?;
        let Document { architecture, io, tuning, provenance, calibration, weights, .. } = document;
        architecture
            .validate()
            .and_then(|()| tuning.validate())
            .and_then(|()| calibration.as_ref().map_or(Ok(()), Calibration::validate))
            .map_err(|e| refuse(e.to_string()))?;
        let phis = architecture.phis();
        if let Some((layer, _)) = phis.iter().find(|(_, phi)| phi.kernels(tuning.len()) == 0) {
            let reason = format!("layer `{layer}` mixes no kernels by no parameters");
            return Err(refuse(reason));
        }
        let expected = architecture.io();
        let said = io.to_string();
        if !agrees(io, &expected).map_err(|e| refuse(format!("metadata `{KEY}`: io: {e}")))? {
            return Err(refuse(format!("io is {said}, this architecture has {expected:?}")));
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
    /// As [`Checkpoint::read`](super::Checkpoint::read), but for values.
    pub fn read(path: &Path) -> Result<Self> {
        let (name, io) =
            (path.display().to_string(), |source| Error::Io { path: path.into(), source });
        let length = checked_length(path)?;
        let mut file = fs::File::open(path).map_err(io)?;
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
    pub(super) fn from_header(
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
            if !DTYPES.contains(&info.dtype) || info.shape != spec.shape {
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
    pub(super) fn calibration_tensors(&self) -> Vec<TensorSpec> {
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
