//! `make models`: from photographs to the model that the project carries.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
#[path = "common/tiny_nets.rs"]
mod tiny_nets;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use common::{Workplace, picture};
use tunableconv::checkpoint::Checkpoint;

/// Runs the script with few steps.
fn models(at: &Workplace, steps: &str) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("models.sh");
    Command::new(script)
        .arg(at.path("runs"))
        .arg(at.path("large"))
        .env("TRAINER", env!("CARGO_BIN_EXE_tunableconv-train"))
        .env("STEPS", steps)
        .env("CLIPS", "6")
        .env("FEATURES", at.path("features.safetensors"))
        .env("VGG", at.path("vgg.safetensors"))
        .output()
        .unwrap()
}

#[test]
fn photographs_become_the_model_and_what_was_done_is_not_done_again() {
    let at = Workplace::new();
    fs::create_dir(at.path("large")).unwrap();
    for index in 0..2 {
        let name = format!("large/{index}.png");
        picture(256, 256, index).save(at.path(&name)).unwrap();
    }
    for (net, name) in [(tiny_nets::tiny_squeezenet(), "features"), (tiny_nets::tiny_vgg(), "vgg")]
    {
        candle_core::safetensors::save(&net, at.path(&format!("{name}.safetensors"))).unwrap();
    }
    // Stopped after the first run, which is then not begun again.
    let made = models(&at, "2");
    let errors = String::from_utf8_lossy(&made.stderr).into_owned();
    assert!(made.status.success(), "{errors}");
    let path = String::from_utf8(made.stdout).unwrap();
    let path = Path::new(path.lines().last().unwrap());
    let (first, bytes) = (Checkpoint::read(path).unwrap(), fs::read(path).unwrap());
    let built_in = Checkpoint::built_in().unwrap().metadata;
    assert_eq!(first.metadata.architecture, built_in.architecture);
    assert_eq!(first.metadata.tuning, built_in.tuning);
    assert!(first.metadata.calibration.is_some());
    assert_eq!(first.metadata.provenance.steps, 6);
    assert_eq!(first, first.clone().rounded_to_half());
    let larger = Checkpoint::read(&at.path("runs/broadcast-hq.safetensors")).unwrap();
    assert_eq!(larger.metadata.tuning, built_in.tuning);
    assert!(larger.metadata.calibration.is_some());
    assert_eq!(larger, larger.clone().rounded_to_half());
    assert_eq!(larger.metadata.provenance.steps, 6 + 4);
    let upscale = Checkpoint::read(&at.path("runs/upscale2x.safetensors")).unwrap();
    assert_eq!(upscale.metadata.architecture.io().scale, 2);
    assert!(upscale.metadata.calibration.is_some());
    assert_eq!(upscale.metadata.provenance.steps, 4);
    let style = Checkpoint::read(&at.path("runs/style.safetensors")).unwrap();
    assert_eq!(style.metadata.tuning.len(), 3);
    assert!(style.metadata.calibration.is_some());
    assert_eq!(style.metadata.provenance.steps, 4);

    fs::remove_dir_all(at.path("runs/narrowed")).unwrap();
    let read = || ["calibrated", "narrowed"].map(|n| at.read(&format!("runs/{n}.safetensors")));
    let ranges = read();
    let again = models(&at, "2");
    let errors = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(again.status.success(), "{errors}");
    assert!(read() == ranges, "other ranges");
    assert!(fs::read(path).unwrap() == bytes, "another model");
    // Nor is a model of few steps taken for one of all.
    let more = models(&at, "");
    let errors = String::from_utf8_lossy(&more.stderr).into_owned();
    assert!(!more.status.success() && errors.contains("was begun with STEPS=2"), "{errors}");
}

#[test]
fn without_photographs_it_says_how_to_call_it() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("models.sh");
    let output = Command::new(script).arg("runs").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().starts_with("usage: "));
}
