//! What the element says on the bus.

use std::time::Duration;

use gstreamer as gst;

use gst::prelude::*;
use gst::subclass::prelude::*;
use tunableconv::frame::MAX_SIDE;

use super::super::formats;
use super::super::overload::Timing;
use super::super::state::{WithoutLevel, clock_time};
use super::{CAT, TunableConvBase, lock};

/// Latency over the time that a frame takes: the machine will not always be as idle.
const HEADROOM: f64 = 1.5;

impl TunableConvBase {
    /// Tells why a frame cannot be filtered.
    pub(super) fn fail(&self, error: &tunableconv::Error) -> gst::FlowError {
        gst::element_imp_error!(self, gst::StreamError::Failed, ("Cannot filter a frame: {error}"));
        gst::FlowError::Error
    }

    /// Tells what was not taken.
    pub(super) fn warn(&self, code: gst::ResourceError, text: &str) {
        gst::element_imp_warning!(self, code, ("{text}"));
    }

    /// Without a bus nobody hears it.
    pub(super) fn post(&self, message: gst::Message) {
        let _ = self.obj().post_message(message);
    }

    /// Answers LATENCY queries by the time that a frame takes from now on, unless what they got before
    /// will do.
    pub(super) fn announce_latency(&self, time: Duration) {
        let latency = time.mul_f64(HEADROOM);
        if self.time.raise_latency(clock_time(latency)) {
            gst::info!(CAT, imp = self, "Latency is {latency:?}");
            self.post(gst::message::Latency::builder().src(&*self.obj()).build());
        }
    }

    /// Says that a frame goes out untouched, as it would be late; filtered it is expected to take
    /// this long.
    pub(super) fn qos(
        &self,
        buffer: &gst::BufferRef,
        timing: Timing,
        stream_time: Option<gst::ClockTime>,
        expected: gst::ClockTime,
    ) -> gst::Message {
        let signed = |time: gst::ClockTime| i64::try_from(time.nseconds()).unwrap_or(i64::MAX);
        let expected = signed(expected);
        let jitter = expected - signed(timing.left.unwrap_or_default());
        let duration = timing.duration.unwrap_or_default().nseconds();
        let proportion = if duration == 0 { 1.0 } else { expected as f64 / duration as f64 };
        let (processed, dropped) = self.stats.processed_and_overloaded();
        let count = gst::format::Default::from_u64;
        gst::message::Qos::builder(timing.left.is_some())
            .src(&*self.obj())
            .running_time(timing.running_time)
            .stream_time(stream_time)
            .timestamp(buffer.pts())
            .duration(buffer.duration())
            .values(jitter, proportion, 1_000_000)
            .stats(count(processed), count(dropped))
            .build()
    }

    /// Tells of knobs that turn none of the model's parameters, which have these names.
    pub(super) fn warn_of_knobs(&self, indices: &[usize], names: &str) {
        for &index in indices {
            let name = &self.definition.knobs[index].name;
            gst::element_imp_warning!(
                self,
                gst::LibraryError::Settings,
                ("`{name}` has no effect: the model's tuning parameters are {names}")
            );
        }
    }

    /// Tells that no knob follows the noise.
    pub(super) fn warn_of_level(&self, reason: WithoutLevel) {
        let reason = match reason {
            WithoutLevel::NoParameter => {
                String::from("none of the model's parameters is the level of its noise")
            }
            WithoutLevel::IsSet(index) => {
                format!(
                    "`{}` is set, or bound to a control source",
                    self.definition.knobs[index].name
                )
            }
        };
        gst::element_imp_warning!(
            self,
            gst::LibraryError::Settings,
            ("`auto-level` has no effect: {reason}")
        );
    }

    /// Tells that frames pass as they are, whatever the knobs say.
    pub(super) fn warn_of_fields(&self) {
        let caps = self.obj().sink_pads()[0].current_caps();
        let caps = caps.map(|caps| caps.to_string()).unwrap_or_default();
        gst::element_imp_warning!(
            self,
            gst::StreamError::Format,
            ("Interlaced frames pass unfiltered: their fields cannot be told apart, or do not \
                 have whole rows of chroma; `deinterlace` before this element may help"),
            ["caps {caps}"]
        );
    }

    pub(super) fn warn_of_bindings(&self, properties: &[String]) {
        for name in properties {
            gst::element_imp_warning!(
                self,
                gst::LibraryError::Settings,
                ("`keyframes` has no effect on `{name}`: the application controls it")
            );
        }
    }

    /// Whether these caps are other ones than those last refused.
    pub(super) fn is_newly_refused(&self, caps: &gst::CapsRef) -> bool {
        let last = lock(&self.refused).replace(caps.to_owned());
        last.is_none_or(|last| &*last != caps)
    }

    /// Posts why caps are refused: GStreamer itself refuses them, and says no more than "not negotiated".
    pub(super) fn explain_refused_caps(&self) {
        let obj = self.obj();
        let Some(pad) = obj.static_pad("sink") else { return };
        let element = obj.downgrade();
        pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |pad, info| {
            let event = info.event().map(|event| event.view());
            let Some(gst::EventView::Caps(event)) = event else { return gst::PadProbeReturn::Ok };
            let Some(element) = element.upgrade() else { return gst::PadProbeReturn::Ok };
            let (imp, caps) = (element.imp(), event.caps());
            let fits = caps.can_intersect(&pad.pad_template_caps());
            if (!fits || !imp.can_scale(caps)) && imp.is_newly_refused(caps) {
                let expected = if fits { imp.scalable() } else { Self::of_the_template() };
                gst::element_error!(
                    element,
                    gst::StreamError::Format,
                    ("Cannot filter {caps}; expected {expected} before this element may help")
                );
            }
            gst::PadProbeReturn::Ok
        });
    }

    fn of_the_template() -> String {
        let formats: Vec<&str> = formats::all().map(|format| format.to_str().as_str()).collect();
        let formats = formats.join(", ");
        format!("raw video of 1×1 to {MAX_SIDE}×{MAX_SIDE} in one of {formats}; `videoconvert`")
    }

    fn scalable(&self) -> String {
        let (scale, most) = (self.scale(), MAX_SIDE / self.scale());
        format!(
            "progressive video of at most {most}×{most}, as the model makes it {scale} times as large; \
             `deinterlace`"
        )
    }
}
