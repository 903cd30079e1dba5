//! What a search believes, for people: how much each knob matters here, its most promising step, and how each kind of
//! move has done. The numbers are those that proposals are ranked by.

use serde::{Deserialize, Serialize};

/// What a search without experiments answers when it is asked what it believes.
pub const NOTHING_BELIEVED: &str = "the search believes nothing yet: there is no baseline";

/// Everything that `node experiments --importance` shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Importance {
    /// The knobs that may be changed, the one with the largest effect first.
    pub knobs: Vec<KnobBelief>,
    /// The kinds of move, the one that is drawn most first.
    pub operators: Vec<OperatorRecord>,
    /// Experiments that the beliefs rest on.
    pub trials: u32,
    /// Changes that peers reported and that count too.
    #[serde(rename = "rumours")] // the name in `--json`
    pub peer_results: u32,
    /// Experiments since the last keep.
    pub since_keep: u32,
    /// Shares of the proposals that may change two to four knobs, and more.
    pub scope: [f64; 2],
    /// Standard deviation of one paired difference on this machine, bits per byte.
    pub pair_sd: f64,
}

/// What is believed of one knob.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KnobBelief {
    /// Its name.
    pub knob: String,
    /// Its group.
    pub group: String,
    /// The incumbent's value.
    pub now: String,
    /// Experiments that changed it.
    pub trials: u32,
    /// Standard deviation of what one step of it does, bits per byte, as its trials taught: how much it matters.
    pub effect: f64,
    /// The most promising step from the incumbent, where there is one.
    pub step: Option<BeliefStep>,
}

/// A step of one knob and what is expected of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BeliefStep {
    /// The value.
    pub to: String,
    /// The expected difference, bits per byte, negative is better.
    pub delta: f64,
    /// Its standard deviation.
    pub sd: f64,
    /// The chance that it gains anything.
    pub chance: f64,
}

/// How one kind of move has done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OperatorRecord {
    /// Its name.
    pub operator: String,
    /// Experiments of late that were its idea.
    pub trials: u32,
    /// Those that were kept.
    pub keeps: u32,
    /// What its candidates' promise is multiplied with now, relative to the largest.
    pub weight: f64,
}
