//! The messages of the research state machine: rules, proposals and inputs go in, and actions come out.

use autoswarm_protocol::{
    EffectiveConfig, Experiment, Hypothesis, KnobGroup, Outcome, Patch, RunRole,
    experiment::Comparison,
    id::{ArenaId, ConfigHash, RecordId},
    pruning::PruneBounds,
};
use serde::{Deserialize, Serialize};

use super::{beliefs::Importance, peer_results::PeerResults, verdict::Policy};

/// What stays the same for a whole session.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The arena that all values belong to.
    pub arena: ArenaId,
    /// Context length of the evaluation, tokens.
    pub context: usize,
    /// Runs that may be in flight at once, one per slot.
    pub slots: usize,
    /// The config of the baseline, which all gains are measured from.
    pub baseline: EffectiveConfig,
    /// The constants of the verdict.
    pub policy: Policy,
    /// New experiments that this session may begin, the baseline apart; none for no limit.
    pub experiments: Option<u32>,
}

/// A proposer: chooses the next change to try.
pub trait Propose {
    /// Learns from a finished experiment. Called for each in the journal's order, also after a restart.
    fn observe(&mut self, experiment: &Experiment);

    /// Proposes a child of `incumbent` other than the `pending` ones; none when nothing is left to try.
    fn propose(
        &mut self,
        incumbent: &EffectiveConfig,
        pending: &[ConfigHash],
        number: u32,
    ) -> Option<Proposal>;

    /// Returns a note for a person about the last proposal, and forgets it.
    fn take_note(&mut self) -> Option<String> {
        None
    }

    /// Takes peers' results, in place of those before.
    fn take_peer_results(&mut self, _peer_results: PeerResults) {}

    /// Returns the changes that were ruled out, newest first.
    fn ruled_out(&self) -> Vec<String> {
        Vec::new()
    }

    /// Returns for each knob group the number of knobs not tried yet.
    fn untried(&self) -> Vec<(KnobGroup, u32)> {
        Vec::new()
    }

    /// Returns what it believes of the knobs; none before the baseline, or if it keeps no such beliefs.
    fn importance(&self) -> Option<Importance> {
        None
    }
}

/// A change to try: the child's config and the reason.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    /// The config to try.
    pub child: EffectiveConfig,
    /// The reason, with the patch from the incumbent to the child.
    pub hypothesis: Hypothesis,
}

/// The order to re-run a peer's discovery, so that its author and others know whether it holds here.
#[derive(Debug, Clone, PartialEq)]
pub struct Reproduction {
    /// The record of the discovery.
    pub discovery: RecordId,
    /// The author's config, with the change.
    pub child: EffectiveConfig,
    /// The config that the author's change starts from.
    pub parent: EffectiveConfig,
    /// What is compared, and at how many tokens.
    pub terms: ReproductionTerms,
    /// The seeds of the fresh pairs, one for each.
    pub seeds: Vec<u64>,
    /// Names the discovery and gives its author's reason.
    pub hypothesis: Hypothesis,
}

/// How a peer's discovery is run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReproductionTerms {
    /// Which two configs are compared, and under whose budget.
    pub comparison: Comparison,
    /// Training tokens of a run with the change, and without; none for as many as this node's budget buys.
    pub tokens: Option<(u64, u64)>,
}

/// A run to start.
#[derive(Debug, Clone, PartialEq)]
pub struct RunOrder {
    /// Identifies the run in this session; [`Input::RunEnded`] names it.
    pub id: u64,
    /// The number of the experiment that it is made for.
    pub number: u32,
    /// The slot that it takes, from 0.
    pub slot: usize,
    /// What the run is for: the baseline, a screening run or half of a fresh pair.
    pub role: RunRole,
    /// Which pair of the experiment, from 0, where the run is half of a fresh pair.
    pub pair: Option<u16>,
    /// The config to train.
    pub config: EffectiveConfig,
    /// The seed of the training run.
    pub seed: u64,
    /// Training tokens; none where the trainer must price the config first.
    pub tokens: Option<u64>,
    /// The change under test, for display.
    pub patch: Patch,
    /// Whether the tokens are another node's, so that this node's budget (seconds) says nothing about them.
    pub foreign_tokens: bool,
    /// The largest losses with which the run goes on at each look; none for a run that is not pruned.
    pub prune: Option<PruneBounds>,
}

/// An event: what came of an action, or what a person or a peer brings.
#[derive(Debug, Clone)]
pub enum Input {
    /// Begin, or go on after a restart.
    Start,
    /// A run ended.
    RunEnded {
        /// The id in its [`RunOrder`].
        id: u64,
        /// When it started, seconds since 1970.
        started_at: u64,
        /// What it measured, or why it gave no number.
        outcome: Box<Outcome>,
        /// The tokens that the budget buys at the run's own speed, where its price was wrong.
        better_tokens: Option<u64>,
    },
    /// Try a person's change next. The ticket comes back in [`Action::TryBegan`] or [`Action::TryRefused`].
    Try(u64, Box<Proposal>),
    /// Try a peer's idea when its turn comes.
    Inspire(Box<Proposal>),
    /// Re-run a peer's discovery when its turn comes; only one can wait.
    Reproduction(Box<Reproduction>),
    /// Take peers' results, in place of those before.
    PeerResults(Box<PeerResults>),
    /// Start nothing new; the driver cancels the runs in flight.
    Stop,
}

/// What the driver must do; actions are performed in the order in which they are returned.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Start a run.
    Run(Box<RunOrder>),
    /// Announce a new experiment.
    Propose {
        /// The experiment's number.
        number: u32,
        /// What is tried, and why.
        hypothesis: Hypothesis,
    },
    /// Answer a person's try: it has become an experiment.
    TryBegan {
        /// The ticket of the try.
        ticket: u64,
        /// The number of the experiment.
        number: u32,
    },
    /// Answer a person's try: it will not become an experiment.
    TryRefused {
        /// The ticket of the try.
        ticket: u64,
        /// The reason, in one line.
        reason: String,
    },
    /// Write an experiment into the journal.
    Conclude(Box<Experiment>),
    /// Show a person a line.
    Note(String),
    /// End the session: nothing is left to do.
    Finish,
    /// Stop and tell a person why.
    Halt(String),
}

/// The best config so far.
#[derive(Debug, Clone, PartialEq)]
pub struct Incumbent {
    /// The config as executed.
    pub config: EffectiveConfig,
    /// Validation values of its finished runs, bits per byte.
    pub values: Vec<f64>,
}

impl Incumbent {
    /// Returns the mean value and its standard error, which is NaN for a single run; none without runs.
    pub fn mean(&self) -> Option<(f64, f64)> {
        let n = self.values.len() as f64;
        if self.values.is_empty() {
            return None;
        }
        let mean = self.values.iter().sum::<f64>() / n;
        let squares: f64 = self.values.iter().map(|v| (v - mean).powi(2)).sum();
        Some((mean, if n > 1.0 { (squares / (n - 1.0) / n).sqrt() } else { f64::NAN }))
    }
}
