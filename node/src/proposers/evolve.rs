//! The built-in search: it chooses what to try next, and says why. No network, no key, no language model.
//!
//! ```text
//! operators (prior art, scale, model, bracket, split, ablation, recombination)
//!     └▶ candidates ─▶ inside the space? new? fits memory and budget? ─▶ model's belief ─▶ most promising
//! ```
//!
//! Every operator lists candidates. They are ranked by the expected gain beyond what this machine's noise
//! hides, times the operator's weight. The weight says how well the operator has done here and how much the
//! moment asks for it. Most proposals change one knob, some two to four; when keeps stop coming, most change
//! several and some many.
//!
//! **No effective config is ever proposed twice.** Pure: everything follows from the ledger, the direction,
//! peers' results and the seed.

mod importance;
pub mod ledger;
mod model;
mod normal;
mod operator;
mod operators;
mod predictor;
mod priors;
mod propose;
mod search;
mod space;

use std::collections::VecDeque;

use autoswarm_protocol::{EffectiveConfig, Experiment, Patch, id::ConfigHash, swarm_config::Objective};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

pub use model::Belief;
pub use operator::Operator;
pub use predictor::{Machine, Misfit, Prediction, Predictor};
pub use propose::{Exhausted, Suggestion};

use crate::{
    proposers::program::Direction,
    research::{
        Proposal, Propose,
        beliefs::Importance,
        peer_results::{MAX_PEER_RESULTS, PeerResults},
    },
};
use importance::importance;
use ledger::Ledger;
use propose::propose;
use search::Context;

/// Most recent proposals whose patches are remembered: more than there are slots on any machine.
const MOST_RECENT: usize = 256;

/// The built-in search.
#[derive(Debug, Clone)]
pub struct Evolve {
    objective: Objective,
    machine: Machine,
    budget_seconds: f64,
    seed: u64,
    direction: Direction,
    ledger: Ledger,
    peer_results: PeerResults,
    /// The latest proposals, oldest first, to know the patches of what is in flight.
    recent: VecDeque<(ConfigHash, Patch)>,
    exhausted: Option<Exhausted>,
}

impl Evolve {
    /// Makes a search with an empty ledger; the same seed gives the same proposals.
    pub fn new(objective: Objective, machine: Machine, budget_seconds: f64, seed: u64) -> Self {
        Self {
            objective,
            machine,
            budget_seconds,
            seed,
            direction: Direction::default(),
            ledger: Ledger::default(),
            peer_results: PeerResults::default(),
            recent: VecDeque::new(),
            exhausted: None,
        }
    }

    /// Follows a new direction from the next proposal on.
    pub fn direct(&mut self, direction: Direction) {
        self.direction = direction;
    }

    /// Returns what the experiments so far have shown.
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Returns why the last call proposed nothing, if it did not.
    pub const fn exhausted(&self) -> Option<Exhausted> {
        self.exhausted
    }

    /// Proposes a change, with everything that the search expects of it.
    pub fn suggest(
        &mut self,
        incumbent: &EffectiveConfig,
        pending: &[ConfigHash],
        number: u32,
    ) -> Result<Suggestion, Exhausted> {
        let patches: Vec<Patch> = self
            .recent
            .iter()
            .filter(|(hash, _)| pending.contains(hash))
            .map(|(_, patch)| patch.clone())
            .collect();
        // A random stream per experiment number, so that a restart proposes what it would have proposed.
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(u64::from(number));
        let suggestion = propose(&self.context(incumbent, pending, &patches), &mut rng);
        self.exhausted = suggestion.as_ref().err().copied();
        if let Ok(suggestion) = &suggestion {
            let proposal = &suggestion.proposal;
            self.recent.push_back((proposal.child.hash(), proposal.hypothesis.patch.clone()));
            while self.recent.len() > MOST_RECENT {
                self.recent.pop_front();
            }
        }
        suggestion
    }

    fn context<'a>(
        &'a self,
        incumbent: &'a EffectiveConfig,
        pending: &'a [ConfigHash],
        pending_patches: &'a [Patch],
    ) -> Context<'a> {
        Context {
            objective: &self.objective,
            ledger: &self.ledger,
            incumbent,
            pending,
            pending_patches,
            direction: &self.direction,
            budget_seconds: self.budget_seconds,
            machine: self.machine,
            peer_results: &self.peer_results,
        }
    }
}

impl Propose for Evolve {
    fn observe(&mut self, experiment: &Experiment) {
        self.ledger.observe(experiment);
    }

    fn take_peer_results(&mut self, mut peer_results: PeerResults) {
        peer_results.results.truncate(MAX_PEER_RESULTS);
        self.peer_results = peer_results;
    }

    fn propose(
        &mut self,
        incumbent: &EffectiveConfig,
        pending: &[ConfigHash],
        number: u32,
    ) -> Option<Proposal> {
        self.suggest(incumbent, pending, number).ok().map(|suggestion| suggestion.proposal)
    }

    fn importance(&self) -> Option<Importance> {
        let incumbent = self.ledger.incumbent()?;
        Some(importance(&self.context(incumbent, &[], &[])))
    }
}

#[cfg(test)]
pub(crate) mod tests;
