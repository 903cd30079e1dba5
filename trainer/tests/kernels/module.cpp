// One part of kernels.cu for one size, as gpu.cpp compiles it: each kernel gets a function that launches it.
//
// KERNELS is the file with the text that the trainer gave to CUDA's compiler.
#include "emulate.h"
#include KERNELS

#include <utility>

namespace {

template <class... Arguments, size_t... I>
void call(void (*kernel)(Arguments...), void** arguments, std::index_sequence<I...>) {
    kernel(*static_cast<Arguments*>(arguments[I])...);
}

template <class... Arguments>
void run(void (*kernel)(Arguments...), unsigned blocks, unsigned threads, void** arguments) {
    emulation::launch(blocks, threads,
                      [=] { call(kernel, arguments, std::index_sequence_for<Arguments...>()); });
}

} // namespace

#define LAUNCHES(kernel)                                                                   \
    extern "C" void launch_##kernel(unsigned blocks, unsigned threads, void** arguments) { \
        run(kernel, blocks, threads, arguments);                                           \
    }

#ifdef COLUMNS
LAUNCHES(mix_norm)
LAUNCHES(mix_norm_backward)
#endif
#ifdef HEAD_DIM
LAUNCHES(heads_forward)
LAUNCHES(heads_backward)
#endif
#ifdef VOCABULARY
LAUNCHES(cross_entropy)
#endif
#ifdef ELEMENTWISE
LAUNCHES(relu_squared)
LAUNCHES(relu_squared_backward)
LAUNCHES(swiglu)
LAUNCHES(swiglu_backward)
LAUNCHES(gather)
LAUNCHES(scatter)
LAUNCHES(scale)
#endif
