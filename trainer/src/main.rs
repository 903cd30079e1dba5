//! The `trainer` binary, which only calls [`autoswarm_trainer::cli::run`].

use std::process::ExitCode;

fn main() -> ExitCode {
    autoswarm_trainer::cli::run()
}
