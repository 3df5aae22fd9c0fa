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

/// A plain parameter's tensor.
const DATA: &str = "data";

/// Slopes of an activation that has them.
const SLOPE: &str = "slope";

/// What is told of a net whose kernels differ in fewer numbers than the checkpoint's.
const AT_ONE_TUNING: &str = "taken are its kernels at the base of control, in the middle of its domain if there is none; the knobs start without effect";

/// What a net has of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    /// Layers that were taken, and tensors that are no layer's.
    pub taken: Vec<String>,
    /// Those of them that have more channels than the checkpoint's.
    pub wider: Vec<String>,
    /// Layers that start by passing on what they are given.
    pub passing: Vec<String>,
    /// Layers that start with fresh weights, and tensors that do.
    pub fresh: Vec<String>,
    /// Parameters that the checkpoint does not have.
    pub new: Vec<String>,
    /// Parameters of the checkpoint that the net does not have.
    pub gone: Vec<String>,
    /// Whether the net starts as what the checkpoint is at one tuning.
    pub is_at_one_tuning: bool,
}

impl Transfer {
    /// For people; `None` where everything was taken.
    #[must_use]
    pub fn describe(&self) -> Option<String> {
        if self.is_at_one_tuning {
            return Some(AT_ONE_TUNING.into());
        }
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
    let mut layers: Vec<String> = recipe.net.phis().into_iter().map(|(name, _)| name).collect();
    layers.sort();
    for layer in &layers {
        let Some(values) = taken(layer, slots, start, &specs, &places, old_names.len()) else {
            transfer.fresh.push(layer.clone());
            continue;
        };
        let slope = format!("{layer}.{SLOPE}");
        if slots.contains_key(&slope) && values.iter().all(|(name, _)| *name != slope) {
            transfer.fresh.push(slope);
        }
        for (name, value) in values {
            fill(slots, &name, value);
        }
        let name = format!("{layer}.weight");
        only_direct(slots, &name);
        if specs.get(&name).is_some_and(|old| slots[&name].shape[2..] != old.shape[2..]) {
            transfer.wider.push(layer.clone());
        }
        transfer.taken.push(layer.clone());
    }
    // What is the same for all tunings.
    let of_layer = |name: &str| layers.iter().any(|layer| is_of(layer, name));
    for TensorSpec { name, shape, .. } in recipe.net.tensors(new_names.len()) {
        if of_layer(&name) {
            continue;
        }
        if specs.get(&name).is_some_and(|old| old.shape == shape) {
            fill(slots, &name, start.tensors[&name].clone());
            transfer.taken.push(name);
        } else {
            transfer.fresh.push(name);
        }
    }
    if !transfer.taken.is_empty() {
        let passes = |layer: &String| pass_on(slots, recipe, layer);
        (transfer.passing, transfer.fresh) = transfer.fresh.into_iter().partition(passes);
    }
    transfer
}

/// Whether a tensor belongs to a layer.
fn is_of(layer: &str, tensor: &str) -> bool {
    tensor.strip_prefix(layer).is_some_and(|rest| rest.starts_with('.'))
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
    // A convolution's or a dense layer's kernels, or a plain parameter.
    let bank = if slots.contains_key(&name("weight")) { "weight" } else { DATA };
    let kernels = |shape: &[usize]| shape.get(1).copied();
    let new_kernels = kernels(&slots.get(&name(bank))?.shape)?;
    let old_kernels = kernels(&specs.get(&name(bank))?.shape)?;
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
    for part in [bank, "bias", SLOPE] {
        let (Some(slot), Some(spec)) = (slots.get(&name(part)), specs.get(&name(part))) else {
            // An activation may be another.
            let differ = slots.contains_key(&name(part)) || specs.contains_key(&name(part));
            if differ && part != SLOPE {
                return None;
            }
            continue;
        };
        let (shape, old_shape) = (&slot.shape[2..], &spec.shape[2..]);
        let is_taken = if part == DATA { shape == old_shape } else { fits(old_shape, shape) };
        if !is_taken {
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

#[cfg(test)]
mod tests {
    use tunableconv::nn::Init;

    use super::super::learner::{Origin, metadata};
    use super::*;
    use crate::optimiser::initial_slots;

    /// Small nets with all kinds of layers.
    const NETS: [&str; 6] = [
        r#"net = "plain"
        colour = "luma"
        scale = 1
        residual = true
        layers = [
          { name = "a", kernel = 3, channels = 4, activation = "prelu" },
          { name = "b", kernel = 3, channels = 1, activation = "none" },
        ]"#,
        "net = \"edsr\"\nchannels = 4\nblocks = 1\nscale = 1\nresidual_scale = 0.1",
        "net = \"nafnet\"\nchannels = 4\nencoder_blocks = [1]\nmiddle_blocks = 1\ndecoder_blocks = [1]",
        "net = \"swinir\"\nchannels = 4\ndepths = [2]\nheads = [2]\nwindow = 4\nmlp_ratio = 2.0\nscale = 1",
        "net = \"stylenet\"\nchannels = 4\nscales = 1\nencoder_layers = 1\nblocks = 1\ndecoder_layers = 1",
        "net = \"video\"\nchannels = 4\nlayers = 1\nnegative_slope = 0.1",
    ];

    /// A recipe with knobs of those names for one of them.
    fn recipe(net: &str, phi: &str, knobs: &[&str]) -> Recipe {
        let knob = |name: &&str| {
            format!(
                "[[tuning.parameters]]\nname = \"{name}\"\nnick = \"x\"\nblurb = \"x\"\nminimum = 0.0\n\
                 maximum = 1.0\ndefault = 0.0\nobjective = \"x\"\n[[degradations]]\nparameter = \"{name}\"\n\
                 degradation = {{ kind = \"noise\", sigma = [0.0, 9.0] }}\n"
            )
        };
        let knobs: String = knobs.iter().map(knob).collect();
        let text = format!(
            "name = \"x\"\nseed = 1\nsteps = 1\n[net]\n{net}\nphi = {phi}\n[tuning]\ndomain = \"box\"\n{knobs}"
        );
        Recipe::parse(&text).unwrap()
    }

    fn random(recipe: &Recipe, seed: u64) -> BTreeMap<String, Slot> {
        let specs = recipe.net.tensors(recipe.tuning.len());
        let specs: Vec<_> =
            specs.into_iter().map(|spec| TensorSpec { init: Init::Uniform(1.0), ..spec }).collect();
        initial_slots(&specs, seed)
    }

    #[test]
    fn every_tensor_of_every_net_is_taken() {
        for net in NETS {
            for phi in [
                r#"{ mode = "mlp", expand = 2 }"#,
                r#"{ mode = "multilinear", expand = 1 }"#,
                r#"{ mode = "linear", expand = 1 }"#,
            ] {
                let own = recipe(net, phi, &["a", "b"]);
                let metadata = metadata(&own, Origin { data: vec![], start: None }).unwrap();
                let tensors = random(&own, 7).into_iter().map(|(name, slot)| (name, slot.value));
                let start = Checkpoint { metadata, tensors: tensors.collect() };
                let mut slots = random(&own, 8);
                let told = transfer(&mut slots, &start, &own);
                assert_eq!(told.describe(), None, "{net}");
                for (name, slot) in &slots {
                    assert!(slot.value == start.tensors[name], "{net}: {name}");
                }

                let more = recipe(net, phi, &["c", "a", "b"]);
                let told = transfer(&mut random(&more, 8), &start, &more);
                assert_eq!(told.describe().unwrap().split("; ").count(), 2, "{told:?}");
                assert_eq!(told.new, ["c"]);
            }
        }
    }

    #[test]
    fn slopes_that_a_checkpoint_does_not_have_are_fresh() {
        let phi = r#"{ mode = "multilinear", expand = 1 }"#;
        let own = recipe(NETS[0], phi, &["a"]);
        let other = recipe(&NETS[0].replace("\"prelu\"", "{ leaky-relu = 0.1 }"), phi, &["a"]);
        let metadata = metadata(&other, Origin { data: vec![], start: None }).unwrap();
        let tensors = random(&other, 7).into_iter().map(|(name, slot)| (name, slot.value));
        let start = Checkpoint { metadata, tensors: tensors.collect() };
        let told = transfer(&mut random(&own, 8), &start, &own).describe();
        assert_eq!(told.unwrap(), "taken are the layers a, b; fresh are the layers a.slope");
    }
}
