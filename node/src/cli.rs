//! What a person typed, and what it means.

pub mod args;
pub mod settings;
