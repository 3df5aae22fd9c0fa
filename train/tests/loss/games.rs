//! The discriminator and the adversarial losses.

use candle_core::{DType, Tensor, Var};
use tunableconv_train::loss::adversarial::{
    AdversarialKind, Discriminator, DiscriminatorConfig, discriminator_loss, generator_loss,
};
use tunableconv_train::optimiser::initial_slots;

use super::naive::{self, Map};
use super::{CPU, Tensors, picture, values};

/// The tensors a training run starts with.
fn fresh(config: &DiscriminatorConfig) -> Tensors {
    let tensor = |(name, slot): (String, tunableconv_train::optimiser::Slot)| {
        (name, Tensor::from_vec(slot.value, slot.shape, &CPU).unwrap())
    };
    initial_slots(&config.tensors(), 1).into_iter().map(tensor).collect()
}

/// A layer as the 6×6 convolution of stride 2 that it is: tap `(2 i + r, 2 j + c)` of input
/// channel `q` is tap `(i, j)` of the unfolded channel `4 q + 2 r + c`.
fn strided(x: &Map, weight: &Tensor, bias: &Tensor) -> Map {
    let (c_out, c_in) = (weight.dims()[1], weight.dims()[2]);
    let folded = values(&weight.to_dtype(DType::F64).unwrap());
    let mut whole = vec![0.0; folded.len()];
    for (index, value) in folded.iter().enumerate() {
        let (i, j) = (index % 9 / 3, index % 3);
        let (q, o) = (index / 9 % c_in, index / 9 / c_in);
        let (r, c, q) = (q % 4 / 2, q % 2, q / 4);
        whole[((o * (c_in / 4) + q) * 6 + 2 * i + r) * 6 + 2 * j + c] = *value;
    }
    let bias = values(&bias.to_dtype(DType::F64).unwrap());
    assert_eq!(bias.len(), c_out);
    let mut out = naive::conv(x, &whole, &bias, 6, 2, 2);
    out.data.iter_mut().for_each(|v| *v = if *v < 0.0 { *v * f64::from(0.2f32) } else { *v });
    out
}

#[test]
fn the_discriminator_is_strided_convolutions() {
    let config = DiscriminatorConfig { channels: 3, layers: 2 };
    let mut tensors = fresh(&config);
    for i in 0..3 {
        let name = format!("discriminator.{i}.bias");
        let bias = (tensors[&name].ones_like().unwrap() * 0.1).unwrap();
        tensors.insert(name, bias);
    }
    let net = Discriminator::from_tensors(&config, &tensors).unwrap();
    let x = picture(&[1, 3, 16, 12], 1);
    let logits = net.forward(&x.to_dtype(DType::F32).unwrap()).unwrap();
    assert_eq!(logits.dims(), [1, 1, 4, 3]);

    let tensor = |i: usize, part: &str| &tensors[&format!("discriminator.{i}.{part}")];
    let centred = values(&x).iter().map(|v| 2.0 * v - 1.0).collect();
    let mut map = Map { c: 3, h: 16, w: 12, data: centred };
    for i in 0..2 {
        map = strided(&map, tensor(i, "weight"), tensor(i, "bias"));
    }
    let double = |t: &Tensor| values(&t.to_dtype(DType::F64).unwrap());
    let (weight, bias) = (double(tensor(2, "weight")), double(tensor(2, "bias")));
    let expected = naive::conv(&map, &weight, &bias, 3, 1, 1);
    for (got, expected) in double(&logits).iter().zip(&expected.data) {
        assert!((got - expected).abs() < 1e-4, "{got} {expected}");
    }
    // A pixel too many at an odd side is left out.
    let odd = picture(&[2, 3, 19, 15], 1).to_dtype(DType::F32).unwrap();
    assert_eq!(net.forward(&odd).unwrap().dims(), [2, 1, 4, 3]);
}

#[test]
fn layers_widen_and_their_tensors_are_named() {
    let specs = DiscriminatorConfig { channels: 8, layers: 5 }.tensors();
    let widths: Vec<usize> = specs.iter().step_by(2).map(|s| s.shape[1]).collect();
    assert_eq!(widths, [8, 16, 32, 64, 64, 1]);
    assert_eq!(specs[2].name, "discriminator.1.weight");
    assert_eq!(specs[2].shape, [1, 16, 32, 3, 3]);
    assert_eq!(specs[3].name, "discriminator.1.bias");
    assert_eq!(specs[3].shape, [1, 16]);
}

#[test]
fn wrong_tensors_and_sizes_are_refused() {
    let config = DiscriminatorConfig { channels: 2, layers: 1 };
    let refuse = |config: &DiscriminatorConfig, tensors: &Tensors| {
        Discriminator::from_tensors(config, tensors).unwrap_err().to_string()
    };
    let mut tensors = fresh(&config);
    tensors.insert("discriminator.0.bias".into(), picture(&[1, 3], 1));
    let error = refuse(&config, &tensors);
    assert!(error.contains("discriminator.0.bias has shape [1, 3], expected [1, 2]"), "{error}");
    tensors.remove("discriminator.0.bias");
    assert!(refuse(&config, &tensors).contains("no tensor discriminator.0.bias"));
    for (channels, layers) in [(0, 1), (257, 1), (1, 0), (1, 6)] {
        refuse(&DiscriminatorConfig { channels, layers }, &tensors);
    }
}

#[test]
fn a_frozen_discriminator_passes_gradients_on_but_has_none_and_follows_training() {
    let config = DiscriminatorConfig { channels: 2, layers: 1 };
    let vars: Vec<(String, Var)> = fresh(&config)
        .into_iter()
        .map(|(name, tensor)| (name, Var::from_tensor(&tensor).unwrap()))
        .collect();
    let tensors = vars.iter().map(|(name, var)| (name.clone(), var.as_tensor().clone())).collect();
    let net = Discriminator::from_tensors(&config, &tensors).unwrap();
    let frozen = net.frozen();
    let x = Var::from_tensor(&picture(&[1, 3, 8, 8], 1).to_dtype(DType::F32).unwrap()).unwrap();
    let grads = frozen.forward(&x).unwrap().sum_all().unwrap().backward().unwrap();
    assert!(grads.get(&x).is_some());
    assert!(vars.iter().all(|(_, var)| grads.get(var).is_none()));

    let before = frozen.forward(&x).unwrap().to_dtype(DType::F64).unwrap();
    for (_, var) in &vars {
        var.set(&(var.as_tensor() * 2.0).unwrap()).unwrap();
    }
    let after = frozen.forward(&x).unwrap().to_dtype(DType::F64).unwrap();
    assert_ne!(values(&after), values(&before));
    assert_eq!(values(&after), values(&net.forward(&x).unwrap().to_dtype(DType::F64).unwrap()));
}

fn logits(values: [[f64; 2]; 2]) -> Tensor {
    Tensor::new(&values, &CPU).unwrap().reshape((2, 1, 1, 2)).unwrap()
}

fn assert_values(loss: candle_core::Result<Tensor>, expected: [f64; 2]) {
    let got = values(&loss.unwrap());
    assert_eq!(got.len(), 2);
    for (got, expected) in got.iter().zip(expected) {
        assert!((got - expected).abs() < 1e-12, "{got} {expected}");
    }
}

#[test]
fn hinge_by_hand() {
    let (real, fake) = (logits([[2.0, 0.5], [-1.0, 1.0]]), logits([[-3.0, 0.0], [1.0, -0.5]]));
    let kind = AdversarialKind::Hinge;
    assert_values(generator_loss(kind, &real, &fake), [1.5, -0.25]);
    // (0 + 0.5 + 0 + 1) / 2, (2 + 0 + 2 + 0.5) / 2.
    assert_values(discriminator_loss(kind, &real, &fake), [0.75, 2.25]);
}

#[test]
fn relativistic_by_hand() {
    let (real, fake) = ([[2.0, 0.5], [-1.0, 1.0]], [[-3.0, 0.0], [1.0, -0.5]]);
    // Means over the batch: 0.625 and −0.625.
    let minus_log_sigmoid = |x: f64| (1.0 + (-x).exp()).ln();
    let term = |sample: usize, sign: f64| {
        let above = |j: usize| minus_log_sigmoid(sign * (real[sample][j] + 0.625));
        let below = |j: usize| minus_log_sigmoid(-sign * (fake[sample][j] - 0.625));
        (above(0) + above(1) + below(0) + below(1)) / 2.0
    };
    let kind = AdversarialKind::Relativistic;
    let (real, fake) = (logits(real), logits(fake));
    assert_values(discriminator_loss(kind, &real, &fake), [term(0, 1.0), term(1, 1.0)]);
    assert_values(generator_loss(kind, &real, &fake), [term(0, -1.0), term(1, -1.0)]);
}

#[test]
fn certain_logits_neither_overflow_nor_lose_the_gradient() {
    let real = Tensor::full(-4000f32, (1, 1, 1, 2), &CPU).unwrap();
    let fake = Var::from_tensor(&Tensor::full(4000f32, (1, 1, 1, 2), &CPU).unwrap()).unwrap();
    let loss = discriminator_loss(AdversarialKind::Relativistic, &real, &fake).unwrap();
    assert_eq!(loss.to_vec1::<f32>().unwrap(), [16000.0]);
    let grads = loss.backward().unwrap();
    // Half from the logits themselves, half from their mean.
    let got = grads.get(&fake).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(got, [1.0, 1.0]);
    let won = generator_loss(AdversarialKind::Relativistic, &real, &fake).unwrap();
    assert_eq!(won.to_vec1::<f32>().unwrap(), [0.0]);
}

#[test]
fn names_in_recipes_are_lowercase() {
    let kinds: Vec<AdversarialKind> = serde_json::from_str(r#"["hinge", "relativistic"]"#).unwrap();
    assert_eq!(kinds, [AdversarialKind::Hinge, AdversarialKind::Relativistic]);
}
