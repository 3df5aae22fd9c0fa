//! The elements `tunableconvfilter` and `tunableconv-NAME`.
//!
//! They filter video with a tunable net. `tunableconvfilter` runs any model: `alpha`, `beta`,
//! `gamma` and `delta` are its first to fourth tuning parameter, each from 0 (its minimum) to 1
//! (its maximum). For every model that is installed or in a folder of `TUNABLECONV_MODEL_PATH`
//! there is also an element that runs only this one, and whose properties have the names and ranges
//! of its parameters: `tunableconv-broadcast` has `denoise`, `deblur` and
//! `deblock`.
//!
//! All of these can be set while playing and take control bindings, which are evaluated at the
//! stream time of each frame; where there is no way to make such bindings, `keyframes` makes them
//! from text. One frame sees one tuning. Where the tuning makes the net do nothing, as at zero,
//! frames pass untouched.
//!
//! Frames are of 8 to 16 bits, YUV, grey or RGB; alpha is kept. The net itself works on 4:2:0. Of
//! other frames only what it changes passes through 4:2:0, so that `denoise=0` loses no colour; as
//! it is turned up, colour noise finer than that is smoothed.
//!
//! Of interlaced frames each field is filtered as a picture of its own. In mixed streams those
//! frames are progressive that are not flagged as interlaced. Where fields come in buffers of their
//! own they pass untouched, and a warning tells.
//!
//! In a live pipeline the latency is measured when caps come, and announced. Where a sink drops late
//! frames, they are sent as they are, and the filter is blended in again when it keeps up;
//! `overload=passthrough` does so before a frame is late, and `overload=wait` never. Each such frame
//! is counted in `stats` and posted as a QoS message.
//!
//! `model`, `device`, `precision`, `threads` and `tile-size` may be set while playing: another engine is made
//! beside the one that runs, and takes its place between two frames. What cannot be loaded is told
//! in a warning, and the property stands at what runs again.
//!
//! ```text
//! gst-launch-1.0 videotestsrc num-buffers=100 ! video/x-raw,width=640,height=360 \
//!     ! tunableconvfilter alpha=0.5 ! videoconvert ! autovideosink
//! gst-launch-1.0 videotestsrc num-buffers=100 ! tunableconv-broadcast \
//!     keyframes="denoise=0s:0,2s:1" compare=split ! videoconvert ! autovideosink
//! gst-launch-1.0 -m videotestsrc is-live=true num-buffers=100 ! tunableconv-broadcast \
//!     denoise=0.2 overload=passthrough post-messages=true ! videoconvert ! autovideosink
//! ```
//!
//! | file | job |
//! |---|---|
//! | `definition.rs` | what a concrete element is: names, knobs, model |
//! | `element_type.rs` | its GType |
//! | `models.rs` | where models are found, and those in memory |
//! | `imp.rs` | virtual methods, in the order in which a frame meets them |
//! | `imp/messages.rs` | what the element says on the bus |
//! | `properties.rs`, `settings.rs` | properties and their values |
//! | `knobs.rs` | the tuning that values mean to a model |
//! | `keyframes.rs` | keyframes as text |
//! | `load.rs` | from the choice of a model, device and precision to an engine |
//! | `state.rs` | that engine and its stream, while the element is started |
//! | `live.rs` | latency, and when frames are due |
//! | `overload.rs` | what to do with frames that would be late |
//! | `mix.rs` | filtered and unfiltered picture in one |
//! | `stats.rs` | counters of the `stats` property |
//! | `warm_up.rs` | an engine's first frames, before the stream's first, and the time they take |
//! | `frame_times.rs` | the times that frames take, for all elements of the process |
//! | `memory.rs` | whether a buffer holds a frame |
//! | `formats.rs` | which pixel formats there are, and where their samples are |
//! | `unpack.rs` | formats that GStreamer unpacks |
//! | `fields.rs` | which rows of interlaced frames are a picture |
//! | `frame.rs` | GStreamer's frames as the library's |

mod definition;
mod element_type;
mod fields;
mod formats;
mod frame;
mod frame_times;
mod imp;
mod keyframes;
mod knobs;
mod live;
mod load;
mod memory;
mod mix;
mod models;
mod noise;
mod overload;
mod properties;
mod scaled;
mod settings;
mod state;
mod stats;
mod unpack;
mod warm_up;

use glib::prelude::*;
use gstreamer as gst;
use tunableconv::engine::Engine;

use definition::Definition;

/// As `gst-inspect-1.0` and editors sort the elements.
const CLASSIFICATION: &str = "Filter/Effect/Video";

glib::wrapper! {
    /// What all elements of the plugin have in common; see the [module documentation](self).
    pub struct TunableConvBase(ObjectSubclass<imp::TunableConvBase>)
        @extends gstreamer_video::VideoFilter, gstreamer_base::BaseTransform, gst::Element, gst::Object,
        @implements gst::Preset;
}

/// Registers the elements for `plugin`. What is wrong with a model is told, and the model left out.
///
/// # Errors
/// When GStreamer or GLib refuses a name, or the built-in model is broken.
pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    models::watch(plugin);
    let any = Definition::of_any_model().map_err(|error| glib::bool_error!("{error}"))?;
    register_one(plugin, any)?;

    let class = glib::object::Class::<TunableConvBase>::from_type(TunableConvBase::static_type());
    let class = class.ok_or_else(|| glib::bool_error!("no class of the base"))?;
    let (definitions, errors) = models::definitions(|name| {
        class.find_property(name).is_some() || properties::OWN.contains(&name)
    });
    for definition in definitions {
        register_one(plugin, definition)?;
    }
    for error in errors {
        models::warn(&error);
    }
    Ok(())
}

fn register_one(plugin: &gst::Plugin, definition: Definition) -> Result<(), glib::BoolError> {
    let name = definition.element.clone();
    gst::Element::register(
        Some(plugin),
        &name,
        gst::Rank::NONE,
        element_type::register(definition)?,
    )
}

/// Gives an element another engine than its model's at the next start, for tests.
///
/// # Panics
/// If the element is not of this plugin.
#[doc(hidden)]
pub fn set_engine(element: &gst::Element, engine: Box<dyn Engine>) {
    let element = element.downcast_ref::<TunableConvBase>().expect("an element of this plugin");
    imp::set_engine(element, engine);
}
