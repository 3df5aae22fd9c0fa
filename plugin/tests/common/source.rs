//! A source of small frames that does at any time what it is told: it takes other caps, is sought
//! also backwards, and ends.
//!
//! `videotestsrc` cannot come to its start backwards without calling something critical, and
//! `capsfilter`, which would change its caps, leaks some.

use std::sync::Mutex;

use gst::glib;
use gst_base::prelude::*;
use gst_base::subclass::prelude::*;
use gst_video::VideoInfo;
use gstreamer as gst;
use gstreamer_base as gst_base;
use gstreamer_video as gst_video;

glib::wrapper! {
    pub struct Source(ObjectSubclass<imp::Source>)
        @extends gst_base::BaseSrc, gst::Element, gst::Object;
}

impl Source {
    pub fn new(is_live: bool, caps: &gst::Caps) -> Self {
        let source: Self = glib::Object::new();
        source.set_format(gst::Format::Time);
        source.set_live(is_live);
        source.set_next_caps(caps);
        source
    }

    /// Sends frames of these caps from the next one on.
    pub fn set_next_caps(&self, caps: &gst::Caps) {
        self.imp().0.lock().unwrap().caps = Some(caps.clone());
        self.static_pad("src").unwrap().mark_reconfigure();
    }
}

mod imp {
    use std::sync::LazyLock;

    use super::*;

    #[derive(Default)]
    pub struct State {
        pub caps: Option<gst::Caps>,
        info: Option<VideoInfo>,
        /// Where the next frame begins, or ends if time runs backwards.
        next: gst::ClockTime,
        frames: u8,
    }

    #[derive(Default)]
    pub struct Source(pub Mutex<State>);

    #[glib::object_subclass]
    impl ObjectSubclass for Source {
        const NAME: &'static str = "TestsSource";
        type Type = super::Source;
        type ParentType = gst_base::BaseSrc;
    }

    impl ObjectImpl for Source {}

    impl GstObjectImpl for Source {}

    impl ElementImpl for Source {
        fn pad_templates() -> &'static [gst::PadTemplate] {
            static TEMPLATES: LazyLock<[gst::PadTemplate; 1]> = LazyLock::new(|| {
                let caps = gst::Caps::new_empty_simple("video/x-raw");
                let (direction, presence) = (gst::PadDirection::Src, gst::PadPresence::Always);
                [gst::PadTemplate::new("src", direction, presence, &caps).unwrap()]
            });
            &*TEMPLATES
        }
    }

    impl BaseSrcImpl for Source {
        fn start(&self) -> Result<(), gst::ErrorMessage> {
            self.0.lock().unwrap().next = gst::ClockTime::ZERO;
            Ok(())
        }

        /// `GstBaseSrc` gives frames of a live source that was sought times before 0.
        fn is_seekable(&self) -> bool {
            !self.obj().is_live()
        }

        fn do_seek(&self, segment: &mut gst::Segment) -> bool {
            let segment = segment.downcast_mut::<gst::ClockTime>().unwrap();
            let from = if segment.rate() < 0.0 { segment.stop() } else { segment.start() };
            segment.set_position(from);
            self.0.lock().unwrap().next = from.unwrap();
            true
        }

        fn negotiate(&self) -> Result<(), gst::LoggableError> {
            let caps = self.0.lock().unwrap().caps.clone().unwrap();
            let info = VideoInfo::from_caps(&caps).unwrap();
            let obj = self.obj();
            obj.set_blocksize(info.size() as u32);
            self.0.lock().unwrap().info = Some(info);
            obj.set_caps(&caps)
                .map_err(|_| gst::loggable_error!(gst::CAT_RUST, "{caps} are refused"))
        }

        /// A live one waits for the clock.
        fn times(
            &self,
            buffer: &gst::BufferRef,
        ) -> (Option<gst::ClockTime>, Option<gst::ClockTime>) {
            (buffer.pts().filter(|_| self.obj().is_live()), None)
        }

        fn fill(
            &self,
            _offset: u64,
            _length: u32,
            buffer: &mut gst::BufferRef,
        ) -> Result<gst::FlowSuccess, gst::FlowError> {
            let segment = self.obj().segment().downcast::<gst::ClockTime>().unwrap();
            let mut state = self.0.lock().unwrap();
            let fps = state.info.as_ref().unwrap().fps();
            let duration = gst::ClockTime::SECOND / fps.numer() as u64;
            let pts = if segment.rate() < 0.0 {
                let pts = state.next.checked_sub(duration).ok_or(gst::FlowError::Eos)?;
                state.next = pts;
                pts
            } else {
                let pts = state.next;
                state.next += duration;
                pts
            };
            buffer.set_pts(pts);
            buffer.set_duration(duration);
            state.frames = state.frames.wrapping_add(2);
            let mut data = buffer.map_writable().unwrap();
            // No two frames that follow each other are the same, nor is one of a single colour.
            for (index, byte) in data.iter_mut().enumerate() {
                *byte = (index as u8).wrapping_mul(state.frames | 1);
            }
            Ok(gst::FlowSuccess::Ok)
        }
    }
}
