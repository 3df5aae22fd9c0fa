//! Reports: that they are whole, agree with `score`, and leave nothing behind when they fail.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
#[path = "common/tiny_nets.rs"]
mod tiny_nets;

use std::path::Path;

use common::{Workplace, entries};
use serde_json::Value;
use tunableconv::checkpoint::{Architecture, Checkpoint, Metadata, Provenance};
use tunableconv::nn::VideoNetConfig;
use tunableconv::tuning::{Domain, Parameter, TuningSpace};

const PHOTOGRAPHS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data");

/// A net whose every tensor is noise, with parameters of these names.
fn checkpoint(at: &Workplace, domain: Domain, names: &[&str]) {
    let parameters = names.iter().map(|name| Parameter {
        name: (*name).into(),
        nick: "Knob".into(),
        blurb: "Turns".into(),
        minimum: 0.0,
        maximum: 1.0,
        default: if domain == Domain::Simplex { 1.0 / names.len() as f64 } else { 0.0 },
        objective: "turned".into(),
    });
    let net = VideoNetConfig { channels: 4, layers: 1, ..Default::default() };
    let metadata = Metadata {
        architecture: Architecture::Video(net),
        tuning: TuningSpace { domain, parameters: parameters.collect() },
        provenance: Provenance { recipe: "noise".into(), ..Default::default() },
        calibration: None,
    };
    let values = metadata.tensors().into_iter().enumerate().map(|(index, spec)| {
        let mut state = index as u32 + 1;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            0.4 * ((state >> 8) as f32 / (1 << 24) as f32 - 0.5)
        };
        let count: usize = spec.shape.iter().product();
        (spec.name, (0..count).map(|_| next()).collect())
    });
    let checkpoint = Checkpoint { tensors: values.collect(), metadata };
    checkpoint.write(&at.path("c.safetensors")).unwrap();
}

fn workplace() -> Workplace {
    let at = Workplace::new();
    checkpoint(&at, Domain::Box, &["denoise", "deblur"]);
    at
}

fn report(at: &Workplace, dir: &str) -> Value {
    serde_json::from_slice(&at.read(&format!("{dir}/report.json"))).unwrap()
}

/// A clip of 16×12 pixels; each frame's luma is `shift` more than a pattern.
fn clip(at: &Workplace, name: &str, shifts: &[u8]) {
    let mut bytes = b"YUV4MPEG2 W16 H12 F25:1 Ip A1:1 C420jpeg\n".to_vec();
    for shift in shifts {
        bytes.extend(b"FRAME\n");
        bytes.extend((0..16 * 12).map(|i| 60 + (i * 37 % 90) as u8 + shift));
        bytes.extend([128; 16 * 12 / 2]);
    }
    std::fs::write(at.path(name), bytes).unwrap();
}

#[test]
fn a_report_is_whole_and_agrees_with_score() {
    let at = workplace();
    let printed = at.succeed(&format!(
        "evaluate c.safetensors --data {PHOTOGRAPHS} --out r --noise 25 --blur 1.5"
    ));
    assert!(printed.contains("report.md"));
    for name in ["response-denoise.svg", "response-deblur.svg"] {
        let svg = String::from_utf8(at.read(&format!("r/{name}"))).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        for part in ["[dB]", "minimum (0)", "blur 1.5"] {
            assert!(svg.contains(part), "{name} lacks {part}");
        }
    }
    assert!(image::open(at.path("r/sheet.png")).unwrap().width() > 4 * 100);
    assert_eq!(entries(&at.path("r")), 5, "and report.md and report.json");
    let left = std::fs::read_dir(at.path("")).unwrap().map(|e| e.unwrap().file_name());
    assert!(!left.into_iter().any(|name| name.to_string_lossy().ends_with(".tmp")));

    let report = report(&at, "r");
    assert_eq!(report["images"], 2);
    let conditions = report["conditions"].as_array().unwrap();
    let strengths: Vec<_> = conditions.iter().map(|c| c["condition"].as_str().unwrap()).collect();
    assert_eq!(strengths, ["noise:25", "blur:1.5", "blur:1.5+noise:25"]);
    let both = &conditions[2];
    assert_eq!(both["points"].as_array().unwrap().len(), 9);
    let score = |rest: &str| -> Value {
        let json = at.succeed(&format!(
            "score c.safetensors --data {PHOTOGRAPHS} --noise 25 --blur 1.5 --json {rest}"
        ));
        serde_json::from_str(&json).unwrap()
    };
    // Corner 1 has denoise alone on, the fifth edge of the nine points is looked up by its tuning.
    for (tuning, names) in [([1.0, 0.0], "denoise=1"), ([0.5, 1.0], "denoise=0.5,deblur=1")] {
        let points = both["points"].as_array().unwrap();
        let point = points.iter().find(|p| p["tuning"] == serde_json::json!(tuning)).unwrap();
        let clean = score(&format!("--tuning {names}"));
        for key in ["psnr_y", "psnr_uv", "ssim_y"] {
            assert_eq!(point["clean"][key], clean[key], "{names} {key}");
        }
        assert_eq!(both["input"]["psnr_y"], clean["input_psnr_y"]);
        if names == "denoise=1" {
            let own = score("--tuning denoise=1 --keep blur");
            assert_eq!(point["own"]["psnr_y"], own["psnr_y"]);
        } else {
            assert!(point["own"].is_null(), "only corners have a target of their own");
        }
    }

    let zero = &both["points"][0];
    assert_eq!((&zero["identity"], &zero["own"]["identical"]), (&true.into(), &2.into()));
    let markdown = String::from_utf8(at.read("r/report.md")).unwrap();
    let row = markdown.lines().find(|line| line.contains("(passed through)")).unwrap();
    assert!(row.contains("denoise 0, deblur 0") && row.contains("| identical |"), "{row}");

    // The sweep of denoise goes through the same numbers.
    let control = report["control"].as_array().unwrap();
    let denoise = control
        .iter()
        .find(|c| c["parameter"] == "denoise" && c["condition"] == "blur:1.5+noise:25")
        .expect("denoise is swept where there is noise");
    assert_eq!(denoise["way"].as_array().unwrap().len(), 13);
    let at_one = denoise["psnr_y"][11].as_f64().unwrap();
    let own = score("--tuning denoise=1 --keep blur")["psnr_y"].as_f64().unwrap();
    assert!((at_one - own).abs() < 1e-9, "{at_one} {own}");
    assert!(!control.iter().any(|c| c["parameter"] == "deblur" && c["condition"] == "noise:25"));
}

#[test]
fn any_domain_is_reported() {
    for (domain, names, points) in [
        (Domain::Box, &["strength"][..], 5),
        (Domain::Simplex, &["keep", "denoise"][..], 5),
        (Domain::Simplex, &["a", "b", "c"][..], 7),
    ] {
        let at = Workplace::new();
        checkpoint(&at, domain, names);
        at.succeed("evaluate c.safetensors --data data --out r --noise 25 --blur 0 --images 1");
        let report = report(&at, "r");
        assert_eq!(report["images"], 1);
        assert_eq!(
            report["conditions"][0]["points"].as_array().unwrap().len(),
            points,
            "{names:?}"
        );
        let swept: Vec<_> =
            report["control"].as_array().unwrap().iter().map(|c| c["parameter"].clone()).collect();
        assert_eq!(swept, names, "{domain:?}");
    }
}

#[test]
fn a_corner_keeps_what_its_parameters_do_not_undo() {
    let at = Workplace::new();
    checkpoint(&at, Domain::Simplex, &["keep", "remove"]);
    at.succeed(
        "evaluate c.safetensors --data data --out r --noise 25 --blur 0 --undoes remove=noise",
    );
    let points = report(&at, "r")["conditions"][0]["points"].clone();
    // Vertex `remove` aims at the clean picture, vertex `keep` at the noisy one.
    assert_eq!(points[1]["own"]["psnr_y"], points[1]["clean"]["psnr_y"]);
    assert_ne!(points[0]["own"]["psnr_y"], points[0]["clean"]["psnr_y"]);
    let error = at.fail("evaluate c.safetensors --data data --out s --undoes other=noise");
    assert!(error.contains("no parameter `other`"), "{error}");
}

#[test]
fn flicker_is_none_for_a_static_scene_until_the_tuning_moves() {
    let at = workplace();
    clip(&at, "static.y4m", &[0; 4]);
    clip(&at, "moving.y4m", &[0, 30, 0, 30]);
    let flicker = |name: &str| {
        let line =
            "evaluate c.safetensors --data data --images 1 --noise 25 --blur 0 --out r --clip";
        at.succeed(&format!("{line} {name}"));
        report(&at, "r")["flicker"].as_array().unwrap().clone()
    };
    for f in flicker("static.y4m") {
        assert_eq!(f["fixed"], 0.0, "{f}");
        assert!(f["ramp"].as_f64().unwrap() > 0.0, "{f}");
        assert_eq!(f["added"], f["ramp"]);
        assert_eq!(f["ramp_frames"].as_array().unwrap().len(), 3);
    }
    assert!(at.path("r/flicker-denoise.svg").exists());
    assert!(flicker("moving.y4m").iter().all(|f| f["fixed"].as_f64().unwrap() > 0.0));
}

#[test]
fn broken_images_are_skipped_and_counted() {
    let at = workplace();
    std::fs::write(at.path("data/broken.png"), b"no").unwrap();
    common::picture(8, 8, 0).save(at.path("data/small.png")).unwrap();
    at.succeed("evaluate c.safetensors --data data --out r --noise 25 --blur 0");
    let report = report(&at, "r");
    assert_eq!((&report["images"], &report["skipped"]), (&3.into(), &2.into()));
}

#[test]
fn what_fails_leaves_nothing_behind() {
    let at = workplace();
    clip(&at, "one.y4m", &[0]);
    clip(&at, "short.y4m", &[0, 0, 0]);
    let bytes = at.read("short.y4m");
    std::fs::write(at.path("short.y4m"), &bytes[..bytes.len() - 1]).unwrap();
    std::fs::create_dir(at.path("empty")).unwrap();
    std::fs::create_dir(at.path("mine")).unwrap();
    std::fs::write(at.path("mine/notes.txt"), b"keep").unwrap();
    std::fs::create_dir(at.path("broken")).unwrap();
    std::fs::write(at.path("broken/a.png"), b"no").unwrap();
    let before = entries(&at.path(""));
    for (rest, expected) in [
        ("--data nowhere --out r", "nowhere"),
        ("--data empty --out r", "empty"),
        ("--data broken --out r", "broken"),
        ("--data data --out mine", "not an earlier report"),
        ("--data data --out c.safetensors", "not a directory"),
        ("--data data --out r --clip none.y4m", "none.y4m"),
        ("--data data --out r --clip one.y4m", "two frames"),
        ("--data data --out r --clip short.y4m", "cut short"),
        ("--data data --out r --noise nan", "noise"),
        ("--data data --out r --noise 0 --blur 0", "no condition"),
    ] {
        let error = at.fail(&format!("evaluate c.safetensors {rest}"));
        assert!(error.contains(expected), "{rest}: {error}");
        assert_eq!(entries(&at.path("")), before, "{rest}");
    }
    assert_eq!(at.read("mine/notes.txt"), b"keep");
}

#[test]
fn an_earlier_report_is_replaced_unless_files_were_added() {
    let at = workplace();
    let line = "evaluate c.safetensors --data data --images 1 --out r --noise";
    at.succeed(&format!("{line} 25 --blur 1"));
    assert!(Path::exists(&at.path("r/response-deblur.svg")));
    at.succeed(&format!("{line} 15 --blur 0"));
    assert!(!at.path("r/response-deblur.svg").exists());
    assert_eq!(report(&at, "r")["conditions"][0]["condition"], "noise:15");
    std::fs::write(at.path("r/notes.txt"), b"keep").unwrap();
    assert!(at.fail(&format!("{line} 25 --blur 0")).contains("notes.txt"));
    assert_eq!(report(&at, "r")["conditions"][0]["condition"], "noise:15");
}

#[test]
fn lpips_joins_the_tables_when_its_weights_are_given() {
    let at = workplace();
    candle_core::safetensors::save(&tiny_nets::tiny_squeezenet(), at.path("net.safetensors"))
        .unwrap();
    candle_core::safetensors::save(&tiny_nets::tiny_heads(), at.path("heads.safetensors")).unwrap();
    let line = format!("evaluate c.safetensors --data {PHOTOGRAPHS} --out r --noise 25 --blur 0");
    let weights = "--lpips net.safetensors --lpips-heads heads.safetensors";
    at.succeed(&format!("{line} {weights}"));
    assert!(String::from_utf8(at.read("r/report.md")).unwrap().contains("LPIPS"));
    let report = report(&at, "r");
    let condition = &report["conditions"][0];
    let input = condition["input"]["lpips"].as_f64().unwrap();
    assert!(input > 0.0 && input.is_finite());
    // The first point is ω = 0, the identity.
    let identity = &condition["points"][0];
    assert_eq!(identity["tuning"], serde_json::json!([0.0, 0.0]));
    assert_eq!(identity["clean"]["lpips"], condition["input"]["lpips"]);
    assert_eq!(identity["own"]["lpips"], 0.0);

    // What is too small for SqueezeNet is left out.
    common::picture(16, 40, 0).save(at.path("data/small.png")).unwrap();
    let small = format!("evaluate c.safetensors --data data --out s --noise 25 --blur 0 {weights}");
    let said = at.command(&small).output().unwrap();
    assert!(said.status.success());
    let said = String::from_utf8(said.stderr).unwrap();
    assert!(said.contains("small.png: 16x40, expected sides of 17 to 8192 pixels"), "{said}");

    assert!(at.fail(&format!("{line} --lpips net.safetensors")).contains("--lpips-heads"));
    let swapped = "--lpips heads.safetensors --lpips-heads net.safetensors";
    assert!(at.fail(&format!("{line} {swapped}")).contains("heads.safetensors"));
}
