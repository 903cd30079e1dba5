// Operations that tch lacks, for any device, made of libtorch's own. They are a loss that keeps no f32
// logits, AdamW of many tensors in a few launches, and windowed attention by the flash kernels.
#include "guard.h"

#include <ATen/ATen.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <torch/csrc/autograd/custom_function.h>

#include <string>
#include <tuple>
#include <vector>

namespace autoswarm {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// The mean cross-entropy under a softcap (0: none), for `rows` rows of the logits at a time. Backward keeps
// only the gradient, in the number format of the logits. f32 numbers exist for one chunk alone.
struct ChunkedCrossEntropy : torch::autograd::Function<ChunkedCrossEntropy> {
    static Tensor forward(AutogradContext* context, const Tensor& logits, const Tensor& targets,
                          double softcap, int64_t rows, bool learns) {
        const int64_t all = logits.size(0);
        Tensor grad = learns ? at::empty_like(logits) : Tensor();
        Tensor sum = at::zeros({}, logits.options().dtype(at::kFloat));
        for (int64_t first = 0; first < all; first += rows) {
            const int64_t count = std::min(rows, all - first);
            Tensor capped = logits.narrow(0, first, count).to(at::kFloat);
            Tensor slope; // of the softcap
            if (softcap != 0) {
                const Tensor bent = (capped / softcap).tanh();
                if (learns) slope = 1 - bent.square();
                capped = bent * softcap;
            }
            const Tensor target = targets.narrow(0, first, count).unsqueeze(1);
            const Tensor log_share = capped.log_softmax(1);
            sum -= log_share.gather(1, target).sum();
            if (!learns) continue;
            Tensor chunk = log_share.exp();
            chunk.scatter_add_(1, target, at::full({count, 1}, -1.0, chunk.options()));
            if (slope.defined()) chunk.mul_(slope);
            grad.narrow(0, first, count).copy_(chunk.mul_(1.0 / double(all)));
        }
        context->save_for_backward({grad});
        return sum / double(all);
    }

    static variable_list backward(AutogradContext* context, const variable_list& grads) {
        const Tensor grad = context->get_saved_variables()[0];
        // The factor stays on the device: reading it would wait for all that is queued.
        return {grad * grads[0].to(grad.scalar_type()), Tensor(), Tensor(), Tensor(), Tensor()};
    }
};

std::vector<Tensor> list(Tensor* const* tensors, int64_t count) {
    std::vector<Tensor> all;
    for (int64_t i = 0; i < count; i++) all.push_back(*tensors[i]);
    return all;
}

} // namespace
} // namespace autoswarm

using namespace autoswarm;

extern "C" {

int autoswarm_chunked_cross_entropy(Tensor** out, const Tensor* logits, const Tensor* targets, double softcap,
                                    int64_t rows) {
    return guarded([&] {
        const bool learns = at::GradMode::is_enabled() && logits->requires_grad();
        *out = new Tensor(ChunkedCrossEntropy::apply(*logits, *targets, softcap, rows, learns));
    });
}

// Takes one AdamW step of `count` tensors. `numbers` holds beta1, beta2, kept (1 − decay), corrected and
// epsilon of each.
int autoswarm_adam_each(Tensor* const* parameters, Tensor* const* gradients, Tensor* const* firsts,
                        Tensor* const* seconds, const double* numbers, int64_t count) {
    return guarded([&] {
        std::vector<at::Scalar> fresh1, fresh2, kept, corrected, epsilon;
        for (const double* n = numbers; n < numbers + 5 * count; n += 5) {
            fresh1.emplace_back(1 - n[0]), fresh2.emplace_back(1 - n[1]), kept.emplace_back(n[2]);
            corrected.emplace_back(n[3]), epsilon.emplace_back(n[4]);
        }
        const auto p = list(parameters, count), g = list(gradients, count);
        const auto first = list(firsts, count), second = list(seconds, count);
        at::_foreach_lerp_(first, g, fresh1);
        at::_foreach_lerp_(second, at::_foreach_mul(g, g), fresh2);
        at::_foreach_mul_(p, kept);
        auto denominator = at::_foreach_sqrt(second);
        at::_foreach_mul_(denominator, corrected);
        at::_foreach_add_(denominator, epsilon);
        at::_foreach_addcdiv_(p, first, denominator, 1);
    });
}

// Copies `tensor` to a GPU from pinned memory, without waiting for it.
int autoswarm_send(Tensor** out, const Tensor* tensor, int device) {
    return guarded([&] {
        *out = new Tensor(tensor->pin_memory().to(at::Device(at::kCUDA, c10::DeviceIndex(device)),
                                                  tensor->scalar_type(), true));
    });
}

// Writes the peak of the bytes that tensors of this process held on a GPU.
int autoswarm_peak_bytes(int64_t* bytes, int device) {
    return guarded([&] {
        const auto all = size_t(c10::CachingAllocator::StatType::AGGREGATE);
        *bytes = c10::getDeviceAllocator(at::kCUDA)
                     ->getDeviceStats(c10::DeviceIndex(device))
                     .allocated_bytes[all]
                     .peak;
    });
}

// Causal attention of q [B, T, H, D] over the last `window` tokens of k and v [B, T, K, D]. Only CUDA has the
// kernel.
int autoswarm_flash_attention(Tensor** out, const Tensor* q, const Tensor* k, const Tensor* v, int64_t window,
                              double scale) {
    return guarded([&] {
        const int64_t length = q->size(1);
        *out = new Tensor(std::get<0>(at::_flash_attention_forward(*q, *k, *v, {}, {}, length, length, 0.0,
                                                                   true, false, scale, window - 1, 0)));
    });
}
}
