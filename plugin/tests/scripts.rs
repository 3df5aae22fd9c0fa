//! The scripts in `pipelines/`, on a short clip made here.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::Model;
use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;

/// What is not installed of the elements a test needs.
fn missing(model: &Model, elements: &[&str]) -> Option<String> {
    elements.iter().find_map(|element| {
        let status = model.command("gst-inspect-1.0").args(["--exists", element]).status();
        match status {
            Ok(status) if status.success() => None,
            Ok(_) => Some(format!("no element {element}")),
            Err(error) => Some(format!("gst-inspect-1.0: {error}")),
        }
    })
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../pipelines").join(name)
}

fn assert_runs(mut command: Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}

/// Frames in a video file.
fn frames(file: &Path) -> usize {
    common::init();
    let description =
        format!("filesrc location={} ! decodebin ! appsink name=frames sync=false", file.display());
    let pipeline = gst::parse::launch(&description).unwrap().downcast::<gst::Pipeline>().unwrap();
    let sink = pipeline.by_name("frames").unwrap().downcast::<gst_app::AppSink>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let count = std::iter::from_fn(|| sink.pull_sample().ok()).count();
    pipeline.set_state(gst::State::Null).unwrap();
    count
}

const CODECS: [&str; 7] =
    ["x264enc", "h264parse", "avdec_h264", "matroskamux", "matroskademux", "y4menc", "y4mdec"];

/// A clip of 12 frames, or `None` after saying what is missing.
fn clip(model: &Model) -> Option<PathBuf> {
    if let Some(reason) = missing(model, &CODECS) {
        println!("skipped: {reason}");
        return None;
    }
    let path = model.folder.path().join("clip.y4m");
    let mut launch = model.command("gst-launch-1.0");
    launch.args(
        "videotestsrc num-buffers=12 ! video/x-raw,format=I420,width=64,height=48 ! y4menc \
         ! filesink"
            .split_whitespace(),
    );
    launch.arg(format!("location={}", path.display()));
    assert_runs(launch);
    Some(path)
}

#[test]
fn file_sh_filters_a_file() {
    let model = Model::new();
    let Some(clip) = clip(&model) else { return };
    for built_in in [false, true] {
        let output = model.folder.path().join(format!("filtered-{built_in}.mkv"));
        let mut run = model.command(script("file.sh"));
        run.arg(&clip).arg(&output);
        if !built_in {
            run.env("MODEL", &model.path).args(["0.5", "0.25"]);
        }
        assert_runs(run);
        assert_eq!(frames(&output), 12);
    }
}

#[test]
fn file_sh_explains_itself() {
    let model = Model::new();
    let output = model.command(script("file.sh")).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("usage:"));
}

#[test]
fn sweep_py_sweeps_a_file() {
    let model = Model::new();
    let Some(clip) = clip(&model) else { return };
    let imports = "import gi; gi.require_version('GstController', '1.0'); \
                   from gi.repository import GstController";
    let has_gi = |python: &&&str| {
        let output = model.command(python).args(["-c", imports]).output();
        output.is_ok_and(|output| output.status.success())
    };
    // The first python3 in the path may be one without the system's packages.
    let Some(python) = ["python3", "/usr/bin/python3"].iter().find(has_gi) else {
        println!("skipped: no python3 with gi and GstController");
        return;
    };
    let output = model.folder.path().join("sweep.mkv");
    let mut run = model.command(python);
    run.arg(script("sweep.py")).arg(&output).arg("--input").arg(clip);
    run.arg("--model").arg(&model.path).args(["--seconds", "0.4"]);
    assert_runs(run);
    assert_eq!(frames(&output), 12);
}
