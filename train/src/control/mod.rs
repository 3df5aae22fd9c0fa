//! Control strategies: what of its kernels a net may change from corner to corner of its domain.
//!
//! A tunable layer has a kernel for each corner. Its rivals that cost nothing at run time have one kernel for all and
//! a difference: at corner c
//!
//! `k_c = k + d_c`,
//!
//! with d made of fewer numbers, or trained after k. What comes of it is the bank of an ordinary checkpoint,
//! which engines run as any other. A strategy is one file with its [`Rule`].

mod branch;
mod channels;
mod kernels;
mod low_rank;

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context as _, ensure};
use candle_core::{Device, Result, Tensor};
use serde::{Deserialize, Serialize};
use tunableconv::checkpoint::{Architecture, Checkpoint};
use tunableconv::net::Net;
use tunableconv::nn::{Activation, ChainLayer, Link, Mode, TensorSpec};
use tunableconv::tuning::{Domain, TuningSpace};

use crate::optimiser::Slot;

/// How kernels depend on the tuning; the table `control` of a recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Control {
    /// What d is made of.
    pub difference: Difference,
    /// The layers that have one.
    #[serde(default)]
    pub layers: Layers,
    /// The corner at which d is 0, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Vec<f64>>,
    /// Whether k stays what the checkpoint that the run starts from has at `base`; without a base, what it was at first,
    /// so that the kernels of all corners begin alike and are trained each by itself.
    #[serde(default)]
    pub frozen: bool,
}

/// What a difference is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Difference {
    /// There is none: an ordinary net.
    None,
    /// A kernel.
    Kernels,
    /// A product of two matrices of that rank.
    LowRank(usize),
    /// A factor for each channel.
    Gains,
    /// A factor for each channel, and a bias.
    Scales,
    /// A second branch in each residual block, which is twice as wide as those of the checkpoint that it starts
    /// from.
    Branch,
}

/// Which layers have a difference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layers {
    /// Every layer.
    #[default]
    All,
    /// The last one.
    Last,
    /// Those whose output is added to something.
    Branches,
}

/// What d may be.
trait Rule {
    /// The tensors that it is made of.
    fn tensors(&self, bank: &Bank) -> Vec<TensorSpec>;

    /// The differences of kernels and biases, `[corners, …]` each, from those tensors and from k, `[1, …]`.
    fn differences(&self, bank: &Bank, parts: &Parts<'_>, k: &Kernel) -> Result<Kernel>;

    /// Whether they are nothing at the base.
    fn is_left_out_at_base(&self, _: &Bank) -> bool {
        true
    }
}

/// Kernels with their biases.
struct Kernel {
    /// `[N, C_out, C_in, K, K]`.
    weight: Tensor,
    /// `[N, C_out]`.
    bias: Option<Tensor>,
}

/// Where a layer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// The first of the two of a residual block.
    Opens,
    /// The second of them.
    Closes,
    /// Anywhere else.
    Else,
}

/// The bank of a layer, as its net has it.
struct Bank {
    layer: String,
    role: Role,
    weight: TensorSpec,
    bias: Option<TensorSpec>,
}

impl Bank {
    fn of(layer: &ChainLayer, role: Role, p: usize) -> Self {
        let (prefix, channels) = (format!("{}.", layer.name), (layer.c_in, layer.c_out));
        let mut specs = layer.config.tensors(&prefix, p, channels, layer.kernel, layer.gain);
        let mut named = |part: &str| {
            let name = format!("{prefix}{part}");
            let at = specs.iter().position(|spec| spec.name == name)?;
            Some(specs.remove(at))
        };
        let weight = named("weight").expect("every layer has kernels");
        Self { layer: layer.name.clone(), role, weight, bias: named("bias") }
    }

    fn corners(&self) -> usize {
        self.weight.shape[1]
    }

    /// Of a kernel.
    fn shape(&self) -> &[usize] {
        &self.weight.shape[2..]
    }

    /// k, of which there is one for all corners.
    fn shared(&self) -> Vec<TensorSpec> {
        let one = |spec: &TensorSpec| {
            TensorSpec::new(shared(&spec.name), &[&[1], &spec.shape[2..]].concat(), spec.init)
        };
        [Some(&self.weight), self.bias.as_ref()].into_iter().flatten().map(one).collect()
    }

    /// Name of a tensor of the difference.
    fn part(&self, name: &str) -> String {
        format!("{}.difference.{name}", self.layer)
    }
}

fn shared(name: &str) -> String {
    format!("{name}.shared")
}

/// Tensors by name.
struct Parts<'t>(&'t HashMap<String, Tensor>);

impl Parts<'_> {
    fn get(&self, name: &str) -> Result<&Tensor> {
        self.0.get(name).ok_or_else(|| candle_core::Error::Msg(format!("no tensor `{name}`")))
    }
}

impl Difference {
    fn rule(self) -> Option<Box<dyn Rule>> {
        Some(match self {
            Self::None => return None,
            Self::Kernels => Box::new(kernels::Kernels),
            Self::LowRank(rank) => Box::new(low_rank::LowRank { rank }),
            Self::Gains => Box::new(channels::Channels { has_bias: false }),
            Self::Scales => Box::new(channels::Channels { has_bias: true }),
            Self::Branch => Box::new(branch::Branch),
        })
    }
}

impl Control {
    /// Checks it against the net that it is for.
    ///
    /// # Errors
    /// Names the key at fault.
    pub fn validate(&self, net: &Architecture, tuning: &TuningSpace) -> anyhow::Result<()> {
        let chain = net.chain().context("the net is no chain of convolutions")?;
        let mode = match tuning.domain {
            Domain::Box => "multilinear",
            Domain::Simplex => "linear",
        };
        ensure!(
            chain.iter().any(|layer| has_corners(layer, tuning)),
            "no layer has a kernel for each corner: expected phi = {{ mode = \"{mode}\", expand = 1 }}"
        );
        for layer in &chain {
            let (name, activation) = (&layer.name, layer.config.activation);
            ensure!(activation != Activation::PRelu, "layer `{name}` has slopes (prelu)");
            ensure!(
                !self.frozen || has_corners(layer, tuning),
                "frozen: layer `{name}` has not a kernel for each corner"
            );
        }
        if let Difference::LowRank(rank) = self.difference {
            ensure!((1..=256).contains(&rank), "difference: rank {rank}, expected 1 to 256");
        }
        if self.difference == Difference::Branch {
            ensure!(self.frozen, "difference: a branch is beside one that is frozen");
            let roles = roles(&chain);
            ensure!(roles.contains(&Role::Closes), "difference: the net has no residual blocks");
            let opening = chain.iter().zip(roles).filter(|(_, role)| *role == Role::Opens);
            for (layer, _) in opening {
                let (name, channels) = (&layer.name, layer.c_out);
                ensure!(
                    channels % 2 == 0,
                    "layer `{name}` has {channels} channels, for two branches"
                );
            }
        }
        if self.base.is_some() {
            self.base_corner(tuning)?;
        }
        let begins_alike = self.difference == Difference::Kernels;
        ensure!(!self.frozen || self.base.is_some() || begins_alike, "frozen: expected a base");
        let trains = self.difference != Difference::None;
        ensure!(trains || !self.frozen, "frozen: without a difference there is nothing to train");
        Ok(())
    }

    /// Which kernel of a bank is k itself.
    fn base_corner(&self, tuning: &TuningSpace) -> anyhow::Result<Option<usize>> {
        let Some(base) = &self.base else { return Ok(None) };
        let own: Vec<f32> = base.iter().map(|value| *value as f32).collect();
        let corner = tuning.corners().position(|corner| corner.values() == own);
        ensure!(corner.is_some(), "base = {base:?}, expected a corner of the domain");
        Ok(corner)
    }

    /// Those of k for such a net.
    pub(crate) fn shared(&self, net: &Architecture, tuning: &TuningSpace) -> Vec<TensorSpec> {
        self.banks(net, tuning).flat_map(|(bank, _)| bank.shared()).collect()
    }

    /// The tensors to train for such a net.
    #[must_use]
    pub fn trained(&self, net: &Architecture, tuning: &TuningSpace) -> Vec<TensorSpec> {
        let of_layer = |(bank, differs): (Bank, bool)| {
            let mut specs = if self.frozen { vec![] } else { bank.shared() };
            if let Some(rule) = self.difference.rule().filter(|_| differs) {
                specs.extend(rule.tensors(&bank));
            }
            specs
        };
        self.banks(net, tuning).flat_map(of_layer).chain(free(net, tuning)).collect()
    }

    /// The banks of a net, and whether they differ from corner to corner.
    fn banks(
        &self,
        net: &Architecture,
        tuning: &TuningSpace,
    ) -> impl Iterator<Item = (Bank, bool)> {
        let chain = net.chain().unwrap_or_default();
        let (last, p) = (chain.len().wrapping_sub(1), tuning.len());
        let (layers, difference, roles) = (self.layers, self.difference, roles(&chain));
        let corners: Vec<bool> = chain.iter().map(|layer| has_corners(layer, tuning)).collect();
        let layers_of = chain.into_iter().zip(roles).enumerate();
        layers_of.filter(move |(index, _)| corners[*index]).map(move |(index, (layer, role))| {
            let is_added = layer.link.add.iter().any(Option::is_some);
            let differs = match layers {
                _ if difference == Difference::Branch => role != Role::Else,
                Layers::All => true,
                Layers::Last => index == last,
                Layers::Branches => is_added || index == last,
            };
            (Bank::of(&layer, role, p), differs)
        })
    }

    /// The net's tensors from those that are trained and, where k is frozen, from [`Self::start`]; differentiable.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn net(
        &self,
        net: &Architecture,
        tuning: &TuningSpace,
        parts: &HashMap<String, Tensor>,
    ) -> anyhow::Result<HashMap<String, Tensor>> {
        let base = self.base_corner(tuning)?;
        let parts = Parts(parts);
        let mut tensors = HashMap::new();
        for TensorSpec { name, .. } in free(net, tuning) {
            let own = parts.get(&name)?.clone();
            tensors.insert(name, own);
        }
        for (bank, differs) in self.banks(net, tuning) {
            let weight = parts.get(&shared(&bank.weight.name))?.clone();
            let bias = bank.bias.as_ref().map(|bias| parts.get(&shared(&bias.name)).cloned());
            let k = Kernel { weight, bias: bias.transpose()? };
            let rule = self.difference.rule().filter(|_| differs);
            let base =
                base.filter(|_| rule.as_ref().is_some_and(|rule| rule.is_left_out_at_base(&bank)));
            let difference = rule.map(|rule| rule.differences(&bank, &parts, &k)).transpose()?;
            let (weights, biases) = match difference {
                Some(Kernel { weight, bias }) => (Some(weight), bias),
                None => (None, None),
            };
            let corners = bank.corners();
            let made = bank_of(&k.weight, weights, base, corners)?;
            tensors.insert(bank.weight.name, made);
            if let Some((spec, k)) = bank.bias.zip(k.bias) {
                tensors.insert(spec.name, bank_of(&k, biases, base, corners)?);
            }
        }
        Ok(tensors)
    }

    /// k as `start` has it at [`Self::base`], or in the middle of its domain; by name.
    ///
    /// # Errors
    /// A net of other layers, or of other parameters.
    pub fn start(
        &self,
        start: &Checkpoint,
        net: &Architecture,
        tuning: &TuningSpace,
    ) -> anyhow::Result<BTreeMap<String, Slot>> {
        let own = &start.metadata.tuning;
        ensure!(own == tuning, "its parameters are {}, expected {}", own.names(), tuning.names());
        let middle = match tuning.domain {
            Domain::Box => 0.5,
            Domain::Simplex => 1.0 / tuning.len() as f64,
        };
        let at = self.base.clone().unwrap_or_else(|| vec![middle; tuning.len()]);
        let at: Vec<f32> = at.into_iter().map(|value| value as f32).collect();
        let at = Tensor::from_vec(at, (1, tuning.len()), &Device::Cpu)?;
        let folded = Net::new(start, &Device::Cpu)?.model().fold(&at)?.into_chain()?;
        let mut values = BTreeMap::new();
        let chain = net.chain().unwrap_or_default();
        ensure!(
            chain.len() == folded.layers.len(),
            "it has {} layers, expected {}",
            folded.layers.len(),
            chain.len()
        );
        for TensorSpec { name, shape, .. } in free(net, tuning) {
            let own =
                start.tensors.get(&name).filter(|own| own.len() == shape.iter().product::<usize>());
            let own = own.with_context(|| format!("it has no `{name}` of shape {shape:?}"))?;
            values.insert(name, Slot::new(shape, own.clone()));
        }
        let layers = chain.iter().zip(&folded.layers).filter(|(own, _)| has_corners(own, tuning));
        for ((bank, _), (layer, folded)) in self.banks(net, tuning).zip(layers) {
            let conv = &folded.conv;
            let mut take = |spec: &TensorSpec, tensor: &Tensor| {
                let shape = [&[1], &spec.shape[2..]].concat();
                let tensor = if self.difference == Difference::Branch {
                    &widened(tensor, &shape)?
                } else {
                    tensor
                };
                ensure!(
                    tensor.dims() == shape,
                    "its `{}` has kernels {:?}, expected {:?}",
                    spec.name,
                    &tensor.dims()[1..],
                    &shape[1..]
                );
                // Folding multiplies by it.
                let tensor = (tensor / f64::from(layer.factor))?.flatten_all()?;
                values.insert(shared(&spec.name), Slot::new(shape, tensor.to_vec1()?));
                Ok(())
            };
            take(&bank.weight, &conv.weight)?;
            if let Some(spec) = &bank.bias {
                take(spec, conv.bias.as_ref().context("its layers have no bias")?)?;
            }
        }
        Ok(values)
    }

    /// Puts into `values`, which [`Self::start`] made, the differences that `start` has from k; whether all could be
    /// had. Not where they are made of less than kernels, or where `start` has others.
    pub fn start_differences(
        &self,
        start: &Checkpoint,
        net: &Architecture,
        tuning: &TuningSpace,
        values: &mut BTreeMap<String, Slot>,
    ) -> bool {
        let is_same = |spec: &TensorSpec| {
            let own = start.tensors.get(&spec.name);
            own.is_some_and(|own| own.len() == spec.shape.iter().product::<usize>())
        };
        let has_all = |(bank, differs): (Bank, bool)| {
            differs && is_same(&bank.weight) && bank.bias.as_ref().is_none_or(is_same)
        };
        let are_kernels = self.difference == Difference::Kernels;
        if !are_kernels || !self.banks(net, tuning).all(has_all) {
            return false;
        }
        for (bank, _) in self.banks(net, tuning) {
            for (part, spec) in [("weight", Some(&bank.weight)), ("bias", bank.bias.as_ref())] {
                let Some(spec) = spec else { continue };
                let k = &values[&shared(&spec.name)].value;
                let corners = start.tensors[&spec.name].chunks_exact(k.len());
                let d = corners.flat_map(|own| own.iter().zip(k).map(|(own, k)| own - k)).collect();
                values.insert(bank.part(part), Slot::new(spec.shape[1..].to_vec(), d));
            }
        }
        true
    }
}

/// Whether a layer has a kernel for each corner of the domain. Others, as the last one of a net that changes nothing
/// at ω = 0, are left as they are.
fn has_corners(layer: &ChainLayer, tuning: &TuningSpace) -> bool {
    let mode = match tuning.domain {
        Domain::Box => Mode::Multilinear,
        Domain::Simplex => Mode::Linear,
    };
    (layer.config.phi.mode, layer.config.phi.expand) == (mode, 1)
}

/// The tensors of the layers that are left as they are.
fn free(net: &Architecture, tuning: &TuningSpace) -> Vec<TensorSpec> {
    let chain = net.chain().unwrap_or_default();
    let others: Vec<_> = chain.into_iter().filter(|layer| !has_corners(layer, tuning)).collect();
    tunableconv::nn::chain::tensors(&others, tuning.len())
}

/// The residual blocks of a chain: two layers, of which the second has the input of the first added.
fn roles(chain: &[ChainLayer]) -> Vec<Role> {
    let closes = |index: usize| {
        let before = index.checked_sub(1).and_then(|before| chain.get(before));
        let layer =
            chain.get(index).filter(|layer| layer.link.add == [Some(index.wrapping_sub(1)), None]);
        layer.is_some() && before.is_some_and(|before| before.link == Link::NONE)
    };
    let role = |index: usize| match (closes(index), closes(index + 1)) {
        (true, _) => Role::Closes,
        (_, true) => Role::Opens,
        _ => Role::Else,
    };
    (0..chain.len()).map(role).collect()
}

/// With zeros behind the channels that a kernel or a bias has, where it is to have twice as many.
fn widened(tensor: &Tensor, shape: &[usize]) -> Result<Tensor> {
    let mut tensor = tensor.clone();
    for (dim, to) in shape.iter().enumerate().take(tensor.rank().min(3)).skip(1) {
        let own = tensor.dim(dim)?;
        if 2 * own == *to {
            tensor = tensor.pad_with_zeros(dim, 0, own)?;
        }
    }
    Ok(tensor)
}

/// `[1, corners, …]` from k, `[1, …]`, and d, `[corners, …]`, which is left out at `base`.
fn bank_of(k: &Tensor, d: Option<Tensor>, base: Option<usize>, corners: usize) -> Result<Tensor> {
    let mut ones = vec![1.0f32; corners];
    if let Some(base) = base {
        ones[base] = 0.0;
    }
    let mut shape = vec![1; k.rank()];
    shape[0] = corners;
    let counts = Tensor::from_vec(ones, shape.as_slice(), k.device())?.to_dtype(k.dtype())?;
    let d = match d {
        Some(d) => d.broadcast_mul(&counts)?,
        None => counts.zeros_like()?,
    };
    k.broadcast_add(&d)?.unsqueeze(0)
}

#[cfg(test)]
mod tests;
