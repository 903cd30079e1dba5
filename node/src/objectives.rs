//! What can be improved: each objective prepares its data, gives a baseline, and turns an order into a run.

pub mod train;
