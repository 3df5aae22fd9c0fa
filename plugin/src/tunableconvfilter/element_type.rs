//! GTypes of the concrete elements, made from their definitions when the plugin is loaded.
//!
//! A class with properties that are known only at run time cannot be an `ObjectSubclass`. So the
//! abstract base is one, and the concrete classes are registered with GLib itself: they add their
//! knobs to what they inherit, and a few that are described by them. Property N of a class is
//! knob N − 1; the base gets and sets it.

use std::collections::HashMap;
use std::ffi::CString;
use std::sync::{PoisonError, RwLock};

use glib::ffi as glib_ffi;
use glib::gobject_ffi;
use glib::object::ObjectClass;
use glib::prelude::*;
use glib::translate::*;
use gst::prelude::*;
use gstreamer as gst;

use super::definition::Definition;
use super::knobs::Knob;
use super::{TunableConvBase, properties};

/// Definitions by GType. GTypes are for ever, and so are these.
static DEFINITIONS: RwLock<Option<HashMap<glib::Type, &'static Definition>>> = RwLock::new(None);

/// The definition of a concrete class.
pub fn definition_of(class: &ObjectClass) -> &'static Definition {
    let definitions = DEFINITIONS.read().unwrap_or_else(PoisonError::into_inner);
    definitions
        .as_ref()
        .and_then(|definitions| definitions.get(&class.type_()).copied())
        .expect("every concrete class has a definition")
}

/// Registers the GType of an element, or finds it where another copy of the plugin's code in the
/// process has registered it.
///
/// # Errors
/// When another type has the name.
pub fn register(definition: Definition) -> Result<glib::Type, glib::BoolError> {
    let base = TunableConvBase::static_type();
    if let Some(known) = glib::Type::from_name(&definition.type_name) {
        if known.is_a(base) {
            return Ok(known);
        }
        return Err(glib::bool_error!("GType {} is not of this plugin", definition.type_name));
    }
    let name = CString::new(definition.type_name.as_str())
        .map_err(|_| glib::bool_error!("GType name {:?}", definition.type_name))?;
    let definition: &'static Definition = Box::leak(Box::new(definition));

    let mut parent = gobject_ffi::GTypeQuery {
        type_: 0,
        type_name: std::ptr::null(),
        class_size: 0,
        instance_size: 0,
    };
    // SAFETY: `parent` is one to write to.
    unsafe { gobject_ffi::g_type_query(base.into_glib(), &mut parent) };
    let size = |size: u32| u16::try_from(size).expect("GType sizes have 16 bits");
    let info = gobject_ffi::GTypeInfo {
        class_size: size(parent.class_size),
        base_init: None,
        base_finalize: None,
        class_init: Some(class_init),
        class_finalize: None,
        class_data: std::ptr::from_ref(definition).cast(),
        instance_size: size(parent.instance_size),
        n_preallocs: 0,
        instance_init: None,
        value_table: std::ptr::null(),
    };
    // Nothing can be derived from it: its class is made for one model.
    let flags = gobject_ffi::G_TYPE_FLAG_FINAL;
    // SAFETY: the name is a string, and `info` describes a class that adds nothing to its parent's
    // structures; `class_data` lives for ever.
    let element: glib::Type = unsafe {
        from_glib(gobject_ffi::g_type_register_static(
            base.into_glib(),
            name.as_ptr(),
            &info,
            flags,
        ))
    };
    if !element.is_valid() {
        return Err(glib::bool_error!("GType {} cannot be registered", definition.type_name));
    }
    let mut definitions = DEFINITIONS.write().unwrap_or_else(PoisonError::into_inner);
    definitions.get_or_insert_default().insert(element, definition);
    Ok(element)
}

/// Adds the knobs and the names of an element to its class.
///
/// # Safety
/// GLib calls this with a class of a subtype of the base, and with the definition.
unsafe extern "C" fn class_init(class: glib_ffi::gpointer, definition: glib_ffi::gpointer) {
    // SAFETY: `register` has passed a definition that lives for ever.
    let definition = unsafe { &*definition.cast::<Definition>() };
    let object_class = class.cast::<gobject_ffi::GObjectClass>();
    // SAFETY: GLib passes a class that starts with GObject's, and its parent class is there.
    unsafe {
        // GObject cleared these two, so that a class without properties has none to call.
        let parent =
            gobject_ffi::g_type_class_peek_parent(class).cast::<gobject_ffi::GObjectClass>();
        (*object_class).set_property = (*parent).set_property;
        (*object_class).get_property = (*parent).get_property;
    }
    let properties = definition.knobs.iter().map(property).chain(properties::own(definition));
    for (id, property) in (1..).zip(properties) {
        // SAFETY: the class has no property of this number or name yet: the definition was checked.
        unsafe {
            gobject_ffi::g_object_class_install_property(
                object_class,
                id,
                property.to_glib_none().0,
            );
        }
    }
    let class = class.cast::<gst::ffi::GstElementClass>();
    // SAFETY: the base is an element, and GStreamer copies the strings.
    unsafe {
        gst::ffi::gst_element_class_set_metadata(
            class,
            definition.long_name.to_glib_none().0,
            super::CLASSIFICATION.to_glib_none().0,
            definition.description.to_glib_none().0,
            env!("CARGO_PKG_AUTHORS").to_glib_none().0,
        );
    }
}

fn property(knob: &Knob) -> glib::ParamSpec {
    glib::ParamSpecDouble::builder(&knob.name)
        .nick(&knob.nick)
        .blurb(&knob.blurb)
        .minimum(knob.minimum)
        .maximum(knob.maximum)
        .default_value(knob.default)
        .controllable()
        .mutable_playing()
        .build()
}
