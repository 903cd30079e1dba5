// A CPU that passes for a GPU: the functions of CUDA's compiler and driver that cuda.cpp opens, and flash
// attention on CPU tensors.
//
// With it, shim/cuda.cpp and all that uses it run where there is no GPU. tests/it/emulated.rs compiles it to
// a library, with two strings: FOLDER (this folder) and OUTPUT (the folder for compiled kernels). As in CUDA,
// 0 means success.
#include <ATen/ATen.h>
#include <torch/library.h>

#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <string>

namespace {

struct Program {
    std::string source, library, log;
};

// The compute capability, under CUDA's numbers of its attributes. It is below 9.0, from where kernels.cu has
// other instructions.
const std::map<int, int> attributes = {{75, 8}, {76, 0}};

using Launch = void (*)(unsigned blocks, unsigned threads, void** arguments);
thread_local void* current = nullptr;

std::string read(const std::string& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
}

} // namespace

extern "C" {

int nvrtcCreateProgram(Program** program, const char* source, const char*, int, const char* const*,
                       const char* const*) {
    *program = new Program{source, {}, {}};
    return 0;
}

int nvrtcCompileProgram(Program* program, int count, const char* const* options) {
    std::string defines, name;
    for (int i = 0; i < count; i++) {
        const std::string option = options[i];
        if (option.rfind("-D", 0) == 0) defines += " " + option, name += "-" + option.substr(2);
    }
    const std::string stem = std::string(OUTPUT) + "/module" + name, text = stem + ".cu", log = stem + ".txt";
    program->library = stem + ".so";
    std::ofstream(text) << program->source;
    const char* compiler = getenv("CXX");
    const std::string command = std::string(compiler ? compiler : "c++") +
                                " -std=c++17 -O2 -shared -fPIC -x c++ -DKERNELS='\"" + text + "\"'" +
                                defines + " " FOLDER "/module.cpp -o " + program->library + " 2>" + log;
    const int status = system(command.c_str());
    program->log = read(log);
    return status;
}

int nvrtcGetProgramLogSize(Program* program, size_t* size) { return *size = program->log.size() + 1, 0; }
int nvrtcGetProgramLog(Program* program, char* log) { return program->log.copy(log, program->log.size()), 0; }
int nvrtcGetCUBINSize(Program* program, size_t* size) { return *size = program->library.size() + 1, 0; }
int nvrtcGetCUBIN(Program* program, char* code) {
    return program->library.copy(code, program->library.size()), 0;
}
int nvrtcDestroyProgram(Program** program) { return delete *program, *program = nullptr, 0; }
int nvrtcVersion(int*, int*) { return 1; } // a failure, so that no built-ins are looked for

int cuDeviceGetAttribute(int* value, int attribute, int) { return *value = attributes.at(attribute), 0; }
int cuDevicePrimaryCtxRetain(void** context, int) {
    static int one;
    return *context = &one, 0;
}
int cuCtxGetCurrent(void** context) { return *context = current, 0; }
int cuCtxSetCurrent(void* context) { return current = context, 0; }
int cuModuleLoadData(void** module, const void* code) {
    *module = dlopen(static_cast<const char*>(code), RTLD_NOW | RTLD_LOCAL);
    return *module ? 0 : 1;
}
int cuModuleGetFunction(void** function, void* module, const char* name) {
    *function = dlsym(module, (std::string("launch_") + name).c_str());
    return *function ? 0 : 1;
}
int cuLaunchKernel(void* function, unsigned blocks, unsigned, unsigned, unsigned threads, unsigned, unsigned,
                   unsigned, void*, void** arguments, void**) {
    if (!current) return 1;
    return reinterpret_cast<Launch>(function)(blocks, threads, arguments), 0;
}
}

namespace {

using at::Tensor;
using Size = std::optional<c10::SymInt>;

// Attention by its formula, in f32. Queries are [B, T, heads, head dimension], keys and values [B, T, kv
// heads, head dimension]. A query sees `left` tokens before it.
struct Attention {
    int64_t group;
    double scale;
    Tensor q, k, v, share; // heads first; share [B, heads, T, T]

    Attention(const Tensor& q, const Tensor& k, const Tensor& v, std::optional<double> scale,
              const Size& left)
        : group(q.size(2) / k.size(2)), scale(scale.value()), q(heads_first(q, 1)), k(heads_first(k, group)),
          v(heads_first(v, group)) {
        const int64_t length = q.size(1), reach = left ? left->expect_int() : length;
        const Tensor position = at::arange(length), back = position.unsqueeze(1) - position.unsqueeze(0);
        const Tensor hidden = back.lt(0).logical_or(back.gt(reach));
        share = (at::matmul(this->q, this->k.mT()) * this->scale).masked_fill(hidden, -INFINITY).softmax(-1);
    }

    static Tensor heads_first(const Tensor& x, int64_t times) {
        return x.to(at::kFloat).repeat_interleave(times, 2).transpose(1, 2);
    }
    // Sums over the query heads that share a key head.
    static Tensor heads_last(const Tensor& x, int64_t times, const Tensor& like) {
        const Tensor y = x.transpose(1, 2);
        return y.reshape({y.size(0), y.size(1), y.size(2) / times, times, y.size(3)})
            .sum(3)
            .to(like.scalar_type());
    }
};

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> forward(const Tensor& q, const Tensor& k, const Tensor& v,
                                                           const std::optional<Tensor>&,
                                                           const std::optional<Tensor>&, c10::SymInt,
                                                           c10::SymInt, double, bool is_causal, bool,
                                                           std::optional<double> scale, Size left, Size,
                                                           const std::optional<Tensor>&,
                                                           const std::optional<Tensor>&) {
    TORCH_CHECK(is_causal, "attention that sees what is to come");
    const Attention attention(q, k, v, scale, left);
    const Tensor none = at::empty({0}, q.options());
    return {Attention::heads_last(at::matmul(attention.share, attention.v), 1, q).contiguous(), none, none,
            none, none};
}

std::tuple<Tensor, Tensor, Tensor> backward(const Tensor& grad, const Tensor& q, const Tensor& k,
                                            const Tensor& v, const Tensor&, const Tensor&, const Tensor&,
                                            const Tensor&, c10::SymInt, c10::SymInt, double, bool,
                                            const Tensor&, const Tensor&, std::optional<double> scale,
                                            Size left, Size) {
    const Attention a(q, k, v, scale, left);
    const Tensor from = Attention::heads_first(grad, 1), to_share = at::matmul(from, a.v.mT());
    const Tensor to_scores = a.share * (to_share - (to_share * a.share).sum(-1, true)) * a.scale;
    return {Attention::heads_last(at::matmul(to_scores, a.k), 1, q),
            Attention::heads_last(at::matmul(to_scores.mT(), a.q), a.group, k),
            Attention::heads_last(at::matmul(a.share.mT(), from), a.group, v)};
}

TORCH_LIBRARY_IMPL(aten, CPU, library) {
    library.impl("_flash_attention_forward", forward);
    library.impl("_flash_attention_backward", backward);
}

} // namespace
