//! Runs with every family of losses: all of their objectives fall, and nothing is lost on a kill.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
#[path = "common/tiny_nets.rs"]
mod tiny_nets;

use common::{RECIPE, Workplace, picture};

/// The recipe of all tests with more to learn, and these tables added.
fn recipe(domain: &str, tables: &str) -> String {
    let text = RECIPE
        .replace("channels = 4", "channels = 8")
        .replace("\"box\"", &format!("{domain:?}"))
        .replace("default = 1.0", "default = 0.5")
        .replace("default = 0.0", "default = 0.5")
        .replace("crop = 16", "crop = 32")
        .replace("micro_batches = 2", "micro_batches = 4")
        .replace("sigma = [0.0, 50.0]", "sigma = [40.0, 50.0]")
        .replace("sigma = [0.0, 2.0]", "sigma = [1.0, 2.0]")
        .replace("learning_rate = 1e-3", "learning_rate = 4e-3");
    format!("{text}\n{tables}")
}

/// Trains for 200 steps; every column of an objective must end below its beginning.
fn every_objective_falls(at: &Workplace, recipe: &str, expected: &[&str], options: &str) {
    std::fs::write(at.path("family.toml"), recipe).unwrap();
    at.succeed(&format!(
        "train family.toml --data data --run family --steps 200 --log-every 40 {options}"
    ));
    let log = String::from_utf8(at.read("family/metrics.csv")).unwrap();
    let lines: Vec<Vec<&str>> = log.lines().map(|line| line.split(',').collect()).collect();
    let first_objective = lines[0].iter().position(|c| *c == "live_channels").unwrap() + 1;
    let columns: Vec<&str> =
        lines[0][first_objective..].iter().copied().filter(|c| *c != "discriminator").collect();
    assert_eq!(columns, expected);
    for (column, name) in columns.iter().enumerate() {
        let values: Vec<f64> =
            lines[1..].iter().map(|line| line[first_objective + column].parse().unwrap()).collect();
        println!("{name}: {values:?}");
        assert!(values.last() < values.first(), "{name}: {values:?}");
    }
}

fn write_features(at: &Workplace) {
    candle_core::safetensors::save(&tiny_nets::tiny_vgg(), at.path("vgg.safetensors")).unwrap();
}

const DISCRIMINATOR: &str = r#"
[discriminator]
loss = "KIND"
net = { channels = 8, layers = 2 }
learning_rate = 2e-5
"#;

#[test]
fn pixel_losses_fall() {
    let tables = r#"
[[objectives]]
parameter = "denoise"
loss = { kind = "l1" }

[[objectives]]
parameter = "deblur"
target = "restored"
weight = 2.0
loss = { kind = "charbonnier", epsilon = 1e-3 }

[[objectives]]
weight = 0.1
loss = { kind = "l2" }
"#;
    let expected = ["denoise.l1", "deblur.charbonnier", "l2"];
    every_objective_falls(&Workplace::new(), &recipe("box", tables), &expected, "");
}

#[test]
fn noise_preservation_falls() {
    let tables = r#"
[[objectives]]
parameter = "denoise"
loss = { kind = "l2" }

[[objectives]]
parameter = "deblur"
target = "input"
loss = { kind = "l1" }
"#;
    let expected = ["denoise.l2", "deblur.l1"];
    every_objective_falls(&Workplace::new(), &recipe("simplex", tables), &expected, "");
}

#[test]
fn structural_losses_fall() {
    let tables = r#"
[[objectives]]
parameter = "denoise"
loss = { kind = "ssim" }

[[objectives]]
parameter = "deblur"
loss = { kind = "ms-ssim" }
"#;
    let expected = ["denoise.ssim", "deblur.ms-ssim"];
    every_objective_falls(&Workplace::new(), &recipe("simplex", tables), &expected, "");
}

#[test]
fn style_content_and_total_variation_fall_with_adaptive_weights() {
    let at = Workplace::new();
    write_features(&at);
    picture(600, 40, 9).save(at.path("style.png")).unwrap();
    let tables = r#"
[[objectives]]
parameter = "denoise"
loss = { kind = "style", image = "style.png" }

[[objectives]]
parameter = "deblur"
loss = { kind = "features" }

[[objectives]]
parameter = "denoise"
weight = 3.0
loss = { kind = "total-variation" }
"#;
    let text = recipe("simplex", tables).replace("seed = 3", "seed = 3\nadaptive_weights = true");
    let expected = ["denoise.style", "deblur.features", "denoise.total-variation"];
    every_objective_falls(&at, &text, &expected, "--features vgg.safetensors");

    // The run knows where its feature network was.
    let resume = "train --resume --run family --data data";
    at.succeed(resume);
    picture(8, 8, 1).save(at.path("other.png")).unwrap();
    let mut other = at.read("vgg.safetensors");
    *other.last_mut().unwrap() ^= 1;
    std::fs::write(at.path("other.safetensors"), other).unwrap();
    let error = at.fail(&format!("{resume} --features other.safetensors"));
    assert!(error.contains("another feature network"), "{error}");

    // Taps are named, and those of the net.
    let of_tap = |tap: &str| {
        let taps = format!("kind = \"features\", taps = [\"{tap}\"], relative = true");
        let centred = "image = \"style.png\", centred = true, relative = true";
        text.replace("kind = \"features\"", &taps).replace("image = \"style.png\"", centred)
    };
    std::fs::write(at.path("tap.toml"), of_tap("relu2_1")).unwrap();
    at.succeed("train tap.toml --data data --run tap --features vgg.safetensors --steps 2");
    std::fs::write(at.path("tap.toml"), of_tap("fire5")).unwrap();
    let error = at.fail("train tap.toml --data data --run gone --features vgg.safetensors");
    assert!(error.contains("deblur.features") && error.contains("`fire5` in VGG-19"), "{error}");
}

#[test]
fn adversarial_losses_fall() {
    for (kind, weight) in [("hinge", "0.002"), ("relativistic", "0.02")] {
        let tables = r#"
[[objectives]]
parameter = "denoise"
loss = { kind = "l1" }

[[objectives]]
parameter = "deblur"
weight = WEIGHT
loss = { kind = "adversarial" }
"#;
        let tables = tables.replace("WEIGHT", weight) + &DISCRIMINATOR.replace("KIND", kind);
        let expected = ["denoise.l1", "deblur.adversarial"];
        every_objective_falls(&Workplace::new(), &recipe("simplex", &tables), &expected, "");
    }
}

#[test]
fn a_killed_adversarial_run_resumes_to_the_weights_of_an_uninterrupted_one() {
    let at = Workplace::new();
    let tables = format!(
        "[[objectives]]\nparameter = \"denoise\"\nloss = {{ kind = \"adversarial\" }}\n\
         [[objectives]]\nloss = {{ kind = \"corner-targets\" }}\n{}",
        DISCRIMINATOR.replace("KIND", "relativistic")
    );
    let text = RECIPE.replace("steps = 12", "steps = 400\nadaptive_weights = true");
    std::fs::write(at.path("gan.toml"), format!("{text}\n{tables}")).unwrap();
    at.succeed("train gan.toml --data data --run whole --save-every 7");

    at.kill_run("killed", "train gan.toml --data data --run killed --save-every 7");
    assert!(at.read("killed/state.safetensors") != at.read("whole/state.safetensors"));
    at.succeed("train --resume --run killed --data data --save-every 7");
    let state = at.read("killed/state.safetensors");
    assert!(state == at.read("whole/state.safetensors"));
    assert!(at.read("killed/checkpoint.safetensors") == at.read("whole/checkpoint.safetensors"));
    let state = safetensors::SafeTensors::deserialize(&state).unwrap();
    assert!(state.names().iter().any(|name| name.starts_with("m.discriminator.")));
    assert_eq!(state.tensor("objective_means").unwrap().shape(), [2]);
}

#[test]
fn impossible_objectives_are_refused_by_name() {
    let at = Workplace::new();
    let refused = |tables: &str, expected: &str| {
        std::fs::write(at.path("bad.toml"), format!("{RECIPE}\n{tables}")).unwrap();
        let error = at.fail("train bad.toml --data data --run bad");
        assert!(error.contains("bad.toml") && error.contains(expected), "{error}");
        assert!(!at.path("bad").exists());
    };
    let objective = |text: &str| format!("[[objectives]]\n{text}\n");
    let l1 = "loss = { kind = \"l1\" }";
    refused(&objective(&format!("parameter = \"grain\"\n{l1}")), "`grain`");
    refused(&objective(&format!("weight = -1.0\n{l1}")), "weight = -1");
    refused(&objective(&format!("target = \"restored\"\n{l1}")), "restored");
    refused(&objective(&format!("off = true\n{l1}")), "off");
    refused(&objective(&format!("target = \"sharp\"\n{l1}")), "sharp");
    refused(&objective("loss = { kind = \"l3\" }"), "l3");
    refused(&objective("loss = { kind = \"charbonnier\", epsilon = 0.0 }"), "epsilon");
    refused(&objective("loss = { kind = \"adversarial\" }"), "[discriminator]");
    refused(&objective("target = \"clean\"\nloss = { kind = \"total-variation\" }"), "target");
    refused(&(objective(l1) + &objective(l1)), "twice");
    refused(
        &objective("parameter = \"deblur\"\nloss = { kind = \"corner-targets\" }"),
        "corner-targets",
    );
    std::fs::write(
        at.path("bad.toml"),
        format!(
            "{RECIPE}\n{}{}",
            objective("parameter = \"denoise\"\nloss = { kind = \"features\" }"),
            objective("parameter = \"deblur\"\nloss = { kind = \"features\" }")
        ),
    )
    .unwrap();
    assert!(at.fail("train bad.toml --data data --run bad").contains("--features"));
    assert!(!at.path("bad").exists());
    std::fs::write(at.path("bad.safetensors"), b"no tensors").unwrap();
    let error = at.fail("train bad.toml --data data --run bad --features bad.safetensors");
    assert!(error.contains("bad.safetensors"), "{error}");
    assert!(!at.path("bad").exists());
}
