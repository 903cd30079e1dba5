//! An experiment as the journal keeps it: hypothesis, patch, every run made for it, and the verdict.
//!
//! Not here: how a verdict is reached, which the node's research decides.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    codec,
    id::{ArenaId, Author, ConfigHash, ExperimentId, RecordId},
    knobs::KnobGroup,
    outcome::{CrashClass, Outcome},
    patch::Patch,
    train_config::EffectiveConfig,
};

/// Longest hypothesis line, bytes.
pub const MAX_HYPOTHESIS_BYTES: usize = 280;

/// Who proposed an experiment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proposer {
    /// The node itself: the first config, to have something to compare with.
    Baseline,
    /// The built-in search.
    Evolve,
    /// A person or an agent, by `node try`.
    Person,
    /// A language model.
    Llm,
}

impl Proposer {
    /// Returns the name used in files and lists.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Evolve => "evolve",
            Self::Person => "person",
            Self::Llm => "llm",
        }
    }
}

/// An idea: what to change, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hypothesis {
    /// Who proposed it.
    pub proposer: Proposer,
    /// The reason for it, in one line without control characters.
    pub because: String,
    /// The change to the parent's effective config.
    pub patch: Patch,
    /// Whether the change removes something, so that gaining nothing is enough to keep it.
    pub simplifies: bool,
    /// Ids of the discoveries that it builds on.
    pub inspired_by: Vec<String>,
}

impl Hypothesis {
    /// Makes one line of `because`: white space and control characters become single spaces, and the line is
    /// cut between two words at [`MAX_HYPOTHESIS_BYTES`].
    pub fn one_line(because: &str) -> String {
        let mut line = String::new();
        for word in
            because.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty())
        {
            if line.len() + word.len() + 1 > MAX_HYPOTHESIS_BYTES {
                break;
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        line
    }
}

/// What a run was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunRole {
    /// A screening run: the child on a seed of the fixed screening list.
    Screen,
    /// The incumbent on a seed of that list, kept for this experiment and for those after it.
    IncumbentScreen,
    /// The child's half of a fresh pair.
    Child,
    /// The incumbent's half of a fresh pair.
    Incumbent,
    /// A run of the baseline, to learn this machine's noise.
    Baseline,
}

/// One run of a trainer, made for an experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// What it was made for.
    pub role: RunRole,
    /// Hash of the effective config asked for.
    pub requested: ConfigHash,
    /// The run's seed.
    pub seed: u64,
    /// Training tokens asked for, where the price was known.
    pub tokens: Option<u64>,
    /// Which fresh pair it is a half of, counted from 0; none for other runs.
    pub pair: Option<u16>,
    /// The number of the slot that it ran on.
    pub slot: u16,
    /// Start, seconds since 1970.
    pub started_at: u64,
    /// How it ended, with what it measured.
    pub outcome: Outcome,
}

impl Run {
    /// Returns the validation value of a finished run, bits per byte.
    pub fn validation(&self) -> Option<f64> {
        self.outcome.report().map(|report| report.validation.get())
    }
}

/// A mean difference with its standard error: child − incumbent, bits per byte, negative is better.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Mean of the paired differences.
    pub delta: f64,
    /// Standard error of that mean.
    pub standard_error: f64,
    /// Number of fresh pairs.
    pub pairs: u16,
}

impl Estimate {
    /// Makes the estimate of paired differences: their mean, and their standard deviation over √n. None for
    /// fewer than two.
    pub fn of(differences: &[f64]) -> Option<Self> {
        let n = differences.len() as f64;
        if differences.len() < 2 {
            return None;
        }
        let delta = differences.iter().sum::<f64>() / n;
        let squares: f64 = differences.iter().map(|d| (d - delta).powi(2)).sum();
        Some(Self {
            delta,
            standard_error: (squares / (n - 1.0) / n).sqrt(),
            pairs: differences.len() as u16,
        })
    }

    /// Returns the sum of this gain and a later one. Their pairs are independent, so the variances add.
    #[must_use]
    pub fn and_then(self, next: Self) -> Self {
        Self {
            delta: self.delta + next.delta,
            standard_error: self.standard_error.hypot(next.standard_error),
            pairs: self.pairs + next.pairs,
        }
    }
}

impl fmt::Display for Estimate {
    /// Prints `Δ −0.0213 ± 0.0031  (3 pairs)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.delta < 0.0 { '−' } else { '+' };
        let plural = if self.pairs == 1 { "pair" } else { "pairs" };
        write!(f, "Δ {sign}{:.4} ± {:.4}  ({} {plural})", self.delta.abs(), self.standard_error, self.pairs)
    }
}

/// Why a change was not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiscardReason {
    /// It is clearly worse than the incumbent.
    ClearLoser,
    /// The evidence makes a gain worth having too unlikely.
    NoGain,
    /// It gains, but less than a change that adds something must.
    BelowMinEffect,
    /// All the runs that it may have are used up, and the answer is still not clear.
    Inconclusive,
    /// It won against an incumbent that was replaced meanwhile; its patch is tried again on the new one.
    Superseded,
    /// Its screening run was stopped early, too far behind the incumbent's.
    #[serde(rename = "raced")] // the name in journals
    Pruned,
}

impl DiscardReason {
    /// Returns the name used in files and lists.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClearLoser => "clear loser",
            Self::NoGain => "no gain",
            Self::BelowMinEffect => "below the smallest effect worth keeping",
            Self::Inconclusive => "inconclusive",
            Self::Superseded => "superseded",
            Self::Pruned => "pruned",
        }
    }
}

impl fmt::Display for DiscardReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a re-run compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Comparison {
    /// The author's config with its parent, at the author's token counts.
    Reproduced,
    /// The same pair under the attester's budget.
    Transfers,
    /// The patch on the attester's incumbent.
    Transplants,
}

impl Comparison {
    /// Returns the name used in files and lists.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reproduced => "reproduced",
            Self::Transfers => "transfers",
            Self::Transplants => "transplants",
        }
    }

    /// Returns what happened to the discovery, in one word.
    pub const fn past(self) -> &'static str {
        match self {
            Self::Reproduced => "reproduced",
            Self::Transfers => "transferred",
            Self::Transplants => "transplanted",
        }
    }
}

/// What became of an experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The first config, against which the first changes are measured.
    Baseline,
    /// Confirmed on fresh pairs; the incumbent from here on.
    Keep {
        /// The gain on validation, from the fresh pairs alone.
        estimate: Estimate,
        /// The gain on the audit split.
        audit: Option<Estimate>,
    },
    /// The change was not kept.
    Discard {
        /// Why it was not kept.
        reason: DiscardReason,
        /// What screening showed: child − incumbent, bits per byte.
        screened: Option<f64>,
        /// What fresh pairs showed, where some were run.
        estimate: Option<Estimate>,
    },
    /// The change gave no number.
    Crash {
        /// Which kind of crash it was.
        class: CrashClass,
        /// One line that says what was seen.
        message: String,
    },
    /// A peer's discovery, run again for its author; the incumbent stays as it is.
    #[serde(rename = "rerun")] // the name in journals
    Reproduction {
        /// What was compared.
        comparison: Comparison,
        /// What the fresh pairs showed, or how the change failed.
        found: Result<Estimate, CrashClass>,
    },
}

impl Verdict {
    /// Returns the name used in files and lists: `baseline`, `keep`, `discard`, `crash` or `re-run`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Keep { .. } => "keep",
            Self::Discard { .. } => "discard",
            Self::Crash { .. } => "crash",
            Self::Reproduction { .. } => "re-run",
        }
    }
}

/// One experiment, from the idea to the verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Experiment {
    /// Its place in this node's history, from 0 for the first baseline.
    pub number: u32,
    /// The arena that it was measured in.
    pub arena: ArenaId,
    /// The incumbent that it was compared with; none for a baseline.
    pub parent: Option<ConfigHash>,
    /// The child as executed.
    pub config: EffectiveConfig,
    /// How often this pair of configs was tried before.
    pub attempt: u16,
    /// What was tried, and why.
    pub hypothesis: Hypothesis,
    /// The knob group whose noise applies.
    pub group: KnobGroup,
    /// Screening differences against the incumbent's cached runs (child − incumbent, bits per byte), oldest
    /// first.
    pub screens: Vec<f64>,
    /// Every run made for it, in the order in which they ended.
    pub runs: Vec<Run>,
    /// What became of it.
    pub verdict: Verdict,
    /// Start, seconds since 1970.
    pub started_at: u64,
    /// End, seconds since 1970.
    pub finished_at: u64,
}

impl Experiment {
    /// Returns the id: a function of arena, child, parent and attempt.
    pub fn id(&self) -> ExperimentId {
        let key = (self.arena, self.config.hash(), self.parent, self.attempt);
        ExperimentId::of(&codec::encode(&key).expect("a key is far below the codec's limit"))
    }

    /// Returns the mean validation value of the child's runs, bits per byte.
    pub fn mean_validation(&self) -> Option<f64> {
        let wanted = self.config.hash();
        let values: Vec<f64> =
            self.runs.iter().filter(|run| run.requested == wanted).filter_map(Run::validation).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    }
}

/// Returns the seed of confirmation pair `index`. It is a hash, so nobody chooses it, and no earlier decision
/// has seen it.
pub fn confirmation_seed(
    arena: ArenaId,
    child: ConfigHash,
    parent: ConfigHash,
    attempt: u16,
    index: u16,
) -> u64 {
    let key =
        codec::encode(&(arena, child, parent, attempt, index)).expect("a key is far below the codec's limit");
    let hash = blake3::derive_key("autoswarm 1 confirmation seed", &key);
    u64::from_le_bytes(hash[..8].try_into().expect("eight of 32 bytes")) >> 1
}

/// Returns the seed of pair `index` of an attester's re-run of a discovery. Neither the author nor the
/// attester chooses it, and no two attesters run the same seeds.
pub fn reproduction_seed(discovery: RecordId, attester: Author, index: u16) -> u64 {
    let key = codec::encode(&(discovery, attester, index)).expect("a key is far below the codec's limit");
    let hash = blake3::derive_key("autoswarm 1 re-run seed", &key);
    u64::from_le_bytes(hash[..8].try_into().expect("eight of 32 bytes")) >> 1
}

/// Returns seed `index` of the fixed screening list of an arena.
pub fn screening_seed(arena: ArenaId, index: u32) -> u64 {
    let key = codec::encode(&(arena, index)).expect("a key is far below the codec's limit");
    let hash = blake3::derive_key("autoswarm 1 screening seed", &key);
    u64::from_le_bytes(hash[..8].try_into().expect("eight of 32 bytes")) >> 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hypothesis_is_one_clean_line() {
        let line = Hypothesis::one_line("wider\n\nVerdict: keep\u{1b}[31m red");
        assert_eq!(line, "wider Verdict: keep [31m red");
        assert!(Hypothesis::one_line(&"word ".repeat(200)).len() <= MAX_HYPOTHESIS_BYTES);
    }

    #[test]
    fn estimates_print_with_their_error() {
        let estimate = Estimate { delta: -0.0213, standard_error: 0.0031, pairs: 3 };
        assert_eq!(estimate.to_string(), "Δ −0.0213 ± 0.0031  (3 pairs)");
    }

    #[test]
    fn differences_and_gains_become_estimates() {
        assert_eq!(Estimate::of(&[-0.1]), None);
        let of_three = Estimate::of(&[-1.0, -2.0, -3.0]).expect("enough pairs");
        assert_eq!((of_three.delta, of_three.pairs), (-2.0, 3));
        assert!((of_three.standard_error - 1.0 / 3f64.sqrt()).abs() < 1e-12);
        let part = |delta, standard_error| Estimate { delta, standard_error, pairs: 2 };
        let sum = part(-0.3, 0.03).and_then(part(-0.1, 0.04));
        assert!((sum.delta + 0.4).abs() < 1e-12 && (sum.standard_error - 0.05).abs() < 1e-12);
        assert_eq!(sum.pairs, 4);
    }

    #[test]
    fn seeds_are_golden_and_differ() {
        let (arena, child, parent) = (ArenaId::of(b"a"), ConfigHash::of(b"c"), ConfigHash::of(b"p"));
        let seed = |attempt, index| confirmation_seed(arena, child, parent, attempt, index);
        assert_eq!(seed(0, 0), seed(0, 0));
        assert_ne!(seed(0, 0), seed(0, 1));
        assert_ne!(seed(0, 0), seed(1, 0));
        assert_ne!(screening_seed(arena, 0), screening_seed(arena, 1));
    }
}
