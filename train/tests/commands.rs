//! The other commands on a checkpoint that a short run made.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::HashMap;

use candle_core::{Device, Tensor};
use common::{Workplace, picture};
use tunableconv::net::Net;

fn trained() -> Workplace {
    let at = Workplace::new();
    at.succeed("train tiny.toml --data data --run run");
    std::fs::rename(at.path("run/checkpoint.safetensors"), at.path("c.safetensors")).unwrap();
    at
}

fn save(at: &Workplace, name: &str, tensors: &[(&str, Tensor)]) {
    let tensors: HashMap<_, _> = tensors.iter().cloned().collect();
    candle_core::safetensors::save(&tensors, at.path(name)).unwrap();
}

#[test]
fn forward_is_the_nets_own_output_with_a_tuning_per_sample() {
    let at = trained();
    let x = Tensor::rand(0f32, 1., (3, 6, 7, 10), &Device::Cpu).unwrap();
    let omega = Tensor::new(&[[0f32, 0.0], [1.0, 0.0], [0.5, 0.5]], &Device::Cpu).unwrap();
    save(&at, "in.safetensors", &[("x", x.clone()), ("omega", omega.clone())]);
    at.succeed("forward c.safetensors --input in.safetensors --output out.safetensors");
    let out = candle_core::safetensors::load(at.path("out.safetensors"), &Device::Cpu).unwrap();
    let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();

    let net = Net::load(&at.path("c.safetensors"), &Device::Cpu).unwrap();
    assert_eq!(flat(&out["y"]), flat(&net.forward(&x, &omega).unwrap()));
    let first = |t: &Tensor| flat(&t.narrow(0, 0, 1).unwrap().contiguous().unwrap());
    assert_eq!(first(&out["y"]), first(&x), "the first tuning is zero");
    assert_ne!(flat(&out["y"]), flat(&x));
}

#[test]
fn forward_refuses_tensors_that_do_not_fit_by_name() {
    let at = trained();
    let line = "forward c.safetensors --input in.safetensors --output out.safetensors";
    let zeros =
        |dims: &[usize]| Tensor::zeros(dims, candle_core::DType::F32, &Device::Cpu).unwrap();
    let refused = |tensors: &[(&str, Tensor)]| {
        save(&at, "in.safetensors", tensors);
        let error = at.fail(line);
        assert!(error.contains("in.safetensors"), "{error}");
        assert!(!at.path("out.safetensors").exists());
        error
    };
    let (x, omega) = (zeros(&[2, 6, 4, 4]), zeros(&[2, 2]));
    assert!(refused(&[("x", x.clone())]).contains("no tensor `omega`"));
    assert!(refused(&[("x", x.clone()), ("omega", zeros(&[2, 3]))]).contains("[2, 2]"));
    assert!(refused(&[("x", zeros(&[2, 3, 4, 4])), ("omega", omega.clone())]).contains("`x`"));
    assert!(refused(&[("x", zeros(&[2, 6, 0, 4])), ("omega", omega.clone())]).contains("`x`"));
    let nan = (omega * f64::NAN).unwrap();
    assert!(refused(&[("x", x), ("omega", nan)]).contains("not finite"));
    std::fs::write(at.path("in.safetensors"), b"short").unwrap();
    assert!(at.fail(line).contains("in.safetensors"));
}

#[test]
fn score_prints_the_means_as_json() {
    let at = trained();
    let line =
        "score c.safetensors --data data --noise 25 --blur 1.5 --tuning denoise=1,deblur=0.5";
    let report: serde_json::Value =
        serde_json::from_str(&at.succeed(&format!("{line} --json"))).unwrap();
    for key in ["psnr_y", "psnr_uv", "ssim_y", "input_psnr_y", "input_psnr_uv", "input_ssim_y"] {
        assert!(report[key].as_f64().is_some_and(f64::is_finite), "{key}: {report}");
    }
    assert_eq!(report["images"], 3);
    assert_eq!(report["tuning"], serde_json::json!([1.0, 0.5]));
    assert!(at.succeed(line).contains("PSNR-Y"));
}

#[test]
fn score_at_zero_tuning_leaves_the_input_alone() {
    let at = trained();
    let json = at.succeed("score c.safetensors --data data --noise 25 --json");
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(report["psnr_y"], report["input_psnr_y"]);
    // With everything kept, the input is its own reference.
    let keep = "score c.safetensors --data data --noise 25 --blur 1 --keep noise,blur --json";
    let report: serde_json::Value = serde_json::from_str(&at.succeed(keep)).unwrap();
    assert_eq!(report["input_psnr_y"], 100.0);
}

#[test]
fn score_refuses_what_it_cannot_do() {
    let at = trained();
    let score = |rest: &str| at.fail(&format!("score c.safetensors {rest}"));
    assert!(score("--data data --tuning sharpen=1").contains("no parameter `sharpen`"));
    assert!(score("--data data --tuning denoise=2").contains("denoise"));
    assert!(score("--data data --tuning denoise").contains("NAME=VALUE"));
    assert!(score("--data nowhere").contains("nowhere"));
    assert!(score("--data data --noise nan").contains("noise"));
    assert!(at.fail("score none.safetensors --data data").contains("none.safetensors"));
    std::fs::write(at.path("data/broken.png"), b"no").unwrap();
    let json = at.succeed("score c.safetensors --data data --json");
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&report["skipped"], &report["images"]), (&1.into(), &3.into()));
}

#[test]
fn freezing_at_the_tuning_in_use_changes_nothing_and_elsewhere_something() {
    let at = trained();
    let corners = common::RECIPE.replace("\"mlp\", expand = 2", "\"multilinear\", expand = 1");
    std::fs::write(at.path("corners.toml"), &corners).unwrap();
    at.succeed("train corners.toml --data data --run corners");
    // Of a net without inner layers nothing is frozen.
    let plain = "net = \"plain\"\ncolour = \"luma\"\nscale = 1\nresidual = true\nphi = { mode = \"multilinear\", \
                 expand = 1 }\nlayers = [{ name = \"a\", kernel = 3, channels = 1, activation = \"none\" }]\n";
    let (start, end) =
        (corners.find("net = \"video\"").unwrap(), corners.find("[tuning]").unwrap());
    let one = [&corners[..start], plain, &corners[end..]].concat();
    std::fs::write(at.path("one.toml"), one).unwrap();
    at.succeed("train one.toml --data data --run one");
    let psnr = |rest: &str| {
        at.succeed(&format!("score one/checkpoint.safetensors --data data --noise 25 --json --tuning denoise=1 {rest}"))
    };
    assert_eq!(psnr(""), psnr("--freeze denoise=1,deblur=1"));
    for checkpoint in ["c.safetensors", "corners/checkpoint.safetensors"] {
        let psnr = |rest: &str| {
            let line = format!(
                "score {checkpoint} --data data --noise 25 --json --tuning denoise=1 {rest}"
            );
            let report: serde_json::Value = serde_json::from_str(&at.succeed(&line)).unwrap();
            report["psnr_y"].as_f64().unwrap()
        };
        assert!((psnr("") - psnr("--freeze denoise=1")).abs() < 1e-3, "{checkpoint}");
        assert_ne!(psnr(""), psnr("--freeze denoise=1,deblur=1"), "{checkpoint}");
    }
}

#[test]
fn sweep_draws_a_sheet_and_inspect_a_table() {
    let at = trained();
    picture(90, 70, 1).save(at.path("p.png")).unwrap();
    at.succeed("sweep c.safetensors p.png --noise 25 --crop 64 --out sheet.png");
    let sheet = image::open(at.path("sheet.png")).unwrap();
    assert!(sheet.width() > 5 * 64 && sheet.height() > 4 * 64);
    assert!(at.fail("sweep c.safetensors none.png --out s.png").contains("none.png"));
    let table = at.succeed("inspect c.safetensors");
    for part in [
        "denoise",
        "deblur",
        "tiny, seed 3, 12 steps",
        "tail.weight",
        "3 read",
        "licence not stated",
    ] {
        assert!(table.contains(part), "{part}: {table}");
    }
}

#[test]
fn degrade_writes_a_clip_of_the_same_size() {
    let at = trained();
    let mut clip = b"YUV4MPEG2 W8 H6 F25:1 Ip A1:1 C420jpeg\n".to_vec();
    for _ in 0..2 {
        clip.extend(b"FRAME\n");
        clip.extend([128; 8 * 6 * 3 / 2]);
    }
    std::fs::write(at.path("a.y4m"), &clip).unwrap();
    at.succeed("degrade a.y4m --noise 25 --out b.y4m");
    let noisy = at.read("b.y4m");
    assert_eq!(noisy.len(), clip.len());
    assert!(noisy != clip);
    at.succeed("degrade a.y4m --noise 25 --out c.y4m");
    assert!(noisy == at.read("c.y4m"), "the same seed gives the same noise");
    std::fs::write(at.path("short.y4m"), &clip[..clip.len() - 1]).unwrap();
    assert!(at.fail("degrade short.y4m --noise 25 --out d.y4m").contains("frame 1"));
    assert!(!at.path("d.y4m").exists());
}

#[test]
fn half_writes_what_is_used_like_the_whole() {
    let at = trained();
    at.succeed("half c.safetensors --out half.safetensors");
    assert!(at.read("half.safetensors").len() < at.read("c.safetensors").len());
    let said = |name: &str| at.succeed(&format!("inspect {name}.safetensors"));
    assert_eq!(said("half").lines().count(), said("c").lines().count());
    let score = |name: &str| {
        let line =
            format!("score {name}.safetensors --data data --noise 25 --json --tuning denoise=1");
        let report: serde_json::Value = serde_json::from_str(&at.succeed(&line)).unwrap();
        report["psnr_y"].as_f64().unwrap()
    };
    assert!((score("half") - score("c")).abs() < 0.05);
    let error = at.fail("half c.safetensors --out c.safetensors");
    assert!(error.contains("c.safetensors"), "{error}");
}
