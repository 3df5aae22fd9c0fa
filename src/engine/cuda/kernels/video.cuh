// Frames of 4:2:0 from and to the net's first and last edge: a pixel of the net is a block of 2×2 of
// luma, row by row, then U and V.
#pragma once

#include "device.cuh"

// Columns of blocks that a block of threads has, in one row.
constexpr int COLUMNS = 128;

// Samples of Y, U or V: `step` bytes from one to the next, `stride` from row to row.
struct Component {
    const void *data;
    int stride, step;
};

// Code values: of luma, and of chroma.
struct Normal {
    // Twice the code of 0.
    int zero[2];
    // Worth of half a code, and codes from 0 to 1.
    float scale[2], span[2];
};

struct Video {
    // Y, U, V, and where they go.
    Component from[3], to[3];
    // The net's edge, `channels` numbers a pixel, of which six count.
    void *edge;
    int channels;
    int width, height;
    // Bytes of a sample, and where in its word the code is.
    int bytes, shift, mask;
    Normal normal;
};
static_assert(sizeof(Video) == 152, "as the host has it");

__device__ inline const unsigned char *sample_at(const Component &component, int x, int y) {
    return static_cast<const unsigned char *>(component.data) + int64_t(y) * component.stride + int64_t(x) * component.step;
}

__device__ inline unsigned word_at(const Video &video, const unsigned char *at) {
    return video.bytes == 1 ? *at : *reinterpret_cast<const unsigned short *>(at);
}

__device__ inline int code_at(const Video &video, const Component &component, int x, int y) {
    return word_at(video, sample_at(component, x, y)) >> video.shift & video.mask;
}
