//! The shared library in the hands of GStreamer's own programs.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::process::Output;

use common::Model;

/// One of GStreamer's programs; `None` where it is not installed.
fn run(model: &Model, program: &str, arguments: &str) -> Option<Output> {
    let mut command = model.command(program);
    command.args(arguments.split_whitespace()).env("G_DEBUG", "fatal-criticals");
    match command.output() {
        Ok(output) => Some(output),
        Err(error) => {
            println!("skipped: {program}: {error}");
            None
        }
    }
}

#[test]
fn gst_launch_plays_through_the_element() {
    let model = Model::new();
    let path = model.path();
    for caps in [
        "format=I420,width=640,height=360",
        "format=NV12,width=640,height=360",
        "format=I420,width=641,height=361",
        "format=NV21,width=641,height=361",
        "format=I420,width=16,height=16",
    ] {
        let pipeline = format!(
            "videotestsrc num-buffers=30 ! video/x-raw,{caps} \
             ! tunableconvfilter model={path} alpha=0.5 ! fakesink"
        );
        let Some(output) = run(&model, "gst-launch-1.0", &pipeline) else { return };
        assert!(output.status.success(), "{caps}: {output:?}");
    }
}

#[test]
fn gst_launch_shows_why_a_model_does_not_load() {
    let model = Model::new();
    let pipeline = "videotestsrc num-buffers=1 ! tunableconvfilter model=/nonexistent ! fakesink";
    let Some(output) = run(&model, "gst-launch-1.0", pipeline) else { return };
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("Cannot load the model: /nonexistent: No such file"), "{text}");
}

#[test]
fn gst_inspect_shows_the_properties() {
    let model = Model::new();
    let Some(output) = run(&model, "gst-inspect-1.0", "tunableconvfilter") else { return };
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    for expected in [
        "Filter/Effect/Video",
        "alpha",
        "beta",
        "gamma",
        "delta",
        "controllable, changeable in NULL, READY, PAUSED or PLAYING state",
        "threads",
        "tile-size",
        "precision",
        "stats",
        "in the built-in model `denoise`",
    ] {
        assert!(text.contains(expected), "no `{expected}` in {text}");
    }
}
