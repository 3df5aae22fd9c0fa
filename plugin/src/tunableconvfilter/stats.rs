//! Counters of the `stats` property. They are atomics, so that reading them never waits for a frame.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gstreamer as gst;

use super::settings::Running;

/// Frames that the frame times are taken of.
const TIMED_FRAMES: usize = 64;

/// Since the last start. Written by the streaming thread.
pub struct Stats {
    /// Frames that were filtered.
    frames: AtomicU64,
    /// Frames left untouched because the tuning was zero, or their fields cannot be filtered.
    pub passthrough: AtomicU64,
    /// Frames left untouched because they would have been late.
    pub overloaded: AtomicU64,
    /// Times that the net was folded at a new tuning.
    pub refolds: AtomicU64,
    /// Bits of the share of activations at the end of their calibrated range in the last frame.
    saturation: AtomicU64,
    /// Bits of the estimated noise, of 255.
    noise: AtomicU64,
    /// How many there were when frame times began to be those of this engine and these caps.
    timed_from: AtomicU64,
    /// Ring of the times of the last filtered frames, in nanoseconds.
    times_ns: [AtomicU64; TIMED_FRAMES],
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            frames: AtomicU64::new(0),
            passthrough: AtomicU64::new(0),
            overloaded: AtomicU64::new(0),
            refolds: AtomicU64::new(0),
            saturation: AtomicU64::new(0),
            noise: AtomicU64::new(0),
            timed_from: AtomicU64::new(0),
            times_ns: [const { AtomicU64::new(0) }; TIMED_FRAMES],
        }
    }
}

/// Adds one.
pub fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Stats {
    /// Starts again at nothing.
    pub fn reset(&self) {
        let Self {
            frames, passthrough, overloaded, refolds, saturation, noise, timed_from, ..
        } = self;
        for counter in [frames, passthrough, overloaded, refolds, saturation, noise, timed_from] {
            counter.store(0, Ordering::Relaxed);
        }
    }

    /// Forgets how long frames took: from now on another engine filters them, or they are of another size.
    pub fn restart_times(&self) {
        self.timed_from.store(self.frames.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Counts a filtered frame, of whose activations this share is at the end of the calibrated
    /// range; returns how many there were since frame times began.
    pub fn count_frame(&self, time: Duration, saturation: f64) -> u64 {
        self.saturation.store(saturation.to_bits(), Ordering::Relaxed);
        let frames = self.frames.load(Ordering::Relaxed);
        let index = frames - self.timed_from.load(Ordering::Relaxed);
        let time_ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.times_ns[(index % TIMED_FRAMES as u64) as usize].store(time_ns, Ordering::Relaxed);
        // A reader that sees the count sees the time.
        self.frames.store(frames + 1, Ordering::Release);
        index + 1
    }

    /// Estimated noise, of 255; 0 before the first estimate.
    pub fn noise(&self) -> f64 {
        f64::from_bits(self.noise.load(Ordering::Relaxed))
    }

    /// See [`Stats::noise`].
    pub fn set_noise(&self, noise: f64) {
        self.noise.store(noise.to_bits(), Ordering::Relaxed);
    }

    /// Median of the times of the last filtered frames.
    pub fn median(&self) -> Duration {
        Duration::from_nanos(self.times(self.frames.load(Ordering::Acquire)).median)
    }

    /// Frames that were filtered or left untouched for their tuning, and frames left untouched
    /// because they would have been late.
    pub fn processed_and_overloaded(&self) -> (u64, u64) {
        let [frames, passthrough, overloaded] =
            [&self.frames, &self.passthrough, &self.overloaded].map(|c| c.load(Ordering::Relaxed));
        (frames + passthrough, overloaded)
    }

    /// The value of the property.
    pub fn structure(&self, running: &Running, latency_ns: u64) -> gst::Structure {
        let frames = self.frames.load(Ordering::Acquire);
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let times = self.times(frames);
        gst::Structure::builder("application/x-tunableconvfilter-stats")
            .field("engine", running.engine.as_str())
            .field("precision", running.precision.as_str())
            .field("model", running.model.as_str())
            .field("frames", frames)
            .field("passthrough", count(&self.passthrough))
            .field("overloaded", count(&self.overloaded))
            .field("refolds", count(&self.refolds))
            .field("frame-time-ns", times.median)
            .field("frame-time-mean-ns", times.mean)
            .field("frame-time-p95-ns", times.p95)
            .field("latency-ns", latency_ns)
            .field("saturation", f64::from_bits(count(&self.saturation)))
            .field("noise-level", self.noise())
            .build()
    }

    fn times(&self, frames: u64) -> Times {
        let mut times = self.times_ns.each_ref().map(|time| time.load(Ordering::Relaxed));
        // A reader may see it before the count that goes with it.
        let timed = frames.saturating_sub(self.timed_from.load(Ordering::Relaxed));
        let times = &mut times[..timed.min(TIMED_FRAMES as u64) as usize];
        if times.is_empty() {
            return Times { median: 0, mean: 0, p95: 0 };
        }
        times.sort_unstable();
        Times {
            median: times[times.len() / 2],
            mean: (times.iter().map(|&time| u128::from(time)).sum::<u128>() / times.len() as u128)
                as u64,
            p95: times[(times.len() * 95).div_ceil(100) - 1],
        }
    }
}

/// Of the last frames, in nanoseconds; 0 for none.
#[derive(Debug, PartialEq)]
struct Times {
    /// The upper of two in the middle.
    median: u64,
    mean: u64,
    p95: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_times_are_those_of_the_last_frames() {
        let stats = Stats::default();
        let count = |times: &[u64]| {
            for &time in times {
                stats.count_frame(Duration::from_nanos(time), 0.0);
            }
            stats.times(stats.frames.load(Ordering::Relaxed))
        };
        assert_eq!(count(&[]), Times { median: 0, mean: 0, p95: 0 });
        assert_eq!(count(&[7]), Times { median: 7, mean: 7, p95: 7 });
        assert_eq!(count(&[1_000, 5]), Times { median: 7, mean: 337, p95: 1_000 });
        assert_eq!(count(&[20; TIMED_FRAMES]), Times { median: 20, mean: 20, p95: 20 });
        let half = TIMED_FRAMES / 2;
        assert_eq!(count(&[30; TIMED_FRAMES / 2 - 1]).median, 20);
        assert_eq!(count(&[30]), Times { median: 30, mean: 25, p95: 30 });
        // 61 of 64 frames are at most the 95th percentile.
        stats.reset();
        let rising: Vec<u64> = (1..=TIMED_FRAMES as u64).collect();
        assert_eq!(count(&rising), Times { median: half as u64 + 1, mean: 32, p95: 61 });
        stats.reset();
        assert_eq!(count(&[9]), Times { median: 9, mean: 9, p95: 9 });
    }

    #[test]
    fn frame_times_of_another_engine_or_size_do_not_count() {
        let stats = Stats::default();
        let count = |time| stats.count_frame(Duration::from_nanos(time), 0.0);
        assert_eq!((0..TIMED_FRAMES).map(|_| count(1_000)).max(), Some(TIMED_FRAMES as u64));
        stats.restart_times();
        assert_eq!(stats.median(), Duration::ZERO);
        assert_eq!((count(10), count(30)), (1, 2));
        assert_eq!(stats.median(), Duration::from_nanos(30));
        let frames = stats.structure(&Running::default(), 0).get::<u64>("frames");
        assert_eq!(frames, Ok(TIMED_FRAMES as u64 + 2));
    }
}
