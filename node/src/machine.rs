//! The machine that a node runs on: its slots, and how to be a good guest on it.

pub mod guest;
pub mod slots;
