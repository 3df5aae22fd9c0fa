//! Parameters that tell the net how strong a degradation is.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{RECIPE, Workplace};
use tunableconv_train::batch::{self, Pictures};
use tunableconv_train::corner_targets::corner_weights;
use tunableconv_train::data::{ImageFolder, Keep};
use tunableconv_train::degrade::{
    Blur, ChromaNoise, Degradation, Downscale, Filter, Jpeg, MotionBlur, Noise, PoissonGaussian,
};
use tunableconv_train::recipe::Recipe;

const NOISE: &str = "degradation = { kind = \"noise\", sigma = [0.0, 50.0] }";

const BLUR: &str = "degradation = { kind = \"blur\", sigma = [0.0, 2.0] }";

/// A recipe whose `denoise` tells the level of the noise.
fn told(level: &str) -> String {
    assert!(RECIPE.contains(NOISE));
    RECIPE.replace(NOISE, &format!("{NOISE}\nlevel = {level}"))
}

fn pictures(at: &Workplace) -> Pictures {
    let images = ImageFolder::load(&[at.path("data")], 16, Keep::Everything).unwrap();
    Pictures { images, pairs: None }
}

/// Root mean square of what an input's luma differs by, of 255, and what would be removed of it.
fn errors(batch: &batch::HostBatch, sample: usize) -> f32 {
    let each = 6 * 8 * 8;
    let residual = &batch.residual[sample * each..][..4 * 8 * 8];
    let squares: f32 = residual.iter().map(|value| value * value).sum();
    (squares / residual.len() as f32).sqrt() * 255.0
}

#[test]
fn samples_are_as_noisy_as_the_net_is_told() {
    let at = Workplace::new();
    let text = told("{}").replace("[[\"denoise\"], [\"denoise\", \"deblur\"]]", "[[\"denoise\"]]");
    let recipe = Recipe::parse(&text.replace("[[degradations]]\nparameter = \"deblur\"\ndegradation = { kind = \"blur\", sigma = [0.0, 2.0] }\n", "").replace("deblur", "other").replace("  { name = \"other\", nick = \"Deblur\", blurb = \"Blur\", minimum = 0.0, maximum = 1.0, default = 0.0, objective = \"no blur\" },\n", "")).unwrap();
    let pictures = pictures(&at);
    let (mut told, mut found) = (vec![], vec![]);
    for step in 0..60 {
        let batch = batch::make(&recipe, &pictures, step);
        for (sample, level) in batch.tunings.iter().enumerate() {
            told.push(f64::from(*level));
            found.push(f64::from(errors(&batch, sample)));
        }
    }
    // Clipping takes some of strong noise, and luma averages three channels.
    let slope = |i: usize| found[i] / (50.0 * told[i]);
    for i in (0..told.len()).filter(|i| told[*i] > 0.1) {
        assert!((0.3..0.9).contains(&slope(i)), "{}: {}", told[i], found[i]);
    }
    for i in (0..told.len()).filter(|i| told[*i] == 0.0) {
        assert_eq!(found[i], 0.0);
    }
    assert!(told.iter().any(|level| *level < 0.2) && told.iter().any(|level| *level > 0.8));
}

#[test]
fn a_list_longer_than_a_step_is_trained_whole() {
    let at = Workplace::new();
    let text = told("{}")
        .replace("micro_batches = 2", "micro_batches = 1\nsize = 1")
        .replace("[\"denoise\", \"deblur\"]", "[\"deblur\"], [\"denoise\", \"deblur\"]");
    let recipe = Recipe::parse(&text).unwrap();
    let pictures = pictures(&at);
    let is_told = |step: u64| batch::make(&recipe, &pictures, step).tunings[0] > 0.0;
    // Of what no sample has the level is 0.
    assert!((0..60).filter(|step| step % 3 == 1).all(|step| !is_told(step)));
    for turn in [0, 2] {
        assert!((0..60).filter(|step| step % 3 == turn).any(is_told), "{turn}");
    }
}

#[test]
fn a_level_is_undone_whole_whatever_it_is() {
    let recipe = Recipe::parse(&told("{ jitter = 0.1 }")).unwrap();
    // Corners: none, denoise, deblur, both. Denoise is on at any value.
    assert_eq!(corner_weights(&recipe, &[0.2, 0.25]), [0.0, 0.75, 0.0, 0.25]);
    let plain = Recipe::parse(RECIPE).unwrap();
    assert_eq!(corner_weights(&plain, &[0.0, 0.25]), [0.75, 0.0, 0.25, 0.0]);
}

#[test]
fn a_measured_level_is_that_of_the_samples() {
    let at = Workplace::new();
    let recipe = Recipe::parse(&told("{ error = 40.0 }")).unwrap();
    let pictures = pictures(&at);
    for step in 0..20 {
        let batch = batch::make(&recipe, &pictures, step);
        for (set, tuning) in batch.tunings.chunks(2).enumerate() {
            // The first sample of a set is noisy only: all of its error is noise.
            let error = errors(&batch, 2 * set);
            assert!((0.0..=1.0).contains(&tuning[0]));
            assert!((tuning[0] * 40.0 - error).abs() < 6.0 + 0.4 * error, "{}: {error}", tuning[0]);
        }
    }
}

/// Two kinds of noise, one at a time, and blur.
const EITHER: &str = r#"
[[degradations]]
parameter = "denoise"
name = "camera"
degradation = { kind = "camera", gain = [0.0, 0.1], sigma = [0.0, 0.0] }
level = { error = 40.0 }

[[degradations]]
parameter = "denoise"
name = "grain"
degradation = { kind = "noise", sigma = [0.0, 50.0] }
level = { error = 40.0 }
"#;

#[test]
fn samples_have_what_they_name_and_only_that_is_told() {
    let at = Workplace::new();
    let recipe = RECIPE
        .replace("[batch]", &format!("{EITHER}\n[batch]\nsize = 1"))
        .replace("micro_batches = 2", "micro_batches = 6")
        .replace("\"corner-boosted\", share = 0.5", "\"uniform\"")
        .replace(
            "[[\"denoise\"], [\"denoise\", \"deblur\"]]",
            "[[\"camera\"], [\"grain\"], [\"deblur\"]]",
        );
    let noise = format!("[[degradations]]\nparameter = \"denoise\"\n{NOISE}\n");
    let blur = "degradation = { kind = \"blur\", sigma = [0.0, 2.0] }";
    assert!(recipe.contains(&noise) && recipe.contains(blur));
    let recipe = recipe.replace(&noise, "").replace(blur, &format!("{blur}\nlevel = {{}}"));
    let recipe = Recipe::parse(&recipe).unwrap();
    assert_eq!(recipe.is_active(&["grain".to_owned()]), [false, false, true]);
    let pictures = pictures(&at);
    for step in 0..20 {
        let batch = batch::make(&recipe, &pictures, step);
        let tunings: Vec<_> = batch.tunings.chunks(2).collect();
        assert_eq!(tunings.len(), 6);
        for (sample, tuning) in tunings.into_iter().enumerate() {
            let (denoise, deblur) = (tuning[0], tuning[1]);
            if sample % 3 == 2 {
                assert_eq!(denoise, 0.0);
                assert!(deblur > 0.0 && deblur <= 1.0, "{deblur}");
            } else {
                assert_eq!(deblur, 0.0);
                // Alone in its micro-batch, a sample is told its own level.
                let error = errors(&batch, sample);
                assert!(
                    (denoise * 40.0 - error).abs() < 1e-2 || denoise == 1.0,
                    "{denoise} {error}"
                );
            }
        }
    }
}

#[test]
fn a_share_of_the_samples_is_told_a_level_that_is_wrong() {
    let at = Workplace::new();
    let pictures = pictures(&at);
    // Shares of the samples with noise that are as noisy as is told, and of those without that are
    // told that there is none.
    let rightly_told = |wrong: f64, error: &str| {
        let text = told(&format!("{{ wrong = {wrong}{error} }}"))
            .replace("[[\"denoise\"], [\"denoise\", \"deblur\"]]", "[[\"denoise\"], [\"deblur\"]]")
            .replace("[batch]", "[batch]\nsize = 1")
            .replace("micro_batches = 2", "micro_batches = 6")
            .replace("\"corner-boosted\", share = 0.5", "\"uniform\"");
        let recipe = Recipe::parse(&text).unwrap();
        let (mut right, mut absent) = (vec![], vec![]);
        for step in 0..60 {
            let batch = batch::make(&recipe, &pictures, step);
            for (sample, tuning) in batch.tunings.chunks(2).enumerate() {
                let error = errors(&batch, sample);
                match sample % 2 {
                    0 => right.push((tuning[0] * 40.0 - error).abs() < 6.0 + 0.4 * error),
                    _ => absent.push(tuning[0] == 0.0),
                }
            }
        }
        [right, absent]
            .map(|kind| kind.iter().filter(|is_so| **is_so).count() as f64 / kind.len() as f64)
    };
    for error in ["", ", error = 40.0"] {
        let [always, half, never] = [0.0, 0.5, 1.0].map(|wrong| rightly_told(wrong, error));
        println!("{always:?} {half:?} {never:?}");
        assert!(always[0] > 0.95 && always[1] == 1.0, "{error}: {always:?}");
        assert!((0.35..0.65).contains(&half[1]) && half[0] < always[0], "{error}: {half:?}");
        assert!(never[0] < half[0] && never[1] == 0.0, "{error}: {never:?}");
    }
}

#[test]
fn a_share_of_the_samples_is_told_nothing_but_wrong_levels() {
    let at = Workplace::new();
    let pictures = pictures(&at);
    let parse = |wrong: &str| {
        let text = told("{}").replace(BLUR, &format!("{BLUR}\nlevel = {{}}"));
        let text = text.replace("[batch]", &format!("[batch]\nsize = 1\nwrong = {wrong}"));
        let samples = "[[\"denoise\"], [\"denoise\", \"deblur\"]]";
        let text = text.replace(samples, "[[\"denoise\"], [\"deblur\"]]");
        Recipe::parse(&text.replace("\"corner-boosted\", share = 0.5", "\"uniform\""))
    };
    let recipe = parse("0.4").unwrap();
    // Told a level of what a sample does not have, and of those told both levels in full.
    let (mut wrong, mut far, mut count) = (0, 0, 0);
    for step in 0..300 {
        let batch = batch::make(&recipe, &pictures, step);
        for (sample, tuning) in batch.tunings.chunks(2).enumerate() {
            count += 1;
            wrong += usize::from(tuning[1 - sample % 2] > 0.0);
            far += usize::from(tuning == [1.0, 1.0]);
            // Of noise alone those in the corner of noise are told apart by their 1.
            if sample % 2 == 0 && tuning[1] == 0.0 && (0.1..1.0).contains(&tuning[0]) {
                let slope = errors(&batch, sample) / (50.0 * tuning[0]);
                assert!((0.3..0.9).contains(&slope), "{tuning:?}: {slope}");
            }
        }
    }
    let share = |part: usize| part as f64 / count as f64;
    println!("{} {}", share(wrong), share(far));
    // Half of the 0.4 are in three corners: in one of them there is no blur.
    assert!((0.27..0.40).contains(&share(wrong)), "{}", share(wrong));
    assert!((0.04..0.10).contains(&share(far)), "{}", share(far));
    let error = format!("{:#}", parse("1.5").unwrap_err());
    assert!(error.contains("batch.wrong = 1.5, expected 0 to 1"), "{error}");
    let error = format!(
        "{:#}",
        Recipe::parse(&RECIPE.replace("[batch]", "[batch]\nwrong = 0.1")).unwrap_err()
    );
    assert!(error.contains("no parameter is told a level"), "{error}");
}

#[test]
fn strengths_and_levels_are_each_others_inverse() {
    for kind in [
        Degradation::Blur(Blur { sigma: [0.0, 2.0] }),
        Degradation::Noise(Noise { sigma: [0.0, 50.0] }),
        Degradation::PoissonGaussian(PoissonGaussian { gain: [0.0, 0.1], sigma: [0.0; 2] }),
        Degradation::ChromaNoise(ChromaNoise { sigma: [0.0, 30.0], radius: [0.0; 2] }),
        Degradation::MotionBlur(MotionBlur { length: [0.0, 12.0] }),
        Degradation::Downscale(Downscale { factor: [1.0, 3.0], filter: Filter::Area }),
        Degradation::Jpeg(Jpeg { quality: [20, 100] }),
    ] {
        for level in [0.0, 0.25, 1.0] {
            let back = kind.level(kind.strength_at(level));
            assert!((back - level).abs() < 1e-6, "{kind:?}: {level} {back}");
        }
    }
    // What the range does not hold is not reached.
    let jpeg = Degradation::Jpeg(Jpeg { quality: [20, 60] });
    assert_eq!((jpeg.strength_at(0.0), jpeg.strength_at(1.0)), (60.0, 20.0));
}

#[test]
fn a_run_is_validated_at_each_pictures_level() {
    let at = Workplace::with_many();
    std::fs::write(at.path("told.toml"), told("{ jitter = 0.1 }")).unwrap();
    at.succeed("train told.toml --data many --run a --steps 20 --val-every 10");
    let log = String::from_utf8(at.read("a/metrics.csv")).unwrap();
    let header = log.lines().next().unwrap();
    for column in [
        "denoise=level deblur=1",
        "denoise=level deblur=0",
        "denoise=level*0.5 deblur=1",
        "denoise=level*2 deblur=1",
    ] {
        assert!(header.contains(&format!("val_psnr_y {column}")), "{column}: {header}");
    }
    assert!(at.path("a/best.safetensors").exists() && at.path("a/samples.png").exists());
    for (level, expected) in [
        ("{ jitter = -0.1 }", "level.jitter = -0.1, expected 0 to 1"),
        ("{ wrong = 1.5 }", "level.wrong = 1.5, expected 0 to 1"),
        ("{ error = 0.0 }", "level.error = 0, expected above 0"),
        ("{ most = 1 }", "unknown field `most`"),
    ] {
        std::fs::write(at.path("bad.toml"), told(level)).unwrap();
        let error = at.fail("train bad.toml --data many --run b");
        assert!(error.contains(expected), "{error}");
    }
    for (degradation, expected) in [
        ("noise\", sigma = [10.0, 50.0]", "its range begins at the level 0.200"),
        ("jpeg\", quality = [20, 60]", "its range begins at the level 0.320"),
        ("camera\", gain = [0.0, 0.02], sigma = [0.0, 4.0]", "[0.0, 4.0] of read noise"),
        ("poisson-gaussian\", gain = [0.0, 0.02], sigma = [1.0, 1.0]", "[1.0, 1.0] of read noise"),
    ] {
        let text = told("{}").replace("noise\", sigma = [0.0, 50.0]", degradation);
        let error = format!("{:#}", Recipe::parse(&text).unwrap_err());
        assert!(error.contains(expected), "{error}");
        // An error is measured, whatever the range is.
        assert!(Recipe::parse(&text.replace("level = {}", "level = { error = 20.0 }")).is_ok());
    }
    let text = told("{}").replace(NOISE, "degradation = { kind = \"recorded\" }");
    let text = text.replace("[[degradations]]\nparameter = \"deblur\"\ndegradation = { kind = \"blur\", sigma = [0.0, 2.0] }\n", "").replace("\"denoise\", \"deblur\"]", "\"denoise\"]");
    std::fs::write(at.path("bad.toml"), text).unwrap();
    let error = at.fail("train bad.toml --data many --run b");
    assert!(error.contains("recorded is no number of its own: give level.error"), "{error}");
}

#[test]
fn a_report_has_every_picture_at_its_own_level() {
    let at = Workplace::new();
    for (level, tuning) in [("{}", Some(0.4)), ("{ error = 20.0 }", None)] {
        std::fs::write(at.path("told.toml"), told(level)).unwrap();
        let _ = std::fs::remove_dir_all(at.path("a"));
        at.succeed("train told.toml --data data --run a");
        at.succeed("evaluate a/checkpoint.safetensors --data data --degrade noise:20 --out r");
        let score = "score a/checkpoint.safetensors --data data --degrade noise:20 --json";
        let score = |level: &str| -> serde_json::Value {
            let line = format!("{score} --tuning deblur=1 {level}");
            serde_json::from_str(&at.succeed(&line)).unwrap()
        };
        let report: serde_json::Value = serde_json::from_slice(&at.read("r/report.json")).unwrap();
        let told = &report["conditions"][0]["told"];
        assert_eq!(told.as_array().unwrap().len(), 3);
        let value = |i: usize| told[i]["tuning"][0].as_f64().unwrap();
        if let Some(tuning) = tuning {
            assert!((value(0) - tuning).abs() < 1e-6, "{told}");
            let line = format!(
                "score a/checkpoint.safetensors --data data --degrade noise:20 --tuning denoise={tuning},deblur=1 --json"
            );
            let score: serde_json::Value = serde_json::from_str(&at.succeed(&line)).unwrap();
            assert_eq!(told[0]["clean"]["psnr_y"], score["psnr_y"]);
        }
        assert_eq!(told[0]["clean"]["psnr_y"], score("--level")["psnr_y"]);
        assert_eq!(told[2]["clean"]["psnr_y"], score("--level 2")["psnr_y"]);
        assert_eq!(score("--level 2")["level"], 2.0);
        // Luma of independent noise has about two thirds of its strength.
        assert!((0.35..0.8).contains(&value(0)), "{told}");
        assert!((value(1) - value(0) / 2.0).abs() < 1e-3 && value(2) > value(0), "{told}");
        let markdown = String::from_utf8(at.read("r/report.md")).unwrap();
        assert!(
            markdown.contains("| own level | denoise 0.") && markdown.contains("| own level × 2 |")
        );
    }
    at.succeed("train tiny.toml --data data --run plain");
    at.succeed("evaluate plain/checkpoint.safetensors --data data --degrade noise:20 --out r");
    let error = at.fail("score plain/checkpoint.safetensors --data data --level");
    assert!(error.contains("no parameter of the checkpoint is told a level"), "{error}");
    let report: serde_json::Value = serde_json::from_slice(&at.read("r/report.json")).unwrap();
    assert_eq!(report["conditions"][0]["told"], serde_json::json!([]));
}
