// What both convolutions share: a layer of a chain, from one edge to the next. Edges are stored
// pixel after pixel, each with its channels and as many zeros as fill eight.
#pragma once

#include "device.cuh"

// Columns and rows that a block computes, and output channels.
constexpr int TILE = 16;
constexpr int OUTPUTS = 32;

struct Conv {
    const void *input;
    // [outputs / OUTPUTS][chunk][tap][...], see each kernel.
    const void *weights;
    // One for each output, as those below, and 0 beyond the last.
    const float *bias;
    // Factor of what is below zero.
    const float *slope;
    // Lowest and highest value, or null.
    const float *low;
    const float *high;
    // Edges that are added to the output, as wide and high as it or more, or null.
    const void *add[2];
    void *output;
    // Of the input edge, in numbers; a pixel's channels are `in_channels` apart.
    int in_width, in_height, in_channels;
    // Parts that the input channels are read in.
    int chunks;
    int kernel, stride;
    // Of the convolution.
    int width, height, c_out;
    // Of the output edge, after shuffling.
    int shuffle, out_width, out_height, out_channels;
    // Of the edges that are added.
    int add_width[2];
    // Whether the output is in f32 whatever the others are.
    int is_float;
};
static_assert(sizeof(Conv) == 136, "as the host has it");

// Columns and rows of the input under a tile.
__device__ inline int side_under(const Conv &conv) { return (TILE - 1) * conv.stride + conv.kernel; }

// Bias and activation of an output.
__device__ inline float activated(const Conv &conv, int channel, float sum) {
    const float v = sum + conv.bias[channel];
    return v < 0.0f ? v * conv.slope[channel] : v;
}

__device__ inline float clamped(const Conv &conv, int channel, float v) {
    return conv.low == nullptr ? v : fminf(fmaxf(v, conv.low[channel]), conv.high[channel]);
}

// Where a number of the output's is in an edge that is added to it.
__device__ inline int64_t added_at(const Conv &conv, int which, int column, int row, int channel) {
    return (int64_t(row) * conv.add_width[which] + column) * conv.out_channels + channel;
}

// Writes an output where a shuffle puts it.
template <class T> __device__ inline void put_shuffled(const Conv &conv, int x, int y, int channel, float sum) {
    const int by = conv.shuffle, phase = channel % (by * by);
    const int column = x * by + phase % by, row = y * by + phase / by;
    if (channel >= conv.c_out || column >= conv.out_width || row >= conv.out_height) {
        return;
    }
    const int shuffled = channel / (by * by);
    const int64_t at = (int64_t(row) * conv.out_width + column) * conv.out_channels + shuffled;
    float v = activated(conv, channel, sum);
    for (int which = 0; which < 2; which++) {
        if (conv.add[which] != nullptr) {
            v += load(static_cast<const T *>(conv.add[which]) + added_at(conv, which, column, row, shuffled));
        }
    }
    v = clamped(conv, channel, v);
    if (conv.is_float) {
        store(static_cast<float *>(conv.output) + at, v);
    } else {
        store(static_cast<T *>(conv.output) + at, v);
    }
}

// Writes two outputs that follow each other, the first of an even channel, with bias, activation and what
// is added. Those beyond the last are 0.
template <class T> __device__ inline void put(const Conv &conv, int x, int y, int channel, float2 sums) {
    if (x >= conv.width || y >= conv.height) {
        return;
    }
    if (conv.shuffle > 1) {
        put_shuffled<T>(conv, x, y, channel, sums.x);
        put_shuffled<T>(conv, x, y, channel + 1, sums.y);
        return;
    }
    if (channel >= conv.out_channels || x >= conv.out_width || y >= conv.out_height) {
        return;
    }
    const int64_t at = (int64_t(y) * conv.out_width + x) * conv.out_channels + channel;
    float2 v = {activated(conv, channel, sums.x), activated(conv, channel + 1, sums.y)};
    for (int which = 0; which < 2; which++) {
        if (conv.add[which] != nullptr) {
            const T *add = static_cast<const T *>(conv.add[which]);
            const float2 own = load_pair(add + added_at(conv, which, x, y, channel));
            v.x += own.x;
            v.y += own.y;
        }
    }
    v = {clamped(conv, channel, v.x), clamped(conv, channel + 1, v.y)};
    if (conv.is_float) {
        store_pair(static_cast<float *>(conv.output) + at, v);
    } else {
        store_pair(static_cast<T *>(conv.output) + at, v);
    }
}
