//! The scripts in `pipelines/`, on a short clip made here.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::play::{frames_of, media};
use common::{Model, missing, script};
use gstreamer as gst;
use gstreamer_video as gst_video;

use gst_video::VideoFormat;

fn assert_runs(mut command: impl std::borrow::BorrowMut<Command>) {
    let command = command.borrow_mut();
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}

/// Runs `file.sh` on the model with the tiny net.
fn file_sh(model: &Model, input: &Path, output: &Path) -> Command {
    let mut run = model.command(script("file.sh"));
    run.arg(input).arg(output).arg("0.5").env("MODEL", &model.path);
    run
}

const CODECS: [&str; 18] = [
    "aacparse",
    "avdec_aac",
    "avdec_h264",
    "avenc_aac",
    "capssetter",
    "deinterlace",
    "h264parse",
    "matroskademux",
    "matroskamux",
    "mp4mux",
    "pngenc",
    "qtdemux",
    "videocrop",
    "videoflip",
    "vorbisenc",
    "x264enc",
    "y4mdec",
    "y4menc",
];

/// A model, or `None` after saying what the scripts lack.
fn model() -> Option<Model> {
    let model = Model::new();
    if let Some(reason) = missing(&model, &CODECS) {
        println!("skipped: {reason}");
        return None;
    }
    Some(model)
}

/// A file that `gst-launch-1.0` writes at the end of this pipeline.
fn made(model: &Model, name: &str, pipeline: &str) -> PathBuf {
    let path = model.folder.path().join(name);
    let mut launch = model.command("gst-launch-1.0");
    launch.args(pipeline.split_whitespace()).args(["!", "filesink"]);
    launch.arg(format!("location={}", path.display()));
    assert_runs(launch);
    path
}

/// A clip of 12 frames.
fn clip(model: &Model) -> PathBuf {
    let caps = "video/x-raw,format=I420,width=64,height=48";
    made(model, "clip.y4m", &format!("videotestsrc num-buffers=12 ! {caps} ! y4menc"))
}

#[test]
fn file_sh_filters_a_file() {
    let Some(model) = model() else { return };
    let clip = clip(&model);
    for built_in in [false, true] {
        let output = model.folder.path().join(format!("filtered-{built_in}.mkv"));
        let mut run = model.command(script("file.sh"));
        run.arg(&clip).arg(&output);
        if !built_in {
            run.env("MODEL", &model.path).args(["0.5", "0.25"]);
        }
        assert_runs(run);
        assert_eq!(frames_of(&output, "decodebin").len(), 12);
    }
}

#[test]
fn file_sh_explains_itself() {
    let model = Model::new();
    let output = model.command(script("file.sh")).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("usage:"));
}

/// The packets of a file's first sound track of this type, as they are.
fn sound(file: &Path, caps: &str) -> Vec<Vec<u8>> {
    let elements = format!("decodebin caps=\"video/x-raw(ANY);{caps}\" ! {caps}");
    frames_of(file, &elements).into_iter().map(|packet| packet.data).collect()
}

#[test]
fn file_sh_keeps_sound_as_it_is() {
    let Some(model) = model() else { return };
    let input = media("phone.mp4");
    let expected = sound(&input, "audio/mpeg");
    assert!(expected.len() > 40);
    for name in ["filtered.mp4", "filtered.mkv"] {
        let output = model.folder.path().join(name);
        assert_runs(file_sh(&model, &input, &output));
        assert_eq!(sound(&output, "audio/mpeg"), expected, "{name}");
    }
}

#[test]
fn file_sh_encodes_sound_that_mp4_cannot_hold() {
    let Some(model) = model() else { return };
    let pipeline = "audiotestsrc num-buffers=43 ! audioconvert ! vorbisenc ! mux. \
                    videotestsrc num-buffers=30 ! x264enc ! matroskamux name=mux";
    let input = made(&model, "vorbis.mkv", pipeline);
    let output = model.folder.path().join("filtered.mp4");
    assert_runs(file_sh(&model, &input, &output));
    let seconds = |file| {
        let samples = frames_of(file, "decodebin ! audio/x-raw");
        samples.iter().filter_map(|part| part.duration).sum::<gst::ClockTime>().seconds_f64()
    };
    assert!((seconds(&output) - seconds(&input)).abs() < 0.1);
    assert!(!sound(&output, "audio/mpeg").is_empty());
    // Matroska takes it as it is.
    let output = model.folder.path().join("filtered.mkv");
    assert_runs(file_sh(&model, &input, &output));
    assert_eq!(sound(&output, "audio/x-vorbis"), sound(&input, "audio/x-vorbis"));
}

#[test]
fn file_sh_turns_a_rotated_video_upright() {
    let Some(model) = model() else { return };
    let output = model.folder.path().join("filtered.mp4");
    assert_runs(file_sh(&model, &media("phone.mp4"), &output));
    for elements in ["decodebin", "decodebin ! videoflip video-direction=auto"] {
        let frames = frames_of(&output, elements);
        assert!(frames.iter().all(|frame| frame.size() == (108, 192)), "{elements}");
    }
}

#[test]
fn file_sh_writes_what_players_play() {
    let Some(model) = model() else { return };
    let input = media("still.png");
    for (format, expected) in [(None, ("high", 8)), (Some("I420_10LE"), ("high-10", 10))] {
        for suffix in ["mp4", "mkv"] {
            // Names may hold what the shell and gst-launch take for their own.
            let output = model.folder.path().join(format!("it's a \"clip\" ! $HOME.{suffix}"));
            let mut run = file_sh(&model, &input, &output);
            if let Some(format) = format {
                run.env("FORMAT", format);
            }
            assert_runs(run);
            let name = model.folder.path().join("renamed");
            fs::rename(&output, &name).unwrap();
            let frames = frames_of(&name, "parsebin");
            let caps = frames[0].caps.structure(0).unwrap();
            let found = (caps.get::<&str>("profile"), caps.get::<u32>("bit-depth-luma"));
            assert_eq!(found, (Ok(expected.0), Ok(expected.1)), "{suffix} {caps}");
            assert_eq!(caps.get::<&str>("chroma-format"), Ok("4:2:0"), "{suffix} {caps}");
        }
    }
}

#[test]
fn file_sh_filters_a_picture() {
    let Some(model) = model() else { return };
    let input = media("still.png");
    let before = &frames_of(&input, "pngdec")[0];
    let mut seen = vec![];
    for (name, format) in [("out.png", VideoFormat::Rgb), ("out.jpg", VideoFormat::I420)] {
        let output = model.folder.path().join(name);
        assert_runs(file_sh(&model, &input, &output));
        let pictures = frames_of(&output, "decodebin");
        assert_eq!(pictures.len(), 1, "{name}");
        assert_eq!((pictures[0].size(), pictures[0].format()), ((192, 108), format), "{name}");
        assert_ne!(pictures[0].data, before.data, "{name}");
        seen.push(
            frames_of(&output, "decodebin ! videoconvert ! video/x-raw,format=RGB").remove(0),
        );
    }
    // Alike in brightness and contrast, whatever range each has.
    let apart = seen[0].data.iter().zip(&seen[1].data).map(|(a, b)| f64::from(a.abs_diff(*b)));
    let apart = apart.sum::<f64>() / seen[0].data.len() as f64;
    assert!(apart < 7.0, "{apart}");
}

#[test]
fn upscale_sh_doubles_a_file_and_a_picture() {
    let Some(model) = model() else { return };
    let upscaled = |input: &str, output: &str, lifelike: &[&str]| {
        let output = model.folder.path().join(output);
        let mut run = model.command(script("upscale.sh"));
        assert_runs(run.arg(media(input)).arg(&output).args(lifelike));
        output
    };
    let still = |lifelike: &[&str]| {
        let path = upscaled("still.png", "out.png", lifelike);
        let picture = frames_of(&path, "decodebin").remove(0);
        assert_eq!(picture.size(), (384, 216));
        picture.data
    };
    let accurate = still(&[]);
    assert!(still(&["0"]) == accurate && still(&["1"]) != accurate);
    let frames = frames_of(&upscaled("phone.mp4", "out.mp4", &["0.5"]), "decodebin");
    assert!(frames.iter().all(|frame| frame.size() == (216, 384)));
    let mut usage = model.command(script("upscale.sh"));
    assert_eq!(usage.output().unwrap().status.code(), Some(2));
}

#[test]
fn style_sh_paints_a_file_and_a_picture_as_the_shares_say() {
    let Some(model) = model() else { return };
    let painted = |input: &str, output: &str, shares: &[&str]| {
        let output = model.folder.path().join(output);
        let mut run = model.command(script("style.sh"));
        assert_runs(run.arg(media(input)).arg(&output).args(shares));
        output
    };
    let still = |shares: &[&str]| {
        let picture = frames_of(&painted("still.png", "out.png", shares), "decodebin").remove(0);
        assert_eq!(picture.size(), (192, 108));
        picture.data
    };
    let looks = [&["1"][..], &["0", "1"], &["0", "0", "1"], &["1", "1"]].map(still);
    for (index, look) in looks.iter().enumerate() {
        assert!(looks[..index].iter().all(|other| other != look), "{index}");
    }
    assert!(still(&[]) == looks[0] && still(&["0.5", "0.5", "0"]) == looks[3]);
    let frames = frames_of(&painted("phone.mp4", "out.mp4", &["0", "1"]), "decodebin");
    assert!(frames.iter().all(|frame| frame.size() == (108, 192)));
    let mut usage = model.command(script("style.sh"));
    assert_eq!(usage.output().unwrap().status.code(), Some(2));
}

#[test]
fn file_sh_leaves_nothing_behind_where_it_fails() {
    let Some(model) = model() else { return };
    let clip = media("ten.mp4");
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.mp4");
    fs::write(&output, "of last time").unwrap();
    let broken = model.folder.path().join("broken.mp4");
    fs::write(&broken, &fs::read(&clip).unwrap()[..20_000]).unwrap();
    let missing = Path::new("/nonexistent.mp4");
    let wrong_name = folder.path().join("out.avi");
    let no_folder = folder.path().join("none/out.mp4");
    for (input, output, model_path, named) in [
        (&*broken, &output, &*model.path, &*broken),
        (missing, &output, &model.path, missing),
        (&clip, &output, Path::new("/nonexistent"), &clip),
        (&clip, &wrong_name, &model.path, &wrong_name),
        (&clip, &no_folder, &model.path, &no_folder),
    ] {
        let result = file_sh(&model, input, output).env("MODEL", model_path).output().unwrap();
        assert!(!result.status.success(), "{result:?}");
        let text = String::from_utf8_lossy(&result.stderr);
        let last = text.lines().last().unwrap();
        assert!(last.starts_with("file.sh: ") && last.contains(named.to_str().unwrap()), "{text}");
        let left: Vec<_> = folder.path().read_dir().unwrap().map(|it| it.unwrap().path()).collect();
        assert_eq!(left, [folder.path().join("out.mp4")], "{text}");
    }
    assert_eq!(fs::read_to_string(&output).unwrap(), "of last time");
}

#[test]
fn sweep_py_sweeps_a_file() {
    let Some(model) = model() else { return };
    let clip = clip(&model);
    let Some(python) = model.python("GstController") else { return };
    let output = model.folder.path().join("sweep.mkv");
    let sweep = |input: &Path| {
        let mut run = model.command(python);
        run.arg(script("sweep.py")).arg(&output).arg("--input").arg(input);
        run.arg("--model").arg(&model.path).args(["--seconds", "0.4"]);
        run
    };
    assert_runs(sweep(&clip));
    assert_eq!(frames_of(&output, "decodebin").len(), 12);
    assert_runs(sweep(&media("phone.mp4")));
    let frames = frames_of(&output, "matroskademux ! h264parse ! avdec_h264");
    assert_eq!((frames.len(), frames[0].size()), (23, (108, 192)));
    assert_eq!(frames[0].format(), VideoFormat::I420);
    assert!(!sound(&output, "audio/mpeg").is_empty());
    assert_runs(sweep(&media("odd.webm")));
    assert_eq!(frames_of(&output, "decodebin")[0].size(), (160, 90));
    assert!(!sweep(Path::new("/nonexistent")).output().unwrap().status.success());
    let mut names = model.folder.path().read_dir().unwrap().map(|it| it.unwrap().file_name());
    assert!(!names.any(|name| name.to_str().unwrap().starts_with('.')), "a part is left");
}
