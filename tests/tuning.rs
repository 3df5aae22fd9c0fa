//! Tunings and the nets they make.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use common::{parameter, two_knobs};
use tunableconv::Error;
use tunableconv::nn::{Mode, PhiConfig, TunableConv2d, TunableConv2dConfig, TunableParameter};
use tunableconv::tuning::{Domain, TuningSpace};

fn simplex() -> TuningSpace {
    let parameters = vec![parameter("accuracy", 1.0), parameter("perception", 0.0)];
    TuningSpace { domain: Domain::Simplex, parameters }
}

#[test]
fn tunings_outside_the_domain_are_refused_with_the_parameter_named() {
    let space = two_knobs();
    assert_eq!(space.tuning(&[0.25, 1.0]).unwrap().values(), [0.25, 1.0]);
    let error = space.tuning(&[0.5]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "tuning has 1 entries, the model has 2 parameters (denoise, deblur)"
    );
    for bad in [1.5, -0.1, f64::NAN, f64::INFINITY] {
        let error = space.tuning(&[0.0, bad]).unwrap_err();
        assert!(matches!(&error, Error::TuningRange { name, .. } if name == "deblur"), "{error}");
    }
    let error = space.tuning_from_names(&[("sharpen".into(), 1.0)]).unwrap_err().to_string();
    assert_eq!(error, "no parameter `sharpen`; the model has denoise, deblur");
    let named = space.tuning_from_names(&[("deblur".into(), 0.5)]).unwrap();
    assert_eq!(named.values(), [0.0, 0.5]);
}

#[test]
fn extrapolation_has_its_own_constructor() {
    let space = two_knobs();
    assert_eq!(space.extrapolated_tuning(&[1.5, -1.0]).unwrap().values(), [1.5, -1.0]);
    assert!(space.extrapolated_tuning(&[f64::NAN, 0.0]).is_err());
}

#[test]
fn simplex_tunings_sum_to_one_and_weights_are_normalised() {
    let space = simplex();
    assert!(matches!(space.tuning(&[0.5, 0.6]), Err(Error::TuningSum { .. })));
    assert_eq!(space.tuning(&[0.5, 0.5]).unwrap().values(), [0.5, 0.5]);
    assert_eq!(space.tuning_from_weights(&[0.25, 0.75]).unwrap().values(), [0.25, 0.75]);
    assert_eq!(space.tuning_from_weights(&[1.0, 1.0]).unwrap().values(), [0.5, 0.5]);
    assert_eq!(space.tuning_from_weights(&[0.0, 0.0]).unwrap().values(), [1.0, 0.0]);
    assert!(space.tuning_from_weights(&[-1.0, 2.0]).is_err());
}

#[test]
fn descriptions_that_contradict_themselves_are_refused() {
    let with = |change: &dyn Fn(&mut TuningSpace)| {
        let mut space = two_knobs();
        change(&mut space);
        space.validate().unwrap_err().to_string()
    };
    assert!(with(&|s| s.parameters[1].name = "denoise".into()).contains("used twice"));
    assert!(with(&|s| s.parameters[0].name = "De noise".into()).contains("lower-case"));
    assert!(with(&|s| s.parameters[0].default = 2.0).contains("default 2"));
    assert!(with(&|s| s.parameters[0].minimum = f64::NAN).contains("denoise"));
    let none = |s: &mut TuningSpace| {
        s.parameters.clear();
        s.domain = Domain::Simplex;
    };
    assert!(with(&none).contains("a simplex of 0 tuning parameters"));
    two_knobs().validate().unwrap();
}

#[test]
fn an_ordinary_net_has_no_parameters_and_one_corner() {
    let space = TuningSpace { domain: Domain::Box, parameters: vec![] };
    space.validate().unwrap();
    assert_eq!(space.default_tuning().unwrap().values(), [0.0f32; 0]);
    assert_eq!((space.corner_count(), space.corners().count()), (1, 1));
    let (kernel, banks) = layer(Mode::Multilinear, 0);
    assert_eq!(folded(&kernel, &[]), banks[0]);
    let error = space.tuning_from_names(&[("denoise".into(), 1.0)]).unwrap_err().to_string();
    assert_eq!(error, "no parameter `denoise`; the model has none");
    assert!(space.tuning(&[0.5]).is_err());
}

/// A tunable layer and its bank as plain numbers.
fn layer(mode: Mode, p: usize) -> (TunableConv2d, Vec<Vec<f32>>) {
    let phi = PhiConfig { mode, expand: 1 };
    let kernels = phi.kernels(p);
    let weight = Tensor::randn(0f32, 1., (1, kernels, 2, 3, 3, 3), &Device::Cpu).unwrap();
    let banks = weight.reshape((kernels, 54)).unwrap().to_vec2().unwrap();
    let tensors = HashMap::from([("weight".to_string(), weight)]);
    let vb = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
    let config = TunableConv2dConfig { bias: false, phi, ..Default::default() };
    (TunableConv2d::new(p, 3, 2, 3, config, vb).unwrap(), banks)
}

fn folded(layer: &TunableConv2d, omega: &[f32]) -> Vec<f32> {
    let omega = Tensor::from_slice(omega, (1, omega.len()), &Device::Cpu).unwrap();
    let weight = layer.fold(&omega).unwrap().weight;
    weight.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn at_a_corner_a_bank_folds_to_a_single_kernel() {
    let (linear, banks) = layer(Mode::Linear, 3);
    assert_eq!(folded(&linear, &[0.0, 1.0, 0.0]), banks[1]);
    assert!(folded(&linear, &[0.0; 3]).iter().all(|v| *v == 0.0));
    let (multilinear, banks) = layer(Mode::Multilinear, 2);
    for (corner, bank) in banks.iter().enumerate() {
        let omega = [(corner & 1) as f32, (corner >> 1) as f32];
        assert_eq!(&folded(&multilinear, &omega), bank);
    }
}

#[test]
fn between_corners_a_multilinear_bank_is_their_weighted_mean() {
    let (layer, banks) = layer(Mode::Multilinear, 2);
    let (a, b) = (0.25, 0.75);
    let weights = [(1.0 - a) * (1.0 - b), a * (1.0 - b), (1.0 - a) * b, a * b];
    for (i, got) in folded(&layer, &[a, b]).iter().enumerate() {
        let expected: f32 = weights.iter().zip(&banks).map(|(w, bank)| w * bank[i]).sum();
        assert!((got - expected).abs() < 1e-5, "{got} {expected}");
    }
}

#[test]
fn a_tuning_of_the_wrong_length_is_an_error_not_a_panic() {
    let (layer, _) = layer(Mode::Linear, 2);
    let x = Tensor::zeros((1, 3, 8, 8), DType::F32, &Device::Cpu).unwrap();
    let omega = Tensor::zeros((1, 3), DType::F32, &Device::Cpu).unwrap();
    let error = layer.forward(&x, &omega).unwrap_err().to_string();
    assert!(error.contains("tuning has shape [1, 3], expected [B, 2]"), "{error}");
}

#[test]
fn a_tunable_parameter_mixes_its_bank() {
    let data = Tensor::new(&[[[1f32, 2.0, 3.0], [10.0, 20.0, 30.0]]], &Device::Cpu).unwrap();
    let tensors = HashMap::from([
        ("data".to_string(), data),
        ("mlp.weight".to_string(), Tensor::new(&[[1f32, 0.0], [0.0, 2.0]], &Device::Cpu).unwrap()),
        ("mlp.bias".to_string(), Tensor::new(&[0f32, 1.0], &Device::Cpu).unwrap()),
    ]);
    let vb = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
    let beta = TunableParameter::new(2, &[3], PhiConfig::default(), vb).unwrap();
    let omega = Tensor::new(&[[1f32, 0.0], [0.5, 0.5]], &Device::Cpu).unwrap();
    let got = beta.fold(&omega).unwrap().to_vec2::<f32>().unwrap();
    assert_eq!(got, [[11.0, 22.0, 33.0], [20.5, 41.0, 61.5]]);
}
