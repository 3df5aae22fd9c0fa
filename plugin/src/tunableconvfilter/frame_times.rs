//! How long frames take, as far as the process knows: one element's measurement serves all that run
//! such an engine, and other sizes are told from the pixels, so that a stream need not wait for a
//! measurement when its caps change.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use gst_video::{VideoFormat, VideoInfo};
use gstreamer_video as gst_video;

/// Format, width and height.
type Kind = (VideoFormat, u32, u32);

/// By engine and kind of frames.
static TIMES: Mutex<Option<HashMap<String, HashMap<Kind, Duration>>>> = Mutex::new(None);

fn kind(info: &VideoInfo) -> Kind {
    (info.format(), info.width(), info.height())
}

fn pixels((_, width, height): Kind) -> f64 {
    f64::from(width) * f64::from(height)
}

/// How long a frame takes in an engine of this name, measured or told from the size nearest to it.
pub fn known(engine: &str, info: &VideoInfo) -> Option<Duration> {
    let times = TIMES.lock().unwrap_or_else(PoisonError::into_inner);
    let times = times.as_ref()?.get(engine)?;
    let asked = kind(info);
    if let Some(&time) = times.get(&asked) {
        return Some(time);
    }
    let distance = |kind: Kind| (pixels(kind) / pixels(asked)).ln().abs();
    let nearest = times.iter().min_by(|(a, _), (b, _)| distance(**a).total_cmp(&distance(**b)));
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
        let nv12 = VideoInfo::builder(VideoFormat::Nv12, 640, 360).build().unwrap();
        assert_eq!(known("a", &nv12), Some(ms(12)));
    }
}
