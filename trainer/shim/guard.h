// How C++ reports a failure to Rust: by a status, and a message that `autoswarm_message` returns.
#pragma once

#include <exception>
#include <string>

namespace autoswarm {

// The message of this thread's last failure.
extern thread_local std::string message;

// Runs `of`. Returns 0, or 1 after an exception, whose message is kept.
template <class F>
int guarded(F of) {
    try {
        of();
        return 0;
    } catch (const std::exception& error) {
        message = error.what();
        return 1;
    }
}

} // namespace autoswarm
