//! Virtual methods of the abstract base, which does all the work.
//!
//! Locks, never two held together: `settings` is held for copies only, so that setting or reading a
//! property never waits for a frame; `state` is held while a frame is filtered; `bindings` while
//! the bindings of `keyframes` are looked at. What `stats` tells of the running model is a copy in
//! `settings`, or atomic.

mod messages;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use gstreamer as gst;
use gstreamer_base as gst_base;
use gstreamer_video as gst_video;

use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::base_transform::{InputBuffer, PrepareOutputBufferSuccess};
use gst_base::subclass::prelude::*;
use gst_video::subclass::prelude::*;
use gst_video::{VideoFormat, VideoInfo};
use tunableconv::engine::Engine;
use tunableconv::frame::MAX_SIDE;

use super::definition::Definition;
use super::element_type::definition_of;
use super::fields::Scan;
use super::keyframes::{self, Bindings};
use super::knobs::defaults;
use super::live::{LiveTime, Moment};
use super::overload::Decision;
use super::settings::{Overload, Settings};
use super::state::{FrameTask, State, clock_time};
use super::stats::{Stats, count};
use super::{formats, properties};

pub static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "tunableconvfilter",
        gst::DebugColorFlags::empty(),
        Some("Tunable neural video filters"),
    )
});

/// Latency over the time that a frame takes: the machine will not always be as idle.
const HEADROOM: f64 = 1.5;

/// Statistics are posted as often, in running time.
const MESSAGE_INTERVAL: gst::ClockTime = gst::ClockTime::SECOND;

/// See the [module documentation](super).
pub struct TunableConvBase {
    definition: &'static Definition,
    settings: Mutex<Settings>,
    /// `None` while stopped.
    state: Mutex<Option<State>>,
    bindings: Mutex<Bindings>,
    /// What is known of the pipeline's time.
    time: LiveTime,
    stats: Stats,
    /// Whether downstream reads `GstVideoMeta`, and with it padded frames.
    downstream_takes_padding: AtomicBool,
    /// Caps that were last refused, which come again with each buffer but are told of once.
    refused: Mutex<Option<gst::Caps>>,
    /// For the next start, from [`set_engine`].
    engine: Mutex<Option<Box<dyn Engine>>>,
}

/// A panic that poisoned the lock has put the element into an error state already.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// See [`super::set_engine`].
pub fn set_engine(element: &super::TunableConvBase, engine: Box<dyn Engine>) {
    *lock(&element.imp().engine) = Some(engine);
}

#[glib::object_subclass]
impl ObjectSubclass for TunableConvBase {
    const NAME: &'static str = "TunableConvBase";
    const ABSTRACT: bool = true;
    type Type = super::TunableConvBase;
    type ParentType = gst_video::VideoFilter;
    type Interfaces = (gst::Preset,);

    /// The class is the concrete one.
    fn with_class(class: &Self::Class) -> Self {
        let definition = definition_of(class);
        Self {
            definition,
            settings: Mutex::new(Settings::new(definition)),
            state: Mutex::new(None),
            bindings: Mutex::default(),
            time: LiveTime::default(),
            stats: Stats::default(),
            downstream_takes_padding: AtomicBool::new(false),
            refused: Mutex::default(),
            engine: Mutex::new(None),
        }
    }
}

impl ObjectImpl for TunableConvBase {
    fn properties() -> &'static [glib::ParamSpec] {
        properties::common()
    }

    fn constructed(&self) {
        self.parent_constructed();
        // The base class would drop late frames before they reach `before_transform`, and count
        // them late by a latency that is not yet known when the stream starts.
        self.obj().set_property("qos", false);
        self.explain_refused_caps();
    }

    fn set_property(&self, id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        let place = (id, pspec.owner_type() == self.obj().type_());
        let settings = &mut lock(&self.settings);
        properties::set(settings, self.definition, place, pspec.name(), value);
    }

    fn property(&self, id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        if pspec.name() == "stats" {
            return self.statistics().to_value();
        }
        let place = (id, pspec.owner_type() == self.obj().type_());
        properties::get(&lock(&self.settings), self.definition, place, pspec.name())
    }
}

impl GstObjectImpl for TunableConvBase {}

impl ElementImpl for TunableConvBase {
    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let of_formats = |formats: &[VideoFormat]| {
                gst_video::VideoCapsBuilder::new()
                    .format_list(formats.iter().copied())
                    .width_range(1..=MAX_SIDE as i32)
                    .height_range(1..=MAX_SIDE as i32)
            };
            let others = [&formats::OTHERS[..], &formats::UNPACKED].concat();
            // A source that could give any of them takes one of the first structure.
            let mut caps = of_formats(&formats::FIRST).build();
            caps.make_mut().append(of_formats(&others).build());
            // Fields in buffers of their own.
            for formats in [&formats::FIRST[..], &others] {
                let fields =
                    of_formats(formats).features([gst_video::CAPS_FEATURE_FORMAT_INTERLACED]);
                let fields = fields.field("interlace-mode", "alternate").build();
                caps.make_mut().append(fields);
            }
            let template = |name, direction| {
                gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &caps)
                    .expect("the names and caps of the templates are valid")
            };
            vec![template("sink", gst::PadDirection::Sink), template("src", gst::PadDirection::Src)]
        });
        &TEMPLATES
    }
}

impl PresetImpl for TunableConvBase {}

impl BaseTransformImpl for TunableConvBase {
    const MODE: gst_base::subclass::BaseTransformMode =
        gst_base::subclass::BaseTransformMode::NeverInPlace;
    const PASSTHROUGH_ON_SAME_CAPS: bool = false;
    const TRANSFORM_IP_ON_PASSTHROUGH: bool = false;

    fn start(&self) -> Result<(), gst::ErrorMessage> {
        let settings = lock(&self.settings).clone();
        let tracks = self.keyframes(&settings)?;
        let engine = lock(&self.engine).take();
        let mut state = match engine {
            Some(engine) => State::with_engine(engine, &settings)?,
            None => State::open(self.definition, &settings)?,
        };
        let running = state.running(self.definition, &settings);
        gst::info!(CAT, imp = self, "Running {}", running.engine);
        {
            let mut settings = lock(&self.settings);
            settings.defaults = defaults(state.space(), self.definition.scale);
            settings.engine = running;
        }
        self.stats.reset();
        self.time.reset();
        *lock(&self.refused) = None;
        let unknown = state.newly_without_parameter(settings.live.knobs);
        self.warn_of_knobs(&unknown, &state.space().names());
        *lock(&self.state) = Some(state);
        let others = lock(&self.bindings).replace(self.obj().upcast_ref(), &tracks);
        self.warn_of_bindings(&others);
        self.parent_start()
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        *lock(&self.state) = None;
        lock(&self.settings).engine = Default::default();
        self.time.reset();
        self.parent_stop()
    }

    fn query(&self, direction: gst::PadDirection, query: &mut gst::QueryRef) -> bool {
        if !BaseTransformImplExt::parent_query(self, direction, query) {
            return false;
        }
        if direction == gst::PadDirection::Src
            && let gst::QueryViewMut::Latency(query) = query.view_mut()
        {
            self.time.answer(query);
        }
        true
    }

    fn src_event(&self, event: gst::Event) -> bool {
        if let gst::EventView::Qos(qos) = event.view() {
            self.time.take_qos(qos);
        }
        self.parent_src_event(event)
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        if let gst::EventView::FlushStop(_) = event.view() {
            self.time.flush();
            if let Some(state) = lock(&self.state).as_mut() {
                state.flush();
            }
        }
        self.parent_sink_event(event)
    }

    fn decide_allocation(
        &self,
        query: &mut gst::query::Allocation,
    ) -> Result<(), gst::LoggableError> {
        let takes_padding = query.find_allocation_meta::<gst_video::VideoMeta>().is_some();
        self.downstream_takes_padding.store(takes_padding, Ordering::Relaxed);
        self.parent_decide_allocation(query)
    }

    /// Size, place, orientation and colour of what is in a frame stay as they are, and so does all
    /// that is said of them; the base class keeps no meta that is of the memory.
    fn transform_meta<'a>(
        &self,
        _output: &mut gst::BufferRef,
        _meta: gst::MetaRef<'a, gst::Meta>,
        _input: &'a gst::BufferRef,
    ) -> bool {
        true
    }

    /// Without caps there is nothing to make a buffer for, which the base class would not notice.
    fn prepare_output_buffer(
        &self,
        input: InputBuffer<'_>,
    ) -> Result<PrepareOutputBufferSuccess, gst::FlowError> {
        if lock(&self.state).as_ref().and_then(State::info).is_none() {
            return Err(gst::FlowError::NotNegotiated);
        }
        self.parent_prepare_output_buffer(input)
    }

    /// A frame's size is that of its caps; a buffer may be padded, or empty.
    fn transform_size(
        &self,
        _direction: gst::PadDirection,
        _caps: &gst::Caps,
        _size: usize,
        othercaps: &gst::Caps,
    ) -> Option<usize> {
        VideoInfo::from_caps(othercaps).ok().map(|info| info.size())
    }

    /// Not the base class's, which trusts what buffers say of themselves.
    fn transform(
        &self,
        input: &gst::Buffer,
        output: &mut gst::BufferRef,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        let transformed = match lock(&self.state).as_mut() {
            Some(state) => {
                let start = Moment::now(&self.obj());
                let transformed = state.transform(input, output);
                let time = Moment::now(&self.obj()).since(&start);
                if transformed.is_ok() && !state.frame.is_untouched() {
                    state.policy.measured(clock_time(time));
                    self.stats.count_frame(time);
                }
                transformed
            }
            None => return Err(gst::FlowError::Flushing),
        };
        transformed.map(|()| gst::FlowSuccess::Ok).map_err(|error| self.fail(&error))
    }

    /// Fixes the tuning of this frame, and whether it passes untouched: the base class calls this
    /// first, in passthrough too.
    fn before_transform(&self, buffer: &gst::BufferRef) {
        let obj = self.obj();
        let segment = obj.segment().downcast::<gst::ClockTime>().ok();
        // Backwards from nowhere there is no time.
        let segment = segment.filter(|segment| segment.rate() > 0.0 || segment.stop().is_some());
        let time = |to: fn(&gst::FormattedSegment<gst::ClockTime>, gst::ClockTime) -> _| {
            segment.as_ref().zip(buffer.pts()).and_then(|(segment, pts)| to(segment, pts))
        };
        let stream_time = time(|segment, pts| segment.to_stream_time(pts));
        let running_time = time(|segment, pts| segment.to_running_time(pts));
        self.sync_controls(stream_time);
        let live = lock(&self.settings).live;

        let mut guard = lock(&self.state);
        let Some(state) = guard.as_mut() else { return };
        if state.set_knobs(live.knobs) {
            count(&self.stats.refolds);
        }
        let unknown = state.newly_without_parameter(live.knobs);
        let is_identity = state.is_identity();
        let scan = state.scan(buffer);
        let is_newly_unknown = !is_identity && state.is_newly_unknown(scan);
        let timing =
            self.time.of_frame(&obj, running_time, state.frame_duration(running_time, buffer));
        let mut overload = None;
        let decision = match timing.filter(|_| live.overload == Overload::Passthrough) {
            Some(timing) if !is_identity && scan.is_known() => {
                let decision = state.policy.decide(timing);
                if decision == Decision::Bypass {
                    count(&self.stats.overloaded);
                    overload = Some(self.qos(buffer, timing, stream_time, state.policy.expected()));
                }
                decision
            }
            _ => Decision::Filter(1.0),
        };
        state.frame = FrameTask { decision, compare: live.compare, scan };
        let is_untouched = is_identity || state.frame.is_untouched();
        let may_forward = state.info().is_some_and(|info| self.may_forward(buffer, info));
        let is_message_due = live.message && state.is_due(running_time, MESSAGE_INTERVAL);
        let names = (!unknown.is_empty()).then(|| state.space().names());
        // Who hears a message at once may want the lock.
        drop(guard);

        overload.into_iter().for_each(|message| self.post(message));
        self.warn_of_knobs(&unknown, &names.unwrap_or_default());
        if is_newly_unknown {
            self.warn_of_fields();
        }
        if is_identity || !scan.is_known() {
            count(&self.stats.passthrough);
        }
        if is_message_due {
            self.post(gst::message::Element::builder(self.statistics()).src(&*obj).build());
        }
        // In passthrough the base class would not ask a new peer for its pool, nor us what it takes.
        let has_peer_to_ask = obj.src_pad().needs_reconfigure();
        let passthrough = scan == Scan::Apart || is_untouched && may_forward && !has_peer_to_ask;
        if obj.is_passthrough() != passthrough {
            gst::debug!(CAT, imp = self, "Passthrough is {passthrough}");
            obj.set_passthrough(passthrough);
        }
    }
}

impl VideoFilterImpl for TunableConvBase {
    fn set_info(
        &self,
        incaps: &gst::Caps,
        in_info: &VideoInfo,
        outcaps: &gst::Caps,
        out_info: &VideoInfo,
    ) -> Result<(), gst::LoggableError> {
        // In passthrough the base class would not negotiate buffers for filtered frames.
        self.obj().set_passthrough(false);
        let clock = || Moment::now(&self.obj());
        let prepared = match lock(&self.state).as_mut() {
            Some(state) => state.set_info(in_info, &clock),
            None => return Err(gst::loggable_error!(CAT, "Caps {incaps} before the start")),
        };
        match prepared {
            Ok(Some(time)) => self.announce_latency(time.mul_f64(HEADROOM)),
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
}

impl TunableConvBase {
    /// Applies the control bindings for a frame with this stream time.
    fn sync_controls(&self, stream_time: Option<gst::ClockTime>) {
        let obj = self.obj();
        if let Some(stream_time) = stream_time
            && let Err(error) = obj.sync_values(stream_time)
        {
            gst::warning!(CAT, imp = self, "Control bindings at {stream_time}: {error}");
        }
        let replaced = lock(&self.bindings).replaced(obj.upcast_ref());
        self.warn_of_bindings(&replaced);
    }

    /// The tracks of the property `keyframes`.
    fn keyframes(&self, settings: &Settings) -> Result<Vec<keyframes::Track>, gst::ErrorMessage> {
        let tracks = keyframes::parse(settings.keyframes.as_deref().unwrap_or_default());
        tracks
            .and_then(|tracks| keyframes::check(&tracks, &self.definition.knobs).map(|()| tracks))
            .map_err(|reason| {
                gst::error_msg!(
                    gst::ResourceError::Settings,
                    ("Cannot use the settings: keyframes: {reason}")
                )
            })
    }

    /// Whether downstream can read the frame as it lies in memory.
    fn may_forward(&self, buffer: &gst::BufferRef, info: &VideoInfo) -> bool {
        self.downstream_takes_padding.load(Ordering::Relaxed)
            || buffer.meta::<gst_video::VideoMeta>().is_none_or(|meta| {
                meta.offset() == info.offset()
                    && meta.stride() == info.stride()
                    && buffer.size() >= info.size()
            })
    }

    fn statistics(&self) -> gst::Structure {
        let running = lock(&self.settings).engine.clone();
        self.stats.structure(&running, self.time.latency().nseconds())
    }
}
