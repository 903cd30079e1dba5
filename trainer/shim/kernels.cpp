// The inner loops declared in shim.h, written so that the compiler vectorises them. LEVEL names the
// instruction set.
#include "product.h"
#include "shim.h"

namespace autoswarm {
namespace {

// Queries of a block of attention: few, so that little above the diagonal is computed.
constexpr int64_t QUERIES = 32;

INLINE float bits_to_float(uint32_t bits) { return __builtin_bit_cast(float, bits); }
INLINE uint32_t float_to_bits(float x) { return __builtin_bit_cast(uint32_t, x); }

INLINE float load(float x) { return x; }
INLINE float load(Brain x) { return bits_to_float(uint32_t(x.bits) << 16); }
template <class T>
INLINE T store(float x);
template <>
INLINE float store<float>(float x) { return x; }
template <>
INLINE Brain store<Brain>(float x) {
    const uint32_t bits = float_to_bits(x);
    const uint32_t even = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return Brain{uint16_t(x != x ? 0x7fc0 : even)};
}

// Returns e^x to 2 ulp. x is clamped to where the result is a normal number; NaN stays NaN.
INLINE float exponential(float x) {
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    const float z = x * 1.44269504f;
    const int32_t n = int32_t(z + (z < 0 ? -0.5f : 0.5f));
    const float f = x - float(n) * 0.693147181f;
    float p = 1.98412698e-4f;
    p = p * f + 1.38888889e-3f;
    p = p * f + 8.33333333e-3f;
    p = p * f + 4.16666667e-2f;
    p = p * f + 1.66666667e-1f;
    p = p * f + 0.5f;
    p = p * f + 1.0f;
    p = p * f + 1.0f;
    return p * bits_to_float(uint32_t(n + 127) << 23);
}

INLINE float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }

INLINE float largest(const float* x, int64_t count) {
    float most = x[0];
    int64_t i = 0;
    if (count >= LANES) {
        Lanes lanes = *(const Lanes*)x;
        for (i = LANES; i + LANES <= count; i += LANES) {
            const Lanes next = *(const Lanes*)(x + i);
            lanes = next > lanes ? next : lanes;
        }
        for (int j = 0; j < LANES; j++) most = lanes[j] > most ? lanes[j] : most;
    }
    for (; i < count; i++) most = x[i] > most ? x[i] : most;
    return most;
}

template <class T, bool DELTA, bool MIX>
void mix_norm_rows(const MixNorm<T>& o, int64_t first, int64_t last) {
    for (int64_t row = first; row < last; row++) {
        const int64_t at = row * o.columns;
        const T *x = o.x + at, *delta = o.delta + (DELTA ? at : 0), *x0 = o.x0 + (MIX ? at : 0);
        T *__restrict out = o.out + at, *__restrict y = o.y + at;
        const float a = o.a, b = o.b;
        float squares = 0;
        for (int64_t i = 0; i < o.columns; i++) {
            float value = load(x[i]);
            if (DELTA) value += load(delta[i]);
            if (MIX) value = a * value + b * load(x0[i]);
            const T rounded = store<T>(value);
            if (DELTA || MIX) out[i] = rounded;
            squares += load(rounded) * load(rounded); // the norm is of the stream as it is stored
        }
        const float scale = 1.0f / __builtin_sqrtf(squares / float(o.columns) + o.epsilon);
        o.scale[row] = scale;
        const T* from = DELTA || MIX ? o.out + at : x;
        for (int64_t i = 0; i < o.columns; i++) y[i] = store<T>(load(from[i]) * scale);
    }
}

template <class T>
void mix_norm(const MixNorm<T>& o, int64_t first, int64_t last) {
    if (o.delta && o.x0) mix_norm_rows<T, true, true>(o, first, last);
    else if (o.delta) mix_norm_rows<T, true, false>(o, first, last);
    else if (o.x0) mix_norm_rows<T, false, true>(o, first, last);
    else mix_norm_rows<T, false, false>(o, first, last);
}

template <class T, bool DELTA, bool MIX, bool OUT>
void mix_norm_backward_rows(const MixNormBackward<T>& o, int64_t first, int64_t last, double* sums) {
    for (int64_t row = first; row < last; row++) {
        const int64_t at = row * o.columns;
        const T *x = o.x + (MIX ? at : 0), *delta = o.delta + (MIX && DELTA ? at : 0),
                *x0 = o.x0 + (MIX ? at : 0);
        const T *y = o.y + at, *grad_y = o.grad_y + at, *grad_out = o.grad_out + (OUT ? at : 0);
        T *__restrict grad_x = o.grad_x + at, *__restrict grad_x0 = o.grad_x0 + (MIX ? at : 0);
        const float a = o.a, b = o.b, scale = o.scale[row];
        float dot = 0;
        for (int64_t i = 0; i < o.columns; i++) dot += load(grad_y[i]) * load(y[i]);
        dot /= float(o.columns);
        float sum_a = 0, sum_b = 0;
        for (int64_t i = 0; i < o.columns; i++) {
            float g = scale * (load(grad_y[i]) - load(y[i]) * dot);
            if (OUT) g += load(grad_out[i]);
            if (MIX) {
                float mixed = load(x[i]);
                if (DELTA) mixed += load(delta[i]);
                sum_a += g * mixed;
                sum_b += g * load(x0[i]);
                grad_x0[i] = store<T>(b * g);
                g *= a;
            }
            grad_x[i] = store<T>(g);
        }
        sums[0] += double(sum_a);
        sums[1] += double(sum_b);
    }
}

template <class T, bool OUT>
void mix_norm_backward_with(const MixNormBackward<T>& o, int64_t first, int64_t last, double* sums) {
    if (o.x0 && o.delta) mix_norm_backward_rows<T, true, true, OUT>(o, first, last, sums);
    else if (o.x0) mix_norm_backward_rows<T, false, true, OUT>(o, first, last, sums);
    else mix_norm_backward_rows<T, false, false, OUT>(o, first, last, sums);
}

template <class T>
void mix_norm_backward(const MixNormBackward<T>& o, int64_t first, int64_t last, double* sums) {
    if (o.grad_out) mix_norm_backward_with<T, true>(o, first, last, sums);
    else mix_norm_backward_with<T, false>(o, first, last, sums);
}

// Rotates every query and key head of some tokens, and normalises it if asked; adds value embeddings to the
// values.
template <class T, int DIM>
void heads_of(const Attention<T>& o, int64_t first, int64_t last) {
    const int64_t dim = DIM ? DIM : o.dim, half = dim / 2, all = o.heads + 2 * o.kv_heads;
    for (int64_t token = first; token < last; token++) {
        const int64_t b = token / o.length, t = token % o.length;
        const T* from = o.qkv + token * all * dim;
        const float *cosine = o.cosine + t * half, *sine = o.sine + t * half;
        for (int64_t h = 0; h < o.heads + o.kv_heads; h++) {
            const bool query = h < o.heads;
            float* __restrict to = query ? o.q + ((b * o.heads + h) * o.length + t) * o.padded
                                         : o.k + ((b * o.kv_heads + h - o.heads) * o.length + t) * o.padded;
            const T* x = from + h * dim;
            float squares = 0;
            for (int64_t i = 0; i < half; i++) {
                const float one = load(x[i]), two = load(x[i + half]);
                squares += one * one + two * two;
                to[i] = one * cosine[i] + two * sine[i];
                to[i + half] = two * cosine[i] - one * sine[i];
            }
            if (o.norm) {
                const float scale = 1.0f / __builtin_sqrtf(squares / float(dim) + o.epsilon);
                o.heads_scale[token * (o.heads + o.kv_heads) + h] = scale;
                for (int64_t i = 0; i < dim; i++) to[i] *= scale;
            }
            for (int64_t i = dim; i < o.padded; i++) to[i] = 0;
        }
        for (int64_t h = 0; h < o.kv_heads; h++) {
            float* __restrict to = o.v + ((b * o.kv_heads + h) * o.length + t) * o.padded;
            const T* x = from + (o.heads + o.kv_heads + h) * dim;
            if (o.value) {
                const float gate = o.gate_scale * sigmoid(load(o.gate[token * o.kv_heads + h]));
                const T* value = o.value + (token * o.kv_heads + h) * dim;
                for (int64_t i = 0; i < dim; i++) to[i] = load(x[i]) + gate * load(value[i]);
            } else {
                for (int64_t i = 0; i < dim; i++) to[i] = load(x[i]);
            }
            for (int64_t i = dim; i < o.padded; i++) to[i] = 0;
        }
    }
}

template <class T, int DIM>
void heads_backward_of(const Attention<T>& o, int64_t first, int64_t last) {
    const int64_t dim = DIM ? DIM : o.dim, half = dim / 2, all = o.heads + 2 * o.kv_heads;
    for (int64_t token = first; token < last; token++) {
        const int64_t b = token / o.length, t = token % o.length;
        T* to_token = o.grad_qkv + token * all * dim;
        const float *cosine = o.cosine + t * half, *sine = o.sine + t * half;
        for (int64_t h = 0; h < o.heads + o.kv_heads; h++) {
            const bool query = h < o.heads;
            const int64_t at = query ? ((b * o.heads + h) * o.length + t) * o.padded
                                     : ((b * o.kv_heads + h - o.heads) * o.length + t) * o.padded;
            const float *grad = (query ? o.grad_q : o.grad_k) + at, *y = (query ? o.q : o.k) + at;
            T* __restrict to = to_token + h * dim;
            float dot = 0, scale = 1;
            if (o.norm) {
                for (int64_t i = 0; i < dim; i++) dot += grad[i] * y[i];
                dot /= float(dim);
                scale = o.heads_scale[token * (o.heads + o.kv_heads) + h];
            }
            for (int64_t i = 0; i < half; i++) {
                const float one = scale * (grad[i] - y[i] * dot),
                            two = scale * (grad[i + half] - y[i + half] * dot);
                to[i] = store<T>(one * cosine[i] - two * sine[i]);
                to[i + half] = store<T>(one * sine[i] + two * cosine[i]);
            }
        }
        for (int64_t h = 0; h < o.kv_heads; h++) {
            const float* grad = o.grad_v + ((b * o.kv_heads + h) * o.length + t) * o.padded;
            T* __restrict to = to_token + (o.heads + o.kv_heads + h) * dim;
            for (int64_t i = 0; i < dim; i++) to[i] = store<T>(grad[i]);
            if (o.value) {
                const int64_t at = token * o.kv_heads + h;
                const float open = sigmoid(load(o.gate[at])), gate = o.gate_scale * open;
                const T* value = o.value + at * dim;
                T* __restrict grad_value = o.grad_value + at * dim;
                float dot = 0;
                for (int64_t i = 0; i < dim; i++) {
                    grad_value[i] = store<T>(grad[i] * gate);
                    dot += grad[i] * load(value[i]);
                }
                o.grad_gate[at] = store<T>(dot * gate * (1 - open));
            }
        }
    }
}

template <class T>
void heads(const Attention<T>& o, int64_t first, int64_t last) {
    if (o.dim == 32) heads_of<T, 32>(o, first, last);
    else if (o.dim == 64) heads_of<T, 64>(o, first, last);
    else heads_of<T, 0>(o, first, last);
}

template <class T>
void heads_backward(const Attention<T>& o, int64_t first, int64_t last) {
    if (o.dim == 32) heads_backward_of<T, 32>(o, first, last);
    else if (o.dim == 64) heads_backward_of<T, 64>(o, first, last);
    else heads_backward_of<T, 0>(o, first, last);
}

// to[d][j] = from[j][d], with zeros for j from `count` to `padded_count`.
INLINE void transpose(const float* from, int64_t count, int64_t dim, int64_t stride, float* to,
                      int64_t padded_count) {
    for (int64_t j = 0; j < count; j++)
        for (int64_t d = 0; d < dim; d++) to[d * padded_count + j] = from[j * stride + d];
    for (int64_t d = 0; d < dim; d++)
        for (int64_t j = count; j < padded_count; j++) to[d * padded_count + j] = 0;
}

// Returns the queries of a block. There are fewer for a short window, because a block computes all keys that
// any of its queries sees.
template <class T>
INLINE int64_t block_of(const Attention<T>& o) {
    return o.window <= QUERIES ? QUERIES / 2 : QUERIES;
}

// The range of keys that queries first..first + rows see, widened to whole tiles.
struct Span {
    int64_t begin, end;
};
template <class T>
INLINE Span span(const Attention<T>& o, int64_t first, int64_t rows) {
    const int64_t lowest = first - o.window + 1;
    return {lowest > 0 ? lowest / WIDE * WIDE : 0, (first + rows + WIDE - 1) / WIDE * WIDE};
}
template <class T>
INLINE int64_t lowest_key(const Attention<T>& o, int64_t query) {
    const int64_t lowest = query - o.window + 1;
    return lowest > 0 ? lowest : 0;
}

template <class T>
void attention(const Attention<T>& o, int64_t task, float* scratch) {
    const int64_t length = o.length, padded = o.padded, keys = round_up(length), group = o.heads / o.kv_heads;
    const int64_t queries = block_of(o);
    const int64_t b = task / o.kv_heads, kv = task % o.kv_heads;
    const float *k = o.k + task * length * padded, *v = o.v + task * length * padded;
    float *k_columns = scratch, *scores = k_columns + padded * keys, *block = scores + QUERIES * keys;
    transpose(k, length, o.dim, padded, k_columns, keys);
    for (int64_t head = kv * group; head < (kv + 1) * group; head++) {
        const float* q = o.q + (b * o.heads + head) * length * padded;
        for (int64_t first = 0; first < length; first += queries) {
            const int64_t rows = length - first < queries ? length - first : queries;
            const Span seen = span(o, first, rows);
            const int64_t wide = seen.end - seen.begin;
            product(rows, wide, o.dim, q + first * padded, padded, 1, k_columns + seen.begin, keys, scores,
                    keys, false);
            float inverse[QUERIES];
            for (int64_t r = 0; r < rows; r++) {
                const int64_t query = first + r, low = lowest_key(o, query) - seen.begin,
                              high = query + 1 - seen.begin;
                float* row = scores + r * keys;
                const float top = largest(row + low, high - low) * o.scale, scale = o.scale;
                float sum = 0;
                for (int64_t j = low; j < high; j++) {
                    row[j] = exponential(row[j] * scale - top);
                    sum += row[j];
                }
                // Zeros where this query does not look: the product below runs over all keys of the block.
                for (int64_t j = 0; j < low; j++) row[j] = 0;
                for (int64_t j = high; j < wide; j++) row[j] = 0;
                inverse[r] = 1.0f / sum;
                o.log_sum[(b * o.heads + head) * length + query] = top + __builtin_logf(sum);
            }
            const int64_t deep = first + rows - seen.begin;
            product(rows, padded, deep, scores, keys, 1, v + seen.begin * padded, padded, block, padded,
                    false);
            for (int64_t r = 0; r < rows; r++) {
                T* __restrict out = o.out + ((b * length + first + r) * o.heads + head) * o.dim;
                for (int64_t d = 0; d < o.dim; d++) out[d] = store<T>(block[r * padded + d] * inverse[r]);
            }
        }
    }
}

template <class T>
void attention_backward(const Attention<T>& o, int64_t task, float* scratch) {
    const int64_t length = o.length, padded = o.padded, keys = round_up(length), group = o.heads / o.kv_heads;
    const int64_t queries = block_of(o);
    const int64_t b = task / o.kv_heads, kv = task % o.kv_heads, at = task * length * padded;
    const float *k = o.k + at, *v = o.v + at;
    float *grad_k = o.grad_k + at, *grad_v = o.grad_v + at;
    float *k_columns = scratch, *v_columns = k_columns + padded * keys, *weights = v_columns + padded * keys;
    float *slopes = weights + QUERIES * keys, *grad_block = slopes + QUERIES * keys;
    transpose(k, length, o.dim, padded, k_columns, keys);
    transpose(v, length, o.dim, padded, v_columns, keys);
    for (int64_t i = 0; i < length * padded; i++) grad_k[i] = grad_v[i] = 0;
    for (int64_t head = kv * group; head < (kv + 1) * group; head++) {
        const int64_t at_head = (b * o.heads + head) * length;
        const float* q = o.q + at_head * padded;
        for (int64_t first = 0; first < length; first += queries) {
            const int64_t rows = length - first < queries ? length - first : queries;
            const Span seen = span(o, first, rows);
            const int64_t wide = seen.end - seen.begin, deep = first + rows - seen.begin;
            // Σ grad_out · out by row: the gradient of a softmax subtracts it from the slope of each weight.
            float deltas[QUERIES];
            for (int64_t r = 0; r < rows; r++) {
                const int64_t row = ((b * length + first + r) * o.heads + head) * o.dim;
                float* __restrict to = grad_block + r * padded;
                float dot = 0;
                for (int64_t d = 0; d < o.dim; d++) {
                    to[d] = load(o.grad_out[row + d]);
                    dot += to[d] * load(o.out[row + d]);
                }
                for (int64_t d = o.dim; d < padded; d++) to[d] = 0;
                deltas[r] = dot;
            }
            product(rows, wide, o.dim, q + first * padded, padded, 1, k_columns + seen.begin, keys, weights,
                    keys, false);
            product(rows, wide, o.dim, grad_block, padded, 1, v_columns + seen.begin, keys, slopes, keys,
                    false);
            for (int64_t r = 0; r < rows; r++) {
                const int64_t query = first + r, low = lowest_key(o, query) - seen.begin,
                              high = query + 1 - seen.begin;
                float *__restrict weight = weights + r * keys, *__restrict slope = slopes + r * keys;
                const float sum = o.log_sum[at_head + query], delta = deltas[r], scale = o.scale;
                for (int64_t j = low; j < high; j++) {
                    weight[j] = exponential(weight[j] * scale - sum);
                    slope[j] = weight[j] * (slope[j] - delta) * scale;
                }
                for (int64_t j = 0; j < low; j++) weight[j] = slope[j] = 0;
                for (int64_t j = high; j < wide; j++) weight[j] = slope[j] = 0;
            }
            product(rows, padded, deep, slopes, keys, 1, k + seen.begin * padded, padded,
                    o.grad_q + (at_head + first) * padded, padded, false);
            product(deep, padded, rows, slopes, 1, keys, q + first * padded, padded,
                    grad_k + seen.begin * padded, padded, true);
            product(deep, padded, rows, weights, 1, keys, grad_block, padded, grad_v + seen.begin * padded,
                    padded, true);
        }
    }
}

template <class T>
void cross_entropy(const CrossEntropy<T>& o, int64_t first, int64_t last, float* scratch) {
    const float cap = o.softcap, inverse = cap > 0 ? 1.0f / cap : 0;
    float *__restrict value = scratch, *__restrict slope = scratch + o.columns;
    for (int64_t row = first; row < last; row++) {
        const T* logits = o.logits + row * o.columns;
        const int64_t target = o.targets[row];
        if (cap > 0) {
            for (int64_t i = 0; i < o.columns; i++) {
                const float tanh = 1.0f - 2.0f / (exponential(2.0f * inverse * load(logits[i])) + 1.0f);
                value[i] = cap * tanh;
                slope[i] = 1.0f - tanh * tanh;
            }
        } else {
            for (int64_t i = 0; i < o.columns; i++) {
                value[i] = load(logits[i]);
                slope[i] = 1.0f;
            }
        }
        const float top = largest(value, o.columns), of_target = value[target];
        float sum = 0;
        for (int64_t i = 0; i < o.columns; i++) {
            value[i] = exponential(value[i] - top);
            sum += value[i];
        }
        o.loss[row] = top + __builtin_logf(sum) - of_target;
        if (o.grad) {
            T* __restrict grad = o.grad + row * o.columns;
            const float share = o.factor / sum;
            for (int64_t i = 0; i < o.columns; i++) grad[i] = store<T>(value[i] * slope[i] * share);
            grad[target] = store<T>((value[target] * share - o.factor) * slope[target]);
        }
    }
}

template <class T>
void relu_squared(const T* x, T* __restrict out, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        const float value = load(x[i]), kept = value < 0 ? 0 : value; // NaN is not below 0 and stays
        out[i] = store<T>(kept * kept);
    }
}

template <class T>
void relu_squared_backward(const T* x, const T* grad, T* __restrict out, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        const float value = load(x[i]), kept = value < 0 ? 0 : value;
        out[i] = store<T>(2.0f * kept * load(grad[i]));
    }
}

template <class T>
void swiglu(const T* x, T* __restrict out, int64_t rows, int64_t half) {
    for (int64_t row = 0; row < rows; row++) {
        const T *gate = x + row * 2 * half, *value = gate + half;
        for (int64_t i = 0; i < half; i++) {
            const float z = load(gate[i]);
            out[row * half + i] = store<T>(z * sigmoid(z) * load(value[i]));
        }
    }
}

template <class T>
void swiglu_backward(const T* x, const T* grad, T* __restrict out, int64_t rows, int64_t half) {
    for (int64_t row = 0; row < rows; row++) {
        const T *gate = x + row * 2 * half, *value = gate + half, *slope = grad + row * half;
        T *__restrict to_gate = out + row * 2 * half, *__restrict to_value = to_gate + half;
        for (int64_t i = 0; i < half; i++) {
            const float z = load(gate[i]), open = sigmoid(z), g = load(slope[i]);
            to_gate[i] = store<T>(g * load(value[i]) * open * (1.0f + z * (1.0f - open)));
            to_value[i] = store<T>(g * z * open);
        }
    }
}

template <class T>
void gather(const float* table, const int64_t* tokens, T* out, int64_t rows, int64_t columns) {
    for (int64_t row = 0; row < rows; row++) {
        const float* from = table + tokens[row] * columns;
        T* __restrict to = out + row * columns;
        for (int64_t i = 0; i < columns; i++) to[i] = store<T>(from[i]);
    }
}

template <class T>
void scatter(const T* grad, const int64_t* tokens, float* table, int64_t rows, int64_t columns, int64_t first,
             int64_t last) {
    for (int64_t row = 0; row < rows; row++) {
        const T* from = grad + row * columns;
        float* __restrict to = table + tokens[row] * columns;
        for (int64_t i = first; i < last; i++) to[i] += load(from[i]);
    }
}

void adam(const Adam& o, int64_t first, int64_t last) {
    float *__restrict parameter = o.parameter, *__restrict m = o.first, *__restrict v = o.second;
    for (int64_t i = first; i < last; i++) {
        const float g = o.gradient[i];
        m[i] += (1.0f - o.beta1) * (g - m[i]);
        v[i] += (1.0f - o.beta2) * (g * g - v[i]);
        if (o.moves) {
            const bool decays = !o.cautious || m[i] * parameter[i] >= 0;
            const float kept = parameter[i] * (decays ? 1.0f - o.decay : 1.0f);
            parameter[i] = kept + m[i] / (__builtin_sqrtf(v[i]) * o.denominator_scale + o.epsilon);
        }
    }
}

void momentum(const float* gradient, float* __restrict buffer, float* __restrict direction, float keep,
              bool nesterov, int64_t count) {
    const float ahead = nesterov ? keep : 1.0f;
    for (int64_t i = 0; i < count; i++) {
        buffer[i] += (1.0f - keep) * (gradient[i] - buffer[i]);
        direction[i] = gradient[i] + ahead * (buffer[i] - gradient[i]);
    }
}

void normalise(const NorMuon& o, int64_t matrix) {
    const bool by_row = o.rows >= o.columns;
    const int64_t size = by_row ? o.rows : o.columns, count = by_row ? o.columns : o.rows;
    float *__restrict square = o.factor + matrix * size, *__restrict second = o.second + matrix * size;
    for (int64_t i = 0; i < size; i++) square[i] = 0;
    for (int64_t row = 0; row < o.rows; row++) {
        const float* update = o.update + (matrix * o.rows + row) * o.columns;
        float sum = 0;
        if (by_row) {
            for (int64_t i = 0; i < o.columns; i++) sum += update[i] * update[i];
            square[row] = sum;
        } else {
            for (int64_t i = 0; i < o.columns; i++) square[i] += update[i] * update[i];
        }
    }
    float before = 0, after = 0;
    for (int64_t i = 0; i < size; i++) {
        const float mean = square[i] / float(count);
        second[i] += o.fresh * (mean - second[i]);
        const float factor = 1.0f / __builtin_sqrtf(second[i] < 1e-10f ? 1e-10f : second[i]);
        before += mean;
        after += mean * factor * factor;
        square[i] = factor;
    }
    const float norm = __builtin_sqrtf(after * float(count));
    const float restored = __builtin_sqrtf(before * float(count)) / (norm < 1e-10f ? 1e-10f : norm);
    for (int64_t i = 0; i < size; i++) square[i] *= restored;
}

void apply(const MuonApply& o, int64_t matrix) {
    for (int64_t row = 0; row < o.rows; row++) {
        float* __restrict parameter = o.parameter + matrix * o.stride + row * o.columns;
        const float* update = o.update + (matrix * o.rows + row) * o.columns;
        const float by_row = o.factor && o.factor_by_row ? o.factor[matrix * o.rows + row] : 1.0f;
        const float* by_column = o.factor && !o.factor_by_row ? o.factor + matrix * o.columns : nullptr;
        for (int64_t i = 0; i < o.columns; i++) {
            const float u = update[i] * by_row * (by_column ? by_column[i] : 1.0f);
            const bool decays = !o.cautious || u * parameter[i] >= 0;
            parameter[i] -= o.rate * (u + (decays ? o.decay * parameter[i] : 0.0f));
        }
    }
}

template <class T>
constexpr Kernels<T> kernels = {
    mix_norm<T>, mix_norm_backward<T>, heads<T>, attention<T>,
    attention_backward<T>, heads_backward<T>, cross_entropy<T>, relu_squared<T>,
    relu_squared_backward<T>, swiglu<T>, swiglu_backward<T>, gather<T>, scatter<T>};

} // namespace

namespace LEVEL {
extern const Kernels<float> float_kernels = kernels<float>;
extern const Kernels<Brain> brain_kernels = kernels<Brain>;
extern const OptimizerKernels optimizer_kernels = {adam, momentum, normalise, apply};
} // namespace LEVEL

} // namespace autoswarm
