//! The research core: what to try, what it showed, where to stand. Pure: events in, actions out.

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
