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
    // Edges of the size of the output that are added to it, or null.
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
    // Whether the output is in f32 whatever the others are.
    int is_float;
};
static_assert(sizeof(Conv) == 128, "as the host has it");

// Columns and rows of the input under a tile.
__device__ inline int side_under(const Conv &conv) { return (TILE - 1) * conv.stride + conv.kernel; }

// Writes an output with bias, activation and what is added.
template <class T> __device__ inline void put(const Conv &conv, int x, int y, int channel, float sum) {
    if (x >= conv.width || y >= conv.height || channel >= conv.c_out) {
        return;
    }
    const int by = conv.shuffle, phase = channel % (by * by);
    const int column = x * by + phase % by, row = y * by + phase / by;
    if (column >= conv.out_width || row >= conv.out_height) {
        return;
    }
    const long at = (long(row) * conv.out_width + column) * conv.out_channels + channel / (by * by);
    float v = sum + conv.bias[channel];
    v = v < 0.0f ? v * conv.slope[channel] : v;
    for (const void *add : conv.add) {
        if (add != nullptr) {
            v += to_float(static_cast<const T *>(add)[at]);
        }
    }
    if (conv.low != nullptr) {
        v = fminf(fmaxf(v, conv.low[channel]), conv.high[channel]);
    }
    if (conv.is_float) {
        static_cast<float *>(conv.output)[at] = v;
    } else {
        static_cast<T *>(conv.output)[at] = from_float<T>(v);
    }
}
