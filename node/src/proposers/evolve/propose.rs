//! One proposal: every operator lists candidates, and the most promising one that is viable is proposed.

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

/// A proposal, with what the search expects of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Suggestion {
    /// The config to try and the reason.
    pub proposal: Proposal,
    /// The kind of move that it is.
    pub operator: Operator,
    /// The difference that the model expects, bits per byte.
    pub belief: Belief,
    /// What a run of it is expected to cost.
    pub prediction: Prediction,
}

/// Why nothing is proposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Exhausted {
    /// No knob may be changed.
    #[error(
        "the swarm config and program.md leave no knob to change; widen `focus` or shorten `avoid` or \
         `frozen`"
    )]
    NoKnobs,
    /// Every config that may be tried was tried, or does not fit.
    #[error(
        "nothing new is left inside the swarm config's ranges and program.md's direction that fits this \
         machine; widen `focus`, `scope` or the ranges"
    )]
    NothingNew,
}

/// Standard deviation of the chance in the ranking, in logarithms of promise.
/// It is large enough that runs in flight differ. // Tuned on made-up surfaces, 2026-11.
const JITTER: f64 = 0.3;
/// What a config loses of its promise, in logarithms, if a peer says that it runs it already. That is a
/// reason to try something else first, not a ban: anybody could claim any config. // Wild guess.
const CLAIMED: f64 = 2.0;
/// Number of newest trials by which an operator's record is judged.
const RECENT_TRIALS: usize = 60;
/// Random changes of several knobs that are drawn before the search gives up.
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

/// Draws how many knobs to change.
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

/// Returns the shares of focused and broad proposals: by program.md's scope, else by the time since a keep.
///
/// One knob at a time while that gains. Where a run's noise is small against the best steps, a change of
/// several mostly carries a bad one along. Later several knobs: the gains that are left show in a sum first.
/// // Tuned on the surface of real runs, 2026-11.
pub(super) fn shares_of_scope(context: &Context<'_>) -> (f64, f64) {
    match (context.direction.scope, context.ledger.since_keep()) {
        (Some(Scope::Narrow), _) => (0.0, 0.0),
        (Some(Scope::Focused), _) => (1.0, 0.0),
        (Some(Scope::Broad), _) => (0.0, 1.0),
        (None, 0..20) => (0.1, 0.0),
        (None, _) => (0.5, 0.25),
    }
}

/// Returns how many of each operator's trials were kept and made, among the newest [`RECENT_TRIALS`].
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

/// Returns each operator's weight: how much the moment asks for it, times how often it won here.
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
            // Before it was tried, an operator is trusted to win four times in twenty.
            (operator, moment(operator) * (f64::from(keeps) + 1.0) / (f64::from(tries) + 5.0))
        })
        .filter(|(_, weight)| *weight > 0.0)
        .collect()
}

/// Looks for a candidate when no operator has one: each value of each knob, then random changes of several.
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
