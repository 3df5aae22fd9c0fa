// The first edge of a net from a frame. Beyond an odd width or height samples are the last ones.
#include "video.cuh"

template <class T> __device__ inline void read_block(const Video &video) {
    const int x = blockIdx.x * COLUMNS + threadIdx.x, y = blockIdx.y;
    const int half_width = (video.width + 1) / 2;
    if (x >= half_width) {
        return;
    }
    T *to = static_cast<T *>(video.edge) + (int64_t(y) * half_width + x) * video.channels;
    for (int i = 0; i < 6; i++) {
        const int chroma = i >= 4;
        const int column = chroma ? x : min(2 * x + i % 2, video.width - 1);
        const int row = chroma ? y : min(2 * y + i / 2, video.height - 1);
        const int code = code_at(video, video.from[chroma ? i - 3 : 0], column, row);
        store(to + i, float(2 * code - video.normal.zero[chroma]) * video.normal.scale[chroma]);
    }
}
