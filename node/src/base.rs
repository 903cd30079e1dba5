//! The node's lowest layer: clock, databases, files, hints, hostile text and the printing of numbers.
//!
//! Nothing here knows of research.

pub mod clock;
pub mod database;
pub mod files;
pub mod hint;
pub mod text;
pub mod words;
