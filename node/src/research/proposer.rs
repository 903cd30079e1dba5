//! The built-in search: what to try next, and why. No network, no key, no language model.
//!
//! ```text
//! operators (prior art, scale, model, bracket, split, ablation, recombination)
//!     └▶ candidates ─▶ inside the space? new? fits memory and budget? ─▶ model's belief ─▶ most promising
//! ```
//!
//! Every operator lists candidates. They are ranked by the gain that the model expects of them beyond what this
//! machine's noise lets anyone see, times the operator's weight: how well it has done here and what the moment asks
//! for. When keeps stop coming the scope widens from one knob to two or three to many, and a keep narrows it again.
//! **No effective config is ever proposed twice.** Pure: everything follows from the ledger, the direction and the generator given.

mod model;
mod operators;
mod predictor;
mod priors;
mod space;

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
};

use autoswarm_protocol::{
    EffectiveConfig, Experiment, Hypothesis, Knob, Patch, Proposer as Author, Value, id::ConfigHash,
    swarm_config::Objective,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub use model::Belief;
pub use predictor::{Machine, Misfit, Prediction, Predictor};

use super::{
    hearsay::{Hearsay, MOST_RUMOURS},
    ledger::Ledger,
    messages::{Proposal, Propose},
};
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

/// Returns how many knobs to change: what program.md says, else by how long nothing was kept.
fn scope_of(context: &Context<'_>, rng: &mut ChaCha8Rng) -> Scope {
    if let Some(scope) = context.direction.scope {
        return scope;
    }
    let chance: f64 = rng.random();
    // Shares of focused and broad proposals after 3, 8 and 20 experiments without a keep.
    let (focused, broad) = match context.ledger.since_keep() {
        0..3 => (0.0, 0.0),
        3..8 => (0.25, 0.0),
        8..20 => (0.45, 0.0),
        _ => (0.4, 0.25),
    };
    if chance < broad {
        Scope::Broad
    } else if chance < broad + focused {
        Scope::Focused
    } else {
        Scope::Narrow
    }
}

/// Returns each operator's weight: what the moment asks for, times how often it won here.
fn operator_weights(context: &Context<'_>) -> BTreeMap<Operator, f64> {
    let ledger = context.ledger;
    let count = ledger.trials().len();
    let stuck = ledger.since_keep();
    let mut record: BTreeMap<Operator, (f64, f64)> = BTreeMap::new();
    for trial in ledger.trials().rev().take(60) {
        if let Some(operator) = trial.operator {
            let entry = record.entry(operator).or_insert((0.0, 0.0));
            *entry = (entry.0 + f64::from(u8::from(trial.kept)), entry.1 + 1.0);
        }
    }
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
            let (keeps, tries) = record.get(&operator).copied().unwrap_or((0.0, 0.0));
            // Four in twenty is what an operator is trusted with before it was tried.
            (operator, moment(operator) * (keeps + 1.0) / (tries + 5.0))
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

/// Returns E[max(0, z + x)] for a standard normal z.
///
/// The tail is a rational approximation good to 10⁻⁷ (Abramowitz and Stegun, 26.2.17).
fn expected_excess(x: f64) -> f64 {
    let density = (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt();
    let t = 1.0 / (1.0 + 0.231_641_9 * x.abs());
    let series = [1.330_274_429, -1.821_255_978, 1.781_477_937, -0.356_563_782, 0.319_381_530];
    let tail = density * series.iter().fold(0.0, |sum, a| sum * t + a) * t;
    x * if x > 0.0 { 1.0 - tail } else { tail } + density
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

/// The built-in search as the research machine drives it.
#[derive(Debug, Clone)]
pub struct Evolve {
    objective: Objective,
    machine: Machine,
    budget_seconds: f64,
    seed: u64,
    direction: Direction,
    ledger: Ledger,
    hearsay: Hearsay,
    /// Proposals of late, to know the patches of what is in flight.
    recent: VecDeque<(ConfigHash, Patch)>,
    exhausted: Option<Exhausted>,
}

/// Proposals whose patches are remembered while they run: more than slots on any machine.
const MOST_RECENT: usize = 256;

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
            hearsay: Hearsay::default(),
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

    /// Returns why the last proposal was none.
    pub const fn exhausted(&self) -> Option<Exhausted> {
        self.exhausted
    }

    /// Proposes with everything that the search thinks of it.
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
        let context = Context {
            objective: &self.objective,
            ledger: &self.ledger,
            incumbent,
            pending,
            pending_patches: &patches,
            direction: &self.direction,
            budget_seconds: self.budget_seconds,
            machine: self.machine,
            hearsay: &self.hearsay,
        };
        // A stream per number: a restart proposes what it would have proposed.
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(u64::from(number));
        let suggestion = propose(&context, &mut rng);
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
}

impl Propose for Evolve {
    fn observe(&mut self, experiment: &Experiment) {
        self.ledger.observe(experiment);
    }

    fn hear(&mut self, mut hearsay: Hearsay) {
        hearsay.rumours.truncate(MOST_RUMOURS);
        self.hearsay = hearsay;
    }

    fn propose(
        &mut self,
        incumbent: &EffectiveConfig,
        pending: &[ConfigHash],
        number: u32,
    ) -> Option<Proposal> {
        self.suggest(incumbent, pending, number).ok().map(|suggestion| suggestion.proposal)
    }
}

#[cfg(test)]
pub(crate) mod tests;
