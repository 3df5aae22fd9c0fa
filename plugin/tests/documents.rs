//! Every command for GStreamer's programs in the documents runs as it stands, but for the pieces that
//! a reader puts in: a source for a camera or a file, a sink for a screen, a model for their own.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::Model;
use common::play::{frames_of, media};

const PROGRAMS: [&str; 3] = ["gst-launch-1.0", "gst-inspect-1.0", "ges-launch-1.0"];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Files with text for readers.
fn documents() -> Vec<PathBuf> {
    let mut files = vec![
        repository().join("README.md"),
        repository().join("plugin/src/tunableconvfilter/mod.rs"),
        repository().join("pipelines/sweep.xges"),
    ];
    let docs = fs::read_dir(repository().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    files.extend(docs.filter(|file| file.extension().is_some_and(|suffix| suffix == "md")));
    files
}

/// Commands in blocks of code or between backticks, those over many lines in one.
fn commands(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    let lines: Vec<&str> = text.lines().map(|line| line.trim_start_matches("//!").trim()).collect();
    let text = lines.join("\n").replace("\\\n", " ");
    let mut commands = vec![];
    for line in text.lines() {
        let pieces: Vec<&str> = line.split('`').collect();
        let pieces = match pieces.len() {
            1 => pieces,
            _ => pieces.into_iter().skip(1).step_by(2).collect(),
        };
        for piece in pieces {
            let words: Vec<&str> = piece.split_whitespace().collect();
            let settings = words.iter().take_while(|word| word.contains('=')).count();
            let Some(program) = words.get(settings) else { continue };
            // `gst-launch-1.0 -m` is a name.
            let is_whole = *program != "gst-launch-1.0" || words.contains(&"!");
            if PROGRAMS.contains(program) && is_whole && words.len() > settings + 1 {
                commands.push(piece.trim().to_owned());
            }
        }
    }
    commands
}

/// Frames per second of [`short_project`].
const RATE: f64 = 5.0;

/// A copy of the project of a fifth of its frames.
fn short_project(model: &Model) -> PathBuf {
    let text = fs::read_to_string(repository().join("pipelines/sweep.xges")).unwrap();
    let short = text.replace("(fraction\\)25/1", &format!("(fraction\\){RATE}/1"));
    assert!(short != text);
    let file = model.folder.path().join("sweep.xges");
    fs::write(&file, short).unwrap();
    file
}

/// What a reader would run, without camera, screen and time.
fn with_pieces(command: &str, model: &Model) -> String {
    let file = media("phone.mp4").display().to_string();
    let project = short_project(model).display().to_string();
    let words = command.split_whitespace().map(|word| match word {
        "autovideosink" => "fakesink".into(),
        // The end of a short clip may be lost, see pipelines/file.sh.
        "decodebin" => "decodebin async-handling=true".into(),
        "v4l2src" => "videotestsrc is-live=true num-buffers=10".into(),
        "ges-launch-1.0" => "ges-launch-1.0 --videosink fakesink --audiosink fakesink".into(),
        _ if word.ends_with("sweep.xges") => {
            let setting =
                word.split_once('=').map_or(String::new(), |(name, _)| format!("{name}="));
            format!("{setting}{project}")
        }
        // What one command writes another may read.
        _ if word.starts_with("location=NAME.") => {
            let name = word.trim_start_matches("location=");
            format!("location={}", model.folder.path().join(name).display())
        }
        _ if word.starts_with("location=") => format!("location={file}"),
        _ if word.starts_with("model=") => format!("model={}", model.path()),
        _ => word.to_owned(),
    });
    let mut command = words.collect::<Vec<String>>().join(" ");
    let source = "videotestsrc num-buffers=5 ! video/x-raw,width=64,height=48 ! videoconvert";
    command = command.replacen("… !", &format!("{source} !"), 1).replace("! …", "! fakesink");
    if command.contains("num-buffers=100") {
        command = command.replace("num-buffers=100", "num-buffers=5");
    } else if command.contains("videotestsrc") && !command.contains("num-buffers") {
        command = command.replace("videotestsrc", "videotestsrc num-buffers=5");
    }
    command.replace("$HOME/models", &model.folder.path().join("models").display().to_string())
}

#[test]
fn every_command_runs() {
    let model = Model::new();
    let models = model.folder.path().join("models");
    fs::create_dir(&models).unwrap();
    fs::copy(&model.path, models.join("mymodel.safetensors")).unwrap();
    let mut count = 0;
    for document in documents() {
        for command in commands(&document) {
            count += 1;
            let text = with_pieces(&command, &model);
            let mut run = model.command("sh");
            run.args(["-c", &text]).current_dir(repository());
            run.env("GST_PRESET_PATH", repository().join("plugin/presets"));
            let output = run.output().unwrap();
            let told = String::from_utf8_lossy(&output.stderr);
            let is_sound = output.status.success() && !told.contains("WARNING: erroneous");
            assert!(is_sound, "{}: {command}\nas {text}\n{told}", document.display());
        }
    }
    assert!(count > 8, "{count} commands were found");
}

#[test]
fn the_project_fades_its_noise_out() {
    common::init();
    let model = Model::new();
    let project = short_project(&model);
    let elements = "gesdemux ! videoconvert ! video/x-raw,format=GRAY8";
    let frames = frames_of(&project, elements);
    // Standard deviation of luma at these times.
    let noise = |seconds: f64| {
        let index = (seconds * RATE) as usize;
        let data = &frames[index].data;
        let mean = data.iter().map(|&v| f64::from(v)).sum::<f64>() / data.len() as f64;
        let squares = data.iter().map(|&v| (f64::from(v) - mean).powi(2));
        (squares.sum::<f64>() / data.len() as f64).sqrt()
    };
    assert_eq!(frames.len(), 25);
    assert_eq!(noise(0.5), 0.0);
    let steps = [1.0, 2.0, 3.0, 4.0, 4.9].map(noise);
    // The net is not made for noise as strong as snow, of which it leaves the most.
    assert!(steps.windows(2).all(|pair| pair[1] < 1.05 * pair[0]), "{steps:?}");
    assert!(steps[4] < 0.99 * steps[0], "{steps:?}");
}
