//! The node as a whole, in one binary: see each file.

mod discoveries;
mod git_sync;
mod hostile;
mod kills;
mod many;
mod network;
mod nights;
mod nodes;
#[cfg(feature = "real-trainer")]
mod real;
<<<<<<< HEAD
mod search;
=======
mod relays;
>>>>>>> 6287887 (network: nodes that nobody can dial keep slots at two relays)
mod simulation;
mod solo;
mod supervisor;
mod surrogate;
mod swarm;
mod topologies;
mod verbs;
mod weather;
