//! The model: an additive Gaussian process that learns what each knob does from all trials at once.
//!
//! It models differences. A trial says what its patch did: Δ = Σ over the patch's knobs of f(to) − f(from),
//! plus noise with the trial's own standard error. So a trial against an old incumbent still counts, noisy
//! trials count less, parents' errors do not pile up, and knobs without effect fade. Two patches that share
//! no knob say nothing about each other, so conditional knobs need no special case.
//!
//! Trials that were screened against the same cached run of the incumbent share its luck, so a lucky run does
//! not make every change look bad. A crash is a bad value. A pending run is a trial without news, which only
//! makes its neighbourhood less interesting.
//!
//! It stands where others use a tree-structured Parzen estimator. With noise as large as the gains, the ranks
//! of single runs say little, while known errors can be weighed. Not here: which changes are listed and which
//! one is proposed.

use autoswarm_protocol::{Knob, Patch, id::ConfigHash};

use super::{
    ledger::{Ledger, Trial},
    space::{Axis, Space},
};
use crate::research::peer_results::PeerResult;

/// Most trials that the model looks at, the newest ones: a factorisation takes some ten milliseconds.
const MOST_ROWS: usize = 384;
/// Length scale: the distance along an axis, in steps, over which an effect stays alike. The likelihood of
/// 716 real runs is highest at 0.7. Where effects are alike over 2.6, 1 searches as well as 3.
/// // Tuned on the surface of real runs, 2026-11.
const LENGTH: f64 = 1.0;
/// How alike the effects of two names of a choice are, from 0 to 1. // Tuned on made-up surfaces, 2026-11.
const OTHER_NAME: f64 = 0.92;
/// Expected loss of changing one knob, before any trial, as a share of its prior spread. The start is good,
/// so most changes are for the worse. The losses of several knobs add up, their spreads only in squares.
/// // Wild guess.
const EXPECTED_COST: f64 = 0.35;
/// Standard errors beyond which a loss counts only by its logarithm. Effects add up where they are small; one
/// ruinous change must not make everything beside it look ruinous.
/// // Tuned on the surface of real runs, 2026-11.
const FAR_LOSS: f64 = 3.0;
/// Standard error of such a loss, as a share of what counts of it beyond that point. // As above.
const FAR_LOSS_ERROR: f64 = 0.3;
/// Spread between a change's effect here and on peers' incumbents in the same arena, relative to its prior
/// spread. // Wild guess.
const SECOND_HAND: f64 = 0.3;
/// The same spread for peers in another arena. // Wild guess.
const OTHER_ARENA: f64 = 0.8;
/// Smallest standard error of peers' results, as a share of a pair's noise.
/// However many peers agree, two own runs overrule them.
const SECOND_HAND_FLOOR: f64 = 0.5;
/// The loss that a crash counts as, in prior standard deviations of its change.
const CRASH_COST: f64 = 2.0;
/// Spread that each later keep adds to a trial's error, relative to the prior spread of its change: optima
/// move together. // Wild guess.
const STALENESS: f64 = 0.15;
/// Number of trials that the first guess of a knob's effect weighs as much as.
const PRIOR_TRIALS: f64 = 3.0;

/// One knob's move: the knob's place in the table and both coordinates.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Move {
    place: usize,
    choice: bool,
    from: f64,
    to: f64,
}

/// What the model expects of a change, bits per byte, negative is better.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Belief {
    /// Expected difference, bits per byte.
    pub mean: f64,
    /// Standard deviation of that belief, bits per byte.
    pub sd: f64,
}

/// The luck of the incumbent's cached runs in a trial's Δ: which runs, and the standard deviation of each
/// part.
#[derive(Debug, Clone, PartialEq)]
struct Luck {
    parent: ConfigHash,
    seeds: Vec<u64>,
    sd: f64,
}

impl Luck {
    /// Returns the covariance of two trials' errors.
    fn shared(&self, other: &Self) -> f64 {
        if self.parent != other.parent {
            return 0.0;
        }
        let common = self.seeds.iter().filter(|seed| other.seeds.contains(seed)).count();
        common as f64 * self.sd * other.sd
    }
}

/// A fitted model.
#[derive(Debug, Clone)]
pub(super) struct Model {
    /// The moves of each observation: trials, then peers' results, then pending patches.
    rows: Vec<Vec<Move>>,
    /// The luck in the first rows, which are the trials.
    luck: Vec<Luck>,
    /// The lower Cholesky factor of the covariance with noise, row by row.
    factor: Vec<f64>,
    /// Inverse covariance times the residuals: what was seen less what was expected.
    weights: Vec<f64>,
    /// Prior variance of each axis's effects.
    spread: Vec<f64>,
}

impl Model {
    /// Fits the model to a ledger and to peers' results; `pending` are the patches in flight.
    pub(super) fn fit(space: &Space, ledger: &Ledger, results: &[PeerResult], pending: &[Patch]) -> Self {
        let trials: Vec<&Trial> = ledger
            .trials()
            .rev()
            .filter(|trial| !trial.patch.is_empty() && counts(trial))
            .take(MOST_ROWS)
            .collect();
        let moves: Vec<Vec<Move>> = trials.iter().map(|trial| moves_of(space, &trial.patch)).collect();
        let spread = spreads(space, ledger, &trials, &moves);
        let luck = trials.iter().map(|trial| Luck {
            parent: trial.parent,
            seeds: trial.screened_on.clone(),
            sd: trial.luck_sd,
        });
        let luck = luck.collect();
        let mut model = Self { rows: Vec::new(), luck, factor: Vec::new(), weights: Vec::new(), spread };
        // The trials run from the newest to the oldest, so this counts the keeps after each.
        let mut keeps_after = 0.0;
        let mut residuals = Vec::with_capacity(trials.len() + pending.len());
        let mut noise = Vec::with_capacity(trials.len() + pending.len());
        for (trial, row) in trials.iter().zip(moves) {
            let prior = model.covariance(&row, &row).sqrt();
            let (delta, error) = match trial.delta {
                Some(delta) => (delta, trial.standard_error),
                None => (CRASH_COST * prior.max(trial.standard_error), 0.5 * prior),
            };
            let (delta, error) = tempered(delta, error, FAR_LOSS * trial.standard_error);
            residuals.push(delta - model.expected_cost(&row));
            noise.push(error.powi(2) + (STALENESS * prior).powi(2) * keeps_after + 1e-12);
            keeps_after += f64::from(u8::from(trial.kept));
            model.rows.push(row);
        }
        let floor = SECOND_HAND_FLOOR * ledger.pair_sd(autoswarm_protocol::KnobGroup::Shape);
        for result in results {
            let row = moves_of(space, &result.patch);
            let prior = model.covariance(&row, &row).sqrt();
            let strange = if result.same_arena { SECOND_HAND } else { OTHER_ARENA };
            residuals.push(result.delta - model.expected_cost(&row));
            let error = result.standard_error.max(floor).powi(2) + (strange * prior).powi(2);
            // With this variance the result moves the mean `belief` times as far as if it were certain.
            noise.push((error + (1.0 - result.belief) * prior * prior) / result.belief.max(1e-6) + 1e-12);
            model.rows.push(row);
        }
        for patch in pending {
            let row = moves_of(space, patch);
            noise.push(model.covariance(&row, &row) * 0.25 + 1e-12);
            residuals.push(0.0);
            model.rows.push(row);
        }
        model.factorise(&noise);
        model.weights = model.solve(&residuals);
        model
    }

    /// Returns the difference that a patch is expected to make.
    pub(super) fn predict(&self, space: &Space, patch: &Patch) -> Belief {
        let row = moves_of(space, patch);
        let prior = self.covariance(&row, &row);
        let shared: Vec<f64> = self.rows.iter().map(|other| self.covariance(&row, other)).collect();
        let mean: f64 = shared.iter().zip(&self.weights).map(|(a, b)| a * b).sum();
        let explained: f64 = self.forward(&shared).iter().map(|x| x * x).sum();
        Belief {
            mean: self.expected_cost(&row) + mean,
            sd: (prior - explained).max(1e-4 * prior).max(1e-16).sqrt(),
        }
    }

    /// Returns the standard deviation of the effect of one step along an axis, bits per byte, before trials
    /// say in which direction it gains.
    pub(super) fn effect(&self, axis: &Axis) -> f64 {
        let alike = if axis.is_choice() { OTHER_NAME } else { near(0.0, 1.0) };
        (self.spread[Space::place(axis.knob)] * (2.0 - 2.0 * alike)).sqrt()
    }

    /// Returns the loss that is expected of moves before any trial of them, bits per byte.
    fn expected_cost(&self, row: &[Move]) -> f64 {
        row.chunks(1).map(|one| EXPECTED_COST * self.covariance(one, one).sqrt()).sum()
    }

    /// Returns the prior covariance of the effects of two changes.
    fn covariance(&self, a: &[Move], b: &[Move]) -> f64 {
        let mut sum = 0.0;
        for x in a {
            for y in b.iter().filter(|y| y.place == x.place) {
                let alike = if x.choice { same } else { near };
                let shared =
                    alike(x.to, y.to) - alike(x.to, y.from) - alike(x.from, y.to) + alike(x.from, y.from);
                sum += self.spread[x.place] * shared;
            }
        }
        sum
    }

    /// Makes Cholesky's factorisation of the rows' covariance plus noise.
    fn factorise(&mut self, noise: &[f64]) {
        let count = self.rows.len();
        let mut factor = vec![0.0; count * count];
        for i in 0..count {
            for j in 0..=i {
                let mut value = self.covariance(&self.rows[i], &self.rows[j]);
                if i == j {
                    value += noise[i];
                } else if i < self.luck.len() {
                    // Only between trials; a trial's own luck is part of its standard error.
                    value += self.luck[i].shared(&self.luck[j]);
                }
                let (above, row) = factor.split_at_mut(i * count);
                let other = if i == j { &row[..j] } else { &above[j * count..j * count + j] };
                value -= row[..j].iter().zip(other).map(|(a, b)| a * b).sum::<f64>();
                factor[i * count + j] =
                    if i == j { value.max(1e-14).sqrt() } else { value / factor[j * count + j] };
            }
        }
        self.factor = factor;
    }

    /// Solves L x = b.
    fn forward(&self, b: &[f64]) -> Vec<f64> {
        let count = b.len();
        let mut x = vec![0.0; count];
        // Up to the first row that shares a knob, b is zero and so is x.
        for i in b.iter().position(|v| *v != 0.0).unwrap_or(count)..count {
            let row = &self.factor[i * count..i * count + i];
            let sum: f64 = row.iter().zip(&x).map(|(l, v)| l * v).sum();
            x[i] = (b[i] - sum) / self.factor[i * count + i];
        }
        x
    }

    /// Solves L Lᵀ x = b.
    fn solve(&self, b: &[f64]) -> Vec<f64> {
        let count = b.len();
        let mut x = self.forward(b);
        for i in (0..count).rev() {
            let sum: f64 = (i + 1..count).map(|j| self.factor[j * count + i] * x[j]).sum();
            x[i] = (x[i] - sum) / self.factor[i * count + i];
        }
        x
    }
}

/// Returns whether a trial says something about its config: a number, or a crash by the config's fault.
fn counts(trial: &Trial) -> bool {
    trial.delta.is_some() || trial.crash.is_some_and(autoswarm_protocol::CrashClass::blames_config)
}

/// Returns a trial's Δ and its error. The part of a loss beyond `far` counts only by its logarithm.
fn tempered(delta: f64, error: f64, far: f64) -> (f64, f64) {
    if delta <= far || far <= 0.0 {
        return (delta, error);
    }
    let beyond = far * (delta / far).ln();
    (far + beyond, error.max(FAR_LOSS_ERROR * beyond))
}

fn near(a: f64, b: f64) -> f64 {
    (-0.5 * ((a - b) / LENGTH).powi(2)).exp()
}

fn same(a: f64, b: f64) -> f64 {
    // Both are places in a list of names.
    if (a - b).abs() < 0.5 { 1.0 } else { OTHER_NAME }
}

fn moves_of(space: &Space, patch: &Patch) -> Vec<Move> {
    patch
        .iter()
        .map(|(knob, change)| {
            let axis = space.axis(knob);
            Move {
                place: Space::place(knob),
                choice: axis.is_choice(),
                from: axis.coordinate(change.from),
                to: axis.coordinate(change.to),
            }
        })
        .collect()
}

/// Returns each axis's prior variance: at first from its interest and the noise, then also from its trials.
fn spreads(space: &Space, ledger: &Ledger, trials: &[&Trial], moves: &[Vec<Move>]) -> Vec<f64> {
    // The largest effects on a machine are about as large as its noise.
    let first = ledger.pair_sd(autoswarm_protocol::KnobGroup::Shape);
    let interest: Vec<f64> = autoswarm_protocol::knobs::KNOBS
        .iter()
        .map(|row| space.axis(row.knob).interest.max(0.02).powi(2))
        .collect();
    let unit = |m: &Move| {
        let alike = if m.choice { same(m.from, m.to) } else { near(m.from, m.to) };
        interest[m.place] * (2.0 - 2.0 * alike)
    };
    // One amplitude for all axes first, then a correction for each.
    let (mut seen, mut expected) = (PRIOR_TRIALS * first * first, PRIOR_TRIALS);
    for (trial, row) in trials.iter().zip(moves) {
        if let Some(delta) = trial.delta {
            let size: f64 = row.iter().map(unit).sum();
            seen += (delta * delta - trial.standard_error.powi(2)).max(0.0).min(9.0 * first * first);
            expected += size;
        }
    }
    let amplitude = seen / expected;
    let mut sums = vec![(PRIOR_TRIALS, PRIOR_TRIALS); interest.len()];
    for (trial, row) in trials.iter().zip(moves) {
        let Some(delta) = trial.delta else { continue };
        let size: f64 = row.iter().map(unit).sum::<f64>().max(1e-9);
        let noise = trial.standard_error.powi(2) / (amplitude * size);
        let ratio = ((delta * delta) / (amplitude * size) - noise).clamp(0.0, 9.0);
        // A trial far below the noise says nothing about the size of an effect.
        let certainty = 1.0 / (1.0 + noise);
        for m in row {
            let share = unit(m) / size * certainty;
            sums[m.place].0 += share * ratio;
            sums[m.place].1 += share;
        }
    }
    interest.iter().zip(sums).map(|(interest, (seen, count))| amplitude * interest * seen / count).collect()
}

/// Returns the knobs that a patch changes.
pub(super) fn knobs_of(patch: &Patch) -> Vec<Knob> {
    patch.iter().map(|(knob, _)| knob).collect()
}
