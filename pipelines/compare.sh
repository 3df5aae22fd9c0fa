#!/bin/sh
# Plays a video file with its left half as it is and its right half filtered:
#   compare.sh IN [denoise] [deblur] [deblock]
# SINK is what shows it (default: autovideosink). GST_PLUGIN_PATH says where the plugin is (default:
# ../target/release). `make setup` installs what this needs.
set -eu

if [ $# -lt 1 ] || [ $# -gt 4 ]; then
    echo "usage: $0 IN [denoise] [deblur] [deblock]" >&2
    exit 2
fi
: "${GST_PLUGIN_PATH:=$(dirname "$0")/../target/release}"
export GST_PLUGIN_PATH
: "${SINK:=videoconvert ! autovideosink}"

# `async-handling` makes the end of short clips sure, see file.sh.
# Word splitting makes arguments of the piece of pipeline.
# shellcheck disable=SC2086
exec gst-launch-1.0 -e filesrc location="$1" ! decodebin async-handling=true ! videoconvert \
    ! tunableconv-broadcast denoise="${2:-0.2}" deblur="${3:-0}" deblock="${4:-0}" compare=split \
    ! queue ! $SINK
