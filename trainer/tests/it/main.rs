//! Tests of the trainer as a whole, with real libtorch: tiny models on a made-up corpus.

mod budget;
mod cli;
mod cuda;
mod emulated;
mod fused;
mod golden;
mod kernels;
mod knobs;
mod learning;
mod metric;
mod support;
