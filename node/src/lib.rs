//! One peer: the research loop, its memory and what a person sees of it.

pub mod cli;
pub mod control;
pub mod experiment;
pub mod files;
pub mod home;
pub mod journal;
pub mod manners;
pub mod program;
pub mod progress;
pub mod research;
pub mod store;
pub mod text;
pub mod view;
