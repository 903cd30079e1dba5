//! The command line: what a person typed, and what it means.

pub mod args;
pub mod settings;
