// A convolution in f32: each thread has the outputs of a pixel.
#include "conv.cuh"

// Input channels that are in shared memory at a time.
constexpr int CHUNK = 8;
// From one pixel's channels to the next: odd, so that neighbours lie in different banks.
constexpr int PIXEL = CHUNK + 1;

KERNEL(TILE * TILE, 3) conv_f32(Conv conv) {
    SHARED_BYTES(shared);
    const int side = side_under(conv), pad = conv.kernel / 2, taps = conv.kernel * conv.kernel;
    // [tap][channel][OUTPUTS]
    float4 *weights = reinterpret_cast<float4 *>(shared);
    // [row][column][PIXEL]
    float *input = reinterpret_cast<float *>(weights + taps * CHUNK * OUTPUTS / 4);
    const int left = blockIdx.x * TILE * conv.stride - pad, top = blockIdx.y * TILE * conv.stride - pad;
    const int x = threadIdx.x % TILE, y = threadIdx.x / TILE;

    float sums[OUTPUTS] = {};
    for (int chunk = 0; chunk < conv.chunks; chunk++) {
        __syncthreads();
        for (int i = threadIdx.x; i < side * side * CHUNK; i += blockDim.x) {
            const int pixel = i / CHUNK, channel = chunk * CHUNK + i % CHUNK;
            const int column = left + pixel % side, row = top + pixel / side;
            const bool is_there = column >= 0 && row >= 0 && column < conv.in_width && row < conv.in_height;
            const int64_t at = (int64_t(row) * conv.in_width + column) * conv.in_channels + channel;
            input[pixel * PIXEL + i % CHUNK] = is_there ? static_cast<const float *>(conv.input)[at] : 0.0f;
        }
        const int fours = taps * CHUNK * OUTPUTS / 4;
        const float4 *from =
            static_cast<const float4 *>(conv.weights) + (int64_t(blockIdx.z) * conv.chunks + chunk) * fours;
        for (int i = threadIdx.x; i < fours; i += blockDim.x) {
            weights[i] = from[i];
        }
        __syncthreads();
        for (int tap = 0; tap < taps; tap++) {
            const int row = y * conv.stride + tap / conv.kernel, column = x * conv.stride + tap % conv.kernel;
            for (int c = 0; c < CHUNK; c++) {
                const float v = input[(row * side + column) * PIXEL + c];
                const float4 *w = weights + (tap * CHUNK + c) * OUTPUTS / 4;
                UNROLL for (int n = 0; n < OUTPUTS / 4; n++) {
                    sums[4 * n] += v * w[n].x;
                    sums[4 * n + 1] += v * w[n].y;
                    sums[4 * n + 2] += v * w[n].z;
                    sums[4 * n + 3] += v * w[n].w;
                }
            }
        }
    }
    UNROLL for (int n = 0; n < OUTPUTS; n += 2) {
        const int channel = blockIdx.z * OUTPUTS + n;
        put<float>(conv, blockIdx.x * TILE + x, blockIdx.y * TILE + y, channel, {sums[n], sums[n + 1]});
    }
}
