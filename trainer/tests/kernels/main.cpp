// Runs shim/kernels.cu on a CPU and compares it with what it should compute, in f64. Gradients are compared
// with differences. Without a GPU it stays unknown whether CUDA's compiler takes the file
// (scripts/bench-gpu.sh), and how fast it is.
//
// Compiled for one part and size at a time, as on a GPU: with COLUMNS, with HEAD_DIM, with VOCABULARY and
// THREADS, or with ELEMENTWISE.
#include "emulate.h"
#include "../../shim/kernels.cu"

#include <random>
#include <string>

namespace {

using Values = std::vector<double>;

std::mt19937 source(1);
bool failed = false;

// bf16 numbers as they lie in memory; `values` returns them as f64.
struct Brains {
    std::vector<unsigned short> bits;

    explicit Brains(size_t count) : bits(count) {}

    static Brains random(size_t count, double size = 1) {
        std::normal_distribution<double> draw(0, size);
        Brains made(count);
        for (auto& b : made.bits) b = ::bits(float(draw(source)));
        return made;
    }
    Values values() const {
        Values all;
        for (auto b : bits) all.push_back(double(one(b)));
        return all;
    }
    template <class T = uint4>
    T* as() {
        return reinterpret_cast<T*>(bits.data());
    }
};

[[maybe_unused]] Values values(const std::vector<float>& floats) {
    return Values(floats.begin(), floats.end());
}

// Fails unless ‖ours − expected‖ is at most `tolerance` · ‖expected‖, and ‖expected‖ is above 0.
void compare(const std::string& name, const Values& ours, const Values& expected, double tolerance = 0.006) {
    double difference = 0, size = 0;
    for (size_t i = 0; i < expected.size(); i++)
        difference += std::pow(ours[i] - expected[i], 2), size += std::pow(expected[i], 2);
    const double off = std::sqrt(difference / size);
    const bool good = ours.size() == expected.size() && size > 0 && off <= tolerance;
    printf("%-28s off by %.5f of %zu numbers%s\n", name.c_str(), off, expected.size(), good ? "" : "  WRONG");
    failed |= !good;
}

[[maybe_unused]] void check(const std::string& name, bool good) {
    printf("%-28s %s\n", name.c_str(), good ? "as it should be" : "WRONG");
    failed |= !good;
}

// Returns the gradient of `loss` with respect to each of `at`, by differences.
template <class F>
Values gradient(Values at, F loss) {
    Values found;
    for (double& x : at) {
        const double was = x, step = 1e-4;
        x = was + step;
        const double above = loss(at);
        x = was - step;
        found.push_back((above - loss(at)) / (2 * step));
        x = was;
    }
    return found;
}

[[maybe_unused]] double product(const Values& a, const Values& b) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); i++) sum += a[i] * b[i];
    return sum;
}

[[maybe_unused]] double sigmoid64(double x) { return 1 / (1 + std::exp(-x)); }

#ifdef COLUMNS
constexpr double EPSILON = 1e-5;
constexpr Index ROWS = 11;

struct Mixed {
    Values out, y;
};

Mixed mixed(const Values& x, const Values& delta, const Values& x0, double a, double b) {
    Mixed m{x, {}};
    for (size_t i = 0; i < x.size(); i++) {
        if (!delta.empty()) m.out[i] += delta[i];
        if (!x0.empty()) m.out[i] = a * m.out[i] + b * x0[i];
    }
    m.y = m.out;
    for (Index row = 0; row < ROWS; row++) {
        double squares = 0;
        for (int i = 0; i < COLUMNS; i++) squares += std::pow(m.out[row * COLUMNS + i], 2);
        for (int i = 0; i < COLUMNS; i++) m.y[row * COLUMNS + i] /= std::sqrt(squares / COLUMNS + EPSILON);
    }
    return m;
}

void run(bool has_delta, bool has_x0) {
    const std::string name = std::string("mix_norm") + (has_delta ? " delta" : "") + (has_x0 ? " x0" : "");
    const size_t count = ROWS * COLUMNS;
    Brains x = Brains::random(count), delta = Brains::random(count), x0 = Brains::random(count), out(count),
           y(count);
    Brains grad_out = Brains::random(count), grad_y = Brains::random(count), grad_x(count), grad_x0(count);
    float a = 0.75f, b = 0.5f;
    std::vector<float> scale(ROWS);
    const bool mixes = has_delta || has_x0;
    uint4 *given_delta = has_delta ? delta.as() : nullptr, *given_x0 = has_x0 ? x0.as() : nullptr;
    emulation::launch((ROWS + 7) / 8, 256, [&] {
        mix_norm(x.as(), given_delta, given_x0, &a, &b, float(EPSILON), ROWS, out.as(), y.as(), scale.data());
    });
    const Values d = has_delta ? delta.values() : Values(), e = has_x0 ? x0.values() : Values();
    const Mixed right = mixed(x.values(), d, e, a, b);
    compare(name + " y", y.values(), right.y);
    if (mixes) compare(name + " out", out.values(), right.out);

    // One block, so that each of its warps handles several rows.
    std::vector<float> sums(16);
    emulation::launch(1, 256, [&] {
        mix_norm_backward(x.as(), given_delta, given_x0, y.as(), mixes ? grad_out.as() : nullptr, grad_y.as(),
                          scale.data(), &a, &b, ROWS, grad_x.as(), grad_x0.as(), sums.data());
    });
    const auto loss = [&](const Values& x, const Values& x0, double a, double b) {
        const Mixed m = mixed(x, d, x0, a, b);
        return product(m.y, grad_y.values()) + (mixes ? product(m.out, grad_out.values()) : 0);
    };
    compare(name + " grad x", grad_x.values(),
            gradient(x.values(), [&](const Values& x) { return loss(x, e, a, b); }));
    if (!has_x0) return;
    compare(name + " grad x0", grad_x0.values(),
            gradient(e, [&](const Values& e) { return loss(x.values(), e, a, b); }));
    double sum_a = 0, sum_b = 0;
    for (size_t i = 0; i < sums.size(); i += 2) sum_a += sums[i], sum_b += sums[i + 1];
    const Values factors = gradient({a, b}, [&](const Values& f) { return loss(x.values(), e, f[0], f[1]); });
    compare(name + " grad a, b", {sum_a, sum_b}, factors, 0.02); // sums of every number's rounding
}

void run() {
    for (const bool has_delta : {false, true})
        for (const bool has_x0 : {false, true}) run(has_delta, has_x0);
}
#endif

#ifdef HEAD_DIM
constexpr int BATCH = 2, LENGTH = 3, QUERIES = 4, KEYS = 2, ALL = QUERIES + 2 * KEYS, TOKENS = BATCH * LENGTH;
constexpr double EPSILON = 1e-5, GATE_SCALE = 1.5;

struct Heads {
    Values q, k, v;
};

Heads heads(const Values& qkv, const Values& value, const Values& gate, const Values& angle, bool norm) {
    Heads h;
    for (int token = 0; token < TOKENS; token++) {
        for (int head = 0; head < ALL; head++) {
            const double* x = &qkv[(token * ALL + head) * HEAD_DIM];
            const int kv = head - QUERIES - KEYS;
            Values y(x, x + HEAD_DIM);
            if (kv >= 0) {
                if (!value.empty())
                    for (int i = 0; i < HEAD_DIM; i++)
                        y[i] += GATE_SCALE * sigmoid64(gate[token * KEYS + kv]) *
                                value[(token * KEYS + kv) * HEAD_DIM + i];
                h.v.insert(h.v.end(), y.begin(), y.end());
                continue;
            }
            for (int i = 0; i < HALF; i++) {
                const double t = angle[token % LENGTH * HALF + i], one = x[i], two = x[i + HALF];
                y[i] = one * std::cos(t) + two * std::sin(t),
                y[i + HALF] = two * std::cos(t) - one * std::sin(t);
            }
            if (norm) {
                const double rms = std::sqrt(product(y, y) / HEAD_DIM + EPSILON);
                for (double& n : y) n /= rms;
            }
            Values& to = head < QUERIES ? h.q : h.k;
            to.insert(to.end(), y.begin(), y.end());
        }
    }
    return h;
}

void run(bool norm, bool has_value) {
    const std::string name = std::string("heads") + (norm ? " norm" : "") + (has_value ? " value" : "");
    const size_t queries = TOKENS * QUERIES * HEAD_DIM, keys = TOKENS * KEYS * HEAD_DIM;
    Brains qkv = Brains::random(TOKENS * ALL * HEAD_DIM), value = Brains::random(keys),
           gate = Brains::random(TOKENS * KEYS);
    Brains q(queries), k(keys), v(keys), grad_q = Brains::random(queries), grad_k = Brains::random(keys),
           grad_v = Brains::random(keys);
    Brains grad_qkv(TOKENS * ALL * HEAD_DIM), grad_value(keys), grad_gate(TOKENS * KEYS);
    std::vector<float> cosine, sine, scale(TOKENS * (QUERIES + KEYS));
    Values angle;
    for (int i = 0; i < LENGTH * HALF; i++) {
        angle.push_back(i % 7), cosine.push_back(float(std::cos(angle.back()))),
            sine.push_back(float(std::sin(angle.back())));
    }
    using Bits = unsigned short;
    Bits *given_value = has_value ? value.as<Bits>() : nullptr,
         *given_gate = has_value ? gate.as<Bits>() : nullptr;
    const unsigned blocks = unsigned(TOKENS * ALL * LANES + 255) / 256;
    emulation::launch(blocks, 256, [&] {
        heads_forward(qkv.as<Bits>(), given_value, given_gate, cosine.data(), sine.data(), TOKENS, LENGTH,
                      QUERIES, KEYS, norm, float(GATE_SCALE), float(EPSILON), q.as<Bits>(), k.as<Bits>(),
                      v.as<Bits>(), scale.data());
    });
    const Values given = has_value ? value.values() : Values(), opens = has_value ? gate.values() : Values();
    const Heads right = heads(qkv.values(), given, opens, angle, norm);
    compare(name + " q", q.values(), right.q), compare(name + " k", k.values(), right.k),
        compare(name + " v", v.values(), right.v);
    emulation::launch(blocks, 256, [&] {
        heads_backward(q.as<Bits>(), k.as<Bits>(), given_value, given_gate, cosine.data(), sine.data(),
                       scale.data(), grad_q.as<Bits>(), grad_k.as<Bits>(), grad_v.as<Bits>(), TOKENS, LENGTH,
                       QUERIES, KEYS, norm, float(GATE_SCALE), grad_qkv.as<Bits>(), grad_value.as<Bits>(),
                       grad_gate.as<Bits>());
    });
    const auto loss = [&](const Values& qkv, const Values& value, const Values& gate) {
        const Heads h = heads(qkv, value, gate, angle, norm);
        return product(h.q, grad_q.values()) + product(h.k, grad_k.values()) + product(h.v, grad_v.values());
    };
    const Values at = qkv.values();
    compare(name + " grad qkv", grad_qkv.values(),
            gradient(at, [&](const Values& x) { return loss(x, given, opens); }), 0.01);
    if (!has_value) return;
    compare(name + " grad value", grad_value.values(),
            gradient(given, [&](const Values& x) { return loss(at, x, opens); }));
    compare(name + " grad gate", grad_gate.values(),
            gradient(opens, [&](const Values& x) { return loss(at, given, x); }));
}

void run() {
    for (const bool norm : {false, true})
        for (const bool has_value : {false, true}) run(norm, has_value);
}
#endif

#ifdef VOCABULARY
constexpr int ROWS = 3;
constexpr double FACTOR = 0.25;

Values losses(const Values& logits, const std::vector<Index>& targets, double softcap) {
    Values all;
    for (int row = 0; row < ROWS; row++) {
        double sum = 0;
        const auto capped = [&](Index i) {
            const double x = logits[size_t(row * VOCABULARY + i)];
            return softcap != 0 ? softcap * std::tanh(x / softcap) : x;
        };
        for (Index i = 0; i < VOCABULARY; i++) sum += std::exp(capped(i));
        all.push_back(std::log(sum) - capped(targets[size_t(row)]));
    }
    return all;
}

// Returns the gradients by their formula, because differences of so many numbers would take minutes.
Values gradients(const Values& logits, const std::vector<Index>& targets, double softcap) {
    Values all;
    for (int row = 0; row < ROWS; row++) {
        double sum = 0;
        Values bent;
        for (Index i = 0; i < VOCABULARY; i++) {
            const double x = logits[size_t(row * VOCABULARY + i)];
            bent.push_back(softcap != 0 ? softcap * std::tanh(x / softcap) : x);
            sum += std::exp(bent.back());
        }
        for (Index i = 0; i < VOCABULARY; i++) {
            const double x = bent[size_t(i)], slope = softcap != 0 ? 1 - std::pow(x / softcap, 2) : 1;
            all.push_back(FACTOR * slope * (std::exp(x) / sum - (i == targets[size_t(row)])));
        }
    }
    return all;
}

void run() {
    for (const double softcap : {0.0, 5.0}) {
        const std::string name = softcap != 0 ? "loss softcap" : "loss";
        Brains logits = Brains::random(ROWS * VOCABULARY, 3), grad(ROWS * VOCABULARY);
        std::vector<Index> targets{0, VOCABULARY - 1, VOCABULARY / 2};
        std::vector<float> loss(ROWS);
        const auto call = [&](uint4* grad) {
            emulation::launch(ROWS, THREADS, [&] {
                cross_entropy(logits.as(), targets.data(), float(softcap), float(FACTOR), loss.data(), grad);
            });
        };
        call(grad.as());
        compare(name, values(loss), losses(logits.values(), targets, softcap), 1e-5);
        compare(name + " grad", grad.values(), gradients(logits.values(), targets, softcap));
        targets = {-1, VOCABULARY, VOCABULARY / 2};
        call(nullptr);
        check(name + " of no token", loss[0] != loss[0] && loss[1] != loss[1] && loss[2] == loss[2]);
        logits.bits[3] = 0x7fc0;
        call(nullptr);
        check(name + " of no number", loss[2] == loss[2] && loss[0] != loss[0]);
    }
}
#endif

#ifdef ELEMENTWISE
template <class F>
void over(size_t tasks, F call) {
    emulation::launch(unsigned(tasks + 255) / 256, 256, call);
}

void run() {
    constexpr Index ROWS = 5, HALF = 24, COLUMNS = 16;
    {
        Brains x = Brains::random(2048), grad = Brains::random(2048), out(2048), back(2048);
        over(256, [&] { relu_squared(x.as(), out.as(), 256); });
        over(256, [&] { relu_squared_backward(x.as(), grad.as(), back.as(), 256); });
        const auto squared = [](const Values& x) {
            Values y;
            for (double n : x) y.push_back(n > 0 ? n * n : 0);
            return y;
        };
        compare("relu²", out.values(), squared(x.values()));
        const auto loss = [&](const Values& x) { return product(squared(x), grad.values()); };
        compare("relu² grad", back.values(), gradient(x.values(), loss));
    }
    {
        Brains x = Brains::random(ROWS * 2 * HALF), grad = Brains::random(ROWS * HALF), out(ROWS * HALF),
               back(ROWS * 2 * HALF);
        over(15, [&] { swiglu(x.as(), out.as(), ROWS * HALF / 8, HALF / 8); });
        over(15, [&] { swiglu_backward(x.as(), grad.as(), back.as(), ROWS * HALF / 8, HALF / 8); });
        const auto gated = [](const Values& x) {
            Values y;
            for (Index row = 0; row < ROWS; row++)
                for (Index i = 0; i < HALF; i++) {
                    const double a = x[size_t(row * 2 * HALF + i)], b = x[size_t(row * 2 * HALF + HALF + i)];
                    y.push_back(a * sigmoid64(a) * b);
                }
            return y;
        };
        compare("swiglu", out.values(), gated(x.values()));
        const auto loss = [&](const Values& x) { return product(gated(x), grad.values()); };
        compare("swiglu grad", back.values(), gradient(x.values(), loss));
    }
    {
        std::vector<float> table, sums(4 * COLUMNS);
        for (int i = 0; i < 4 * COLUMNS; i++) table.push_back(float(i));
        const std::vector<Index> tokens{3, 0, 3, -1, 4};
        Brains out(ROWS * COLUMNS), grad = Brains::random(ROWS * COLUMNS);
        over(10, [&] {
            gather((float4*)table.data(), tokens.data(), out.as(), ROWS * COLUMNS / 8, COLUMNS / 8, 4);
        });
        over(20, [&] {
            scatter(grad.as<uint2>(), tokens.data(), sums.data(), ROWS * COLUMNS / 4, COLUMNS / 4, 4);
        });
        const Values found = out.values(), added = grad.values();
        Values right(4 * COLUMNS);
        bool looked_up = true;
        for (int row = 0; row < ROWS; row++)
            for (int i = 0; i < COLUMNS; i++) {
                const double x = found[size_t(row * COLUMNS + i)];
                if (row >= 3) {
                    looked_up &= x != x;
                    continue;
                }
                looked_up &= x == double(table[size_t(tokens[size_t(row)] * COLUMNS + i)]);
                right[size_t(tokens[size_t(row)] * COLUMNS + i)] += added[size_t(row * COLUMNS + i)];
            }
        check("gather", looked_up);
        compare("scatter", values(sums), right);
    }
    {
        Brains x = Brains::random(4096);
        const Values before = x.values();
        Values half = before;
        for (double& n : half) n /= 2;
        float by = 1;
        emulation::launch(1, 256, [&] { scale(x.as(), &by, 512); });
        compare("scale by 1", x.values(), before, 0);
        by = 0.5f;
        emulation::launch(1, 256, [&] { scale(x.as(), &by, 512); });
        compare("scale by 1/2", x.values(), half, 0);
    }
}
#endif

} // namespace

int main() {
    run();
    return failed ? 1 : 0;
}
