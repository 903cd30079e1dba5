// Tells which part of a model the time of a training step goes to: what `trainer bench` listens with.
//
// The model and the optimizer name the part whose operations come next; time until the next name is that part's. Gradients are
// computed by libtorch in an order of its own, but each node of its graph has a number from the moment it was made, so that the
// part that was named at that moment is found again. Nothing here runs unless a benchmark listens.
#include <ATen/SequenceNumber.h>
#include <ATen/record_function.h>

#include <time.h>

#include <algorithm>
#include <vector>

namespace {

// CPU seconds of this thread: on a busy machine they say more than the clock on the wall, and a thread that waits for others spins.
double now() {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return double(time.tv_sec) + double(time.tv_nsec) * 1e-9;
}

struct Listener {
    double *forward, *backward; // seconds by part
    int part, rest;
    double since = now();
    std::vector<std::pair<uint64_t, int>> named{}; // the first number of the nodes made under a name
    bool backwards = false;
    double nodes = 0; // seconds of nodes since `since`

    // Books the time since the last name, less what was booked for nodes meanwhile.
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

// Of the thread that listens: on a CPU, gradients are computed by the thread that asks for them.
thread_local Listener* listener = nullptr;

struct Started : at::ObserverContext {
    double at = now();
};

std::unique_ptr<at::ObserverContext> start_node(const at::RecordFunction&) { return std::make_unique<Started>(); }

void end_node(const at::RecordFunction& node, at::ObserverContext* started) {
    if (!listener || node.seqNr() < 0) return;
    const double seconds = now() - static_cast<Started*>(started)->at;
    listener->backward[listener->part_of(uint64_t(node.seqNr()))] += seconds;
    listener->nodes += seconds;
}

thread_local at::CallbackHandle callback = at::INVALID_CALLBACK_HANDLE;

} // namespace

extern "C" {

// Starts to add this thread's seconds to forward[part] and backward[part]; what belongs to no part goes to `rest`.
void autoswarm_listen(double* forward, double* backward, int rest) {
    listener = new Listener{forward, backward, rest, rest};
    callback = at::addThreadLocalCallback(
        at::RecordFunctionCallback(start_node, end_node).scopes({at::RecordScope::BACKWARD_FUNCTION}));
}

// Says that the operations from now on belong to `part`.
void autoswarm_part(int part) {
    if (!listener) return;
    listener->book();
    if (listener->backwards) listener->named.clear(); // that graph is gone
    listener->backwards = false;
    listener->part = part;
    listener->named.emplace_back(at::sequence_number::peek(), part);
}

// Says that gradients are computed from now on.
void autoswarm_backward() {
    if (!listener) return;
    listener->book();
    listener->backwards = true;
    listener->part = listener->rest;
}

// Books what is left, and stops.
void autoswarm_hush() {
    if (!listener) return;
    listener->book();
    at::removeCallback(callback);
    delete listener;
    listener = nullptr;
}
}
