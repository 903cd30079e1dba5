//! What a person sees: the views of a running node, and the report of what it found.

pub mod report;
pub mod view;
