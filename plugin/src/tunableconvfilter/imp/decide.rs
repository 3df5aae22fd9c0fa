//! What is decided before a frame is filtered: its tuning, whether there is time for it, and what is told.

use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gstreamer as gst;
use gstreamer_base as gst_base;

use tunableconv::tuning::MAX_PARAMETERS;

use super::super::fields::Scan;
use super::super::overload::{Decision, Timing};
use super::super::settings::Overload;
use super::super::state::FrameTask;
use super::super::stats::count;
use super::{CAT, MESSAGE_INTERVAL, TunableConvBase, lock};

impl TunableConvBase {
    /// Fixes the tuning of this frame, and whether it passes untouched.
    pub(super) fn decide(&self, buffer: &gst::BufferRef) {
        let obj = self.obj();
        let segment = obj.segment().downcast::<gst::ClockTime>().ok();
        // Backwards from nowhere there is no time.
        let segment = segment.filter(|segment| segment.rate() > 0.0 || segment.stop().is_some());
        let time = |to: fn(&gst::FormattedSegment<gst::ClockTime>, gst::ClockTime) -> _| {
            segment.as_ref().zip(buffer.pts()).and_then(|(segment, pts)| {
                // What begins before a seek's target is shown from there on.
                let end = buffer.duration().map(|duration| pts.saturating_add(duration));
                let clipped = end.and_then(|end| segment.clip(pts, end)?.0);
                to(segment, clipped.unwrap_or(pts))
            })
        };
        let stream_time = time(|segment, pts| segment.to_stream_time(pts));
        let running_time = time(|segment, pts| segment.to_running_time(pts));
        let rate = segment.as_ref().map_or(1.0, |segment| segment.rate().abs());
        self.sync_controls(stream_time);
        self.take_next();
        let live = lock(&self.settings).live;
        let is_bound = self.bound_knobs(live.auto_level);

        let mut guard = lock(&self.state);
        let Some(state) = guard.as_mut() else { return };
        let scan = state.scan(buffer);
        state.measure_noise(buffer, scan);
        self.stats.set_noise(255.0 * state.noise.level().unwrap_or_default());
        let set = state.set_for_level(live.knobs, is_bound);
        let followed = live.auto_level.then(|| state.followed(set)).flatten();
        if state.set_knobs(live.knobs.with(followed)) {
            count(&self.stats.refolds);
        }
        let unknown = state.newly_without_parameter(live.knobs);
        let without_level = if live.auto_level { state.newly_without_level(set) } else { None };
        let is_identity = state.is_identity();
        let is_newly_unknown = !is_identity && state.is_newly_unknown(scan);
        let duration = state.frame_duration(running_time, rate, buffer);
        let timing = self.time.of_frame(&obj, running_time, duration);
        let mut overload = None;
        let decision = match timing.filter(|_| !is_identity && scan.is_known()) {
            Some(timing) if live.overload != Overload::Wait => {
                // Deadlines are looked at before they are missed only where it is asked for.
                let left = timing.left.filter(|_| live.overload == Overload::Passthrough);
                let decision = state.policy.decide(Timing { left, ..timing });
                if decision == Decision::Bypass {
                    count(&self.stats.overloaded);
                    overload = Some(self.qos(buffer, timing, stream_time, state.policy.expected()));
                }
                decision
            }
            _ if is_identity => Decision::Bypass,
            _ => Decision::Filter(1.0),
        };
        state.frame = FrameTask { decision, compare: live.compare, scan };
        let is_untouched = state.frame.is_untouched();
        if let Some(timing) = timing.filter(|_| !is_untouched) {
            self.time.filtered(timing);
        }
        let keeps_size = state.scale() == 1;
        let may_forward = state.info().is_some_and(|info| self.may_forward(buffer, info));
        let is_message_due = live.post_messages && state.is_due(running_time, MESSAGE_INTERVAL);
        let names = (!unknown.is_empty()).then(|| state.space().names());
        // Who hears a message at once may want the lock.
        drop(guard);

        overload.into_iter().for_each(|message| self.post(message));
        lock(&self.settings).followed = followed;
        self.warn_of_knobs(&unknown, &names.unwrap_or_default());
        without_level.into_iter().for_each(|reason| self.warn_of_level(reason));
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
        let passthrough =
            scan == Scan::Apart || is_untouched && keeps_size && may_forward && !has_peer_to_ask;
        if obj.is_passthrough() != passthrough {
            gst::debug!(CAT, imp = self, "Passthrough is {passthrough}");
            obj.set_passthrough(passthrough);
        }
    }

    /// Which knobs are bound to control sources, where somebody wants to know.
    fn bound_knobs(&self, is_asked: bool) -> [bool; MAX_PARAMETERS] {
        let mut is_bound = [false; MAX_PARAMETERS];
        if is_asked {
            for (is_bound, knob) in is_bound.iter_mut().zip(&self.definition.knobs) {
                *is_bound = self.obj().control_binding(&knob.name).is_some();
            }
        }
        is_bound
    }

    /// Applies the control bindings for a frame with this stream time.
    fn sync_controls(&self, stream_time: Option<gst::ClockTime>) {
        let obj = self.obj();
        // Here and nowhere else, as GStreamer goes through the bindings of an object without a lock.
        let controlled = lock(&self.bindings).renew(obj.upcast_ref());
        self.warn_of_bindings(&controlled);
        if let Some(stream_time) = stream_time
            && let Err(error) = obj.sync_values(stream_time)
        {
            gst::warning!(CAT, imp = self, "Control bindings at {stream_time}: {error}");
        }
        let replaced = lock(&self.bindings).replaced(obj.upcast_ref());
        self.warn_of_bindings(&replaced);
    }
}
