//! Weights of a checkpoint for a net that may have other parameters, or other layers.
//!
//! A layer is taken where it has no fewer channels than the checkpoint's and its bank has room for the
//! checkpoint's kernels. Where it has more, those that were there do not look at the new ones (Chen,
//! Goodfellow, Shlens, "Net2Net", ICLR 2016). Parameters are known by their names: one that the checkpoint
//! does not have starts without any effect, and one that the net no longer has is left at 0, where that is
//! possible. So a net that only gains parameters or channels starts as the checkpoint's own. A layer more
//! passes on what it is given, but for its activation.

use std::collections::BTreeMap;

use tunableconv::checkpoint::Checkpoint;
use tunableconv::nn::{Link, Mode, TensorSpec};
use tunableconv::tuning::TuningSpace;

use crate::collapse::only_direct;
use crate::optimiser::Slot;
use crate::recipe::Recipe;

/// What a net has of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    /// Layers that were taken.
    pub taken: Vec<String>,
    /// Those of them that have more channels than the checkpoint's.
    pub wider: Vec<String>,
    /// Layers that start by passing on what they are given.
    pub passing: Vec<String>,
    /// Layers that start with fresh weights.
    pub fresh: Vec<String>,
    /// Parameters that the checkpoint does not have.
    pub new: Vec<String>,
    /// Parameters of the checkpoint that the net does not have.
    pub gone: Vec<String>,
}

impl Transfer {
    /// For people; `None` where everything was taken.
    #[must_use]
    pub fn describe(&self) -> Option<String> {
        let part = |what: &str, names: &[String]| match names.is_empty() {
            true => None,
            false => Some(format!("{what} {}", names.join(", "))),
        };
        let parts = [
            part("taken are the layers", &self.taken),
            part("wider are the layers", &self.wider),
            part("passing on what they are given are the layers", &self.passing),
            part("fresh are the layers", &self.fresh),
            part("without effect yet are the parameters", &self.new),
            part("gone are the parameters", &self.gone),
        ];
        let others = [&self.wider, &self.passing, &self.fresh, &self.new, &self.gone];
        others
            .iter()
            .any(|names| !names.is_empty())
            .then(|| parts.into_iter().flatten().collect::<Vec<_>>().join("; "))
    }
}

/// Puts into `slots`, the fresh weights of the net of `recipe`, what `start` has for them.
pub fn transfer(
    slots: &mut BTreeMap<String, Slot>,
    start: &Checkpoint,
    recipe: &Recipe,
) -> Transfer {
    let space = &recipe.tuning;
    let old_space = &start.metadata.tuning;
    let names = |space: &TuningSpace| -> Vec<String> {
        space.parameters.iter().map(|parameter| parameter.name.clone()).collect()
    };
    let (old_names, new_names) = (names(old_space), names(space));
    let without = |of: &[String], others: &[String]| -> Vec<String> {
        of.iter().filter(|name| !others.contains(name)).cloned().collect()
    };
    let mut transfer = Transfer {
        new: without(&new_names, &old_names),
        gone: without(&old_names, &new_names),
        ..Default::default()
    };
    // For each parameter its place in the checkpoint.
    let places: Vec<Option<usize>> =
        new_names.iter().map(|name| old_names.iter().position(|old| old == name)).collect();
    let specs: BTreeMap<String, TensorSpec> =
        start.metadata.tensors().into_iter().map(|spec| (spec.name.clone(), spec)).collect();
    let layers: Vec<String> =
        slots.keys().filter_map(|name| name.strip_suffix(".weight")).map(str::to_owned).collect();
    for layer in layers.into_iter().filter(|layer| !layer.ends_with(".mlp")) {
        let Some(values) = taken(&layer, slots, start, &specs, &places, old_names.len()) else {
            transfer.fresh.push(layer);
            continue;
        };
        for (name, value) in values {
            fill(slots, &name, value);
        }
        let name = format!("{layer}.weight");
        only_direct(slots, &name);
        if slots[&name].shape[2..] != specs[&name].shape[2..] {
            transfer.wider.push(layer.clone());
        }
        transfer.taken.push(layer);
    }
    if !transfer.taken.is_empty() {
        let passes = |layer: &String| pass_on(slots, recipe, layer);
        (transfer.passing, transfer.fresh) = transfer.fresh.into_iter().partition(passes);
    }
    transfer
}

fn fill(slots: &mut BTreeMap<String, Slot>, name: &str, value: Vec<f32>) {
    let shape = slots[name].shape.clone();
    slots.insert(name.to_owned(), Slot::new(shape, value));
}

/// Lets a layer of the recipe's net pass on its input, where it can: it has as many outputs, nothing is
/// added to them, and the coefficients of its kernels have the sum 1 for every tuning.
fn pass_on(slots: &mut BTreeMap<String, Slot>, recipe: &Recipe, layer: &str) -> bool {
    let chain = recipe.net.chain().unwrap_or_default();
    let Some(of) = chain.iter().find(|of| of.name == layer) else { return false };
    let simple = of.config.stride == 1 && of.config.groups == 1 && of.link == Link::NONE;
    if !simple || of.c_in != of.c_out || of.config.phi.mode != Mode::Multilinear {
        return false;
    }
    let (channels, area) = (of.c_in, of.kernel.pow(2));
    let name = format!("{layer}.weight");
    let centre = |at: usize| {
        let (to, from) = (at / area / channels % channels, at / area % channels);
        f32::from(u8::from(to == from && at % area == area / 2))
    };
    let value = (0..slots[&name].value.len()).map(centre).collect();
    fill(slots, &name, value);
    only_direct(slots, &name);
    true
}

/// `old`, of shape `old_shape`, in the corner of `fresh`, of `shape`, both `[C_out]` or
/// `[C_out, C_in, K, K]`; what comes out of old channels does not look at new ones.
fn widened((fresh, shape): (&[f32], &[usize]), (old, old_shape): (&[f32], &[usize])) -> Vec<f32> {
    let row: usize = shape[1..].iter().product();
    let old_row: usize = old_shape[1..].iter().product();
    let mut value = fresh.to_vec();
    for (to, from) in value.chunks_exact_mut(row).zip(old.chunks_exact(old_row)) {
        to.fill(0.0);
        to[..old_row].copy_from_slice(from);
    }
    value
}

/// Whether a kernel or a bias of shape `old` fits into one of shape `new`.
fn fits(old: &[usize], new: &[usize]) -> bool {
    // Channels, then the kernel's width and height.
    old.len() == new.len()
        && old
            .iter()
            .zip(new)
            .enumerate()
            .all(|(i, (old, new))| if i < 2 { old <= new } else { old == new })
}

/// The tensors of a layer as `start` has them; `None` where they do not fit.
fn taken(
    layer: &str,
    slots: &BTreeMap<String, Slot>,
    start: &Checkpoint,
    specs: &BTreeMap<String, TensorSpec>,
    places: &[Option<usize>],
    old_parameters: usize,
) -> Option<Vec<(String, Vec<f32>)>> {
    let name = |part: &str| format!("{layer}.{part}");
    let has_affine = slots.contains_key(&name("mlp.weight"));
    if has_affine != specs.contains_key(&name("mlp.weight")) {
        return None;
    }
    let kernels = |shape: &[usize]| shape.get(1).copied();
    let new_kernels = kernels(&slots[&name("weight")].shape)?;
    let old_kernels = kernels(&specs.get(&name("weight"))?.shape)?;
    // For each kernel of the bank that of the checkpoint.
    let sources: Vec<Option<usize>> = if has_affine {
        if new_kernels < old_kernels {
            return None;
        }
        (0..new_kernels).map(|kernel| (kernel < old_kernels).then_some(kernel)).collect()
    } else if (new_kernels, old_kernels) == (places.len(), old_parameters) {
        places.to_vec()
    } else if (new_kernels, old_kernels) == (1 << places.len(), 1 << old_parameters) {
        // A kernel for each corner: a new parameter's two sides are equal.
        let bit = |corner: usize, j: usize| places[j].map_or(0, |old| (corner >> j & 1) << old);
        let corner = |corner: usize| (0..places.len()).map(|j| bit(corner, j)).sum();
        (0..new_kernels).map(|kernel| Some(corner(kernel))).collect()
    } else {
        return None;
    };

    let mut values = vec![];
    for part in ["weight", "bias"] {
        let (Some(slot), Some(spec)) = (slots.get(&name(part)), specs.get(&name(part))) else {
            if slots.contains_key(&name(part)) || specs.contains_key(&name(part)) {
                return None;
            }
            continue;
        };
        let (shape, old_shape) = (&slot.shape[2..], &spec.shape[2..]);
        if !fits(old_shape, shape) {
            return None;
        }
        let (each, old_each) = (shape.iter().product(), old_shape.iter().product::<usize>());
        let (fresh, old) = (&slot.value, &start.tensors[&spec.name]);
        let kernel = |(kernel, source): (usize, &Option<usize>)| {
            let fresh = &fresh[kernel * each..][..each];
            match source {
                Some(source) => {
                    widened((fresh, shape), (&old[source * old_each..][..old_each], old_shape))
                }
                // Coefficients that are 0 leave a kernel of an affine map without effect.
                None if has_affine => fresh.to_vec(),
                None => vec![0.0; each],
            }
        };
        values.push((name(part), sources.iter().enumerate().flat_map(kernel).collect()));
    }
    if has_affine {
        let (weight, bias) =
            (&start.tensors[&name("mlp.weight")], &start.tensors[&name("mlp.bias")]);
        let entry = |source: &Option<usize>, place: &Option<usize>| match (source, place) {
            (Some(kernel), Some(parameter)) => weight[kernel * old_parameters + parameter],
            _ => 0.0,
        };
        let rows = sources.iter().flat_map(|source| places.iter().map(move |p| entry(source, p)));
        values.push((name("mlp.weight"), rows.collect()));
        let constants = sources.iter().map(|source| source.map_or(0.0, |kernel| bias[kernel]));
        values.push((name("mlp.bias"), constants.collect()));
    }
    Some(values)
}
