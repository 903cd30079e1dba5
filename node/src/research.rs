//! The research core: what to try, what it showed, where to stand. Pure: events in, actions out.

pub mod active;
pub mod core;
pub mod verdict;

pub use core::{Action, Event, Proposal, Propose, Research, Rules, RunOrder};
