//! An experiment in flight: its comparisons, which of their halves are still missing, and every run so far.

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
    /// The change.
    Child,
    /// What it is compared with.
    Incumbent,
}

/// A run that an experiment still needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// What it is for.
    pub role: RunRole,
    /// Which config.
    pub side: Side,
    /// Which seed.
    pub seed: u64,
    /// The number of the pair, of a pair's half.
    pub pair: Option<u16>,
}

/// Two runs on one seed: bits per byte on validation as far as they are known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeedPair {
    /// The seed of both.
    pub seed: u64,
    /// The place of a screening seed in the fixed list.
    pub screening_index: Option<u32>,
    /// The child's value.
    pub child: Option<f64>,
    /// The incumbent's value.
    pub incumbent: Option<f64>,
}

impl SeedPair {
    /// A finished comparison of which only the difference matters.
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
    /// The arena.
    pub arena: ArenaId,
    /// Its number.
    pub number: u32,
    /// The change.
    pub child: EffectiveConfig,
    /// What it is compared with; none for the baseline.
    pub parent: Option<EffectiveConfig>,
    /// The hash of what it is compared with, known also where the config itself is not.
    parent_hash: Option<ConfigHash>,
    /// How often this pair of configs was tried before.
    pub attempt: u16,
    /// The idea.
    pub hypothesis: Hypothesis,
    /// The group whose noise applies.
    pub group: KnobGroup,
    /// Screening runs against the incumbent's cached ones.
    pub screens: Vec<SeedPair>,
    /// Fresh pairs.
    pub pairs: Vec<SeedPair>,
    /// Seeds and values of a baseline.
    baseline: Vec<(u64, Option<f64>)>,
    /// How it is run, where it is a peer's.
    #[serde(default, rename = "rerun")] // the name in `pending.json`
    pub reproduction: Option<ReproductionTerms>,
    /// Every run that ended.
    pub runs: Vec<Run>,
    /// Runs that were repeated through no fault of the config.
    repeats: u32,
    /// Start, seconds since 1970.
    pub started_at: u64,
}

impl Active {
    /// Begins an experiment.
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

    /// Reads a finished experiment back, for what its runs teach.
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
        active.screens = seeds
            .into_iter()
            .zip(&experiment.screens)
            .map(|(seed, &difference)| SeedPair::known(seed, difference))
            .collect();
        active.pairs = comparisons(&experiment.runs, RunRole::Child, RunRole::Incumbent);
        active
    }

    /// Ends the experiment.
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

    /// Begins the re-run of a peer's discovery: fresh pairs on these seeds and nothing else.
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

    /// Returns the tokens of a side's runs that were agreed on beforehand.
    pub fn agreed_tokens(&self, side: Side) -> Option<u64> {
        let (child, parent) = self.reproduction?.tokens?;
        Some(if side == Side::Child { child } else { parent })
    }

    /// Returns the config of a side.
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

    /// Returns the place of a screening seed in the fixed list.
    pub fn screen_index(&self, seed: u64) -> Option<u32> {
        self.screens.iter().find(|screen| screen.seed == seed).and_then(|screen| screen.screening_index)
    }

    /// Returns the runs still missing, in the order in which one slot makes them: A B B A.
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

    /// Stores a value where it is missing.
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

    /// Notes that a run must be repeated; false when it was repeated too often already. A pair is repeated as a whole.
    pub(super) fn repeat(&mut self, order: &RunOrder, most: u32) -> bool {
        self.repeats += 1;
        if let Some(pair) = order.pair.and_then(|index| self.pairs.get_mut(usize::from(index))) {
            (pair.child, pair.incumbent) = (None, None);
        }
        self.repeats < most
    }

    /// Returns the differences so far.
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

    /// Returns the difference on the audit split, from the fresh pairs alone; of repeated runs the last counts.
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

/// Pairs up the finished runs of two roles by their seeds; of repeated runs the last counts.
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
