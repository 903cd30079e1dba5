//! Evidence at second hand: what peers say of their own experiments, in the form that a search can weigh.
//!
//! It lowers or raises the interest in what it covers and decides nothing: a verdict rests on runs made here.

use std::collections::BTreeSet;

use autoswarm_protocol::{Patch, id::ConfigHash};

/// Most changes that a search is told of: what the model's factorisation takes in a few milliseconds.
pub const MAX_PEER_RESULTS: usize = 96;

/// What peers found of one change, all their reports together.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerResult {
    /// The change, each on its author's incumbent.
    pub patch: Patch,
    /// Mean difference, bits per byte, negative is better.
    pub delta: f64,
    /// Its standard error, as far as the authors' own noise goes.
    pub standard_error: f64,
    /// Authors who reported it; one counts once.
    pub authors: u32,
    /// The chance that its numbers are real: that of the most believed author.
    pub belief: f64,
    /// Whether all of it was measured in the arena of the search.
    pub same_arena: bool,
}

/// What peers say.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PeerResults {
    /// Changes that they tried, the most telling first, at most [`MAX_PEER_RESULTS`].
    pub results: Vec<PeerResult>,
    /// Configs that they are at.
    pub claimed: BTreeSet<ConfigHash>,
}
