//! How long frames take, as far as the process knows: one element's measurement serves all that run
//! such an engine, and sizes that are not far from it are told from the pixels, so that a stream need not
//! wait for a measurement when its caps change.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use gst_video::{VideoFormat, VideoInfo};
use gstreamer_video as gst_video;

/// Format, width and height.
type Kind = (VideoFormat, u32, u32);

/// How many times as many pixels a frame may have, or as few, to be told from another: what each frame costs
/// whatever its size is not in its pixels.
const NEAR: f64 = 4.0;

/// By engine and kind of frames.
static TIMES: Mutex<Option<HashMap<String, HashMap<Kind, Duration>>>> = Mutex::new(None);

fn kind(info: &VideoInfo) -> Kind {
    (info.format(), info.width(), info.height())
}

fn pixels((_, width, height): Kind) -> f64 {
    f64::from(width) * f64::from(height)
}

/// How long a frame takes in an engine of this name: measured, or told from the size nearest to it, of the same
/// format if there is one; `None` where none is near.
pub fn known(engine: &str, info: &VideoInfo) -> Option<Duration> {
    let times = TIMES.lock().unwrap_or_else(PoisonError::into_inner);
    let times = times.as_ref()?.get(engine)?;
    let asked = kind(info);
    if let Some(&time) = times.get(&asked) {
        return Some(time);
    }
    let distance = |kind: Kind| (pixels(kind) / pixels(asked)).ln().abs();
    let near = times.iter().filter(|(kind, _)| distance(**kind) <= NEAR.ln() + 1e-9);
    let nearest = near.min_by(|(a, _), (b, _)| {
        let of_format = |kind: Kind| kind.0 != asked.0;
        of_format(**a).cmp(&of_format(**b)).then(distance(**a).total_cmp(&distance(**b)))
    });
    nearest.map(|(&kind, time)| time.mul_f64(pixels(asked) / pixels(kind)))
}

/// Takes what was measured.
pub fn learn(engine: &str, info: &VideoInfo, time: Duration) {
    let mut times = TIMES.lock().unwrap_or_else(PoisonError::into_inner);
    let times = times.get_or_insert_default();
    match times.get_mut(engine) {
        Some(times) => {
            times.insert(kind(info), time);
        }
        None => {
            times.insert(engine.into(), HashMap::from([(kind(info), time)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_sizes_are_told_from_the_nearest() {
        gstreamer::init().unwrap();
        let info =
            |width, height| VideoInfo::builder(VideoFormat::I420, width, height).build().unwrap();
        let ms = Duration::from_millis;
        assert_eq!(known("a", &info(640, 360)), None);
        learn("a", &info(640, 360), ms(10));
        assert_eq!(known("b", &info(640, 360)), None);
        assert_eq!(known("a", &info(1280, 720)), Some(ms(40)));
        learn("a", &info(1920, 1080), ms(45));
        assert_eq!(known("a", &info(1280, 720)), Some(ms(20)));
        assert_eq!(known("a", &info(320, 180)).map(|time| time.as_micros()), Some(2500));
        learn("a", &info(640, 360), ms(12));
        assert_eq!(known("a", &info(640, 360)), Some(ms(12)));
        // A hundredth of the pixels says nothing, and the same format more than the same size.
        assert_eq!(known("a", &info(64, 36)), None);
        let nv12 = VideoInfo::builder(VideoFormat::Nv12, 640, 360).build().unwrap();
        assert_eq!(known("a", &nv12), Some(ms(12)));
    }
}
