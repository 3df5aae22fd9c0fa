// A convolution in halves, summed in f32 by the tensor cores: 16 columns of a row and 16 input channels
// of a tap, times those and 8 output channels.
#include "conv.cuh"

// Input channels that are in shared memory at a time.
constexpr int CHUNK = 16;
// From one pixel's channels to the next, so that eight of them lie in different banks.
constexpr int PIXEL = CHUNK + 8;
constexpr int WARPS = 4;
constexpr int ROWS = TILE / WARPS;
constexpr int COLUMNS_OF_8 = OUTPUTS / 8;

__device__ inline unsigned pair_at(const __half *from) { return *reinterpret_cast<const unsigned *>(from); }

// The tile's input: [row][column][PIXEL].
__device__ inline void load_input(const Conv &conv, int chunk, __half *to) {
    const int side = side_under(conv), pad = conv.kernel / 2;
    const int left = blockIdx.x * TILE * conv.stride - pad, top = blockIdx.y * TILE * conv.stride - pad;
    // Eight channels each.
    for (int i = threadIdx.x; i < side * side * 2; i += blockDim.x) {
        const int pixel = i / 2, channel = chunk * CHUNK + i % 2 * 8;
        const int x = left + pixel % side, y = top + pixel / side;
        const bool is_there =
            x >= 0 && y >= 0 && x < conv.in_width && y < conv.in_height && channel < conv.in_channels;
        uint4 eight = {0, 0, 0, 0};
        if (is_there) {
            const int64_t from = (int64_t(y) * conv.in_width + x) * conv.in_channels + channel;
            eight = *reinterpret_cast<const uint4 *>(static_cast<const __half *>(conv.input) + from);
        }
        *reinterpret_cast<uint4 *>(to + pixel * PIXEL + i % 2 * 8) = eight;
    }
}

// Of the tile's outputs: [tap][output][PIXEL], from [tap][output][CHUNK].
__device__ inline void load_weights(const Conv &conv, int chunk, __half *to) {
    const int rows = conv.kernel * conv.kernel * OUTPUTS;
    const uint4 *from = static_cast<const uint4 *>(conv.weights) + (int64_t(blockIdx.z) * conv.chunks + chunk) * rows * 2;
    for (int i = threadIdx.x; i < rows * 2; i += blockDim.x) {
        *reinterpret_cast<uint4 *>(to + i / 2 * PIXEL + i % 2 * 8) = from[i];
    }
}

KERNEL(32 * WARPS, 3) conv_f16(Conv conv) {
    SHARED_BYTES(shared);
    const int side = side_under(conv);
    __half *input = reinterpret_cast<__half *>(shared);
    __half *weights = input + side * side * PIXEL;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int g = lane / 4, k = lane % 4 * 2;

    float sums[ROWS][COLUMNS_OF_8][4] = {};
    for (int chunk = 0; chunk < conv.chunks; chunk++) {
        __syncthreads();
        load_input(conv, chunk, input);
        load_weights(conv, chunk, weights);
        __syncthreads();
        for (int tap = 0; tap < conv.kernel * conv.kernel; tap++) {
            const int dx = tap % conv.kernel, dy = tap / conv.kernel;
            unsigned b[COLUMNS_OF_8][2];
            UNROLL for (int n = 0; n < COLUMNS_OF_8; n++) {
                const __half *from = weights + (tap * OUTPUTS + n * 8 + g) * PIXEL + k;
                b[n][0] = pair_at(from);
                b[n][1] = pair_at(from + 8);
            }
            UNROLL for (int r = 0; r < ROWS; r++) {
                const int row = (warp * ROWS + r) * conv.stride + dy;
                const __half *left = input + (row * side + g * conv.stride + dx) * PIXEL + k;
                const __half *right = left + 8 * conv.stride * PIXEL;
                const unsigned a[4] = {pair_at(left), pair_at(right), pair_at(left + 8), pair_at(right + 8)};
                UNROLL for (int n = 0; n < COLUMNS_OF_8; n++) {
                    multiply_add(sums[r][n], a, b[n]);
                }
            }
        }
    }
    const int x = blockIdx.x * TILE + g, y = blockIdx.y * TILE + warp * ROWS;
    UNROLL for (int n = 0; n < COLUMNS_OF_8; n++) {
        const int channel = blockIdx.z * OUTPUTS + n * 8 + k;
        UNROLL for (int r = 0; r < ROWS; r++) {
            const float *own = sums[r][n];
            put<__half>(conv, x, y + r, channel, {own[0], own[1]});
            put<__half>(conv, x + 8, y + r, channel, {own[2], own[3]});
        }
    }
}
