//! Kernel banks in the order in which rows are computed, and their fold at one tuning.
//!
//! Folding here is the plain f32 twin of [`crate::nn::TunableConv2d`]: no tensors, no allocation,
//! as a ramp of the tuning folds on every frame.

use std::sync::Arc;

use super::plan::{ChainSpec, LayerSpec};
use crate::checkpoint::Checkpoint;
use crate::nn::Phi;
use crate::{Error, Result};

/// The kernels of one tunable layer.
pub(crate) struct Bank {
    phi: Phi<Vec<f32>>,
    /// Per kernel `[c_out][segment][run]`, output channels in the order of the output's rows, times the
    /// layer's factor.
    weights: Vec<Vec<f32>>,
    /// Per kernel `[c_out]`, times the factor; none for a layer without.
    biases: Vec<Vec<f32>>,
    /// Per kernel `[c_out]`; none for a layer whose slopes are not its own.
    slopes: Vec<Vec<f32>>,
}

/// The banks of a checkpoint, one per layer; they never change, and any number of engines share
/// them.
#[derive(Clone)]
pub(crate) struct SharedBanks(Arc<[Bank]>);

impl SharedBanks {
    /// # Errors
    /// As [`ChainSpec::of`] and [`Bank::new`].
    pub(crate) fn new(checkpoint: &Checkpoint) -> Result<Self> {
        let spec = ChainSpec::of(&checkpoint.metadata.architecture).map_err(Error::Config)?;
        Self::of_chain(checkpoint, &spec)
    }

    /// # Errors
    /// As [`Bank::new`].
    pub(crate) fn of_chain(checkpoint: &Checkpoint, spec: &ChainSpec) -> Result<Self> {
        let layers = 0..spec.layers.len();
        layers.map(|layer| Bank::new(checkpoint, spec, layer)).collect::<Result<_>>().map(Self)
    }
}

impl std::ops::Deref for SharedBanks {
    type Target = [Bank];

    fn deref(&self) -> &[Bank] {
        &self.0
    }
}

/// What a bank is folded into.
pub(crate) struct Folded {
    coefficients: Vec<f32>,
    /// As [`Bank::weights`], of one kernel.
    pub(crate) weights: Vec<f32>,
    /// Per output channel.
    pub(crate) bias: Vec<f32>,
    /// Per output channel, or empty.
    pub(crate) slopes: Vec<f32>,
}

impl Folded {
    /// Room for what `bank` of a layer with so many output channels folds into.
    pub(crate) fn zeroed(bank: &Bank, c_out: usize) -> Self {
        Self {
            coefficients: vec![0.0; bank.weights.len()],
            weights: vec![0.0; bank.weights[0].len()],
            bias: vec![0.0; c_out],
            slopes: vec![0.0; bank.slopes.first().map_or(0, Vec::len)],
        }
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<f32>()
            * [&self.coefficients, &self.weights, &self.bias, &self.slopes]
                .map(Vec::len)
                .iter()
                .sum::<usize>()
    }
}

impl Bank {
    /// The bank of the layer that reads edge `edge`.
    ///
    /// # Errors
    /// [`Error::Config`] naming a tensor that is missing or of another size.
    pub(crate) fn new(checkpoint: &Checkpoint, spec: &ChainSpec, edge: usize) -> Result<Self> {
        let layer = &spec.layers[edge];
        let p = checkpoint.metadata.tuning.len();
        let find = |suffix: &str| {
            let name = format!("{}.{suffix}", layer.name);
            checkpoint.tensors.get(&name).map(|values| (name, values.as_slice()))
        };
        let missing = || Error::Config(format!("tensor `{}.weight` is missing", layer.name));
        let (name, weights) = find("weight").ok_or_else(missing)?;
        let order = natural_index(layer, spec.parts(edge));
        let kernels = weights.len() / order.len();
        if kernels * order.len() != weights.len() {
            let (got, each) = (weights.len(), order.len());
            return Err(Error::Config(format!("tensor `{name}` has {got} values for {each} each")));
        }
        let expected = layer.phi.kernels(p);
        if kernels != expected {
            return Err(Error::Config(format!(
                "tensor `{name}` has {kernels} kernels for {p} parameters, expected {expected}"
            )));
        }
        let phi = Phi::of(p, layer.phi, find)?;
        let (outputs, factor) = (output_order(layer), layer.factor);
        // One value for each output channel and kernel.
        let per_channel = |suffix: &str, factor: f32| match find(suffix) {
            Some((name, values)) if values.len() != kernels * layer.c_out => {
                Err(Error::Config(format!("tensor `{name}` has {} values", values.len())))
            }
            Some((_, values)) => {
                let each = values.chunks_exact(layer.c_out);
                Ok(each.map(|of| outputs.iter().map(|&c| factor * of[c]).collect()).collect())
            }
            None => Ok(vec![]),
        };
        let (biases, slopes) = (per_channel("bias", factor)?, per_channel("slope", 1.0)?);
        if slopes.is_empty() && layer.slope.is_none() {
            return Err(Error::Config(format!("tensor `{}.slope` is missing", layer.name)));
        }
        let reorder = |kernel: &[f32]| order.iter().map(|&at| factor * kernel[at]).collect();
        let weights = weights.chunks_exact(order.len()).map(reorder).collect();
        Ok(Self { phi, weights, biases, slopes })
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        let values = |all: &[Vec<f32>]| all.iter().map(Vec::len).sum::<usize>();
        size_of::<f32>() * (values(&self.weights) + values(&self.biases) + values(&self.slopes))
    }

    /// Bytes of the kernel that it folds into.
    pub(crate) fn folded_bytes(&self) -> usize {
        size_of::<f32>() * self.weights[0].len()
    }

    /// `Σ aᵢ kᵢ` and `Σ aᵢ bᵢ` with a = φ(ω).
    pub(crate) fn fold(&self, omega: &[f32], into: &mut Folded) {
        self.phi.coefficients(omega, &mut into.coefficients);
        mix(&self.weights, &into.coefficients, &mut into.weights);
        mix(&self.biases, &into.coefficients, &mut into.bias);
        mix(&self.slopes, &into.coefficients, &mut into.slopes);
    }
}

fn mix(bank: &[Vec<f32>], coefficients: &[f32], out: &mut [f32]) {
    out.fill(0.0);
    for (kernel, &a) in bank.iter().zip(coefficients) {
        for (out, k) in out.iter_mut().zip(kernel) {
            *out += a * k;
        }
    }
}

/// Output channel at each position of the output: rows of the shuffled map, in each its columns,
/// in each the channels.
pub(crate) fn output_order(layer: &LayerSpec) -> Vec<usize> {
    let (by, channels) = (layer.shuffle, layer.c_out / layer.shuffle.pow(2));
    let at = |row, column, c| (c * by + row) * by + column;
    let columns = (0..by).flat_map(|row| (0..by).map(move |column| (row, column)));
    columns.flat_map(|(row, column)| (0..channels).map(move |c| at(row, column, c))).collect()
}

/// Input channel at each position of the run of each kernel row, and the tap's column:
/// `[unshuffled row][part][tap column][unshuffled column][channel of the part]`.
pub(crate) fn input_order(layer: &LayerSpec, parts: usize) -> Vec<(usize, usize)> {
    let by = layer.unshuffle;
    let channels = layer.c_in / (by * by * parts);
    let mut order = Vec::with_capacity(layer.c_in * layer.kernel);
    for row in 0..by {
        for part in 0..parts {
            for tap in 0..layer.kernel {
                for column in 0..by {
                    for c in part * channels..(part + 1) * channels {
                        order.push(((c * by + row) * by + column, tap));
                    }
                }
            }
        }
    }
    order
}

/// Index into `[C_out, C_in, K, K]` of each weight in the bank's order.
pub(crate) fn natural_index(layer: &LayerSpec, parts: usize) -> Vec<usize> {
    let (k, inputs) = (layer.kernel, input_order(layer, parts));
    let mut index = Vec::with_capacity(layer.c_out * inputs.len() * k);
    for c_out in output_order(layer) {
        for row in 0..k {
            index.extend(
                inputs.iter().map(|&(c_in, tap)| ((c_out * layer.c_in + c_in) * k + row) * k + tap),
            );
        }
    }
    index
}
