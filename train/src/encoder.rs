//! What video encoders leave of a clip, by GStreamer's own tools.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

use crate::clip::{Clip, write_clip};
use crate::yuv::Range;

/// A codec, with the elements that encode and decode it.
pub struct Encoder {
    /// Short name, for the names of files.
    pub name: &'static str,
    /// Its element, the rarest of those it needs.
    element: &'static str,
    /// The Debian package that has it.
    package: &'static str,
    /// Encoding and decoding at a quantiser, as part of a pipeline.
    pipeline: fn(u32) -> String,
    /// Least and greatest quantiser, from hardly visible to plainly so.
    pub quantisers: [u32; 2],
    /// Least and greatest quantiser there is.
    pub range: [u32; 2],
}

/// The codecs there are, the most usual one first.
pub const ENCODERS: [Encoder; 4] = [
    Encoder {
        name: "h264",
        element: "x264enc",
        package: "gstreamer1.0-plugins-ugly",
        pipeline: |quantiser| {
            format!(
                "x264enc pass=qual quantizer={quantiser} threads=1 ! \
                 avdec_h264 direct-rendering=false max-threads=1"
            )
        },
        quantisers: [16, 42],
        range: [0, 50],
    },
    Encoder {
        name: "mpeg2",
        element: "mpeg2enc",
        package: "gstreamer1.0-plugins-bad",
        pipeline: |quantiser| {
            format!(
                "mpeg2enc format=3 bitrate=9000 quantisation={quantiser} ! mpegvideoparse ! \
                 avdec_mpeg2video direct-rendering=false max-threads=1"
            )
        },
        quantisers: [3, 24],
        range: [1, 31],
    },
    Encoder {
        name: "vp8",
        element: "vp8enc",
        package: "gstreamer1.0-plugins-good",
        pipeline: |quantiser| {
            format!(
                "vp8enc end-usage=cq cq-level={quantiser} min-quantizer={quantiser} \
                 max-quantizer={quantiser} deadline=1 cpu-used=4 threads=1 ! vp8dec threads=1"
            )
        },
        quantisers: [10, 60],
        range: [0, 63],
    },
    Encoder {
        name: "av1",
        element: "av1enc",
        package: "gstreamer1.0-plugins-bad",
        pipeline: |quantiser| {
            format!(
                "av1enc end-usage=q min-quantizer={quantiser} max-quantizer={quantiser} \
                 usage-profile=realtime cpu-used=8 threads=1 ! av1dec"
            )
        },
        quantisers: [16, 60],
        range: [0, 63],
    },
];

impl Encoder {
    /// Checks that it can be used.
    ///
    /// # Errors
    /// Names what has to be installed.
    pub fn check(&self) -> anyhow::Result<()> {
        let found = Command::new("gst-inspect-1.0")
            .args(["--exists", self.element])
            .status()
            .context("gst-inspect-1.0 does not start: apt install gstreamer1.0-tools")?;
        ensure!(
            found.success(),
            "there is no element {} for {}: apt install {}",
            self.element,
            self.name,
            self.package
        );
        Ok(())
    }

    /// What is left of frames, encoded at a quantiser and decoded again: planes Y, U and V of 8-bit 4:2:0.
    ///
    /// # Errors
    /// What GStreamer says; another number or size of frames.
    pub(crate) fn pass(
        &self,
        quantiser: u32,
        size: (usize, usize),
        frames: &[[Vec<u8>; 3]],
    ) -> anyhow::Result<Vec<[Vec<u8>; 3]>> {
        let room = tempfile::tempdir()?;
        let (source, encoded) = (room.path().join("source.y4m"), room.path().join("encoded.y4m"));
        write_clip(&source, size, frames.iter())?;
        let pipeline = format!("y4mdec ! {}", (self.pipeline)(quantiser));
        let _range = play(&source, &pipeline, &encoded)
            .with_context(|| format!("{} at quantiser {quantiser}", self.name))?;
        let mut clip = Clip::open(&encoded).context("what was decoded")?;
        ensure!(clip.size() == size, "{:?} pixels were decoded, not {size:?}", clip.size());
        let mut decoded = vec![];
        while let Some(frame) = clip.next_frame()? {
            decoded.push(frame.picture.to_bytes());
        }
        let (count, wanted) = (decoded.len(), frames.len());
        ensure!(count == wanted, "{} decoded {count} of {wanted} frames", self.name);
        Ok(decoded)
    }
}

/// Writes the Y4M clip `to`: the file `from` through a pipeline that ends in video. Returns the range of its codes.
///
/// # Errors
/// What GStreamer says.
pub(crate) fn play(from: &Path, pipeline: &str, to: &Path) -> anyhow::Result<Range> {
    // Arguments, not text for a shell: names may have spaces.
    let location = |path: &Path| {
        let mut location = std::ffi::OsString::from("location=");
        location.push(path);
        location
    };
    let output = Command::new("gst-launch-1.0")
        .args(["-v", "filesrc"])
        .arg(location(from))
        .arg("!")
        .args(pipeline.split_whitespace())
        .args("! video/x-raw,format=I420 ! y4menc ! filesink".split_whitespace())
        .arg(location(to))
        .stdin(Stdio::null())
        .output()
        .context("gst-launch-1.0 does not start: apt install gstreamer1.0-tools")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}", said.trim());
    let formats = String::from_utf8_lossy(&output.stdout);
    let is_written = |line: &&str| line.contains("y4menc") && line.contains("sink: caps");
    let written = formats.lines().find(is_written).unwrap_or_default();
    // Its range, matrix, transfer function and primaries, or their usual name, which all are of limited range.
    Ok(if written.contains("colorimetry=(string)1:") { Range::Full } else { Range::Limited })
}
