//! What the shipped checkpoints do to photographs: that each knob works and that the whole net, not only its
//! last layer, tunes.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use tunableconv::checkpoint::Checkpoint;
use tunableconv::engine::{self, Options, Precision};
use tunableconv_train::condition::Condition;
use tunableconv_train::freeze::freeze_inner_layers;
use tunableconv_train::rgb::Rgb;
use tunableconv_train::score::{filter, score as score_set};
use tunableconv_train::test_set::TestSet;
use tunableconv_train::yuv::{Matrix, Range, Yuv420};

/// The built-in model, and the larger one.
fn shipped() -> [Checkpoint; 2] {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let larger = Checkpoint::read(&root.join("checkpoints/broadcast-hq.safetensors")).unwrap();
    [Checkpoint::built_in().unwrap(), larger]
}

/// What they are made for.
const PRECISIONS: [Precision; 2] = [Precision::F32, Precision::Int8];

/// PSNR-Y of output and input on the photographs, in dB.
fn score(
    checkpoint: &Checkpoint,
    precision: Precision,
    (condition, keep): (&Condition, &[bool]),
    tuning: &[f64],
) -> (f64, f64) {
    let options = Options { precision, ..Default::default() };
    let mut engine = engine::open(checkpoint, &options).unwrap();
    let scale = checkpoint.metadata.architecture.io().scale;
    let tuning = checkpoint.metadata.tuning.tuning(tuning).unwrap();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let report = score_set(
        engine.as_mut(),
        &TestSet::images(&dir).unwrap().for_scale(scale).unwrap(),
        condition.clone(),
        keep,
        &tuning,
        None,
    )
    .unwrap();
    (report.output.psnr_y, report.input_psnr_y)
}

/// How strong the model is told that noise of 5 and 25 of 255, blur of 1.5 pixels and JPEG of quality
/// 10 are, from what 1 means: an error of 35 of 255 in luma, 2 pixels, and an error of 16.
const NOISE_5: f64 = 0.1;
const NOISE_25: f64 = 0.48;
const BLUR_1_5: f64 = 0.75;
const JPEG_10: f64 = 0.5;

/// Checks that quality rises from 0 to what is right for `condition`, at least by so many dB.
fn check_rise(condition: &str, right: [f64; 3], gain: f64) {
    let condition = &condition.parse().unwrap();
    for checkpoint in &shipped() {
        for precision in PRECISIONS {
            let at = |share: f64| {
                score(checkpoint, precision, (condition, &[false]), &right.map(|v| share * v))
            };
            let along: Vec<f64> = [0.0, 0.25, 0.5, 0.75, 1.0].map(|share| at(share).0).into();
            // Near what is right there is little left to win.
            assert!(along[..4].is_sorted_by(|a, b| a < b), "{precision}: {along:?}");
            assert!(along[4] > along[3] - 0.1, "{precision}: {along:?}");
            assert_eq!(along[0], at(0.0).1);
            assert!(along[4] > along[0] + gain, "{precision}: {along:?}");
        }
    }
}

#[test]
fn quality_rises_along_denoise_on_noisy_photographs() {
    check_rise("noise:25", [NOISE_25, 0.0, 0.0], 5.0);
    check_rise("camera:0.02:sigma=3:smoothing=1", [0.2, 0.0, 0.0], 2.0);
}

#[test]
fn quality_rises_along_deblur_on_blurred_photographs() {
    check_rise("blur:1.5", [0.0, BLUR_1_5, 0.0], 1.0);
}

#[test]
fn quality_rises_along_deblock_on_compressed_photographs() {
    check_rise("jpeg:10", [0.0, 0.0, JPEG_10], 0.4);
}

#[test]
fn a_knob_helps_beside_the_other_on_blurred_noisy_photographs() {
    for checkpoint in &shipped() {
        let at = |condition: &str, tuning: [f64; 3]| {
            let condition = &condition.parse().unwrap();
            score(checkpoint, Precision::F32, (condition, &[false; 2]), &tuning).0
        };
        for (condition, noise, other) in [
            ("blur:1.5+noise:5", NOISE_5, [NOISE_5, 0.0, 0.0]),
            ("blur:1.5+noise:25", NOISE_25, [0.0, BLUR_1_5, 0.0]),
        ] {
            let (both, one) = (at(condition, [noise, BLUR_1_5, 0.0]), at(condition, other));
            println!("{condition}: both {both:.2} dB, one {one:.2} dB");
            assert!(both > one + 0.1, "{condition}: {both} {one}");
        }
    }
}

#[test]
fn the_defaults_leave_clean_photographs_as_they_are_to_the_eye() {
    for checkpoint in &shipped() {
        let space = &checkpoint.metadata.tuning;
        let defaults = [0, 1, 2].map(|index| space.parameters[index].default);
        let nothing = &"noise:0".parse().unwrap();
        for precision in PRECISIONS {
            let (psnr, _) = score(checkpoint, precision, (nothing, &[false]), &defaults);
            assert!(psnr > 45.0, "{precision}: {psnr}");
        }
    }
}

#[test]
fn enlarged_photographs_are_nearer_to_the_original_and_the_less_so_the_more_lifelike() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let checkpoint = Checkpoint::read(&root.join("checkpoints/upscale2x.safetensors")).unwrap();
    let nothing = &"noise:0".parse().unwrap();
    let mut accurate = vec![];
    for precision in PRECISIONS {
        let at = |lifelike: f64| {
            score(&checkpoint, precision, (nothing, &[false]), &[1.0 - lifelike, lifelike])
        };
        let (along, bicubic) = ([0.0, 0.5, 1.0].map(|lifelike| at(lifelike).0), at(0.0).1);
        println!("{precision}: {along:?}, bicubic {bicubic}");
        assert!(along.is_sorted_by(|a, b| a > b), "{precision}: {along:?}");
        assert!(along[0] > bicubic + 1.0, "{precision}: {along:?}, bicubic {bicubic}");
        accurate.push(along[0]);
    }
    assert!((accurate[0] - accurate[1]).abs() < 0.05, "{accurate:?}");
}

/// Root of the mean squared difference of all samples.
fn apart(a: &Yuv420, b: &Yuv420) -> f64 {
    let planes = [(&a.y, &b.y), (&a.u, &b.u), (&a.v, &b.v)];
    let pairs = planes.iter().flat_map(|(a, b)| a.iter().zip(b.iter()));
    let squares: Vec<f64> = pairs.map(|(a, b)| f64::from(a - b).powi(2)).collect();
    (squares.iter().sum::<f64>() / squares.len() as f64).sqrt()
}

#[test]
fn painters_are_far_apart_and_mixtures_lie_on_the_way() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let checkpoint = Checkpoint::read(&root.join("../checkpoints/style.safetensors")).unwrap();
    let photograph = Rgb::load(&root.join("tests/data/houses.png")).unwrap();
    let photograph = Yuv420::from_rgb(&photograph, Matrix::Bt709, Range::Limited);
    let painted = |precision: Precision, weights: [f64; 3]| {
        let options = Options { precision, ..Default::default() };
        let mut engine = engine::open(&checkpoint, &options).unwrap();
        let space = &checkpoint.metadata.tuning;
        engine.set_tuning(&space.tuning(&weights).unwrap()).unwrap();
        filter(engine.as_mut(), &photograph).unwrap()
    };
    for precision in PRECISIONS {
        for (from, to) in [(0, 1), (1, 2), (2, 0)] {
            let at = |share: f64| {
                let mut weights = [0.0; 3];
                (weights[from], weights[to]) = (1.0 - share, share);
                painted(precision, weights)
            };
            let first = at(0.0);
            let along = (0..=10).map(|step| apart(&first, &at(f64::from(step) / 10.0)));
            let along: Vec<f64> = along.collect();
            println!("{precision}, {from} to {to}: {along:.1?}");
            assert!(along.is_sorted_by(|a, b| a < b), "{precision}: {along:?}");
            assert!(along[10] > 20.0, "{precision}: {along:?}");
            let steps = along.windows(2).map(|pair| pair[1] - pair[0]);
            assert!(steps.fold(0.0, f64::max) < 0.3 * along[10], "{precision}: {along:?}");
        }
    }
    for weights in [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]] {
        let [f32, int8] = PRECISIONS.map(|precision| painted(precision, weights));
        let error = apart(&f32, &int8);
        println!("{weights:?}: int8 {error:.2} of 255 from f32");
        assert!(error < 4.0, "{weights:?}: {error}");
    }
}

#[test]
fn no_setting_breaks_photographs() {
    let models = shipped();
    let cases = models.iter().flat_map(|model| PRECISIONS.map(|precision| (model, precision)));
    for (checkpoint, precision) in cases {
        for condition in ["clean", "noise:25"] {
            let condition: &Condition = &condition.parse().unwrap();
            let keep = vec![false; condition.kinds().len()];
            // Every corner of the domain, and halfway to it.
            for (corner, share) in (0..8).flat_map(|corner| [(corner, 0.5), (corner, 1.0)]) {
                let tuning = [0, 1, 2].map(|j| if corner & 1 << j == 0 { 0.0 } else { share });
                let (output, input) = score(checkpoint, precision, (condition, &keep), &tuning);
                let least = (input - 2.0).min(34.0);
                assert!(
                    output > least,
                    "{precision}, {condition}, {tuning:?}: {output} of {input}"
                );
            }
        }
    }
}

#[test]
fn inner_layers_frozen_at_the_far_corner_lose_at_the_others() {
    let [whole, _] = shipped();
    let mut frozen = whole.clone();
    let far = frozen.metadata.tuning.tuning(&[1.0, 1.0, 1.0]).unwrap();
    freeze_inner_layers(&mut frozen, &far).unwrap();
    for (condition, tuning) in
        [("noise:25", [NOISE_25, 0.0, 0.0]), ("blur:1.5", [0.0, BLUR_1_5, 0.0])]
    {
        let condition = &condition.parse().unwrap();
        let [(tuned, _), (fixed, _)] = [&whole, &frozen]
            .map(|checkpoint| score(checkpoint, Precision::F32, (condition, &[false]), &tuning));
        assert!(tuned > fixed + 0.05, "{tuning:?}: {tuned} {fixed}");
    }
}
