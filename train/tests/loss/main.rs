//! The losses: gradients against finite differences, values against definitions and published code.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../common/tiny_nets.rs"]
mod tiny_nets;

mod files;
mod games;
mod gradients;
mod naive;
mod references;
mod values;

use candle_core::{Device, Tensor};
use tiny_nets::{Tensors, tiny_heads, tiny_squeezenet, tiny_vgg, uniform};

const CPU: Device = Device::Cpu;

fn picture(shape: &[usize], seed: u64) -> Tensor {
    uniform(shape, 0.0..1.0, seed)
}

/// A picture like `x`, so that their similarity is far from 0 and from 1.
fn similar(x: &Tensor, seed: u64) -> Tensor {
    ((x * 0.7).unwrap() + (picture(x.dims(), seed) * 0.3).unwrap()).unwrap()
}

fn values(x: &Tensor) -> Vec<f64> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}
