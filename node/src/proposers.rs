//! The proposer of what to try next: the built-in search, which follows a person's direction.

pub mod directed;
pub mod evolve;
pub mod program;
