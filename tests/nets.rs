//! What holds of every net: one line here for each, as one in the list of [`Architecture`].

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Module as _, Tensor, Var};
use candle_nn::VarBuilder;
use common::{Random, two_knobs};
use tunableconv::checkpoint::{Architecture, Checkpoint, Metadata, Provenance};
use tunableconv::net::Net;
use tunableconv::nn::{
    Activation, Colour, EdsrConfig, Init, Mode, NafNetConfig, PhiConfig, PlainConfig, PlainLayer,
    StyleNetConfig, SwinIrConfig, TunableNet, TwoScaleConfig, VideoNetConfig,
};

const DEVICE: Device = Device::Cpu;

/// Height and width of inputs: odd, and unlike.
const SIZE: (usize, usize) = (5, 7);

fn nets(phi: PhiConfig) -> Vec<Architecture> {
    let video = VideoNetConfig { channels: 4, layers: 1, phi, ..Default::default() };
    let two_scale = TwoScaleConfig {
        channels: 4,
        inner_channels: 6,
        layers_before: 1,
        phi,
        ..Default::default()
    };
    let edsr = |scale| {
        Architecture::Edsr(EdsrConfig { channels: 4, blocks: 2, scale, phi, ..Default::default() })
    };
    let mut nets = vec![Architecture::Video(video), Architecture::TwoScale(two_scale)];
    nets.extend([Colour::Rgb, Colour::Luma].map(|colour| Architecture::Plain(plain(colour, phi))));
    nets.push(Architecture::Plain(coarse(phi)));
    nets.extend([1, 2, 3, 4].map(edsr));
    nets.push(Architecture::Nafnet(NafNetConfig {
        channels: 2,
        encoder_blocks: vec![1, 0],
        middle_blocks: 1,
        decoder_blocks: vec![0, 1],
        phi,
    }));
    let (encoder_layers, decoder_layers) = (2, 1);
    let style =
        StyleNetConfig { channels: 2, scales: 1, encoder_layers, blocks: 1, decoder_layers, phi };
    nets.push(Architecture::Stylenet(style));
    let swinir = |scale| {
        let (depths, heads, mlp_ratio) = (vec![2, 1], vec![2, 1], 1.5);
        Architecture::Swinir(SwinIrConfig {
            channels: 4,
            depths,
            heads,
            window: 4,
            mlp_ratio,
            scale,
            phi,
        })
    };
    nets.extend([1, 2, 3].map(swinir));
    nets
}

/// A chain with one of everything.
fn plain(colour: Colour, phi: PhiConfig) -> PlainConfig {
    let colours = if colour == Colour::Luma { 1 } else { 3 };
    let layer = |name: &str, kernel, channels, activation| {
        PlainLayer::new(name, kernel, channels, activation)
    };
    let layers = vec![
        layer("first", 3, 4, Activation::PRelu),
        PlainLayer { add: vec![1], ..layer("second", 1, 4, Activation::LeakyRelu(0.2)) },
        PlainLayer { bias: false, add: vec![1, 2], ..layer("third", 5, 4, Activation::PRelu) },
        PlainLayer { shuffle: 2, ..layer("up", 3, 4 * colours, Activation::None) },
    ];
    PlainConfig { colour, scale: 2, residual: true, layers, phi }
}

/// A chain that works on two pixels as one.
fn coarse(phi: PhiConfig) -> PlainConfig {
    let layer =
        |name: &str, channels| PlainLayer::new(name, 3, channels, Activation::LeakyRelu(0.1));
    let layers = vec![
        PlainLayer { stride: 2, ..layer("first", 5) },
        layer("second", 5),
        PlainLayer { shuffle: 4, activation: Activation::None, ..layer("up", 16) },
    ];
    PlainConfig { colour: Colour::Luma, scale: 2, residual: true, layers, phi }
}

/// One φ of each kind.
fn phis() -> [PhiConfig; 4] {
    [(Mode::Linear, 1), (Mode::Mlp, 1), (Mode::Mlp, 2), (Mode::Multilinear, 1)]
        .map(|(mode, expand)| PhiConfig { mode, expand })
}

fn all() -> impl Iterator<Item = Architecture> {
    phis().into_iter().flat_map(nets)
}

fn checkpoint(architecture: Architecture) -> Checkpoint {
    let provenance = Provenance::default();
    let metadata = Metadata { architecture, tuning: two_knobs(), provenance, calibration: None };
    let mut random = Random(3);
    let specs = metadata.tensors().into_iter();
    let tensors = specs.map(|spec| {
        let len = spec.shape.iter().product::<usize>();
        (spec.name, (0..len).map(|_| 0.3 * random.next()).collect())
    });
    let tensors = tensors.collect();
    Checkpoint { metadata, tensors }
}

fn random_tensor(shape: &[usize], seed: u64) -> Tensor {
    let mut random = Random(seed);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| 0.5 + 0.5 * random.next()).collect();
    Tensor::from_vec(values, shape, &DEVICE).unwrap()
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn a_tuning_per_sample_gives_what_the_net_folded_at_it_does() {
    for architecture in all() {
        let net = Net::new(&checkpoint(architecture.clone()), &DEVICE).unwrap();
        let (io, space) = (architecture.io(), &net.metadata().tuning);
        let x = random_tensor(&[3, io.channels, SIZE.0, SIZE.1], 7);
        let tunings = [[1.0, 0.0], [0.3, 0.7], [0.25, 0.0]];
        let omega: Vec<f32> = tunings.iter().flatten().map(|&v| v as f32).collect();
        let omega = Tensor::from_vec(omega, (3, 2), &DEVICE).unwrap();
        let got = net.forward(&x, &omega).unwrap();
        assert_eq!(got.dims(), [3, io.channels, SIZE.0 * io.scale, SIZE.1 * io.scale]);
        for (n, tuning) in tunings.iter().enumerate() {
            let folded = net.fold(&space.tuning(tuning).unwrap()).unwrap();
            let one = x.narrow(0, n, 1).unwrap().contiguous().unwrap();
            let want = io.picture(&one, |x| folded.forward(x)).unwrap();
            let got = flat(&got.narrow(0, n, 1).unwrap().contiguous().unwrap());
            let apart = largest_difference(&got, &flat(&want));
            assert!(apart < 1e-5, "{architecture:?} {tuning:?}: {apart}");
        }
    }
}

#[test]
fn nets_that_add_leave_everything_alone_at_zero() {
    for architecture in all().filter(|net| net.io().colour == Colour::Yuv420) {
        let net = Net::new(&checkpoint(architecture.clone()), &DEVICE).unwrap();
        let x = random_tensor(&[1, architecture.io().channels, SIZE.0, SIZE.1], 8);
        let zero = Tensor::zeros((1, 2), DType::F32, &DEVICE).unwrap();
        assert_eq!(flat(&net.forward(&x, &zero).unwrap()), flat(&x), "{architecture:?}");
    }
}

/// Weights as they are before training: residual blocks, however many, do not blow the picture up.
#[test]
fn deep_chains_of_residual_blocks_begin_near_the_size_of_their_input() {
    let phi = PhiConfig { mode: Mode::Linear, expand: 1 };
    let layer = |index: usize, add: Vec<usize>| {
        let activation = if add.is_empty() { Activation::LeakyRelu(0.1) } else { Activation::None };
        PlainLayer { add, ..PlainLayer::new(format!("body{index}"), 3, 16, activation) }
    };
    let mut layers = vec![PlainLayer::new("head", 3, 16, Activation::LeakyRelu(0.1))];
    layers.extend((1..33).map(|i| layer(i, if i % 2 == 0 { vec![i - 1] } else { vec![] })));
    layers.push(PlainLayer::new("tail", 3, 3, Activation::None));
    let plain = PlainConfig { colour: Colour::Rgb, scale: 1, residual: true, layers, phi };
    let edsr = EdsrConfig { channels: 16, blocks: 16, scale: 1, phi, ..Default::default() };
    let omega = Tensor::new(&[[1f32, 0.0]], &DEVICE).unwrap();
    for architecture in [Architecture::Plain(plain), Architecture::Edsr(edsr)] {
        let mut checkpoint = checkpoint(architecture.clone());
        let mut random = Random(5);
        for spec in checkpoint.metadata.tensors() {
            let mut value = || match spec.init {
                Init::Uniform(bound) => bound as f32 * random.next(),
                Init::Constant(value) => value as f32,
            };
            checkpoint.tensors.get_mut(&spec.name).unwrap().fill_with(&mut value);
        }
        let net = Net::new(&checkpoint, &DEVICE).unwrap();
        let x = random_tensor(&[1, 3, 16, 16], 9);
        let made = (net.forward(&x, &omega).unwrap() - &x).unwrap();
        let squares = made.sqr().unwrap().mean_all().unwrap().to_scalar::<f32>().unwrap();
        println!("{architecture:?}: {}", squares.sqrt());
        assert!(squares.sqrt() < 3.0, "{architecture:?}: {}", squares.sqrt());
    }
}

#[test]
fn a_corner_is_a_net_of_one_kernel_alone() {
    for architecture in nets(PhiConfig { mode: Mode::Multilinear, expand: 1 }) {
        let checkpoint = checkpoint(architecture.clone());
        let net = Net::new(&checkpoint, &DEVICE).unwrap();
        for (corner, tuning) in net.metadata().tuning.corners().enumerate() {
            let folded = net.fold(&tuning).unwrap();
            let (Some(chain), Some(folded)) = (architecture.chain(), folded.chain()) else {
                continue;
            };
            for (layer, folded) in chain.iter().zip(&folded.layers) {
                let bank = &checkpoint.tensors[&format!("{}.weight", layer.name)];
                let kernels = layer.config.phi.kernels(2);
                if kernels != 4 {
                    // The last one of a net that adds, which mixes by the tuning itself.
                    continue;
                }
                let each = bank.len() / kernels;
                let scaled = bank[corner * each..][..each].iter().map(|v| v * layer.factor);
                assert_eq!(flat(&folded.conv.weight), scaled.collect::<Vec<_>>(), "{}", layer.name);
            }
        }
    }
}

#[test]
fn files_give_back_what_was_written() {
    for architecture in all() {
        let checkpoint = checkpoint(architecture);
        let bytes = checkpoint.to_bytes("memory").unwrap();
        assert_eq!(Checkpoint::from_bytes("memory", &bytes).unwrap(), checkpoint);
    }
}

/// Output of a net in f64, as one number, for tensors by name and an input.
fn score(architecture: &Architecture, tensors: &BTreeMap<String, Tensor>, x: &Tensor) -> Tensor {
    let tensors: HashMap<_, _> = tensors.iter().map(|(n, t)| (n.clone(), t.clone())).collect();
    let vb = VarBuilder::from_tensors(tensors, DType::F64, &DEVICE);
    let net = TunableNet::new(2, architecture, vb).unwrap();
    let omega = Tensor::new(&[[0.9f64, 0.2], [0.3, 0.6]], &DEVICE).unwrap();
    let folded = net.fold(&omega).unwrap();
    let y = architecture.io().picture(x, |x| folded.forward(x)).unwrap();
    let weights = random_tensor(y.dims(), 9).to_dtype(DType::F64).unwrap();
    (y * weights).unwrap().sum_all().unwrap()
}

/// Along a random direction for each tensor: banks, φ and the input.
#[test]
fn gradients_are_finite_differences() {
    const STEP: f64 = 1e-6;
    for architecture in all() {
        let checkpoint = checkpoint(architecture.clone());
        let mut vars: BTreeMap<String, Var> = checkpoint
            .metadata
            .tensors()
            .into_iter()
            .map(|spec| {
                let values = checkpoint.tensors[&spec.name].clone();
                let tensor = Tensor::from_vec(values, spec.shape, &DEVICE).unwrap();
                (spec.name, Var::from_tensor(&tensor.to_dtype(DType::F64).unwrap()).unwrap())
            })
            .collect();
        let x = random_tensor(&[2, architecture.io().channels, SIZE.0, SIZE.1], 10);
        vars.insert("x".into(), Var::from_tensor(&x.to_dtype(DType::F64).unwrap()).unwrap());
        let tensors: BTreeMap<String, Tensor> =
            vars.iter().map(|(name, var)| (name.clone(), var.as_tensor().clone())).collect();
        let at = |tensors: &BTreeMap<String, Tensor>| score(&architecture, tensors, &tensors["x"]);
        let gradients = at(&tensors).backward().unwrap();
        let number = |tensor: Tensor| tensor.to_scalar::<f64>().unwrap();
        for (name, var) in &vars {
            let gradient = gradients.get(var).unwrap_or_else(|| panic!("{name}: no gradient"));
            let direction = random_tensor(var.dims(), 11).to_dtype(DType::F64).unwrap();
            let expected = number((gradient * &direction).unwrap().sum_all().unwrap());
            let moved = |by: f64| {
                let mut tensors = tensors.clone();
                let moved = (var.as_tensor() + (&direction * by).unwrap()).unwrap();
                tensors.insert(name.clone(), moved);
                number(at(&tensors))
            };
            let got = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
            let apart = (got - expected).abs() / expected.abs().max(1.0);
            assert!(apart < 1e-5, "{architecture:?} {name}: {got} {expected}");
        }
    }
}
