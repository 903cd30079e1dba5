//! One peer: the research loop, its memory and what a person sees of it.

pub mod progress;
pub mod research;
