//! The element `tunableconvfilter`.
//!
//! It filters 8-bit 4:2:0 video with a tunable net. `alpha`, `beta`, `gamma` and `delta` are the
//! first to fourth tuning parameter of the model, each from 0 (its minimum) to 1 (its maximum);
//! with the built-in model `alpha` removes noise and `beta` undoes blur. At `alpha=0 beta=0` that
//! model leaves every bit as it is. All four can be set while playing and take control bindings,
//! which are evaluated at the stream time of each frame.
//!
//! `precision` is the number format to compute in; `auto` takes int8 if the model is calibrated for
//! it and the CPU is fast at it, else f16 if the CPU has it, else f32. `stats` tells what runs and
//! how fast, as a structure `application/x-tunableconvfilter-stats` that can be read at any time
//! without waiting for a frame:
//!
//! | field | |
//! |---|---|
//! | `engine` | engine, device, threads and precision, and what was not used and why; empty while stopped |
//! | `frames` | frames filtered since the start |
//! | `passthrough` | frames left untouched since the start, because the tuning was zero |
//! | `frame-time-ns` | median of the times the engine took for the last 31 filtered frames |
//! | `latency-ns` | latency announced to the pipeline |
//!
//! ```text
//! gst-launch-1.0 videotestsrc num-buffers=100 ! video/x-raw,format=I420,width=640,height=360 \
//!     ! tunableconvfilter alpha=0.5 ! videoconvert ! autovideosink
//! ```
//!
//! | file | job |
//! |---|---|
//! | `imp.rs` | virtual methods and properties |
//! | `settings.rs` | property values, and the tuning they mean to a model |
//! | `state.rs` | the loaded model while the element is started |
//! | `stats.rs` | counters of the `stats` property |
//! | `warm_up.rs` | first frames before the stream's first, and the latency they measure |
//! | `frame.rs` | GStreamer's frames as the library's |

mod frame;
mod imp;
mod settings;
mod state;
mod stats;
mod warm_up;

use glib::prelude::*;
use gstreamer as gst;

glib::wrapper! {
    /// See the [module documentation](self).
    pub struct TunableConvFilter(ObjectSubclass<imp::TunableConvFilter>)
        @extends gstreamer_video::VideoFilter, gstreamer_base::BaseTransform, gst::Element, gst::Object;
}

/// Registers the element for `plugin`.
///
/// # Errors
/// When GStreamer refuses the name.
pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(
        Some(plugin),
        "tunableconvfilter",
        gst::Rank::NONE,
        TunableConvFilter::static_type(),
    )
}
