//! Golden vectors for `TunableConv2d`: outputs and every gradient.
//!
//! `data/tunable_conv2d.safetensors` holds cases computed with an independent PyTorch
//! implementation of the layer on random weights. Its metadata key `cases` is a JSON list of
//! configurations; tensors of case i are prefixed `"{i:02}."`. Further files of that form are tested
//! too when `TUNABLECONV_GOLDEN` names one.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::VarBuilder;
use safetensors::SafeTensors;
use serde::Deserialize;
use tunableconv::nn::{Activation, Mode, PhiConfig, TunableConv2d, TunableConv2dConfig};

/// Largest difference allowed, relative to the largest reference value.
const TOLERANCE: f64 = 1e-4;

#[derive(Debug, Deserialize)]
struct Case {
    p: usize,
    expand: usize,
    mode: Mode,
    k: usize,
    stride: usize,
    pad: usize,
    dil: usize,
    groups: usize,
    bias: bool,
    r#in: usize,
    out: usize,
}

impl Case {
    fn config(&self) -> TunableConv2dConfig {
        TunableConv2dConfig {
            stride: self.stride,
            padding: self.pad,
            dilation: self.dil,
            groups: self.groups,
            bias: self.bias,
            phi: PhiConfig { mode: self.mode, expand: self.expand },
            activation: Activation::None,
        }
    }
}

fn assert_close(label: &str, got: &Tensor, expected: &Tensor) {
    assert_eq!(got.dims(), expected.dims(), "{label}: shape");
    let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (got, expected) = (flat(got), flat(expected));
    assert!(got.iter().all(|v| v.is_finite()), "{label}: not finite");
    let largest = expected.iter().fold(1e-12_f64, |m, v| m.max(f64::from(v.abs())));
    let difference = got.iter().zip(&expected).map(|(a, b)| f64::from((a - b).abs()));
    let relative = difference.fold(0.0, f64::max) / largest;
    assert!(relative <= TOLERANCE, "{label}: off by {relative:.2e} of the largest value");
}

fn check_case(label: &str, case: &Case, tensors: &HashMap<String, Tensor>) {
    let named = |name: &str| {
        tensors.get(name).unwrap_or_else(|| panic!("{label}: the file has no tensor `{name}`"))
    };
    let vars: HashMap<String, Var> = tensors
        .iter()
        .filter_map(|(name, t)| Some((name.strip_prefix("param.")?, t)))
        .map(|(name, tensor)| (name.to_string(), Var::from_tensor(tensor).unwrap()))
        .collect();
    let parameters = vars.iter().map(|(n, v)| (n.clone(), v.as_tensor().clone())).collect();
    let vb = VarBuilder::from_tensors(parameters, DType::F32, &Device::Cpu);
    let layer = TunableConv2d::new(case.p, case.r#in, case.out, case.k, case.config(), vb).unwrap();

    let x = Var::from_tensor(named("x")).unwrap();
    let omega = Var::from_tensor(named("omega")).unwrap();
    let y = layer.forward(x.as_tensor(), omega.as_tensor()).unwrap();
    assert_close(&format!("{label} y"), &y, named("y"));

    let gradients = (y * named("grad_y")).unwrap().sum_all().unwrap().backward().unwrap();
    let check = |name: String, var: &Var| {
        let gradient = gradients.get(var).unwrap_or_else(|| panic!("{label}: no {name}"));
        assert_close(&format!("{label} {name}"), gradient, named(&name));
    };
    check("grad_x".into(), &x);
    check("grad_omega".into(), &omega);
    for (name, var) in &vars {
        check(format!("grad_param.{name}"), var);
    }
}

fn check_file(path: &Path) -> usize {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let cases = header.metadata().as_ref().and_then(|m| m.get("cases")).expect("metadata `cases`");
    let cases: Vec<Case> = serde_json::from_str(cases).unwrap();
    let all = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).unwrap();
    for (index, case) in cases.iter().enumerate() {
        let prefix = format!("{index:02}.");
        let tensors = all
            .iter()
            .filter_map(|(name, t)| Some((name.strip_prefix(&prefix)?.to_string(), t.clone())))
            .collect();
        check_case(&format!("{} case {index} {case:?}", path.display()), case, &tensors);
    }
    cases.len()
}

#[test]
fn tunable_conv2d_agrees_with_an_independent_implementation() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tunable_conv2d.safetensors");
    assert_eq!(check_file(&path), 12);
}

#[test]
fn further_files_named_by_the_environment_agree_too() {
    match std::env::var_os("TUNABLECONV_GOLDEN") {
        Some(path) => assert!(check_file(Path::new(&path)) > 0, "{path:?} holds no case"),
        None => println!("not run: TUNABLECONV_GOLDEN names no further file"),
    }
}
