//! One peer: the research loop, its memory and what a person sees of it.

pub mod base;
pub mod board;
pub mod cli;
pub mod commands;
pub mod control;
pub mod discoveries;
pub mod doctor;
pub mod event_loop;
pub mod events;
pub mod home;
pub mod identity;
pub mod journal;
pub mod machine;
pub mod memory;
pub mod network;
pub mod objectives;
pub mod proposers;
pub mod report;
pub mod research;
pub mod runs;
pub mod session;
pub mod settings;
pub mod store;
pub mod swarm_git;
pub mod swarm_side;
pub mod view;
