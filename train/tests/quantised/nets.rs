//! Random nets, tunings and pictures, and the engine that runs them.

use std::collections::{BTreeMap, HashMap};

use candle_core::{Device, Tensor, Var};
use tunableconv::checkpoint::{
    Architecture, Calibration, Checkpoint, Metadata, Provenance, STATISTICS,
};
use tunableconv::engine::{CpuEngine, Engine as _, Options, Precision};
use tunableconv::nn::{Mode, PhiConfig, TensorSpec, TwoScaleConfig, VideoNetConfig};
use tunableconv::tuning::{Domain, Parameter, Tuning, TuningSpace};
use tunableconv_train::quantised::QuantisedNet;

pub const DEVICE: Device = Device::Cpu;

/// Reproducible numbers in −1 to 1.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> f32 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub fn values(&mut self, len: usize, largest: f32) -> Vec<f32> {
        (0..len).map(|_| largest * self.next()).collect()
    }

    /// A picture of the net's kind: mostly 0 to 1.
    pub fn picture(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| 0.5 + 0.6 * self.next()).collect()
    }

    pub fn tuning(&mut self, space: &TuningSpace) -> Tuning {
        let weights: Vec<f64> = space
            .parameters
            .iter()
            .map(|p| p.minimum + (p.maximum - p.minimum) * f64::from(0.5 + 0.5 * self.next()))
            .collect();
        space.tuning_from_weights(&weights).unwrap()
    }
}

/// Parameters of the unit box or the simplex; in a box the first one is larger.
pub fn space(domain: Domain, p: usize) -> TuningSpace {
    let parameter = |index: usize| Parameter {
        name: format!("p{index}"),
        nick: String::new(),
        blurb: String::new(),
        minimum: 0.0,
        maximum: if domain == Domain::Box && index == 0 { 1.5 } else { 1.0 },
        default: if domain == Domain::Simplex { 1.0 / p as f64 } else { 0.5 },
        objective: String::new(),
    };
    TuningSpace { domain, parameters: (0..p).map(parameter).collect() }
}

/// A net of random weights that keep activations near 1, and of ranges that cut some of them off.
pub fn random_net(channels: usize, layers: usize, tuning: TuningSpace, mode: Mode) -> Checkpoint {
    let expand = if mode == Mode::Multilinear { 1 } else { 2 };
    let phi = PhiConfig { mode, expand };
    let config = VideoNetConfig { channels, layers, negative_slope: 0.1, phi };
    random_weights(Architecture::Video(config), tuning, channels as u64 + 10 * layers as u64)
}

/// The same of a net that works at two scales.
fn two_scales(layers_after: usize) -> Checkpoint {
    let net = TwoScaleConfig {
        channels: 8,
        inner_channels: 16,
        layers_before: 1,
        layers_inside: 1,
        layers_after,
        negative_slope: 0.1,
        phi: PhiConfig { mode: Mode::Multilinear, expand: 1 },
    };
    random_weights(Architecture::TwoScale(net), space(Domain::Box, 2), 4)
}

fn random_weights(architecture: Architecture, tuning: TuningSpace, seed: u64) -> Checkpoint {
    let mut random = Random(seed);
    let metadata = Metadata {
        architecture,
        tuning,
        provenance: Provenance::default(),
        calibration: Some(Calibration { images: 1, quantile: 1.0, ..Default::default() }),
    };
    let tensor = |spec: TensorSpec| {
        let len: usize = spec.shape.iter().product();
        let mut range = || {
            let (low, high) = (0.15 * random.next() - 0.15, 0.4 * random.next() + 1.0);
            [low, high, 0.5 * (low + high)]
        };
        let name = &spec.name;
        let values = if name.ends_with(".activations") {
            (0..len / STATISTICS).flat_map(|_| range()).collect()
        } else if name.ends_with(".mlp.weight") || name.ends_with(".mlp.bias") {
            random.values(len, 1.0)
        } else if name.ends_with(".bias") {
            random.values(len, 0.1)
        } else {
            let fan_in: usize = spec.shape.iter().skip(3).product();
            random.values(len, (5.0 / fan_in as f32).sqrt())
        };
        (spec.name, values)
    };
    let tensors = metadata.tensors().into_iter().map(tensor).collect();
    Checkpoint { metadata, tensors }
}

pub fn nets() -> Vec<(&'static str, Checkpoint)> {
    let net =
        |channels, layers, domain, p, mode| random_net(channels, layers, space(domain, p), mode);
    vec![
        ("shipped", Checkpoint::built_in().unwrap()),
        ("one parameter", net(8, 2, Domain::Box, 1, Mode::Mlp)),
        ("no inner layer", net(8, 0, Domain::Box, 2, Mode::Mlp)),
        ("multilinear", net(8, 2, Domain::Box, 2, Mode::Multilinear)),
        ("three parameters", net(8, 2, Domain::Box, 3, Mode::Mlp)),
        ("simplex", net(8, 2, Domain::Simplex, 3, Mode::Mlp)),
        ("two scales", two_scales(1)),
        ("two scales, the last sum wide", two_scales(0)),
        // Its sums may be larger than f32 holds.
        ("wide", wide()),
    ]
}

/// Every weight of an inner layer is the largest, so that its sums may have more than 24 bits.
pub fn wide() -> Checkpoint {
    let mut checkpoint = random_net(64, 1, space(Domain::Box, 2), Mode::Multilinear);
    for weight in checkpoint.tensors.get_mut("body.0.weight").unwrap() {
        *weight = 0.02f32.copysign(*weight + 0.2);
    }
    for range in
        checkpoint.tensors.get_mut("head.activations").unwrap().chunks_exact_mut(STATISTICS)
    {
        range.copy_from_slice(&[-0.1, 0.8, 0.3]);
    }
    checkpoint
}

pub fn variables(checkpoint: &Checkpoint) -> BTreeMap<String, Var> {
    let var = |spec: TensorSpec| {
        let values = checkpoint.tensors[&spec.name].as_slice();
        let tensor = Tensor::from_slice(values, spec.shape.as_slice(), &DEVICE).unwrap();
        (spec.name, Var::from_tensor(&tensor).unwrap())
    };
    checkpoint.metadata.tensors().into_iter().map(var).collect()
}

pub fn tensors(vars: &BTreeMap<String, Var>) -> HashMap<String, Tensor> {
    vars.iter().map(|(name, var)| (name.clone(), var.as_tensor().clone())).collect()
}

pub fn quantised(checkpoint: &Checkpoint) -> QuantisedNet {
    QuantisedNet::new(checkpoint.metadata.clone(), tensors(&variables(checkpoint))).unwrap()
}

pub fn stack(tunings: &[Tuning]) -> Tensor {
    let p = tunings[0].values().len();
    let values: Vec<f32> = tunings.iter().flat_map(|t| t.values().to_vec()).collect();
    Tensor::from_vec(values, (tunings.len(), p), &DEVICE).unwrap()
}

pub fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

pub fn engine(checkpoint: &Checkpoint, precision: Precision) -> CpuEngine {
    let options = Options { precision, threads: 1, ..Options::default() };
    CpuEngine::new(checkpoint, &options).unwrap()
}

pub fn residual(
    engine: &mut CpuEngine,
    tuning: &Tuning,
    x: &[f32],
    size: (usize, usize),
) -> Vec<f32> {
    engine.set_tuning(tuning).unwrap();
    let mut out = vec![f32::NAN; x.len()];
    engine.residual(x, size, &mut out).unwrap();
    out
}

pub fn norm(values: impl Iterator<Item = f32>) -> f64 {
    values.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt()
}
