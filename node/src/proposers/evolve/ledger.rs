//! The ledger: what this node's experiments in one arena have shown, for the search and for reports.
//!
//! It is built one experiment at a time from the journal, so a restart gives the same ledger. A score is bits
//! per byte relative to the baseline: the sum of the gains kept up to the parent, plus the trial's own Δ. A
//! new baseline begins a new chain. Prices, and crashes that the config is to blame for, stay true across it.
//! Not here: choosing anything.

use std::collections::{BTreeMap, VecDeque};

use autoswarm_protocol::{
    CrashClass, EffectiveConfig, Estimate, Experiment, Knob, KnobGroup, Patch, Proposer, RunReport, RunRole,
    Verdict,
    experiment::DiscardReason,
    id::{ConfigHash, SpeedHash},
    knobs::KNOBS,
};

use super::operator::Operator;
use crate::research::pruning::extrapolated;

/// Most trials remembered whole, for the model: four months at 100 a day. Of older ones the hash is kept.
const MAX_TRIALS: usize = 12_288;
/// Most hashes remembered, so that none is proposed again: eight years of a fast node. The oldest go first.
const MAX_TRIED: usize = 1 << 20;
/// Most prices that are remembered; a search meets far fewer shapes.
const MAX_PRICES: usize = 4096;
/// Standard deviation of a paired difference before this node measured anything, bits per byte: that of a
/// two-layer model at 10 s on a CPU. // measured 2026-11
const FIRST_PAIR_SD: f64 = 0.03;
/// Tries after which a config is left alone, even if the machine was at fault each time.
const MAX_FAULTY_TRIES: u16 = 2;

/// Share of a pair's variance that comes from the incumbent's run, as in `research/verdict/noise.rs`.
const LUCK_SHARE: f64 = 0.5;

/// The Δ of an experiment with its error, and which part of the error it shares with other trials.
struct LedgerDifference {
    delta: Option<f64>,
    standard_error: f64,
    screened_on: Vec<u64>,
    luck_sd: f64,
}

impl LedgerDifference {
    /// Makes a difference whose error is shared with no other trial.
    fn alone(delta: Option<f64>, standard_error: f64) -> Self {
        Self { delta, standard_error, screened_on: Vec::new(), luck_sd: 0.0 }
    }
}

/// One experiment with a parent, as the search remembers it.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// The experiment's number.
    pub number: u32,
    /// The child's config as executed.
    pub config: EffectiveConfig,
    /// The incumbent that it was compared with.
    pub parent: ConfigHash,
    /// The change from the parent's config to the child's.
    pub patch: Patch,
    /// The kind of move, if evolve made it.
    pub operator: Option<Operator>,
    /// Δ: its difference to the parent, bits per byte, negative is better; none for a crash.
    pub delta: Option<f64>,
    /// Bits per byte relative to the baseline: the parent's score plus Δ.
    pub score: Option<f64>,
    /// Standard error of Δ, bits per byte.
    pub standard_error: f64,
    /// The screening seeds that Δ rests on. Trials of one parent share the luck of its cached runs on them.
    pub screened_on: Vec<u64>,
    /// Standard deviation of what the luck of one such cached run adds to Δ, bits per byte.
    pub luck_sd: f64,
    /// The class of its crash; none if it gave a number.
    pub crash: Option<CrashClass>,
    /// Whether it became the incumbent.
    pub kept: bool,
    /// Why it was discarded; none for a keep or a crash.
    pub reason: Option<DiscardReason>,
    /// Training seconds of its last finished run.
    pub seconds: Option<f64>,
    /// Training tokens per second of its last finished run.
    pub tokens_per_second: Option<f64>,
    /// Peak memory of its last finished run, bytes.
    pub peak_memory_bytes: Option<u64>,
}

/// A link of the chain from the baseline to the incumbent.
#[derive(Debug, Clone, PartialEq)]
pub struct Link {
    /// The experiment's number.
    pub number: u32,
    /// The config that became the incumbent.
    pub config: EffectiveConfig,
    /// The change from the link before; empty for the baseline.
    pub patch: Patch,
    /// The gain of the change; none for the baseline.
    pub estimate: Option<Estimate>,
}

/// What one shape of step was measured to cost.
#[derive(Debug, Clone, PartialEq)]
pub struct ShapePrice {
    /// The first config measured with that shape.
    pub config: EffectiveConfig,
    /// Mean throughput of its runs, training tokens per second.
    pub tokens_per_second: f64,
    /// Largest peak memory of its runs, bytes.
    pub peak_memory_bytes: u64,
    /// Number of runs measured.
    pub runs: u32,
}

/// How often one config was tried.
#[derive(Debug, Clone, Copy, Default)]
struct KnobTries {
    attempts: u16,
    /// Whether an attempt gave a verdict, or crashed by the config's fault.
    judged: bool,
}

/// Numbers of experiments since the baseline, by how they ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TrialCounts {
    /// Experiments whose change was kept.
    pub keeps: u32,
    /// Experiments whose change was discarded.
    pub discards: u32,
    /// Experiments that crashed, so they gave no number.
    pub crashes: u32,
}

/// What the experiments of one arena have shown.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    trials: VecDeque<Trial>,
    chain: Vec<Link>,
    /// Score, and its variance, of each config that was an incumbent.
    levels: BTreeMap<ConfigHash, (f64, f64)>,
    tried: BTreeMap<ConfigHash, KnobTries>,
    tried_order: VecDeque<ConfigHash>,
    blocked: BTreeMap<ConfigHash, CrashClass>,
    prices: BTreeMap<SpeedHash, ShapePrice>,
    /// Sum of the observed variances of one pair, and their number, by group.
    pair_variances: BTreeMap<KnobGroup, (f64, f64)>,
    baseline_variance: Option<f64>,
    knob_tries: BTreeMap<Knob, u32>,
    counts: TrialCounts,
    since_keep: u32,
}

impl Ledger {
    /// Builds a ledger from a journal's experiments of one arena, in the journal's order.
    pub fn from_experiments(experiments: &[Experiment]) -> Self {
        let mut ledger = Self::default();
        for experiment in experiments {
            ledger.observe(experiment);
        }
        ledger
    }

    /// Adds one experiment.
    pub fn observe(&mut self, experiment: &Experiment) {
        self.learn_prices(experiment);
        match (&experiment.verdict, experiment.parent) {
            (Verdict::Baseline, _) => self.restart(experiment),
            // A re-run starts from its author's parent, so it says nothing about this chain.
            (Verdict::Reproduction { .. }, _) | (_, None) => {}
            (_, Some(parent)) => self.add_trial(experiment, parent),
        }
    }

    /// Begins a new chain at a baseline.
    fn restart(&mut self, experiment: &Experiment) {
        let values: Vec<f64> =
            experiment.runs.iter().filter_map(autoswarm_protocol::Run::validation).collect();
        let count = values.len() as f64;
        if values.len() > 1 {
            let mean = values.iter().sum::<f64>() / count;
            let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (count - 1.0);
            self.baseline_variance = Some(variance);
        }
        let hash = experiment.config.hash();
        self.trials.clear();
        self.tried.clear();
        self.tried_order.clear();
        self.knob_tries.clear();
        self.counts = TrialCounts::default();
        self.since_keep = 0;
        self.levels = BTreeMap::from([(hash, (0.0, 0.0))]);
        self.chain = vec![Link {
            number: experiment.number,
            config: experiment.config.clone(),
            patch: Patch::default(),
            estimate: None,
        }];
        self.remember(hash, true);
    }

    fn add_trial(&mut self, experiment: &Experiment, parent: ConfigHash) {
        let hash = experiment.config.hash();
        let LedgerDifference { delta, standard_error, screened_on, luck_sd } = self.difference(experiment);
        // A parent that was no incumbent of this chain has no level: take the current incumbent's.
        let level = self.levels.get(&parent).copied().unwrap_or_else(|| self.level());
        let (crash, reason, kept) = match &experiment.verdict {
            Verdict::Keep { .. } => (None, None, true),
            Verdict::Discard { reason, .. } => (None, Some(*reason), false),
            Verdict::Crash { class, .. } => (Some(*class), None, false),
            Verdict::Baseline | Verdict::Reproduction { .. } => return,
        };
        if let Some(class) = crash.filter(|class| class.blames_config()) {
            self.blocked.insert(hash, class);
            while self.blocked.len() > MAX_TRIED {
                self.blocked.pop_first();
            }
        }
        self.count(experiment, kept, crash);
        self.remember(hash, crash.is_none_or(CrashClass::blames_config));
        if let Verdict::Keep { estimate, .. } = &experiment.verdict {
            let reached = (level.0 + estimate.delta, level.1 + estimate.standard_error.powi(2));
            self.levels.insert(hash, reached);
            self.chain.push(Link {
                number: experiment.number,
                config: experiment.config.clone(),
                patch: experiment.hypothesis.patch.clone(),
                estimate: Some(*estimate),
            });
        }
        let report = last_report(experiment, hash);
        self.trials.push_back(Trial {
            number: experiment.number,
            config: experiment.config.clone(),
            parent,
            patch: experiment.hypothesis.patch.clone(),
            operator: (experiment.hypothesis.proposer == Proposer::Evolve)
                .then(|| Operator::of(&experiment.hypothesis.because))
                .flatten(),
            delta,
            score: delta.map(|delta| level.0 + delta),
            standard_error,
            screened_on,
            luck_sd,
            crash,
            kept,
            reason,
            seconds: report.map(|report| report.training_seconds),
            tokens_per_second: report.map(RunReport::tokens_per_second),
            peak_memory_bytes: report.map(|report| report.peak_memory_bytes),
        });
        while self.trials.len() > MAX_TRIALS {
            self.trials.pop_front();
        }
    }

    /// Returns Δ with its error: for a keep from the fresh pairs alone, otherwise from all that was seen.
    fn difference(&mut self, experiment: &Experiment) -> LedgerDifference {
        let estimate = match &experiment.verdict {
            Verdict::Keep { estimate, .. } => Some(*estimate),
            Verdict::Discard { estimate, .. } => *estimate,
            _ => None,
        };
        if let Some(estimate) = estimate.filter(|estimate| estimate.pairs > 0) {
            let variance = estimate.standard_error.powi(2) * f64::from(estimate.pairs);
            let entry = self.pair_variances.entry(experiment.group).or_insert((0.0, 0.0));
            *entry = (entry.0 + variance, entry.1 + 1.0);
        }
        if let (Verdict::Keep { .. }, Some(estimate)) = (&experiment.verdict, estimate) {
            return LedgerDifference::alone(Some(estimate.delta), estimate.standard_error);
        }
        if let Verdict::Discard { reason: DiscardReason::Pruned, screened: Some(difference), .. } =
            &experiment.verdict
        {
            let said = extrapolated(*difference, self.pair_sd(experiment.group));
            return LedgerDifference::alone(Some(said.delta), said.standard_error);
        }
        let screened = match &experiment.verdict {
            Verdict::Discard { screened, .. } if experiment.screens.is_empty() => screened.as_slice(),
            _ => &experiment.screens,
        };
        let pairs = estimate.map_or(0.0, |estimate| f64::from(estimate.pairs));
        let count = screened.len() as f64 + pairs;
        let spread = self.pair_sd(experiment.group);
        if count == 0.0 || experiment.verdict.name() == "crash" {
            return LedgerDifference::alone(None, spread);
        }
        let sum = screened.iter().sum::<f64>() + estimate.map_or(0.0, |estimate| estimate.delta) * pairs;
        let screens =
            experiment.runs.iter().filter(|run| run.role == RunRole::Screen && run.validation().is_some());
        LedgerDifference {
            delta: Some(sum / count),
            standard_error: spread / count.sqrt(),
            screened_on: screens.map(|run| run.seed).collect(),
            // A screening run has 1/count of the weight in the mean, and so has the luck in its cached run.
            luck_sd: LUCK_SHARE.sqrt() * spread / count,
        }
    }

    fn count(&mut self, experiment: &Experiment, kept: bool, crash: Option<CrashClass>) {
        for (knob, _) in experiment.hypothesis.patch.iter() {
            *self.knob_tries.entry(knob).or_insert(0) += 1;
        }
        self.since_keep = if kept { 0 } else { self.since_keep + 1 };
        match (kept, crash) {
            (true, _) => self.counts.keeps += 1,
            (false, Some(_)) => self.counts.crashes += 1,
            (false, None) => self.counts.discards += 1,
        }
    }

    fn remember(&mut self, hash: ConfigHash, judged: bool) {
        let tries = self.tried.entry(hash).or_default();
        tries.attempts = tries.attempts.saturating_add(1);
        tries.judged |= judged;
        if tries.attempts == 1 {
            self.tried_order.push_back(hash);
        }
        if self.tried_order.len() > MAX_TRIED
            && let Some(oldest) = self.tried_order.pop_front()
        {
            self.tried.remove(&oldest);
        }
    }

    fn learn_prices(&mut self, experiment: &Experiment) {
        let child = experiment.config.hash();
        for report in
            experiment.runs.iter().filter(|run| run.requested == child).filter_map(|run| run.outcome.report())
        {
            let speed = report.tokens_per_second();
            if !(speed.is_finite() && speed > 0.0) {
                continue;
            }
            let price = self.prices.entry(experiment.config.speed_hash()).or_insert_with(|| ShapePrice {
                config: experiment.config.clone(),
                tokens_per_second: speed,
                peak_memory_bytes: 0,
                runs: 0,
            });
            price.runs += 1;
            price.tokens_per_second += (speed - price.tokens_per_second) / f64::from(price.runs);
            price.peak_memory_bytes = price.peak_memory_bytes.max(report.peak_memory_bytes);
        }
        while self.prices.len() > MAX_PRICES {
            self.prices.pop_first();
        }
    }

    /// Returns the trials since the baseline, oldest first.
    pub fn trials(&self) -> impl DoubleEndedIterator<Item = &Trial> + ExactSizeIterator {
        self.trials.iter()
    }

    /// Returns the chain from the baseline to the incumbent.
    pub fn chain(&self) -> &[Link] {
        &self.chain
    }

    /// Returns the baseline, once there is one.
    pub fn baseline(&self) -> Option<&EffectiveConfig> {
        self.chain.first().map(|link| &link.config)
    }

    /// Returns the incumbent, once there is a baseline.
    pub fn incumbent(&self) -> Option<&EffectiveConfig> {
        self.chain.last().map(|link| &link.config)
    }

    /// Returns the sum of the kept gains (negative is better) and its standard error, bits per byte.
    pub fn gain(&self) -> (f64, f64) {
        let (score, variance) = self.level();
        (score, variance.sqrt())
    }

    fn level(&self) -> (f64, f64) {
        let hash = self.incumbent().map(EffectiveConfig::hash);
        hash.and_then(|hash| self.levels.get(&hash)).copied().unwrap_or((0.0, 0.0))
    }

    /// Returns how many experiments tried a config since the baseline.
    pub fn attempts(&self, hash: ConfigHash) -> u16 {
        self.tried.get(&hash).map_or(0, |tries| tries.attempts)
    }

    /// Returns whether a config may not be proposed again: it was judged, it crashed by its own fault, or the
    /// machine spoiled it too often.
    pub fn is_closed(&self, hash: ConfigHash) -> bool {
        let tries = self.tried.get(&hash).copied().unwrap_or_default();
        tries.judged || tries.attempts >= MAX_FAULTY_TRIES || self.blocked.contains_key(&hash)
    }

    /// Returns the changes that were shown to bring nothing, oldest first.
    pub fn ruled_out(&self) -> impl DoubleEndedIterator<Item = &Trial> {
        self.trials.iter().filter(|trial| {
            use DiscardReason::{BelowMinEffect, ClearLoser, NoGain, Pruned};
            matches!(trial.reason, Some(ClearLoser | NoGain | BelowMinEffect | Pruned))
        })
    }

    /// Returns the knobs of a group that no experiment has changed since the baseline.
    pub fn untried(&self, group: KnobGroup) -> impl Iterator<Item = Knob> {
        let rows = KNOBS.iter().filter(move |row| row.group == group);
        rows.map(|row| row.knob).filter(|knob| !self.knob_tries.contains_key(knob))
    }

    /// Returns how many experiments changed a knob.
    pub fn tries_of(&self, knob: Knob) -> u32 {
        self.knob_tries.get(&knob).copied().unwrap_or(0)
    }

    /// Returns the measured prices, by the shape of a step.
    pub fn prices(&self) -> &BTreeMap<SpeedHash, ShapePrice> {
        &self.prices
    }

    /// Returns how many experiments since the baseline ended in which way.
    pub const fn counts(&self) -> TrialCounts {
        self.counts
    }

    /// Returns the number of experiments since the last keep, or since the baseline if there was none.
    pub const fn since_keep(&self) -> u32 {
        self.since_keep
    }

    /// Returns the standard deviation of one paired difference in a group, bits per byte, as far as it was
    /// seen. It is pulled towards that of all groups.
    pub fn pair_sd(&self, group: KnobGroup) -> f64 {
        // Two runs on unrelated seeds differ by √2 σ. On equal seeds they share about half of that variance.
        let prior = self.baseline_variance.filter(|v| *v > 0.0).unwrap_or(FIRST_PAIR_SD * FIRST_PAIR_SD);
        let all = self.pair_variances.values().fold((prior, 1.0), |sum, v| (sum.0 + v.0, sum.1 + v.1));
        let (sum, count) = self.pair_variances.get(&group).copied().unwrap_or((0.0, 0.0));
        ((sum + 2.0 * all.0 / all.1) / (count + 2.0)).sqrt()
    }
}

fn last_report(experiment: &Experiment, child: ConfigHash) -> Option<&RunReport> {
    experiment.runs.iter().rev().filter(|run| run.requested == child).find_map(|run| run.outcome.report())
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
