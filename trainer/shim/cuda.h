// The fused operations on a GPU (cuda.cpp). shim.cpp chooses them for tensors on a GPU.
#pragma once

#include <ATen/ATen.h>

#include <optional>
#include <vector>

namespace autoswarm {

// Maybe is what an autograd function takes for a tensor that may be missing. `of` returns the tensor,
// undefined if it is missing; `whole` makes a tensor contiguous.
using Maybe = std::optional<at::Tensor>;
inline at::Tensor of(const Maybe& tensor) { return tensor ? *tensor : at::Tensor(); }
inline at::Tensor whole(const at::Tensor& tensor) { return tensor.defined() ? tensor.contiguous() : tensor; }

// The sizes and factors of attention.
struct Sizes {
    int64_t batch, length, heads, kv_heads, dim, window;
    double gate_scale, scale, epsilon;
    bool norm;

    int64_t padded() const { return (dim + 31) / 32 * 32; }
};

namespace cuda {

using at::Tensor;

// Returns whether an operation that computes in `type` from `x` runs here.
bool takes(const Tensor& x, at::ScalarType type);

// Inputs are as in shim.cpp: contiguous bf16, except for tables and angles. A tensor that may be missing is
// undefined then.
std::vector<Tensor> mix_norm(const Tensor& x, const Tensor& delta, const Tensor& x0, const Tensor& a,
                             const Tensor& b, double epsilon);
Tensor attention(const Tensor& qkv, const Tensor& value, const Tensor& gate, const Tensor& cosine,
                 const Tensor& sine, const Sizes& sizes);
Tensor cross_entropy(const Tensor& logits, const Tensor& targets, double softcap, double weight);
Tensor cross_entropy_rows(const Tensor& logits, const Tensor& targets, double softcap);
Tensor relu_squared(const Tensor& x);
Tensor swiglu(const Tensor& x);
Tensor gather(const Tensor& table, const Tensor& tokens);

} // namespace cuda
} // namespace autoswarm
