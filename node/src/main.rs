//! The `node` binary: parses the command line and runs the verb.

use std::process::ExitCode;

use autoswarm_node::{cli::args::Cli, commands};
use clap::Parser;

fn main() -> ExitCode {
    commands::main(Cli::parse())
}
