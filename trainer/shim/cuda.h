// The fused operations on a GPU (cuda.cpp), which shim.cpp chooses where the tensors lie on one.
#pragma once

#include <ATen/ATen.h>

#include <optional>
#include <vector>

namespace autoswarm {

// What an autograd function takes for a tensor that may be missing, and that tensor, undefined where it is.
using Maybe = std::optional<at::Tensor>;
inline at::Tensor of(const Maybe& tensor) { return tensor ? *tensor : at::Tensor(); }
inline at::Tensor whole(const at::Tensor& tensor) { return tensor.defined() ? tensor.contiguous() : tensor; }

// What attention needs to know beside its tensors.
struct Sizes {
    int64_t batch, length, heads, kv_heads, dim, window;
    double gate_scale, scale, epsilon;
    bool norm;

    int64_t padded() const { return (dim + 31) / 32 * 32; }
};

namespace cuda {

using at::Tensor;

// Whether what computes in `type` from a tensor runs here.
bool takes(const Tensor& x, at::ScalarType type);

// Inputs as in shim.cpp, all of them contiguous bf16 but for tables and angles; what may be missing is undefined.
std::vector<Tensor> mix_norm(const Tensor& x, const Tensor& delta, const Tensor& x0, const Tensor& a, const Tensor& b, double epsilon);
Tensor attention(const Tensor& qkv, const Tensor& value, const Tensor& gate, const Tensor& cosine, const Tensor& sine, const Sizes& sizes);
Tensor cross_entropy(const Tensor& logits, const Tensor& targets, double softcap, double weight);
Tensor cross_entropy_rows(const Tensor& logits, const Tensor& targets, double softcap);
Tensor relu_squared(const Tensor& x);
Tensor swiglu(const Tensor& x);
Tensor gather(const Tensor& table, const Tensor& tokens);

} // namespace cuda
} // namespace autoswarm
