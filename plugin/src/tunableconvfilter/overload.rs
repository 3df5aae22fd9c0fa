//! What to do with frames that would come too late, and when to filter again.
//!
//! A frame is bypassed when it would be late: when the time that frames lately took is more than
//! the time left until it is due. Then frames are bypassed for a while, so that the picture does
//! not flicker, and the filter is tried again on a frame that has time for it. If it keeps up with
//! the stream now, its effect is blended in; if not, the next try is later.

use gst::ClockTime;
use gstreamer as gst;

/// Frames are bypassed at least this long.
const SHORTEST_HOLD: ClockTime = ClockTime::from_mseconds(500);

/// The wait doubles with each try that fails, up to this.
const LONGEST_HOLD: ClockTime = ClockTime::from_seconds(8);

/// After this many times the wait without a frame that has time, one is tried without: what was
/// measured is old.
const OLD: u64 = 4;

/// Time over which the effect is blended in again.
const BLEND: ClockTime = ClockTime::from_mseconds(500);

/// Share of a frame's duration that the filter may take when it is tried again.
const LOAD: f64 = 0.9;

/// What is known of a frame before it is filtered.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Its running time.
    pub running_time: ClockTime,
    /// Until the next frame, above 0; `None` if not known.
    pub duration: Option<ClockTime>,
    /// From now until it is due; `None` where nothing is due. Frames that are late already have
    /// none left.
    pub left: Option<ClockTime>,
    /// Whether downstream has said that frames of this time come too late.
    pub is_late: bool,
}

/// What to do with a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decision {
    /// Filter it; the weight of the filtered picture in the output is above 0 and up to 1.
    Filter(f64),
    /// Leave it as it is.
    Bypass,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// Since when the effect is blended in; `None` for long.
    Filtering { since: Option<ClockTime> },
    /// From when on a frame may be tried, and since when frames are bypassed.
    Bypassing { until: ClockTime, since: ClockTime },
}

/// Decides for one stream.
#[derive(Clone, Debug)]
pub struct Policy {
    phase: Phase,
    hold: ClockTime,
    /// Time that a frame takes: rises at once, falls slowly but for tries.
    expected: ClockTime,
}

impl Policy {
    /// A stream in which a frame takes this long.
    pub fn new(expected: ClockTime) -> Self {
        Self { phase: Phase::Filtering { since: None }, hold: SHORTEST_HOLD, expected }
    }

    /// Starts anew after a flush: running times may be any.
    pub fn flush(&mut self) {
        *self = Self::new(self.expected);
    }

    /// Time that a frame is expected to take.
    pub fn expected(&self) -> ClockTime {
        self.expected
    }

    /// Takes the time that a filtered frame took.
    pub fn measured(&mut self, time: ClockTime) {
        let is_try = matches!(self.phase, Phase::Filtering { since: Some(_) });
        self.expected = match is_try || time > self.expected {
            true => time,
            false => self.expected - (self.expected - time) / 8,
        };
    }

    /// Decides for the next frame.
    pub fn decide(&mut self, frame: Timing) -> Decision {
        let now = frame.running_time;
        if self.since().is_some_and(|since| now < since) {
            // Time has gone back without a flush, which says nothing of the machine.
            self.flush();
        }
        let has_time = !frame.is_late && frame.left.is_none_or(|left| self.expected <= left);
        match self.phase {
            Phase::Filtering { since: None } if has_time => Decision::Filter(1.0),
            Phase::Filtering { since: Some(since) }
                if has_time && self.keeps_up(frame.duration) =>
            {
                let elapsed =
                    now.saturating_sub(since).saturating_add(frame.duration.unwrap_or_default());
                let weight = elapsed.nseconds() as f64 / BLEND.nseconds() as f64;
                if weight >= 1.0 {
                    *self = Self::new(self.expected);
                    return Decision::Filter(1.0);
                }
                Decision::Filter(weight)
            }
            Phase::Filtering { since } => {
                if since.is_some() {
                    self.hold = LONGEST_HOLD.min(self.hold * 2);
                }
                self.phase = Phase::Bypassing { until: now.saturating_add(self.hold), since: now };
                Decision::Bypass
            }
            Phase::Bypassing { until, since } => {
                let is_old = now.saturating_sub(since) >= self.hold * OLD && !frame.is_late;
                if now < until || !(has_time || is_old) {
                    return Decision::Bypass;
                }
                self.phase = Phase::Filtering { since: Some(now) };
                let step = frame.duration.unwrap_or(ClockTime::from_mseconds(20)).min(BLEND);
                Decision::Filter(step.nseconds() as f64 / BLEND.nseconds() as f64)
            }
        }
    }

    /// Running time of the last change of phase.
    fn since(&self) -> Option<ClockTime> {
        match self.phase {
            Phase::Filtering { since } => since,
            Phase::Bypassing { since, .. } => Some(since),
        }
    }

    /// Whether frames of this duration can be filtered one after the other.
    fn keeps_up(&self, duration: Option<ClockTime>) -> bool {
        let is_within =
            |d: ClockTime| self.expected.nseconds() as f64 <= LOAD * d.nseconds() as f64;
        duration.is_none_or(is_within)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: ClockTime = ClockTime::from_mseconds(40);

    /// A live stream of so many frames whose latency is `latency`; frame `index` takes
    /// `cost(index)`. Returns the weight of each frame, 0 for bypassed ones, and how late the
    /// latest was.
    fn run(
        policy: &mut Policy,
        latency: ClockTime,
        frames: u64,
        cost: impl Fn(u64) -> u64,
    ) -> (Vec<f64>, ClockTime) {
        let (mut free, mut latest) = (ClockTime::ZERO, ClockTime::ZERO);
        let mut weights = vec![];
        for index in 0..frames {
            let running_time = PERIOD * index;
            let start = running_time.max(free);
            let due = running_time + latency;
            let left = Some(due.saturating_sub(start));
            let timing = Timing { running_time, duration: Some(PERIOD), left, is_late: false };
            free = start;
            match policy.decide(timing) {
                Decision::Bypass => weights.push(0.0),
                Decision::Filter(weight) => {
                    let cost = ClockTime::from_mseconds(cost(index));
                    free += cost;
                    policy.measured(cost);
                    weights.push(weight);
                }
            }
            latest = latest.max(free.saturating_sub(due));
        }
        (weights, latest)
    }

    fn ms(ms: u64) -> ClockTime {
        ClockTime::from_mseconds(ms)
    }

    #[test]
    fn a_filter_that_keeps_up_filters_every_frame() {
        let (weights, latest) = run(&mut Policy::new(ms(30)), ms(45), 500, |_| 30);
        assert!(weights.iter().all(|&weight| weight == 1.0));
        assert_eq!(latest, ClockTime::ZERO);
    }

    #[test]
    fn a_filter_that_is_too_slow_makes_no_frame_late_and_is_rarely_tried() {
        for cost in [45, 100, 300] {
            let mut policy = Policy::new(ms(cost));
            let (weights, latest) = run(&mut policy, ms(cost * 3 / 2), 2000, |_| cost);
            assert_eq!(latest, ClockTime::ZERO, "{cost}");
            // After the first overload only tries, at a small weight, ever further apart.
            let first = weights.iter().position(|&w| w == 0.0).unwrap();
            let tries: Vec<usize> = (first..2000).filter(|&i| weights[i] > 0.0).collect();
            assert!(tries.iter().all(|&i| weights[i] < 0.2), "{cost}");
            assert!((5..30).contains(&tries.len()), "{cost}: {tries:?}");
        }
    }

    #[test]
    fn the_effect_is_blended_in_after_a_passing_overload() {
        let cost = |index| if (100..110).contains(&index) { 90 } else { 20 };
        let (weights, _) = run(&mut Policy::new(ms(20)), ms(30), 300, cost);
        let bypassed: Vec<usize> = (0..300).filter(|&i| weights[i] == 0.0).collect();
        assert_eq!(bypassed.first(), Some(&101));
        // One run of bypassed frames, not a flicker.
        let last = *bypassed.last().unwrap();
        assert_eq!(bypassed.len(), last - 100);
        let blend = &weights[last + 1..last + 14];
        assert!(blend.is_sorted() && blend[0] < 0.1 && blend[12] == 1.0, "{blend:?}");
        let steps = blend.windows(2).map(|w| w[1] - w[0]).fold(0.0, f64::max);
        assert!(steps < 0.1, "{blend:?}");
        assert!(weights[last + 13..].iter().all(|&weight| weight == 1.0));
    }

    #[test]
    fn what_downstream_says_counts_and_an_old_measurement_is_forgotten() {
        let mut policy = Policy::new(ms(10));
        let mut decide = |index: u64, left, is_late| {
            let running_time = PERIOD * index;
            policy.decide(Timing { running_time, duration: Some(PERIOD), left, is_late })
        };
        assert_eq!(decide(0, None, false), Decision::Filter(1.0));
        assert_eq!(decide(1, None, true), Decision::Bypass);
        assert_eq!(decide(2, None, false), Decision::Bypass);
        assert!(matches!(decide(14, None, false), Decision::Filter(w) if w < 0.1));
        // Nothing is left for a frame, ever: it is tried after a long time.
        assert_eq!(decide(15, Some(ms(5)), false), Decision::Bypass);
        for index in 16..115 {
            assert_eq!(decide(index, Some(ms(5)), false), Decision::Bypass);
        }
        assert!(matches!(decide(115, Some(ms(5)), false), Decision::Filter(w) if w < 0.1));
    }

    #[test]
    fn any_times_in_any_order_are_taken() {
        let mut policy = Policy::new(ms(10));
        let late = |running_time, duration| Timing {
            running_time,
            duration,
            left: Some(ClockTime::ZERO),
            is_late: true,
        };
        let in_time =
            |running_time| Timing { left: None, is_late: false, ..late(running_time, None) };
        let end = ClockTime::MAX;
        assert_eq!(policy.decide(late(end, Some(end))), Decision::Bypass);
        assert!(matches!(policy.decide(in_time(end)), Decision::Filter(w) if w < 0.1));
        // The wait of another time does not count.
        assert_eq!(policy.decide(in_time(ms(40))), Decision::Filter(1.0));
        assert_eq!(policy.decide(late(ms(80), None)), Decision::Bypass);
        let tried = Timing { duration: Some(end), ..in_time(ms(600)) };
        assert!(matches!(policy.decide(tried), Decision::Filter(_)));
        let blended = Timing { duration: Some(end), ..in_time(ms(640)) };
        assert_eq!(policy.decide(blended), Decision::Filter(1.0));
    }
}
