//! The built-in trainer's objective: a language model's config, judged by bits per byte.

pub mod calibrated;
pub mod dataset;
pub mod plan;
pub mod probe;
