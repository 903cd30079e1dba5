//! What a search can improve: today the config of the built-in trainer alone.

pub mod train;
