#!/usr/bin/env python3
"""Sweeps alpha 0 -> 1 -> 0 by keyframes while a video plays, and encodes the result.

    sweep.py OUT.mkv                     five seconds of GStreamer's noisiest test pattern
    sweep.py OUT.mkv --input FILE        a video file, with its sound as AAC

The video becomes H.264 with 8 bits and 4:2:0; a rotated one is turned upright, an interlaced one
deinterlaced, and a side of an odd length loses a pixel. GST_PLUGIN_PATH says where the plugin is (default: ../target/release). `make setup`
installs what this needs.
"""

import argparse
import os
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
os.environ.setdefault("GST_PLUGIN_PATH", str(HERE.parent / "target" / "release"))

import gi  # noqa: E402  (GStreamer reads the plugin path when it is loaded)

gi.require_version("Gst", "1.0")
gi.require_version("GstController", "1.0")
from gi.repository import GLib, Gst, GstController  # noqa: E402

SOUND = (
    "audioconvert ! audioresample ! avenc_aac ! aacparse "
    "! queue max-size-buffers=0 max-size-bytes=0 max-size-time=0"  # x264enc looks ahead
)
TEST_PATTERN = "videotestsrc pattern=snow num-buffers=150 ! video/x-raw,width=640,height=360"


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", help="Matroska file to write")
    parser.add_argument("--input", help="video file; a test pattern if left out")
    parser.add_argument("--model", default="", help="checkpoint; the built-in one if left out")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of one sweep")
    return parser.parse_args()


def build(arguments, output):
    # `async-handling` makes the end of short clips sure, see file.sh.
    decoder = "decodebin name=streams async-handling=true"
    source = decoder if arguments.input else f"{TEST_PATTERN} ! queue name=streams"
    pipeline = Gst.parse_launch(
        f"{'filesrc name=source ! ' if arguments.input else ''}{source} "
        "streams. ! video/x-raw(ANY) ! videoconvert ! deinterlace ! videoconvert "
        "! tunableconvfilter name=filter ! queue ! videoflip video-direction=auto ! videocrop name=even "
        "! videoconvert ! video/x-raw,format=I420 ! x264enc speed-preset=veryfast pass=quant quantizer=18 "
        "! h264parse ! matroskamux name=mux ! filesink name=sink"
    )
    if arguments.input:
        pipeline.get_by_name("source").set_property("location", arguments.input)
        pipeline.get_by_name("streams").connect("pad-added", add_sound, pipeline)
    even = pipeline.get_by_name("even")
    even.get_static_pad("sink").add_probe(Gst.PadProbeType.EVENT_DOWNSTREAM, make_even, even)
    pipeline.get_by_name("sink").set_property("location", output)
    pipeline.get_by_name("filter").set_property("model", arguments.model)
    return pipeline


def make_even(pad, info, crop):
    """Takes a pixel from sides of an odd length, which 4:2:0 of H.264 does not have."""
    event = info.get_event()
    if event.type == Gst.EventType.CAPS:
        caps = event.parse_caps().get_structure(0)
        crop.set_property("right", caps.get_value("width") % 2)
        crop.set_property("bottom", caps.get_value("height") % 2)
    return Gst.PadProbeReturn.OK


def add_sound(streams, pad, pipeline):
    """Encodes the first sound track."""
    if pipeline.get_by_name("sound") or not pad.query_caps().to_string().startswith("audio/"):
        return
    sound = Gst.parse_bin_from_description(SOUND, True)
    sound.set_name("sound")
    pipeline.add(sound)
    sound.link(pipeline.get_by_name("mux"))
    pad.link(sound.get_static_pad("sink"))
    sound.sync_state_with_parent()


def keyframe(element, name, points):
    """Sets `points`, (seconds, value), as linear keyframes of a property."""
    source = GstController.InterpolationControlSource.new()
    source.set_property("mode", GstController.InterpolationMode.LINEAR)
    for seconds, value in points:
        source.set(int(seconds * Gst.SECOND), value)
    binding = GstController.DirectControlBinding.new_absolute(element, name, source)
    element.add_control_binding(binding)


def play(pipeline):
    """Plays to the end; returns what went wrong, or None."""
    pipeline.set_state(Gst.State.PLAYING)
    kinds = Gst.MessageType.EOS | Gst.MessageType.ERROR
    message = pipeline.get_bus().timed_pop_filtered(Gst.CLOCK_TIME_NONE, kinds)
    pipeline.set_state(Gst.State.NULL)
    if message.type == Gst.MessageType.ERROR:
        error, details = message.parse_error()
        return f"{message.src.get_name()}: {error.message} ({details})"
    return None


def main():
    arguments = parse_arguments()
    Gst.init(None)
    output = pathlib.Path(arguments.output)
    part = output.with_name(f".{os.getpid()}.{output.name}")
    try:
        pipeline = build(arguments, str(part))
        middle, end = arguments.seconds / 2, arguments.seconds
        keyframe(pipeline.get_by_name("filter"), "alpha", [(0, 0.0), (middle, 1.0), (end, 0.0)])
        problem = play(pipeline)
        if not problem:
            part.replace(output)
        return problem
    except GLib.Error as error:
        return error.message
    finally:
        part.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
