//! What is said of a frame stays with it, and padded frames go only to who can read them.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::{Arc, Mutex};

use common::{Model, Picture, stamped};
use gstreamer as gst;
use gstreamer_video as gst_video;

use gst::prelude::*;
use gst_video::{VideoCropMeta, VideoFormat, VideoMeta, VideoRegionOfInterestMeta};

#[test]
fn every_meta_that_describes_the_picture_is_kept_at_every_setting() {
    let model = Model::new();
    let picture = Picture::random(64, 48);
    let info = picture.info(VideoFormat::I420);
    let mark = gst::Caps::new_empty_simple("timestamp/x-test");
    for alpha in [0.0, 0.5, 1.0] {
        let element = model.element();
        element.set_property("alpha", alpha);
        let mut harness = model.harness(&element, &info);
        let mut buffer = stamped(picture.buffer(&info), 0);
        {
            let buffer = buffer.get_mut().unwrap();
            VideoRegionOfInterestMeta::add(buffer, "face", (10, 12, 20, 16));
            VideoCropMeta::add(buffer, (2, 4, 60, 40));
            gst::ReferenceTimestampMeta::add(buffer, &mark, gst::ClockTime::SECOND, None);
        }
        let output = harness.push_and_pull(buffer).unwrap();
        let region = output.meta::<VideoRegionOfInterestMeta>().expect("the region");
        assert_eq!((region.roi_type(), region.rect()), ("face", (10, 12, 20, 16)), "{alpha}");
        assert_eq!(output.meta::<VideoCropMeta>().expect("the crop").rect(), (2, 4, 60, 40));
        assert!(output.meta::<gst::ReferenceTimestampMeta>().is_some(), "{alpha}");
    }
}

/// As `videocrop` and decoders say that a frame is a part of a larger one.
#[test]
fn of_a_frame_that_is_cut_from_another_that_part_is_filtered() {
    let model = Model::new();
    let whole = Picture::random(64, 48);
    let whole_info = whole.info(VideoFormat::I420);
    for (x, y, width, height) in [(32, 0, 32, 48), (0, 0, 32, 48), (6, 10, 50, 38)] {
        let mut part = Picture::random(width, height);
        for (which, plane) in part.planes.iter_mut().enumerate() {
            let half = |side: usize| if which == 0 { side } else { side / 2 };
            let rows = plane.chunks_mut(half(width)).enumerate();
            for (row, line) in rows {
                let from = (half(y) + row) * half(64) + half(x);
                line.copy_from_slice(&whole.planes[which][from..][..half(width)]);
            }
        }
        let info = part.info(VideoFormat::I420);
        let element = model.element();
        let mut harness = model.harness(&element, &info);
        for alpha in [0.5, 0.0, 1.0] {
            element.set_property("alpha", alpha);
            let mut buffer = stamped(whole.padded_buffer(&whole_info), 0);
            let rect = (x as u32, y as u32, width as u32, height as u32);
            VideoCropMeta::add(buffer.make_mut(), rect);
            let output = harness.push_and_pull(buffer).unwrap();
            if alpha > 0.0 {
                assert!(output.meta::<VideoCropMeta>().is_none(), "it is cut already");
                let expected = model.filter(&part, &[alpha, 0.0]);
                assert_eq!(part.read(&info, output), expected, "{rect:?} {alpha}");
            }
        }
        // What would end outside.
        let mut buffer = stamped(whole.padded_buffer(&whole_info), 9);
        VideoCropMeta::add(buffer.make_mut(), (40, 20, width as u32, height as u32));
        assert_eq!(harness.push(buffer), Err(gst::FlowError::Error));
    }
}

/// A pad that takes buffers, and says whether it reads `GstVideoMeta`.
fn peer(reads_meta: bool) -> (gst::Pad, Arc<Mutex<Vec<gst::Buffer>>>) {
    let taken: Arc<Mutex<Vec<gst::Buffer>>> = Arc::default();
    let to = taken.clone();
    let pad = gst::Pad::builder(gst::PadDirection::Sink)
        .chain_function(move |_, _, buffer| {
            to.lock().unwrap().push(buffer);
            Ok(gst::FlowSuccess::Ok)
        })
        .query_function(move |pad, parent, query| {
            if let gst::QueryViewMut::Allocation(query) = query.view_mut() {
                if reads_meta {
                    query.add_allocation_meta::<VideoMeta>(None);
                }
                return true;
            }
            gst::Pad::query_default(pad, parent, query)
        })
        .event_function(|_, _, _| true)
        .build();
    pad.set_active(true).unwrap();
    (pad, taken)
}

#[test]
fn a_new_peer_is_asked_whether_it_can_read_padded_frames() {
    let model = Model::new();
    let picture = Picture::random(17, 9);
    let info = picture.info(VideoFormat::I420);
    let element = model.element();
    element.set_property("alpha", 0.0);
    let (sink, src) = (element.static_pad("sink").unwrap(), element.static_pad("src").unwrap());
    let source = gst::Pad::builder(gst::PadDirection::Src).build();
    source.set_active(true).unwrap();
    source.link(&sink).unwrap();
    element.set_state(gst::State::Playing).unwrap();
    assert!(source.push_event(gst::event::StreamStart::new("relinked")));
    let mut is_first = true;
    // Where caps come again, as from another source of the same, they say nothing of the peer.
    let peers = [(true, false), (false, false), (true, false), (false, true), (true, true)];
    // Upstream may ask for memory before the first buffer.
    let peers =
        peers.into_iter().flat_map(|(reads, again)| [false, true].map(|asks| (reads, again, asks)));
    for (reads_meta, caps_come_again, asks) in peers {
        let (peer, taken) = peer(reads_meta);
        src.link(&peer).unwrap();
        if std::mem::take(&mut is_first) || caps_come_again {
            assert!(source.push_event(gst::event::Caps::new(&info.to_caps().unwrap())));
            let segment = gst::FormattedSegment::<gst::ClockTime>::new();
            assert!(source.push_event(gst::event::Segment::new(&segment)));
        }
        if asks {
            let caps = info.to_caps().unwrap();
            assert!(source.peer_query(&mut gst::query::Allocation::new(Some(&caps), true)));
        }
        let sent = [0, 1, 2].map(|index| stamped(picture.padded_buffer(&info), index));
        let addresses = sent.each_ref().map(|buffer| buffer.as_ptr());
        for buffer in sent {
            source.push(buffer).unwrap();
        }
        let taken = std::mem::take(&mut *taken.lock().unwrap());
        assert_eq!(taken.len(), 3);
        for buffer in &taken {
            // As one reads it who knows of no meta.
            let bytes = buffer.map_readable().unwrap().to_vec();
            let plain = gst::Buffer::from_slice(bytes);
            let read = if reads_meta { buffer.clone() } else { plain };
            assert_eq!(picture.read(&info, read), picture, "reads meta: {reads_meta}");
        }
        if reads_meta {
            assert_eq!(taken[2].as_ptr(), addresses[2], "it is copied for nothing");
        }
        src.unlink(&peer).unwrap();
    }
    // Those that had to be copied are not filtered either.
    let stats = element.property::<gst::Structure>("stats");
    assert_eq!((stats.get::<u64>("frames"), stats.get::<u64>("passthrough")), (Ok(0), Ok(30)));
    element.set_state(gst::State::Null).unwrap();
}
