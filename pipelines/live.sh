#!/bin/sh
# Filters a live picture and shows it; frames that would be late go out as they came:
#   live.sh [denoise] [deblur] [deblock]
# SOURCE is the source (default: v4l2src on /dev/video0 if there is one, else a live test picture),
# SINK what shows it (default: autovideosink). GST_PLUGIN_PATH says where the plugin is (default:
# ../target/release). `make setup` installs what this needs.
set -eu

if [ $# -gt 3 ]; then
    echo "usage: $0 [denoise] [deblur] [deblock]" >&2
    exit 2
fi
: "${GST_PLUGIN_PATH:=$(dirname "$0")/../target/release}"
export GST_PLUGIN_PATH
if [ -e /dev/video0 ]; then
    : "${SOURCE:=v4l2src device=/dev/video0 ! videoconvert}"
else
    : "${SOURCE:=videotestsrc is-live=true pattern=ball ! video/x-raw,width=640,height=360,framerate=25/1}"
fi
: "${SINK:=videoconvert ! autovideosink}"

# Word splitting makes arguments of the two pieces of pipeline.
# shellcheck disable=SC2086
exec gst-launch-1.0 -e $SOURCE \
    ! queue max-size-buffers=2 leaky=downstream \
    ! tunableconv-broadcast denoise="${1:-0.2}" deblur="${2:-0}" deblock="${3:-0}" overload=passthrough \
    ! queue max-size-buffers=2 ! $SINK
