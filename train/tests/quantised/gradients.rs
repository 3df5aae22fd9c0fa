//! Gradients: those of ordinary tensor operations with the usual straight-through tricks.

use std::collections::BTreeMap;

use candle_core::{Tensor, Var};
use tunableconv::checkpoint::{Checkpoint, STATISTICS};
use tunableconv::engine::{InputScale, LAST_MARGIN};
use tunableconv::frame::CHANNELS;
use tunableconv::net::Net;
use tunableconv::nn::FoldedLayer;
use tunableconv::nn::conv::conv2d;
use tunableconv::tuning::{Domain, Parameter, Tuning, TuningSpace};
use tunableconv_train::quantised::{QuantisedNet, range_names};

use crate::nets::*;

/// `value` with the gradient of `through`.
fn straight_through(value: &Tensor, through: &Tensor) -> Tensor {
    ((value - through).unwrap().detach() + through).unwrap()
}

fn rounded(x: &Tensor) -> Tensor {
    straight_through(&x.round().unwrap(), x)
}

/// Values as the integers stand for them, in ordinary tensor operations with the usual
/// straight-through gradients.
fn by_candle(
    checkpoint: &Checkpoint,
    vars: &BTreeMap<String, Var>,
    tunings: &[Tuning],
    corner_weights: &Tensor,
    x: &Tensor,
) -> Tensor {
    let net = Net::from_tensors(checkpoint.metadata.clone(), tensors(vars), &DEVICE).unwrap();
    let folded = net.model().fold(&stack(tunings)).unwrap().into_chain().unwrap();
    let (corners, sets) = (corner_weights.dim(1).unwrap(), tunings.len());
    let names = checkpoint.metadata.architecture.inner_outputs();
    let mut x = (rounded(&(x * 4096.0).unwrap()) / 4096.0).unwrap();
    let mut scale = Tensor::full(1f32 / 4096.0, (sets, CHANNELS), &DEVICE).unwrap();
    let mut mean = scale.zeros_like().unwrap();
    let mut edges = vec![x.clone()];
    for (index, FoldedLayer { conv: layer, link, .. }) in folded.layers.iter().enumerate() {
        let (_, c_out, c_in, _, _) = layer.weight.dims5().unwrap();
        let last = index + 1 == folded.layers.len();
        let input_max = if index == 0 { 8191 } else { 2047 };
        let most = i64::from(i32::MAX) / (9 * c_in as i64 * input_max);
        let largest = if index == 0 || last { most.min(i64::from(i16::MAX)) as f64 } else { 127.0 };

        let input_scale = scale.detach().reshape((sets, 1, c_in, 1, 1)).unwrap();
        let scaled = layer.weight.broadcast_mul(&input_scale).unwrap();
        let step = scaled.abs().unwrap().reshape((sets, c_out, ())).unwrap().max(2).unwrap();
        let step = (step / largest).unwrap().reshape((sets, c_out, 1, 1, 1)).unwrap().detach();
        let whole = scaled.broadcast_div(&step).unwrap().round().unwrap();
        let weight = whole.broadcast_mul(&step).unwrap().broadcast_div(&input_scale).unwrap();
        let weight = straight_through(&weight, &layer.weight);
        let lost = (&layer.weight - &weight).unwrap().sum((3, 4)).unwrap();
        let lost = lost.broadcast_mul(&mean.unsqueeze(1).unwrap()).unwrap();
        let mut bias = lost.sum(2).unwrap().detach();
        if let Some(of_layer) = &layer.bias {
            bias = (bias + of_layer).unwrap();
        }
        let y = conv2d(&x, &weight, Some(&bias), layer.geometry, layer.activation).unwrap();
        let y = link.forward(y, link.add.map(|edge| Some(&edges[edge?]))).unwrap();
        if last {
            return y;
        }

        let (name, channels) = &names[index];
        let ranges = vars[&format!("{name}.activations")].reshape((corners, ())).unwrap();
        let ranges = corner_weights.matmul(&ranges).unwrap();
        let ranges = ranges.reshape((sets, *channels, STATISTICS)).unwrap();
        let end = |at: usize| ranges.narrow(2, at, 1).unwrap().squeeze(2).unwrap();
        let (low, high) = (end(0), end(1));
        mean = end(2);
        let per_sample = |t: &Tensor| {
            let each = x.dim(0).unwrap() / sets;
            let t = t.reshape((sets, 1, *channels, 1, 1)).unwrap();
            let t = t.broadcast_as((sets, each, *channels, 1, 1)).unwrap();
            t.reshape((sets * each, *channels, 1, 1)).unwrap()
        };
        let codes = |zero: &Tensor, scale: &Tensor, least: f64, most: f64| {
            let (zero, scale) = (per_sample(zero), per_sample(scale));
            let codes = y.broadcast_div(&scale).unwrap().broadcast_add(&zero).unwrap();
            let codes = rounded(&codes.clamp(least as f32, most as f32).unwrap());
            codes.broadcast_sub(&zero).unwrap().broadcast_mul(&scale).unwrap()
        };
        let of_last = index + 2 == folded.layers.len();
        x = if of_last {
            let larger = high.maximum(&low.neg().unwrap()).unwrap();
            scale = (larger * (f64::from(LAST_MARGIN) / 2047.0)).unwrap();
            codes(&scale.zeros_like().unwrap(), &scale, -2047.0, 2047.0)
        } else {
            scale = ((&high - &low).unwrap() / 255.0).unwrap();
            let zero = rounded(&low.neg().unwrap().div(&scale).unwrap());
            codes(&zero, &scale, 0.0, 255.0)
        };
        edges.push(x.clone());
    }
    unreachable!("a chain has a last layer")
}

/// Weight of each corner, by the definition of [`TuningSpace::corners`].
fn corner_weights(space: &TuningSpace, tunings: &[Tuning]) -> Tensor {
    let weight = |tuning: &Tuning, corner: usize| match space.domain {
        Domain::Simplex => tuning.values()[corner],
        Domain::Box => {
            let side = |(j, p): (usize, &Parameter)| {
                let unit = tuning.values()[j] / p.maximum as f32;
                if corner >> j & 1 == 1 { unit } else { 1.0 - unit }
            };
            space.parameters.iter().enumerate().map(side).product()
        }
    };
    let corners = space.corner_count();
    let weights: Vec<f32> = tunings
        .iter()
        .flat_map(|t| (0..corners).map(|c| weight(t, c)).collect::<Vec<_>>())
        .collect();
    Tensor::from_vec(weights, (tunings.len(), corners), &DEVICE).unwrap()
}

#[test]
fn gradients_pass_straight_through_the_rounding() {
    for (name, checkpoint) in nets() {
        compare(name, &checkpoint);
    }
}

#[test]
fn ranges_that_cut_nothing_off_learn_from_the_rounding() {
    let mut checkpoint = nets().swap_remove(3).1;
    for name in range_names(&checkpoint.metadata) {
        for value in checkpoint.tensors.get_mut(&name).unwrap() {
            *value *= 30.0;
        }
    }
    compare("wide ranges", &checkpoint);
}

/// Compares values and gradients at two tunings.
fn compare(name: &str, checkpoint: &Checkpoint) {
    let mut random = Random(8);
    let space = &checkpoint.metadata.tuning;
    let tunings = [random.tuning(space), random.tuning(space)];
    let vars = variables(checkpoint);
    let net = QuantisedNet::new(checkpoint.metadata.clone(), tensors(&vars)).unwrap();
    let shape = (4, CHANNELS, 12, 10);
    let x = random.picture(4 * CHANNELS * 120);
    let x = Var::from_tensor(&Tensor::from_vec(x, shape, &DEVICE).unwrap()).unwrap();
    let target = random.values(4 * CHANNELS * 120, 0.3);
    let target = Tensor::from_vec(target, shape, &DEVICE).unwrap();
    let gradients = |residual: &Tensor| {
        let loss = (residual - &target).unwrap().sqr().unwrap().sum_all().unwrap();
        let store = loss.backward().unwrap();
        let of = |(name, var): (&str, &Var)| {
            let gradient = store.get(var).unwrap_or_else(|| panic!("{name}: no gradient"));
            (name.to_string(), values(gradient))
        };
        let all = vars.iter().map(|(name, var)| (name.as_str(), var));
        all.chain([("input", &x)]).map(of).collect::<BTreeMap<_, _>>()
    };
    let chain = net.fold(&stack(&tunings), &[InputScale::Tensor]).unwrap();
    let got = chain.forward(&x).unwrap();
    let weights = corner_weights(space, &tunings);
    let want = by_candle(checkpoint, &vars, &tunings, &weights, x.as_tensor());
    let difference = values(&got).into_iter().zip(values(&want)).map(|(a, b)| a - b);
    let (error, whole) = (norm(difference), norm(values(&want).into_iter()));
    // Rounding errors of f32 change a code here and there.
    assert!(error < 3e-3 * whole, "{name}: {error} of {whole}");

    let (got, want) = (gradients(&got), gradients(&want));
    // What hardly counts beside the others is a difference of such.
    let largest = want.values().map(|values| norm(values.iter().copied())).fold(0.0, f64::max);
    for (tensor, want) in &want {
        let want: Vec<f32> = match tensor.strip_suffix(".activations") {
            // The mean's place has no gradient.
            Some(_) => want.chunks(STATISTICS).flat_map(|r| [r[0], r[1], 0.0]).collect(),
            None => want.clone(),
        };
        let difference = got[tensor].iter().zip(&want).map(|(a, b)| a - b);
        let (error, whole) = (norm(difference), norm(want.iter().copied()));
        assert!(whole > 0.0, "{name}: the gradient of {tensor} is 0");
        let most = 3e-2 * whole + 1e-5 * largest;
        assert!(error < most, "{name}, {tensor}: {error} of {whole}, largest {largest}");
    }
}
