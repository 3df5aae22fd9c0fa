//! What the element knows of the noise of its stream, and the knob that follows it.

use tunableconv::noise_level::NoiseMeter;

/// Frames are measured as often.
const EVERY: u32 = 8;

/// Share of a measurement in the level; the rest is what it was. At 25 frames a second the level is half
/// way to another noise in a second.
const SHARE: f64 = 0.2;

/// Noise below this cannot be seen: when so little is measured and left of what was before, there is none.
const LEAST: f64 = 0.1 / 255.0;

/// A knob follows when the level has changed by this share of itself, as every value costs a fold.
const CHANGE: f64 = 0.02;

/// The noise of a stream, smoothed over frames.
#[derive(Default)]
pub struct Noise {
    /// For the frames.
    pub meter: NoiseMeter,
    /// Frames since the last that was measured.
    frames: u32,
    /// Root mean square in luma, where black is 0 and white 1.
    level: Option<f64>,
    /// What the knob follows.
    followed: Option<f64>,
}

impl Noise {
    /// Whether this frame is to be measured.
    pub fn is_due(&mut self) -> bool {
        let is_due = self.level.is_none() || self.frames >= EVERY;
        self.frames = if is_due { 1 } else { self.frames + 1 };
        is_due
    }

    /// Takes in what was measured; frames without an answer change nothing.
    pub fn measured(&mut self, measured: Option<f64>) {
        let Some(measured) = measured else { return };
        let level = self.level.map_or(measured, |level| level + SHARE * (measured - level));
        let level = if level.max(measured) < LEAST { 0.0 } else { level };
        self.level = Some(level);
        let is_near = |followed: &f64| (level - followed).abs() <= CHANGE * followed;
        if !self.followed.as_ref().is_some_and(is_near) {
            self.followed = Some(level);
        }
    }

    /// The smoothed level; `None` before the first.
    pub fn level(&self) -> Option<f64> {
        self.level
    }

    /// The level in the steps that a knob follows.
    pub fn followed(&self) -> Option<f64> {
        self.followed
    }

    /// Starts again: another stream, or another part of it.
    pub fn forget(&mut self) {
        (self.level, self.followed) = (None, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_measurement_counts_in_full_and_others_in_part() {
        let mut noise = Noise::default();
        noise.measured(None);
        assert_eq!(noise.level(), None);
        noise.measured(Some(10.0));
        assert_eq!((noise.level(), noise.followed()), (Some(10.0), Some(10.0)));
        noise.measured(Some(20.0));
        assert_eq!(noise.level(), Some(12.0));
        noise.measured(None);
        assert_eq!(noise.level(), Some(12.0));
        noise.forget();
        noise.measured(Some(3.0));
        assert_eq!((noise.level(), noise.followed()), (Some(3.0), Some(3.0)));
    }

    #[test]
    fn what_follows_stays_while_the_level_hardly_changes() {
        let mut noise = Noise::default();
        noise.measured(Some(10.0));
        noise.measured(Some(10.5));
        assert_eq!((noise.level(), noise.followed()), (Some(10.1), Some(10.0)));
        noise.measured(Some(11.0));
        assert!(noise.followed() > Some(10.2) && noise.followed() == noise.level());
    }

    #[test]
    fn noise_that_ends_is_none_before_long() {
        let mut noise = Noise::default();
        noise.measured(Some(10.0 / 255.0));
        let ended = (1..100).find(|_| {
            noise.measured(Some(0.0));
            noise.followed() == Some(0.0)
        });
        // At 25 frames a second after some seconds.
        assert!(ended < Some(30), "{ended:?}");
        // However weak, it comes back.
        (0..20).for_each(|_| noise.measured(Some(0.2 / 255.0)));
        assert!(noise.followed() > Some(0.15 / 255.0));
    }

    #[test]
    fn every_eighth_frame_is_measured_and_each_until_one_answers() {
        let mut noise = Noise::default();
        assert!(noise.is_due() && noise.is_due());
        noise.measured(Some(1.0));
        let due: Vec<usize> = (1..=24).filter(|_| noise.is_due()).collect();
        assert_eq!(due, [8, 16, 24]);
    }
}
