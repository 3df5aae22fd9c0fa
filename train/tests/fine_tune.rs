//! Runs that start from a checkpoint: wide kernels, and int8.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{RECIPE, Workplace};
use tunableconv::checkpoint::Checkpoint;

#[test]
fn a_wide_run_exports_the_small_net_and_starts_from_a_checkpoint() {
    let at = Workplace::new();
    at.succeed("train tiny.toml --data data --run small");
    let wide = RECIPE.replace("steps = 12", "steps = 12\noverparameterise = { channels = 16 }");
    std::fs::write(at.path("wide.toml"), wide).unwrap();
    at.succeed("train wide.toml --data data --run wide");
    let small = Checkpoint::read(&at.path("small/checkpoint.safetensors")).unwrap();
    let wide = Checkpoint::read(&at.path("wide/checkpoint.safetensors")).unwrap();
    assert!(small.tensors.keys().eq(wide.tensors.keys()));
    assert!(small.tensors != wide.tensors);

    // Nothing is lost where a run starts from a checkpoint: after a step of no length, it is that.
    let still = |text: &str| {
        text.replace("learning_rate = 1e-3", "learning_rate = 1e-30")
            .replace("final_learning_rate = 1e-5", "final_learning_rate = 1e-30")
            .replace("steps = 12", "steps = 1")
    };
    for name in ["tiny", "wide"] {
        let text = std::fs::read_to_string(at.path(&format!("{name}.toml"))).unwrap();
        std::fs::write(at.path("still.toml"), still(&text)).unwrap();
        let run = format!("from-{name}");
        at.succeed(&format!(
            "train still.toml --data data --run {run} --from small/checkpoint.safetensors"
        ));
        let same = Checkpoint::read(&at.path(&format!("{run}/checkpoint.safetensors"))).unwrap();
        for (name, values) in &small.tensors {
            for (a, b) in values.iter().zip(&same.tensors[name]) {
                assert!((a - b).abs() < 1e-6, "{name}: {a} {b}");
            }
        }
        assert_eq!(same.metadata.provenance.recipe, "tiny, then tiny");
        assert_eq!(same.metadata.provenance.steps, 13);
    }
    let other = RECIPE.replace("channels = 4", "channels = 5");
    std::fs::write(at.path("other.toml"), other).unwrap();
    let error = at.fail("train other.toml --data data --run x --from small/checkpoint.safetensors");
    assert!(error.contains("small/checkpoint.safetensors"), "{error}");
    assert!(!at.path("x").exists());
}

/// A workplace with a calibrated checkpoint, `f32/checkpoint.safetensors`, and a recipe that
/// trains its int8, `int8.toml`.
fn calibrated() -> Workplace {
    let at = Workplace::new();
    let text = RECIPE.replace("channels = 4", "channels = 8");
    std::fs::write(at.path("f32.toml"), &text).unwrap();
    at.succeed("train f32.toml --data data --run f32 --steps 60");
    let quantised = text.replace("steps = 12", "steps = 300\nquantised = true");
    std::fs::write(at.path("int8.toml"), quantised).unwrap();
    at
}

#[test]
fn quantised_runs_need_a_calibrated_checkpoint() {
    let at = calibrated();
    let error = at.fail("train int8.toml --data data --run x");
    assert!(error.contains("--from"), "{error}");
    let error = at.fail("train int8.toml --data data --run x --from f32/checkpoint.safetensors");
    assert!(error.contains("calibrate"), "{error}");
    assert!(error.contains("f32/checkpoint.safetensors"), "{error}");
    assert!(!at.path("x").exists());
}

#[test]
fn a_killed_quantised_run_resumes_and_keeps_its_ranges() {
    let at = calibrated();
    at.succeed("calibrate f32/checkpoint.safetensors --data data");
    let from = "--from f32/checkpoint.safetensors --save-every 7";
    at.succeed(&format!("train int8.toml --data data --run whole {from}"));
    let line = format!("train int8.toml --data data --run killed {from}");
    at.kill_run("killed", &line);
    // The start is the run's own: the checkpoint it was read from may be gone.
    std::fs::rename(at.path("f32"), at.path("gone")).unwrap();
    at.succeed("train --resume --run killed --data data --save-every 7");
    assert!(at.read("killed/state.safetensors") == at.read("whole/state.safetensors"));
    assert!(at.read("killed/checkpoint.safetensors") == at.read("whole/checkpoint.safetensors"));

    let before = Checkpoint::read(&at.path("gone/checkpoint.safetensors")).unwrap();
    let after = Checkpoint::read(&at.path("whole/checkpoint.safetensors")).unwrap();
    assert!(before.tensors["head.activations"] != after.tensors["head.activations"]);
    let calibration = after.metadata.calibration.unwrap();
    assert!(calibration.data.contains("then trained by tiny"), "{}", calibration.data);
}
