//! How a run ends: a report of everything that was measured, a crash with its class, or where it was pruned.
//! **Never a made-up number.**

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    bpb::Bpb,
    id::{ConfigHash, CorpusHash, TokenizerHash},
    pruning::{PRUNE_POINTS, Pruned, curve_point},
};

/// Version of what the trainer computes; it moves only when the golden-loss test does.
pub const TRAINER_SEMANTICS: u16 = 2;

/// A part of the corpus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// What models are trained on.
    Train,
    /// What verdicts are reached on.
    Validation,
    /// What challenges use; it also shows over-fitting to validation.
    Audit,
    /// What `node report` alone reads, once.
    Locked,
}

impl Split {
    /// Every split, in the order of their files.
    pub const ALL: [Self; 4] = [Self::Train, Self::Validation, Self::Audit, Self::Locked];

    /// Every split that no model is trained on.
    pub const HELD_OUT: [Self; 3] = [Self::Validation, Self::Audit, Self::Locked];

    /// Returns the name used in files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Audit => "audit",
            Self::Locked => "locked",
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One point of a loss curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Optimizer steps done.
    pub step: u64,
    /// Training tokens seen.
    pub tokens: u64,
    /// Smoothed training loss, nats per token.
    pub loss: f64,
}

/// Everything that a finished run measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// Hash of the effective config that the trainer executed.
    pub executed: ConfigHash,
    /// The run's seed.
    pub seed: u64,
    /// The corpus trained on.
    pub corpus: CorpusHash,
    /// The tokenizer used.
    pub tokenizer: TokenizerHash,
    /// The trainer's semantics number.
    pub semantics: u16,
    /// Device, such as `cpu` or `cuda:0`.
    pub device: String,
    /// Number format of the products, `f32` or `bf16`.
    pub dtype: String,
    /// Number of threads, on a CPU.
    pub threads: u16,
    /// Number of optimizer steps.
    pub steps: u64,
    /// Training tokens: steps × tokens per step.
    pub tokens: u64,
    /// Training FLOPs: tokens × FLOPs per token (6 for each parameter in a product, and those of attention).
    pub flops: f64,
    /// Number of trainable parameters.
    pub parameters: u64,
    /// Wall-clock seconds of training, from the first step to the last.
    pub training_seconds: f64,
    /// CPU seconds of training, over all threads.
    pub training_cpu_seconds: f64,
    /// Seconds before training started: loading, building, pricing.
    pub startup_seconds: f64,
    /// Seconds of evaluation.
    pub evaluation_seconds: f64,
    /// Peak memory, bytes: resident on a CPU, allocated on a GPU.
    pub peak_memory_bytes: u64,
    /// Training loss of the first step, nats per token.
    pub initial_loss: f64,
    /// The loss curve, at most 64 points.
    pub curve: Vec<CurvePoint>,
    /// Bits per byte on validation.
    pub validation: Bpb,
    /// Bits per byte on audit, where it was asked for.
    pub audit: Option<Bpb>,
    /// Bits per byte on locked, where it was asked for.
    pub locked: Option<Bpb>,
}

impl RunReport {
    /// Makes the report of a run that no trainer made, for simulators and tests: one CPU thread and no curve.
    /// `tokens` are those of training; `seconds` are both its wall-clock and its CPU seconds.
    pub fn simulated(executed: ConfigHash, seed: u64, tokens: u64, seconds: f64, validation: Bpb) -> Self {
        Self {
            executed,
            seed,
            corpus: CorpusHash::of(b"simulated"),
            tokenizer: TokenizerHash::of(b"bytes"),
            semantics: 1,
            device: "cpu".to_owned(),
            dtype: "f32".to_owned(),
            threads: 1,
            steps: 10,
            tokens,
            flops: 1.0,
            parameters: 1,
            training_seconds: seconds,
            training_cpu_seconds: seconds,
            startup_seconds: 0.0,
            evaluation_seconds: 0.0,
            peak_memory_bytes: 1,
            initial_loss: 5.545,
            curve: Vec::new(),
            validation,
            audit: None,
            locked: None,
        }
    }

    /// Returns the training throughput, tokens per second.
    pub fn tokens_per_second(&self) -> f64 {
        self.tokens as f64 / self.training_seconds.max(1e-9)
    }
}

/// Returns the smoothed losses of a finished run at [`PRUNE_POINTS`], nats per token; none where a run is too
/// short to have them.
pub fn early_losses(report: &RunReport) -> Option<[f64; PRUNE_POINTS.len()]> {
    let mut losses = [0.0; PRUNE_POINTS.len()];
    for (loss, wanted) in losses.iter_mut().zip(PRUNE_POINTS) {
        let at = report.curve.iter().find(|point| curve_point(point.step, report.steps) == Some(wanted))?;
        *loss = at.loss;
    }
    Some(losses)
}

/// Why a run gave no number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CrashClass {
    /// The loss became infinite or was not a number.
    NotANumber,
    /// The loss rose above 100 nats per token.
    Diverged,
    /// The machine or the device ran out of memory.
    OutOfMemory,
    /// Training took longer than the hard cap.
    TimedOut,
    /// Evaluation took longer than its own cap.
    EvaluationTimedOut,
    /// The budget buys too few steps at the config's price.
    TooSlow,
    /// The trainer wrote something that is not its protocol, or no result.
    BadOutput,
    /// The executed config is not the requested one.
    ConfigMismatch,
    /// The trainer said nothing for too long.
    Hung,
    /// A signal ended the trainer.
    Killed,
    /// The trainer exited with an error of its own.
    Failed,
    /// The trainer could not be started.
    NotStarted,
    /// Other work kept the machine too busy.
    Starved,
}

impl CrashClass {
    /// Returns the name used in files and lists.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotANumber => "not a number",
            Self::Diverged => "diverged",
            Self::OutOfMemory => "out of memory",
            Self::TimedOut => "timed out",
            Self::EvaluationTimedOut => "evaluation timed out",
            Self::TooSlow => "too slow",
            Self::BadOutput => "bad output",
            Self::ConfigMismatch => "config mismatch",
            Self::Hung => "hung",
            Self::Killed => "killed",
            Self::Failed => "failed",
            Self::NotStarted => "not started",
            Self::Starved => "starved",
        }
    }

    /// Returns whether the config is to blame. The other classes may be the machine's fault, so that a second
    /// try is fair.
    pub const fn blames_config(self) -> bool {
        matches!(
            self,
            Self::NotANumber
                | Self::Diverged
                | Self::OutOfMemory
                | Self::TimedOut
                | Self::EvaluationTimedOut
                | Self::TooSlow
        )
    }
}

impl fmt::Display for CrashClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a run ended that gave no number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Crash {
    /// Which kind of crash it was.
    pub class: CrashClass,
    /// One line that says what was seen.
    pub message: String,
    /// Wall-clock seconds until it ended.
    pub seconds: f64,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It gave a number.
    Finished(Box<RunReport>),
    /// It gave no number.
    Crashed(Crash),
    /// It was stopped early, too far behind the incumbent.
    #[serde(rename = "raced")] // the name in journals
    Pruned(Pruned),
}

impl Outcome {
    /// Returns the report of a finished run.
    pub fn report(&self) -> Option<&RunReport> {
        match self {
            Self::Finished(report) => Some(report),
            Self::Crashed(_) | Self::Pruned(_) => None,
        }
    }
}
