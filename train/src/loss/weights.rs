//! Tensors of a user's weight file, with errors that name the file and the tensor.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};
use candle_core::safetensors::BufferedSafetensors;
use candle_core::{DType, Device, Tensor};
use safetensors::SafeTensors;

/// Named tensors, and what their file says about the input.
pub(super) struct Weights {
    source: String,
    store: Store,
    input: Option<String>,
}

enum Store {
    File(BufferedSafetensors, Device),
    Tensors(HashMap<String, Tensor>),
}

impl Weights {
    /// Opens a `.safetensors` file; tensors become f32 on `device` when asked for.
    pub(super) fn read(path: &Path, device: &Device) -> anyhow::Result<Self> {
        let source = path.display().to_string();
        let bytes = fs::read(path).with_context(|| format!("cannot read {source}"))?;
        let malformed = || format!("{source} is not a safetensors file");
        let (_, header) = SafeTensors::read_metadata(&bytes).with_context(malformed)?;
        let input = header.metadata().as_ref().and_then(|m| m.get("input").cloned());
        let file = BufferedSafetensors::new(bytes).with_context(malformed)?;
        Ok(Self { source, store: Store::File(file, device.clone()), input })
    }

    /// Tensors of the caller, used in the type they have.
    pub(super) fn new(tensors: HashMap<String, Tensor>) -> Self {
        Self { source: "given tensors".into(), store: Store::Tensors(tensors), input: None }
    }

    /// What to call the tensors in a message.
    pub(super) fn source(&self) -> &str {
        &self.source
    }

    /// The entry `input` of the file's metadata.
    pub(super) fn input(&self) -> Option<&str> {
        self.input.as_deref()
    }

    /// Whether there is a tensor of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        match &self.store {
            Store::File(file, _) => file.get(name).is_ok(),
            Store::Tensors(tensors) => tensors.contains_key(name),
        }
    }

    /// The tensor `name`, whose shape is `expected` where that says something.
    ///
    /// # Errors
    /// A missing, misshaped or empty tensor, or one that has values that are not finite.
    pub(super) fn get(&self, name: &str, expected: &[Option<usize>]) -> anyhow::Result<Tensor> {
        let source = &self.source;
        let wanted = || {
            let sides = expected.iter().map(|d| d.map_or("any".into(), |d| d.to_string()));
            format!("[{}]", sides.collect::<Vec<_>>().join(", "))
        };
        if !self.has(name) {
            bail!("{source}: no tensor {name}, expected one of shape {}", wanted());
        }
        let tensor = match &self.store {
            Store::File(file, device) => file
                .load(name, device)
                .and_then(|tensor| tensor.to_dtype(DType::F32))
                .with_context(|| format!("{source}: cannot read tensor {name}"))?,
            Store::Tensors(tensors) => tensors[name].clone(),
        };
        let dims = tensor.dims();
        let fits = dims.len() == expected.len()
            && dims.iter().zip(expected).all(|(&d, e)| d > 0 && e.is_none_or(|e| e == d));
        if !fits {
            bail!("{source}: tensor {name} has shape {dims:?}, expected {}", wanted());
        }
        let sum = tensor.abs()?.sum_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()?;
        if !sum.is_finite() {
            bail!("{source}: tensor {name} has values that are not finite");
        }
        Ok(tensor)
    }
}
