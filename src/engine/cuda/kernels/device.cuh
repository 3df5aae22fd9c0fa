// What the kernels use of CUDA beside the language: numbers of 16 bits, and the product of two small
// matrices by the 32 threads of a warp. A host compiler gets the same from an emulator.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#include <cuda_fp16.h>
// With so many threads in a block, and blocks that find room at once.
#define KERNEL(threads, blocks) extern "C" __global__ void __launch_bounds__(threads, blocks)
#define UNROLL _Pragma("unroll")
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

// A pixel's numbers in memory, one or two at a time.
__device__ inline float load(const float *at) { return *at; }
__device__ inline float load(const __half *at) { return __half2float(*at); }
__device__ inline void store(float *at, float v) { *at = v; }
__device__ inline void store(__half *at, float v) { *at = __float2half_rn(v); }

__device__ inline float2 load_pair(const float *at) { return *reinterpret_cast<const float2 *>(at); }
__device__ inline float2 load_pair(const __half *at) {
    const unsigned both = *reinterpret_cast<const unsigned *>(at);
    const unsigned short first = both & 0xffff, second = both >> 16;
    return {__half2float(__ushort_as_half(first)), __half2float(__ushort_as_half(second))};
}
__device__ inline void store_pair(float *at, float2 v) { *reinterpret_cast<float2 *>(at) = v; }
__device__ inline void store_pair(__half *at, float2 v) {
    const unsigned first = __half_as_ushort(__float2half_rn(v.x)), second = __half_as_ushort(__float2half_rn(v.y));
    *reinterpret_cast<unsigned *>(at) = first | second << 16;
}
