//! One experiment: a config in and an outcome out.

pub mod harness;
pub mod prepare;
