#include "read_video.cuh"

KERNEL(COLUMNS, 8) read_video_f16(Video video) { read_block<__half>(video); }
