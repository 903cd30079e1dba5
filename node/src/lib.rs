//! One peer: the research loop, its memory and what a person sees of it.

pub mod board;
pub mod cli;
pub mod commands;
pub mod control;
pub mod dataset;
pub mod doctor;
pub mod event_loop;
pub mod experiment;
pub mod files;
pub mod home;
pub mod journal;
pub mod manners;
pub mod memory;
pub mod pricing;
pub mod probe;
pub mod program;
pub mod progress;
pub mod report;
pub mod research;
pub mod searcher;
pub mod session;
pub mod settings;
pub mod store;
pub mod text;
pub mod view;
