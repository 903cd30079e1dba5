// How C++ tells Rust that it failed: a status, and a message by `autoswarm_message`.
#pragma once

#include <exception>
#include <string>

namespace autoswarm {

// Of this thread's last failure.
extern thread_local std::string message;

// Runs `of`, and keeps the message of what it throws.
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
