//! Counters of the `stats` property. They are atomics, so that reading them never waits for a frame.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gstreamer as gst;

/// Frames that the frame time is the median of.
const TIMED_FRAMES: usize = 31;

/// Since the last start. Written by the streaming thread.
#[derive(Default)]
pub struct Stats {
    frames: AtomicU64,
    passthrough: AtomicU64,
    /// Ring of the times of the last filtered frames, in nanoseconds.
    times_ns: [AtomicU64; TIMED_FRAMES],
}

impl Stats {
    /// Starts again at nothing.
    pub fn reset(&self) {
        self.frames.store(0, Ordering::Relaxed);
        self.passthrough.store(0, Ordering::Relaxed);
    }

    /// Counts a filtered frame.
    pub fn count_frame(&self, time: Duration) {
        let index = self.frames.load(Ordering::Relaxed);
        let time_ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.times_ns[(index % TIMED_FRAMES as u64) as usize].store(time_ns, Ordering::Relaxed);
        // A reader that sees the count sees the time.
        self.frames.store(index + 1, Ordering::Release);
    }

    /// Counts a frame that went through untouched.
    pub fn count_passthrough(&self) {
        self.passthrough.fetch_add(1, Ordering::Relaxed);
    }

    /// The value of the property.
    pub fn structure(&self, engine: &str, latency_ns: u64) -> gst::Structure {
        let frames = self.frames.load(Ordering::Acquire);
        gst::Structure::builder("application/x-tunableconvfilter-stats")
            .field("engine", engine)
            .field("frames", frames)
            .field("passthrough", self.passthrough.load(Ordering::Relaxed))
            .field("frame-time-ns", self.median_ns(frames))
            .field("latency-ns", latency_ns)
            .build()
    }

    /// The upper median of the last times, 0 for none.
    fn median_ns(&self, frames: u64) -> u64 {
        let mut times = self.times_ns.each_ref().map(|time| time.load(Ordering::Relaxed));
        let times = &mut times[..frames.min(TIMED_FRAMES as u64) as usize];
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frame_time_is_the_median_of_the_last_frames() {
        let stats = Stats::default();
        assert_eq!(stats.median_ns(0), 0);
        let count = |times: &[u64]| {
            times.iter().for_each(|&time| stats.count_frame(Duration::from_nanos(time)));
            stats.median_ns(stats.frames.load(Ordering::Relaxed))
        };
        assert_eq!(count(&[7]), 7);
        assert_eq!(count(&[1_000_000, 5]), 7);
        assert_eq!(count(&[20; TIMED_FRAMES]), 20);
        assert_eq!(count(&[30; TIMED_FRAMES / 2]), 20);
        assert_eq!(count(&[30]), 30);
        stats.reset();
        assert_eq!(count(&[9]), 9);
    }
}
