//! The noise model: for each knob group, a curve of belief over the sd of a paired difference.
//!
//! A group's noise is not one known number but a weight for each of [`GRID`] possible values, pulled towards
//! the pooled value of all groups. Every finished experiment changes the weights: the same difference twice
//! says little, two very different ones say that the noise is large. Screening differences count too. They go
//! through a mixture that allows for losers and gains, so a night of losers does not pass for noise.
//!
//! Nothing is read from a file: the model is rebuilt by replaying the journal's evidence in order, and the
//! same evidence gives the same model. Not here: what to do about the noise (see [`super::Policy`]).

use std::collections::BTreeMap;

use autoswarm_protocol::KnobGroup;

use super::{Evidence, IdeaSource, Screen};

/// Number of sd values on a group's curve. A step is 26 %, finer than a night can resolve.
const GRID: usize = 25;
/// The curve begins at the baseline's upper guess divided by this.
const GRID_BELOW: f64 = 64.0;
/// The curve ends at this many times that guess: with two seeds it may be several times too small.
const GRID_ABOVE: f64 = 4.0;
/// Where the pooled value starts, as a share of the upper guess, which is √2·σ of a single run.
/// Measured with a small model on a CPU: .09, .44, .7 and .9 for four kinds of change (geometric mean .4).
const POOLED_START: f64 = 0.35;
/// How far a group may lie from the pooled value: one sd is a factor of e, since groups differ tenfold.
const GROUP_SPREAD: f64 = 1.0;
/// Finished experiments after which a group has half of its full weight in the pooled value.
const POOL_HALF: f64 = 3.0;
/// Smallest sd (bpb); no machine resolves less. It keeps the arithmetic finite where all seeds agree exactly.
const SMALLEST_SD: f64 = 1e-7;

/// A possible true effect, in units of the pair's sd, with its prior weight.
#[derive(Clone, Copy, Debug)]
struct Effect {
    size: f64,
    weight: f64,
}

/// Expected share of experiments that gain: between the 2 % and the 10 % that the simulated nights use.
const GAIN_SHARE: f64 = 0.08;
/// Number of experiments that this expectation weighs as much as.
const SHARE_PRIOR: f64 = 20.0;
/// Expected share of gains among ideas that a peer kept: each won once, elsewhere. // Wild guess.
const PEERS_GAIN_SHARE: f64 = 0.15;
/// Number of experiments that the peers' expectation weighs as much as.
const PEERS_SHARE_PRIOR: f64 = 4.0;
/// Expected share of no-ops among the experiments that do not gain.
const NOTHING_SHARE: f64 = 0.5;
/// Sizes of a gain in the mixture (pair sds). Each is 1.5 times the one before.
const GAINS: [f64; 6] = [1.0, 1.5, 2.2, 3.3, 5.0, 7.5];
/// Sizes of larger gains, as far as losses reach (pair sds). They occur where the start is far from any good
/// config, or where the baseline's few seeds understate the noise. Without them the widest loss would explain
/// an enormous gain best.
const FAR_GAINS: [f64; 5] = [11.0, 17.0, 25.0, 40.0, 80.0];
/// Expected share of such large gains among all gains. // Wild guess; their sizes matter more.
const FAR_SHARE: f64 = 0.05;
/// Sizes of a loss in the mixture (pair sds); real losers reach very far.
const LOSSES: [f64; 12] = [0.7, 1.0, 1.5, 2.2, 3.3, 5.0, 7.5, 11.0, 17.0, 25.0, 40.0, 80.0];
/// Relative width of the normal that stands for each size, so that no effect falls between two sizes.
const WIDTH: f64 = 0.22;

/// Share of a paired difference's variance that is the incumbent's run's: half, if neither side is noisier.
const LUCK_SHARE: f64 = 0.5;
/// The luck of a cached run, drift included, is sought within ± this (pair sds).
const LUCK_RANGE: f64 = 3.0;
/// Number of points at which it is sought.
const LUCK_STEPS: usize = 17;
/// Most cached runs that are remembered, one for each group and seed; the oldest is forgotten first.
const CACHED_RUNS: usize = 64;
/// Most children of a group that are remembered for each cached run; more would not tell more.
const CHILDREN: usize = 12;
/// Exponents below this are left out of sums: they add nothing that counts.
const NEGLIGIBLE: f64 = -30.0;
/// Density of a difference that no effect explains; it keeps one outlier from deciding a run's luck.
const SURPRISE: f64 = 1e-6;

/// The sd of the paired difference for each knob group, in bits per byte, as far as it is known.
#[derive(Clone, Debug, PartialEq)]
pub struct NoiseModel {
    /// The sd of the baseline over seeds (bpb).
    single_run_sd: f64,
    groups: BTreeMap<KnobGroup, GroupCurve>,
    /// Earlier children's differences from each cached screening run, which tell its luck.
    cached: Vec<SharedLuck>,
    /// How many ideas gained, by [`IdeaSource`].
    shares: [Share; 2],
}

/// Experiments seen, and the sum of their probabilities of being a gain.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Share {
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
struct SharedLuck {
    seed: u64,
    group: KnobGroup,
    differences: Vec<f64>,
    /// What the run's luck, and the drift since then, add to every difference from it (bpb).
    luck: f64,
    /// The variance left once the luck is subtracted, in units of a fresh pair's variance.
    variance: f64,
}

impl SharedLuck {
    /// Estimates the luck. It is half of the noise, and all children compared with the run share it.
    fn judge(&mut self, sd: f64, effects: &[Effect; EFFECTS]) {
        let spreads = effects.map(|effect| 1.0 - LUCK_SHARE + (WIDTH * effect.size).powi(2));
        let scales: [f64; EFFECTS] = std::array::from_fn(|at| effects[at].weight / spreads[at].sqrt());
        // The posterior over a grid of lucks; its moments give the mean and the variance that is left.
        let (mut total, mut first, mut second) = (0.0, 0.0, 0.0);
        for step in 0..LUCK_STEPS {
            let luck = LUCK_RANGE * (2.0 * step as f64 / (LUCK_STEPS - 1) as f64 - 1.0);
            let mut weight = (-0.5 * luck * luck / LUCK_SHARE).exp();
            for difference in &self.differences {
                let rest = difference / sd - luck;
                let mut density = SURPRISE;
                for at in 0..EFFECTS {
                    let exponent = -0.5 * (rest - effects[at].size).powi(2) / spreads[at];
                    if exponent > NEGLIGIBLE {
                        density += scales[at] * exponent.exp();
                    }
                }
                weight *= density;
            }
            total += weight;
            first += weight * luck;
            second += weight * luck * luck;
        }
        let mean = first / total;
        self.luck = mean * sd;
        self.variance = (1.0 - LUCK_SHARE + second / total - mean * mean).min(1.0);
    }
}

/// What the differences of one experiment say: P(gain), P(loss) and the sd that they are judged with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NoiseBelief {
    /// Probability that the true difference is a gain, 0 to 1.
    pub gain: f64,
    /// Probability that it is a loss, 0 to 1; the rest is that it is nothing.
    pub loss: f64,
    /// The Bayes factor of a gain: its odds after these differences over its odds before them.
    pub factor: f64,
    /// The sd of one paired difference, given this experiment's evidence too (bpb).
    pub pair_sd: f64,
}

impl NoiseModel {
    /// Makes a model from the baseline's values on different seeds (bpb). With fewer than two values the
    /// noise counts as unknown, and the first pairs decide.
    pub fn from_baseline(values: &[f64]) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count.max(1.0);
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let sd = if values.len() < 2 { 0.02 * mean.abs() } else { (squares / (count - 1.0)).sqrt() };
        Self {
            single_run_sd: sd.max(SMALLEST_SD),
            groups: BTreeMap::new(),
            cached: Vec::new(),
            shares: [Share::default(); 2],
        }
    }

    /// Returns the sd of the baseline over seeds (bpb): the noise of a run that is compared with nothing.
    pub fn single_run_sd(&self) -> f64 {
        self.single_run_sd
    }

    /// Returns the sd of one paired difference in a group (bpb).
    pub fn pair_sd(&self, group: KnobGroup) -> f64 {
        let log_weights = self.log_weights(group);
        let mut weights = [0.0; GRID];
        normalise(&log_weights, &mut weights);
        self.geometric_mean(&weights)
    }

    /// Sums up an experiment's differences. Those of pairs count as they are, those of screening runs are
    /// corrected for the luck of the cached run.
    fn summary(&self, group: KnobGroup, screens: &[Screen], pairs: &[f64]) -> Moments {
        let mut summary = Moments::default();
        for screen in screens {
            let run = self.cached.iter().find(|run| run.seed == screen.seed && run.group == group);
            let (luck, variance) = run.map_or((0.0, 1.0), |run| (run.luck, run.variance));
            summary.add(screen.difference - luck, variance);
        }
        for difference in pairs {
            summary.add(*difference, 1.0);
        }
        summary
    }

    /// Learns from a finished experiment. Call it once for each, in the journal's order.
    pub fn observe(&mut self, group: KnobGroup, evidence: &Evidence) {
        let summary = self.summary(group, &evidence.screens, &evidence.pairs);
        if summary.count == 0.0 {
            return;
        }
        let source = evidence.source;
        let gain = self.belief(group, source, &evidence.screens, &evidence.pairs).gain;
        let share = &mut self.shares[source as usize];
        (share.gains, share.experiments) = (share.gains + gain, share.experiments + 1.0);
        let terms = summary.terms(&self.effects(source));
        let mut log_likelihood = [0.0; GRID];
        for (index, slot) in log_likelihood.iter_mut().enumerate() {
            *slot = log_sum(&summary.log_likelihoods(self.grid_sd(index), &terms));
        }
        let curve = self
            .groups
            .entry(group)
            .or_insert_with(|| GroupCurve { log_likelihood: [0.0; GRID], experiments: 0.0 });
        for (total, new) in curve.log_likelihood.iter_mut().zip(log_likelihood) {
            *total += new;
        }
        curve.experiments += 1.0;
        self.remember_screens(group, &evidence.screens);
    }

    fn remember_screens(&mut self, group: KnobGroup, screens: &[Screen]) {
        let sd = self.pair_sd(group);
        let effects = self.effects(IdeaSource::Own);
        for screen in screens {
            let known = self.cached.iter().position(|run| run.seed == screen.seed && run.group == group);
            let at = known.unwrap_or_else(|| {
                if self.cached.len() == CACHED_RUNS {
                    self.cached.remove(0);
                }
                let differences = Vec::new();
                self.cached.push(SharedLuck {
                    seed: screen.seed,
                    group,
                    differences,
                    luck: 0.0,
                    variance: 1.0,
                });
                self.cached.len() - 1
            });
            let run = &mut self.cached[at];
            if run.differences.len() < CHILDREN {
                run.differences.push(screen.difference);
                run.judge(sd, &effects);
            }
        }
    }

    /// Returns all effect sizes, gains first, with their weights before an experiment's own evidence. The
    /// share of gains follows what the node has seen: the fewer changes gain, the more a new one has to show.
    fn effects(&self, source: IdeaSource) -> [Effect; EFFECTS] {
        effects(self.gain_share(source))
    }

    fn gain_share(&self, source: IdeaSource) -> f64 {
        let (expected, weight) = match source {
            IdeaSource::Own => (GAIN_SHARE, SHARE_PRIOR),
            IdeaSource::Peers => (PEERS_GAIN_SHARE, PEERS_SHARE_PRIOR),
        };
        let Share { experiments, gains } = self.shares[source as usize];
        (expected * weight + gains) / (weight + experiments)
    }

    /// Returns what these differences (bpb, child − incumbent) say about an experiment of this group.
    pub fn belief(
        &self,
        group: KnobGroup,
        source: IdeaSource,
        screens: &[Screen],
        pairs: &[f64],
    ) -> NoiseBelief {
        let summary = self.summary(group, screens, pairs);
        let terms = summary.terms(&self.effects(source));
        let log_weights = self.log_weights(group);
        // The joint posterior of the sd (rows) and the effect (columns), as logarithms.
        let mut joint = [[f64::NEG_INFINITY; EFFECTS]; GRID];
        let mut highest = f64::NEG_INFINITY;
        for (index, row) in joint.iter_mut().enumerate() {
            *row = summary.log_likelihoods(self.grid_sd(index), &terms);
            for cell in row {
                *cell += log_weights[index];
                highest = highest.max(*cell);
            }
        }
        let (mut gain, mut loss, mut total) = (0.0, 0.0, 0.0);
        let mut weights = [0.0; GRID];
        for (row, weight) in joint.iter().zip(&mut weights) {
            for (cell, term) in row.iter().zip(&terms).filter(|(cell, _)| *cell - highest > NEGLIGIBLE) {
                let mass = (cell - highest).exp();
                *weight += mass;
                total += mass;
                if term.size < 0.0 {
                    gain += mass;
                } else if term.size > 0.0 {
                    loss += mass;
                }
            }
        }
        for weight in &mut weights {
            *weight /= total;
        }
        let before: f64 = self.gain_share(source);
        let factor = gain / (total - gain).max(f64::MIN_POSITIVE) * (1.0 - before) / before;
        NoiseBelief { gain: gain / total, loss: loss / total, factor, pair_sd: self.geometric_mean(&weights) }
    }

    /// Returns the curve of a group as log weights: its own evidence, plus the pull towards the pooled value.
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

    /// Returns the pooled value for a group: the log of the sd that other groups and the baseline suggest.
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

    /// Returns the sd of the difference of two unrelated runs: √2 times that of a single run (bpb).
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

/// The sufficient statistics of an experiment's differences for a normal likelihood.
#[derive(Clone, Copy, Debug, Default)]
struct Moments {
    count: f64,
    /// Sum of the inverse variances, in units of a fresh pair's.
    precision: f64,
    /// Mean difference, weighted by precision (bpb).
    mean: f64,
    /// Sum of the squared residuals, each over its variance.
    squares: f64,
}

impl Moments {
    /// Adds a difference (bpb) with its variance in units of a fresh pair's.
    fn add(&mut self, difference: f64, variance: f64) {
        // Welford's update, with weights.
        self.count += 1.0;
        self.precision += 1.0 / variance;
        let step = difference - self.mean;
        self.mean += step / (variance * self.precision);
        self.squares += step * (difference - self.mean) / variance;
    }

    /// Returns the part of each effect's likelihood that does not depend on the sd.
    fn terms(&self, effects: &[Effect; EFFECTS]) -> [Term; EFFECTS] {
        effects.map(|effect| {
            let spread =
                if self.count == 0.0 { 1.0 } else { 1.0 / self.precision } + (WIDTH * effect.size).powi(2);
            Term { size: effect.size, spread, log_weight: effect.weight.ln() - 0.5 * spread.ln() }
        })
    }

    /// Returns log(weight × likelihood) of each effect, up to a constant, if a fresh pair has this sd.
    fn log_likelihoods(&self, sd: f64, terms: &[Term; EFFECTS]) -> [f64; EFFECTS] {
        let base = -self.count * sd.ln() - 0.5 * self.squares / (sd * sd);
        terms.map(|term| {
            // Without differences only the weight is left: `terms` has taken the spread off it.
            if self.count == 0.0 {
                return term.log_weight + 0.5 * term.spread.ln();
            }
            base + term.log_weight - 0.5 * (self.mean / sd - term.size).powi(2) / term.spread
        })
    }
}

/// An effect, prepared for one summary.
#[derive(Clone, Copy, Debug)]
struct Term {
    size: f64,
    /// Variance of the mean difference around this effect, in units of a fresh pair's variance.
    spread: f64,
    log_weight: f64,
}

/// Number of effect sizes in the mixture: gains, nothing, losses.
const EFFECTS: usize = GAINS.len() + FAR_GAINS.len() + 1 + LOSSES.len();

/// Returns all effect sizes and their weights, if this share of changes gains.
fn effects(gain_share: f64) -> [Effect; EFFECTS] {
    let rest = 1.0 - gain_share;
    let mut all = [Effect { size: 0.0, weight: rest * NOTHING_SHARE }; EFFECTS];
    let near = GAINS.map(|size| (size, (1.0 - FAR_SHARE) / GAINS.len() as f64));
    let far = FAR_GAINS.map(|size| (size, FAR_SHARE / FAR_GAINS.len() as f64));
    for (slot, (size, weight)) in all.iter_mut().zip(near.into_iter().chain(far)) {
        *slot = Effect { size: -size, weight: gain_share * weight };
    }
    for (slot, size) in all[EFFECTS - LOSSES.len()..].iter_mut().zip(LOSSES) {
        *slot = Effect { size, weight: rest * (1.0 - NOTHING_SHARE) / LOSSES.len() as f64 };
    }
    all
}

/// Returns the log of a sum of exponentials.
fn log_sum(logs: &[f64]) -> f64 {
    let highest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let rest = logs.iter().map(|log| log - highest).filter(|log| *log > NEGLIGIBLE);
    highest + rest.map(f64::exp).sum::<f64>().ln()
}

/// Turns log weights into weights that sum to one.
fn normalise(logs: &[f64; GRID], weights: &mut [f64; GRID]) {
    let total = log_sum(logs);
    for (weight, log) in weights.iter_mut().zip(logs) {
        *weight = (log - total).exp();
    }
}
