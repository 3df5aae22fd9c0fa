//! The presets in `presets/`: each sets the knobs that it names to what it says, and nothing else.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Once;

use gst::prelude::*;
use gstreamer as gst;

/// Elements and their knobs; the presets of an element have the name of its GType.
const KNOBS: [(&str, [&str; 3]); 2] = [
    ("tunableconvfilter", ["alpha", "beta", "gamma"]),
    ("tunableconv-broadcast", ["denoise", "deblur", "deblock"]),
];

/// Values of the properties that a preset sets, by name.
type Values = BTreeMap<String, f64>;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("presets")
}

/// An element that finds the presets in [`folder`].
fn element(factory: &str) -> gst::Element {
    static INIT: Once = Once::new();
    common::init();
    // GStreamer takes it once.
    INIT.call_once(|| gst::Preset::set_app_dir(folder()).unwrap());
    gst::ElementFactory::make(factory).build().unwrap()
}

/// The presets of an element as its file has them, each with a comment.
fn presets(element: &gst::Element) -> BTreeMap<String, Values> {
    let file = glib::KeyFile::new();
    let type_name = element.type_().name();
    file.load_from_file(folder().join(type_name).with_extension("prs"), glib::KeyFileFlags::NONE)
        .unwrap();
    assert_eq!(file.string("_presets_", "element-name").unwrap(), type_name);
    let groups = file.groups();
    let names = groups.iter().map(glib::GStringPtr::as_str).filter(|&name| name != "_presets_");
    let values = |name: &str| {
        assert!(!file.string(name, "_meta/comment").unwrap().is_empty(), "{name}");
        let keys = file.keys(name).unwrap();
        let properties =
            keys.iter().map(glib::GStringPtr::as_str).filter(|key| *key != "_meta/comment");
        properties.map(|key| (key.to_owned(), file.double(name, key).unwrap())).collect()
    };
    names.map(|name| (name.to_owned(), values(name))).collect()
}

/// Values of all properties that can be set.
fn settings(element: &gst::Element) -> BTreeMap<String, String> {
    let is_settable = |spec: &&glib::ParamSpec| {
        spec.flags().contains(glib::ParamFlags::READWRITE) && spec.name() != "parent"
    };
    let properties = element.list_properties();
    let text = |name: &str| format!("{:?}", element.property_value(name));
    properties.iter().filter(is_settable).map(|s| (s.name().into(), text(s.name()))).collect()
}

#[test]
fn every_file_belongs_to_an_element() {
    let files = std::fs::read_dir(folder()).unwrap();
    let files: BTreeSet<String> =
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    let expected = KNOBS.map(|(factory, _)| format!("{}.prs", element(factory).type_().name()));
    assert_eq!(files, BTreeSet::from(expected));
}

#[test]
fn presets_set_the_knobs_and_nothing_else() {
    for (factory, knobs) in KNOBS {
        let presets = presets(&element(factory));
        assert!(!presets.is_empty(), "{factory}");
        for (name, values) in &presets {
            let element = element(factory);
            let preset = element.dynamic_cast_ref::<gst::Preset>().unwrap();
            assert!(preset.preset_names().iter().any(|known| known == name), "{factory}: {name}");
            let keys: Vec<&str> = values.keys().map(String::as_str).collect();
            assert_eq!(BTreeSet::from_iter(keys), BTreeSet::from(knobs), "{factory}: {name}");

            // Values that no preset has.
            knobs.iter().for_each(|knob| element.set_property(knob, 0.987));
            let before = settings(&element);
            preset.load_preset(name).unwrap();
            for (property, &value) in values {
                let spec = element.find_property(property).unwrap();
                let spec = spec.downcast::<glib::ParamSpecDouble>().unwrap();
                assert!((spec.minimum()..=spec.maximum()).contains(&value), "{property}={value}");
                let set: f64 = element.property(property);
                assert_eq!(set, value, "{factory}: {name}: {property}");
            }
            let mut after = settings(&element);
            for knob in knobs {
                after.insert(knob.into(), before[knob].clone());
            }
            assert_eq!(after, before, "{factory}: {name}");
        }
    }
}

#[test]
fn both_elements_have_the_same_looks() {
    let [any, broadcast] = KNOBS.map(|(factory, knobs)| {
        let presets = presets(&element(factory));
        let in_order = |values: Values| knobs.map(|knob| values[knob]);
        presets.into_iter().map(|(name, values)| (name, in_order(values))).collect::<Vec<_>>()
    });
    assert_eq!(any, broadcast);
}
