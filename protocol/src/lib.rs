//! What nodes and trainers say to each other: the values, their bytes, and the checks on both.
//!
//! Deliberately not here: a runtime, a network, tensors, a file system.

pub mod arena;
pub mod bpb;
pub mod codec;
pub mod event;
pub mod experiment;
pub mod id;
pub mod knobs;
pub mod outcome;
pub mod patch;
pub mod pruning;
pub mod record;
pub mod swarm_config;
pub mod train_config;

pub use arena::{Arena, Budget, Dtype};
pub use bpb::Bpb;
pub use event::TrainerEvent;
pub use experiment::{Estimate, Experiment, Hypothesis, Proposer, Run, RunRole, Verdict};
pub use knobs::{Knob, KnobGroup};
pub use outcome::{Crash, CrashClass, Outcome, RunReport, Split};
pub use patch::Patch;
pub use pruning::Pruned;
pub use swarm_config::SwarmConfig;
pub use train_config::{ConfigError, EffectiveConfig, TrainConfig, Value};
