//! The state of a run at a step: all that it needs to go on as if it had never stopped.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, ensure};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use tunableconv::atomic_file;

use crate::optimiser::Slot;
use crate::trainer::Window;

/// Name of the running means of the losses in the file.
const MEANS: &str = "objective_means";

/// Key of the progress in the file's metadata.
const PROGRESS: &str = "progress";

/// What a run needs to go on.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// What is no tensor.
    pub progress: Progress,
    /// The trained tensors of the net and of a discriminator.
    pub slots: BTreeMap<String, Slot>,
    /// Running mean of each objective's loss where weights are adaptive, else empty.
    pub means: Vec<f32>,
}

/// How far a run has come.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Steps taken.
    pub steps: u64,
    /// What the next line of the metrics log has so far.
    pub window: Window,
    /// The best validation.
    pub best: Option<Best>,
}

/// The best validation of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// Steps taken then.
    pub step: u64,
    /// [`Measured::loss`](crate::validation::Measured::loss).
    pub loss: f64,
}

impl State {
    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// The I/O error, naming the file.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let bytes_of = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let mut parts: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
        for (name, slot) in &self.slots {
            for (part, values) in
                [("value", &slot.value), ("m", &slot.m), ("v", &slot.v), ("ema", &slot.ema)]
            {
                parts.push((format!("{part}.{name}"), slot.shape.clone(), bytes_of(values)));
            }
        }
        parts.push((MEANS.into(), vec![self.means.len()], bytes_of(&self.means)));
        let views = parts.iter().map(|(name, shape, bytes)| {
            Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes)?))
        });
        let views = views.collect::<anyhow::Result<Vec<_>>>()?;
        let progress = serde_json::to_string(&self.progress)?;
        let metadata = HashMap::from([(PROGRESS.to_string(), progress)]);
        let bytes = safetensors::serialize(views, Some(metadata))?;
        atomic_file::write(path, |file| file.write_all(&bytes))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Reads it, if there is one.
    ///
    /// # Errors
    /// A malformed file, or tensors other than those of `fresh`.
    pub fn read(path: &Path, fresh: &Self) -> anyhow::Result<Option<Self>> {
        if !path.exists() {
            return Ok(None);
        }
        let bytes = fs::read(path).with_context(|| path.display().to_string())?;
        parse(&bytes, fresh).with_context(|| path.display().to_string()).map(Some)
    }
}

fn parse(bytes: &[u8], fresh: &State) -> anyhow::Result<State> {
    let (_, header) = SafeTensors::read_metadata(bytes)?;
    let progress = header.metadata().as_ref().and_then(|m| m.get(PROGRESS));
    let progress = progress.with_context(|| format!("no `{PROGRESS}` in its metadata"))?;
    let progress: Progress = serde_json::from_str(progress).context(PROGRESS)?;
    let objectives = (progress.window.objectives(), fresh.progress.window.objectives());
    ensure!(objectives.0 == objectives.1, "{} objectives, expected {}", objectives.0, objectives.1);
    let file = SafeTensors::deserialize(bytes)?;
    let read = |full: &str, shape: &[usize]| {
        let view = file.tensor(full).with_context(|| format!("tensor `{full}`"))?;
        ensure!(
            view.dtype() == Dtype::F32 && view.shape() == shape,
            "tensor `{full}` is {:?} {:?}, expected F32 {shape:?}",
            view.dtype(),
            view.shape()
        );
        let (words, _) = view.data().as_chunks::<4>();
        Ok(words.iter().map(|word| f32::from_le_bytes(*word)).collect())
    };
    let slot = |(name, Slot { shape, .. }): (&String, &Slot)| {
        let part = |part: &str| read(&format!("{part}.{name}"), shape);
        let (value, m, v, ema) = (part("value")?, part("m")?, part("v")?, part("ema")?);
        Ok((name.clone(), Slot { shape: shape.clone(), value, m, v, ema }))
    };
    Ok(State {
        progress,
        slots: fresh.slots.iter().map(slot).collect::<anyhow::Result<_>>()?,
        means: read(MEANS, &[fresh.means.len()])?,
    })
}
