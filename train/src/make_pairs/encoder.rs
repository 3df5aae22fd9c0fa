//! What video encoders leave of a clip, by GStreamer's own tools.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

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

    /// Writes `to`, the Y4M clip `from` encoded at a quantiser and decoded again.
    ///
    /// # Errors
    /// What GStreamer says.
    pub fn encode(&self, quantiser: u32, from: &Path, to: &Path) -> anyhow::Result<()> {
        // Arguments, not text for a shell: names may have spaces.
        let location = |path: &Path| {
            let mut location = std::ffi::OsString::from("location=");
            location.push(path);
            location
        };
        let pipeline = (self.pipeline)(quantiser);
        let output = Command::new("gst-launch-1.0")
            .args(["-q", "filesrc"])
            .arg(location(from))
            .args("! y4mdec !".split_whitespace())
            .args(pipeline.split_whitespace())
            .args("! video/x-raw,format=I420 ! y4menc ! filesink".split_whitespace())
            .arg(location(to))
            .stdin(Stdio::null())
            .output()
            .context("gst-launch-1.0 does not start: apt install gstreamer1.0-tools")?;
        ensure!(
            output.status.success(),
            "{} at quantiser {quantiser}: {}",
            self.name,
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    }
}
