//! What a trainer tells its parent: one JSON object a line on standard output.
//!
//! A run's events come in this order: `starting`, (`priced`), `training_started`, `progress`…, `evaluating`…,
//! and last `finished`, `raced` (the run was pruned) or `failed`. Those of a preparation: `preparing`…, and
//! last `prepared` or `failed`. To the parent anything else is [`CrashClass::BadOutput`]. No line is
//! longer than [`MAX_LINE_BYTES`].

use serde::{Deserialize, Serialize};

use crate::{
    id::{ConfigHash, CorpusHash, TokenizerHash},
    outcome::{CrashClass, RunReport, Split},
    pruning::Pruned,
};

/// Longest line, bytes. A report with its curve takes about 6 KB.
pub const MAX_LINE_BYTES: usize = 64 * 1024;

/// A held-out split's size and its overlap with training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SplitSummary {
    /// Which split it is.
    pub split: Split,
    /// Size of its text, bytes.
    pub bytes: u64,
    /// Number of its tokens.
    pub tokens: u64,
    /// Of its bytes in lines of 40 or more characters, the share whose line stands verbatim in training; 0
    /// for training itself.
    pub overlap: f64,
}

/// One line from the trainer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum TrainerEvent {
    /// Data is being prepared.
    Preparing {
        /// The kind of work, such as `download`.
        stage: String,
        /// Units of work done.
        done: u64,
        /// Units of work in all, 0 where unknown.
        total: u64,
    },
    /// Data is ready.
    Prepared {
        /// Hash of the corpus.
        corpus: CorpusHash,
        /// Hash of the tokenizer's description.
        tokenizer: TokenizerHash,
        /// Distinct token ids, special ones included.
        vocabulary: u32,
        /// Size and overlap of each split.
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
        /// Number of threads, on a CPU.
        threads: u16,
        /// Number of trainable parameters.
        parameters: u64,
        /// Training FLOPs per token.
        flops_per_token: f64,
    },
    /// What the config costs on this slot, timed on steps that are thrown away.
    Priced {
        /// Training throughput, tokens a second.
        tokens_per_second: f64,
        /// Training tokens that the budget buys, rounded to whole steps.
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
    /// Training goes on; sent at most five times a second.
    Progress {
        /// Optimizer steps done.
        step: u64,
        /// Training tokens seen.
        tokens: u64,
        /// Smoothed loss, nats per token.
        loss: f64,
        /// Throughput since training started, tokens a second.
        tokens_per_second: f64,
        /// Seconds since training started.
        seconds: f64,
    },
    /// Evaluation goes on.
    Evaluating {
        /// The split that is read.
        split: Split,
        /// Tokens evaluated so far.
        done: u64,
        /// Tokens to evaluate in all.
        total: u64,
    },
    /// The run gave a number.
    Finished {
        /// Everything that was measured.
        report: Box<RunReport>,
    },
    /// The run was stopped early: its loss passed one of the bounds that its parent had set.
    #[serde(rename = "raced")] // the name in trainers' output
    Pruned {
        /// When it was stopped, and how far behind it was.
        #[serde(rename = "raced")]
        pruned: Pruned,
    },
    /// The run gave no number, or the preparation no data.
    Failed {
        /// Which kind of failure it was.
        class: CrashClass,
        /// One line that says what was seen.
        message: String,
    },
}

impl TrainerEvent {
    /// Returns whether the trainer failed because other work took the machine.
    pub const fn is_starved(&self) -> bool {
        matches!(self, Self::Failed { class: CrashClass::Starved, .. })
    }
}
