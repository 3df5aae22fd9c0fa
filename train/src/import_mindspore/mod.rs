//! Makes a checkpoint of one that the authors of tunable convolutions released for MindSpore.

mod config;

use std::collections::BTreeMap;

use anyhow::{Context as _, bail, ensure};
pub use config::Config;
use tunableconv::checkpoint::{Checkpoint, Metadata, Provenance};
use tunableconv::tuning::Domain;

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
    let architecture = config.architecture()?;
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
        imported.take(&value, config, &mut wanted).with_context(|| name.to_owned())?;
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
        config: &Config,
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
        let of_training = OF_TRAINING.iter().any(|start| name.starts_with(start));
        if of_training || Self::is_beside(value, config)? {
            self.ignored_count += 1;
            if self.ignored.len() < LISTED {
                self.ignored.push((*name).to_owned());
            }
            return Ok(());
        }
        let net = self.checkpoint.metadata.architecture.describe();
        bail!("tensor `{name}` {dims:?}: not part of this net: {net}")
    }

    /// Whether it is what the authors' nets hold beside their banks: constants, which ours has elsewhere, or
    /// nothing that they use.
    fn is_beside(value: &Value<'_>, config: &Config) -> anyhow::Result<bool> {
        if config.unused().iter().any(|end| value.name.ends_with(end)) {
            return Ok(true);
        }
        let constants = config.constants();
        let Some((name, expected)) = constants.iter().find(|(name, _)| *name == value.name) else {
            return Ok(false);
        };
        let got = value.floats()?;
        ensure!(got == *expected, "tensor `{name}`: {got:?}, expected the constants {expected:?}");
        Ok(true)
    }
}
