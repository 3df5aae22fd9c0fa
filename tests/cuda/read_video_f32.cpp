#include "read_video_f32.cu"

EXPORT(read_video_f32, Video)
