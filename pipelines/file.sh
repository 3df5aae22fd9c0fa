#!/bin/sh
# Filters a video file and encodes the result:
#   file.sh IN OUT.mkv [alpha] [beta]
# With the built-in model alpha removes noise (default 1) and beta undoes blur (default 0).
# GST_PLUGIN_PATH says where the plugin is (default: ../target/release), MODEL which checkpoint
# to run instead of the built-in one. Debian: gstreamer1.0-tools, gstreamer1.0-libav,
# gstreamer1.0-plugins-good, gstreamer1.0-plugins-ugly.
set -eu

if [ $# -lt 2 ] || [ $# -gt 4 ]; then
    echo "usage: $0 IN OUT.mkv [alpha] [beta]" >&2
    exit 2
fi
: "${GST_PLUGIN_PATH:=$(dirname "$0")/../target/release}"
export GST_PLUGIN_PATH

exec gst-launch-1.0 -e \
    filesrc location="$1" ! decodebin ! videoconvert \
    ! tunableconvfilter ${MODEL:+model="$MODEL"} alpha="${3:-1}" beta="${4:-0}" \
    ! queue ! x264enc speed-preset=veryfast pass=quant quantizer=18 \
    ! h264parse ! matroskamux ! filesink location="$2"
