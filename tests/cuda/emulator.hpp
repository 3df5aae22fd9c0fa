// Runs CUDA kernels on the CPU: what they use of CUDA, for a C++ compiler. The threads of a block are
// fibers that take turns, in order, each until it waits for the others; blocks come one after the other.
// Stricter than a GPU where that finds mistakes: shared memory begins as NaNs and ends with a mark, and
// threads that wait for others which have ended, or wait elsewhere, are an error.
#pragma once

#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#define __device__
#define __align__(n) alignas(n)
#define KERNEL(threads, blocks) void
#define UNROLL

struct Index {
    unsigned x, y, z;
};
struct alignas(16) uint4 {
    uint32_t x, y, z, w;
};
struct alignas(16) float4 {
    float x, y, z, w;
};

struct alignas(8) float2 {
    float x, y;
};

// A number of 16 bits (IEEE 754 binary16).
struct __half {
    uint16_t bits;
};

inline float value_of(__half v) {
    const int sign = v.bits >> 15, exponent = v.bits >> 10 & 31, fraction = v.bits & 1023;
    float size = std::ldexp(float(exponent == 0 ? fraction : fraction + 1024), (exponent == 0 ? 1 : exponent) - 25);
    if (exponent == 31) {
        size = fraction == 0 ? INFINITY : NAN;
    }
    return sign ? -size : size;
}

// Of all numbers of 16 bits.
inline const std::vector<float> &half_values() {
    static const std::vector<float> values = [] {
        std::vector<float> all;
        for (unsigned bits = 0; bits <= 0xffff; bits++) {
            all.push_back(value_of({uint16_t(bits)}));
        }
        return all;
    }();
    return values;
}

inline float __half2float(__half v) { return half_values()[v.bits]; }

// To the nearest, ties to even.
inline __half __float2half_rn(float v) {
    const uint16_t sign = std::signbit(v) ? 0x8000 : 0;
    if (std::isnan(v)) {
        return {0x7fff};
    }
    const float size = std::fabs(v);
    if (size >= 65520.0f) {
        return {uint16_t(sign | 0x7c00)};
    }
    int exponent = size == 0.0f ? -14 : std::ilogb(size);
    exponent = exponent < -14 ? -14 : exponent;
    // Units of the last place; the default rounding of the CPU is to the nearest, ties to even.
    const int units = int(std::nearbyint(std::ldexp(size, 10 - exponent)));
    return {uint16_t(sign | (units + ((exponent + 14) << 10)))};
}

inline __half __ushort_as_half(uint16_t bits) { return {bits}; }
inline uint16_t __half_as_ushort(__half v) { return v.bits; }

namespace emulator {

constexpr int WARP = 32;
constexpr size_t STACK_BYTES = 128 << 10;
constexpr size_t MARK_BYTES = 64;
constexpr unsigned char UNWRITTEN = 0xff, MARK = 0x5a;

[[noreturn]] inline void fail(const char *what) {
    std::fprintf(stderr, "emulator: %s\n", what);
    std::abort();
}

// Where a number of threads wait for each other.
struct Barrier {
    int count = 0, arrived = 0;
    long generation = 0;
};

struct Warp {
    Barrier barrier;
    // What threads brought to a product, of this one and of the one before.
    uint32_t a[2][WARP][4], b[2][WARP][2];
};

struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack;
    bool has_ended = false;
    // Products so far.
    long products = 0;
};

struct Block {
    std::vector<Fiber> fibers;
    std::vector<Warp> warps;
    Barrier barrier;
    std::vector<unsigned char> shared;
    ucontext_t scheduler;
    size_t running = 0;
    // Whether a thread has come on since the last round.
    bool has_moved = false;
    std::function<void()> body;
};

inline thread_local Block *block = nullptr;
inline thread_local Index block_index, block_size;

inline Fiber &fiber() { return block->fibers[block->running]; }

inline void wait(Barrier &barrier) {
    const long own = barrier.generation;
    if (++barrier.arrived == barrier.count) {
        barrier.arrived = 0;
        barrier.generation++;
        block->has_moved = true;
        return;
    }
    while (barrier.generation == own) {
        swapcontext(&fiber().context, &block->scheduler);
    }
    block->has_moved = true;
}

inline void run_fiber() {
    block->body();
    fiber().has_ended = true;
    block->has_moved = true;
    swapcontext(&fiber().context, &block->scheduler);
}

inline void run_block() {
    for (Fiber &own : block->fibers) {
        getcontext(&own.context);
        own.context.uc_stack.ss_sp = own.stack.get();
        own.context.uc_stack.ss_size = STACK_BYTES;
        own.context.uc_link = nullptr;
        own.has_ended = false;
        own.products = 0;
        makecontext(&own.context, run_fiber, 0);
    }
    std::fill(block->shared.begin(), block->shared.end() - MARK_BYTES, UNWRITTEN);
    for (size_t left = block->fibers.size(); left > 0;) {
        block->has_moved = false;
        for (block->running = 0; block->running < block->fibers.size(); block->running++) {
            if (!fiber().has_ended) {
                swapcontext(&block->scheduler, &fiber().context);
                left -= fiber().has_ended;
            }
        }
        if (!block->has_moved) {
            fail("threads wait for others that do not come");
        }
    }
    for (size_t i = block->shared.size() - MARK_BYTES; i < block->shared.size(); i++) {
        if (block->shared[i] != MARK) {
            fail("written beyond the shared memory");
        }
    }
}

// Runs `body` for every thread of every block.
inline void launch(Index grid, unsigned threads, size_t shared_bytes, std::function<void()> body) {
    if (threads == 0 || threads % WARP != 0 || threads > 1024) {
        fail("threads of a block: expected a multiple of 32 up to 1024");
    }
    Block own;
    own.fibers.resize(threads);
    for (Fiber &fiber : own.fibers) {
        fiber.stack.reset(new char[STACK_BYTES]);
    }
    own.warps.resize(threads / WARP);
    for (Warp &warp : own.warps) {
        warp.barrier.count = WARP;
    }
    own.barrier.count = int(threads);
    own.shared.assign(shared_bytes + MARK_BYTES, MARK);
    own.body = std::move(body);
    block = &own;
    block_size = {threads, 1, 1};
    for (unsigned z = 0; z < grid.z; z++) {
        for (unsigned y = 0; y < grid.y; y++) {
            for (unsigned x = 0; x < grid.x; x++) {
                block_index = {x, y, z};
                run_block();
            }
        }
    }
    block = nullptr;
}

inline Index thread_index() { return {unsigned(block->running), 0, 0}; }

inline float half_of(uint32_t pair, int which) { return __half2float({uint16_t(pair >> (16 * which))}); }

} // namespace emulator

#define threadIdx (emulator::thread_index())
#define blockIdx (emulator::block_index)
#define blockDim (emulator::block_size)
#define SHARED_BYTES(name) unsigned char *name = emulator::block->shared.data()

inline int min(int a, int b) { return a < b ? a : b; }

inline void __syncthreads() { emulator::wait(emulator::block->barrier); }

// See device.cuh.
inline void multiply_add(float (&sums)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    using namespace emulator;
    const size_t lane = block->running % WARP;
    Warp &warp = block->warps[block->running / WARP];
    // No thread can be two products ahead of another.
    const int which = fiber().products++ % 2;
    std::memcpy(warp.a[which][lane], a, sizeof a);
    std::memcpy(warp.b[which][lane], b, sizeof b);
    wait(warp.barrier);
    for (int i = 0; i < 4; i++) {
        const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
        for (int k = 0; k < 16; k++) {
            const uint32_t left = warp.a[which][row % 8 * 4 + k % 8 / 2][row / 8 + k / 8 * 2];
            const uint32_t right = warp.b[which][column * 4 + k % 8 / 2][k / 8];
            sums[i] += half_of(left, k % 2) * half_of(right, k % 2);
        }
    }
}

// A function that launches a kernel whose only argument is `Arguments`, and one that says how long that is.
#define EXPORT(kernel, Arguments)                                                                            \
    extern "C" size_t argument_bytes_##kernel() { return sizeof(Arguments); }                                \
    extern "C" void launch_##kernel(const void *arguments, const unsigned *grid, unsigned threads, size_t shared) { \
        const Arguments &own = *static_cast<const Arguments *>(arguments);                                    \
        emulator::launch({grid[0], grid[1], grid[2]}, threads, shared, [&own] { kernel(own); });              \
    }
