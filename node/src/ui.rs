//! What a person sees: the views of a running node, and the report of what it found.
//!
//! Text is built and written here. What there is to say comes from elsewhere, most of it from
//! [`crate::events`].

pub mod report;
pub mod view;
