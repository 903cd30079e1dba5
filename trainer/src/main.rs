//! The `trainer` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    autoswarm_trainer::cli::run()
}
