//! What this machine's noise is believed to be: one curve per knob group over the sd of a paired difference.
//!
//! Not here: what to do about it (see [`super::Policy`]). Nothing is read from a file: the model is rebuilt by
//! replaying the journal's evidence in order, and the same evidence gives the same model.
//!
//! A group's noise is not one number that is suddenly known. It is a weight for each of [`GRID`] possible values,
//! pulled towards the pooled value of all groups, and every finished experiment reweighs it: twice the same
//! difference says little, two very different ones say that the noise is large. Screening differences count too,
//! through a mixture that allows for losers and gains, so a night of losers does not pass for noise.

use std::collections::BTreeMap;

use autoswarm_protocol::KnobGroup;

use super::{Evidence, Screen};

/// Number of values of the sd on a group's curve. A step is 26 %, finer than a night can resolve.
const GRID: usize = 25;
/// The curve reaches from 1/64 of the baseline's upper guess …
const GRID_BELOW: f64 = 64.0;
/// … to four times it: with two seeds the guess itself may be several times too small.
const GRID_ABOVE: f64 = 4.0;
/// Where the pooled value starts, as a factor of the upper guess √2·σ of a single run.
/// Measured with a small model on a CPU: .09, .44, .7 and .9 of it for four kinds of change (geometric mean .4).
const POOLED_START: f64 = 0.35;
/// How far a group may lie from the pooled value: one sd is a factor of e, since groups differ tenfold.
const GROUP_SPREAD: f64 = 1.0;
/// Finished experiments after which a group speaks with half its weight in the pooled value.
const POOL_HALF: f64 = 3.0;
/// No machine resolves less than this (bpb); it keeps the arithmetic finite where all seeds agree exactly.
const SMALLEST_SD: f64 = 1e-7;

/// A possible true effect in units of the pair's sd, with its weight before any evidence.
#[derive(Clone, Copy, Debug)]
struct Effect {
    size: f64,
    weight: f64,
}

/// Expected share of experiments that gain: between the 2 % and the 10 % that the simulated nights use.
const GAIN_SHARE: f64 = 0.08;
/// How many experiments that expectation is worth.
const SHARE_PRIOR: f64 = 20.0;
/// Of those that do not gain, the expected share that change nothing.
const NOTHING_SHARE: f64 = 0.5;
/// Sizes of a gain that are told apart (pair sds). The step is a factor of 1.5.
const GAINS: [f64; 6] = [1.0, 1.5, 2.2, 3.3, 5.0, 7.5];
/// Sizes of a loss that are told apart (pair sds); real losers reach very far.
const LOSSES: [f64; 12] = [0.7, 1.0, 1.5, 2.2, 3.3, 5.0, 7.5, 11.0, 17.0, 25.0, 40.0, 80.0];
/// Each size stands for its neighbourhood: a normal of this relative width, so that nothing falls between two sizes.
const WIDTH: f64 = 0.22;

/// Share of a paired difference's variance that is the incumbent's own: half, if neither side is noisier.
const LUCK_SHARE: f64 = 0.5;
/// The luck of a cached run is sought within ± this (pair sds), drift included, …
const LUCK_RANGE: f64 = 3.0;
/// … at this many points.
const LUCK_STEPS: usize = 17;
/// Cached runs that are remembered, one for each group and seed; the oldest go first.
const CACHED_RUNS: usize = 64;
/// Children of a group that are remembered for each; more would not tell more.
const CHILDREN: usize = 12;
/// Density of a difference that no effect explains; it keeps one outlier from deciding a run's luck.
const SURPRISE: f64 = 1e-6;

/// The sd of the paired difference for each knob group, in bits per byte, as far as it is known.
#[derive(Clone, Debug, PartialEq)]
pub struct NoiseModel {
    single_run_sd: f64,
    groups: BTreeMap<KnobGroup, GroupCurve>,
    /// Earlier children's differences from each cached screening run, to tell its luck.
    cached: Vec<CachedRun>,
    /// Experiments seen, and the sum of their probabilities of being a gain.
    experiments: f64,
    gains: f64,
}

/// The evidence of one group: a log likelihood for each sd of the grid, and how many experiments gave it.
#[derive(Clone, Debug, PartialEq)]
struct GroupCurve {
    log_likelihood: [f64; GRID],
    experiments: f64,
}

/// The differences that the finished children of a group showed against one cached run.
#[derive(Clone, Debug, PartialEq)]
struct CachedRun {
    seed: u64,
    group: KnobGroup,
    differences: Vec<f64>,
}

/// What the differences of one experiment say: P(gain), P(loss) and the sd they are judged with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Belief {
    /// Probability that the true difference is a gain.
    pub gain: f64,
    /// Probability that it is a loss.
    pub loss: f64,
    /// The sd of one paired difference, given this experiment's evidence too (bpb).
    pub pair_sd: f64,
}

impl NoiseModel {
    /// Starts from the baseline's values on different seeds (bpb); two or more, else the noise counts as unknown and
    /// the first pairs decide.
    pub fn from_baseline(values: &[f64]) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count.max(1.0);
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let sd = if values.len() < 2 { 0.02 * mean.abs() } else { (squares / (count - 1.0)).sqrt() };
        Self {
            single_run_sd: sd.max(SMALLEST_SD),
            groups: BTreeMap::new(),
            cached: Vec::new(),
            experiments: 0.0,
            gains: 0.0,
        }
    }

    /// The sd of the baseline over seeds (bpb): the noise of a run that is compared with nothing.
    pub fn single_run_sd(&self) -> f64 {
        self.single_run_sd
    }

    /// The sd of one paired difference in a group (bpb).
    pub fn pair_sd(&self, group: KnobGroup) -> f64 {
        let log_weights = self.log_weights(group);
        let mut weights = [0.0; GRID];
        normalise(&log_weights, &mut weights);
        self.geometric_mean(&weights)
    }

    /// Reads the differences of an experiment: a pair's as it is, a screening's corrected for the luck of its cached run.
    fn summary(&self, group: KnobGroup, screens: &[Screen], pairs: &[f64]) -> Summary {
        let mut summary = Summary::default();
        if !screens.is_empty() {
            let sd = self.pair_sd(group);
            for screen in screens {
                let (luck, variance) = self.luck(group, screen.seed, sd);
                summary.add(screen.difference - luck * sd, variance);
            }
        }
        for difference in pairs {
            summary.add(*difference, 1.0);
        }
        summary
    }

    /// What a cached run's luck, and the drift since then, add to every difference from it (pair sds), and the variance
    /// that is left of such a difference (in units of a fresh pair's). The luck is half of the noise, and all children
    /// that met the run share it.
    fn luck(&self, group: KnobGroup, seed: u64, sd: f64) -> (f64, f64) {
        let Some(run) = self.cached.iter().find(|run| run.seed == seed && run.group == group) else {
            return (0.0, 1.0);
        };
        let effects = self.effects();
        let (mut total, mut first, mut second) = (0.0, 0.0, 0.0);
        for step in 0..LUCK_STEPS {
            let luck = LUCK_RANGE * (2.0 * step as f64 / (LUCK_STEPS - 1) as f64 - 1.0);
            let mut weight = (-0.5 * luck * luck / LUCK_SHARE).exp();
            for before in &run.differences {
                let rest = before / sd - luck;
                let density = |effect: &Effect| {
                    let spread = 1.0 - LUCK_SHARE + (WIDTH * effect.size).powi(2);
                    effect.weight * (-0.5 * (rest - effect.size).powi(2) / spread).exp() / spread.sqrt()
                };
                weight *= effects.iter().map(density).sum::<f64>() + SURPRISE;
            }
            total += weight;
            first += weight * luck;
            second += weight * luck * luck;
        }
        let mean = first / total;
        (mean, (1.0 - LUCK_SHARE + second / total - mean * mean).min(1.0))
    }

    /// Learns from an experiment that is over. Call it once for each, in the journal's order.
    pub fn observe(&mut self, group: KnobGroup, evidence: &Evidence) {
        let summary = self.summary(group, &evidence.screens, &evidence.pairs);
        if summary.count == 0.0 {
            return;
        }
        self.gains += self.belief(group, &evidence.screens, &evidence.pairs).gain;
        self.experiments += 1.0;
        let effects = self.effects();
        let mut log_likelihood = [0.0; GRID];
        for (index, slot) in log_likelihood.iter_mut().enumerate() {
            let sd = self.grid_sd(index);
            *slot =
                log_sum(&effects.map(|effect| effect.weight.ln() + summary.log_likelihood(sd, effect.size)));
        }
        self.remember_screens(group, &evidence.screens);
        let curve = self
            .groups
            .entry(group)
            .or_insert_with(|| GroupCurve { log_likelihood: [0.0; GRID], experiments: 0.0 });
        for (total, new) in curve.log_likelihood.iter_mut().zip(log_likelihood) {
            *total += new;
        }
        curve.experiments += 1.0;
    }

    fn remember_screens(&mut self, group: KnobGroup, screens: &[Screen]) {
        for screen in screens {
            let known = self.cached.iter_mut().find(|run| run.seed == screen.seed && run.group == group);
            if let Some(run) = known {
                if run.differences.len() < CHILDREN {
                    run.differences.push(screen.difference);
                }
                continue;
            }
            if self.cached.len() == CACHED_RUNS {
                self.cached.remove(0);
            }
            self.cached.push(CachedRun { seed: screen.seed, group, differences: vec![screen.difference] });
        }
    }

    /// All effect sizes, gains first, with their weights before an experiment's own evidence. The share of gains follows
    /// what the node has seen: the fewer changes gain, the more a new one has to show.
    fn effects(&self) -> [Effect; EFFECTS] {
        let share = (GAIN_SHARE * SHARE_PRIOR + self.gains) / (SHARE_PRIOR + self.experiments);
        effects(share)
    }

    /// What these differences (bpb, child − incumbent) say about an experiment of this group.
    pub fn belief(&self, group: KnobGroup, screens: &[Screen], pairs: &[f64]) -> Belief {
        let summary = self.summary(group, screens, pairs);
        let effects = self.effects();
        let log_weights = self.log_weights(group);
        let mut joint = [[f64::NEG_INFINITY; EFFECTS]; GRID];
        let mut highest = f64::NEG_INFINITY;
        for (index, row) in joint.iter_mut().enumerate() {
            let sd = self.grid_sd(index);
            for (cell, effect) in row.iter_mut().zip(effects) {
                *cell = log_weights[index] + effect.weight.ln() + summary.log_likelihood(sd, effect.size);
                highest = highest.max(*cell);
            }
        }
        let (mut gain, mut loss, mut total) = (0.0, 0.0, 0.0);
        let mut weights = [0.0; GRID];
        for (row, weight) in joint.iter().zip(&mut weights) {
            for (cell, effect) in row.iter().zip(effects) {
                let mass = (cell - highest).exp();
                *weight += mass;
                total += mass;
                if effect.size < 0.0 {
                    gain += mass;
                } else if effect.size > 0.0 {
                    loss += mass;
                }
            }
        }
        for weight in &mut weights {
            *weight /= total;
        }
        Belief { gain: gain / total, loss: loss / total, pair_sd: self.geometric_mean(&weights) }
    }

    /// The curve of a group: its own evidence on top of the pull towards the pooled value.
    fn log_weights(&self, group: KnobGroup) -> [f64; GRID] {
        let centre = self.pooled_log_sd(group);
        let mut log_weights = [0.0; GRID];
        for (index, weight) in log_weights.iter_mut().enumerate() {
            let distance = (self.grid_sd(index).ln() - centre) / GROUP_SPREAD;
            *weight = -0.5 * distance * distance
                + self.groups.get(&group).map_or(0.0, |curve| curve.log_likelihood[index]);
        }
        log_weights
    }

    /// The log of the sd that the other groups and the baseline suggest for this one.
    fn pooled_log_sd(&self, group: KnobGroup) -> f64 {
        let start = (POOLED_START * self.upper_guess()).ln();
        let (mut sum, mut total) = (start, 1.0);
        for (_, curve) in self.groups.iter().filter(|(other, _)| **other != group) {
            let mut weights = [0.0; GRID];
            let mut log_weights = curve.log_likelihood;
            for (index, weight) in log_weights.iter_mut().enumerate() {
                let distance = (self.grid_sd(index).ln() - start) / GROUP_SPREAD;
                *weight -= 0.5 * distance * distance;
            }
            normalise(&log_weights, &mut weights);
            let weight = curve.experiments / (curve.experiments + POOL_HALF);
            sum += weight * self.geometric_mean(&weights).ln();
            total += weight;
        }
        sum / total
    }

    /// What unpaired runs would give: √2 times the single run's sd (bpb).
    fn upper_guess(&self) -> f64 {
        std::f64::consts::SQRT_2 * self.single_run_sd
    }

    fn grid_sd(&self, index: usize) -> f64 {
        let share = index as f64 / (GRID - 1) as f64;
        self.upper_guess() * (GRID_BELOW * GRID_ABOVE).powf(share) / GRID_BELOW
    }

    fn geometric_mean(&self, weights: &[f64; GRID]) -> f64 {
        weights.iter().enumerate().map(|(index, weight)| weight * self.grid_sd(index).ln()).sum::<f64>().exp()
    }
}

/// Count, precision, mean and squared residuals: all that a normal likelihood needs of an experiment's differences.
#[derive(Clone, Copy, Debug, Default)]
struct Summary {
    count: f64,
    precision: f64,
    mean: f64,
    squares: f64,
}

impl Summary {
    /// Adds a difference (bpb) with its variance in units of a fresh pair's.
    fn add(&mut self, difference: f64, variance: f64) {
        self.count += 1.0;
        self.precision += 1.0 / variance;
        let step = difference - self.mean;
        self.mean += step / (variance * self.precision);
        self.squares += step * (difference - self.mean) / variance;
    }

    /// Log likelihood, up to a constant, if a fresh pair has this sd and the true effect is about `size` sds.
    fn log_likelihood(&self, sd: f64, size: f64) -> f64 {
        if self.count == 0.0 {
            return 0.0;
        }
        let spread = 1.0 / self.precision + (WIDTH * size).powi(2);
        let mean = self.mean / sd - size;
        -self.count * sd.ln() - 0.5 * (self.squares / (sd * sd) + mean * mean / spread + spread.ln())
    }
}

/// Number of effect sizes told apart.
const EFFECTS: usize = GAINS.len() + 1 + LOSSES.len();

/// All effect sizes and their weights, if this share of changes gains.
fn effects(gain_share: f64) -> [Effect; EFFECTS] {
    let rest = 1.0 - gain_share;
    let mut all = [Effect { size: 0.0, weight: rest * NOTHING_SHARE }; EFFECTS];
    for (slot, size) in all.iter_mut().zip(GAINS) {
        *slot = Effect { size: -size, weight: gain_share / GAINS.len() as f64 };
    }
    for (slot, size) in all[GAINS.len() + 1..].iter_mut().zip(LOSSES) {
        *slot = Effect { size, weight: rest * (1.0 - NOTHING_SHARE) / LOSSES.len() as f64 };
    }
    all
}

/// The log of a sum of exponentials.
fn log_sum(logs: &[f64]) -> f64 {
    let highest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    highest + logs.iter().map(|log| (log - highest).exp()).sum::<f64>().ln()
}

/// Log weights to weights that sum to one.
fn normalise(logs: &[f64; GRID], weights: &mut [f64; GRID]) {
    let total = log_sum(logs);
    for (weight, log) in weights.iter_mut().zip(logs) {
        *weight = (log - total).exp();
    }
}
