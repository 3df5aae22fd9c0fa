//! Virtual methods of the abstract base, which does all the work.
//!
//! Locks, never two held together but for `loading`: `settings` is held for copies only, so that
//! setting or reading a property never waits for a frame; `state` is held while a frame is filtered;
//! `bindings` while the bindings of `keyframes` are looked at; `loading` while another engine is
//! made. What `stats` tells of the running model is a copy in `settings`, or atomic.

mod choice;
mod decide;
mod messages;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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
use super::keyframes::Bindings;
use super::knobs::defaults;
use super::live::{LiveTime, Moment};
use super::load::{self, Loaded, Slot};
use super::properties::Part;
use super::settings::{Overload, Settings};
use super::state::{State, clock_time};
use super::stats::Stats;
use super::{formats, memory, properties, scaled};

pub static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "tunableconvfilter",
        gst::DebugColorFlags::empty(),
        Some("Tunable neural video filters"),
    )
});

/// After as many filtered frames it is looked again how long one takes.
const REFINED_EVERY: u64 = 32;

/// Statistics are posted as often, in running time.
const MESSAGE_INTERVAL: gst::ClockTime = gst::ClockTime::SECOND;

/// See the [module documentation](super).
pub struct TunableConvBase {
    definition: &'static Definition,
    settings: Mutex<Settings>,
    /// `None` while stopped.
    state: Mutex<Option<State>>,
    bindings: Mutex<Bindings>,
    /// How many times as large the model makes frames: the one that runs, or else the one that is chosen. Pads are
    /// linked by it before the start.
    scale: AtomicUsize,
    /// What is known of the pipeline's time.
    time: LiveTime,
    stats: Stats,
    /// Whether downstream reads `GstVideoMeta`, and with it padded frames.
    downstream_takes_padding: AtomicBool,
    /// Caps that were last refused, which come again with each buffer but are told of once.
    refused: Mutex<Option<gst::Caps>>,
    /// Held while another engine is made.
    loading: Mutex<()>,
    /// Another engine, for the next frame.
    next: Mutex<Slot>,
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
            scale: AtomicUsize::new(definition.enlarges),
            time: LiveTime::default(),
            stats: Stats::default(),
            downstream_takes_padding: AtomicBool::new(false),
            refused: Mutex::default(),
            loading: Mutex::default(),
            next: Mutex::default(),
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
        let part = {
            let settings = &mut lock(&self.settings);
            properties::set(settings, self.definition, place, pspec.name(), value)
        };
        match part {
            Part::Live => {}
            Part::Choice => self.choose(),
            Part::Keyframes => self.use_keyframes(),
        }
    }

    fn property(&self, id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        match pspec.name() {
            "stats" => return self.statistics().to_value(),
            "noise-level" => return self.stats.noise().to_value(),
            _ => {}
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
        self.tracks(&settings.keyframes).map_err(|reason| {
            gst::error_msg!(gst::ResourceError::Settings, ("Cannot use the settings: {reason}"))
        })?;
        let loaded = match lock(&self.engine).take() {
            Some(engine) => Loaded::of_engine(engine, self.definition, &settings.choice),
            None => {
                Loaded::open(self.definition, &settings.choice).map_err(|error| error.message())?
            }
        };
        let running = loaded.running.clone();
        gst::info!(CAT, imp = self, "Running {}", running.engine);
        self.scale.store(loaded.scale, Ordering::Relaxed);
        let mut state = State::new(loaded, settings.live.knobs)
            .map_err(|error| load::of_model(error).message())?;
        self.forget_next();
        let choice = {
            let mut settings_now = lock(&self.settings);
            settings_now.defaults = defaults(state.space(), self.definition.scale);
            settings_now.engine = running;
            settings_now.in_force = Some(settings.choice.clone());
            settings_now.choice.clone()
        };
        self.stats.reset();
        self.time.reset();
        *lock(&self.refused) = None;
        let unknown = state.newly_without_parameter(settings.live.knobs);
        self.warn_of_knobs(&unknown, &state.space().names());
        *lock(&self.state) = Some(state);
        if choice != settings.choice {
            // It was chosen while the other one was loaded.
            self.choose();
        }
        self.parent_start()
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        // First of all, so that nobody begins to make another engine for this one.
        let is_other_chosen = {
            let mut settings = lock(&self.settings);
            settings.engine = Default::default();
            settings.followed = None;
            let in_force = settings.in_force.take();
            in_force.is_some_and(|in_force| in_force != settings.choice)
        };
        self.forget_next();
        *lock(&self.state) = None;
        if is_other_chosen {
            // It was not made any more, but pads are linked by it.
            self.choose();
        }
        self.time.reset();
        self.parent_stop()
    }

    fn query(&self, direction: gst::PadDirection, query: &mut gst::QueryRef) -> bool {
        // In passthrough the base class would forward it to a new peer, and forget to ask that one for ourselves.
        if direction == gst::PadDirection::Sink
            && query.type_() == gst::QueryType::Allocation
            && self.obj().src_pad().needs_reconfigure()
        {
            self.obj().set_passthrough(false);
        }
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

    fn src_event(&self, mut event: gst::Event) -> bool {
        let scale = self.scale();
        if scale > 1 && event.type_() == gst::EventType::Navigation {
            scaled::navigation(event.make_mut(), scale as f64);
        }
        match event.view() {
            gst::EventView::Qos(qos) => {
                let is_ours = self.time.take_qos(qos);
                // Decoders would skip frames where the filter will.
                if is_ours && lock(&self.settings).live.overload != Overload::Wait {
                    return true;
                }
            }
            gst::EventView::Latency(latency) => self.time.take_latency(latency),
            _ => {}
        }
        self.parent_src_event(event)
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        match event.view() {
            gst::EventView::FlushStop(_) => {
                self.time.flush();
                if let Some(state) = lock(&self.state).as_mut() {
                    state.flush();
                }
            }
            // In passthrough the base class would take those before for all that there is to say, and forget whom it
            // was to ask for buffers.
            gst::EventView::Caps(_) => self.obj().set_passthrough(false),
            _ => {}
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
    /// that is said of them, unless frames become larger; the base class keeps no meta that is of the
    /// memory.
    fn transform_meta<'a>(
        &self,
        output: &mut gst::BufferRef,
        meta: gst::MetaRef<'a, gst::Meta>,
        input: &'a gst::BufferRef,
    ) -> bool {
        let guard = lock(&self.state);
        let Some(state) = guard.as_ref() else { return true };
        let Some((info, out_info)) = state.info().zip(state.out_info()) else { return true };
        // What was cut out is all that there is.
        if meta.downcast_ref::<gst_video::VideoCropMeta>().is_some() && memory::is_cut(input, info)
        {
            return false;
        }
        state.scale() == 1 || scaled::meta(output, &meta, (info, out_info))
    }

    fn transform_caps(
        &self,
        direction: gst::PadDirection,
        caps: &gst::Caps,
        filter: Option<&gst::Caps>,
    ) -> Option<gst::Caps> {
        let scale = self.scale();
        if scale == 1 {
            return self.parent_transform_caps(direction, caps, filter);
        }
        let caps = scaled::caps(direction, caps, scale as i32);
        Some(match filter {
            Some(filter) => filter.intersect_with_mode(&caps, gst::CapsIntersectMode::First),
            None => caps,
        })
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
        let mut refined = None;
        let transformed = match lock(&self.state).as_mut() {
            Some(state) => {
                let start = Moment::now(&self.obj());
                let transformed = state.transform(input, output);
                let time = Moment::now(&self.obj()).since(&start);
                if transformed.is_ok() && !state.frame.is_untouched() {
                    state.policy.measured(clock_time(time));
                    let count = self.stats.count_frame(time, state.saturation());
                    if count.is_multiple_of(REFINED_EVERY) {
                        refined = Some(self.stats.median());
                        state.learn(self.stats.median());
                    }
                }
                transformed
            }
            None => return Err(gst::FlowError::Flushing),
        };
        if let Some(time) = refined.filter(|time| clock_time(*time) > self.time.latency()) {
            self.announce_latency(time);
        }
        transformed.map(|()| gst::FlowSuccess::Ok).map_err(|error| self.fail(&error))
    }

    /// Fixes the tuning of this frame, and whether it passes untouched: the base class calls this
    /// first, in passthrough too.
    fn before_transform(&self, buffer: &gst::BufferRef) {
        self.decide(buffer);
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
        // What waits knows no frames, or others.
        self.take_next();
        let clock = || Moment::now(&self.obj());
        let prepared = match lock(&self.state).as_mut() {
            Some(state) => state.set_info(in_info, out_info, &clock),
            None => return Err(gst::loggable_error!(CAT, "Caps {incaps} before the start")),
        };
        match prepared {
            Ok(Some(time)) => {
                self.stats.restart_times();
                self.announce_latency(time);
            }
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
    /// How many times as large frames become.
    fn scale(&self) -> usize {
        self.scale.load(Ordering::Relaxed)
    }

    /// Whether frames of these caps can become as much larger as the model makes them.
    fn can_scale(&self, caps: &gst::CapsRef) -> bool {
        let scale = self.scale();
        scale == 1 || !scaled::caps(gst::PadDirection::Sink, caps, scale as i32).is_empty()
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
