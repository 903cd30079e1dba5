//! The built-in search: what to try next, and why. No network, no key, no language model.
//!
//! ```text
//! operators (prior art, scale, model, bracket, split, ablation, recombination)
//!     └▶ candidates ─▶ inside the space? new? fits memory and budget? ─▶ model's belief ─▶ most promising
//! ```
//!
//! Every operator lists candidates. They are ranked by the gain that the model expects of them beyond what this
//! machine's noise lets anyone see, times the operator's weight: how well it has done here and what the moment asks
//! for. Most proposals change one knob, some two to four; when keeps stop coming most change several, and some many.
//! **No effective config is ever proposed twice.** Pure: everything follows from the ledger, the direction and the generator given.

mod evolve;
mod importance;
mod model;
mod operators;
mod predictor;
mod priors;
mod space;

use std::{collections::BTreeMap, fmt};

use autoswarm_protocol::{
    EffectiveConfig, Hypothesis, Knob, Patch, Proposer as Author, Value, id::ConfigHash,
    swarm_config::Objective,
};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

pub use evolve::Evolve;
pub use model::Belief;
pub use predictor::{Machine, Misfit, Prediction, Predictor};

use super::{hearsay::Hearsay, ledger::Ledger, messages::Proposal};
use crate::program::{Direction, Scope};
use model::Model;
use space::Space;

/// What kind of move a proposal is. Its name begins the hypothesis, so that the journal remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operator {
    /// What others are known to have found.
    Prior,
    /// Batch, depth, width, context and the main rate.
    Scale,
    /// What the model of all trials expects most of.
    Model,
    /// Around a kept change: further, or half-way back.
    Bracket,
    /// One part of a kept change of several knobs taken back.
    Split,
    /// An old change undone, or a part switched off.
    Ablation,
    /// Two near misses on today's incumbent.
    Recombination,
}

impl Operator {
    /// Every operator.
    pub const ALL: [Self; 7] = [
        Self::Prior,
        Self::Scale,
        Self::Model,
        Self::Bracket,
        Self::Split,
        Self::Ablation,
        Self::Recombination,
    ];

    /// Returns the word that begins its hypotheses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Prior => "prior art",
            Self::Scale => "scale",
            Self::Model => "model",
            Self::Bracket => "bracket",
            Self::Split => "split",
            Self::Ablation => "ablation",
            Self::Recombination => "recombination",
        }
    }

    /// Finds the operator that a hypothesis came from.
    pub fn of(because: &str) -> Option<Self> {
        let (name, _) = because.split_once(": ")?;
        Self::ALL.into_iter().find(|operator| operator.name() == name)
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Everything that a proposal depends on, besides chance.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The shared objective: what is frozen, which ranges, whether prior art may be used.
    pub objective: &'a Objective,
    /// What the experiments so far have shown.
    pub ledger: &'a Ledger,
    /// What to improve on.
    pub incumbent: &'a EffectiveConfig,
    /// The configs in flight.
    pub pending: &'a [ConfigHash],
    /// Their patches, as far as they are known.
    pub pending_patches: &'a [Patch],
    /// What a person wants.
    pub direction: &'a Direction,
    /// Training seconds of a run.
    pub budget_seconds: f64,
    /// What a run may use.
    pub machine: Machine,
    /// What peers say of their own experiments.
    pub hearsay: &'a Hearsay,
}

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

/// A change that an operator would like to see tried.
#[derive(Debug, Clone, PartialEq)]
struct Candidate {
    changes: Vec<(Knob, Value)>,
    because: String,
    simplifies: bool,
}

/// A candidate that may be proposed.
#[derive(Debug, Clone)]
struct Viable {
    candidate: Candidate,
    child: EffectiveConfig,
    patch: Patch,
    belief: Belief,
}

/// Candidates of one operator that are looked at; more would cost milliseconds and change little.
const MOST_CANDIDATES: usize = 64;
/// A gain counts from this many standard deviations of a pair on. // Tuned on made-up surfaces, 2026-11.
const VISIBLE: f64 = 0.5;
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
pub fn propose(context: &Context<'_>, rng: &mut ChaCha8Rng) -> Result<Suggestion, Exhausted> {
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
            let taken = context.hearsay.claimed.contains(&viable.child.hash());
            let promise = search.promise(viable.belief) + weight.ln() + JITTER * normal(rng)
                - if taken { CLAIMED } else { 0.0 };
            if best.as_ref().is_none_or(|(most, ..)| promise > *most) {
                best = Some((promise, operator, viable));
            }
        }
    }
    if let Some((_, operator, viable)) = best {
        return Ok(search.suggest(operator, viable));
    }
    search.last_resort(rng).map(|viable| search.suggest(Operator::Model, viable)).ok_or(Exhausted::NothingNew)
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
fn shares_of_scope(context: &Context<'_>) -> (f64, f64) {
    match (context.direction.scope, context.ledger.since_keep()) {
        (Some(Scope::Narrow), _) => (0.0, 0.0),
        (Some(Scope::Focused), _) => (1.0, 0.0),
        (Some(Scope::Broad), _) => (0.0, 1.0),
        (None, 0..20) => (0.1, 0.0),
        (None, _) => (0.5, 0.25),
    }
}

/// Returns each operator's keeps and tries among the newest trials.
fn record_of(ledger: &Ledger) -> BTreeMap<Operator, (u32, u32)> {
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
fn operator_weights(context: &Context<'_>) -> BTreeMap<Operator, f64> {
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

/// Leaves a fair sample of a long list.
fn shorten(candidates: &mut Vec<Candidate>, rng: &mut ChaCha8Rng) {
    for place in 0..MOST_CANDIDATES.min(candidates.len()) {
        let other = rng.random_range(place..candidates.len());
        candidates.swap(place, other);
    }
    candidates.truncate(MOST_CANDIDATES);
}

/// A standard normal number (Box–Muller).
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let (radius, angle): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

/// The density of the standard normal distribution.
fn normal_density(x: f64) -> f64 {
    (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt()
}

/// Returns P(z > x) for a standard normal z, good to 10⁻⁷: a rational approximation (Abramowitz and Stegun, 26.2.17).
fn normal_tail(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * x.abs());
    let series = [1.330_274_429, -1.821_255_978, 1.781_477_937, -0.356_563_782, 0.319_381_530];
    let tail = normal_density(x) * series.iter().fold(0.0, |sum, a| sum * t + a) * t;
    if x > 0.0 { tail } else { 1.0 - tail }
}

/// Returns E[max(0, z + x)] for a standard normal z.
fn expected_excess(x: f64) -> f64 {
    x * normal_tail(-x) + normal_density(x)
}

/// One proposal's working state.
struct Search<'a> {
    context: &'a Context<'a>,
    space: Space,
    model: Model,
    predictor: Predictor<'a>,
}

impl<'a> Search<'a> {
    fn new(context: &'a Context<'a>) -> Self {
        let space = Space::new(context.objective, context.direction);
        let model = Model::fit(&space, context.ledger, &context.hearsay.rumours, context.pending_patches);
        let predictor = Predictor::new(context.machine, context.budget_seconds, context.ledger);
        Self { context, space, model, predictor }
    }

    /// Checks a candidate: inside the space, new, and fit for the machine.
    fn viable(&self, candidate: Candidate) -> Option<Viable> {
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

    /// Returns the logarithm of the gain beyond what can be seen that a change is expected to bring: a gain far below
    /// the noise is not kept, so it is not worth a run.
    fn promise(&self, belief: Belief) -> f64 {
        let visible = VISIBLE * self.context.ledger.pair_sd(autoswarm_protocol::KnobGroup::Shape);
        let distance = (-belief.mean - visible) / belief.sd;
        (belief.sd * expected_excess(distance)).max(f64::MIN_POSITIVE).ln()
    }

    /// Looks at every value of every knob, then at blind draws of several.
    fn last_resort(&self, rng: &mut ChaCha8Rng) -> Option<Viable> {
        let because = "model: what is left of one-knob changes";
        let singles: Vec<Candidate> = self
            .space
            .open()
            .flat_map(|axis| {
                let from = self.context.incumbent.get(axis.knob);
                axis.all(from).into_iter().map(|to| Candidate::new(vec![(axis.knob, to)], because.to_owned()))
            })
            .collect();
        let viable = singles.into_iter().filter_map(|candidate| self.viable(candidate));
        let single = viable.max_by(|a, b| self.promise(a.belief).total_cmp(&self.promise(b.belief)));
        if single.is_some() || self.context.direction.scope == Some(Scope::Narrow) {
            return single;
        }
        (0..BLIND_DRAWS).find_map(|draw| {
            let knobs = 2 + draw % 7;
            self.viable(operators::blind(self, knobs, rng))
        })
    }

    fn suggest(&self, operator: Operator, viable: Viable) -> Suggestion {
        let Viable { candidate, child, patch, belief } = viable;
        let prediction = self.predictor.predict(&child);
        let hypothesis = Hypothesis {
            proposer: Author::Evolve,
            because: Hypothesis::one_line(&candidate.because),
            patch,
            simplifies: candidate.simplifies,
            inspired_by: Vec::new(),
        };
        Suggestion { proposal: Proposal { child, hypothesis }, operator, belief, prediction }
    }
}

impl Candidate {
    fn new(changes: Vec<(Knob, Value)>, because: String) -> Self {
        Self { changes, because, simplifies: false }
    }

    fn simpler(self) -> Self {
        Self { simplifies: true, ..self }
    }
}

#[cfg(test)]
pub(crate) mod tests;
