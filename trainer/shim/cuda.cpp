// The fused operations on a GPU as autograd functions: kernels.cu, compiled for the GPU at hand when a size
// is first used.
//
// CUDA's compiler and driver are opened at run time through their C interfaces, because one binary serves
// machines with and without them.
#include "cuda.h"
#include "guard.h"

#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/csrc/autograd/custom_function.h>

#include <dlfcn.h>

#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <tuple>

namespace autoswarm {
namespace cuda {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// CUDA's handles, without CUDA's own headers, which are not needed here.
using Program = void*;
using Context = void*;
using Module = void*;
using Kernel = void*;

// Opens the first library that loads; fails with the reasons of all.
void* library(std::initializer_list<const char*> names) {
    std::string reasons;
    for (const char* name : names) {
        if (void* handle = dlopen(name, RTLD_NOW | RTLD_GLOBAL)) return handle;
        reasons += std::string(reasons.empty() ? "" : "; ") + dlerror();
    }
    TORCH_CHECK(false, "cannot load ", *names.begin(), ": ", reasons);
}

template <class F>
void find(F& function, void* handle, const char* name) {
    function = reinterpret_cast<F>(dlsym(handle, name));
    TORCH_CHECK(function, "CUDA's libraries have no ", name);
}

// The functions of CUDA's run-time compiler and of its driver that are called here.
struct Cuda {
    int (*create)(Program*, const char* source, const char* name, int, const char* const*,
                  const char* const*);
    int (*compile)(Program, int, const char* const* options);
    int (*log_size)(Program, size_t*);
    int (*log)(Program, char*);
    int (*code_size)(Program, size_t*);
    int (*code)(Program, char*);
    int (*destroy)(Program*);
    int (*version)(int* major, int* minor);
    int (*attribute)(int*, int attribute, int device);
    int (*retain)(Context*, int device);
    int (*current)(Context*);
    int (*set_current)(Context);
    int (*load)(Module*, const void* code);
    int (*function)(Kernel*, Module, const char* name);
    int (*launch)(Kernel, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned shared,
                  void* stream, void** arguments, void** extra);

    Cuda() {
        // libtorch's own library opens the compiler that libtorch was built with, wherever that lies.
        void* compiler = library({"libcaffe2_nvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12"});
        find(create, compiler, "nvrtcCreateProgram"), find(compile, compiler, "nvrtcCompileProgram");
        find(log_size, compiler, "nvrtcGetProgramLogSize"), find(log, compiler, "nvrtcGetProgramLog");
        find(code_size, compiler, "nvrtcGetCUBINSize"), find(code, compiler, "nvrtcGetCUBIN");
        find(destroy, compiler, "nvrtcDestroyProgram"), find(version, compiler, "nvrtcVersion");
        load_builtins();
        void* driver = library({"libcuda.so.1"});
        find(attribute, driver, "cuDeviceGetAttribute"), find(retain, driver, "cuDevicePrimaryCtxRetain");
        find(current, driver, "cuCtxGetCurrent"), find(set_current, driver, "cuCtxSetCurrent");
        find(load, driver, "cuModuleLoadData"), find(function, driver, "cuModuleGetFunction");
        find(launch, driver, "cuLaunchKernel");
    }

    // The compiler opens another library by its name alone. It finds that library only if it is loaded
    // already.
    void load_builtins() const {
        Dl_info where;
        int major = 0, minor = 0;
        if (version(&major, &minor) || !dladdr(reinterpret_cast<void*>(create), &where)) return;
        std::string path = where.dli_fname;
        path.resize(path.rfind('/') + 1);
        path += "libnvrtc-builtins.so." + std::to_string(major) + "." + std::to_string(minor);
        dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL);
    }
};

const Cuda& api() {
    static const Cuda loaded;
    return loaded;
}

void check(int status, const char* what) {
    TORCH_CHECK(status == 0, what, " failed with CUDA's error ", status);
}

bool on_cpu = false;
std::mutex lock; // for the variables below
const char* source = nullptr;
std::map<int, Context> contexts;
std::map<std::tuple<int, std::string, int64_t>, Module> modules;
std::map<std::tuple<int, std::string, int64_t, std::string>, Kernel> kernels;

// Returns the threads of a block of cross_entropy: one for each vector of eight numbers, at most 512.
int64_t loss_threads(int64_t vocabulary) { return std::min<int64_t>(512, (vocabulary / 8 + 31) / 32 * 32); }

Module compiled(int device, const std::string& part, int64_t size) {
    // Of the compute capability; 75 and 76 are the driver's numbers of these two attributes.
    int major = 0, minor = 0;
    check(api().attribute(&major, 75, device), "asking for the compute capability");
    check(api().attribute(&minor, 76, device), "asking for the compute capability");
    TORCH_CHECK(major >= 8, "compute capability ", major, ".", minor, " has no bf16; 8.0 is needed");
    TORCH_CHECK(source, "no kernels were given");
    const std::string target = "--gpu-architecture=sm_" + std::to_string(10 * major + minor);
    const std::string define = "-D" + part + "=" + std::to_string(size);
    const std::string threads = "-DTHREADS=" + std::to_string(loss_threads(size));
    const char* options[] = {target.c_str(), "--std=c++17", define.c_str(), threads.c_str()};
    Program program = nullptr;
    check(api().create(&program, source, "kernels.cu", 0, nullptr, nullptr), "creating a program");
    const int status = api().compile(program, 4, options);
    size_t length = 0;
    std::string text;
    if (status) {
        api().log_size(program, &length), text.resize(length);
        api().log(program, text.data());
    } else {
        api().code_size(program, &length), text.resize(length);
        check(api().code(program, text.data()), "reading compiled kernels");
    }
    api().destroy(&program);
    TORCH_CHECK(!status, "compiling kernels for ", target, " ", define, " failed: ", text);
    Module module = nullptr;
    check(api().load(&module, text.data()), "loading compiled kernels");
    return module;
}

// Makes libtorch's context that of this thread, because a thread of autograd may not have used it before.
void enter(int device) {
    Context& context = contexts[device];
    if (!context) check(api().retain(&context, device), "opening the GPU");
    Context now = nullptr;
    check(api().current(&now), "asking for the GPU");
    if (now != context) check(api().set_current(context), "choosing the GPU");
}

Kernel kernel(int device, const char* part, int64_t size, const char* name) {
    Kernel& found = kernels[{device, part, size, name}];
    if (found) return found;
    Module& module = modules[{device, part, size}];
    if (!module) module = compiled(device, part, size);
    check(api().function(&found, module, name), name);
    return found;
}

// Launches a kernel of one part of kernels.cu, for one size, on the device of a tensor.
struct Launch {
    const Tensor& where;
    const char* part;
    int64_t size;

    // The arguments must have exactly the types of the kernel's parameters, because their addresses are
    // passed on.
    template <class... Arguments>
    void operator()(const char* name, int64_t blocks, int64_t threads, Arguments... arguments) const {
        const std::lock_guard guard(lock);
        const c10::Device device = where.device();
        // Everything here runs on the default stream. Another one would have to be named to the driver.
        const c10::impl::VirtualGuardImpl streams(device.type());
        TORCH_CHECK(streams.getStream(device).id() == 0,
                    "a fused operation runs on the default stream alone");
        enter(device.index());
        void* pointers[] = {&arguments...};
        if (blocks > 0)
            check(api().launch(kernel(device.index(), part, size, name), unsigned(blocks), 1, 1,
                               unsigned(threads), 1, 1, 0, nullptr, pointers, nullptr),
                  name);
    }
};

const void* address(const Tensor& tensor) { return tensor.defined() ? tensor.data_ptr() : nullptr; }
Maybe maybe(const Tensor& tensor) { return tensor.defined() ? Maybe(tensor) : std::nullopt; }

Tensor floats(at::IntArrayRef size, const Tensor& like) {
    return at::empty(size, like.options().dtype(at::kFloat));
}

constexpr int64_t THREADS = 256, VECTOR = 8; // threads of a block; numbers that a thread reads at once
constexpr int64_t MOST_BLOCKS = 2048; // where threads go on to further tasks; enough for the largest GPUs
int64_t blocks_of(int64_t tasks, int64_t each) { return (tasks + each - 1) / each; }

struct MixNorm : torch::autograd::Function<MixNorm> {
    static variable_list forward(AutogradContext* context, const Tensor& x, const Maybe& delta_,
                                 const Maybe& x0_, const Maybe& a_, const Maybe& b_, double epsilon) {
        const Tensor delta = of(delta_), x0 = of(x0_), a = of(a_), b = of(b_);
        const int64_t columns = x.size(-1), rows = x.numel() / columns;
        const bool mixes = delta.defined() || x0.defined();
        const Tensor y = at::empty_like(x), scale = floats({rows}, x), out = mixes ? at::empty_like(x) : y;
        Launch{x, "COLUMNS", columns}("mix_norm", blocks_of(rows, THREADS / 32), THREADS, address(x),
                                      address(delta), address(x0), address(a), address(b), float(epsilon),
                                      rows, address(out), address(y), address(scale));
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
        const int64_t blocks = std::min(blocks_of(rows, THREADS / 32), MOST_BLOCKS); // for few sums
        const Tensor grad_x = at::empty_like(y), grad_x0 = x0.defined() ? at::empty_like(y) : Tensor();
        const Tensor sums = x0.defined() ? floats({blocks * (THREADS / 32), 2}, y) : Tensor();
        Launch{y, "COLUMNS", columns}("mix_norm_backward", blocks, THREADS, address(x), address(delta),
                                      address(x0), address(y), address(grad_out), address(grad_y),
                                      address(saved[6]), address(a), address(b), rows, address(grad_x),
                                      address(grad_x0), address(sums));
        Tensor grad_a, grad_b;
        if (x0.defined()) {
            const Tensor both = sums.sum(0);
            grad_a = both[0].view_as(a), grad_b = both[1].view_as(b);
        }
        return {grad_x, context->saved_data["delta"].toBool() ? grad_x : Tensor(), grad_x0, grad_a, grad_b,
                Tensor()};
    }
};

// From the joint projection to queries, keys and values, each [B, T, heads, head dimension].
struct Heads : torch::autograd::Function<Heads> {
    static variable_list forward(AutogradContext* context, const Tensor& qkv, const Maybe& value_,
                                 const Maybe& gate_, const Tensor& cosine, const Tensor& sine,
                                 const Sizes& s) {
        const Tensor value = of(value_), gate = of(gate_);
        const int64_t tokens = s.batch * s.length;
        const Tensor q = at::empty({s.batch, s.length, s.heads, s.dim}, qkv.options());
        const Tensor k = at::empty({s.batch, s.length, s.kv_heads, s.dim}, qkv.options()),
                     v = at::empty_like(k);
        const Tensor scale = floats({s.norm ? tokens : 0, s.heads + s.kv_heads}, qkv);
        Launch{qkv, "HEAD_DIM", s.dim}("heads_forward", blocks(s), THREADS, address(qkv), address(value),
                                       address(gate), address(cosine), address(sine), tokens, int(s.length),
                                       int(s.heads), int(s.kv_heads), int(s.norm), float(s.gate_scale),
                                       float(s.epsilon), address(q), address(k), address(v), address(scale));
        // Backward needs queries and keys only for the gradient of their norm.
        const Tensor none;
        context->save_for_backward({value, gate, cosine, sine, s.norm ? q : none, s.norm ? k : none, scale});
        context->saved_data["sizes"] =
            std::vector<int64_t>{s.batch, s.length, s.heads, s.kv_heads, s.dim, s.window, s.norm};
        context->saved_data["gate_scale"] = s.gate_scale;
        return {q, k, v};
    }

    static variable_list backward(AutogradContext* context, const variable_list& grads) {
        const auto saved = context->get_saved_variables();
        const auto n = context->saved_data["sizes"].toIntVector();
        const Sizes s{n[0], n[1], n[2], n[3], n[4], n[5], context->saved_data["gate_scale"].toDouble(),
                      0, 0, n[6] != 0};
        const Tensor &value = saved[0], &gate = saved[1];
        const Tensor grad_q = grads[0].contiguous(), grad_k = grads[1].contiguous(),
                     grad_v = grads[2].contiguous();
        const int64_t tokens = s.batch * s.length;
        const Tensor grad_qkv = at::empty({tokens, (s.heads + 2 * s.kv_heads) * s.dim}, grad_q.options());
        const Tensor grad_value = value.defined() ? at::empty_like(value) : Tensor();
        const Tensor grad_gate = value.defined() ? at::empty_like(gate) : Tensor();
        Launch{grad_q, "HEAD_DIM", s.dim}(
            "heads_backward", blocks(s), THREADS, address(saved[4]), address(saved[5]), address(value),
            address(gate), address(saved[2]), address(saved[3]), address(saved[6]), address(grad_q),
            address(grad_k), address(grad_v), tokens, int(s.length), int(s.heads), int(s.kv_heads),
            int(s.norm), float(s.gate_scale), address(grad_qkv), address(grad_value), address(grad_gate));
        return {grad_qkv, grad_value, grad_gate, Tensor(), Tensor(), Tensor()};
    }

    static int64_t blocks(const Sizes& s) {
        const int64_t lanes = s.dim / 8;
        return blocks_of(s.batch * s.length * (s.heads + 2 * s.kv_heads) * lanes, THREADS);
    }
};

Tensor losses(const Tensor& logits, const Tensor& targets, double softcap, double weight,
              const Tensor& grad) {
    const int64_t rows = logits.size(0), columns = logits.size(1);
    const Tensor loss = floats({rows}, logits);
    Launch{logits, "VOCABULARY", columns}("cross_entropy", rows, loss_threads(columns), address(logits),
                                          address(targets), float(softcap), float(weight) / float(rows),
                                          address(loss), address(grad));
    return loss;
}

struct CrossEntropy : torch::autograd::Function<CrossEntropy> {
    static Tensor forward(AutogradContext* context, const Tensor& logits, const Tensor& targets,
                          double softcap, double weight, bool learns) {
        const Tensor grad = learns ? at::empty_like(logits) : Tensor();
        const Tensor loss = losses(logits, targets, softcap, weight, grad);
        context->save_for_backward({grad});
        return loss.mean() * weight;
    }

    static variable_list backward(AutogradContext* context, const variable_list& grads) {
        // Scaled in place, because it is by far the largest tensor. So there can be one backward pass and no
        // second one.
        TORCH_CHECK(!context->saved_data.count("spent"), "the gradient of a loss is there once");
        context->saved_data["spent"] = true;
        const Tensor grad = context->get_saved_variables()[0], factor = grads[0].to(at::kFloat);
        const int64_t vectors = grad.numel() / VECTOR;
        Launch{grad, "ELEMENTWISE", 0}("scale", std::min(blocks_of(vectors, THREADS), MOST_BLOCKS), THREADS,
                                       address(grad), address(factor), vectors);
        return {grad, Tensor(), Tensor(), Tensor(), Tensor()};
    }
};

struct ReluSquared : torch::autograd::Function<ReluSquared> {
    static Tensor forward(AutogradContext* context, const Tensor& x) {
        const Tensor out = at::empty_like(x);
        const int64_t vectors = x.numel() / VECTOR;
        Launch{x, "ELEMENTWISE", 0}("relu_squared", blocks_of(vectors, THREADS), THREADS, address(x),
                                    address(out), vectors);
        context->save_for_backward({x});
        return out;
    }

    static variable_list backward(AutogradContext* context, const variable_list& grads) {
        const Tensor x = context->get_saved_variables()[0], grad = grads[0].contiguous(),
                     out = at::empty_like(x);
        const int64_t vectors = x.numel() / VECTOR;
        Launch{x, "ELEMENTWISE", 0}("relu_squared_backward", blocks_of(vectors, THREADS), THREADS, address(x),
                                    address(grad), address(out), vectors);
        return {out};
    }
};

struct Swiglu : torch::autograd::Function<Swiglu> {
    static Tensor forward(AutogradContext* context, const Tensor& x) {
        const int64_t half = x.size(1) / 2 / VECTOR, vectors = x.size(0) * half;
        const Tensor out = at::empty({x.size(0), x.size(1) / 2}, x.options());
        Launch{x, "ELEMENTWISE", 0}("swiglu", blocks_of(vectors, THREADS), THREADS, address(x), address(out),
                                    vectors, half);
        context->save_for_backward({x});
        return out;
    }

    static variable_list backward(AutogradContext* context, const variable_list& grads) {
        const Tensor x = context->get_saved_variables()[0], grad = grads[0].contiguous(),
                     out = at::empty_like(x);
        const int64_t half = x.size(1) / 2 / VECTOR, vectors = x.size(0) * half;
        Launch{x, "ELEMENTWISE", 0}("swiglu_backward", blocks_of(vectors, THREADS), THREADS, address(x),
                                    address(grad), address(out), vectors, half);
        return {out};
    }
};

struct Gather : torch::autograd::Function<Gather> {
    static Tensor forward(AutogradContext* context, const Tensor& table, const Tensor& tokens) {
        const int64_t columns = table.size(1) / VECTOR, vectors = tokens.numel() * columns;
        const Tensor out = at::empty({tokens.numel(), table.size(1)}, table.options().dtype(at::kBFloat16));
        Launch{table, "ELEMENTWISE", 0}("gather", blocks_of(vectors, THREADS), THREADS, address(table),
                                        address(tokens), address(out), vectors, columns, table.size(0));
        context->save_for_backward({tokens});
        context->saved_data["rows"] = table.size(0);
        return out;
    }

    static variable_list backward(AutogradContext* context, const variable_list& grads) {
        const Tensor tokens = context->get_saved_variables()[0], grad = grads[0].contiguous();
        const int64_t rows = context->saved_data["rows"].toInt(), columns = grad.size(1) / 4,
                      quarters = grad.size(0) * columns;
        const Tensor table = at::zeros({rows, grad.size(1)}, grad.options().dtype(at::kFloat));
        Launch{grad, "ELEMENTWISE", 0}("scatter", blocks_of(quarters, THREADS), THREADS, address(grad),
                                       address(tokens), address(table), quarters, columns, rows);
        return {table, Tensor()};
    }
};

} // namespace

bool takes(const Tensor& x, at::ScalarType type) { return x.is_cuda() || (on_cpu && type == at::kBFloat16); }

std::vector<Tensor> mix_norm(const Tensor& x, const Tensor& delta, const Tensor& x0, const Tensor& a,
                             const Tensor& b, double epsilon) {
    return MixNorm::apply(x, maybe(delta), maybe(x0), maybe(a), maybe(b), epsilon);
}

Tensor attention(const Tensor& qkv, const Tensor& value, const Tensor& gate, const Tensor& cosine,
                 const Tensor& sine, const Sizes& s) {
    const auto heads = Heads::apply(qkv, maybe(value), maybe(gate), cosine, sine, s);
    // A window of the whole sequence hides nothing, and flash attention has a faster kernel without one.
    const bool hides = s.window < s.length;
    const auto only = [&](int64_t tokens) { return hides ? std::optional<int64_t>(tokens) : std::nullopt; };
    const Tensor y =
        std::get<0>(at::_flash_attention_forward(heads[0], heads[1], heads[2], {}, {}, s.length, s.length,
                                                 0.0, true, false, s.scale, only(s.window - 1), only(0)));
    return y.reshape({s.batch * s.length, s.heads * s.dim});
}

Tensor cross_entropy(const Tensor& logits, const Tensor& targets, double softcap, double weight) {
    return CrossEntropy::apply(logits, targets, softcap, weight,
                               at::GradMode::is_enabled() && logits.requires_grad());
}

Tensor cross_entropy_rows(const Tensor& logits, const Tensor& targets, double softcap) {
    return losses(logits, targets, softcap, 0, Tensor());
}

Tensor relu_squared(const Tensor& x) { return ReluSquared::apply(x); }
Tensor swiglu(const Tensor& x) { return Swiglu::apply(x); }
Tensor gather(const Tensor& table, const Tensor& tokens) { return Gather::apply(table, tokens); }

} // namespace cuda
} // namespace autoswarm

extern "C" {

// Takes the text of kernels.cu, which must live as long as the process. Fails if it cannot be compiled for
// this GPU. With device −1 a CPU passes for a GPU: then all fused operations in bf16 run here.
int autoswarm_cuda_open(const char* text, int device) {
    using namespace autoswarm;
    return guarded([&] {
        const std::lock_guard guard(cuda::lock);
        cuda::source = text;
        cuda::enter(device);
        cuda::kernel(device, "ELEMENTWISE", 0, "scale");
        cuda::on_cpu |= device < 0;
    });
}
}
