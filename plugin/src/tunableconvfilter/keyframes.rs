//! The property `keyframes`: keyframes as text, for `gst-launch-1.0`, which has no syntax for
//! control bindings.
//!
//! ```text
//! keyframes = track { ";" track }
//! track     = property [ "(" mode ")" ] "=" point { "," point }
//! mode      = "linear" | "step" | "cubic"
//! point     = time ":" value
//! time      = number ( "s" | "ms" )
//! ```
//!
//! Spaces may stand between all of these. Times are stream time and must rise. A property that a
//! track starts later than 0 stands at the first value until then, and at the last one after the
//! end. `cubic` never leaves the range of its neighbours.

use glib::prelude::*;
use gst::prelude::*;
use gst_controller::prelude::*;
use gst_controller::{DirectControlBinding, InterpolationControlSource, InterpolationMode};
use gstreamer as gst;
use gstreamer_controller as gst_controller;

use super::knobs::Knob;

/// Keyframes of one property.
#[derive(Clone, Debug, PartialEq)]
pub struct Track {
    /// Its name.
    pub property: String,
    /// What is between the points.
    pub mode: InterpolationMode,
    /// Stream times, rising, and values.
    pub points: Vec<(gst::ClockTime, f64)>,
}

/// Reads the text; an empty one has no tracks.
///
/// # Errors
/// What was expected, and where.
pub fn parse(text: &str) -> Result<Vec<Track>, String> {
    if text.trim().is_empty() {
        return Ok(vec![]);
    }
    let mut tracks: Vec<Track> = vec![];
    for part in text.split(';') {
        let track = parse_track(part)?;
        if tracks.iter().any(|other| other.property == track.property) {
            return Err(format!("`{}` has two tracks", track.property));
        }
        tracks.push(track);
    }
    Ok(tracks)
}

fn parse_track(text: &str) -> Result<Track, String> {
    let expected = || format!("`{}`: expected PROPERTY=TIME:VALUE,TIME:VALUE,…", text.trim());
    let (head, points) = text.split_once('=').ok_or_else(expected)?;
    let (property, mode) = match head.split_once('(') {
        None => (head, InterpolationMode::Linear),
        Some((property, rest)) => {
            let mode = rest.trim_end().strip_suffix(')').map(str::trim);
            let mode = match mode {
                Some("linear") => InterpolationMode::Linear,
                Some("step") => InterpolationMode::None,
                Some("cubic") => InterpolationMode::CubicMonotonic,
                _ => {
                    let got = rest.trim_end().trim_end_matches(')');
                    return Err(format!("mode `{got}`: expected linear, step or cubic"));
                }
            };
            (property, mode)
        }
    };
    let property = property.trim().to_owned();
    if property.is_empty() {
        return Err(expected());
    }
    let points = points.split(',').map(parse_point).collect::<Result<Vec<_>, _>>()?;
    if let Some(pair) = points.windows(2).find(|pair| pair[0].0 >= pair[1].0) {
        let (first, second) = (pair[0].0, pair[1].0);
        return Err(format!("`{property}`: {second} comes after {first}, expected rising times"));
    }
    Ok(Track { property, mode, points })
}

fn parse_point(text: &str) -> Result<(gst::ClockTime, f64), String> {
    let expected = |what: &str| format!("`{}`: {what}", text.trim());
    let (time, value) =
        text.split_once(':').ok_or_else(|| expected("expected TIME:VALUE, e.g. 1.5s:0.25"))?;
    let time = time.trim();
    let seconds = match (time.strip_suffix("ms"), time.strip_suffix('s')) {
        (Some(milliseconds), _) => number(milliseconds).map(|milliseconds| milliseconds / 1e3),
        (None, Some(seconds)) => number(seconds),
        (None, None) => None,
    };
    let seconds = seconds
        .filter(|seconds| (0.0..=MAX_SECONDS).contains(seconds))
        .ok_or_else(|| expected("expected a time like 0s, 1.5s or 40ms"))?;
    let value = number(value).ok_or_else(|| expected("expected a number as value"))?;
    Ok((gst::ClockTime::from_nseconds((seconds * 1e9).round() as u64), value))
}

/// A hundred years; a nanosecond is still far below a frame there.
const MAX_SECONDS: f64 = 3.2e9;

/// A finite decimal number.
fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    let is_plain = |c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '+' | 'e' | 'E');
    text.parse().ok().filter(|v: &f64| v.is_finite() && text.chars().all(is_plain))
}

/// Checks that the tracks are of these knobs and in their ranges.
///
/// # Errors
/// What was expected.
pub fn check(tracks: &[Track], knobs: &[Knob]) -> Result<(), String> {
    for Track { property, points, .. } in tracks {
        let Some(knob) = knobs.iter().find(|knob| knob.name == *property) else {
            let names: Vec<&str> = knobs.iter().map(|knob| knob.name.as_str()).collect();
            return Err(format!("no parameter `{property}`, expected {}", names.join(", ")));
        };
        let range = knob.minimum..=knob.maximum;
        if let Some((time, value)) = points.iter().find(|(_, value)| !range.contains(value)) {
            return Err(format!("`{property}` is {value} at {time}, expected {range:?}"));
        }
    }
    Ok(())
}

/// The control bindings that the property has made, by the properties that they control.
#[derive(Default)]
pub struct Bindings {
    ours: Vec<(String, gst::ControlBinding)>,
    /// What was set since; for the next frame.
    pub next: Option<Vec<Track>>,
}

impl Bindings {
    /// Replaces the bindings by those of the next tracks, if there are; returns the properties that
    /// have one of the application, which stays.
    pub fn renew(&mut self, object: &gst::Object) -> Vec<String> {
        let Some(tracks) = self.next.take() else { return vec![] };
        for (_, binding) in self.ours.drain(..) {
            // The application may have replaced it.
            object.remove_control_binding(&binding);
        }
        let mut others = vec![];
        for track in tracks {
            if object.control_binding(&track.property).is_some() {
                others.push(track.property);
                continue;
            }
            let binding = track.binding(object);
            match object.add_control_binding(&binding) {
                Ok(()) => self.ours.push((track.property, binding.upcast())),
                Err(_) => unreachable!("knobs are controllable"),
            }
        }
        others
    }

    /// Properties whose binding the application has replaced since; each is told once.
    pub fn replaced(&mut self, object: &gst::Object) -> Vec<String> {
        let mut names = vec![];
        self.ours.retain(|(name, binding)| {
            let is_ours = object.control_binding(name).as_ref() == Some(binding);
            if !is_ours {
                names.push(name.clone());
            }
            is_ours
        });
        names
    }
}

impl Track {
    fn binding(&self, object: &gst::Object) -> DirectControlBinding {
        let source = InterpolationControlSource::new();
        source.set_mode(self.mode);
        // A source has no value before its first point.
        let start = self.points.first().map(|&(_, value)| (gst::ClockTime::ZERO, value));
        for (time, value) in start.into_iter().chain(self.points.iter().copied()) {
            source.set(time, value);
        }
        DirectControlBinding::new_absolute(object, &self.property, &source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: f64) -> gst::ClockTime {
        gst::ClockTime::from_nseconds((seconds * 1e9) as u64)
    }

    #[test]
    fn tracks_modes_and_points() {
        let text = "alpha=0s:0,4s:1; beta (step) = 0s:.5, 1500ms : 1 ;gamma(cubic)=2.5s:1e-1";
        let track = |property: &str, mode, points: &[(f64, f64)]| Track {
            property: property.into(),
            mode,
            points: points.iter().map(|&(time, value)| (seconds(time), value)).collect(),
        };
        assert_eq!(
            parse(text).unwrap(),
            [
                track("alpha", InterpolationMode::Linear, &[(0.0, 0.0), (4.0, 1.0)]),
                track("beta", InterpolationMode::None, &[(0.0, 0.5), (1.5, 1.0)]),
                track("gamma", InterpolationMode::CubicMonotonic, &[(2.5, 0.1)]),
            ]
        );
        assert_eq!(parse("  ").unwrap(), []);
        assert_eq!(parse("a(linear)=0s:1").unwrap(), parse("a=0s:1").unwrap());
    }

    #[test]
    fn what_is_wrong_is_named_with_what_was_expected() {
        for (text, expected) in [
            ("alpha", "`alpha`: expected PROPERTY=TIME:VALUE,TIME:VALUE,…"),
            ("=0s:1", "`=0s:1`: expected PROPERTY=TIME:VALUE,TIME:VALUE,…"),
            ("alpha=0s:1;", "``: expected PROPERTY=TIME:VALUE,TIME:VALUE,…"),
            ("alpha=0s:1,", "``: expected TIME:VALUE, e.g. 1.5s:0.25"),
            ("alpha=0s", "`0s`: expected TIME:VALUE, e.g. 1.5s:0.25"),
            ("alpha=0:1", "`0:1`: expected a time like 0s, 1.5s or 40ms"),
            ("alpha=-1s:1", "`-1s:1`: expected a time like 0s, 1.5s or 40ms"),
            ("alpha=1e300s:1", "`1e300s:1`: expected a time like 0s, 1.5s or 40ms"),
            ("alpha=infs:1", "`infs:1`: expected a time like 0s, 1.5s or 40ms"),
            ("alpha=0s:nan", "`0s:nan`: expected a number as value"),
            ("alpha=0s:", "`0s:`: expected a number as value"),
            ("alpha=0s:1e999", "`0s:1e999`: expected a number as value"),
            ("alpha(smooth)=0s:1", "mode `smooth`: expected linear, step or cubic"),
            ("alpha(step=0s:1", "mode `step`: expected linear, step or cubic"),
            ("alpha()=0s:1", "mode ``: expected linear, step or cubic"),
            ("alpha=0s:1;alpha=1s:0", "`alpha` has two tracks"),
            (
                "alpha=1s:0,1000ms:1",
                "`alpha`: 0:00:01.000000000 comes after 0:00:01.000000000, expected rising times",
            ),
        ] {
            assert_eq!(parse(text).unwrap_err(), expected, "{text}");
        }
    }

    #[test]
    fn tracks_are_of_knobs_and_in_range() {
        let knob = |name: &str| Knob {
            name: name.into(),
            nick: String::new(),
            blurb: String::new(),
            minimum: 0.0,
            maximum: 1.0,
            default: 0.0,
        };
        let knobs = [knob("alpha"), knob("beta")];
        let check = |text: &str| check(&parse(text).unwrap(), &knobs);
        assert_eq!(check("beta=0s:1;alpha=0s:0"), Ok(()));
        assert_eq!(check("gamma=0s:1"), Err("no parameter `gamma`, expected alpha, beta".into()));
        let text = "`alpha` is 1.5 at 0:00:02.000000000, expected 0.0..=1.0";
        assert_eq!(check("alpha=0s:1,2s:1.5"), Err(text.into()));
    }
}
