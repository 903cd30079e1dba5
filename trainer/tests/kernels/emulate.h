// Just enough of CUDA to run shim/kernels.cu on a CPU: the threads of a block are fibers that take turns, and
// blocks run one after the other.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#define __device__
#define __global__
#define __shared__ static
#define __launch_bounds__(threads)

struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

inline float __uint_as_float(unsigned bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}
inline unsigned __float_as_uint(float x) {
    unsigned bits;
    memcpy(&bits, &x, 4);
    return bits;
}
inline float __int_as_float(int bits) { return __uint_as_float(unsigned(bits)); }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float rsqrtf(float x) { return 1 / std::sqrt(x); }
inline void atomicAdd(float* to, float x) { *to += x; }

struct Place {
    unsigned x;
};
inline Place threadIdx, blockIdx, blockDim, gridDim;

namespace emulation {

struct Fiber {
    ucontext_t begin;
    jmp_buf rest; // a jump needs no system call, a change of contexts does
    std::vector<char> stack = std::vector<char>(64 << 10);
    bool begun = false, done = false;
    int syncs = 0, shuffles = 0;
    // What it gave to its last two shuffles: a neighbour may still have to read the earlier one.
    float shared[2] = {};
};

inline std::vector<Fiber> fibers;
inline jmp_buf scheduler;
inline std::function<void()> body;

inline void yield() {
    if (!_setjmp(fibers[threadIdx.x].rest)) _longjmp(scheduler, 1);
}

inline void run_fiber() {
    body();
    fibers[threadIdx.x].done = true;
    yield();
}

// Lets a fiber run until it yields.
inline void resume(unsigned thread) {
    threadIdx.x = thread;
    Fiber& fiber = fibers[thread];
    if (_setjmp(scheduler)) return;
    if (fiber.begun) _longjmp(fiber.rest, 1);
    fiber.begun = true;
    getcontext(&fiber.begin);
    fiber.begin.uc_stack.ss_sp = fiber.stack.data(), fiber.begin.uc_stack.ss_size = fiber.stack.size();
    fiber.begin.uc_link = nullptr;
    makecontext(&fiber.begin, run_fiber, 0);
    setcontext(&fiber.begin);
}

// Runs `call` in every thread of a grid.
inline void launch(unsigned blocks, unsigned threads, std::function<void()> call) {
    body = std::move(call);
    blockDim.x = threads, gridDim.x = blocks;
    fibers.resize(threads);
    for (blockIdx.x = 0; blockIdx.x < blocks; blockIdx.x++) {
        for (Fiber& fiber : fibers) fiber.begun = fiber.done = false, fiber.syncs = fiber.shuffles = 0;
        for (bool any = true; any;) {
            any = false;
            for (unsigned thread = 0; thread < threads; thread++) {
                if (fibers[thread].done) continue;
                any = true;
                resume(thread);
            }
        }
    }
}

} // namespace emulation

// Waits until every other thread that has not ended has come here as often.
inline void __syncthreads() {
    const int mine = ++emulation::fibers[threadIdx.x].syncs;
    for (bool late = true; late;) {
        emulation::yield();
        late = false;
        for (const auto& fiber : emulation::fibers) late |= !fiber.done && fiber.syncs < mine;
    }
}

// The whole warp takes part, as it always does in kernels.cu.
inline float __shfl_xor_sync(unsigned, float x, int step) {
    auto& self = emulation::fibers[threadIdx.x];
    const int turn = self.shuffles++;
    self.shared[turn % 2] = x;
    const auto& other = emulation::fibers[threadIdx.x ^ unsigned(step)];
    while (other.shuffles <= turn) {
        if (other.done) fprintf(stderr, "a shuffle with a thread that has ended\n"), abort();
        emulation::yield();
    }
    const float got = other.shared[turn % 2];
    emulation::yield(); // so that nobody gets two shuffles ahead
    return got;
}
