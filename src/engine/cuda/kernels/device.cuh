// What the kernels use of CUDA beside the language: numbers of 16 bits, and the product of two small
// matrices by the 32 threads of a warp. A host compiler gets the same from an emulator.
#pragma once

#ifdef __CUDACC__
#include <cuda_fp16.h>
#define KERNEL(threads) extern "C" __global__ void __launch_bounds__(threads)
#define SHARED_BYTES(name) extern __shared__ __align__(16) unsigned char name[]

// sums[16][8] += a[16][16] · b[16][8] in f32, of halves. Thread t of the warp, with g = t / 4 and
// k = t % 4 · 2, has of `a` the pairs (g, k), (g + 8, k), (g, k + 8), (g + 8, k + 8), of `b` the pairs
// (k, g) and (k + 8, g) down a column, and of `sums` (g, k), (g, k + 1), (g + 8, k), (g + 8, k + 1)
// (PTX ISA, mma.m16n8k16).
__device__ inline void multiply_add(float (&sums)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#else
#include "emulator.hpp"
#endif

// A pixel's numbers in memory.
__device__ inline float to_float(float v) { return v; }
__device__ inline float to_float(__half v) { return __half2float(v); }
template <class T> __device__ inline T from_float(float v);
template <> __device__ inline float from_float<float>(float v) { return v; }
template <> __device__ inline __half from_float<__half>(float v) { return __float2half_rn(v); }
