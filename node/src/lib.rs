//! One peer: the research loop, its memory and what a person sees of it.

pub mod experiment;
pub mod manners;
pub mod progress;
pub mod research;
pub mod text;
