// The inner loops of cuda.cpp: bf16 in memory, f32 inside, one pass over memory each. kernels.cpp is the same
// for a CPU.
//
// Compiled at run time for the GPU at hand, one part at a time and for one size, so that rows are kept in
// registers. The macro that is defined says which part: COLUMNS (a row of the stream), HEAD_DIM, VOCABULARY
// or ELEMENTWISE. Rows are read 8 numbers at a time. No header is included, because there may be none where
// this is compiled.

using Index = long long;

constexpr unsigned WHOLE_WARP = 0xffffffffu;

// Eight numbers, read from or written to bf16.
struct Eight {
    float x[8];
};

__device__ inline float low(unsigned pair) { return __uint_as_float(pair << 16); }
__device__ inline float high(unsigned pair) { return __uint_as_float(pair & 0xffff0000u); }

// Returns two bf16 numbers, rounded to the nearest, ties to even.
__device__ inline unsigned pack(float low, float high) {
#ifdef __CUDA_ARCH__
    unsigned pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
#else // for tests/kernels, which runs this on a CPU
    const auto round = [](float x) {
        const unsigned bits = __float_as_uint(x);
        return x != x ? 0x7fc0u : (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    };
    return round(low) | round(high) << 16;
#endif
}

__device__ inline float one(unsigned short bits) { return __uint_as_float(unsigned(bits) << 16); }
__device__ inline unsigned short bits(float x) { return (unsigned short)pack(x, 0.0f); }

__device__ inline Eight numbers(uint4 v) {
    return Eight{{low(v.x), high(v.x), low(v.y), high(v.y), low(v.z), high(v.z), low(v.w), high(v.w)}};
}

__device__ inline uint4 packed(const Eight& e) {
    return make_uint4(pack(e.x[0], e.x[1]), pack(e.x[2], e.x[3]), pack(e.x[4], e.x[5]), pack(e.x[6], e.x[7]));
}

// Returns, in each lane, the sum over `lanes` neighbouring lanes of a warp. `lanes` is a power of two.
__device__ inline float sum_over(float x, int lanes) {
    for (int step = lanes / 2; step > 0; step /= 2) x += __shfl_xor_sync(WHOLE_WARP, x, step);
    return x;
}

__device__ inline float sigmoid(float x) { return __fdividef(1.0f, 1.0f + __expf(-x)); }

#ifdef COLUMNS
// One warp per row. A lane keeps every 32nd vector of it.
constexpr int VECTORS = COLUMNS / 8, EACH = (VECTORS + 31) / 32;

// By row: out = a (x + delta) + b x0 and y = out / rms(out). delta and x0 may be null. Without either, out is
// x and is not written.
extern "C" __global__ void __launch_bounds__(256)
mix_norm(const uint4* x, const uint4* delta, const uint4* x0, const float* a, const float* b,
         float epsilon, Index rows, uint4* out, uint4* y, float* scale) {
    const Index row = blockIdx.x * Index(blockDim.x / 32) + threadIdx.x / 32;
    const int lane = threadIdx.x % 32;
    if (row >= rows) return;
    const float on_stream = x0 ? *a : 1.0f, on_embedding = x0 ? *b : 0.0f;
    uint4 kept[EACH];
    float squares = 0;
#pragma unroll
    for (int j = 0; j < EACH; j++) {
        const int i = lane + 32 * j;
        if (i >= VECTORS) continue;
        const Index at = row * VECTORS + i;
        kept[j] = x[at];
        if (delta || x0) {
            Eight e = numbers(kept[j]);
            if (delta) {
                const Eight d = numbers(delta[at]);
                for (int n = 0; n < 8; n++) e.x[n] += d.x[n];
            }
            if (x0) {
                const Eight o = numbers(x0[at]);
                for (int n = 0; n < 8; n++) e.x[n] = on_stream * e.x[n] + on_embedding * o.x[n];
            }
            out[at] = kept[j] = packed(e);
        }
        const Eight e = numbers(kept[j]);
        for (int n = 0; n < 8; n++) squares += e.x[n] * e.x[n];
    }
    const float factor = rsqrtf(sum_over(squares, 32) / COLUMNS + epsilon);
    if (lane == 0) scale[row] = factor;
#pragma unroll
    for (int j = 0; j < EACH; j++) {
        const int i = lane + 32 * j;
        if (i >= VECTORS) continue;
        Eight e = numbers(kept[j]);
        for (int n = 0; n < 8; n++) e.x[n] *= factor;
        y[row * VECTORS + i] = packed(e);
    }
}

// The gradients of mix_norm. grad_out may be null. x0 may be null too, and then so may everything that only
// serves it. Each warp writes its Σ g (x + delta) and Σ g x0 to two of `sums`.
extern "C" __global__ void __launch_bounds__(256)
mix_norm_backward(const uint4* x, const uint4* delta, const uint4* x0, const uint4* y,
                  const uint4* grad_out, const uint4* grad_y, const float* scale, const float* a,
                  const float* b, Index rows, uint4* grad_x, uint4* grad_x0, float* sums) {
    const Index warp = blockIdx.x * Index(blockDim.x / 32) + threadIdx.x / 32,
                warps = gridDim.x * Index(blockDim.x / 32);
    const int lane = threadIdx.x % 32;
    const float on_stream = x0 ? *a : 1.0f, on_embedding = x0 ? *b : 0.0f;
    float sum_a = 0, sum_b = 0;
    for (Index row = warp; row < rows; row += warps) {
        uint4 kept_y[EACH], kept_grad[EACH];
        float dot = 0;
#pragma unroll
        for (int j = 0; j < EACH; j++) {
            const int i = lane + 32 * j;
            if (i >= VECTORS) continue;
            const Index at = row * VECTORS + i;
            kept_y[j] = y[at], kept_grad[j] = grad_y[at];
            const Eight e = numbers(kept_y[j]), g = numbers(kept_grad[j]);
            for (int n = 0; n < 8; n++) dot += e.x[n] * g.x[n];
        }
        dot = sum_over(dot, 32) / COLUMNS;
        const float factor = scale[row];
#pragma unroll
        for (int j = 0; j < EACH; j++) {
            const int i = lane + 32 * j;
            if (i >= VECTORS) continue;
            const Index at = row * VECTORS + i;
            const Eight e = numbers(kept_y[j]);
            Eight g = numbers(kept_grad[j]);
            for (int n = 0; n < 8; n++) g.x[n] = factor * (g.x[n] - e.x[n] * dot);
            if (grad_out) {
                const Eight o = numbers(grad_out[at]);
                for (int n = 0; n < 8; n++) g.x[n] += o.x[n];
            }
            if (x0) {
                Eight mixed = numbers(x[at]);
                if (delta) {
                    const Eight d = numbers(delta[at]);
                    for (int n = 0; n < 8; n++) mixed.x[n] += d.x[n];
                }
                const Eight o = numbers(x0[at]);
                Eight to_embedding;
                for (int n = 0; n < 8; n++) {
                    sum_a += g.x[n] * mixed.x[n];
                    sum_b += g.x[n] * o.x[n];
                    to_embedding.x[n] = on_embedding * g.x[n];
                    g.x[n] *= on_stream;
                }
                grad_x0[at] = packed(to_embedding);
            }
            grad_x[at] = packed(g);
        }
    }
    sum_a = sum_over(sum_a, 32), sum_b = sum_over(sum_b, 32);
    if (x0 && lane == 0) sums[2 * warp] = sum_a, sums[2 * warp + 1] = sum_b;
}
#endif

#ifdef HEAD_DIM
// A few lanes per head and token. A lane keeps four numbers of each half of the head, which are pairs of the
// rotation.
constexpr int HALF = HEAD_DIM / 2, LANES = HALF / 4;

struct Four {
    float x[4];
};
__device__ inline Four four(const unsigned short* from) {
    const uint2 v = *(const uint2*)from;
    return Four{{low(v.x), high(v.x), low(v.y), high(v.y)}};
}
__device__ inline void put(unsigned short* to, const Four& f) {
    *(uint2*)to = make_uint2(pack(f.x[0], f.x[1]), pack(f.x[2], f.x[3]));
}
__device__ inline Four factors(const float* from) {
    const float4 v = *(const float4*)from;
    return Four{{v.x, v.y, v.z, v.w}};
}

struct HeadTask {
    bool live; // false for lanes beyond the last task, which still take part in the sums
    Index token;
    int head, lane;
};
__device__ inline HeadTask head_task(Index tokens, int all) {
    const Index task = (blockIdx.x * Index(blockDim.x) + threadIdx.x) / LANES;
    const bool live = task < tokens * all;
    return {live, live ? task / all : 0, live ? int(task % all) : 0, int(threadIdx.x % LANES)};
}

// Rotates every query and key head, and normalises it if `norm`; adds value embeddings to the values. The
// input is the joint projection [tokens, (heads + 2 kv_heads) HEAD_DIM]. value and gate may be null. The
// tables of angles are [positions, HALF].
extern "C" __global__ void __launch_bounds__(256)
heads_forward(const unsigned short* qkv, const unsigned short* value, const unsigned short* gate,
              const float* cosine, const float* sine, Index tokens, int length, int heads, int kv_heads,
              int norm, float gate_scale, float epsilon, unsigned short* q, unsigned short* k,
              unsigned short* v, float* scale) {
    const int all = heads + 2 * kv_heads;
    const auto [live, token, head, lane] = head_task(tokens, all);
    const unsigned short* from = qkv + (token * all + head) * HEAD_DIM + lane * 4;
    Four one_half = four(from), other_half = four(from + HALF);
    const bool turns = head < heads + kv_heads;
    float squares = 0;
    for (int n = 0; n < 4; n++) squares += one_half.x[n] * one_half.x[n] + other_half.x[n] * other_half.x[n];
    squares = sum_over(squares, LANES);
    if (!live) return;
    unsigned short* to;
    if (turns) {
        const float factor = norm ? rsqrtf(squares / HEAD_DIM + epsilon) : 1.0f;
        if (norm && lane == 0) scale[token * (heads + kv_heads) + head] = factor;
        const Index at = (token % length) * HALF + lane * 4;
        const Four c = factors(cosine + at), s = factors(sine + at);
        for (int n = 0; n < 4; n++) {
            const float a = one_half.x[n] * factor, b = other_half.x[n] * factor;
            one_half.x[n] = a * c.x[n] + b * s.x[n];
            other_half.x[n] = b * c.x[n] - a * s.x[n];
        }
        to = head < heads ? q + (token * heads + head) * HEAD_DIM
                          : k + (token * kv_heads + head - heads) * HEAD_DIM;
    } else {
        const int kv = head - heads - kv_heads;
        if (value) {
            const float open = gate_scale * sigmoid(one(gate[token * kv_heads + kv]));
            const unsigned short* more = value + (token * kv_heads + kv) * HEAD_DIM + lane * 4;
            const Four a = four(more), b = four(more + HALF);
            for (int n = 0; n < 4; n++) one_half.x[n] += open * a.x[n], other_half.x[n] += open * b.x[n];
        }
        to = v + (token * kv_heads + kv) * HEAD_DIM;
    }
    put(to + lane * 4, one_half);
    put(to + lane * 4 + HALF, other_half);
}

// The gradients of heads_forward: of the joint projection, and of value embeddings and their gates if there
// are any.
extern "C" __global__ void __launch_bounds__(256)
heads_backward(const unsigned short* q, const unsigned short* k, const unsigned short* value,
               const unsigned short* gate, const float* cosine, const float* sine, const float* scale,
               const unsigned short* grad_q, const unsigned short* grad_k, const unsigned short* grad_v,
               Index tokens, int length, int heads, int kv_heads, int norm, float gate_scale,
               unsigned short* grad_qkv, unsigned short* grad_value, unsigned short* grad_gate) {
    const int all = heads + 2 * kv_heads;
    const auto [live, token, head, lane] = head_task(tokens, all);
    const bool turns = head < heads + kv_heads;
    const int kv = turns ? head - heads : head - heads - kv_heads; // of keys and values
    const Index key = (token * kv_heads + kv) * HEAD_DIM + lane * 4,
                query = (token * heads + head) * HEAD_DIM + lane * 4;
    const unsigned short* from = head < heads ? grad_q + query : turns ? grad_k + key : grad_v + key;
    Four one_half = four(from), other_half = four(from + HALF);
    // A norm passes on no gradient along the head's own direction. The gate of a value embedding gets the
    // product with that embedding.
    Four a{}, b{};
    if (turns && norm) {
        const unsigned short* y = head < heads ? q + query : k + key;
        a = four(y), b = four(y + HALF);
    } else if (!turns && value) {
        a = four(value + key), b = four(value + key + HALF);
    }
    float dot = 0;
    for (int n = 0; n < 4; n++) dot += one_half.x[n] * a.x[n] + other_half.x[n] * b.x[n];
    dot = sum_over(dot, LANES);
    if (!live) return;
    if (turns) {
        const float factor = norm ? scale[token * (heads + kv_heads) + head] : 1.0f;
        const Index at = (token % length) * HALF + lane * 4;
        const Four c = factors(cosine + at), s = factors(sine + at);
        for (int n = 0; n < 4; n++) {
            const float g = factor * (one_half.x[n] - a.x[n] * dot / HEAD_DIM);
            const float h = factor * (other_half.x[n] - b.x[n] * dot / HEAD_DIM);
            one_half.x[n] = g * c.x[n] - h * s.x[n];
            other_half.x[n] = g * s.x[n] + h * c.x[n];
        }
    } else if (value) {
        const Index at = token * kv_heads + kv;
        const float open = sigmoid(one(gate[at])), factor = gate_scale * open;
        if (lane == 0) grad_gate[at] = bits(dot * factor * (1.0f - open));
        Four g, h;
        for (int n = 0; n < 4; n++) g.x[n] = one_half.x[n] * factor, h.x[n] = other_half.x[n] * factor;
        put(grad_value + key, g);
        put(grad_value + key + HALF, h);
    }
    unsigned short* to = grad_qkv + (token * all + head) * HEAD_DIM + lane * 4;
    put(to, one_half);
    put(to + HALF, other_half);
}
#endif

#ifdef VOCABULARY
// One block per row, which it keeps in registers. THREADS is a multiple of 32.
constexpr int VECTORS = VOCABULARY / 8, EACH = (VECTORS + THREADS - 1) / THREADS, WARPS = THREADS / 32;

// Returns, in every thread, the sum or the largest of the block's numbers. `room` is WARPS numbers of shared
// memory, used once.
template <bool LARGEST>
__device__ inline float over_block(float x, float* room) {
    for (int step = 16; step > 0; step /= 2) {
        const float other = __shfl_xor_sync(WHOLE_WARP, x, step);
        x = LARGEST ? fmaxf(x, other) : x + other;
    }
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = x;
    __syncthreads();
    x = room[0];
    for (int i = 1; i < WARPS; i++) x = LARGEST ? fmaxf(x, room[i]) : x + room[i];
    return x;
}

// Softcap (0: none) and cross-entropy by row. grad may be null; else it gets the gradient of factor · Σ loss.
// If a target is outside the vocabulary, its loss is not a number.
extern "C" __global__ void __launch_bounds__(THREADS)
cross_entropy(const uint4* logits, const Index* targets, float softcap, float factor, float* loss,
              uint4* grad) {
    __shared__ float tops[WARPS], sums[WARPS], aimed;
    const Index row = blockIdx.x, target = targets[row];
    const float bend = softcap != 0.0f ? 1.0f / softcap : 0.0f; // a division is many instructions
    if (threadIdx.x == 0) aimed = __int_as_float(0x7fc00000);
    Eight kept[EACH];
    float top = -__int_as_float(0x7f800000);
#pragma unroll
    for (int j = 0; j < EACH; j++) {
        const int i = threadIdx.x + THREADS * j;
        if (i >= VECTORS) continue;
        kept[j] = numbers(logits[row * VECTORS + i]);
        for (int n = 0; n < 8; n++) {
            if (softcap != 0.0f)
                kept[j].x[n] = softcap * (1.0f - __fdividef(2.0f, 1.0f + __expf(2.0f * bend * kept[j].x[n])));
            top = fmaxf(top, kept[j].x[n]);
        }
    }
    top = over_block<true>(top, tops);
    float sum = 0;
#pragma unroll
    for (int j = 0; j < EACH; j++) {
        const int i = threadIdx.x + THREADS * j;
        if (i >= VECTORS) continue;
        for (int n = 0; n < 8; n++) {
            sum += __expf(kept[j].x[n] - top);
            if (8 * Index(i) + n == target) aimed = kept[j].x[n];
        }
    }
    sum = over_block<false>(sum, sums);
    if (threadIdx.x == 0) loss[row] = top + __logf(sum) - aimed;
    if (!grad) return;
    const float share = 1.0f / sum;
#pragma unroll
    for (int j = 0; j < EACH; j++) {
        const int i = threadIdx.x + THREADS * j;
        if (i >= VECTORS) continue;
        Eight g;
        for (int n = 0; n < 8; n++) {
            float slope = factor;
            slope -= slope * (bend * kept[j].x[n]) * (bend * kept[j].x[n]); // of tanh
            const float hit = 8 * Index(i) + n == target ? 1.0f : 0.0f;
            g.x[n] = slope * (__expf(kept[j].x[n] - top) * share - hit);
        }
        grad[row * VECTORS + i] = packed(g);
    }
}
#endif

#ifdef ELEMENTWISE
__device__ inline Index vector_index() { return blockIdx.x * Index(blockDim.x) + threadIdx.x; }

extern "C" __global__ void relu_squared(const uint4* x, uint4* out, Index vectors) {
    const Index i = vector_index();
    if (i >= vectors) return;
    Eight e = numbers(x[i]);
    for (int n = 0; n < 8; n++) e.x[n] = e.x[n] > 0.0f || e.x[n] != e.x[n] ? e.x[n] * e.x[n] : 0.0f;
    out[i] = packed(e);
}

extern "C" __global__ void relu_squared_backward(const uint4* x, const uint4* grad, uint4* out,
                                                 Index vectors) {
    const Index i = vector_index();
    if (i >= vectors) return;
    const Eight e = numbers(x[i]);
    Eight g = numbers(grad[i]);
    for (int n = 0; n < 8; n++) g.x[n] = e.x[n] > 0.0f ? 2.0f * e.x[n] * g.x[n] : 0.0f;
    out[i] = packed(g);
}

// silu(left half) · right half, for rows of 2 · half vectors.
extern "C" __global__ void swiglu(const uint4* x, uint4* out, Index vectors, Index half) {
    const Index i = vector_index();
    if (i >= vectors) return;
    const Index at = i / half * 2 * half + i % half;
    Eight a = numbers(x[at]);
    const Eight b = numbers(x[at + half]);
    for (int n = 0; n < 8; n++) a.x[n] *= sigmoid(a.x[n]) * b.x[n];
    out[i] = packed(a);
}

extern "C" __global__ void swiglu_backward(const uint4* x, const uint4* grad, uint4* out, Index vectors,
                                           Index half) {
    const Index i = vector_index();
    if (i >= vectors) return;
    const Index at = i / half * 2 * half + i % half;
    const Eight a = numbers(x[at]), b = numbers(x[at + half]), g = numbers(grad[i]);
    Eight to_a, to_b;
    for (int n = 0; n < 8; n++) {
        const float open = sigmoid(a.x[n]);
        to_a.x[n] = g.x[n] * b.x[n] * open * (1.0f + a.x[n] * (1.0f - open));
        to_b.x[n] = g.x[n] * a.x[n] * open;
    }
    out[at] = packed(to_a), out[at + half] = packed(to_b);
}

// Gathers the rows `tokens` of an f32 table, which has `count` rows of `columns` vectors. A row that is not
// there becomes not a number.
extern "C" __global__ void gather(const float4* table, const Index* tokens, uint4* out, Index vectors,
                                  Index columns, Index count) {
    const Index i = vector_index();
    if (i >= vectors) return;
    const Index token = tokens[i / columns];
    const float nan = __int_as_float(0x7fc00000);
    float4 a = make_float4(nan, nan, nan, nan), b = a;
    if (token >= 0 && token < count) {
        const float4* from = table + 2 * (token * columns + i % columns);
        a = from[0], b = from[1];
    }
    out[i] = packed(Eight{{a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w}});
}

// Adds each row of `grad` to the row of its token in the table. A quarter is four numbers.
extern "C" __global__ void scatter(const uint2* grad, const Index* tokens, float* table, Index quarters,
                                   Index columns, Index count) {
    const Index i = vector_index();
    if (i >= quarters) return;
    const Index token = tokens[i / columns];
    if (token < 0 || token >= count) return;
    const uint2 v = grad[i];
    float* to = table + 4 * (token * columns + i % columns);
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("red.global.add.v4.f32 [%0], {%1, %2, %3, %4};"
                 :: "l"(to), "f"(low(v.x)), "f"(high(v.x)), "f"(low(v.y)), "f"(high(v.y)) : "memory");
#else
    atomicAdd(to, low(v.x)), atomicAdd(to + 1, high(v.x)), atomicAdd(to + 2, low(v.y)),
        atomicAdd(to + 3, high(v.y));
#endif
}

// Multiplies x by a factor in place, with any number of blocks. It costs nothing if the factor is 1.
extern "C" __global__ void scale(uint4* x, const float* factor, Index vectors) {
    const float by = *factor;
    if (by == 1.0f) return;
    for (Index i = vector_index(); i < vectors; i += gridDim.x * Index(blockDim.x)) {
        Eight e = numbers(x[i]);
        for (int n = 0; n < 8; n++) e.x[n] *= by;
        x[i] = packed(e);
    }
}
#endif
