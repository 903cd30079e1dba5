// Measures how the time of a training step divides among the parts of a model, for `trainer bench`.
//
// The model and the optimizer name the part whose operations come next. Time until the next name belongs to
// that part. libtorch computes gradients in an order of its own. But each node of its graph is numbered when
// it is made, so the part that was named then can be found again. Nothing here runs unless a benchmark
// listens.
#include <ATen/SequenceNumber.h>
#include <ATen/record_function.h>

#include <time.h>

#include <algorithm>
#include <vector>

namespace {

// Returns the CPU seconds of this thread. On a busy machine they say more than wall-clock time, and a thread
// that waits for others spins.
double now() {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return double(time.tv_sec) + double(time.tv_nsec) * 1e-9;
}

struct Listener {
    double *forward, *backward; // seconds by part
    int part, rest;
    double since = now();
    std::vector<std::pair<uint64_t, int>> named{}; // number of the first node made under a name, and the part
    bool backwards = false;
    double nodes = 0; // seconds booked for nodes since `since`

    // Books the time since the last name, without what was booked for nodes in the meantime.
    void book() {
        const double time = now();
        (backwards ? backward : forward)[part] += time - since - nodes;
        since = time;
        nodes = 0;
    }

    int part_of(uint64_t number) const {
        const auto after = std::upper_bound(named.begin(), named.end(), number,
                                            [](uint64_t n, const auto& entry) { return n < entry.first; });
        return after == named.begin() ? rest : std::prev(after)->second;
    }
};

// The listener of this thread. On a CPU, gradients are computed by the thread that asks for them.
thread_local Listener* listener = nullptr;

struct Started : at::ObserverContext {
    double at = now();
};

std::unique_ptr<at::ObserverContext> start_node(const at::RecordFunction&) {
    return std::make_unique<Started>();
}

void end_node(const at::RecordFunction& node, at::ObserverContext* started) {
    if (!listener || node.seqNr() < 0) return;
    const double seconds = now() - static_cast<Started*>(started)->at;
    listener->backward[listener->part_of(uint64_t(node.seqNr()))] += seconds;
    listener->nodes += seconds;
}

thread_local at::CallbackHandle callback = at::INVALID_CALLBACK_HANDLE;

} // namespace

extern "C" {

// Starts to add the seconds of this thread to forward[part] and backward[part]. Time that belongs to no part
// goes to `rest`.
void autoswarm_listen(double* forward, double* backward, int rest) {
    listener = new Listener{forward, backward, rest, rest};
    callback = at::addThreadLocalCallback(
        at::RecordFunctionCallback(start_node, end_node).scopes({at::RecordScope::BACKWARD_FUNCTION}));
}

// Declares that the operations from now on belong to `part`.
void autoswarm_part(int part) {
    if (!listener) return;
    listener->book();
    if (listener->backwards) listener->named.clear(); // the graph of that step is gone
    listener->backwards = false;
    listener->part = part;
    listener->named.emplace_back(at::sequence_number::peek(), part);
}

// Declares that gradients are computed from now on.
void autoswarm_backward() {
    if (!listener) return;
    listener->book();
    listener->backwards = true;
    listener->part = listener->rest;
}

// Books the time that is left, and stops listening.
void autoswarm_hush() {
    if (!listener) return;
    listener->book();
    at::removeCallback(callback);
    delete listener;
    listener = nullptr;
}
}
