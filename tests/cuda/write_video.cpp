#include "write_video.cu"

EXPORT(write_video, Video)
