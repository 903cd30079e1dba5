//! The objective of the built-in trainer: a language model's config, judged by bits per byte.

pub mod calibrated;
pub mod dataset;
pub mod plan;
pub mod probe;
