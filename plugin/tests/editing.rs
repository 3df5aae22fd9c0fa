//! Effects in the GStreamer Editing Services.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::Path;

use common::Model;

#[test]
fn frames_of_a_clip_have_the_values_of_their_time_in_it() {
    let model = Model::new();
    let Some(python) = model.python("GES") else { return };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/editing/keyframes.py");
    let status = model.command(python).arg(script).status().unwrap();
    assert!(status.success(), "{status}");
}
