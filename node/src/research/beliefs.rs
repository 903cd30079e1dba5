//! What a search believes, in a form for people; its numbers are those that proposals are ranked by.
//!
//! It says how much each knob matters here, what its best step promises, and how each kind of move has done.

use serde::{Deserialize, Serialize};

/// The answer of a search that has no baseline yet, when it is asked what it believes.
pub const NOTHING_BELIEVED: &str = "the search believes nothing yet: there is no baseline";

/// Everything that `node experiments --importance` shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Importance {
    /// The knobs that may be changed, the largest effect first.
    pub knobs: Vec<KnobBelief>,
    /// The kinds of move, the largest weight first.
    pub operators: Vec<OperatorRecord>,
    /// Number of own experiments that the beliefs rest on.
    pub trials: u32,
    /// Number of changes that peers reported and that count too.
    #[serde(rename = "rumours")] // the name in `--json`
    pub peer_results: u32,
    /// Experiments since the last keep.
    pub since_keep: u32,
    /// Shares of proposals, 0 to 1: those that may change two to four knobs, and those that may change more.
    pub scope: [f64; 2],
    /// Standard deviation of one paired difference on this machine, bits per byte.
    pub pair_sd: f64,
}

/// What is believed of one knob.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KnobBelief {
    /// The knob's name.
    pub knob: String,
    /// The name of the knob's group.
    pub group: String,
    /// The incumbent's value.
    pub now: String,
    /// Number of experiments that changed it.
    pub trials: u32,
    /// How much it matters: standard deviation of the effect of one step, bits per byte, by its trials.
    pub effect: f64,
    /// The most promising step from the incumbent, where there is one.
    pub step: Option<BeliefStep>,
}

/// A step of one knob and what is expected of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BeliefStep {
    /// The knob's value after the step.
    pub to: String,
    /// The expected difference, bits per byte, negative is better.
    pub delta: f64,
    /// Standard deviation of that belief, bits per byte.
    pub sd: f64,
    /// Probability that the step gains anything, 0 to 1.
    pub chance: f64,
}

/// How one kind of move has done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OperatorRecord {
    /// The operator's name.
    pub operator: String,
    /// Number of recent experiments that it proposed.
    pub trials: u32,
    /// How many of those were kept.
    pub keeps: u32,
    /// The factor on its candidates' promise now, relative to the largest such factor.
    pub weight: f64,
}
