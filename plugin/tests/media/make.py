#!/usr/bin/env python3
"""Makes every file of this folder again, from pipelines/media/flower_720p.264 and a test tone.

Debian has all it needs in python3-gi, gir1.2-gstreamer-1.0, gstreamer1.0-libav and
gstreamer1.0-plugins-{base,good,bad,ugly}.
"""

import pathlib
import sys

import gi

gi.require_version("Gst", "1.0")
from gi.repository import Gst  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
CLIP = HERE.parents[2] / "pipelines" / "media" / "flower_720p.264"

H264 = "x264enc speed-preset=veryslow pass=quant quantizer=28"
# Milliseconds from frame to frame as phones record them: about 30 a second, some missing.
STEPS = [33, 34, 33, 66, 33, 33, 41, 34, 100, 33, 25, 33]
# `tkhd` matrices, as 16.16 and 2.30 fixed point: upright, and turned by 90 degrees.
UPRIGHT = bytes.fromhex("00010000 00000000 00000000 00000000 00010000 00000000 00000000 00000000 40000000")
TURNED = bytes.fromhex("00000000 00010000 00000000 FFFF0000 00000000 00000000 00000000 00000000 40000000")


def milliseconds(frames, steps):
    """Presentation times of frames that are `steps` apart, over and over."""
    return [sum(steps[i % len(steps)] for i in range(frame)) for frame in range(frames)]


def run(description, times=None, duration=None):
    """Plays a pipeline; where `times` (ms) are given, its element `timed` lets only as many frames
    through, at these times and with this duration (ms) or none."""
    pipeline = Gst.parse_launch(description)
    left = list(times or [])

    def stamp(pad, info):
        if not left:
            pad.push_event(Gst.Event.new_eos())
            return Gst.PadProbeReturn.DROP
        buffer = info.get_buffer()
        buffer.pts = round(left.pop(0) * Gst.MSECOND)
        buffer.dts = Gst.CLOCK_TIME_NONE
        buffer.duration = round(duration * Gst.MSECOND) if duration else Gst.CLOCK_TIME_NONE
        return Gst.PadProbeReturn.OK

    if times:
        pad = pipeline.get_by_name("timed").get_static_pad("src")
        pad.add_probe(Gst.PadProbeType.BUFFER, stamp)
    pipeline.set_state(Gst.State.PLAYING)
    kinds = Gst.MessageType.EOS | Gst.MessageType.ERROR
    message = pipeline.get_bus().timed_pop_filtered(60 * Gst.SECOND, kinds)
    pipeline.set_state(Gst.State.NULL)
    if message is None or message.type == Gst.MessageType.ERROR:
        sys.exit(f"{description}: {message and message.parse_error()}")


def clip(size="192x108", format="I420", rate="30/1"):
    """The start of a pipeline that gives the clip in another size, format and rate."""
    width, height = size.split("x")
    return (
        f"filesrc location={CLIP} ! h264parse ! avdec_h264 ! videoconvertscale "
        f"! video/x-raw,format={format},width={width},height={height} "
        f"! capssetter name=timed caps=video/x-raw,framerate={rate}"
    )


def to(name):
    return f"filesink location={HERE / name}"


def even(frames, rate=30):
    """Times of frames at a constant rate, and the duration of each."""
    return [1000 * frame / rate for frame in range(frames)], 1000 / rate


def phone():
    name = "phone.mp4"
    run(
        f"{clip(rate='0/1')} ! {H264} bframes=0 ! h264parse ! mp4mux name=mux ! {to(name)} "
        "audiotestsrc freq=440 volume=0.1 samplesperbuffer=1024 num-buffers=44 "
        "! audio/x-raw,rate=44100,channels=2 ! avenc_aac bitrate=64000 ! aacparse ! mux.",
        milliseconds(24, STEPS),
    )
    # mp4mux writes no rotation. The first track is the video.
    path = HERE / name
    path.write_bytes(path.read_bytes().replace(UPRIGHT, TURNED, 2).replace(TURNED, UPRIGHT, 1))


def variable():
    # Fragments, and an encoder that notes no frame rate: nothing says how long a frame lasts.
    run(
        f"{clip(rate='0/1')} ! openh264enc complexity=high rate-control=bitrate bitrate=200000 "
        f"! h264parse ! mp4mux fragment-duration=1 ! {to('variable.mp4')}",
        milliseconds(13, STEPS),
    )


def stills():
    for name, encoder in [("still.png", "pngenc"), ("still.jpg", "jpegenc quality=92")]:
        format = "RGB" if encoder == "pngenc" else "I420"
        run(f"{clip(format=format)} ! {encoder} ! {to(name)}", [0])


def ten_bits():
    run(f"{clip(format='I420_10LE')} ! {H264} ! h264parse ! mp4mux ! {to('ten.mp4')}", *even(12))


def odd():
    encoder = "vp8enc deadline=1 end-usage=cq cq-level=30 min-quantizer=20"
    run(f"{clip('161x91')} ! {encoder} ! webmmux ! {to('odd.webm')}", *even(12))


def fields(first, path):
    """Raw H.264: two frames of the clip, 1/60 s apart, as the fields of one."""
    run(
        f"{clip('192x112', rate='60/1')} ! interlace field-pattern=1:1 top-field-first={first} "
        f"! {H264} bframes=0 interlaced=true byte-stream=true ! filesink location={path}",
        *even(24, 60),
    )


def interlaced():
    top, bottom = HERE / "top.264", HERE / "bottom.264"
    fields("true", top)
    fields("false", bottom)
    for name, parts in [("interlaced.mp4", [top]), ("mixed.mp4", [top, bottom])]:
        both = HERE / "both.264"
        both.write_bytes(b"".join(part.read_bytes() for part in parts))
        run(
            f"filesrc location={both} ! h264parse ! video/x-h264,alignment=au,stream-format=avc "
            f"! identity name=timed ! mp4mux ! {to(name)}",
            *even(12 * len(parts)),
        )
        both.unlink()
    top.unlink()
    bottom.unlink()


if __name__ == "__main__":
    Gst.init(None)
    for make in phone, variable, stills, ten_bits, odd, interlaced:
        make()
