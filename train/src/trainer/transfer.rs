//! Weights of a checkpoint for a net that may have other parameters, or other layers.
//!
//! A layer is taken as a whole, where its channels are those of the checkpoint's and its bank has room
//! for the checkpoint's kernels. Parameters are known by their names: one that the checkpoint does not
//! have starts without any effect, and one that the net no longer has is left at 0, where that is
//! possible. So a net that only gains parameters starts as the checkpoint's own.

use std::collections::BTreeMap;

use tunableconv::checkpoint::Checkpoint;
use tunableconv::nn::TensorSpec;
use tunableconv::tuning::TuningSpace;

use crate::collapse;
use crate::optimiser::Slot;

/// What a net has of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    /// Layers that were taken.
    pub taken: Vec<String>,
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
            part("fresh are the layers", &self.fresh),
            part("without effect yet are the parameters", &self.new),
            part("gone are the parameters", &self.gone),
        ];
        let differs = !(self.fresh.is_empty() && self.new.is_empty() && self.gone.is_empty());
        differs.then(|| parts.into_iter().flatten().collect::<Vec<_>>().join("; "))
    }
}

/// Puts into `slots`, the fresh weights of a net with the parameters of `space`, what `start` has for
/// them.
pub fn transfer(
    slots: &mut BTreeMap<String, Slot>,
    start: &Checkpoint,
    space: &TuningSpace,
) -> Transfer {
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
            let shape = slots[&name].shape.clone();
            slots.insert(name, Slot::new(shape, value));
        }
        // The product of the factors is 0: the kernel is the checkpoint's.
        let factor = format!("{layer}.weight{}", collapse::SECOND);
        if let Some(slot) = slots.get_mut(&factor) {
            *slot = Slot::new(slot.shape.clone(), vec![0.0; slot.value.len()]);
        }
        transfer.taken.push(layer);
    }
    transfer
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
        if slot.shape[2..] != spec.shape[2..] {
            return None;
        }
        let each: usize = slot.shape[2..].iter().product();
        let (fresh, old) = (&slot.value, &start.tensors[&spec.name]);
        let kernel = |(kernel, source): (usize, &Option<usize>)| match source {
            Some(source) => old[source * each..][..each].to_vec(),
            // Coefficients that are 0 leave a kernel of an affine map without effect.
            None if has_affine => fresh[kernel * each..][..each].to_vec(),
            None => vec![0.0; each],
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
