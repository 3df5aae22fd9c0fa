// A frame plus the residual that a net's last edge is, in f32: to the nearest code, ties to even, among
// those that there are. What is no number becomes code 0.
#include "video.cuh"

KERNEL(COLUMNS, 8) write_video(Video video) {
    const int x = blockIdx.x * COLUMNS + threadIdx.x, y = blockIdx.y;
    const int half_width = (video.width + 1) / 2;
    if (x >= half_width) {
        return;
    }
    const float *residual = static_cast<const float *>(video.edge) + (int64_t(y) * half_width + x) * video.channels;
    for (int i = 0; i < 6; i++) {
        const int chroma = i >= 4, component = chroma ? i - 3 : 0;
        const int column = chroma ? x : 2 * x + i % 2, row = chroma ? y : 2 * y + i / 2;
        if (!chroma && (column >= video.width || row >= video.height)) {
            continue;
        }
        const unsigned word = word_at(video, sample_at(video.from[component], column, row));
        const float code = float(word >> video.shift & video.mask);
        const float v = code + residual[i] * video.normal.span[chroma];
        const float largest = float(video.mask);
        const unsigned nearest = unsigned(rintf(v > 0.0f ? v < largest ? v : largest : 0.0f));
        unsigned char *to = const_cast<unsigned char *>(sample_at(video.to[component], column, row));
        if (video.bytes == 1) {
            *to = static_cast<unsigned char>(nearest);
        } else {
            // Other bits stay what they are, where the code is in the high ones.
            const unsigned others = video.shift > 0 ? word & ~(unsigned(video.mask) << video.shift) : 0;
            *reinterpret_cast<unsigned short *>(to) = static_cast<unsigned short>(nearest << video.shift | others);
        }
    }
}
