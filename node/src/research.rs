//! The research core: what to try, what it showed, where to stand. Pure: events in, actions out.

pub mod active;
pub mod beliefs;
pub mod core;
pub mod hearsay;
pub mod messages;
pub mod race;
pub mod verdict;

pub use core::Research;
pub use hearsay::{Hearsay, Rumour};
pub use messages::{Action, Event, Incumbent, Proposal, Propose, Rerun, Rules, RunOrder};
pub use verdict::Policy;
