//! What a search can improve: an objective prepares its data, gives a baseline, and turns orders into runs.

pub mod train;
