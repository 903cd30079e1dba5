//! The research core: what to try, what it showed, where to stand. Pure: events in, actions out.

pub mod active;
pub mod calibrated;
pub mod core;
pub mod hearsay;
pub mod ledger;
pub mod proposer;
pub mod verdict;

pub use core::{Action, Event, Incumbent, Proposal, Propose, Rerun, Research, Rules, RunOrder};
pub use hearsay::{Hearsay, Rumour};
pub use verdict::Policy;
