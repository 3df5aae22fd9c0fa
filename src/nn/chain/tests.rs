//! How far nets look, and what they cost.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::HashMap;

use candle_core::{DType, Device};

use super::*;
use crate::nn::{EdsrConfig, TwoScaleConfig, VideoNetConfig};

const SIDE: usize = 48;

fn chains() -> Vec<Vec<ChainLayer>> {
    let small = TwoScaleConfig { channels: 4, inner_channels: 4, ..Default::default() };
    vec![
        VideoNetConfig { channels: 4, layers: 2, ..Default::default() }.chain(),
        small.chain(),
        TwoScaleConfig { layers_before: 1, layers_inside: 0, layers_after: 0, ..small }.chain(),
    ]
    .into_iter()
    .chain(
        [1, 2, 3, 4].map(|scale| {
            EdsrConfig { channels: 4, blocks: 2, scale, ..Default::default() }.chain()
        }),
    )
    .collect()
}

/// All weights and biases above zero, so that whatever is seen changes something.
fn folded(chain: &[ChainLayer]) -> FoldedChain {
    let tensor = |spec: TensorSpec| {
        let len: usize = spec.shape.iter().product();
        let values = Tensor::full(1.0 / len as f64, spec.shape, &Device::Cpu).unwrap();
        (spec.name, values)
    };
    let tensors: HashMap<_, _> = tensors(chain, 1).into_iter().map(tensor).collect();
    let vb = VarBuilder::from_tensors(tensors, DType::F64, &Device::Cpu);
    Chain::new(1, chain, vb)
        .unwrap()
        .fold(&Tensor::ones((1, 1), DType::F64, &Device::Cpu).unwrap())
        .unwrap()
}

#[test]
fn no_pixel_looks_further_than_the_reach_and_one_looks_as_far() {
    for chain in chains() {
        let (net, reach) = (folded(&chain), reach(&chain));
        let at = |lit: Option<(usize, usize)>| -> Vec<f64> {
            let mut x = vec![1.0; chain[0].c_in * SIDE * SIDE];
            if let Some((row, column)) = lit {
                x[row * SIDE + column] = 1e6;
            }
            let x = Tensor::from_vec(x, (1, chain[0].c_in, SIDE, SIDE), &Device::Cpu).unwrap();
            net.forward(&x).unwrap().flatten_all().unwrap().to_vec1().unwrap()
        };
        let dark = at(None);
        let scale = (dark.len() / (chain[chain.len() - 1].c_out * SIDE * SIDE)).isqrt();
        let mut furthest = 0;
        // Both kinds of place in the groups of a shuffle.
        for (row, column) in [(24, 24), (24, 25), (25, 24), (25, 25)] {
            let lit = at(Some((row, column)));
            for (index, _) in lit.iter().zip(&dark).enumerate().filter(|(_, (a, b))| a != b) {
                let side = SIDE * scale;
                let (y, x) = (index / side % side / scale, index % side / scale);
                furthest = furthest.max(y.abs_diff(row)).max(x.abs_diff(column));
            }
        }
        assert_eq!(furthest, reach, "{chain:?}");
    }
}

#[test]
fn two_scales_take_pixels_two_by_two() {
    let grids: Vec<usize> = chains().iter().map(|chain| grid(chain)).collect();
    assert_eq!(grids, [1, 2, 2, 1, 1, 1, 1]);
}

/// Layers of these strides and shuffles.
fn steps(steps: &[(usize, usize)]) -> Vec<ChainLayer> {
    let layer = |(at, &(stride, shuffle)): (usize, &(usize, usize))| {
        let config = TunableConv2dConfig { stride, ..Default::default() };
        let c_in = if at == 0 { 3 } else { 4 };
        let layer = ChainLayer::new(at.to_string(), 3, (c_in, 4 * shuffle * shuffle), config);
        ChainLayer { link: Link { shuffle, ..Link::NONE }, ..layer }
    };
    steps.iter().enumerate().map(layer).collect()
}

#[test]
fn where_a_tile_may_begin_pixels_of_every_size_do() {
    // Two thirds of a pixel, then a third.
    assert_eq!(grid(&steps(&[(1, 3), (2, 2)])), 2);
    // One and a half.
    assert_eq!(grid(&steps(&[(1, 2), (3, 1), (2, 1)])), 3);
    assert_eq!(grid(&steps(&[(2, 1), (2, 1), (1, 4)])), 4);
    assert_eq!(reach(&steps(&[(1, 3), (2, 2)])), 2);
}

#[test]
fn many_strides_and_shuffles_are_no_more_than_what_they_come_to() {
    let chain = steps(&[(2, 2); 100]);
    assert_eq!(grid(&chain), 2);
    assert_eq!(reach(&chain), 200);
}

#[test]
fn costs_are_those_of_the_convolutions() {
    let luma_kilo_macs = |chain: Vec<ChainLayer>| macs(&chain) / 4.0 / 1000.0;
    let of_video = luma_kilo_macs(VideoNetConfig::default().chain());
    assert!((of_video - 9.0 * f64::from(12 * 32 + 4 * 32 * 32) / 4000.0).abs() < 1e-9);
    let pixels = f64::from(9 * 6 * 32 + 9 * 32 * 32 + 9 * 32 * 6);
    let quarters = f64::from(9 * 32 * 64 + 2 * 9 * 64 * 64 + 64 * 128) / 4.0;
    let of_two_scales = luma_kilo_macs(TwoScaleConfig::default().chain());
    assert!((of_two_scales - (pixels + quarters) / 4000.0).abs() < 1e-9);
}
