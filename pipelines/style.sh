#!/bin/sh
# Paints a video file, or a picture, after Hokusai, van Gogh and Kandinsky:
#   style.sh IN OUT.mp4|OUT.mkv|OUT.png|OUT.jpg [hokusai [van-gogh [kandinsky]]]
# They are shares from 0 to 1, of which only the ratios count: 1 0 0, the default, is Hokusai's Great Wave, 0 1 0 van Gogh's
# Starry Night, 0 0 1 Kandinsky's Composition VII, 1 1 0 the middle between the first two.
#
# Everything else is as file.sh says, which this calls with the model style.
set -eu

if [ $# -lt 2 ] || [ $# -gt 5 ]; then
    echo "usage: $0 IN OUT.mp4|OUT.mkv|OUT.png|OUT.jpg [hokusai [van-gogh [kandinsky]]]" >&2
    exit 2
fi
here=$(dirname "$0")
MODEL=${MODEL:-$here/../checkpoints/style.safetensors} \
    exec "$here/file.sh" "$1" "$2" "${3:-1}" "${4:-0}" "${5:-0}"
