//! Values, bytes and judgement of Autoswarm: no runtime, no network, no tensors, no file system.

pub mod bpb;
pub mod event;
pub mod id;
pub mod knobs;
pub mod outcome;
pub mod train_config;

pub use bpb::Bpb;
pub use event::TrainerEvent;
pub use knobs::{Knob, KnobGroup};
pub use outcome::{Crash, CrashClass, Outcome, RunReport, Split};
pub use train_config::{ConfigError, EffectiveConfig, TrainConfig, Value};
