//! The trainer: it runs one experiment, a config in and an outcome out.
//!
//! It has two halves. [`harness`] is ground truth: data, tokenizer, evaluation, budget and price. The rest is
//! fair game: an experiment may change every constant in it. Entry points are [`train::run`] and
//! [`cli::run`].

pub mod bench;
pub mod checkpoint;
pub mod cli;
pub mod device;
pub mod events;
pub mod failure;
pub mod harness;
pub mod learner;
pub mod model;
pub mod optimizer;
pub mod prepare;
pub mod report;
pub mod sample;
pub mod schedule;
pub mod shim;
pub mod system;
pub mod train;
