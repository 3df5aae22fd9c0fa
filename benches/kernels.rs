//! Convolution on the workloads that matter: a training step on small crops, and
//! one layer on a frame.
//!
//! `TUNABLECONV_CPU=avx2 cargo bench --bench kernels` measures a lower CPU level.

use candle_core::{Device, Tensor, Var};
use tunableconv::nn::conv::{Activation, ConvGeometry, conv2d};

fn main() {
    divan::main();
}

const SAME: ConvGeometry = ConvGeometry { stride: 1, padding: 1, dilation: 1, groups: 1 };

fn noise(shape: &[usize]) -> Tensor {
    Tensor::randn(0f32, 0.1, shape, &Device::Cpu).expect("a plain shape")
}

fn var(shape: &[usize]) -> Var {
    Var::from_tensor(&noise(shape)).expect("a fresh tensor")
}

/// Channels of each layer's input, and of the last one's output.
const CHANNELS: [usize; 7] = [6, 32, 32, 32, 32, 32, 6];
const SETS: usize = 4;

fn layers() -> Vec<(Var, Var)> {
    let layer = |c: &[usize]| (var(&[SETS, c[1], c[0], 3, 3]), var(&[SETS, c[1]]));
    CHANNELS.windows(2).map(layer).collect()
}

fn net(x: &Tensor, layers: &[(Var, Var)]) -> Tensor {
    layers.iter().fold(x.clone(), |x, (w, b)| {
        conv2d(&x, w, Some(b), SAME, Activation::LeakyRelu(0.1)).expect("sizes that fit")
    })
}

/// Six layers on 16 crops of 32 by 32 in 4 micro-batches, forward.
#[divan::bench]
fn train_forward(bencher: divan::Bencher) {
    let (x, layers) = (noise(&[16, 6, 32, 32]), layers());
    bencher.bench_local(|| net(&x, &layers));
}

/// The same, forward and backward.
#[divan::bench]
fn train_step(bencher: divan::Bencher) {
    let (x, layers) = (noise(&[16, 6, 32, 32]), layers());
    bencher.bench_local(|| net(&x, &layers).backward().expect("a differentiable net"));
}

/// Channels, and sides of maps, of layers of VGG-19, whose features losses look at.
const DEEP: [(usize, usize); 4] = [(64, 192), (128, 96), (256, 48), (512, 24)];

/// One such layer on a picture.
#[divan::bench(args = DEEP)]
fn deep_layer(bencher: divan::Bencher, (channels, side): (usize, usize)) {
    let (x, w) = (noise(&[1, channels, side, side]), noise(&[1, channels, channels, 3, 3]));
    let b = noise(&[1, channels]);
    bencher.bench_local(|| conv2d(&x, &w, Some(&b), SAME, Activation::LeakyRelu(0.0)));
}

/// The same, and back to the picture.
#[divan::bench(args = DEEP)]
fn deep_layer_and_back(bencher: divan::Bencher, (channels, side): (usize, usize)) {
    let (x, w) = (var(&[1, channels, side, side]), noise(&[1, channels, channels, 3, 3]));
    let b = noise(&[1, channels]);
    bencher.bench_local(|| {
        let y = conv2d(&x, &w, Some(&b), SAME, Activation::LeakyRelu(0.0)).expect("sizes that fit");
        y.backward().expect("a differentiable layer")
    });
}

/// One layer of 32 channels on 640 by 360 pixels.
#[divan::bench]
fn frame_layer(bencher: divan::Bencher) {
    let (x, w) = (noise(&[1, 32, 360, 640]), noise(&[1, 32, 32, 3, 3]));
    let b = noise(&[1, 32]);
    bencher.bench_local(|| conv2d(&x, &w, Some(&b), SAME, Activation::LeakyRelu(0.1)));
}

/// The same layer by candle, without bias and activation.
#[divan::bench]
fn frame_layer_candle(bencher: divan::Bencher) {
    let (x, w) = (noise(&[1, 32, 360, 640]), noise(&[32, 32, 3, 3]));
    bencher.bench_local(|| x.conv2d(&w, 1, 1, 1, 1));
}
