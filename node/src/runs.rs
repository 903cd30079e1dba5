//! Runs: child processes under supervision, and what their training may cost.

pub mod priced;
pub mod supervisor;
