//! What becomes of `model`, `device`, `precision`, `threads` and `keyframes` when they are set.
//!
//! While the element is stopped they are only looked at. While it is started, keyframes are those of
//! the next frame; another engine is made beside the one that runs, by a thread of GStreamer's pool, and
//! the streaming thread takes it before its next frame. What fails is told, and what is in force
//! stays.

use std::mem;
use std::sync::atomic::Ordering;

use gst::prelude::*;
use gst::subclass::prelude::*;
use gstreamer as gst;

use super::super::keyframes::{self, Track};
use super::super::knobs::defaults;
use super::super::live::Moment;
use super::super::load::{self, Loaded, Next};
use super::super::properties::{differing, has_model};
use super::super::settings::Choice;
use super::super::warm_up;
use super::{CAT, TunableConvBase, lock};

impl TunableConvBase {
    /// One of the properties of the choice was set.
    pub(super) fn choose(&self) {
        let (choice, in_force) = {
            let settings = lock(&self.settings);
            (settings.choice.clone(), settings.in_force.clone())
        };
        if in_force.is_some() {
            // Whoever waits to make the one chosen before makes this one.
            if !mem::replace(&mut lock(&self.next).is_asked_for, true) {
                self.obj().call_async(|element| element.imp().load_beside());
            }
        } else {
            match load::look(self.definition, &choice) {
                Ok(scale) => self.scale.store(scale, Ordering::Relaxed),
                Err(error) => self.warn(error.code, &error.text),
            }
        }
    }

    /// Makes the engine that is chosen, unless it is in force already.
    fn load_beside(&self) {
        // One after the other; the last one makes what was chosen last.
        let _alone = lock(&self.loading);
        let start = {
            let mut slot = lock(&self.next);
            slot.is_asked_for = false;
            slot.start
        };
        let (choice, in_force, knobs) = {
            let settings = lock(&self.settings);
            (settings.choice.clone(), settings.in_force.clone(), settings.live.knobs)
        };
        let Some(in_force) = in_force.filter(|in_force| *in_force != choice) else { return };
        let loaded = Loaded::open(self.definition, &choice).and_then(|mut loaded| {
            let (info, scale) = match lock(&self.state).as_ref() {
                Some(state) => (state.info().cloned(), state.scale()),
                None => (None, loaded.scale),
            };
            loaded.check_scale(scale)?;
            let time = info.map(|info| {
                let tuning = knobs.tuning(&loaded.engine.metadata().tuning)?;
                let clock = || Moment::now(&self.obj());
                warm_up::time_of_a_frame(&mut loaded, &info, &tuning, &clock)
            });
            Ok(Next { time: time.transpose().map_err(load::of_model)?, loaded })
        });
        match loaded {
            Ok(next) => {
                gst::info!(CAT, imp = self, "Next is {}", next.loaded.running.engine);
                let mut slot = lock(&self.next);
                if slot.start != start {
                    return;
                }
                slot.next = Some(next);
                drop(slot);
                // None where the element has been stopped meanwhile.
                if let Some(in_force) = &mut lock(&self.settings).in_force {
                    *in_force = choice;
                }
                self.obj().notify("stats");
            }
            // After a stop nothing runs that could stay.
            Err(_) if lock(&self.next).start != start => {}
            Err(error) => {
                let restored = self.stand_at(&choice, in_force);
                self.warn(error.code, &format!("{}; the one that runs stays", error.text));
                restored.into_iter().for_each(|name| self.obj().notify(name));
            }
        }
    }

    /// Puts the engine that waits in the place of the one that runs.
    pub(super) fn take_next(&self) {
        let Some(Next { loaded, time }) = lock(&self.next).next.take() else { return };
        let running = loaded.running.clone();
        let knobs = lock(&self.settings).live.knobs;
        let (before, defaults) = {
            let mut guard = lock(&self.state);
            let Some(state) = guard.as_mut() else { return };
            let before = state.replace(loaded, time, knobs);
            (before, defaults(state.space(), self.definition.scale))
        };
        gst::info!(CAT, imp = self, "Running {}", running.engine);
        self.stats.restart_times();
        {
            let mut settings = lock(&self.settings);
            settings.engine = running;
            settings.defaults = defaults;
        }
        if let Some(time) = time {
            self.announce_latency(time);
        }
        // Its threads and memory may take a while.
        self.obj().call_async(move |_| drop(before));
    }

    /// Lets nobody wait for an engine that is being made.
    pub(super) fn forget_next(&self) {
        let forgotten = {
            let mut slot = lock(&self.next);
            slot.start += 1;
            slot.next.take()
        };
        drop(forgotten);
    }

    /// Gives the properties the values that are in force, unless they were set again meanwhile, or nothing is in force
    /// any more; returns those that changed.
    fn stand_at(&self, refused: &Choice, in_force: Choice) -> Vec<&'static str> {
        let mut names = differing(refused, &in_force);
        names.retain(|name| *name != "model" || has_model(self.definition));
        let mut settings = lock(&self.settings);
        if settings.choice != *refused || settings.in_force.as_ref() != Some(&in_force) {
            return vec![];
        }
        settings.choice = in_force;
        names
    }

    /// The property was set. A text that cannot be read stays there, as somebody may be typing it;
    /// the tracks before it stay in force.
    pub(super) fn use_keyframes(&self) {
        let (text, is_started) = {
            let settings = lock(&self.settings);
            (settings.keyframes.clone(), settings.in_force.is_some())
        };
        match self.tracks(&text) {
            Ok(tracks) => lock(&self.bindings).next = Some(tracks),
            Err(reason) => {
                let rest = if is_started { "; those before stay in force" } else { "" };
                let text = format!("Cannot use the settings: {reason}{rest}");
                self.warn(gst::ResourceError::Settings, &text);
            }
        }
    }

    /// The tracks of a text.
    ///
    /// # Errors
    /// What was expected.
    pub(super) fn tracks(&self, text: &str) -> Result<Vec<Track>, String> {
        let tracks = keyframes::parse(text)
            .and_then(|tracks| keyframes::check(&tracks, &self.definition.knobs).map(|()| tracks));
        tracks.map_err(|reason| format!("keyframes: {reason}"))
    }
}
