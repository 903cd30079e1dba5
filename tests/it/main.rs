//! The node as a whole, in one binary: see each file.

mod discoveries;
mod git_sync;
mod network;
mod nights;
#[cfg(feature = "real-trainer")]
mod real;
mod solo;
mod supervisor;
mod swarm;
mod verbs;
