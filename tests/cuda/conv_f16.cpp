#include "conv_f16.cu"

EXPORT(conv_f16, Conv)
