#include "read_video.cuh"

KERNEL(COLUMNS) read_video_f32(Video video) { read_block<float>(video); }
