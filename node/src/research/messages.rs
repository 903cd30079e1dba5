//! What goes into the research state machine and what comes out of it: rules, proposals, events, orders, actions.

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
    /// Evaluation context, tokens.
    pub context: usize,
    /// Places where a run can be.
    pub slots: usize,
    /// The config that all is measured against.
    pub baseline: EffectiveConfig,
    /// How to judge.
    pub policy: Policy,
    /// New experiments of this session, the baseline apart; none for no end.
    pub experiments: Option<u32>,
}

/// Proposes what to try next.
pub trait Propose {
    /// Learns from an experiment that is over; called for each, in the journal's order, restarts included.
    fn observe(&mut self, experiment: &Experiment);

    /// Proposes a child of `incumbent` other than the `pending` ones; none when nothing is left to try.
    fn propose(
        &mut self,
        incumbent: &EffectiveConfig,
        pending: &[ConfigHash],
        number: u32,
    ) -> Option<Proposal>;

    /// Returns what a person should know about the last proposal, once.
    fn take_note(&mut self) -> Option<String> {
        None
    }

    /// Takes what peers say of their own experiments, in place of what they said before.
    fn take_peer_results(&mut self, _peer_results: PeerResults) {}

    /// Returns the changes that were ruled out, newest first.
    fn ruled_out(&self) -> Vec<String> {
        Vec::new()
    }

    /// Returns for each knob group the number of knobs not tried yet.
    fn untried(&self) -> Vec<(KnobGroup, u32)> {
        Vec::new()
    }

    /// Returns what it believes of the knobs, once there is a baseline; none of a proposer that keeps no such beliefs.
    fn importance(&self) -> Option<Importance> {
        None
    }
}

/// A child and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    /// The config to try.
    pub child: EffectiveConfig,
    /// Why, with the patch from the incumbent.
    pub hypothesis: Hypothesis,
}

/// A peer's discovery to run again, for its author and for whoever wonders.
#[derive(Debug, Clone, PartialEq)]
pub struct Reproduction {
    /// The discovery.
    pub discovery: RecordId,
    /// The author's config.
    pub child: EffectiveConfig,
    /// The config that the author's change starts from.
    pub parent: EffectiveConfig,
    /// What is compared, and at how many tokens.
    pub terms: ReproductionTerms,
    /// One seed a pair.
    pub seeds: Vec<u64>,
    /// Names the discovery and its author's reason.
    pub hypothesis: Hypothesis,
}

/// How a peer's discovery is run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReproductionTerms {
    /// What is compared.
    pub comparison: Comparison,
    /// Training tokens of a run with the change and of one without; none for what this node's own budget buys.
    pub tokens: Option<(u64, u64)>,
}

/// A run to start.
#[derive(Debug, Clone, PartialEq)]
pub struct RunOrder {
    /// Its name among the runs in flight.
    pub id: u64,
    /// The experiment that pays for it.
    pub number: u32,
    /// The slot that it takes.
    pub slot: usize,
    /// What it is for.
    pub role: RunRole,
    /// The number of the pair, of a pair's half.
    pub pair: Option<u16>,
    /// The config to train.
    pub config: EffectiveConfig,
    /// The seed.
    pub seed: u64,
    /// Training tokens; none where the trainer must price the config first.
    pub tokens: Option<u64>,
    /// The change under test, for display.
    pub patch: Patch,
    /// Whether the tokens are another node's, so that the budget's seconds say nothing about them.
    pub foreign_tokens: bool,
    /// How far behind it may be at a few looks; none for a run that is not pruned.
    pub prune: Option<PruneBounds>,
}

/// What came of an action, or what a person wants.
#[derive(Debug, Clone)]
pub enum Input {
    /// Begin, or go on after a restart.
    Start,
    /// A run ended.
    RunEnded {
        /// Which.
        id: u64,
        /// When it started, seconds since 1970.
        started_at: u64,
        /// What it ended as.
        outcome: Box<Outcome>,
        /// The tokens that the run's own speed makes of the budget, where the price that it took was wrong.
        better_tokens: Option<u64>,
    },
    /// Try this next; the ticket names it in [`Action::TryBegan`] or [`Action::TryRefused`].
    Try(u64, Box<Proposal>),
    /// Somebody else's idea: try it when its turn comes.
    Inspire(Box<Proposal>),
    /// Run a peer's discovery again when its turn comes; one at a time.
    Reproduction(Box<Reproduction>),
    /// What peers say of their own experiments, in place of what they said before.
    PeerResults(Box<PeerResults>),
    /// Start nothing new; what runs will be cancelled by the driver.
    Stop,
}

/// What the driver must do, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Start a run.
    Run(Box<RunOrder>),
    /// A hypothesis was chosen.
    Propose {
        /// The experiment's number.
        number: u32,
        /// The idea.
        hypothesis: Hypothesis,
    },
    /// What a person tries has become an experiment.
    TryBegan {
        /// The try.
        ticket: u64,
        /// The experiment.
        number: u32,
    },
    /// What a person tries will not become an experiment.
    TryRefused {
        /// The try.
        ticket: u64,
        /// Why, in one line.
        reason: String,
    },
    /// Write an experiment into the journal.
    Conclude(Box<Experiment>),
    /// Say a line.
    Note(String),
    /// Nothing more to do in this session.
    Finish,
    /// Stop and tell a person why.
    Halt(String),
}

/// The best config so far.
#[derive(Debug, Clone, PartialEq)]
pub struct Incumbent {
    /// The config.
    pub config: EffectiveConfig,
    /// Its finished runs' values on validation, bits per byte.
    pub values: Vec<f64>,
}

impl Incumbent {
    /// Returns the mean value and its standard error.
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
