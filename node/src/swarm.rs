//! The swarm: the network, what peers found, and the same records in git.

pub mod discoveries;
pub mod git;
pub mod network;
