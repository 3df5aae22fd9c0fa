#!/bin/sh
# Trains the models that the project carries, from photographs to runs/broadcast.safetensors and
# runs/broadcast-hq.safetensors; with FEATURES in the environment, a file with the weights of SqueezeNet 1.1, to
# runs/upscale2x.safetensors first, and with VGG, one with those of VGG-19, too, to runs/style.safetensors:
#   train/models.sh RUNS PHOTOS...
# Called again, it goes on where it was stopped. `STEPS=10` in the environment tries the way with few steps.
set -eu
if [ $# -lt 2 ]; then
    echo "usage: train/models.sh RUNS PHOTOS..." >&2
    exit 2
fi
runs=$1
shift
here=$(dirname "$0")
trainer=${TRAINER:-$here/../target/release/tunableconv-train}
mkdir -p "$runs"
# Runs go on for as many steps as they began with.
if [ "$(cat "$runs/steps" 2>/dev/null || echo "${STEPS:-all}")" != "${STEPS:-all}" ]; then
    echo "$runs was begun with STEPS=$(cat "$runs/steps"): give that, or another folder for the runs" >&2
    exit 2
fi
echo "${STEPS:-all}" > "$runs/steps"

# train RUN ARGUMENTS...: starts the run, or resumes it.
train() {
    run=$1
    shift
    if [ -e "$run/state.safetensors" ]; then
        "$trainer" train --resume --run "$run"
    else
        "$trainer" train "$@" --run "$run" ${STEPS:+--steps "$STEPS"}
    fi
}

# calibrate FROM TO ARGUMENTS...: measures ranges for what the recipe has, and for clean pictures.
calibrate() {
    from=$1 to=$2
    shift 2
    if [ ! -e "$to" ]; then
        "$trainer" calibrate "$from" "$@" --images 60 \
            --degrade noise:0,noise:5,noise:25,noise:50,blur:0.8,blur:1.5,jpeg:15,jpeg:40,camera:0.01:sigma=2,camera:0.03:sigma=4:smoothing=1 \
            --out "$to"
    fi
}

# finish NAME PHOTOS...: of a run on clean photographs, calibrates what it made and halves its size.
finish() {
    name=$1
    "$trainer" calibrate "$runs/$name/checkpoint.safetensors" --data "$2" --images 60 --degrade noise:0 \
        --out "$runs/calibrated-$name.safetensors"
    "$trainer" half "$runs/calibrated-$name.safetensors" --out "$runs/$name.safetensors"
}

if [ -n "${FEATURES:-}" ]; then
    train "$runs/upscale2x-l1" "$here/recipes/upscale2x-l1.toml" --data "$@"
    train "$runs/upscale2x" "$here/recipes/upscale2x.toml" --from "$runs/upscale2x-l1/checkpoint.safetensors" \
        --data "$@" --features "$FEATURES"
    finish upscale2x "$@"
else
    echo "upscale2x is left out: it needs FEATURES, a file with the weights of SqueezeNet 1.1" >&2
fi
if [ -n "${FEATURES:-}" ] && [ -n "${VGG:-}" ]; then
    train "$runs/style-squeezenet" "$here/recipes/style-squeezenet.toml" --data "$@" --features "$FEATURES"
    train "$runs/style" "$here/recipes/style.toml" --from "$runs/style-squeezenet/checkpoint.safetensors" \
        --data "$@" --features "$VGG"
    finish style "$@"
else
    echo "style is left out: it needs FEATURES, and VGG, a file with the weights of VGG-19" >&2
fi
"$trainer" make-pairs "$@" --out "$runs/pairs" --clips "${CLIPS:-400}"
train "$runs/broadcast" "$here/recipes/broadcast.toml" --data "$@" --pairs "$runs/pairs"
calibrate "$runs/broadcast/checkpoint.safetensors" "$runs/calibrated.safetensors" --data "$1"
train "$runs/broadcast-int8" "$here/recipes/broadcast-int8.toml" --from "$runs/calibrated.safetensors" \
    --data "$@" --pairs "$runs/pairs"
# Ranges that nothing fills cost int8 its precision.
calibrate "$runs/broadcast-int8/checkpoint.safetensors" "$runs/narrowed.safetensors" --data "$1" \
    --narrow --quantile 1
given=${STEPS:-}
STEPS=${given:-6000}
train "$runs/narrowed" "$here/recipes/broadcast-int8.toml" --from "$runs/narrowed.safetensors" \
    --data "$@" --pairs "$runs/pairs"
STEPS=$given
"$trainer" half "$runs/narrowed/checkpoint.safetensors" --out "$runs/broadcast.safetensors"
# The larger one grows out of it.
train "$runs/broadcast-hq" "$here/recipes/broadcast-hq.toml" --from "$runs/narrowed/checkpoint.safetensors" \
    --data "$@" --pairs "$runs/pairs"
calibrate "$runs/broadcast-hq/checkpoint.safetensors" "$runs/calibrated-hq.safetensors" --data "$1"
train "$runs/broadcast-hq-int8" "$here/recipes/broadcast-hq-int8.toml" --from "$runs/calibrated-hq.safetensors" \
    --data "$@" --pairs "$runs/pairs"
calibrate "$runs/broadcast-hq-int8/checkpoint.safetensors" "$runs/narrowed-hq.safetensors" --data "$1" \
    --narrow --quantile 1
"$trainer" half "$runs/narrowed-hq.safetensors" --out "$runs/broadcast-hq.safetensors"
echo "$runs/broadcast.safetensors"
