//! Runs that start from a checkpoint: wide kernels, and int8.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{RECIPE, Workplace, picture};
use tunableconv::checkpoint::Checkpoint;
use tunableconv::engine::{self, Options};
use tunableconv::frame::Range;
use tunableconv_train::rgb::Rgb;
use tunableconv_train::score::filter;
use tunableconv_train::yuv::{Matrix, Yuv420};

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
}

#[test]
fn a_run_starts_from_what_fits_of_another_net() {
    let at = Workplace::new();
    let still = RECIPE
        .replace("learning_rate = 1e-3", "learning_rate = 1e-30")
        .replace("final_learning_rate = 1e-5", "final_learning_rate = 1e-30");
    let knob = |name: &str| {
        format!(
            "  {{ name = \"{name}\", nick = \"x\", blurb = \"x\", minimum = 0.0, maximum = 1.0, \
             default = 0.0, objective = \"x\" }},\n"
        )
    };
    let clip = picture(40, 32, 7);
    let filtered = |checkpoint: &str, tuning: &str| {
        let checkpoint = Checkpoint::read(&at.path(checkpoint)).unwrap();
        let mut engine = engine::open(&checkpoint, &Options::default()).unwrap();
        let named: Vec<(String, f64)> =
            tuning.split(',').map(|name| (name.to_owned(), 0.7)).collect();
        engine.set_tuning(&checkpoint.metadata.tuning.tuning_from_names(&named).unwrap()).unwrap();
        let mut yuv = Yuv420::from_rgb(&Rgb::from_image(&clip), Matrix::Bt601, Range::Limited);
        yuv.round_to_8bit();
        filter(engine.as_mut(), &yuv).unwrap()
    };
    for mode in ["mlp\", expand = 2", "multilinear\", expand = 1", "linear\", expand = 1"] {
        let of_mode = |text: &str| text.replace("mlp\", expand = 2", mode);
        std::fs::write(at.path("tiny.toml"), of_mode(RECIPE)).unwrap();
        let _ = std::fs::remove_dir_all(at.path("small"));
        at.succeed("train tiny.toml --data data --run small --steps 40");
        // One knob more, before the others.
        let more =
            still.replace("parameters = [\n", &format!("parameters = [\n{}", knob("dejpeg")));
        let link = "[[degradations]]\nparameter = \"dejpeg\"\n\
                    degradation = { kind = \"jpeg\", quality = [20, 60] }\n\n[batch]";
        let more =
            more.replace("[batch]", link).replace("samples = [", "samples = [[\"dejpeg\"], ");
        std::fs::write(at.path("more.toml"), of_mode(&more)).unwrap();
        let line = "train more.toml --data data --run more --from small/checkpoint.safetensors";
        let run = at.command(line).assert().success();
        let told = String::from_utf8(run.get_output().stderr.clone()).unwrap();
        assert!(told.contains("taken are the layers body.0, head, tail; without effect yet are the parameters dejpeg"), "{told}");
        let (before, after) = ("small/checkpoint.safetensors", "more/checkpoint.safetensors");
        for tuning in ["denoise", "denoise,deblur", "deblur"] {
            let same = filtered(before, tuning);
            assert!(same == filtered(after, tuning), "{mode}: {tuning}");
            assert!(same == filtered(after, &format!("{tuning},dejpeg")), "{mode}: {tuning}");
        }
        assert!(filtered(before, "denoise") != filtered(before, "deblur"));
        std::fs::remove_dir_all(at.path("more")).unwrap();

        // More channels.
        let wide = still
            .replace("channels = 4", "channels = 7")
            .replace("steps = 12", "steps = 12\noverparameterise = { channels = 8 }");
        std::fs::write(at.path("wide.toml"), of_mode(&wide)).unwrap();
        let line = "train wide.toml --data data --run wide --from small/checkpoint.safetensors";
        let run = at.command(line).assert().success();
        let told = String::from_utf8(run.get_output().stderr.clone()).unwrap();
        assert!(told.contains("wider are the layers body.0, head, tail"), "{told}");
        for tuning in ["denoise", "denoise,deblur", "deblur"] {
            same(&filtered(before, tuning), &filtered("wide/checkpoint.safetensors", tuning));
        }
        std::fs::remove_dir_all(at.path("wide")).unwrap();
    }

    // Where the sum of coefficients is 1, a layer more passes on what it is given.
    let linear = |text: &str| {
        text.replace("mlp\", expand = 2", "multilinear\", expand = 1")
            .replace("negative_slope = 0.1", "negative_slope = 0.9999")
    };
    std::fs::write(at.path("tiny.toml"), linear(RECIPE)).unwrap();
    std::fs::remove_dir_all(at.path("small")).unwrap();
    at.succeed("train tiny.toml --data data --run small --steps 40");
    let deep =
        linear(&still).replace("layers = 1", "layers = 3").replace("channels = 4", "channels = 6");
    std::fs::write(at.path("deep.toml"), deep).unwrap();
    let line = "train deep.toml --data data --run deep --from small/checkpoint.safetensors";
    let run = at.command(line).assert().success();
    let told = String::from_utf8(run.get_output().stderr.clone()).unwrap();
    assert!(
        told.contains("passing on what they are given are the layers body.1, body.2"),
        "{told}"
    );
    assert!(!told.contains("fresh"), "{told}");
    for tuning in ["denoise", "deblur"] {
        same(
            &filtered("small/checkpoint.safetensors", tuning),
            &filtered("deep/checkpoint.safetensors", tuning),
        );
    }

    // Of a narrower net nothing fits, and of a deeper one all but the layers that there were not.
    std::fs::write(at.path("tiny.toml"), RECIPE).unwrap();
    at.succeed("train tiny.toml --data data --run mlp");
    let from = "--data data --from mlp/checkpoint.safetensors --run x";
    std::fs::write(at.path("other.toml"), RECIPE.replace("channels = 4", "channels = 3")).unwrap();
    let error = at.fail(&format!("train other.toml {from}"));
    assert!(error.contains("mlp/checkpoint.safetensors: no layer of it fits"), "{error}");
    assert!(!at.path("x").exists());
    std::fs::write(at.path("other.toml"), RECIPE.replace("layers = 1", "layers = 2")).unwrap();
    let run = at.command(&format!("train other.toml {from}")).assert().success();
    let told = String::from_utf8(run.get_output().stderr.clone()).unwrap();
    assert!(told.contains("taken are the layers body.0, head, tail; fresh are the layers body.1"));
}

/// Pictures that are the same but for the order of sums: a code is rounded up instead of down here and there.
fn same(a: &Yuv420, b: &Yuv420) {
    let (a, b) = ([&a.y, &a.u, &a.v], [&b.y, &b.u, &b.v]);
    let differences: Vec<f32> = a
        .into_iter()
        .flatten()
        .zip(b.into_iter().flatten())
        .map(|(a, b)| (a - b).abs())
        .filter(|difference| *difference > 0.0)
        .collect();
    assert!(differences.len() < 10 && differences.iter().all(|d| *d <= 1.0), "{differences:?}");
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
    assert!(calibration.bounds, "what it learned is to clamp");
}
