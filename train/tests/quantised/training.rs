//! Training a few steps, and what is refused.

use std::collections::HashMap;

use candle_core::{DType, Module as _, Tensor};
use tunableconv::checkpoint::{Checkpoint, MAX_ACTIVATION, Metadata};
use tunableconv::engine::{InputScale, Precision};
use tunableconv::frame::CHANNELS;
use tunableconv::net::Net;
use tunableconv::nn::Mode;
use tunableconv::tuning::{Domain, Tuning};
use tunableconv_train::quantised::{QuantisedNet, initial_ranges, project_ranges, range_names};

use crate::nets::*;

#[test]
fn training_brings_int8_nearer_to_a_teacher_in_f32() {
    let mut checkpoint = random_net(8, 2, space(Domain::Box, 2), Mode::Mlp);
    let mut random = Random(9);
    let tunings: Vec<Tuning> = (0..4).map(|_| random.tuning(&checkpoint.metadata.tuning)).collect();
    let (size, len) = ((16, 16), CHANNELS * 256);
    let x = random.picture(4 * len);
    let shape = (4, CHANNELS, size.1, size.0);
    let input = Tensor::from_slice(&x, shape, &DEVICE).unwrap();
    let teacher = Net::new(&checkpoint, &DEVICE).unwrap().model().fold(&stack(&tunings)).unwrap();
    let teacher = teacher.forward(&input).unwrap();
    // Of the engine itself.
    let error = |checkpoint: &Checkpoint| {
        let mut engine = engine(checkpoint, Precision::Int8);
        let got = tunings.iter().zip(x.chunks_exact(len));
        let got: Vec<f32> = got.flat_map(|(t, x)| residual(&mut engine, t, x, size)).collect();
        norm(got.iter().zip(values(&teacher)).map(|(a, b)| a - b))
    };
    let before = error(&checkpoint);

    let vars = variables(&checkpoint);
    let net = QuantisedNet::new(checkpoint.metadata.clone(), tensors(&vars)).unwrap();
    let ranges: Vec<String> = range_names(&checkpoint.metadata).collect();
    for _ in 0..20 {
        let chain = net.fold(&stack(&tunings), &[InputScale::Tensor]).unwrap();
        let errors = (chain.forward(&input).unwrap() - &teacher).unwrap().sqr().unwrap();
        let store = errors.mean_all().unwrap().backward().unwrap();
        for (name, var) in &vars {
            let mut next = values(&(var.as_tensor() - (store.get(var).unwrap() * 0.01)).unwrap());
            if ranges.contains(name) {
                project_ranges(&mut next);
            }
            var.set(&Tensor::from_vec(next, var.shape(), &DEVICE).unwrap()).unwrap();
        }
    }
    checkpoint.tensors = vars.iter().map(|(name, var)| (name.clone(), values(var))).collect();
    checkpoint.to_bytes("trained").unwrap();
    let after = error(&checkpoint);
    assert!(after < 0.7 * before, "{before}, then {after}");
}

#[test]
fn projected_ranges_are_those_of_a_checkpoint() {
    let mut values = [
        [-0.5, 1.0, 0.2],
        [0.1, 0.4, 0.3],
        [-0.3, -0.1, -0.2],
        [0.2, -0.2, 9.0],
        [-3e4, 2e5, 5e4],
        [-0.0, 0.0, -1.0],
    ];
    project_ranges(values.as_flattened_mut());
    let largest = MAX_ACTIVATION;
    assert_eq!(values[0], [-0.5, 1.0, 0.2]);
    assert_eq!(values[1], [0.0, 0.4, 0.3]);
    assert_eq!(values[2], [-0.3, 0.0, -0.2]);
    assert_eq!(values[3], [0.0, 0.0, 0.0]);
    assert_eq!(values[4], [-largest, largest, largest]);
    assert_eq!(values[5], [0.0, 0.0, 0.0]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let checkpoint = random_net(8, 1, space(Domain::Box, 2), Mode::Mlp);
    let ranges = initial_ranges(&checkpoint).unwrap();
    assert_eq!(ranges.len(), 2);
    assert_eq!(ranges["body.0.activations"], checkpoint.tensors["body.0.activations"]);
    let mut plain = checkpoint.clone();
    plain.metadata.calibration = None;
    let error = initial_ranges(&plain).unwrap_err().to_string();
    assert!(error.contains("`tunableconv-train calibrate`"), "{error}");

    let refused = |metadata: &Metadata, tensors: HashMap<String, Tensor>| {
        let error = QuantisedNet::new(metadata.clone(), tensors).err().unwrap();
        format!("{error:#}")
    };
    let whole = tensors(&variables(&checkpoint));
    let error = refused(&plain.metadata, whole.clone());
    assert!(error.contains("`tunableconv-train calibrate`"), "{error}");
    let mut without = whole.clone();
    without.remove("body.0.activations");
    let error = refused(&checkpoint.metadata, without);
    assert!(error.contains("`body.0.activations` is missing"), "{error}");
    let mut other = whole.clone();
    other.insert("tail.weight".into(), Tensor::zeros(3, DType::F32, &DEVICE).unwrap());
    let error = refused(&checkpoint.metadata, other);
    assert!(error.contains("`tail.weight` is [3], expected [1, 2, 6, 8, 3, 3]"), "{error}");

    let net = QuantisedNet::new(checkpoint.metadata.clone(), whole).unwrap();
    let fold = |p: usize, count: usize, inputs: usize| {
        let tunings = Tensor::zeros((count, p), DType::F32, &DEVICE).unwrap();
        net.fold(&tunings, &vec![InputScale::Tensor; inputs])
    };
    for (p, count, inputs) in [(3, 2, 1), (2, 2, 0), (2, 2, 3), (2, 4, 2)] {
        assert!(fold(p, count, inputs).is_err(), "{p}, {count}, {inputs}");
    }
    let x = |n: usize, c: usize| Tensor::zeros((n, c, 4, 4), DType::F32, &DEVICE);
    let chain = fold(2, 2, 4).unwrap();
    assert!(chain.forward(&x(4, 6).unwrap()).is_ok());
    let error = chain.forward(&x(2, 6).unwrap()).unwrap_err().to_string();
    assert!(error.contains("[2, 6, 4, 4], expected [4, 6, H, W]"), "{error}");
    let error = fold(2, 2, 1).unwrap().forward(&x(2, 3).unwrap()).unwrap_err().to_string();
    assert!(error.contains("[2, 3, 4, 4], expected [N, 6, H, W]"), "{error}");
}
