//! What the shipped checkpoint does to two photographs: that each knob works and that the whole net,
//! not only its last layer, tunes.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use tunableconv::checkpoint::Checkpoint;
use tunableconv::engine::{self, Options, Precision};
use tunableconv_train::condition::Condition;
use tunableconv_train::freeze::freeze_inner_layers;
use tunableconv_train::score::score as score_set;
use tunableconv_train::test_set::TestSet;

fn shipped() -> Checkpoint {
    Checkpoint::built_in().unwrap()
}

/// What the built-in model is made for.
const PRECISIONS: [Precision; 2] = [Precision::F32, Precision::Int8];

/// PSNR-Y of output and input on the photographs, in dB.
fn score(
    checkpoint: &Checkpoint,
    precision: Precision,
    (condition, keep): (&Condition, &[bool]),
    tuning: [f64; 2],
) -> (f64, f64) {
    let options = Options { precision, ..Default::default() };
    let mut engine = engine::open(checkpoint, &options).unwrap();
    let tuning = checkpoint.metadata.tuning.tuning(&tuning).unwrap();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let report = score_set(
        engine.as_mut(),
        &TestSet::images(&dir).unwrap(),
        condition.clone(),
        keep,
        &tuning,
        None,
    )
    .unwrap();
    (report.output.psnr_y, report.input_psnr_y)
}

#[test]
fn quality_rises_along_denoise_on_noisy_photographs() {
    let condition = &"noise:25".parse().unwrap();
    for precision in PRECISIONS {
        let at = |t| score(&shipped(), precision, (condition, &[false]), [t, 0.0]);
        let along: Vec<f64> = [0.0, 0.25, 0.5, 0.75, 1.0].map(|t| at(t).0).into();
        assert!(along.is_sorted_by(|a, b| a < b), "{precision}: {along:?}");
        assert_eq!(along[0], at(0.0).1);
        assert!(along[4] > along[0] + 3.0, "{precision}: {along:?}");
    }
}

#[test]
fn quality_rises_along_deblur_on_blurred_photographs() {
    let condition = &"blur:1.5".parse().unwrap();
    for precision in PRECISIONS {
        let at = |t| score(&shipped(), precision, (condition, &[false]), [0.0, t]).0;
        let along: Vec<f64> = [0.0, 0.25, 0.5, 0.75, 1.0].map(at).into();
        assert!(along.is_sorted_by(|a, b| a < b), "{precision}: {along:?}");
        assert!(along[4] > along[0] + 1.0, "{precision}: {along:?}");
    }
}

#[test]
fn both_knobs_beat_either_on_blurred_noisy_photographs() {
    let condition = &"blur:1.5+noise:15".parse().unwrap();
    let at = |tuning| score(&shipped(), Precision::F32, (condition, &[false; 2]), tuning).0;
    let both = at([1.0, 1.0]);
    assert!(both > at([1.0, 0.0]) && both > at([0.0, 1.0]));
}

#[test]
fn inner_layers_frozen_at_the_far_corner_lose_at_the_others() {
    let whole = shipped();
    let mut frozen = shipped();
    let far = frozen.metadata.tuning.tuning(&[1.0, 1.0]).unwrap();
    freeze_inner_layers(&mut frozen, &far).unwrap();
    let condition = &"blur:1.5+noise:25".parse().unwrap();
    // What the other knob would undo stays in the reference.
    for (tuning, keep) in [([1.0, 0.0], [true, false]), ([0.0, 1.0], [false, true])] {
        let [(tuned, _), (fixed, _)] = [&whole, &frozen]
            .map(|checkpoint| score(checkpoint, Precision::F32, (condition, &keep), tuning));
        assert!(tuned > fixed + 0.05, "{tuning:?}: {tuned} {fixed}");
    }
}
