#!/bin/sh
# Filters a video file and encodes the result:
#   file.sh IN OUT.mp4|OUT.mkv [alpha] [beta] [gamma]
# or a picture: file.sh IN OUT.png|OUT.jpg [alpha] [beta] [gamma].
# With the built-in model they say how strong the noise is (default 0.2), how blurred the picture
# (default 0) and how hard it was compressed (default 0); 0 leaves it as it is.
#
# The video becomes H.264 with 8 bits and 4:2:0, which every player plays, or what FORMAT says, for
# example I420_10LE. Times of frames stay; a rotated video is turned upright, an interlaced one
# deinterlaced, and a side of an odd length loses a pixel. The first sound track is kept: as it is
# where OUT may hold it, else as AAC.
#
# GST_PLUGIN_PATH says where the plugin is (default: ../target/release), MODEL which checkpoint
# to run instead of the built-in one. `make setup` installs what this needs.
set -eu

fail() {
    echo "${0##*/}: $1" >&2
    exit "${2:-1}"
}

if [ $# -lt 2 ] || [ $# -gt 5 ]; then
    echo "usage: $0 IN OUT.mp4|OUT.mkv|OUT.png|OUT.jpg [alpha] [beta] [gamma]" >&2
    exit 2
fi
: "${GST_PLUGIN_PATH:=$(dirname "$0")/../target/release}"
export GST_PLUGIN_PATH

in=$1
out=$2
# MP4 ends early where frames are reordered and unevenly spaced, hence no B-frames.
h264="x264enc speed-preset=veryfast bframes=0 pass=quant quantizer=18 ! h264parse"
format="! video/x-raw,format=${FORMAT:-I420}"
# Sound that goes from container to container as it is.
sounds="audio/mpeg,mpegversion=4,stream-format={raw,adts};audio/mpeg,mpegversion=1,layer=3;audio/x-opus;audio/x-ac3"
case $out in
*.mp4 | *.m4v | *.mov) encode="$format ! $h264 ! mp4mux name=mux" ;;
*.mkv) encode="$format ! $h264 ! matroskamux name=mux" sounds="$sounds;audio/x-vorbis;audio/x-flac" ;;
*.png) encode="! video/x-raw,format=RGB ! pngenc snapshot=true" sounds= ;;
# JPEG has the full range, and jpegenc takes what it gets for that.
*.jpg | *.jpeg) encode="$format,colorimetry=1:4:0:0 ! jpegenc snapshot=true" sounds= ;;
*) fail "$out: expected a name that ends in .mp4, .mkv, .png or .jpg" 2 ;;
esac
[ -r "$in" ] || fail "$in: no such file, or not readable"
[ -w "$(dirname "$out")" ] || fail "$out: no such folder, or not writable"

# gst-launch-1.0 may wait for ever where a file ends at once.
case $(LC_ALL=C gst-discoverer-1.0 "$in" 2>&1) in
*"An error was encountered"*) fail "$in: no video in it that can be decoded" ;;
esac

# Caps of all streams, from a first pass to the end, which alone GStreamer reports reliably. Without
# `async-handling`, what `decodebin` says of its state may overtake the pipeline's own change, which
# then never tells of the end (seen with 1.22).
[ -z "$sounds" ] || sounds="$sounds;audio/x-raw"
streams=$(gst-launch-1.0 --no-fault -v filesrc location="$in" \
    ! decodebin async-handling=true caps="video/x-raw(ANY);$sounds" ! fakesink) || true
# What follows $1 in the first line with it.
first() {
    echo "$streams" | sed -n "s/.*caps = $1//p" | head -n 1
}
video=$(first "video\/x-raw")
[ -n "$video" ] || fail "$in: no video in it that can be decoded"

# 1 if a side of the video, `width` or `height`, has an odd length.
odd() {
    echo "$video" | sed -n "s/.*$1=(int)[0-9]*\([0-9]\).*/\1/p" | sed 'y/0123456789/0101010101/'
}

rate=
crop=
sound=
if [ -n "$sounds" ]; then
    case $video in
    # Without a frame rate x264enc writes one of 1,000,000,000 a second.
    *framerate=\(fraction\)0/1*) rate="capssetter caps=video/x-raw,framerate=30/1 !" ;;
    esac
    crop="videocrop right=$(odd width) bottom=$(odd height) !"
    case "$sounds => $(first "audio\/")" in
    *'=> 'x-raw*) sound="audioconvert ! audioresample ! avenc_aac ! aacparse" ;;
    *'=> 'mpeg*mpegversion=\(int\)4*) sound="aacparse" ;;
    *'=> 'mpeg*) sound="mpegaudioparse" ;;
    *'=> 'x-opus*) sound="opusparse" ;;
    *'=> 'x-ac3*) sound="ac3parse" ;;
    *vorbis*'=> 'x-vorbis*) sound="vorbisparse" ;;
    *flac*'=> 'x-flac*) sound="flacparse" ;;
    *'=> '?*) sound="audioconvert ! audioresample ! avenc_aac ! aacparse" ;;
    esac
fi

part=$(dirname "$out")/.$$.$(basename "$out")
trap 'rm -f "$part"' EXIT
trap 'exit 130' HUP INT TERM

# Sound waits in its queue while x264enc looks ahead.
# shellcheck disable=SC2086  # words of a pipeline
gst-launch-1.0 --no-fault filesrc location="$in" \
    ! decodebin name=streams async-handling=true caps="video/x-raw(ANY);$sounds" \
    streams. ! "video/x-raw(ANY)" ! videoconvert ! deinterlace ! videoconvert \
    ! $crop tunableconvfilter ${MODEL:+model="$MODEL"} alpha="${3:-0.2}" \
    ${4:+beta="$4"} ${5:+gamma="$5"} \
    ! queue ! videoflip video-direction=auto ! $rate videoconvert $encode \
    ! filesink location="$part" \
    ${sound:+streams. ! $sound ! queue max-size-buffers=0 max-size-bytes=0 max-size-time=0 ! mux.} \
    || fail "$in: could not be filtered"
mv "$part" "$out"
