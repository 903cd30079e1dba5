// The C interface of the trainer's fused operations for src/shim.rs, and those of a CPU as autograd
// functions.
//
// Every function returns new tensors, or returns a failure and keeps a message. Inputs are what src/shim.rs
// checked: contiguous, f32 or bf16 on a CPU, bf16 on a GPU. Not here: the autograd functions of a GPU
// (cuda.cpp).
#include "cuda.h"
#include "guard.h"
#include "shim.h"

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#ifdef __GLIBC__
#include <malloc.h>
#endif
#ifdef __x86_64__
#include <cpuid.h>
#endif

namespace autoswarm {

thread_local std::string message;

namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// The elements of a row-wise loop below which a second thread costs more than it brings.
constexpr int64_t GRAIN = 16384;

// Returns the x86-64 level of the kernels: what the CPU has, or less if AUTOSWARM_CPU_LEVEL says so, for
// tests.
int level() {
#ifdef __x86_64__
    static const int found = [] {
        __builtin_cpu_init();
        const char* asked = getenv("AUTOSWARM_CPU_LEVEL");
        const int most = asked ? atoi(asked) : 4;
        if (most >= 4 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
            __builtin_cpu_supports("avx512cd"))
            return 4;
        if (most >= 3 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
            __builtin_cpu_supports("bmi2"))
            return 3;
        return 0;
    }();
    return found;
#else
    return 0;
#endif
}

#ifdef __x86_64__
#define CHOOSE(TABLE) (level() == 4 ? v4::TABLE : level() == 3 ? v3::TABLE : base::TABLE)
#else
#define CHOOSE(TABLE) base::TABLE
#endif

template <class T>
const Kernels<T>& kernels();
template <>
const Kernels<float>& kernels<float>() {
    return CHOOSE(float_kernels);
}
template <>
const Kernels<Brain>& kernels<Brain>() {
    return CHOOSE(brain_kernels);
}
const OptimizerKernels& optimizer_kernels() { return CHOOSE(optimizer_kernels); }

// Calls `of` with a value of the number type of the tensor.
template <class F>
auto by_type(const Tensor& tensor, F of) {
    return tensor.scalar_type() == at::kBFloat16 ? of(Brain{}) : of(float{});
}

template <class T>
T* data(const Tensor& tensor) {
    return tensor.defined() ? static_cast<T*>(tensor.data_ptr()) : nullptr;
}

int64_t grain(int64_t columns) { return std::max<int64_t>(1, GRAIN / std::max<int64_t>(1, columns)); }

Tensor floats(at::IntArrayRef size) { return at::empty(size, at::TensorOptions().dtype(at::kFloat)); }

// Fails if a token is not a row of the table or a column of the logits, because the kernels use it as an
// address.
void check_tokens(const Tensor& tokens, int64_t count) {
    const int64_t* token = tokens.data_ptr<int64_t>();
    for (int64_t i = 0; i < tokens.numel(); i++)
        TORCH_CHECK(token[i] >= 0 && token[i] < count, "token ", token[i], " is outside a vocabulary of ",
                    count);
}

struct MixNormFunction : torch::autograd::Function<MixNormFunction> {
    static variable_list forward(AutogradContext* context, const Tensor& x, const Maybe& delta_,
                                 const Maybe& x0_, const Maybe& a_, const Maybe& b_, double epsilon) {
        const Tensor delta = of(delta_), x0 = of(x0_), a = of(a_), b = of(b_);
        const int64_t columns = x.size(-1), rows = x.numel() / columns;
        const bool mixes = delta.defined() || x0.defined();
        Tensor y = at::empty_like(x), scale = floats({rows});
        Tensor out = mixes ? at::empty_like(x) : y;
        by_type(x, [&](auto type) {
            using T = decltype(type);
            const MixNorm<T> o{data<T>(x), data<T>(delta), data<T>(x0), x0.defined() ? a.item<float>() : 1,
                               x0.defined() ? b.item<float>() : 0, float(epsilon), columns, data<T>(out),
                               data<T>(y), data<float>(scale)};
            at::parallel_for(0, rows, grain(columns),
                             [&](int64_t first, int64_t last) { kernels<T>().mix_norm(o, first, last); });
        });
        // The earlier stream is needed only for the gradients of the factors.
        context->save_for_backward(
            {x0.defined() ? x : Tensor(), x0.defined() ? delta : Tensor(), x0, a, b, y, scale});
        context->saved_data["delta"] = delta.defined();
        context->set_materialize_grads(false);
        return mixes ? variable_list{y, out} : variable_list{y};
    }

    static variable_list backward(AutogradContext* context, const variable_list& grads) {
        const auto saved = context->get_saved_variables();
        const Tensor &x = saved[0], &delta = saved[1], &x0 = saved[2], &a = saved[3], &b = saved[4],
                     &y = saved[5];
        const Tensor grad_y = grads[0].defined() ? grads[0].contiguous() : at::zeros_like(y);
        const Tensor grad_out = grads.size() > 1 ? whole(grads[1]) : Tensor();
        const int64_t columns = y.size(-1), rows = y.numel() / columns;
        Tensor grad_x = at::empty_like(y), grad_x0 = x0.defined() ? at::empty_like(y) : Tensor();
        // Each thread has 128 bytes, so that no two write to one cache line, and uses two numbers of them.
        std::vector<double> sums(16 * size_t(at::get_num_threads()));
        by_type(y, [&](auto type) {
            using T = decltype(type);
            const MixNormBackward<T> o{data<T>(x), data<T>(delta), data<T>(x0), data<T>(y), data<T>(grad_out),
                                       data<T>(grad_y), data<float>(saved[6]),
                                       x0.defined() ? a.item<float>() : 1, x0.defined() ? b.item<float>() : 0,
                                       columns, data<T>(grad_x), data<T>(grad_x0)};
            at::parallel_for(0, rows, grain(columns), [&](int64_t first, int64_t last) {
                kernels<T>().mix_norm_backward(o, first, last, &sums[16 * size_t(at::get_thread_num())]);
            });
        });
        Tensor grad_a, grad_b;
        if (x0.defined()) {
            double sum_a = 0, sum_b = 0;
            for (size_t i = 0; i < sums.size(); i += 16) sum_a += sums[i], sum_b += sums[i + 1];
            grad_a = at::full({}, sum_a, a.options());
            grad_b = at::full({}, sum_b, b.options());
        }
        const bool has_delta = context->saved_data["delta"].toBool();
        return {grad_x, has_delta ? grad_x : Tensor(), grad_x0, grad_a, grad_b, Tensor()};
    }
};

template <class T>
Attention<T> attention_of(const Sizes& s, const Tensor& value, const Tensor& gate, const Tensor& cosine,
                          const Tensor& sine, const Tensor& q, const Tensor& k, const Tensor& v,
                          const Tensor& scale, const Tensor& log_sum, const Tensor& out) {
    Attention<T> o{};
    o.value = data<T>(value), o.gate = data<T>(gate), o.cosine = data<float>(cosine),
    o.sine = data<float>(sine);
    o.batch = s.batch, o.length = s.length, o.heads = s.heads, o.kv_heads = s.kv_heads, o.dim = s.dim;
    o.padded = s.padded(), o.window = s.window;
    o.gate_scale = float(s.gate_scale), o.scale = float(s.scale), o.epsilon = float(s.epsilon),
    o.norm = s.norm;
    o.q = data<float>(q), o.k = data<float>(k), o.v = data<float>(v);
    o.heads_scale = data<float>(scale), o.log_sum = data<float>(log_sum), o.out = data<T>(out);
    return o;
}

// Runs one task per key head of a sequence, each thread with its own scratch.
template <class F>
void by_key_head(const Sizes& s, F of) {
    at::parallel_for(0, s.batch * s.kv_heads, 1, [&](int64_t first, int64_t last) {
        static thread_local std::vector<float> scratch;
        scratch.resize(size_t(attention_scratch(s.length, s.padded())));
        for (int64_t task = first; task < last; task++) of(task, scratch.data());
    });
}

struct AttentionFunction : torch::autograd::Function<AttentionFunction> {
    static Tensor forward(AutogradContext* context, const Tensor& qkv, const Maybe& value_,
                          const Maybe& gate_, const Tensor& cosine, const Tensor& sine, const Sizes& s) {
        const Tensor value = of(value_), gate = of(gate_);
        const int64_t tokens = s.batch * s.length, padded = s.padded();
        Tensor q = floats({s.batch, s.heads, s.length, padded}),
               k = floats({s.batch, s.kv_heads, s.length, padded});
        Tensor v = at::empty_like(k), scale = floats({tokens, s.heads + s.kv_heads});
        Tensor log_sum = floats({s.batch, s.heads, s.length});
        Tensor out = at::empty({tokens, s.heads * s.dim}, qkv.options());
        by_type(qkv, [&](auto type) {
            using T = decltype(type);
            auto o = attention_of<T>(s, value, gate, cosine, sine, q, k, v, scale, log_sum, out);
            o.qkv = data<T>(qkv);
            at::parallel_for(0, tokens, grain(qkv.size(1)),
                             [&](int64_t first, int64_t last) { kernels<T>().heads(o, first, last); });
            by_key_head(s, [&](int64_t task, float* scratch) { kernels<T>().attention(o, task, scratch); });
        });
        context->save_for_backward({value, gate, cosine, sine, q, k, v, scale, log_sum, out});
        const std::vector<int64_t> sizes{s.batch, s.length, s.heads, s.kv_heads, s.dim, s.window, s.norm};
        context->saved_data["sizes"] = sizes;
        context->saved_data["scales"] = std::vector<double>{s.gate_scale, s.scale, s.epsilon};
        return out;
    }

    static variable_list backward(AutogradContext* context, const variable_list& grads) {
        const auto saved = context->get_saved_variables();
        const auto n = context->saved_data["sizes"].toIntVector();
        const auto d = context->saved_data["scales"].toDoubleVector();
        const Sizes s{n[0], n[1], n[2], n[3], n[4], n[5], d[0], d[1], d[2], n[6] != 0};
        const Tensor &value = saved[0], &gate = saved[1], &q = saved[4], &k = saved[5], &v = saved[6],
                     &out = saved[9];
        const Tensor grad_out = grads[0].contiguous();
        const int64_t tokens = s.batch * s.length, columns = (s.heads + 2 * s.kv_heads) * s.dim;
        Tensor grad_q = at::empty_like(q), grad_k = at::empty_like(k), grad_v = at::empty_like(v);
        Tensor grad_qkv = at::empty({tokens, columns}, out.options());
        Tensor grad_value = value.defined() ? at::empty_like(value) : Tensor();
        Tensor grad_gate = value.defined() ? at::empty_like(gate) : Tensor();
        by_type(out, [&](auto type) {
            using T = decltype(type);
            auto o = attention_of<T>(s, value, gate, saved[2], saved[3], q, k, v, saved[7], saved[8], out);
            o.grad_out = data<T>(grad_out);
            o.grad_q = data<float>(grad_q), o.grad_k = data<float>(grad_k), o.grad_v = data<float>(grad_v);
            o.grad_qkv = data<T>(grad_qkv), o.grad_value = data<T>(grad_value),
            o.grad_gate = data<T>(grad_gate);
            by_key_head(s, [&](int64_t task, float* scratch) {
                kernels<T>().attention_backward(o, task, scratch);
            });
            at::parallel_for(0, tokens, grain(columns), [&](int64_t first, int64_t last) {
                kernels<T>().heads_backward(o, first, last);
            });
        });
        return {grad_qkv, grad_value, grad_gate, Tensor(), Tensor(), Tensor()};
    }
};

// Returns the loss of each row. If `grad` is given, it gets the gradient of the weighted mean on the way.
Tensor cross_entropy_rows(const Tensor& logits, const Tensor& targets, double softcap, double weight,
                          Tensor* grad) {
    const int64_t rows = logits.size(0), columns = logits.size(1);
    check_tokens(targets, columns);
    Tensor loss = floats({rows});
    by_type(logits, [&](auto type) {
        using T = decltype(type);
        const CrossEntropy<T> o{data<T>(logits), targets.data_ptr<int64_t>(), columns, float(softcap),
                                float(weight) / float(rows), data<float>(loss),
                                grad ? data<T>(*grad) : nullptr};
        at::parallel_for(0, rows, grain(columns), [&](int64_t first, int64_t last) {
            static thread_local std::vector<float> scratch;
            scratch.resize(size_t(2 * columns));
            kernels<T>().cross_entropy(o, first, last, scratch.data());
        });
    });
    return loss;
}

struct CrossEntropyFunction : torch::autograd::Function<CrossEntropyFunction> {
    static Tensor forward(AutogradContext* context, const Tensor& logits, const Tensor& targets,
                          double softcap, double weight, bool learns) {
        Tensor grad = learns ? at::empty_like(logits) : Tensor();
        const Tensor loss = cross_entropy_rows(logits, targets, softcap, weight, learns ? &grad : nullptr);
        context->save_for_backward({grad});
        return loss.mean() * weight;
    }

    static variable_list backward(AutogradContext* context, const variable_list& grads) {
        const Tensor grad = context->get_saved_variables()[0];
        const float factor = grads[0].item<float>();
        return {factor == 1.0f ? grad : grad * factor, Tensor(), Tensor(), Tensor(), Tensor()};
    }
};

struct ReluSquaredFunction : torch::autograd::Function<ReluSquaredFunction> {
    static Tensor forward(AutogradContext* context, const Tensor& x) {
        Tensor out = at::empty_like(x);
        by_type(x, [&](auto type) {
            using T = decltype(type);
            at::parallel_for(0, x.numel(), GRAIN, [&](int64_t first, int64_t last) {
                kernels<T>().relu_squared(data<T>(x) + first, data<T>(out) + first, last - first);
            });
        });
        context->save_for_backward({x});
        return out;
    }

    static variable_list backward(AutogradContext* context, const variable_list& grads) {
        const Tensor x = context->get_saved_variables()[0], grad = grads[0].contiguous();
        Tensor out = at::empty_like(x);
        by_type(x, [&](auto type) {
            using T = decltype(type);
            at::parallel_for(0, x.numel(), GRAIN, [&](int64_t first, int64_t last) {
                kernels<T>().relu_squared_backward(data<T>(x) + first, data<T>(grad) + first,
                                                   data<T>(out) + first, last - first);
            });
        });
        return {out};
    }
};

struct SwigluFunction : torch::autograd::Function<SwigluFunction> {
    static Tensor forward(AutogradContext* context, const Tensor& x) {
        const int64_t rows = x.size(0), half = x.size(1) / 2;
        Tensor out = at::empty({rows, half}, x.options());
        by_type(x, [&](auto type) {
            using T = decltype(type);
            at::parallel_for(0, rows, grain(2 * half), [&](int64_t first, int64_t last) {
                kernels<T>().swiglu(data<T>(x) + first * 2 * half, data<T>(out) + first * half, last - first,
                                    half);
            });
        });
        context->save_for_backward({x});
        return out;
    }

    static variable_list backward(AutogradContext* context, const variable_list& grads) {
        const Tensor x = context->get_saved_variables()[0], grad = grads[0].contiguous();
        const int64_t rows = x.size(0), half = x.size(1) / 2;
        Tensor out = at::empty_like(x);
        by_type(x, [&](auto type) {
            using T = decltype(type);
            at::parallel_for(0, rows, grain(2 * half), [&](int64_t first, int64_t last) {
                kernels<T>().swiglu_backward(data<T>(x) + first * 2 * half, data<T>(grad) + first * half,
                                             data<T>(out) + first * 2 * half, last - first, half);
            });
        });
        return {out};
    }
};

struct GatherFunction : torch::autograd::Function<GatherFunction> {
    static Tensor forward(AutogradContext* context, const Tensor& table, const Tensor& tokens, bool brain) {
        const int64_t rows = tokens.numel(), columns = table.size(1);
        check_tokens(tokens, table.size(0));
        Tensor out = at::empty({rows, columns}, table.options().dtype(brain ? at::kBFloat16 : at::kFloat));
        by_type(out, [&](auto type) {
            using T = decltype(type);
            at::parallel_for(0, rows, grain(columns), [&](int64_t first, int64_t last) {
                kernels<T>().gather(data<float>(table), tokens.data_ptr<int64_t>() + first,
                                    data<T>(out) + first * columns, last - first, columns);
            });
        });
        context->save_for_backward({tokens});
        context->saved_data["rows"] = table.size(0);
        return out;
    }

    static variable_list backward(AutogradContext* context, const variable_list& grads) {
        const Tensor tokens = context->get_saved_variables()[0], grad = grads[0].contiguous();
        const int64_t columns = grad.size(1), rows = grad.size(0);
        Tensor table =
            at::zeros({context->saved_data["rows"].toInt(), columns}, grad.options().dtype(at::kFloat));
        by_type(grad, [&](auto type) {
            using T = decltype(type);
            // Divided by columns, in whole cache lines: tokens repeat, so two threads that divided the rows
            // would meet in one row of the table.
            at::parallel_for(0, (columns + 15) / 16, std::max<int64_t>(1, GRAIN / (16 * rows)),
                             [&](int64_t first, int64_t last) {
                                 kernels<T>().scatter(data<T>(grad), tokens.data_ptr<int64_t>(),
                                                      data<float>(table), rows, columns, first * 16,
                                                      std::min(last * 16, columns));
                             });
        });
        return {table, Tensor(), Tensor()};
    }
};

Maybe optional(const Tensor* tensor) { return tensor ? Maybe(*tensor) : std::nullopt; }
bool on_gpu(const Tensor& x) { return cuda::takes(x, x.scalar_type()); }
Tensor or_none(const Tensor* tensor) { return tensor ? *tensor : Tensor(); }

} // namespace
} // namespace autoswarm

using namespace autoswarm;

extern "C" {

const char* autoswarm_message() { return message.c_str(); }

int autoswarm_level() { return level(); }

// Keeps freed memory in the process, and lets oneDNN compute f32 products where it is faster than MKL and as
// exact.
void autoswarm_prepare() {
#ifdef __GLIBC__
    mallopt(M_MMAP_THRESHOLD, 1 << 30);
    mallopt(M_TRIM_THRESHOLD, 2047 << 20);
    mallopt(M_TOP_PAD, 64 << 20);
#endif
#ifdef __x86_64__
    // On CPUs that are not Intel's, MKL computes with AVX2. oneDNN's fast path is open only to those who
    // allow bf16 inside. Where the CPU has no matrix unit it computes in f32 all the same; where it has one,
    // we do not ask for it.
    unsigned a = 0, b = 0, c = 0, d = 0;
    const bool intel = __get_cpuid(0, &a, &b, &c, &d) && b == signature_INTEL_ebx;
    const bool matrix_unit = __get_cpuid_count(7, 0, &a, &b, &c, &d) && ((d >> 22) & 1);
    if (level() == 4 && !intel && !matrix_unit)
        at::globalContext().setFloat32Precision(at::Float32Backend::MKLDNN, at::Float32Op::MATMUL,
                                                at::Float32Precision::BF16);
#endif
}

int autoswarm_mix_norm(Tensor** out, const Tensor* x, const Tensor* delta, const Tensor* x0, const Tensor* a,
                       const Tensor* b, double epsilon) {
    return guarded([&] {
        auto made = on_gpu(*x)
                        ? cuda::mix_norm(*x, or_none(delta), or_none(x0), or_none(a), or_none(b), epsilon)
                        : MixNormFunction::apply(*x, optional(delta), optional(x0), optional(a), optional(b),
                                                 epsilon);
        out[0] = new Tensor(made[0]);
        out[1] = new Tensor(made.size() > 1 ? made[1] : *x);
    });
}

int autoswarm_attention(Tensor** out, const Tensor* qkv, const Tensor* value, const Tensor* gate,
                        const Tensor* cosine, const Tensor* sine, const int64_t* sizes,
                        const double* scales) {
    return guarded([&] {
        const Sizes s{sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5],
                      scales[0], scales[1], scales[2], sizes[6] != 0};
        *out = new Tensor(
            on_gpu(*qkv)
                ? cuda::attention(*qkv, or_none(value), or_none(gate), *cosine, *sine, s)
                : AttentionFunction::apply(*qkv, optional(value), optional(gate), *cosine, *sine, s));
    });
}

// A weight of 0 asks for the loss of each row.
int autoswarm_cross_entropy(Tensor** out, const Tensor* logits, const Tensor* targets, double softcap,
                            double weight) {
    return guarded([&] {
        const bool learns = at::GradMode::is_enabled() && logits->requires_grad();
        if (on_gpu(*logits))
            *out = new Tensor(weight != 0 ? cuda::cross_entropy(*logits, *targets, softcap, weight)
                                          : cuda::cross_entropy_rows(*logits, *targets, softcap));
        else
            *out = new Tensor(weight != 0
                                  ? CrossEntropyFunction::apply(*logits, *targets, softcap, weight, learns)
                                  : cross_entropy_rows(*logits, *targets, softcap, 0, nullptr));
    });
}

int autoswarm_relu_squared(Tensor** out, const Tensor* x) {
    return guarded(
        [&] { *out = new Tensor(on_gpu(*x) ? cuda::relu_squared(*x) : ReluSquaredFunction::apply(*x)); });
}

int autoswarm_swiglu(Tensor** out, const Tensor* x) {
    return guarded([&] { *out = new Tensor(on_gpu(*x) ? cuda::swiglu(*x) : SwigluFunction::apply(*x)); });
}

int autoswarm_gather(Tensor** out, const Tensor* table, const Tensor* tokens, int brain) {
    return guarded([&] {
        *out = new Tensor(cuda::takes(*table, brain ? at::kBFloat16 : at::kFloat)
                              ? cuda::gather(*table, *tokens)
                              : GatherFunction::apply(*table, *tokens, brain != 0));
    });
}

int autoswarm_adam(Tensor* parameter, const Tensor* gradient, Tensor* first, Tensor* second, const double* n,
                   int cautious, int moves) {
    return guarded([&] {
        const Adam o{data<float>(*parameter), data<float>(*first), data<float>(*second),
                     data<float>(*gradient), float(n[0]), float(n[1]), float(n[2]), float(n[3]), float(n[4]),
                     cautious != 0, moves != 0};
        at::parallel_for(0, parameter->numel(), GRAIN,
                         [&](int64_t begin, int64_t end) { optimizer_kernels().adam(o, begin, end); });
    });
}

// gradient [n, rows, columns] is a slice of a contiguous stack; momentum and direction are dense.
int autoswarm_muon_momentum(const Tensor* gradient, Tensor* momentum, Tensor* direction, double keep,
                            int nesterov) {
    return guarded([&] {
        const int64_t each = gradient->size(1) * gradient->size(2), stride = gradient->stride(0);
        at::parallel_for(0, gradient->size(0), grain(each), [&](int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; i++)
                optimizer_kernels().momentum(
                    data<float>(*gradient) + i * stride, data<float>(*momentum) + i * each,
                    data<float>(*direction) + i * each, float(keep), nesterov != 0, each);
        });
    });
}

// update [n, rows, columns], and second and factor [n, rows, 1] or [n, 1, columns], are dense.
int autoswarm_muon_normalise(Tensor** out, const Tensor* update, Tensor* second, double beta2) {
    return guarded([&] {
        Tensor factor = at::empty_like(*second);
        const int64_t rows = update->size(1), columns = update->size(2);
        const NorMuon o{data<float>(*update), data<float>(*second), data<float>(factor), rows, columns,
                        float(1 - beta2)};
        at::parallel_for(0, update->size(0), grain(rows * columns), [&](int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; i++) optimizer_kernels().normalise(o, i);
        });
        *out = new Tensor(factor);
    });
}

// matrices [n, rows, columns] are dense.
int autoswarm_orthogonalise(Tensor* matrices, const double* quintics, int64_t iterations) {
    return guarded([&] {
        const int64_t rows = matrices->size(1), columns = matrices->size(2);
        const int64_t longer = std::max(rows, columns), shorter = std::min(rows, columns),
                      padded = (shorter + 31) / 32 * 32;
        const Orthogonalise o{
            data<float>(*matrices), rows, columns, longer, shorter, padded, quintics, iterations};
        at::parallel_for(0, matrices->size(0), 1, [&](int64_t begin, int64_t end) {
            static thread_local std::vector<float> scratch;
            scratch.resize(size_t(2 * padded * (longer + padded)));
            for (int64_t i = begin; i < end; i++) CHOOSE(orthogonalise)(o, i, scratch.data());
        });
    });
}

// parameter [n, rows, columns] is a slice of a contiguous stack; update is dense; factor is [n, rows, 1] or
// [n, 1, columns].
int autoswarm_muon_apply(Tensor* parameter, const Tensor* update, const Tensor* factor, double rate,
                         double decay, int cautious) {
    return guarded([&] {
        const MuonApply o{data<float>(*parameter), data<float>(*update),
                          factor ? data<float>(*factor) : nullptr, factor && factor->size(2) == 1,
                          cautious != 0, parameter->size(1), parameter->size(2), parameter->stride(0),
                          float(rate), float(decay)};
        at::parallel_for(0, parameter->size(0), grain(o.rows * o.columns), [&](int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; i++) optimizer_kernels().apply(o, i);
        });
    });
}
}
