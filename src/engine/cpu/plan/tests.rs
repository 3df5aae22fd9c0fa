//! What a plan refuses, the order of its steps, and how many rows it keeps.

#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::nn::{Mode, PhiConfig, VideoNetConfig};

fn video(channels: usize, layers: usize) -> Architecture {
    let phi = PhiConfig { mode: Mode::Mlp, expand: 2 };
    Architecture::Video(VideoNetConfig { channels, layers, negative_slope: 0.1, phi })
}

fn layer(kernel: usize, c_in: usize, c_out: usize) -> LayerSpec {
    LayerSpec { kernel, ..LayerSpec::new("it", c_in, c_out, 0.1) }
}

fn plan(layers: Vec<LayerSpec>) -> Result<Plan, String> {
    Plan::new(ChainSpec { input_parts: 1, scale: None, layers }, &[])
}

#[test]
fn video_nets_that_are_not_carried_are_refused_with_the_reason() {
    let refused = |channels, layers| ChainSpec::of(&video(channels, layers)).unwrap_err();
    assert_eq!(refused(12, 4), "layer `head`: 12 channels, expected a multiple of 8");
    assert_eq!(refused(8, 63), "65 layers, expected at most 64");
    for (channels, layers) in [(8, 0), (8, 62), (32, 4), (256, 1)] {
        let plan = Plan::new(ChainSpec::of(&video(channels, layers)).unwrap(), &[]).unwrap();
        assert_eq!(plan.edges(), layers + 3);
        assert!(plan.spec().is_video());
    }
}

#[test]
fn chains_that_cannot_be_computed_are_refused_with_the_layer() {
    let refused = |layers: Vec<LayerSpec>, reason: &str| {
        let error = plan(layers).unwrap_err();
        assert!(error.starts_with("layer `it`: ") && error.contains(reason), "{error}");
    };
    let good = || LayerSpec::new("good", 8, 8, 0.1);
    refused(vec![layer(2, 8, 8)], "kernel 2, expected 1, 3 or 5");
    refused(vec![layer(7, 8, 8)], "kernel 7");
    refused(vec![good(), layer(3, 16, 8)], "16 input channels on 8");
    refused(vec![LayerSpec { slope: Some(-0.5), ..layer(3, 8, 8) }], "slope -0.5");
    refused(vec![LayerSpec { slope: Some(f32::NAN), ..layer(3, 8, 8) }], "slope NaN");
    refused(vec![LayerSpec { shuffle: 2, ..layer(3, 8, 6) }], "6 output channels, shuffled by 2");
    refused(vec![LayerSpec { shuffle: 5, ..layer(3, 8, 25) }], "shuffle 5");
    refused(vec![LayerSpec { shuffle: 0, ..layer(3, 8, 8) }], "shuffle 0");
    refused(vec![LayerSpec { unshuffle: 4, ..layer(5, 32, 8) }], "20 row parts");
    // Of another width, of other channels, not yet there, of another size, shuffled.
    let add = |from, layer| LayerSpec { add: [Some(from), None], ..layer };
    refused(vec![layer(3, 8, 16), add(0, layer(3, 16, 16))], "cannot add edge 0");
    refused(vec![add(1, layer(3, 8, 8))], "cannot add edge 1");
    refused(vec![add(7, layer(3, 8, 8))], "cannot add edge 7");
    let up = LayerSpec { shuffle: 2, ..LayerSpec::new("up", 8, 32, 0.1) };
    refused(vec![up, add(0, layer(3, 8, 8))], "cannot add edge 0");
    refused(vec![add(0, LayerSpec { shuffle: 2, ..layer(3, 8, 32) })], "cannot add edge 0");
    refused(vec![add(0, LayerSpec { stride: 2, ..layer(3, 8, 8) })], "cannot add edge 0");
    refused(vec![LayerSpec { stride: 0, ..layer(3, 8, 8) }], "stride 0, expected 1 to 3");
    refused(vec![LayerSpec { stride: 2, ..layer(1, 8, 8) }], "stride 2, expected 1 to 1");

    assert!(plan(vec![]).unwrap_err().contains("0 layers"));
    let many = (0..65).map(|_| good()).collect();
    assert!(plan(many).unwrap_err().contains("65 layers, expected 1 to 64"));
    let parts = ChainSpec { input_parts: 3, scale: None, layers: vec![layer(3, 8, 8)] };
    assert!(Plan::new(parts, &[]).unwrap_err().contains("8 input channels do not fill 3 parts"));
}

/// A skip around a stride and a shuffle.
fn two_scales() -> Plan {
    plan(vec![
        layer(3, 3, 8),
        LayerSpec { stride: 2, ..layer(3, 8, 16) },
        layer(3, 16, 16),
        LayerSpec { shuffle: 2, add: [Some(1), None], ..layer(1, 16, 32) },
        layer(3, 8, 3),
    ])
    .unwrap()
}

#[test]
fn sizes_follow_the_shuffles() {
    let half = LayerSpec { unshuffle: 2, ..layer(3, 32, 16) };
    let triple = LayerSpec { shuffle: 3, ..layer(3, 16, 9) };
    let plan = plan(vec![half, triple]).unwrap();
    assert_eq!(plan.sizes((8, 6)).unwrap(), [(8, 6), (4, 3), (12, 9)]);
    let two_scales = two_scales();
    assert_eq!(two_scales.sizes((8, 5)).unwrap(), [(8, 5), (8, 5), (4, 3), (4, 3), (8, 5), (8, 5)]);
    assert_eq!(two_scales.sizes((1, 1)).unwrap(), [(1, 1); 6]);
    let error = plan.sizes((8, 5)).unwrap_err();
    assert_eq!(error, "layer `it` cannot unshuffle 8×5 by 2");
}

/// Every row is computed once, after what is under it, and still in the ring when it is read, whole or cut anywhere.
fn check_steps(plan: &Plan, size: (usize, usize), bands: usize) {
    let layers = plan.spec().layers.len();
    let with_added = |cut: usize| {
        let added = plan.spec().layers[cut..].iter().flat_map(LayerSpec::added);
        let mut cuts: Vec<_> = added.filter(|&from| from < cut).chain([cut]).collect();
        cuts.sort_unstable();
        cuts.dedup();
        cuts
    };
    let cuts = (1..layers).map(with_added).chain([vec![], (1..layers).collect()]);
    for cuts in cuts {
        let plan = Plan::new(plan.spec().clone(), &cuts).unwrap();
        for stage in plan.stages() {
            check_stage(&plan, stage, size, bands);
        }
    }
}

fn check_stage(plan: &Plan, stage: &Range<usize>, size: (usize, usize), bands: usize) {
    let sizes = plan.sizes(size).unwrap();
    let spec = plan.spec();
    let (width, height) = sizes[stage.end];
    let unit = spec.layers[stage.end - 1].group();
    for band in 0..bands {
        let cut = |i: usize| if i < bands { height / unit * i / bands * unit } else { height };
        let rows = cut(band)..cut(band + 1);
        let tile = plan.tile(&sizes, stage, rows.clone(), 0..width);
        let mut there = tile.first_rows.clone();
        plan.steps(&sizes, stage, &tile, &mut vec![0; plan.edges()], |step| match step {
            Step::Load(row) => {
                assert_eq!(row, there[stage.start]);
                there[stage.start] += 1;
            }
            Step::Compute { layer, row } => {
                assert!(stage.contains(&layer));
                let it = &spec.layers[layer];
                let under = it.under(row..row + it.row_unit, sizes[layer].1);
                assert!(tile.first_rows[layer] <= under.start && under.end <= there[layer]);
                assert!(under.start + plan.ring(layer) >= there[layer], "a row was overwritten");
                for from in it.added().filter(|&from| !plan.is_cut(from) && from >= stage.start) {
                    let end = (row * it.shuffle + it.group()).min(sizes[from].1);
                    for row in row * it.shuffle..end {
                        assert!((tile.first_rows[from]..there[from]).contains(&row));
                        assert!(
                            row + plan.ring(from) >= there[from],
                            "an added row was overwritten"
                        );
                    }
                }
                assert_eq!(row * it.shuffle, there[layer + 1]);
                there[layer + 1] += it.group();
            }
        });
        assert_eq!(there[stage.end].min(height), rows.end.max(tile.first_rows[stage.end]));
    }
}

#[test]
fn steps_compute_each_row_once_when_all_under_it_is_there() {
    let add = |from, layer| LayerSpec { add: [Some(from), None], ..layer };
    let video = Plan::new(ChainSpec::of(&video(8, 4)).unwrap(), &[]).unwrap();
    let residual = plan(vec![
        layer(3, 3, 8),
        layer(5, 8, 8),
        add(1, layer(3, 8, 8)),
        layer(1, 8, 8),
        add(1, layer(3, 8, 8)),
        LayerSpec { shuffle: 2, ..layer(3, 8, 12) },
    ])
    .unwrap();
    let half = plan(vec![
        LayerSpec { unshuffle: 2, ..layer(3, 12, 16) },
        layer(3, 16, 16),
        LayerSpec { shuffle: 2, ..layer(3, 16, 12) },
    ])
    .unwrap();
    let pair = |layer| LayerSpec { row_unit: 2, ..layer };
    let pairs = plan(vec![
        layer(3, 3, 8),
        pair(layer(3, 8, 8)),
        pair(add(1, layer(3, 8, 8))),
        layer(3, 8, 8),
        pair(add(3, layer(3, 8, 8))),
    ])
    .unwrap();
    for (plan, unit) in [(&video, 1), (&residual, 1), (&half, 2), (&two_scales(), 1), (&pairs, 1)] {
        for height in [2, 4, 6, 34, 130, 3 * unit, 33 * unit] {
            for bands in [1, 2, 5] {
                check_steps(plan, (6, height), bands);
            }
        }
    }
}

/// It would take hours on a picture of as many rows as all steps together.
#[test]
fn rings_are_measured_on_few_rows_however_many_steps_there_are() {
    let down = || LayerSpec { stride: 2, ..layer(3, 8, 8) };
    let up = || LayerSpec { shuffle: 2, ..layer(3, 8, 32) };
    let layers = (0..32).flat_map(|_| [down(), up()]).collect();
    let plan = plan(layers).unwrap();
    assert_eq!(plan.spec().common_start(), 2);
    assert_eq!(plan.sizes((7, 5)).unwrap().last(), Some(&(8, 6)));
}

#[test]
fn no_more_rows_are_kept_than_kernels_read() {
    let plan = Plan::new(ChainSpec::of(&video(8, 4)).unwrap(), &[]).unwrap();
    let rings: Vec<_> = (0..plan.edges()).map(|edge| plan.ring(edge)).collect();
    assert_eq!(rings, [3, 3, 3, 3, 3, 3, 1]);
}
