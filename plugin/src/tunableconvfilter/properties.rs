//! The properties that all elements of the plugin have, and the values of all of theirs.

use std::sync::LazyLock;

use gst::prelude::*;
use gstreamer as gst;

use super::definition::{Definition, ModelSource};
use super::knobs::Knob;
use super::settings::{Choice, Compare, Device, Overload, Precision, Settings};

/// Specifications of the properties that all elements have.
pub fn common() -> &'static [glib::ParamSpec] {
    static COMMON: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
        vec![
            glib::ParamSpecEnum::builder_with_default("device", Device::default())
                .nick("Device")
                .blurb(
                    "Where to run; automatic: CUDA if it is built in and a device answers, else the \
                     CPU",
                )
                .mutable_playing()
                .build(),
            glib::ParamSpecUInt::builder("cuda-device-id")
                .nick("CUDA device")
                .blurb("Number of the CUDA device, where the device is CUDA")
                .maximum(i32::MAX as u32)
                .mutable_playing()
                .build(),
            glib::ParamSpecEnum::builder_with_default("precision", Precision::default())
                .nick("Precision")
                .blurb(
                    "Number format to compute in; automatic: on CUDA f16, on the CPU int8 if the model is \
                     calibrated for it and the CPU is fast at it, else f32",
                )
                .mutable_playing()
                .build(),
            glib::ParamSpecUInt::builder("threads")
                .nick("Threads")
                .blurb("Threads on the CPU; 0 for one per core, shared by all such elements")
                .maximum(1024)
                .mutable_playing()
                .build(),
            glib::ParamSpecUInt::builder("tile-size")
                .nick("Tile size")
                .blurb(
                    "Most rows and columns made at once where the engine would hold whole frames \
                     (candle's), and most rows on CUDA, which bounds the memory; 0 for 512, 2048 where a net takes \
                     means over the frame, on CUDA for as many as a large GPU's cache holds",
                )
                .maximum(8192)
                .mutable_playing()
                .build(),
            glib::ParamSpecEnum::builder_with_default("compare", Compare::default())
                .nick("Compare")
                .blurb("How to show what the filter does")
                .mutable_playing()
                .build(),
            glib::ParamSpecEnum::builder_with_default("overload", Overload::default())
                .nick("Overload")
                .blurb(
                    "What to do with a frame that would come too late; automatic: pass it unfiltered \
                     while a sink drops late frames",
                )
                .mutable_playing()
                .build(),
            glib::ParamSpecBoolean::builder("post-messages")
                .nick("Post messages")
                .blurb("Post the statistics on the bus for every second of the stream")
                .mutable_playing()
                .build(),
            glib::ParamSpecBoolean::builder("message")
                .nick("Message")
                .blurb("The old name of post-messages")
                .flags(glib::ParamFlags::READWRITE | glib::ParamFlags::DEPRECATED)
                .mutable_playing()
                .build(),
            glib::ParamSpecBoolean::builder("auto-level")
                .nick("Automatic level")
                .blurb(
                    "Lets the knob for noise follow the noise, unless it is set or bound to a \
                     control source",
                )
                .mutable_playing()
                .build(),
            glib::ParamSpecDouble::builder("noise-level")
                .nick("Noise level")
                .blurb(
                    "The noise of the stream, as estimated: root mean square in luma, of 255; 0 \
                     before the first frame",
                )
                .maximum(255.0)
                .read_only()
                .build(),
            glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
                .nick("Statistics")
                .blurb(
                    "What runs, and how fast: engine, precision and model (texts, empty while \
                     stopped); since the start, frames that were filtered (frames), that passed \
                     untouched because the tuning was zero or their fields cannot be filtered \
                     (passthrough) and because they would have been late (overloaded), and new \
                     tunings (refolds); median, mean and 95th percentile of the times of the last \
                     64 filtered frames (frame-time-ns, frame-time-mean-ns, frame-time-p95-ns); \
                     latency-ns, as announced; saturation, the share of the last frame's \
                     activations that int8 had to cut to their calibrated range; noise-level, as the \
                     property",
                )
                .read_only()
                .build(),
        ]
    });
    &COMMON
}

/// Names of the properties that [`own`] describes.
pub const OWN: [&str; 2] = ["keyframes", "model"];

/// Specifications of the properties that an element has besides those and its knobs.
pub fn own(definition: &Definition) -> Vec<glib::ParamSpec> {
    let text = |name: &str, nick: &str, blurb: &str| {
        // Editors cannot show no text at all, only an empty one.
        let text = glib::ParamSpecString::builder(name).nick(nick).blurb(blurb);
        text.default_value(Some("")).mutable_playing().build()
    };
    let modes = ["", "(step)"];
    let example = |(Knob { name, minimum, maximum, .. }, mode): (&Knob, &str)| {
        format!("{name}{mode}=0s:{minimum},4s:{maximum}")
    };
    let examples: Vec<_> = definition.knobs.iter().zip(modes).map(example).collect();
    let keyframes = format!(
        "Values of parameters at stream times, e.g. \"{}\"; between them linear, (step) or (cubic)",
        examples.join(";")
    );
    let mut own = vec![text("keyframes", "Keyframes", &keyframes)];
    if has_model(definition) {
        let model = "Path of the checkpoint to run; empty for the built-in one";
        own.push(text("model", "Model", model));
    }
    own
}

/// Whether an element has the property `model`.
pub fn has_model(definition: &Definition) -> bool {
    definition.source == ModelSource::Property
}

/// What a property is a part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What each frame reads.
    Live,
    /// The choice of an engine.
    Choice,
    /// The keyframes.
    Keyframes,
}

/// Takes a value; `id` is that of the property in its class, `is_own` whether that is the concrete
/// class.
pub fn set(
    settings: &mut Settings,
    definition: &Definition,
    (id, is_own): (usize, bool),
    name: &str,
    value: &glib::Value,
) -> Part {
    const TYPE: &str = "GObject checks the type";
    if is_own && id <= definition.knobs.len() {
        settings.live.knobs.values[id - 1] = Some(value.get().expect(TYPE));
        return Part::Live;
    }
    let (choice, live) = (&mut settings.choice, &mut settings.live);
    // No text is an empty one.
    let text = || value.get::<Option<String>>().expect(TYPE).unwrap_or_default();
    match name {
        "compare" => live.compare = value.get().expect(TYPE),
        "overload" => live.overload = value.get().expect(TYPE),
        "post-messages" | "message" => live.post_messages = value.get().expect(TYPE),
        "auto-level" => live.auto_level = value.get().expect(TYPE),
        "keyframes" => {
            settings.keyframes = text();
            return Part::Keyframes;
        }
        _ => {
            match name {
                "model" => choice.model = text(),
                "device" => choice.device = value.get().expect(TYPE),
                "cuda-device-id" => choice.cuda_device_id = value.get().expect(TYPE),
                "precision" => choice.precision = value.get().expect(TYPE),
                "threads" => choice.threads = value.get().expect(TYPE),
                "tile-size" => choice.tile_size = value.get().expect(TYPE),
                _ => unreachable!("GObject sets properties that there are"),
            }
            return Part::Choice;
        }
    }
    Part::Live
}

/// The properties in which two choices differ.
pub fn differing(first: &Choice, second: &Choice) -> Vec<&'static str> {
    let all = [
        ("model", first.model != second.model),
        ("device", first.device != second.device),
        ("cuda-device-id", first.cuda_device_id != second.cuda_device_id),
        ("precision", first.precision != second.precision),
        ("threads", first.threads != second.threads),
        ("tile-size", first.tile_size != second.tile_size),
    ];
    all.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

/// The value of a property other than `stats` and `noise-level`; `id` and `is_own` as in [`set`].
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
        "model" => settings.choice.model.to_value(),
        "device" => settings.choice.device.to_value(),
        "cuda-device-id" => settings.choice.cuda_device_id.to_value(),
        "precision" => settings.choice.precision.to_value(),
        "threads" => settings.choice.threads.to_value(),
        "tile-size" => settings.choice.tile_size.to_value(),
        "keyframes" => settings.keyframes.to_value(),
        "compare" => settings.live.compare.to_value(),
        "overload" => settings.live.overload.to_value(),
        "post-messages" | "message" => settings.live.post_messages.to_value(),
        "auto-level" => settings.live.auto_level.to_value(),
        _ => unreachable!("GObject gets properties that there are"),
    }
}
