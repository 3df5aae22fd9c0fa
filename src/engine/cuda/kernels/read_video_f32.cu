#include "read_video.cuh"

KERNEL(COLUMNS, 8) read_video_f32(Video video) { read_block<float>(video); }
