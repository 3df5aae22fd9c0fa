//! What a live stream's element has to know of time: how long things take, the latency it adds, and
//! when frames are due.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gst::prelude::*;
use gstreamer as gst;

use super::TunableConvBase;
use super::overload::Timing;

/// A latency this much larger than the one announced is announced anew.
const LATENCY_CHANGE: f64 = 0.2;

/// Video sinks show a frame that is no later than this.
const TOLERANCE: gst::ClockTime = gst::ClockTime::from_mseconds(5);

/// A point in time.
#[derive(Clone, Debug)]
pub struct Moment {
    /// The pipeline's clock, by which frames are due, and what it shows; `None` before there is one.
    clock: Option<(gst::Clock, gst::ClockTime)>,
    machine: Instant,
}

impl Moment {
    /// Now.
    pub fn now(element: &TunableConvBase) -> Self {
        Self::on(element.clock().map(|clock| {
            let time = clock.time();
            (clock, time)
        }))
    }

    /// Now, where the pipeline's clock shows this.
    pub fn on(clock: Option<(gst::Clock, gst::ClockTime)>) -> Self {
        Self { clock, machine: Instant::now() }
    }

    /// Time from there to here, of the clock that has gone further: that of the pipeline may stand, or be another one
    /// by now.
    pub fn since(&self, earlier: &Self) -> Duration {
        let of_clock = match (&self.clock, &earlier.clock) {
            (Some((clock, now)), Some((same, then))) if clock == same => now.saturating_sub(*then),
            _ => gst::ClockTime::ZERO,
        };
        let of_clock = Duration::from_nanos(of_clock.nseconds());
        self.machine.duration_since(earlier.machine).max(of_clock)
    }
}

/// Atomic, as queries and events come from any thread.
#[derive(Default)]
pub struct LiveTime {
    /// What the LATENCY query adds, in nanoseconds.
    latency_ns: AtomicU64,
    /// What it had from upstream.
    upstream_ns: AtomicU64,
    /// That of the whole pipeline, which sinks add to running times; 0 before it answers to what is announced.
    pipeline_ns: AtomicU64,
    /// Whether upstream is live.
    is_live: AtomicBool,
    /// Frames up to this running time come too late, says downstream; 0 for none.
    late_until_ns: AtomicU64,
    /// Running time after the last frame that was filtered, in nanoseconds; 0 before the first.
    filtered_until_ns: AtomicU64,
}

impl LiveTime {
    /// Forgets everything.
    pub fn reset(&self) {
        self.latency_ns.store(0, Ordering::Relaxed);
        self.upstream_ns.store(0, Ordering::Relaxed);
        self.pipeline_ns.store(0, Ordering::Relaxed);
        self.is_live.store(false, Ordering::Relaxed);
        self.flush();
    }

    /// Forgets what downstream has said of frames.
    pub fn flush(&self) {
        self.late_until_ns.store(0, Ordering::Relaxed);
        self.filtered_until_ns.store(0, Ordering::Relaxed);
    }

    /// The latency that is announced.
    pub fn latency(&self) -> gst::ClockTime {
        gst::ClockTime::from_nseconds(self.latency_ns.load(Ordering::Relaxed))
    }

    /// Sets the latency to announce if it is much more than the one before; returns whether it did.
    /// It is never less: to change it disturbs a pipeline that plays.
    pub fn raise_latency(&self, latency: gst::ClockTime) -> bool {
        let (old, new) = (self.latency().nseconds() as f64, latency.nseconds() as f64);
        let is_new = new - old > LATENCY_CHANGE * old;
        if is_new {
            self.latency_ns.store(latency.nseconds(), Ordering::Relaxed);
            self.pipeline_ns.store(0, Ordering::Relaxed);
        }
        is_new
    }

    /// Takes what sinks add to running times.
    pub fn take_latency(&self, event: &gst::event::Latency) {
        self.pipeline_ns.store(event.latency().nseconds(), Ordering::Relaxed);
    }

    /// Adds the latency to a query that upstream has answered.
    pub fn answer(&self, query: &mut gst::query::Latency) {
        let own = self.latency();
        let (live, min, max) = query.result();
        self.is_live.store(live, Ordering::Relaxed);
        self.upstream_ns.store(min.nseconds(), Ordering::Relaxed);
        query.set(live, min.saturating_add(own), max.map(|max| max.saturating_add(own)));
    }

    /// Takes what downstream says of a frame that came too late or in time; returns whether the
    /// filter is to blame for it, and it need not be told to those upstream.
    pub fn take_qos(&self, qos: &gst::event::Qos) -> bool {
        let (kind, _, diff, timestamp) = qos.get();
        // A sink that wants fewer frames says so of each, whether it was late or not.
        let timestamp = timestamp.filter(|_| kind != gst::QOSType::Throttle);
        let Some(timestamp) = timestamp else { return false };
        let is_late = diff > TOLERANCE.nseconds() as i64;
        let until = timestamp.nseconds().saturating_add_signed(diff);
        self.late_until_ns.store(if is_late { until } else { 0 }, Ordering::Relaxed);
        is_late && timestamp.nseconds() < self.filtered_until_ns.load(Ordering::Relaxed)
    }

    /// Takes that a frame is filtered.
    pub fn filtered(&self, timing: Timing) {
        let until = timing.running_time.nseconds().saturating_add(1);
        self.filtered_until_ns.store(until, Ordering::Relaxed);
    }

    /// What is known of a frame that comes now; `None` without running time.
    pub fn of_frame(
        &self,
        element: &TunableConvBase,
        running_time: Option<gst::ClockTime>,
        duration: Option<gst::ClockTime>,
    ) -> Option<Timing> {
        let running_time = running_time?;
        let now = element.current_running_time().filter(|_| self.is_live.load(Ordering::Relaxed));
        let left = now.map(|now| {
            let upstream = gst::ClockTime::from_nseconds(self.upstream_ns.load(Ordering::Relaxed));
            let latency = match self.pipeline_ns.load(Ordering::Relaxed) {
                0 => upstream.saturating_add(self.latency()),
                pipeline => gst::ClockTime::from_nseconds(pipeline),
            };
            running_time.saturating_add(latency).saturating_sub(now)
        });
        let is_late = running_time.nseconds() < self.late_until_ns.load(Ordering::Relaxed);
        Some(Timing { running_time, duration, left, is_late })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_two_clocks_are_not_compared() {
        gst::init().unwrap();
        let clocks = [0, 1].map(|_| glib::Object::new::<gst::SystemClock>().upcast::<gst::Clock>());
        let at = |clock: usize, s: u64| {
            Moment::on(Some((clocks[clock].clone(), gst::ClockTime::from_seconds(s))))
        };
        let day = Duration::from_secs(86_400);
        assert_eq!(at(0, 86_405).since(&at(0, 5)), day);
        assert!(at(1, 86_405).since(&at(0, 5)) < day);
        assert!(Moment::on(None).since(&at(0, 5)) < day);
    }
}
