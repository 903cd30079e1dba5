//! The reason why a run gave no number: a crash class and a one-line message.

use std::{any::Any, panic, panic::AssertUnwindSafe};

use autoswarm_protocol::CrashClass;

use crate::harness::dataset::DatasetError;

/// A failure that ends a run early.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The crash class that the node records.
    pub class: CrashClass,
    /// One line that says what was observed.
    pub message: String,
}

impl Failure {
    /// Returns a failure of the given class.
    pub fn new(class: CrashClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into() }
    }

    /// Returns a failure that is the trainer's own: bad input, bad files or a bug.
    pub fn own(message: impl Into<String>) -> Self {
        Self::new(CrashClass::Failed, message)
    }
}

impl From<DatasetError> for Failure {
    fn from(error: DatasetError) -> Self {
        Self::own(chain(&error))
    }
}

/// Joins an error and its sources into one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        line.push_str(": ");
        line.push_str(&error.to_string());
        source = error.source();
    }
    line
}

/// Runs `work` and turns a panic into a failure. tch reports every error of libtorch by panicking, out of
/// memory included. Panics are caught here alone, so the code of the model stays readable.
pub fn catch<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| Err(of_panic(payload.as_ref())))
}

/// Returns the failure for a panic's payload.
fn of_panic(payload: &(dyn Any + Send)) -> Failure {
    let text = payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without a message");
    of_error_text(text)
}

/// Classifies the text of a libtorch error. Its first line says what happened; the rest is a C++ backtrace.
fn of_error_text(text: &str) -> Failure {
    let lower = text.to_lowercase();
    let starved = ["out of memory", "can't allocate memory", "cannot allocate memory", "std::bad_alloc"];
    let class = if starved.iter().any(|sign| lower.contains(sign)) {
        CrashClass::OutOfMemory
    } else {
        CrashClass::Failed
    };
    // Strip what Rust and tch wrap around libtorch's own message.
    let text = text.strip_prefix("called `Result::unwrap()` on an `Err` value: ").unwrap_or(text);
    let text = text.strip_prefix("Torch(\"").unwrap_or(text);
    let first = text.split("\\n").next().unwrap_or(text).lines().next().unwrap_or(text);
    Failure::new(class, first.chars().take(300).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, class: CrashClass, message: &str) {
        assert_eq!(of_error_text(text), Failure::new(class, message));
    }

    #[test]
    fn libtorch_errors_become_one_line_with_a_class() {
        check("plain", CrashClass::Failed, "plain");
        check(
            "called `Result::unwrap()` on an `Err` value: \
             Torch(\"CUDA out of memory. Tried 1 GiB\\nframe #0\")",
            CrashClass::OutOfMemory,
            "CUDA out of memory. Tried 1 GiB",
        );
        check(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried",
            CrashClass::OutOfMemory,
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried",
        );
    }

    #[test]
    fn a_panic_becomes_a_failure() {
        let hook = panic::take_hook();
        panic::set_hook(Box::new(|_| {}));
        let failure = catch::<()>(|| panic!("shapes {} and {} differ", 1, 2)).expect_err("it panicked");
        panic::set_hook(hook);
        assert_eq!(failure, Failure::own("shapes 1 and 2 differ"));
    }
}
