//! Who proposes what to try next: the built-in search, under a person's direction.

pub mod directed;
pub mod evolve;
pub mod program;
