//! Feature networks of the published layouts, but narrow, with random weights.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::collections::HashMap;

use candle_core::{Device, Tensor};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

pub type Tensors = HashMap<String, Tensor>;

/// Uniform f64 values.
pub fn uniform(shape: &[usize], range: std::ops::Range<f64>, seed: u64) -> Tensor {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let len = shape.iter().product();
    let values: Vec<f64> = (0..len).map(|_| rng.random_range(range.clone())).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// `NAME.weight` and `NAME.bias`, such that about half of the channels live.
fn add_conv(tensors: &mut Tensors, name: &str, [c_out, c_in, k]: [usize; 3]) {
    let seed = tensors.len() as u64;
    let bound = (6.0 / (c_in * k * k) as f64).sqrt();
    let weight = uniform(&[c_out, c_in, k, k], -bound..bound, 100 + seed);
    tensors.insert(format!("{name}.weight"), weight);
    tensors.insert(format!("{name}.bias"), uniform(&[c_out], 0.0..0.3, 200 + seed));
}

/// A VGG-19 up to relu4_1, but narrow.
pub fn tiny_vgg() -> Tensors {
    let mut tensors = Tensors::new();
    let indices = [0, 2, 5, 7, 10, 12, 14, 16, 19];
    let widths = [3, 4, 3, 5, 4, 5, 4, 3, 4, 6];
    for (index, pair) in indices.into_iter().zip(widths.windows(2)) {
        add_conv(&mut tensors, &format!("features.{index}"), [pair[1], pair[0], 3]);
    }
    tensors
}

/// A SqueezeNet 1.1, but narrow.
pub fn tiny_squeezenet() -> Tensors {
    let mut tensors = Tensors::new();
    add_conv(&mut tensors, "features.0", [5, 3, 3]);
    let mut c_in = 5;
    for index in [3, 4, 6, 7, 9, 10, 11, 12] {
        let name = |part: &str| format!("features.{index}.{part}");
        let (expand1x1, expand3x3) = (3 + index % 2, 4);
        add_conv(&mut tensors, &name("squeeze"), [3, c_in, 1]);
        add_conv(&mut tensors, &name("expand1x1"), [expand1x1, 3, 1]);
        add_conv(&mut tensors, &name("expand3x3"), [expand3x3, 3, 3]);
        c_in = expand1x1 + expand3x3;
    }
    tensors
}

/// Heads for [`tiny_squeezenet`], whose taps have these widths.
pub fn tiny_heads() -> Tensors {
    let widths = [5, 7, 8, 8, 7, 8, 7];
    let head = |(i, width): (usize, &usize)| {
        (format!("lin{i}.weight"), uniform(&[1, *width, 1, 1], 0.0..1.0, 300 + i as u64))
    };
    widths.iter().enumerate().map(head).collect()
}
