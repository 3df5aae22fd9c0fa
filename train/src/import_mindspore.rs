//! Makes a checkpoint of one that the authors of tunable convolutions released for MindSpore.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use tunableconv::checkpoint::{Architecture, Checkpoint, Metadata, Provenance};
use tunableconv::nn::{EdsrConfig, Mode, PhiConfig};
use tunableconv::tuning::{Domain, Parameter, TuningSpace};

use crate::mindspore::{self, Value};

/// Begins the name of what optimisers keep beside the weights, or is all of it.
const OF_TRAINING: [&str; 12] = [
    "moment1.",
    "moment2.",
    "moments.",
    "adam_m.",
    "adam_v.",
    "accum.",
    "learning_rate",
    "global_step",
    "epoch_num",
    "step_num",
    "beta1_power",
    "beta2_power",
];

/// Most names of tensors that are listed.
const LISTED: usize = 8;

/// A net as the authors' code is told it; what is left out is what that code takes then.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "arch", rename_all = "lowercase", deny_unknown_fields)]
pub enum Config {
    /// Their EDSR.
    Edsr {
        /// Residual blocks.
        #[serde(default = "edsr_blocks")]
        num_blocks: usize,
        /// Channels between the first and the last layer.
        #[serde(default = "edsr_channels")]
        num_channels: usize,
        /// Output size over input size.
        #[serde(default = "edsr_scale")]
        scale: usize,
        /// Tuning parameters.
        #[serde(default = "one")]
        num_params: usize,
        /// How the tuning becomes mixing coefficients: linear or mlp.
        #[serde(default = "mlp")]
        mode: Mode,
    },
}

fn edsr_blocks() -> usize {
    16
}

fn edsr_channels() -> usize {
    64
}

fn edsr_scale() -> usize {
    4
}

fn one() -> usize {
    1
}

fn mlp() -> Mode {
    Mode::Mlp
}

/// What the file does not say.
#[derive(Clone, Debug, Default)]
pub struct Choices {
    /// Names of the tuning parameters; numbered if there are none.
    pub names: Vec<String>,
    /// Their domain; that of the authors' task if left out.
    pub domain: Option<Domain>,
}

/// A checkpoint, and what of the file is not in it.
#[derive(Debug)]
pub struct Imported {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// Names of the tensors that were left out, the first few of them.
    pub ignored: Vec<String>,
    /// How many those are.
    pub ignored_count: usize,
}

impl Config {
    /// # Errors
    /// The file cannot be read, or is no such configuration; it is named.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let read = || Ok(serde_json::from_str(&std::fs::read_to_string(path)?)?);
        read().map_err(|error: anyhow::Error| error.context(path.display().to_string()))
    }

    fn architecture(&self) -> Architecture {
        let Self::Edsr { num_blocks, num_channels, scale, mode, .. } = *self;
        Architecture::Edsr(EdsrConfig {
            channels: num_channels,
            blocks: num_blocks,
            scale,
            phi: PhiConfig { mode, expand: 1 },
            ..Default::default()
        })
    }

    fn parameters(&self) -> usize {
        let Self::Edsr { num_params, .. } = *self;
        num_params
    }

    /// In what the authors trained it on: two degradations that come together, or a trade-off.
    fn domain(&self) -> Domain {
        let Self::Edsr { scale, num_params, .. } = *self;
        if scale == 1 || num_params == 1 { Domain::Box } else { Domain::Simplex }
    }

    fn tuning(&self, choices: &Choices) -> anyhow::Result<TuningSpace> {
        let (p, names) = (self.parameters(), &choices.names);
        ensure!(p > 0, "0 tuning parameters, expected at least 1");
        ensure!(
            names.is_empty() || names.len() == p,
            "{} names for {p} parameters: {}",
            names.len(),
            names.join(", ")
        );
        let parameter = |j: usize| {
            let name = names.get(j).cloned().unwrap_or_else(|| format!("knob-{}", j + 1));
            Parameter {
                nick: name.clone(),
                name,
                blurb: format!("Entry {} of the tuning, of {p}", j + 1),
                minimum: 0.0,
                maximum: 1.0,
                default: if j == 0 { 1.0 } else { 0.0 },
                objective: "what its authors trained it for".into(),
            }
        };
        let domain = choices.domain.unwrap_or_else(|| self.domain());
        let space = TuningSpace { domain, parameters: (0..p).map(parameter).collect() };
        space.validate()?;
        Ok(space)
    }
}

/// The net of a file's bytes; `name` says in messages which.
///
/// # Errors
/// A file that is no MindSpore checkpoint, tensors that are not those of the net, or choices that do not
/// fit it; names the tensor.
pub fn import(
    name: &str,
    file: &[u8],
    config: &Config,
    choices: &Choices,
) -> anyhow::Result<Imported> {
    let architecture = config.architecture();
    architecture.validate()?;
    let tuning = config.tuning(choices)?;
    let provenance = Provenance {
        recipe: format!("imported from {name}"),
        crate_version: env!("CARGO_PKG_VERSION").into(),
        ..Default::default()
    };
    let metadata = Metadata { architecture, tuning, provenance, calibration: None };
    let mut wanted: BTreeMap<String, Vec<usize>> =
        metadata.tensors().into_iter().map(|spec| (spec.name, spec.shape)).collect();
    let mut imported = Imported {
        checkpoint: Checkpoint { metadata, tensors: BTreeMap::new() },
        ignored: vec![],
        ignored_count: 0,
    };
    for value in mindspore::values(file) {
        let value = value.with_context(|| name.to_owned())?;
        imported.take(&value, &mut wanted).with_context(|| name.to_owned())?;
    }
    if let Some((missing, shape)) = wanted.first_key_value() {
        bail!("{name}: tensor `{missing}`: missing, expected {shape:?} ({} missing)", wanted.len());
    }
    Ok(imported)
}

impl Imported {
    fn take(
        &mut self,
        value: &Value<'_>,
        wanted: &mut BTreeMap<String, Vec<usize>>,
    ) -> anyhow::Result<()> {
        let Value { name, dims, .. } = value;
        if let Some(shape) = wanted.get(*name) {
            ensure!(shape == dims, "tensor `{name}`: {dims:?}, expected {shape:?}");
            let values = value.floats()?;
            let bad = values.iter().find(|v| !v.is_finite());
            ensure!(bad.is_none(), "tensor `{name}`: holds {}", bad.copied().unwrap_or_default());
            self.checkpoint.tensors.insert((*name).to_owned(), values);
            wanted.remove(*name);
            return Ok(());
        }
        ensure!(!self.checkpoint.tensors.contains_key(*name), "tensor `{name}`: there twice");
        if self.check_constant(value)? || OF_TRAINING.iter().any(|start| name.starts_with(start)) {
            self.ignored_count += 1;
            if self.ignored.len() < LISTED {
                self.ignored.push((*name).to_owned());
            }
            return Ok(());
        }
        let net = self.checkpoint.metadata.architecture.describe();
        bail!("tensor `{name}` {dims:?}: not part of this net: {net}")
    }

    /// Whether it is a constant of the authors' nets, which ours has elsewhere: the mean colour.
    fn check_constant(&self, value: &Value<'_>) -> anyhow::Result<bool> {
        let Some(mean) = self.checkpoint.metadata.architecture.io().mean else { return Ok(false) };
        let expected = match value.name {
            "sub_mean.weight" | "add_mean.weight" => {
                vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
            }
            "sub_mean.bias" => mean.map(|mean| -mean).to_vec(),
            "add_mean.bias" => mean.to_vec(),
            _ => return Ok(false),
        };
        let got = value.floats()?;
        ensure!(
            got == expected,
            "tensor `{}`: {got:?}, expected the constants {expected:?}",
            value.name
        );
        Ok(true)
    }
}
