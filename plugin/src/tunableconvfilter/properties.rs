//! The properties that all elements of the plugin have, and the values of all of theirs.

use std::sync::LazyLock;

use gst::prelude::*;
use gstreamer as gst;

use super::definition::{Definition, ModelSource};
use super::settings::{Compare, Overload, Settings};

/// Specifications of the properties that all elements have.
pub fn common() -> &'static [glib::ParamSpec] {
    static COMMON: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
        vec![
            glib::ParamSpecString::builder("device")
                .nick("Device")
                .blurb("Where to run: auto, cpu, cuda or cuda:N; auto takes CUDA if it can")
                .default_value("auto")
                .mutable_ready()
                .build(),
            glib::ParamSpecString::builder("precision")
                .nick("Precision")
                .blurb(
                    "Number format to compute in: auto, f32 or int8; auto takes int8 if the model is \
                     calibrated for it and the CPU is fast at it, else f32",
                )
                .default_value("auto")
                .mutable_ready()
                .build(),
            glib::ParamSpecUInt::builder("threads")
                .nick("Threads")
                .blurb("Threads on the CPU; 0 for one per core, shared by all such elements")
                .maximum(1024)
                .mutable_ready()
                .build(),
            glib::ParamSpecString::builder("keyframes")
                .nick("Keyframes")
                .blurb(
                    "Values of parameters at stream times, e.g. \
                     \"alpha=0s:0,4s:1;beta(step)=0s:.5,2s:1\"; between them linear, step or cubic",
                )
                .mutable_ready()
                .build(),
            glib::ParamSpecEnum::builder_with_default("compare", Compare::default())
                .nick("Compare")
                .blurb("How to show what the filter does")
                .mutable_playing()
                .build(),
            glib::ParamSpecEnum::builder_with_default("overload", Overload::default())
                .nick("Overload")
                .blurb("What to do with a frame that would come too late")
                .mutable_playing()
                .build(),
            glib::ParamSpecBoolean::builder("message")
                .nick("Message")
                .blurb("Post `stats` on the bus for every second of the stream")
                .mutable_playing()
                .build(),
            glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
                .nick("Statistics")
                .blurb(
                    "What runs, and how fast: `engine`, `precision` and `model` (texts, empty \
                     while stopped); since the start, frames that were filtered (`frames`), that \
                     passed untouched because the tuning was zero or their fields cannot be filtered \
                     (`passthrough`) and because they \
                     would have been late (`overloaded`), and new tunings (`refolds`); median, mean \
                     and 95th percentile of the times of the last 64 filtered frames \
                     (`frame-time-ns`, `frame-time-mean-ns`, `frame-time-p95-ns`); `latency-ns`, as \
                     announced",
                )
                .read_only()
                .build(),
        ]
    });
    &COMMON
}

/// Specification of `model`, which elements of any model have.
pub fn model() -> glib::ParamSpec {
    glib::ParamSpecString::builder("model")
        .nick("Model")
        .blurb("Path of the checkpoint to run; empty for the built-in one")
        .mutable_ready()
        .build()
}

/// Whether an element has the property `model`.
pub fn has_model(definition: &Definition) -> bool {
    definition.source == ModelSource::Property
}

/// Takes a value; `id` is that of the property in its class, `is_own` whether that is the concrete
/// class.
pub fn set(
    settings: &mut Settings,
    definition: &Definition,
    (id, is_own): (usize, bool),
    name: &str,
    value: &glib::Value,
) {
    const TYPE: &str = "GObject checks the type";
    let or_auto = || {
        let text: Option<String> = value.get().expect(TYPE);
        text.unwrap_or_else(|| "auto".into())
    };
    if is_own && id <= definition.knobs.len() {
        settings.live.knobs.values[id - 1] = Some(value.get().expect(TYPE));
        return;
    }
    match name {
        "model" => settings.model = value.get().expect(TYPE),
        "device" => settings.device = or_auto(),
        "precision" => settings.precision = or_auto(),
        "threads" => settings.threads = value.get().expect(TYPE),
        "keyframes" => settings.keyframes = value.get().expect(TYPE),
        "compare" => settings.live.compare = value.get().expect(TYPE),
        "overload" => settings.live.overload = value.get().expect(TYPE),
        "message" => settings.live.message = value.get().expect(TYPE),
        _ => unreachable!("GObject sets properties that there are"),
    }
}

/// The value of a property other than `stats`; `id` and `is_own` as in [`set`].
pub fn get(
    settings: &Settings,
    definition: &Definition,
    (id, is_own): (usize, bool),
    name: &str,
) -> glib::Value {
    if is_own && id <= definition.knobs.len() {
        return settings.knob(id - 1).to_value();
    }
    match name {
        "model" => settings.model.to_value(),
        "device" => settings.device.to_value(),
        "precision" => settings.precision.to_value(),
        "threads" => settings.threads.to_value(),
        "keyframes" => settings.keyframes.to_value(),
        "compare" => settings.live.compare.to_value(),
        "overload" => settings.live.overload.to_value(),
        "message" => settings.live.message.to_value(),
        _ => unreachable!("GObject gets properties that there are"),
    }
}
