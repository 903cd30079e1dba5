//! The `node` binary.

use std::process::ExitCode;

use autoswarm_node::{cli::args::Cli, commands};
use clap::Parser;

fn main() -> ExitCode {
    commands::main(Cli::parse())
}
