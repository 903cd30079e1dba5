//! Peers' results: what peers report of their own experiments, in the form that a search can weigh.
//!
//! They lower or raise the interest in a change and decide nothing: a verdict rests on runs made here.

use std::collections::BTreeSet;

use autoswarm_protocol::{Patch, id::ConfigHash};

/// Most changes that a search is told of: as many as the model can factorise in a few milliseconds.
pub const MAX_PEER_RESULTS: usize = 96;

/// What peers found of one change, all their reports together.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerResult {
    /// The change; each author made it to an incumbent of their own.
    pub patch: Patch,
    /// Mean difference, bits per byte, negative is better.
    pub delta: f64,
    /// Standard error of `delta`, from the authors' own noise alone.
    pub standard_error: f64,
    /// Number of authors who reported it, each counted once.
    pub authors: u32,
    /// Probability that the numbers are real, 0 to 1: that of the most believed author.
    pub belief: f64,
    /// Whether all authors measured it in the arena of this search.
    pub same_arena: bool,
}

/// All that peers report to a search.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PeerResults {
    /// Changes that peers tried, the most telling first, at most [`MAX_PEER_RESULTS`].
    pub results: Vec<PeerResult>,
    /// Configs that peers say they are running now.
    pub claimed: BTreeSet<ConfigHash>,
}
