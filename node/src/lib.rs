//! The node, one peer of a swarm: the research loop, its memory, the network, and what a person sees of it.

pub mod base;
pub mod cli;
pub mod commands;
pub mod control;
pub mod events;
pub mod home;
pub mod machine;
pub mod objectives;
pub mod proposers;
pub mod research;
pub mod runs;
pub mod session;
pub mod swarm;
pub mod ui;
