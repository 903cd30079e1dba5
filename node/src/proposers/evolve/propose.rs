//! One proposal: every operator lists candidates, and the most promising one that may be tried is proposed.

use std::collections::BTreeMap;

use autoswarm_protocol::{Hypothesis, Proposer as Author};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::{
    ledger::Ledger,
    model::Belief,
    normal::normal,
    operator::Operator,
    operators,
    predictor::Prediction,
    search::{Candidate, Context, Search, Viable, shorten},
};
use crate::{proposers::program::Scope, research::Proposal};

/// A proposal with what the search thinks of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Suggestion {
    /// The child and why.
    pub proposal: Proposal,
    /// The kind of move.
    pub operator: Operator,
    /// What the model expects, bits per byte.
    pub belief: Belief,
    /// What it is expected to cost.
    pub prediction: Prediction,
}

/// Why nothing is proposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Exhausted {
    /// No knob may be changed.
    #[error(
        "the swarm config and program.md leave no knob to change; widen `focus` or shorten `avoid` or `frozen`"
    )]
    NoKnobs,
    /// Every config that may be tried was tried, or does not fit.
    #[error(
        "nothing new is left inside the swarm config's ranges and program.md's direction that fits this machine; widen `focus`, `scope` or the ranges"
    )]
    NothingNew,
}

/// How much chance mixes the order, in logarithms of promise: enough that runs in flight differ. // As above.
const JITTER: f64 = 0.3;
/// What a peer's word that it is at a config already takes from the config's promise, in logarithms: a reason to try
/// something else first, not a ban that anybody could speak. // Wild guess.
const CLAIMED: f64 = 2.0;
/// Newest trials by which an operator's record is judged.
const RECENT_TRIALS: usize = 60;
/// Blind draws of several knobs before the search gives up.
const BLIND_DRAWS: usize = 400;

/// Proposes the next experiment.
pub(super) fn propose(context: &Context<'_>, rng: &mut ChaCha8Rng) -> Result<Suggestion, Exhausted> {
    let search = Search::new(context);
    if search.space.open().next().is_none() {
        return Err(Exhausted::NoKnobs);
    }
    let scope = scope_of(context, rng);
    let mut best: Option<(f64, Operator, Viable)> = None;
    for (operator, weight) in operator_weights(context) {
        let mut candidates = operators::candidates(operator, &search, scope, rng);
        shorten(&mut candidates, rng);
        for viable in candidates.into_iter().filter_map(|candidate| search.viable(candidate)) {
            let taken = context.peer_results.claimed.contains(&viable.child.hash());
            let promise = search.promise(viable.belief) + weight.ln() + JITTER * normal(rng)
                - if taken { CLAIMED } else { 0.0 };
            if best.as_ref().is_none_or(|(most, ..)| promise > *most) {
                best = Some((promise, operator, viable));
            }
        }
    }
    if let Some((_, operator, viable)) = best {
        return Ok(suggest(&search, operator, viable));
    }
    last_resort(&search, rng)
        .map(|viable| suggest(&search, Operator::Model, viable))
        .ok_or(Exhausted::NothingNew)
}

/// Returns how many knobs to change.
fn scope_of(context: &Context<'_>, rng: &mut ChaCha8Rng) -> Scope {
    let (focused, broad) = shares_of_scope(context);
    let chance: f64 = rng.random();
    if chance < broad {
        Scope::Broad
    } else if chance < broad + focused {
        Scope::Focused
    } else {
        Scope::Narrow
    }
}

/// Returns the shares of focused and of broad proposals: what program.md says, else by how long nothing was kept. One knob at a time while
/// that gains: where a run's noise is small against the best steps, a change of several mostly carries a bad one along. Then several: what is
/// left shows in a sum first. // Tuned on the surface of real runs, 2026-11.
pub(super) fn shares_of_scope(context: &Context<'_>) -> (f64, f64) {
    match (context.direction.scope, context.ledger.since_keep()) {
        (Some(Scope::Narrow), _) => (0.0, 0.0),
        (Some(Scope::Focused), _) => (1.0, 0.0),
        (Some(Scope::Broad), _) => (0.0, 1.0),
        (None, 0..20) => (0.1, 0.0),
        (None, _) => (0.5, 0.25),
    }
}

/// Returns each operator's keeps and tries among the newest trials.
pub(super) fn record_of(ledger: &Ledger) -> BTreeMap<Operator, (u32, u32)> {
    let mut record: BTreeMap<Operator, (u32, u32)> = BTreeMap::new();
    for trial in ledger.trials().rev().take(RECENT_TRIALS) {
        if let Some(operator) = trial.operator {
            let entry = record.entry(operator).or_default();
            *entry = (entry.0 + u32::from(trial.kept), entry.1 + 1);
        }
    }
    record
}

/// Returns each operator's weight: what the moment asks for, times how often it won here.
pub(super) fn operator_weights(context: &Context<'_>) -> BTreeMap<Operator, f64> {
    let ledger = context.ledger;
    let count = ledger.trials().len();
    let stuck = ledger.since_keep();
    let record = record_of(ledger);
    let moment = |operator| match operator {
        Operator::Prior => {
            if context.objective.priors {
                1.0
            } else {
                0.0
            }
        }
        Operator::Scale => {
            if count < 12 {
                3.0
            } else {
                0.5
            }
        }
        Operator::Model => 2.0,
        Operator::Bracket => {
            if stuck < 4 {
                4.0
            } else {
                0.7
            }
        }
        Operator::Split => 0.6,
        Operator::Ablation => {
            if count < 10 {
                0.0
            } else {
                0.3
            }
        }
        Operator::Recombination => {
            if stuck < 3 {
                0.0
            } else {
                0.6
            }
        }
    };
    Operator::ALL
        .into_iter()
        .map(|operator| {
            let (keeps, tries) = record.get(&operator).copied().unwrap_or_default();
            // Four in twenty is what an operator is trusted with before it was tried.
            (operator, moment(operator) * (f64::from(keeps) + 1.0) / (f64::from(tries) + 5.0))
        })
        .filter(|(_, weight)| *weight > 0.0)
        .collect()
}

/// Looks at every value of every knob, then at blind draws of several.
fn last_resort(search: &Search<'_>, rng: &mut ChaCha8Rng) -> Option<Viable> {
    let because = "model: what is left of one-knob changes";
    let singles: Vec<Candidate> = search
        .space
        .open()
        .flat_map(|axis| {
            let from = search.context.incumbent.get(axis.knob);
            axis.all(from).into_iter().map(|to| Candidate::new(vec![(axis.knob, to)], because.to_owned()))
        })
        .collect();
    let viable = singles.into_iter().filter_map(|candidate| search.viable(candidate));
    let single = viable.max_by(|a, b| search.promise(a.belief).total_cmp(&search.promise(b.belief)));
    if single.is_some() || search.context.direction.scope == Some(Scope::Narrow) {
        return single;
    }
    (0..BLIND_DRAWS).find_map(|draw| {
        let knobs = 2 + draw % 7;
        search.viable(operators::blind(search, knobs, rng))
    })
}

fn suggest(search: &Search<'_>, operator: Operator, viable: Viable) -> Suggestion {
    let Viable { candidate, child, patch, belief } = viable;
    let prediction = search.predictor.predict(&child);
    let hypothesis = Hypothesis {
        proposer: Author::Evolve,
        because: Hypothesis::one_line(&candidate.because),
        patch,
        simplifies: candidate.simplifies,
        inspired_by: Vec::new(),
    };
    Suggestion { proposal: Proposal { child, hypothesis }, operator, belief, prediction }
}
