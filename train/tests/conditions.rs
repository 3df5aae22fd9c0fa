//! What can be trained can be measured: every kind of degradation, by every command, and what a
//! checkpoint says it was trained for.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{RECIPE, Workplace, picture};
use serde_json::Value;

/// A workplace with a checkpoint `c` of one knob, `dejpeg`, and its recipe.
fn dejpeg() -> Workplace {
    let at = Workplace::new();
    let start = RECIPE.find("parameters = [").unwrap();
    let end = RECIPE.find("[batch]").unwrap();
    let knob = r#"parameters = [
  { name = "dejpeg", nick = "x", blurb = "x", minimum = 0.0, maximum = 1.0, default = 1.0, objective = "x" },
]

[[degradations]]
parameter = "dejpeg"
degradation = { kind = "jpeg", quality = [20, 60] }

"#;
    let recipe = format!("{}{knob}{}", &RECIPE[..start], &RECIPE[end..]);
    let recipe = recipe.replace("[[\"denoise\"], [\"denoise\", \"deblur\"]]", "[[\"dejpeg\"]]");
    std::fs::write(at.path("dejpeg.toml"), recipe).unwrap();
    at.succeed("train dejpeg.toml --data data --run run");
    std::fs::rename(at.path("run/checkpoint.safetensors"), at.path("c")).unwrap();
    at
}

fn report(at: &Workplace) -> Value {
    serde_json::from_slice(&at.read("r/report.json")).unwrap()
}

fn conditions(report: &Value) -> Vec<&str> {
    let all = report["conditions"].as_array().unwrap();
    all.iter().map(|condition| condition["condition"].as_str().unwrap()).collect()
}

#[test]
fn a_checkpoint_is_measured_under_what_it_was_trained_for() {
    let at = dejpeg();
    at.succeed("evaluate c --data data --out r");
    let report = report(&at);
    assert_eq!(conditions(&report), ["jpeg:40", "jpeg:20"]);
    assert_eq!(report["undoes"], serde_json::json!([["jpeg"]]));
    let inputs: Vec<f64> =
        (0..2).map(|i| report["conditions"][i]["input"]["psnr_y"].as_f64().unwrap()).collect();
    assert!(inputs[1] < inputs[0] && inputs[0] < 60.0, "{inputs:?}");
    // The corner where it is off keeps what the picture has.
    let points = &report["conditions"][0]["points"];
    assert_eq!((&points[0]["own"]["identical"], &points[0]["identity"]), (&3.into(), &true.into()));
    assert_eq!(points[1]["own"], points[1]["clean"]);
    let control = report["control"].as_array().unwrap();
    assert!(control.len() == 2 && control.iter().all(|c| c["parameter"] == "dejpeg"));
    let markdown = String::from_utf8(at.read("r/report.md")).unwrap();
    assert!(markdown.contains("; undoes jpeg") && markdown.contains("## Quality: jpeg 40"));
    // What is asked for goes first.
    at.succeed("evaluate c --data data --out r --noise 15 --blur 0 --undoes dejpeg=noise");
    let report = self::report(&at);
    assert_eq!(conditions(&report), ["noise:15"]);
    assert_eq!(report["undoes"], serde_json::json!([["noise"]]));
    let error = at.fail("evaluate c --data data --out r --undoes dejpeg=jpg");
    assert!(error.contains("no degradation `jpg`, there are blur, noise"), "{error}");
}

#[test]
fn every_kind_is_measured_by_every_command() {
    let at = dejpeg();
    let mut clip = b"YUV4MPEG2 W24 H16 F25:1\n".to_vec();
    for frame in 0..3u32 {
        clip.extend(b"FRAME\n");
        clip.extend((0..24 * 16 * 3 / 2).map(|i| (60 + (i * 37 + frame * 11) % 130) as u8));
    }
    std::fs::write(at.path("x.y4m"), &clip).unwrap();
    at.succeed("degrade x.y4m --out clean.y4m");
    let clean = at.read("clean.y4m");
    picture(64, 48, 1).save(at.path("p.png")).unwrap();
    let mut inputs = std::collections::HashSet::new();
    for chain in [
        "blur:1.5",
        "noise:25",
        "poisson-gaussian:0.02:sigma=4",
        "chroma-noise:20:radius=1",
        "camera:0.02:sigma=4:smoothing=1:sharpening=0.5",
        "motion-blur:7",
        "downscale:2:filter=bicubic",
        "jpeg:30",
        "jpeg:30+noise:5",
    ] {
        let json = at.succeed(&format!("score c --data data --json --degrade {chain}"));
        let score: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(score["condition"], chain);
        let input = score["input_psnr_y"].as_f64().unwrap();
        assert!(input < 60.0 && inputs.insert(input.to_bits()), "{chain}: {input}");
        let kinds: Vec<_> = chain.split('+').map(|link| link.split(':').next().unwrap()).collect();
        let kept =
            format!("score c --data data --json --degrade {chain} --keep {}", kinds.join(","));
        let kept: Value = serde_json::from_str(&at.succeed(&kept)).unwrap();
        assert_eq!(kept["input_psnr_y"], 100.0);

        at.succeed(&format!("degrade x.y4m --degrade {chain} --out d.y4m"));
        let degraded = at.read("d.y4m");
        assert!(degraded.len() == clean.len() && degraded != clean, "{chain}");
        at.succeed(&format!("degrade x.y4m --degrade {chain} --out again.y4m"));
        assert!(degraded == at.read("again.y4m"));
        at.succeed(&format!("sweep c p.png --degrade {chain} --crop 32 --out s.png"));
        at.succeed(&format!("calibrate c --data data --degrade {chain} --out k"));
        let calibrated = at.read("k");
        at.succeed("calibrate c --data data --degrade clean --out k");
        assert!(calibrated != at.read("k"), "{chain}");
    }
    at.succeed("evaluate c --data data --out r --degrade motion-blur:7,downscale:2+jpeg:30");
    let report = report(&at);
    assert_eq!(conditions(&report), ["motion-blur:7", "downscale:2:filter=area+jpeg:30"]);
    for (line, expected) in [
        ("score c --data data --degrade recorded", "give --pairs DIR"),
        ("degrade x.y4m --degrade recorded --out q.y4m", "it comes with a pair"),
        ("sweep c p.png --degrade recorded --out q.png", "--degraded IMAGE"),
        ("score c --data data --degrade jpeg:30 --noise 5", "cannot be used with"),
        (
            "score c --data data --degrade jpeg:30 --keep noise",
            "not among the degradations, jpeg:30",
        ),
        ("score c", "--data"),
    ] {
        let error = at.fail(line);
        assert!(error.contains(expected), "{line}: {error}");
    }
}

#[test]
fn the_frames_of_a_clip_have_one_camera() {
    let at = dejpeg();
    let mut clip = b"YUV4MPEG2 W48 H32 F25:1\n".to_vec();
    for _ in 0..3 {
        clip.extend(b"FRAME\n");
        clip.extend((0..48 * 32 * 3 / 2).map(|i| (60 + i * 37 % 130) as u8));
    }
    std::fs::write(at.path("still.y4m"), &clip).unwrap();
    let frames = |chain: &str| {
        at.succeed(&format!("degrade still.y4m --degrade {chain} --out d.y4m"));
        let bytes = at.read("d.y4m");
        let start = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        let frames: Vec<Vec<u8>> =
            bytes[start..].chunks(6 + 48 * 32 * 3 / 2).map(Vec::from).collect();
        assert_eq!(frames.len(), 3);
        frames
    };
    for chain in ["motion-blur:6", "jpeg:30", "downscale:2"] {
        let frames = frames(chain);
        assert!(frames[0] == frames[1] && frames[1] == frames[2], "{chain}");
    }
    for chain in ["noise:9", "poisson-gaussian:0.02", "chroma-noise:20:radius=1", "camera:0.02"] {
        let frames = frames(chain);
        assert!(frames[0] != frames[1] && frames[1] != frames[2], "{chain}");
    }
}

#[test]
fn pairs_are_measured_as_they_were_recorded() {
    let at = dejpeg();
    std::fs::create_dir(at.path("pairs")).unwrap();
    let clip = |name: &str, error: u32| {
        let mut clip = b"YUV4MPEG2 W31 H23 F25:1\n".to_vec();
        for frame in 0..2u32 {
            clip.extend(b"FRAME\n");
            clip.extend(
                (0..31 * 23).map(|i| (60 + (i * 37 + frame * 11) % 120 + i % 3 * error) as u8),
            );
            // Colours that RGB has.
            clip.extend((0..2 * 16 * 12u32).map(|i| (123 + i % 11) as u8));
        }
        std::fs::write(at.path(&format!("pairs/{name}.y4m")), clip).unwrap();
    };
    clip("x.clean", 0);
    clip("x.degraded", 9);
    let json = at.succeed("score c --pairs pairs --json");
    let score: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&score["condition"], &score["images"]), (&"recorded".into(), &2.into()));
    // The planes themselves differ by 0, 9 and 18 in turn.
    let squares = (0..31 * 23).map(|i| f64::from(i % 3 * 9).powi(2)).sum::<f64>();
    let expected = 10.0 * (255f64.powi(2) * f64::from(31 * 23) / squares).log10();
    let input = score["input_psnr_y"].as_f64().unwrap();
    assert!((input - expected).abs() < 0.01, "{input}, expected {expected}");
    let more = at.succeed("score c --pairs pairs --degrade noise:20 --json");
    let more: Value = serde_json::from_str(&more).unwrap();
    assert_eq!(more["condition"], "recorded+noise:20");
    assert!(more["input_psnr_y"].as_f64().unwrap() < input - 1.0);
    at.succeed("evaluate c --pairs pairs --out r --undoes dejpeg=recorded");
    let report = report(&at);
    assert_eq!(conditions(&report)[0], "recorded");
    assert_eq!(report["conditions"][0]["input"]["psnr_y"], score["input_psnr_y"]);
    at.succeed("calibrate c --pairs pairs --out k");
    picture(64, 48, 1).save(at.path("p.png")).unwrap();
    picture(64, 48, 2).save(at.path("q.png")).unwrap();
    at.succeed("sweep c p.png --degraded q.png --crop 32 --out s.png");
    picture(64, 50, 2).save(at.path("q.png")).unwrap();
    let error = at.fail("sweep c p.png --degraded q.png --out s.png");
    assert!(error.contains("(64, 48) and (64, 50)"), "{error}");
}
