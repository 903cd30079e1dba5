//! Integration tests of the whole node, in one binary; each file says what it tests.

mod discoveries;
mod git_sync;
mod hostile;
mod kills;
mod many;
mod network;
mod nights;
mod nodes;
mod pruning;
#[cfg(feature = "real-trainer")]
mod real;
mod relays;
mod search;
mod simulation;
mod solo;
mod supervisor;
mod surrogate;
mod swarm;
mod topologies;
mod verbs;
mod weather;
