//! The research core: a pure state machine that decides which runs to make and which changes to keep.
//!
//! Events in, actions out. Not here: choosing changes (`proposers`), making runs (`runs`), files and clocks.

pub mod active;
pub mod beliefs;
pub mod core;
pub mod messages;
pub mod peer_results;
pub mod pruning;
pub mod verdict;

pub use core::Research;
pub use messages::{Action, Incumbent, Input, Proposal, Propose, Reproduction, Rules, RunOrder};
pub use peer_results::{PeerResult, PeerResults};
pub use verdict::Policy;
