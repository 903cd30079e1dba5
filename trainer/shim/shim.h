// The interface between the trainer's fused CPU operations (shim.cpp) and the kernels below them
// (kernels.cpp).
//
// kernels.cpp is compiled once per instruction set, and includes nothing from ATen or the standard library.
// So no inline function of theirs can end up in the binary in a form that needs a CPU which the machine does
// not have.
#pragma once

#include <stdint.h>

namespace autoswarm {

// The bits of a bf16 number.
struct Brain {
    uint16_t bits;
};

// By row: out = a (x + delta) + b x0 and y = out / rms(out). delta and x0 may be null.
template <class T>
struct MixNorm {
    const T *x, *delta, *x0;
    float a, b, epsilon;
    int64_t columns;
    T *out, *y;
    float* scale; // 1 / rms, by row
};

// The gradients of MixNorm. grad_out may be null. x0 may be null too, and then so are x, delta and grad_x0.
template <class T>
struct MixNormBackward {
    const T *x, *delta, *x0, *y, *grad_out, *grad_y;
    const float* scale;
    float a, b;
    int64_t columns;
    T *grad_x, *grad_x0;
};

// Rotation, QK norm, value embeddings and causal attention over a window. The input is the joint projection
// [N, (H + 2 K) D]. Heads are kept in f32, and their dimension is padded with zeros to `padded`, a multiple
// of 32.
template <class T>
struct Attention {
    const T *qkv, *value, *gate; // value [N, K D] and gate [N, K] may be null
    const float *cosine, *sine;  // [positions, D / 2]
    int64_t batch, length, heads, kv_heads, dim, padded, window;
    float gate_scale, scale, epsilon;
    bool norm;
    float *q, *k, *v;      // [B, heads, T, padded]
    float *heads_scale;    // 1 / rms of each query and key head, [N, H + K]
    float *log_sum;        // [B, H, T]
    T* out;                // [N, H D]
    // For the backward pass alone.
    const T* grad_out;        // [N, H D]
    float *grad_q, *grad_k, *grad_v;
    T *grad_qkv, *grad_value, *grad_gate;
};

// Softcap and cross-entropy by row. grad may be null; else it gets the gradient of factor · Σ loss.
template <class T>
struct CrossEntropy {
    const T* logits;
    const int64_t* targets;
    int64_t columns;
    float softcap, factor; // softcap 0: none
    float* loss;
    T* grad;
};

struct Adam {
    float *parameter, *first, *second;
    const float* gradient;
    float beta1, beta2, decay, denominator_scale, epsilon; // as src/optimizer/adamw.rs has them
    bool cautious, moves;
};

// Muon's update of rows of `columns` numbers. The update is dense. The matrices of the parameter lie `stride`
// apart.
struct MuonApply {
    float* parameter;
    const float* update;
    const float* factor; // per row or per column of each matrix, or null
    bool factor_by_row, cautious;
    int64_t rows, columns, stride;
    float rate, decay;
};

// NorMuon's factors, which divide by the root of a running mean square and restore the norm of each matrix.
// They are by row for matrices that are no wider than tall, else by column. `second` is the running mean;
// matrices and numbers are dense.
struct NorMuon {
    const float* update;
    float *second, *factor;
    int64_t rows, columns;
    float fresh; // the weight of a new mean square
};

// Stacked matrices of rows × columns. Each is replaced by the nearest one whose singular values are all near
// 1. Every iteration applies an odd quintic a x + b x³ + c x⁵; the quintics are `iterations` triples.
struct Orthogonalise {
    float* matrices;
    int64_t rows, columns, longer, shorter;
    int64_t padded; // the shorter side, padded with zeros to a multiple of 32
    const double* quintics;
    int64_t iterations;
};

template <class T>
struct Kernels {
    void (*mix_norm)(const MixNorm<T>&, int64_t first, int64_t last);
    // Adds Σ g (x + delta) and Σ g x0 to sums[0] and sums[1].
    void (*mix_norm_backward)(const MixNormBackward<T>&, int64_t first, int64_t last, double* sums);
    void (*heads)(const Attention<T>&, int64_t first, int64_t last);          // tokens
    void (*attention)(const Attention<T>&, int64_t task, float* scratch);     // one key head of one sequence
    void (*attention_backward)(const Attention<T>&, int64_t task, float* scratch);
    void (*heads_backward)(const Attention<T>&, int64_t first, int64_t last); // tokens
    void (*cross_entropy)(const CrossEntropy<T>&, int64_t first, int64_t last, float* scratch);
    void (*relu_squared)(const T* x, T* out, int64_t count);
    void (*relu_squared_backward)(const T* x, const T* grad, T* out, int64_t count);
    void (*swiglu)(const T* x, T* out, int64_t rows, int64_t half);
    void (*swiglu_backward)(const T* x, const T* grad, T* out, int64_t rows, int64_t half);
    void (*gather)(const float* table, const int64_t* tokens, T* out, int64_t rows, int64_t columns);
    // Adds columns first..last of each row of grad to the row of its token.
    void (*scatter)(const T* grad, const int64_t* tokens, float* table, int64_t rows, int64_t columns,
                    int64_t first, int64_t last);
};

struct OptimizerKernels {
    void (*adam)(const Adam&, int64_t first, int64_t last);
    void (*momentum)(const float* gradient, float* momentum, float* direction, float keep, bool nesterov,
                     int64_t count);
    void (*normalise)(const NorMuon&, int64_t matrix);
    void (*apply)(const MuonApply&, int64_t matrix);
};

// Returns the floats of scratch that attention and its gradient need.
inline int64_t attention_scratch(int64_t length, int64_t padded) {
    const int64_t keys = (length + 31) / 32 * 32;
    return 2 * padded * keys + 2 * 32 * keys + 4 * 32 * padded;
}

#define AUTOSWARM_KERNELS(NAME)                   \
    namespace NAME {                              \
    extern const Kernels<float> float_kernels;    \
    extern const Kernels<Brain> brain_kernels;    \
    extern const OptimizerKernels optimizer_kernels; \
    void orthogonalise(const Orthogonalise&, int64_t matrix, float* scratch); \
    }
AUTOSWARM_KERNELS(base)
AUTOSWARM_KERNELS(v3)
AUTOSWARM_KERNELS(v4)
#undef AUTOSWARM_KERNELS

} // namespace autoswarm
