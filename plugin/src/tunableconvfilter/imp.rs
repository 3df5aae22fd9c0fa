//! Virtual methods and properties.
//!
//! Two locks, never held together: `settings` is held for copies only, so that setting or reading
//! a property never waits for a frame; `state` is held while a frame is filtered. What `stats` tells
//! of the running model is a copy in `settings`, or atomic.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gstreamer as gst;
use gstreamer_base as gst_base;
use gstreamer_video as gst_video;

use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::prelude::*;
use gst_video::subclass::prelude::*;
use gst_video::{VideoFormat, VideoFrameRef, VideoInfo, VideoInterlaceMode};
use tunableconv::frame::MAX_SIDE;

use super::settings::{SLOT_NAMES, SLOTS, Settings, default_slots, slot_parameter, used_slots};
use super::state::{State, built_in};
use super::stats::Stats;

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "tunableconvfilter",
        gst::DebugColorFlags::empty(),
        Some("Tunable neural video filter"),
    )
});

/// A latency this much larger or smaller than the one announced is announced anew.
const LATENCY_CHANGE: f64 = 0.2;

/// See the [module documentation](super).
pub struct TunableConvFilter {
    settings: Mutex<Settings>,
    /// `None` while stopped.
    state: Mutex<Option<State>>,
    /// What the LATENCY query adds, in nanoseconds.
    latency_ns: AtomicU64,
    stats: Stats,
    /// Whether downstream reads `GstVideoMeta`, and with it padded frames.
    downstream_takes_padding: AtomicBool,
}

/// A panic that poisoned the lock has put the element into an error state already.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the slots of the built-in model stand at.
fn built_in_defaults() -> [f64; SLOTS] {
    built_in().map_or([0.0; SLOTS], |checkpoint| default_slots(&checkpoint.metadata.tuning))
}

impl TunableConvFilter {
    /// Applies the control bindings for a frame with this timestamp.
    fn sync_controls(&self, pts: Option<gst::ClockTime>) {
        let obj = self.obj();
        let segment = obj.segment();
        let stream_time = segment
            .downcast_ref::<gst::ClockTime>()
            .zip(pts)
            .and_then(|(segment, pts)| segment.to_stream_time(pts));
        if let Some(stream_time) = stream_time
            && let Err(error) = obj.sync_values(stream_time)
        {
            gst::warning!(CAT, imp = self, "Control bindings at {stream_time}: {error}");
        }
    }

    /// Whether downstream can read the frame as it lies in memory.
    fn may_forward(&self, buffer: &gst::BufferRef, info: &VideoInfo) -> bool {
        self.downstream_takes_padding.load(Ordering::Relaxed)
            || buffer
                .meta::<gst_video::VideoMeta>()
                .is_none_or(|meta| meta.offset() == info.offset() && meta.stride() == info.stride())
    }

    fn post_warnings(&self, warnings: Vec<String>) {
        for warning in warnings {
            gst::element_imp_warning!(self, gst::LibraryError::Settings, ("{warning}"));
        }
    }

    /// Answers LATENCY queries with `latency` from now on, unless it is near what they got before.
    fn announce_latency(&self, latency: Duration) {
        let old = self.latency_ns.load(Ordering::Relaxed) as f64;
        let new = latency.as_nanos() as f64;
        if (new - old).abs() <= LATENCY_CHANGE * old {
            return;
        }
        gst::info!(CAT, imp = self, "Latency is {latency:?}");
        self.latency_ns.store(new as u64, Ordering::Relaxed);
        // Without a bus nobody redistributes latencies.
        let message = gst::message::Latency::builder().src(&*self.obj()).build();
        let _ = self.obj().post_message(message);
    }
}

#[glib::object_subclass]
impl ObjectSubclass for TunableConvFilter {
    const NAME: &'static str = "TunableConvFilter";
    type Type = super::TunableConvFilter;
    type ParentType = gst_video::VideoFilter;

    fn new() -> Self {
        Self {
            settings: Mutex::new(Settings::new(built_in_defaults())),
            state: Mutex::new(None),
            latency_ns: AtomicU64::new(0),
            stats: Stats::default(),
            downstream_takes_padding: AtomicBool::new(false),
        }
    }
}

impl ObjectImpl for TunableConvFilter {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            let mut properties = vec![
                glib::ParamSpecString::builder("model")
                    .nick("Model")
                    .blurb("Path of the checkpoint to run; empty for the built-in one")
                    .mutable_ready()
                    .build(),
                glib::ParamSpecString::builder("device")
                    .nick("Device")
                    .blurb("Where to run: auto, cpu, cuda or cuda:N; auto takes CUDA if it can")
                    .default_value("auto")
                    .mutable_ready()
                    .build(),
                glib::ParamSpecString::builder("precision")
                    .nick("Precision")
                    .blurb(
                        "Number format to compute in: auto, f32, f16 or int8; auto takes int8 if \
                         the model is calibrated for it and the CPU is fast at it, else f16 if the \
                         CPU has it, else f32",
                    )
                    .default_value("auto")
                    .mutable_ready()
                    .build(),
                glib::ParamSpecUInt::builder("threads")
                    .nick("Threads")
                    .blurb("Threads on the CPU; 0 for all cores")
                    .maximum(1024)
                    .mutable_ready()
                    .build(),
                glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
                    .nick("Statistics")
                    .blurb(
                        "What runs, and how fast: `engine` (text, empty while stopped); since the \
                         start, `frames` filtered and `passthrough` frames left untouched; \
                         `frame-time-ns`, the median time the engine took for the last 31 filtered \
                         frames; `latency-ns`, as announced",
                    )
                    .read_only()
                    .build(),
            ];
            properties.extend((0..SLOTS).map(slot_property));
            properties
        });
        &PROPERTIES
    }

    fn constructed(&self) {
        self.parent_constructed();
        // The base class would drop late frames before they reach `transform_frame`, and count
        // them late by a latency that is not yet known when the stream starts.
        self.obj().set_property("qos", false);
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        const TYPE: &str = "GObject checks the type";
        let or_auto = || {
            let text: Option<String> = value.get().expect(TYPE);
            text.unwrap_or_else(|| "auto".into())
        };
        let mut settings = lock(&self.settings);
        match pspec.name() {
            "model" => settings.model = value.get().expect(TYPE),
            "device" => settings.device = or_auto(),
            "precision" => settings.precision = or_auto(),
            "threads" => settings.threads = value.get().expect(TYPE),
            name => {
                if let Some(index) = SLOT_NAMES.iter().position(|slot| *slot == name) {
                    settings.slots.0[index] = Some(value.get().expect(TYPE));
                }
            }
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        let settings = lock(&self.settings);
        match pspec.name() {
            "model" => settings.model.to_value(),
            "device" => settings.device.to_value(),
            "precision" => settings.precision.to_value(),
            "threads" => settings.threads.to_value(),
            "stats" => {
                let latency_ns = self.latency_ns.load(Ordering::Relaxed);
                self.stats.structure(&settings.engine, latency_ns).to_value()
            }
            name => SLOT_NAMES
                .iter()
                .position(|slot| *slot == name)
                .map_or_else(|| pspec.default_value().clone(), |i| settings.slot(i).to_value()),
        }
    }
}

/// The property of a slot; default and blurb tell what it is in the built-in model.
fn slot_property(index: usize) -> glib::ParamSpec {
    let ordinal = ["First", "Second", "Third", "Fourth"][index];
    let mut blurb =
        format!("{ordinal} tuning parameter of the model, 0 for its minimum, 1 for its maximum");
    if let Ok(checkpoint) = built_in() {
        let space = &checkpoint.metadata.tuning;
        if index < used_slots(space) {
            let parameter = slot_parameter(space, index);
            blurb += &format!("; in the built-in model `{}`: {}", parameter.name, parameter.blurb);
        } else {
            blurb += "; not used by the built-in model";
        }
    }
    glib::ParamSpecDouble::builder(SLOT_NAMES[index])
        .nick(&format!("{ordinal} parameter"))
        .blurb(&blurb)
        .minimum(0.0)
        .maximum(1.0)
        .default_value(built_in_defaults()[index])
        .controllable()
        .mutable_playing()
        .build()
}

impl GstObjectImpl for TunableConvFilter {}

impl ElementImpl for TunableConvFilter {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Tunable neural video filter",
                "Filter/Effect/Video",
                "Filters video with a neural net whose trade-off can be tuned while it plays",
                env!("CARGO_PKG_AUTHORS"),
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let caps = gst_video::VideoCapsBuilder::new()
                .format_list([
                    VideoFormat::I420,
                    VideoFormat::Yv12,
                    VideoFormat::Nv12,
                    VideoFormat::Nv21,
                ])
                .width_range(1..=MAX_SIDE as i32)
                .height_range(1..=MAX_SIDE as i32)
                .build();
            let template = |name, direction| {
                gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &caps)
                    .expect("the names and caps of the templates are valid")
            };
            vec![template("sink", gst::PadDirection::Sink), template("src", gst::PadDirection::Src)]
        });
        &TEMPLATES
    }
}

impl BaseTransformImpl for TunableConvFilter {
    const MODE: gst_base::subclass::BaseTransformMode =
        gst_base::subclass::BaseTransformMode::NeverInPlace;
    const PASSTHROUGH_ON_SAME_CAPS: bool = false;
    const TRANSFORM_IP_ON_PASSTHROUGH: bool = false;

    fn start(&self) -> Result<(), gst::ErrorMessage> {
        let settings = lock(&self.settings).clone();
        let mut state = State::open(&settings)?;
        gst::info!(CAT, imp = self, "Running {}", state.description());
        {
            let mut settings = lock(&self.settings);
            settings.defaults = default_slots(state.space());
            settings.engine = state.description().into();
        }
        self.stats.reset();
        let warnings = state.new_warnings(settings.slots);
        *lock(&self.state) = Some(state);
        self.post_warnings(warnings);
        self.parent_start()
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        *lock(&self.state) = None;
        lock(&self.settings).engine.clear();
        self.latency_ns.store(0, Ordering::Relaxed);
        self.parent_stop()
    }

    fn query(&self, direction: gst::PadDirection, query: &mut gst::QueryRef) -> bool {
        if !BaseTransformImplExt::parent_query(self, direction, query) {
            return false;
        }
        if direction == gst::PadDirection::Src
            && let gst::QueryViewMut::Latency(query) = query.view_mut()
        {
            let own = gst::ClockTime::from_nseconds(self.latency_ns.load(Ordering::Relaxed));
            let (live, min, max) = query.result();
            query.set(live, min + own, max.map(|max| max + own));
        }
        true
    }

    fn decide_allocation(
        &self,
        query: &mut gst::query::Allocation,
    ) -> Result<(), gst::LoggableError> {
        let takes_padding = query.find_allocation_meta::<gst_video::VideoMeta>().is_some();
        self.downstream_takes_padding.store(takes_padding, Ordering::Relaxed);
        self.parent_decide_allocation(query)
    }

    /// Fixes the tuning of this frame, and whether it passes untouched: the base class calls this
    /// first, in passthrough too.
    fn before_transform(&self, buffer: &gst::BufferRef) {
        self.sync_controls(buffer.pts());
        let slots = lock(&self.settings).slots;
        let mut guard = lock(&self.state);
        let Some(state) = guard.as_mut() else { return };
        state.set_slots(slots);
        let warnings = state.new_warnings(slots);
        let passthrough = state.identity_info().is_some_and(|info| self.may_forward(buffer, info));
        drop(guard);

        if passthrough {
            self.stats.count_passthrough();
        }
        self.post_warnings(warnings);
        let obj = self.obj();
        if obj.is_passthrough() != passthrough {
            gst::debug!(CAT, imp = self, "Passthrough is {passthrough}");
            obj.set_passthrough(passthrough);
        }
    }
}

impl VideoFilterImpl for TunableConvFilter {
    fn set_info(
        &self,
        incaps: &gst::Caps,
        in_info: &VideoInfo,
        outcaps: &gst::Caps,
        out_info: &VideoInfo,
    ) -> Result<(), gst::LoggableError> {
        if in_info.interlace_mode() != VideoInterlaceMode::Progressive {
            gst::element_imp_error!(
                self,
                gst::StreamError::Format,
                ("Interlaced video cannot be filtered; put `deinterlace` before this element"),
                ["caps {incaps}"]
            );
            return Err(gst::loggable_error!(CAT, "Interlaced caps {incaps}"));
        }
        // In passthrough the base class would not negotiate buffers for filtered frames.
        self.obj().set_passthrough(false);
        let prepared = match lock(&self.state).as_mut() {
            Some(state) => state.set_info(in_info),
            None => return Err(gst::loggable_error!(CAT, "Caps {incaps} before the start")),
        };
        match prepared {
            Ok(Some(latency)) => self.announce_latency(latency),
            Ok(None) => {}
            Err(error) => {
                gst::element_imp_error!(
                    self,
                    gst::StreamError::Failed,
                    ("Cannot filter such frames: {error}"),
                    ["caps {incaps}"]
                );
                return Err(gst::loggable_error!(CAT, "Warm-up for {incaps}: {error}"));
            }
        }
        self.parent_set_info(incaps, in_info, outcaps, out_info)
    }

    fn transform_frame(
        &self,
        input: &VideoFrameRef<&gst::BufferRef>,
        output: &mut VideoFrameRef<&mut gst::BufferRef>,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        let transformed = match lock(&self.state).as_mut() {
            Some(state) => {
                let start = Instant::now();
                let transformed = state.transform(input, output);
                transformed.map(|()| self.stats.count_frame(start.elapsed()))
            }
            None => return Err(gst::FlowError::Flushing),
        };
        transformed.map(|()| gst::FlowSuccess::Ok).map_err(|error| {
            gst::element_imp_error!(
                self,
                gst::StreamError::Failed,
                ("Cannot filter a frame: {error}")
            );
            gst::FlowError::Error
        })
    }
}
