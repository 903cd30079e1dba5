//! Simulated nights of experiments with known true effects, for testing a keep rule.
//!
//! A config is a level and, for each knob group g, a version. A run's value is
//!
//! ```text
//! level + drift(t) + Σ_g σ_g · (√ρ · common_g(seed) + √(1−ρ) · own_g(version, seed))
//! ```
//!
//! where `common` and `own` have a variance of 1 and a [`Shape`]. So two configs that differ only in group g
//! have a paired difference of sd `σ_g · √(2(1−ρ))` on equal seeds, while a single run carries the noise of
//! all groups: σ belongs to a contrast. The σ_g span a factor of ten.
//!
//! An experiment changes one group, and its true effect is in units of that group's σ_g. A gain is −2σ_g. A
//! loser has an exponentially distributed loss of mean 3σ_g, so a quarter of the losers lose less than a σ. A
//! no-op is 0 and draws new noise. Drift is one curve for all runs, in units of the geometric mean of the σ_g
//! over a night of [`NIGHT_RUNS`] runs; every run moves it on.

use autoswarm_node::research::verdict::{Evidence, Next, NoiseModel, Policy, Screen, ScreeningCache};
use autoswarm_protocol::KnobGroup;

/// Experiments in a night.
pub const EXPERIMENTS: usize = 100;
/// Runs after which the drift has reached its final size: 2.5 runs an experiment.
pub const NIGHT_RUNS: usize = 250;
/// Runs of the baseline, one a seed: they begin the noise estimate and count among the night's runs.
pub const BASELINE_SEEDS: u32 = 4;
/// σ_g of the four groups (bpb), a decade apart from first to last.
const GROUPS: [(KnobGroup, f64); 4] = [
    (KnobGroup::Init, 0.003),
    (KnobGroup::Optimizer, 0.006_463),
    (KnobGroup::Schedule, 0.013_925),
    (KnobGroup::Shape, 0.03),
];
/// Geometric mean of the σ_g: the unit of drift (bpb).
const TYPICAL_SIGMA: f64 = 0.009_487;
/// Pairs on fresh seeds that measure each keep again in the morning.
const MORNING_PAIRS: u64 = 16;

/// How the machine's values move over a night, in units of the typical σ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Drift {
    /// A straight line that ends this much worse (negative: better).
    Linear(f64),
    /// A random walk whose end has this sd.
    Walk(f64),
}

/// The distribution of runs over seeds, with a mean of 0 and a variance of 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// A normal distribution, as the verdict assumes.
    Bell,
    /// Two narrow heaps, the upper one with this share of the runs: some seeds learn what others do not.
    Heaps(f64),
    /// A normal distribution in which one run in twenty is this many times as far out: spikes of the loss.
    Spikes(f64),
}

/// Standard deviation of a heap, in units of the whole.
const HEAP_SD: f64 = 0.4;
/// Share of runs with a spike.
const SPIKE_SHARE: f64 = 0.05;

impl Shape {
    /// Returns a number of this shape, made of a normal and a uniform one.
    fn of(self, normal: f64, uniform: f64) -> f64 {
        match self {
            Self::Bell => normal,
            Self::Heaps(upper) => {
                // Two heaps at a distance of a have a variance of a² · share · (1 − share) between them.
                let apart = ((1.0 - HEAP_SD * HEAP_SD) / (upper * (1.0 - upper))).sqrt();
                let place = if uniform < upper { 1.0 - upper } else { -upper };
                apart * place + HEAP_SD * normal
            }
            Self::Spikes(times) => {
                let scale = (1.0 - SPIKE_SHARE + SPIKE_SHARE * times * times).sqrt();
                (if uniform < SPIKE_SHARE { times } else { 1.0 }) * normal / scale
            }
        }
    }
}

/// What is simulated: one cell of the table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NightSpec {
    /// Share of experiments that truly gain 2σ.
    pub gain_share: f64,
    /// Share that truly lose; the rest are no-ops.
    pub loser_share: f64,
    /// Correlation of two runs of one contrast on equal seeds.
    pub correlation: f64,
    /// Drift of all values with time.
    pub drift: Drift,
    /// The distribution of runs over seeds.
    pub shape: Shape,
}

/// What a keep rule did in one night, or in the sum of many.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// Nights summed up.
    pub nights: f64,
    /// Experiments that were true gains.
    pub gains: f64,
    /// True gains that were kept.
    pub kept_gains: f64,
    /// Keeps that were no gain.
    pub false_keeps: f64,
    /// All runs, the baseline's and the incumbent's included.
    pub runs: f64,
    /// Sum of what the keeps claimed (bpb).
    pub claimed: f64,
    /// Sum of what the same keeps gave on fresh seeds in the morning (bpb).
    pub measured: f64,
    /// `claimed` in units of each keep's σ_g, so that large groups weigh no more than small ones.
    pub claimed_sigmas: f64,
    /// `measured` in units of each keep's σ_g.
    pub measured_sigmas: f64,
}

impl Tally {
    /// Adds another tally.
    pub fn add(&mut self, other: &Self) {
        self.nights += other.nights;
        self.gains += other.gains;
        self.kept_gains += other.kept_gains;
        self.false_keeps += other.false_keeps;
        self.runs += other.runs;
        self.claimed += other.claimed;
        self.measured += other.measured;
        self.claimed_sigmas += other.claimed_sigmas;
        self.measured_sigmas += other.measured_sigmas;
    }

    /// False keeps a night.
    pub fn false_a_night(&self) -> f64 {
        self.false_keeps / self.nights
    }

    /// Share of the keeps that are false.
    pub fn false_share(&self) -> f64 {
        self.false_keeps / (self.false_keeps + self.kept_gains)
    }

    /// Share of the true gains that were kept.
    pub fn power(&self) -> f64 {
        self.kept_gains / self.gains
    }

    /// Runs an experiment, everything counted.
    pub fn runs_an_experiment(&self) -> f64 {
        self.runs / (self.nights * EXPERIMENTS as f64)
    }

    /// Claimed ÷ measured gain (bpb).
    pub fn honesty(&self) -> f64 {
        self.claimed / self.measured
    }

    /// Claimed ÷ measured gain in units of σ_g.
    pub fn honesty_sigmas(&self) -> f64 {
        self.claimed_sigmas / self.measured_sigmas
    }
}

/// Counter-based random numbers: each is a function of its key, so a config has the same run on a seed.
#[derive(Clone, Copy, Debug)]
struct Chance(u64);

impl Chance {
    fn bits(self, key: [u64; 3]) -> u64 {
        let mut state = self.0;
        for part in key {
            state = mix(state ^ part.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        }
        state
    }

    /// Uniform in (0, 1).
    fn uniform(self, key: [u64; 3]) -> f64 {
        ((self.bits(key) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    /// Standard normal (Box and Muller).
    fn normal(self, key: [u64; 3]) -> f64 {
        let radius = (-2.0 * self.uniform(key).ln()).sqrt();
        let turn = Chance(mix(self.0 ^ 0x5bd1_e995)).uniform(key);
        radius * (std::f64::consts::TAU * turn).cos()
    }
}

/// The finaliser of `SplitMix64`.
fn mix(mut state: u64) -> u64 {
    state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

#[derive(Clone, Copy, Debug)]
struct Config {
    level: f64,
    versions: [u64; GROUPS.len()],
}

/// One machine over one night.
struct Machine {
    spec: NightSpec,
    chance: Chance,
    walk: f64,
    runs: usize,
}

impl Machine {
    fn new(spec: NightSpec, seed: u64) -> Self {
        Self { spec, chance: Chance(mix(seed)), walk: 0.0, runs: 0 }
    }

    /// Makes a run. It takes time, so the drift moves on.
    fn run(&mut self, config: &Config, seed: u64) -> f64 {
        let drift = match self.spec.drift {
            Drift::Linear(size) => size * self.runs as f64 / NIGHT_RUNS as f64,
            Drift::Walk(size) => {
                let step = self.chance.normal([1, self.runs as u64, 0]);
                self.walk += size * step / (NIGHT_RUNS as f64).sqrt();
                self.walk
            }
        };
        self.runs += 1;
        self.value(config, seed) + TYPICAL_SIGMA * drift
    }

    /// Returns what a run gives without drift.
    fn value(&self, config: &Config, seed: u64) -> f64 {
        let mut value = config.level;
        for (index, (_, sigma)) in GROUPS.iter().enumerate() {
            let shaped =
                |key| self.spec.shape.of(self.chance.normal(key), Chance(!self.chance.0).uniform(key));
            let common = shaped([2, seed, index as u64]);
            let own = shaped([3 + index as u64, seed, config.versions[index]]);
            let rho = self.spec.correlation;
            value += sigma * (rho.sqrt() * common + (1.0 - rho).sqrt() * own);
        }
        value
    }

    /// Returns proposal `number` on top of a config: its group's index, its true effect (bpb) and the child.
    fn propose(&self, number: usize, parent: &Config) -> (usize, f64, Config) {
        let key = number as u64;
        let group = (self.chance.bits([10, key, 0]) % GROUPS.len() as u64) as usize;
        let kind = self.chance.uniform([11, key, 0]);
        let effect = if kind < self.spec.gain_share {
            -2.0
        } else if kind < self.spec.gain_share + self.spec.loser_share {
            // Exponential, with a mean of 3.
            -3.0 * self.chance.uniform([12, key, 0]).ln()
        } else {
            0.0
        } * GROUPS[group].1;
        let mut child = *parent;
        child.level += effect;
        child.versions[group] = key + 1; // 0 is the baseline's
        (group, effect, child)
    }

    /// Adds a keep to the tally: its claim, whether it is a true gain, and its gain on fresh seeds.
    fn book(&self, tally: &mut Tally, parent: &Config, child: &Config, group: usize, claimed: f64) {
        let measured = (0..MORNING_PAIRS)
            .map(|pair| 1_000_000_000 + child.versions[group] * MORNING_PAIRS + pair)
            .map(|seed| self.value(child, seed) - self.value(parent, seed))
            .sum::<f64>()
            / MORNING_PAIRS as f64;
        if child.level < parent.level {
            tally.kept_gains += 1.0;
        } else {
            tally.false_keeps += 1.0;
        }
        tally.claimed -= claimed;
        tally.measured -= measured;
        tally.claimed_sigmas -= claimed / GROUPS[group].1;
        tally.measured_sigmas -= measured / GROUPS[group].1;
    }
}

const BASELINE: Config = Config { level: 2.0, versions: [0; GROUPS.len()] };
/// First seed of the fresh pairs, far above those of screening.
const FRESH_SEEDS: u64 = 1_000_000;

/// Simulates a night of a node that follows the policy.
pub fn honest_night(spec: NightSpec, policy: &Policy, seed: u64) -> Tally {
    let mut machine = Machine::new(spec, seed);
    let mut tally = Tally { nights: 1.0, ..Tally::default() };
    let mut incumbent = BASELINE;
    let mut cache = ScreeningCache::default();
    let baseline: Vec<f64> =
        (0..BASELINE_SEEDS).map(|seed| machine.run(&incumbent, u64::from(seed))).collect();
    for (seed, value) in (0..).zip(&baseline) {
        cache.record(seed, *value, u64::from(seed) + 1);
    }
    let mut noise = NoiseModel::from_baseline(&baseline);
    for number in 0..EXPERIMENTS {
        let (group, effect, child) = machine.propose(number, &incumbent);
        tally.gains += f64::from(u8::from(effect < 0.0));
        let knobs = GROUPS[group].0;
        let mut evidence = Evidence::default();
        loop {
            match policy.next(&evidence, &noise, knobs) {
                Next::Screen => {
                    let runs = machine.runs as u64;
                    let plan = cache.plan(evidence.screens.len(), runs, policy.refresh_after);
                    if plan.incumbent_first {
                        let value = machine.run(&incumbent, u64::from(plan.seed_index));
                        cache.record(plan.seed_index, value, runs);
                    }
                    let before = cache.value(plan.seed_index).expect("planned seeds have a cached run");
                    let difference = machine.run(&child, u64::from(plan.seed_index)) - before;
                    evidence.screens.push(Screen { seed: u64::from(plan.seed_index), difference });
                }
                Next::Pair(count) => {
                    for _ in 0..count {
                        let attempt = evidence.pairs.len() as u64;
                        let seed = FRESH_SEEDS + number as u64 * 1000 + attempt;
                        // Each side goes first in turn, or drift would favour one of them.
                        let difference = if attempt.is_multiple_of(2) {
                            let before = machine.run(&incumbent, seed);
                            machine.run(&child, seed) - before
                        } else {
                            let after = machine.run(&child, seed);
                            after - machine.run(&incumbent, seed)
                        };
                        evidence.pairs.push(difference);
                    }
                }
                Next::Keep(estimate, _) => {
                    machine.book(&mut tally, &incumbent, &child, group, estimate.delta);
                    incumbent = child;
                    cache.incumbent_changed();
                    break;
                }
                Next::Discard(..) => break,
            }
        }
        noise.observe(knobs, &evidence);
    }
    tally.runs = machine.runs as f64;
    tally
}

/// Simulates a night of the reference's rule: one run on one fixed seed, and lower is kept.
pub fn reference_night(spec: NightSpec, seed: u64) -> Tally {
    const FIXED_SEED: u64 = 42;
    let mut machine = Machine::new(spec, seed);
    let mut tally = Tally { nights: 1.0, ..Tally::default() };
    let mut incumbent = BASELINE;
    let mut best = machine.run(&incumbent, FIXED_SEED);
    for number in 0..EXPERIMENTS {
        let (group, effect, child) = machine.propose(number, &incumbent);
        tally.gains += f64::from(u8::from(effect < 0.0));
        let value = machine.run(&child, FIXED_SEED);
        if value < best {
            machine.book(&mut tally, &incumbent, &child, group, value - best);
            best = value;
            incumbent = child;
        }
    }
    tally.runs = machine.runs as f64;
    tally
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_has_a_variance_of_one() {
        let chance = Chance(5);
        for shape in [Shape::Bell, Shape::Heaps(0.5), Shape::Heaps(0.2), Shape::Spikes(4.0)] {
            let values =
                (0..40_000).map(|key| shape.of(chance.normal([1, key, 0]), chance.uniform([2, key, 0])));
            let (mut sum, mut squares) = (0.0, 0.0);
            for value in values {
                sum += value;
                squares += value * value;
            }
            let (mean, variance) = (sum / 40_000.0, squares / 40_000.0);
            assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.05, "{shape:?}: {mean} {variance}");
        }
    }
}
