//! The working state of one proposal: it says which candidates may be tried, and how much each promises.

use autoswarm_protocol::{
    EffectiveConfig, Knob, KnobGroup, Patch, Value, id::ConfigHash, swarm_config::Objective,
};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::{
    ledger::Ledger,
    model::{Belief, Model},
    normal::expected_excess,
    predictor::{Machine, Predictor},
    space::Space,
};
use crate::{proposers::program::Direction, research::peer_results::PeerResults};

/// Everything that a proposal depends on, besides chance.
#[derive(Debug, Clone, Copy)]
pub(super) struct Context<'a> {
    /// The shared objective: frozen knobs, their ranges, and whether prior art may be used.
    pub objective: &'a Objective,
    /// What the experiments so far have shown.
    pub ledger: &'a Ledger,
    /// The config that every candidate changes.
    pub incumbent: &'a EffectiveConfig,
    /// The configs in flight.
    pub pending: &'a [ConfigHash],
    /// The patches of the configs in flight, as far as they are known.
    pub pending_patches: &'a [Patch],
    /// A person's direction, from program.md.
    pub direction: &'a Direction,
    /// Training seconds of a run.
    pub budget_seconds: f64,
    /// The memory and the speed that a run may count on.
    pub machine: Machine,
    /// What peers report of their own experiments.
    pub peer_results: &'a PeerResults,
}

/// A change that an operator would like to see tried.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Candidate {
    pub(super) changes: Vec<(Knob, Value)>,
    pub(super) because: String,
    pub(super) simplifies: bool,
}

/// A candidate that may be proposed.
#[derive(Debug, Clone)]
pub(super) struct Viable {
    pub(super) candidate: Candidate,
    pub(super) child: EffectiveConfig,
    pub(super) patch: Patch,
    pub(super) belief: Belief,
}

/// Standard deviations of a pair from which on a gain counts. // Tuned on made-up surfaces, 2026-11.
const VISIBLE: f64 = 0.5;

/// One proposal's working state.
pub(super) struct Search<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) space: Space,
    pub(super) model: Model,
    pub(super) predictor: Predictor<'a>,
}

impl<'a> Search<'a> {
    pub(super) fn new(context: &'a Context<'a>) -> Self {
        let space = Space::new(context.objective, context.direction);
        let model =
            Model::fit(&space, context.ledger, &context.peer_results.results, context.pending_patches);
        let predictor = Predictor::new(context.machine, context.budget_seconds, context.ledger);
        Self { context, space, model, predictor }
    }

    /// Checks a candidate: inside the space, new, and fit for the machine.
    pub(super) fn viable(&self, candidate: Candidate) -> Option<Viable> {
        let (child, patch) = self.space.child(self.context.incumbent, &candidate.changes)?;
        let hash = child.hash();
        if self.context.pending.contains(&hash)
            || self.context.ledger.is_closed(hash)
            || self.predictor.misfit(&child, self.context.incumbent).is_some()
        {
            return None;
        }
        let belief = self.model.predict(&self.space, &patch);
        Some(Viable { candidate, child, patch, belief })
    }

    /// Returns the logarithm of a change's expected improvement, which counts a gain only beyond what can be
    /// seen. A gain far below the noise is not kept, so it is not worth a run.
    pub(super) fn promise(&self, belief: Belief) -> f64 {
        let visible = VISIBLE * self.context.ledger.pair_sd(KnobGroup::Shape);
        let distance = (-belief.mean - visible) / belief.sd;
        (belief.sd * expected_excess(distance)).max(f64::MIN_POSITIVE).ln()
    }
}

impl Candidate {
    pub(super) fn new(changes: Vec<(Knob, Value)>, because: String) -> Self {
        Self { changes, because, simplifies: false }
    }

    pub(super) fn simpler(self) -> Self {
        Self { simplifies: true, ..self }
    }
}

/// Most candidates of one operator that are looked at; more would cost milliseconds and change little.
const MOST_CANDIDATES: usize = 64;

/// Cuts a list down to a random sample of at most [`MOST_CANDIDATES`].
pub(super) fn shorten(candidates: &mut Vec<Candidate>, rng: &mut ChaCha8Rng) {
    // The first steps of a Fisher–Yates shuffle.
    for place in 0..MOST_CANDIDATES.min(candidates.len()) {
        let other = rng.random_range(place..candidates.len());
        candidates.swap(place, other);
    }
    candidates.truncate(MOST_CANDIDATES);
}
