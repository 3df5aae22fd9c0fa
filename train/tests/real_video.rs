//! Clips that a camera and an encoder took something of.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;
use std::process::Command;

use common::{Workplace, picture};
use serde_json::Value;
use tunableconv_train::yuv::{Matrix, Range, Yuv420};

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../checkpoints/broadcast.safetensors");

/// With `clip.y4m`: coloured squares that move, three frames.
fn workplace(width: u32, height: u32) -> Workplace {
    let at = Workplace::new();
    let mut file = format!("YUV4MPEG2 W{width} H{height} F25:1 Ip C420jpeg\n").into_bytes();
    for frame in 0..3 {
        let image = picture(width + 8, height, 1);
        let view = image::imageops::crop_imm(&image, 2 * frame, 0, width, height).to_image();
        view.save(at.path("view.png")).unwrap();
        let rgb = tunableconv_train::rgb::Rgb::load(&at.path("view.png")).unwrap();
        let planes = Yuv420::from_rgb(&rgb, Matrix::Bt601, Range::Limited).to_bytes();
        file.extend(b"FRAME\n");
        planes.iter().for_each(|plane| file.extend(plane));
    }
    fs::write(at.path("clip.y4m"), file).unwrap();
    at
}

fn rows(at: &Workplace, line: &str) -> Vec<Value> {
    let text = at.succeed(&format!("real-video {SHIPPED} {line} --json"));
    serde_json::from_str(&text).unwrap()
}

fn luma(psnr: &Value) -> f64 {
    psnr["y"].as_f64().unwrap()
}

#[test]
fn noise_goes_at_its_level_and_nothing_goes_of_what_is_clean() {
    let at = workplace(128, 96);
    let found = rows(&at, "clip.y4m --degrade clean,noise:15 --frames 2 --grid 0,0.3,1");
    let [clean, noise] = &found[..] else { panic!("{} rows", found.len()) };
    assert_eq!((luma(&clean["input"]), luma(&clean["best"]["output"])), (100.0, 100.0));
    assert_eq!(clean["best"]["tuning"], serde_json::json!([0.0, 0.0, 0.0]));
    assert!(luma(&clean["worst"]["output"]) < 60.0, "{clean}");
    let input = luma(&noise["input"]);
    assert!((28.0..30.5).contains(&input), "{noise}");
    // Of the knobs only the one that was trained for noise is moved.
    assert_eq!(noise["best"]["tuning"], serde_json::json!([0.3, 0.0, 0.0]));
    let told: Vec<f64> = noise["told"].as_array().unwrap().iter().map(luma).collect();
    assert!(told[0] > input + 2.0 && told[0] > told[1] && told[0] > told[2], "{noise}");
    assert!(told[0] > luma(&noise["worst"]["output"]) + 1.0, "{noise}");
    assert_eq!(noise["frames"], 2);
}

#[test]
fn encoders_take_the_more_the_coarser_they_are() {
    let at = workplace(128, 96);
    let found = rows(&at, "clip.y4m --degrade h264:20,h264:40,noise:15+h264:40 --grid 0,0.2");
    let input: Vec<f64> = found.iter().map(|row| luma(&row["input"])).collect();
    assert!(input[0] > input[1] + 6.0 && input[1] > input[2], "{input:?}");
    assert!(found.iter().all(|row| row["frames"] == 3), "{found:?}");
    // Of noise that was encoded at its level; a clip without noise is in the folder of those.
    assert!(found.iter().all(|row| luma(&row["told"][0]) > luma(&row["input"]) - 0.5), "{found:?}");
}

#[test]
fn any_file_that_can_be_decoded_is_a_clip() {
    let at = workplace(128, 96);
    let line = "-q filesrc location=clip.y4m ! y4mdec ! avenc_ffv1 ! matroskamux ! filesink location=c.mkv";
    let mut launch = Command::new("gst-launch-1.0");
    let done = launch.args(line.split(' ')).current_dir(at.path("")).status().unwrap();
    assert!(done.success());
    let of = |file| {
        let mut rows = rows(&at, &format!("{file} --degrade noise:15 --grid 0,0.3"));
        rows[0]["clip"] = Value::Null;
        rows
    };
    assert_eq!(of("clip.y4m"), of("c.mkv"));
    let narrow = workplace(100, 96);
    let done =
        Command::new("gst-launch-1.0").args(line.split(' ')).current_dir(narrow.path("")).status();
    assert!(done.unwrap().success());
    let error = narrow.fail(&format!("real-video {SHIPPED} c.mkv"));
    assert!(error.contains("100 pixels wide, expected a multiple of 8"), "{error}");
    // Sides that no encoder takes.
    let odd = workplace(99, 77);
    assert_eq!(rows(&odd, "clip.y4m --degrade h264:30 --grid 0 --frames 1")[0]["frames"], 1);
}

#[test]
fn tables_are_of_each_clip_and_of_all() {
    let at = workplace(64, 64);
    fs::copy(at.path("clip.y4m"), at.path("other.y4m")).unwrap();
    let text = at.succeed(&format!(
        "real-video {SHIPPED} clip.y4m other.y4m --degrade noise:5 --grid 0,0.1"
    ));
    assert_eq!(text.matches("| case | input, dB |").count(), 2, "{text}");
    let widths: Vec<usize> =
        text.lines().filter(|line| line.starts_with('|')).map(|l| l.matches('|').count()).collect();
    assert_eq!(widths, [9, 9, 9, 9, 9, 9, 3, 3, 3], "{text}");
    assert!(text.contains("mean gain over the clips"), "{text}");
}

#[test]
fn what_is_wrong_is_named() {
    let at = workplace(64, 64);
    fs::write(at.path("text.y4m"), "no clip").unwrap();
    for (line, expected) in [
        ("clip.y4m --degrade x264:30", "does not end in an encoder either (h264, mpeg2, vp8, av1)"),
        ("clip.y4m --degrade h264:51", "`h264:51`: expected h264:0 to 50"),
        ("clip.y4m --degrade noise:5+mpeg2", "`mpeg2`: expected mpeg2:1 to 31"),
        ("clip.y4m --degrade recorded+h264:30", "what is recorded comes with a pair"),
        ("missing.y4m", "cannot read missing.y4m"),
        ("text.y4m", "cannot read text.y4m"),
        ("clip.y4m --degrade noise:5 --grid 3", "the grid has no tuning of the domain"),
        ("clip.y4m --grid nan", "--grid: expected finite numbers"),
    ] {
        let error = at.fail(&format!("real-video {SHIPPED} {line}"));
        assert!(error.contains(expected), "{line}: {error}");
    }
}
