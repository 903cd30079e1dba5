//! What a trainer tells its parent: one JSON object a line on standard output.
//!
//! The order of a run is `starting`, (`priced`), `training_started`, `progress`…, `evaluating`…, and last `finished`,
//! `pruned` or `failed`. Of a preparation it is `preparing`… and last `prepared` or `failed`. A parent treats anything else as
//! [`CrashClass::BadOutput`]; a line is at most [`MAX_LINE_BYTES`] long.

use serde::{Deserialize, Serialize};

use crate::{
    id::{ConfigHash, CorpusHash, TokenizerHash},
    outcome::{CrashClass, RunReport, Split},
    pruning::Pruned,
};

/// Longest line of the protocol. A report with its curve takes about 6 KB.
pub const MAX_LINE_BYTES: usize = 64 * 1024;

/// A held-out split's size and its overlap with training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SplitSummary {
    /// The split.
    pub split: Split,
    /// Bytes of text.
    pub bytes: u64,
    /// Tokens.
    pub tokens: u64,
    /// Share of its bytes, in lines of 40 or more characters, that stand verbatim in training; 0 for training itself.
    pub overlap: f64,
}

/// One line from the trainer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum TrainerEvent {
    /// Data is being prepared.
    Preparing {
        /// What is going on, such as `download`.
        stage: String,
        /// Units done.
        done: u64,
        /// Units in all, 0 where unknown.
        total: u64,
    },
    /// Data is ready.
    Prepared {
        /// The corpus.
        corpus: CorpusHash,
        /// The tokenizer.
        tokenizer: TokenizerHash,
        /// Distinct token ids, special ones included.
        vocabulary: u32,
        /// The splits.
        splits: Vec<SplitSummary>,
    },
    /// The trainer read its input and will build the model.
    Starting {
        /// Hash of the effective config that it will execute.
        config: ConfigHash,
        /// The run's seed.
        seed: u64,
        /// Device, such as `cpu`.
        device: String,
        /// Threads on a CPU.
        threads: u16,
        /// Trainable parameters.
        parameters: u64,
        /// Training FLOPs per token.
        flops_per_token: f64,
    },
    /// The config's price on this slot.
    Priced {
        /// Training throughput.
        tokens_per_second: f64,
        /// What the budget buys, rounded to whole steps.
        tokens: u64,
        /// Share of its threads' CPU time that the trainer got meanwhile; below 0.97 the price is void.
        cpu_share: f64,
        /// Wall-clock seconds that pricing took.
        seconds: f64,
    },
    /// The first step begins: the hard cap counts from here.
    TrainingStarted {
        /// Training tokens to go.
        tokens: u64,
        /// Optimizer steps to go.
        steps: u64,
        /// Seconds until the hard cap.
        cap_seconds: f64,
    },
    /// Training goes on; at most five a second.
    Progress {
        /// Steps done.
        step: u64,
        /// Training tokens seen.
        tokens: u64,
        /// Smoothed loss, nats per token.
        loss: f64,
        /// Throughput since the start.
        tokens_per_second: f64,
        /// Seconds since the start.
        seconds: f64,
    },
    /// Evaluation goes on.
    Evaluating {
        /// The split.
        split: Split,
        /// Tokens done.
        done: u64,
        /// Tokens in all.
        total: u64,
    },
    /// The run gave a number.
    Finished {
        /// Everything measured.
        report: Box<RunReport>,
    },
    /// The run was stopped early, too far behind what it was told to keep up with.
    #[serde(rename = "raced")] // the name in trainers' output
    Pruned {
        /// When, and how far behind.
        #[serde(rename = "raced")]
        pruned: Pruned,
    },
    /// The run gave none.
    Failed {
        /// Why.
        class: CrashClass,
        /// One line that says what was seen.
        message: String,
    },
}

impl TrainerEvent {
    /// Returns whether it says that other work took the machine.
    pub const fn is_starved(&self) -> bool {
        matches!(self, Self::Failed { class: CrashClass::Starved, .. })
    }
}
