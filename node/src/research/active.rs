//! An experiment in flight: its comparisons, the runs that they still miss, and every run that ended so far.
//!
//! Not here: what its evidence means (`verdict`) and when a run is started (`core`).

use autoswarm_protocol::{
    EffectiveConfig, Estimate, Experiment, Hypothesis, KnobGroup, Run, RunRole, Verdict,
    id::{ArenaId, ConfigHash},
};
use serde::{Deserialize, Serialize};

use super::{
    messages::{Proposal, Reproduction, ReproductionTerms, RunOrder},
    verdict::{Evidence, IdeaSource, Screen},
};

/// Which config a run trains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The config with the change.
    Child,
    /// The parent that the child is compared with.
    Incumbent,
}

/// A run that an experiment still needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// What the run is for.
    pub role: RunRole,
    /// Which of the two configs it trains.
    pub side: Side,
    /// The seed that it must run on.
    pub seed: u64,
    /// Which pair of the experiment, from 0, where the run is half of a fresh pair.
    pub pair: Option<u16>,
}

/// Two runs on one seed, with their validation values (bits per byte) as far as they are known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeedPair {
    /// The seed of both runs.
    pub seed: u64,
    /// The place of a screening seed in the arena's fixed list; none for a fresh pair.
    pub screening_index: Option<u32>,
    /// The child's value, bits per byte.
    pub child: Option<f64>,
    /// The incumbent's value, bits per byte.
    pub incumbent: Option<f64>,
}

impl SeedPair {
    /// Makes a finished comparison from its difference alone.
    const fn known(seed: u64, difference: f64) -> Self {
        Self { seed, screening_index: None, child: Some(difference), incumbent: Some(0.0) }
    }

    fn difference(&self) -> Option<f64> {
        Some(self.child? - self.incumbent?)
    }
}

/// An experiment in flight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Active {
    /// The arena that it is measured in.
    pub arena: ArenaId,
    /// Its place in this node's history, from 0 for the first baseline.
    pub number: u32,
    /// The config with the change; the config itself for a baseline.
    pub child: EffectiveConfig,
    /// The config that the child is compared with; none for a baseline.
    pub parent: Option<EffectiveConfig>,
    /// The parent's hash, known also for an experiment from the journal, which does not hold the config.
    parent_hash: Option<ConfigHash>,
    /// How often this child was tried on this parent before.
    pub attempt: u16,
    /// What is tried, and why.
    pub hypothesis: Hypothesis,
    /// The knob group whose noise applies.
    pub group: KnobGroup,
    /// Screening runs of the child, each beside the incumbent's cached run.
    pub screens: Vec<SeedPair>,
    /// Fresh pairs, in the order in which they were planned.
    pub pairs: Vec<SeedPair>,
    /// Seed and value (bits per byte) of each run of a baseline; empty for a child.
    baseline: Vec<(u64, Option<f64>)>,
    /// The terms of a re-run; none for an experiment that is no re-run.
    #[serde(default, rename = "rerun")] // the name in `pending.json`
    pub reproduction: Option<ReproductionTerms>,
    /// Every run that ended, in the order of their ends.
    pub runs: Vec<Run>,
    /// Number of runs that were spoiled through no fault of the config.
    repeats: u32,
    /// Start, seconds since 1970.
    pub started_at: u64,
}

impl Active {
    /// Begins an experiment, with no run planned yet.
    pub fn new(
        arena: ArenaId,
        number: u32,
        proposal: Proposal,
        parent: Option<EffectiveConfig>,
        attempt: u16,
        now: u64,
    ) -> Self {
        Self {
            arena,
            number,
            parent_hash: parent.as_ref().map(EffectiveConfig::hash),
            parent,
            attempt,
            group: proposal.hypothesis.patch.group(),
            hypothesis: proposal.hypothesis,
            child: proposal.child,
            screens: Vec::new(),
            pairs: Vec::new(),
            baseline: Vec::new(),
            reproduction: None,
            runs: Vec::new(),
            repeats: 0,
            started_at: now,
        }
    }

    /// Rebuilds a finished experiment from the journal, to learn from its runs.
    pub fn from_experiment(experiment: &Experiment) -> Self {
        let mut active = Self {
            arena: experiment.arena,
            number: experiment.number,
            child: experiment.config.clone(),
            parent: None,
            parent_hash: experiment.parent,
            attempt: experiment.attempt,
            hypothesis: experiment.hypothesis.clone(),
            group: experiment.group,
            screens: Vec::new(),
            pairs: Vec::new(),
            baseline: Vec::new(),
            reproduction: match experiment.verdict {
                Verdict::Reproduction { comparison, .. } => {
                    Some(ReproductionTerms { comparison, tokens: None })
                }
                _ => None,
            },
            runs: experiment.runs.clone(),
            repeats: 0,
            started_at: experiment.started_at,
        };
        let mut seeds: Vec<u64> = Vec::new();
        for run in
            experiment.runs.iter().filter(|run| run.role == RunRole::Screen && run.validation().is_some())
        {
            if !seeds.contains(&run.seed) {
                seeds.push(run.seed); // once, also where its run was repeated
            }
        }
        // The journal holds the differences in the order of their seeds, not the cached values behind them.
        active.screens = seeds
            .into_iter()
            .zip(&experiment.screens)
            .map(|(seed, &difference)| SeedPair::known(seed, difference))
            .collect();
        active.pairs = comparisons(&experiment.runs, RunRole::Child, RunRole::Incumbent);
        active
    }

    /// Ends the experiment with a verdict, as the journal keeps it. `now` is in seconds since 1970.
    pub fn into_experiment(self, verdict: Verdict, now: u64) -> Experiment {
        Experiment {
            screens: self.screens.iter().filter_map(SeedPair::difference).collect(),
            number: self.number,
            arena: self.arena,
            parent: self.parent_hash,
            config: self.child,
            attempt: self.attempt,
            hypothesis: self.hypothesis,
            group: self.group,
            runs: self.runs,
            verdict,
            started_at: self.started_at,
            finished_at: now,
        }
    }

    /// Begins the re-run of a peer's discovery: fresh pairs on the ordered seeds and nothing else.
    pub(super) fn reproduction(
        arena: ArenaId,
        number: u32,
        reproduction: Reproduction,
        attempt: u16,
        now: u64,
    ) -> Self {
        let Reproduction { child, parent, terms, seeds, hypothesis, .. } = reproduction;
        let mut active = Self::new(arena, number, Proposal { child, hypothesis }, Some(parent), attempt, now);
        active.reproduction = Some(terms);
        for seed in seeds {
            active.add_pair(seed);
        }
        active
    }

    /// Returns the training tokens that the terms of a re-run fix for a side; none where the budget decides.
    pub fn agreed_tokens(&self, side: Side) -> Option<u64> {
        let (child, parent) = self.reproduction?.tokens?;
        Some(if side == Side::Child { child } else { parent })
    }

    /// Returns the config that runs of a side train.
    pub fn config_of(&self, side: Side) -> &EffectiveConfig {
        match (side, &self.parent) {
            (Side::Incumbent, Some(parent)) => parent,
            _ => &self.child,
        }
    }

    pub(super) fn add_baseline(&mut self, seed: u64) {
        self.baseline.push((seed, None));
    }

    pub(super) fn add_screen(&mut self, index: u32, seed: u64, incumbent: Option<f64>) {
        self.screens.push(SeedPair { seed, screening_index: Some(index), child: None, incumbent });
    }

    pub(super) fn add_pair(&mut self, seed: u64) {
        self.pairs.push(SeedPair { seed, screening_index: None, child: None, incumbent: None });
    }

    /// Returns the place of a screening seed in the arena's fixed list.
    pub fn screen_index(&self, seed: u64) -> Option<u32> {
        self.screens.iter().find(|screen| screen.seed == seed).and_then(|screen| screen.screening_index)
    }

    /// Returns the runs still missing, in the order in which one slot makes them. For pairs that is A B B A:
    /// every other pair begins with the incumbent.
    pub fn needs(&self) -> impl Iterator<Item = Need> + '_ {
        let baseline = self.baseline.iter().filter(|(_, value)| value.is_none()).map(|&(seed, _)| Need {
            role: RunRole::Baseline,
            side: Side::Child,
            seed,
            pair: None,
        });
        let screens = self.screens.iter().flat_map(|screen| {
            let child = screen.child.is_none().then_some((RunRole::Screen, Side::Child));
            let incumbent = screen.incumbent.is_none().then_some((RunRole::IncumbentScreen, Side::Incumbent));
            [incumbent, child].into_iter().flatten().map(|(role, side)| Need {
                role,
                side,
                seed: screen.seed,
                pair: None,
            })
        });
        let pairs = self.pairs.iter().enumerate().flat_map(|(index, pair)| {
            let child = pair.child.is_none().then_some((RunRole::Child, Side::Child));
            let incumbent = pair.incumbent.is_none().then_some((RunRole::Incumbent, Side::Incumbent));
            let order = if index % 2 == 0 { [child, incumbent] } else { [incumbent, child] };
            order.into_iter().flatten().map(move |(role, side)| Need {
                role,
                side,
                seed: pair.seed,
                pair: Some(index as u16),
            })
        });
        baseline.chain(screens).chain(pairs)
    }

    /// Stores a run's value, bits per byte, in the comparison that waits for it.
    pub(super) fn fill(&mut self, role: RunRole, seed: u64, value: f64) {
        let of_seed =
            |list: &mut Vec<SeedPair>| list.iter_mut().position(|comparison| comparison.seed == seed);
        match role {
            RunRole::Baseline => {
                if let Some(entry) = self.baseline.iter_mut().find(|entry| entry.0 == seed) {
                    entry.1 = Some(value);
                }
            }
            RunRole::Screen | RunRole::IncumbentScreen => {
                if let Some(index) = of_seed(&mut self.screens) {
                    let half = if role == RunRole::Screen {
                        &mut self.screens[index].child
                    } else {
                        &mut self.screens[index].incumbent
                    };
                    half.get_or_insert(value);
                }
            }
            RunRole::Child | RunRole::Incumbent => {
                if let Some(index) = of_seed(&mut self.pairs) {
                    let half = if role == RunRole::Child {
                        &mut self.pairs[index].child
                    } else {
                        &mut self.pairs[index].incumbent
                    };
                    half.get_or_insert(value);
                }
            }
        }
    }

    /// Counts a spoiled run. Returns whether it may be repeated: false from the `most`-th on. A pair is
    /// repeated as a whole.
    pub(super) fn repeat(&mut self, order: &RunOrder, most: u32) -> bool {
        self.repeats += 1;
        if let Some(pair) = order.pair.and_then(|index| self.pairs.get_mut(usize::from(index))) {
            (pair.child, pair.incumbent) = (None, None);
        }
        self.repeats < most
    }

    /// Returns the differences so far, for the verdict.
    pub fn evidence(&self) -> Evidence {
        Evidence {
            screens: self
                .screens
                .iter()
                .filter_map(|screen| Some(Screen { seed: screen.seed, difference: screen.difference()? }))
                .collect(),
            pairs: self.pairs.iter().filter_map(SeedPair::difference).collect(),
            removes_something: self.hypothesis.simplifies,
            source: if self.hypothesis.inspired_by.is_empty() { IdeaSource::Own } else { IdeaSource::Peers },
        }
    }

    /// Returns the difference on the audit split, by fresh pairs alone. Of repeated runs the last counts.
    pub fn audit_estimate(&self) -> Option<Estimate> {
        let audit = |role: RunRole, seed: u64| {
            self.runs.iter().rev().filter(|run| run.role == role && run.seed == seed).find_map(|run| {
                run.outcome.report().and_then(|report| report.audit).map(autoswarm_protocol::Bpb::get)
            })
        };
        let differences: Vec<f64> = self
            .pairs
            .iter()
            .filter_map(|pair| {
                Some(audit(RunRole::Child, pair.seed)? - audit(RunRole::Incumbent, pair.seed)?)
            })
            .collect();
        Estimate::of(&differences)
    }
}

/// Pairs up the finished runs of two roles by their seeds. Of repeated runs the last counts.
fn comparisons(runs: &[Run], child: RunRole, incumbent: RunRole) -> Vec<SeedPair> {
    let mut out: Vec<SeedPair> = Vec::new();
    for run in runs.iter().filter(|run| run.role == child || run.role == incumbent) {
        let index = out.iter().position(|comparison| comparison.seed == run.seed).unwrap_or_else(|| {
            out.push(SeedPair { seed: run.seed, screening_index: None, child: None, incumbent: None });
            out.len() - 1
        });
        let half = if run.role == child { &mut out[index].child } else { &mut out[index].incumbent };
        *half = run.validation().or(*half);
    }
    out
}
