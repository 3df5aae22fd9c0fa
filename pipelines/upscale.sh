#!/bin/sh
# Makes a video file, or a picture, twice as large:
#   upscale.sh IN OUT.mp4|OUT.mkv|OUT.png|OUT.jpg [lifelike]
# lifelike: 0, the default, is as near to the original as can be known, 1 has the texture that it may have had.
#
# Everything else is as file.sh says, which this calls with the model upscale2x.
set -eu

if [ $# -lt 2 ] || [ $# -gt 3 ]; then
    echo "usage: $0 IN OUT.mp4|OUT.mkv|OUT.png|OUT.jpg [lifelike]" >&2
    exit 2
fi
here=$(dirname "$0")
lifelike=${3:-0}
accurate=$(awk -v lifelike="$lifelike" 'BEGIN { print 1 - lifelike }')
MODEL=${MODEL:-$here/../checkpoints/upscale2x.safetensors} \
    exec "$here/file.sh" "$1" "$2" "$accurate" "$lifelike"
