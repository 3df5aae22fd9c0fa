#include "read_video_f16.cu"

EXPORT(read_video_f16, Video)
