//! What any part of the node may use: the clock, files, hostile text, hints, databases. It knows nothing of research.

pub mod clock;
pub mod database;
pub mod files;
pub mod hint;
pub mod text;
pub mod words;
