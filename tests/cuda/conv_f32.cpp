#include "conv_f32.cu"

EXPORT(conv_f32, Conv)
