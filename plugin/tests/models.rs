//! Elements of single models, and where models are found.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;

use common::{Model, Picture, filter, stamped};
use gst_check::Harness;
use gstreamer as gst;
use gstreamer_check as gst_check;
use gstreamer_video as gst_video;

use gst::prelude::*;
use gst_video::VideoFormat;
use tunableconv::checkpoint::Checkpoint;

#[test]
fn the_built_in_model_has_an_element_with_its_own_parameters() {
    common::init();
    let checkpoint = Checkpoint::built_in().unwrap();
    let element = gst::ElementFactory::make("tunableconv-broadcast")
        .property_from_str("precision", "f32")
        .build()
        .unwrap();
    assert_eq!(element.type_().name(), "TunableConv-broadcast");
    for parameter in &checkpoint.metadata.tuning.parameters {
        let property = element.find_property(&parameter.name).unwrap();
        let property = property.downcast_ref::<glib::ParamSpecDouble>().unwrap();
        assert_eq!(property.minimum(), parameter.minimum);
        assert_eq!(property.maximum(), parameter.maximum);
        assert_eq!(property.default_value(), parameter.default);
        assert_eq!(property.blurb(), Some(parameter.blurb.as_str()));
        assert_eq!(element.property::<f64>(&parameter.name), parameter.default);
    }
    assert!(element.find_property("alpha").is_none() && element.find_property("model").is_none());

    element.set_property("denoise", 0.25);
    element.set_property("deblur", 0.5);
    element.set_property("deblock", 0.75);
    let picture = Picture::random(64, 48);
    let caps = picture.info(VideoFormat::I420).to_caps().unwrap();
    let mut harness = Harness::with_element(&element, Some("sink"), Some("src"));
    harness.set_caps(caps.clone(), caps);
    let info = picture.info(VideoFormat::I420);
    let output = harness.push_and_pull(stamped(picture.buffer(&info), 0)).unwrap();
    assert_eq!(picture.read(&info, output), filter(&checkpoint, &picture, &[0.25, 0.5, 0.75]));
}

/// What `gst-inspect-1.0 ELEMENT` prints with these folders of models, the first of which is the
/// test's own; `None` where the program is missing.
fn inspect(model: &Model, path: &str, element: &str) -> Option<(bool, String, String)> {
    let mut command = model.command("gst-inspect-1.0");
    command.arg(element).env("TUNABLECONV_MODEL_PATH", path);
    match command.output() {
        Ok(output) => {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            Some((output.status.success(), text(&output.stdout), text(&output.stderr)))
        }
        Err(error) => {
            println!("skipped: gst-inspect-1.0: {error}");
            None
        }
    }
}

#[test]
fn models_on_the_path_have_elements_and_broken_ones_a_warning() {
    let model = Model::new();
    let folder = model.folder.path().join("models");
    fs::create_dir(&folder).unwrap();
    let path = format!("{}:/nonexistent/models", folder.display());
    let Some((found, _, _)) = inspect(&model, &path, "tunableconv-night") else { return };
    assert!(!found);

    // Files that came, without anything else that would make GStreamer look again.
    fs::copy(&model.path, folder.join("Night.safetensors")).unwrap();
    fs::write(folder.join("broken.safetensors"), b"not a model").unwrap();
    let names = ["keyframes", "model", "threads", "qos", "name"];
    for name in names {
        let mut checkpoint = model.checkpoint.clone();
        checkpoint.metadata.tuning.parameters[0].name = name.into();
        let file = folder.join(format!("named-{name}.safetensors"));
        checkpoint.write(&file).unwrap();
    }
    let (found, text, warnings) = inspect(&model, &path, "tunableconv-night").unwrap();
    assert!(found, "{warnings}");
    for expected in
        ["TunableConv-night", "denoise", "deblur", "How much to denoise", "controllable"]
    {
        assert!(text.contains(expected), "no `{expected}` in {text}");
    }
    let warnings: Vec<&str> = warnings.lines().filter(|l| l.contains("tunableconv: ")).collect();
    assert_eq!(warnings.len(), 2 + names.len(), "{warnings:?}");
    for name in names {
        let text = format!("`{name}`: the element has another property of this name");
        assert!(warnings.iter().any(|line| line.contains(&text)), "{name}: {warnings:?}");
    }
    let broken = folder.join("broken.safetensors");
    let broken = format!("{}: not a valid checkpoint", broken.display());
    assert!(warnings.iter().any(|line| line.contains(&broken)), "{warnings:?}");
    assert!(warnings.iter().any(|line| line.contains("/nonexistent/models: ")), "{warnings:?}");

    // A path of the folder that GStreamer is started in is another one elsewhere.
    let mut command = model.command("gst-inspect-1.0");
    command.current_dir(model.folder.path()).env("TUNABLECONV_MODEL_PATH", "models");
    let output = command.arg("tunableconv-night").output().unwrap();
    let (text, file) =
        (String::from_utf8(output.stdout).unwrap(), folder.join("Night.safetensors"));
    assert!(text.contains(&format!("({})", file.display())), "{text}");

    let (found, _, _) = inspect(&model, &path, "tunableconv-broken").unwrap();
    assert!(!found);
    assert!(inspect(&model, &path, "tunableconvfilter").unwrap().0);
    fs::remove_file(folder.join("Night.safetensors")).unwrap();
    assert!(!inspect(&model, &path, "tunableconv-night").unwrap().0, "it is gone");
}

#[test]
fn the_trainer_knows_which_names_are_taken() {
    common::init();
    let element = gst::ElementFactory::make("tunableconvfilter").build().unwrap();
    let mut names: Vec<String> =
        element.list_properties().iter().map(|property| property.name().to_owned()).collect();
    names.retain(|name| !["alpha", "beta", "gamma", "delta"].contains(&name.as_str()));
    names.sort();
    assert_eq!(names, tunableconv::tuning::RESERVED_NAMES);
}
