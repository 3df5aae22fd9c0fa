//! GStreamer plugin with the elements `tunableconvfilter` and `tunableconv-NAME`: neural video
//! filters whose trade-off is a set of controllable properties, to be set live or keyframed.
//!
//! | module | job |
//! |---|---|
//! | [`tunableconvfilter`] | the elements: types, properties, pads |
//!
//! Applications that link this crate register the elements with [`plugin_register_static`]; all
//! others find the shared library through `GST_PLUGIN_PATH` or in GStreamer's plugin folder.

#![allow(missing_docs, reason = "`plugin_define!` makes public functions without documentation")]

use gstreamer as gst;

pub mod tunableconvfilter;

fn plugin_init(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    tunableconvfilter::register(plugin)
}

gst::plugin_define!(
    tunableconv,
    env!("CARGO_PKG_DESCRIPTION"),
    plugin_init,
    concat!(env!("CARGO_PKG_VERSION"), "-", env!("COMMIT_ID")),
    "MIT/X11",
    env!("CARGO_PKG_NAME"),
    env!("CARGO_PKG_NAME"),
    env!("CARGO_PKG_REPOSITORY"),
    env!("BUILD_REL_DATE")
);
