"""Plays clips with keyframes on an effect through the GStreamer Editing Services, and looks at the
value that each frame of the timeline was filtered with. Ends with an error if one is wrong."""

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GES", "1.0")
gi.require_version("GstController", "1.0")
from gi.repository import GES, Gst, GstController

RATE = 10
FRAME = Gst.SECOND // RATE
LENGTH = 4 * Gst.SECOND
PATIENCE = 60 * Gst.SECOND


class Project:
    """A timeline of one clip whose effect rises from 0 to 1 in four seconds."""

    def __init__(self, kind, start=0, in_point=0):
        self.timeline = GES.Timeline.new()
        track = GES.VideoTrack.new()
        track.set_restriction_caps(
            Gst.Caps.from_string(f"video/x-raw,width=48,height=32,framerate={RATE}/1")
        )
        track.set_mixing(False)
        self.timeline.add_track(track)
        self.clip = GES.TestClip.new()
        self.clip.set_vpattern(GES.VideoTestPattern.SNOW)
        self.clip.set_start(start)
        self.clip.set_inpoint(in_point)
        self.clip.set_duration(LENGTH)
        self.timeline.append_layer().add_clip(self.clip)
        self.effect = GES.Effect.new("tunableconv-broadcast")
        self.clip.add(self.effect)
        if kind == "editor":
            source = GstController.InterpolationControlSource()
            source.props.mode = GstController.InterpolationMode.LINEAR
            source.set(0, 0.0)
            source.set(LENGTH, 1.0)
            self.effect.set_control_source(source, "denoise", "direct-absolute")
        else:
            self.effect.set_child_property("keyframes", "denoise=0s:0,4s:1")

    def play(self, position=None, rate=1.0):
        """Pairs of timeline time and value, in the order in which frames come to the sink."""
        self.timeline.commit()
        sink = Gst.ElementFactory.make("fakesink")
        pipeline = GES.Pipeline.new()
        pipeline.set_timeline(self.timeline)
        pipeline.set_mode(GES.PipelineFlags.VIDEO_PREVIEW)
        pipeline.preview_set_video_sink(sink)
        times, values = [], []
        sink.get_static_pad("sink").add_probe(Gst.PadProbeType.BUFFER, note_time, times)
        _, element, _ = GES.TimelineElement.lookup_child(self.effect, "denoise")
        probe = element.get_static_pad("src").add_probe(
            Gst.PadProbeType.BUFFER, note_value, element, values
        )
        set_state(pipeline, Gst.State.PAUSED)
        if position is not None:
            times.clear()
            values.clear()
            # Backwards GES 1.22 leaves out a clip that begins after the end.
            begin, end = (position, -1) if rate > 0 else (self.clip.get_start(), position)
            kind = Gst.SeekType.SET
            flags = Gst.SeekFlags.FLUSH | Gst.SeekFlags.ACCURATE
            pipeline.get_bus().set_flushing(True)
            pipeline.get_bus().set_flushing(False)
            assert pipeline.seek(rate, Gst.Format.TIME, flags, kind, begin, kind, end)
            wait_for(pipeline, Gst.MessageType.ASYNC_DONE)
        first, first_value = times[0], values[:1]
        set_state(pipeline, Gst.State.PLAYING)
        wait_for(pipeline, Gst.MessageType.EOS)
        element.get_static_pad("src").remove_probe(probe)
        set_state(pipeline, Gst.State.NULL)
        start, end = self.clip.get_start(), self.clip.get_start() + self.clip.get_duration()
        times = [time for time in times if start <= time < end]
        assert len(times) == len(values), (times, values)
        pairs = list(zip(times, values))
        if start <= first < end:
            assert [(first, *first_value)] == pairs[:1], (first, first_value, pairs[0])
        return pairs


def note_time(pad, info, times):
    segment = pad.get_sticky_event(Gst.EventType.SEGMENT, 0).parse_segment()
    times.append(segment.to_stream_time(Gst.Format.TIME, info.get_buffer().pts))
    return Gst.PadProbeReturn.OK


def note_value(pad, info, element, values):
    values.append(element.props.denoise)
    return Gst.PadProbeReturn.OK


def set_state(pipeline, state):
    assert pipeline.set_state(state) != Gst.StateChangeReturn.FAILURE
    result, reached, _ = pipeline.get_state(PATIENCE)
    assert result == Gst.StateChangeReturn.SUCCESS and reached == state, (result, reached)


def wait_for(pipeline, kind):
    message = pipeline.get_bus().timed_pop_filtered(PATIENCE, kind | Gst.MessageType.ERROR)
    assert message and message.type == kind, message and message.parse_error()


def check(name, pairs, times, value):
    """Frames came at these times, with the value that is due at each of them."""
    assert [time for time, _ in pairs] == list(times), (name, pairs)
    for time, got in pairs:
        assert abs(got - value(time)) < 1e-9, (name, time / Gst.SECOND, got, value(time))
    print(f"{name}: {len(pairs)} frames")


def rise(time):
    return time / LENGTH


def main():
    Gst.init(None)
    GES.init()
    second = Gst.SECOND
    places = [(0, 0), (second, 0), (0, 2 * second), (second, 2 * second)]
    seeks = [(None, 1.0), (2 * second, 1.0), (0, 2.0), (2 * second, -1.0)]
    for kind in ["editor", "property"]:
        # What differs is where the values come from, not when.
        for start, in_point in places if kind == "editor" else places[-1:]:
            for position, rate in seeks:
                times = range(max(start, position or 0), start + LENGTH, FRAME)
                if rate < 0:
                    times = range(position - FRAME, start - FRAME, -FRAME)
                check(
                    f"{kind}, start {start}, in-point {in_point}, from {position}, rate {rate}",
                    Project(kind, start, in_point).play(position, rate),
                    times,
                    lambda time: rise(time - start),
                )

        project = Project(kind)
        project.clip.set_start(3 * second)
        times = range(3 * second, 3 * second + LENGTH, FRAME)
        check(f"{kind}, moved", project.play(), times, lambda time: rise(time - 3 * second))

        project = Project(kind, in_point=second)
        trim = GES.EditMode.EDIT_TRIM
        assert project.clip.edit([], -1, trim, GES.Edge.EDGE_START, second)
        times = range(second, LENGTH, FRAME)
        check(f"{kind}, start trimmed", project.play(), times, lambda time: rise(time - second))

        project = Project(kind)
        assert project.clip.edit([], -1, trim, GES.Edge.EDGE_END, 3 * second)
        check(f"{kind}, end trimmed", project.play(), range(0, 3 * second, FRAME), rise)


main()
