//! The response surface, fitted to real runs of the trainer: a config's level, its speed and its noise.
//!
//! ```text
//! real runs ──▶ level: bits per byte at a token count      (Gaussian process on ln(bpb − FLOOR))
//!           ├─▶ speed: tokens per second of one core        (five costs, and a Gaussian process on the rest)
//!           └─▶ noise: its size, and what runs on one seed share
//! ```
//!
//! Searches are compared and swarms are simulated on it: that takes milliseconds instead of hours, and the
//! truth is known. `node/docs/simulation.md` says how good it is. `test-bed fit` makes its parameters from
//! the committed runs.

pub mod axes;
pub mod costs;
pub mod gaussian;
pub mod noise;
pub mod optimum;
pub mod runs;
pub mod scores;

use std::sync::LazyLock;

use autoswarm_protocol::{CrashClass, EffectiveConfig, Knob, knobs::KNOBS};
use serde::{Deserialize, Serialize};

use costs::Costs;
use gaussian::{Gaussian, Kernel, Row};
use noise::Noise;
use runs::{BUDGET_SECONDS, CONTEXT, RealRun};

/// The config around which the runs were sampled. It was the calibrated start of one core at 5 s on the day
/// of the runs; since then the calibrated start is 64 wide.
const START: &str = "depth=2 width=32 head_dim=32 sequence_length=64 batch_tokens=1024 window_pattern=SSSL \
                     short_window=0.035 activation=swiglu mlp_ratio=2.5 value_embeddings=none";
/// Bits per byte below what any run reached. The logarithm of the level above it is what is modelled.
const FLOOR: f64 = 1.5;
/// Bits per byte above which a run's value says little more than "bad": its noise counts as larger in
/// proportion.
const BAD: f64 = 3.2;
/// How much worse than its mean prediction a config counts, in posterior standard deviations. A search for
/// the best config of a fit finds the places where the fit is too good: 14 such configs, when trained, were
/// worse by 2.1 of these standard deviations. // measured 2026-11
const PESSIMISM: f64 = 1.0;
/// Tokens at which the coordinate of the tokens is 0; its unit is an octave.
const REFERENCE_TOKENS: f64 = 800_000.0;
/// Prior weights, of a variance of 1: of the tokens in the level, and of a knob in the speed. // Wild guess.
const TOKENS_WEIGHT: f64 = 0.1;
const SPEED_WEIGHT: f64 = 0.02;
/// Steps from the start beyond which a knob counts as no farther away.
const FAR: f64 = 3.0;
/// Fewest steps that a run may have, as the trainer's own default.
const FEWEST_STEPS: f64 = 8.0;

/// All parameters that are fitted to runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Parameters {
    /// The kernel of the level.
    pub level: Kernel,
    /// The kernel of what the costs do not explain of the speed.
    pub speed: Kernel,
    /// The costs of a training token.
    pub costs: Costs,
    /// The size of a run's noise, and what runs share of it.
    pub noise: Noise,
}

/// The response surface: the parameters, conditioned on runs.
#[derive(Debug, Clone)]
pub struct Surrogate {
    level: Gaussian,
    speed: Gaussian,
    parameters: Parameters,
}

impl Surrogate {
    /// Returns the surface that is in the tree, conditioned on all of its runs.
    pub fn committed() -> Self {
        Self::new(parameters(), &runs::real_runs())
    }

    /// Makes the surface of some parameters, conditioned on runs.
    pub fn new(parameters: Parameters, runs: &[RealRun]) -> Self {
        let level = Gaussian::new(parameters.level.clone(), &names(), &level_rows(runs));
        let speed = Gaussian::new(parameters.speed.clone(), &names(), &speed_rows(&parameters.costs, runs));
        Self { level, speed, parameters }
    }

    /// Returns the bits per byte that a config reaches on average after `tokens` training tokens: what the
    /// runs predict, and something worse where they say little.
    pub fn level(&self, config: &EffectiveConfig, tokens: f64) -> f64 {
        let (mean, doubt) = self.level.with_doubt(&place(config, tokens));
        // The cap on the logarithm keeps a config far from all runs finite.
        FLOOR + (mean + PESSIMISM * doubt).min(4.0).exp()
    }

    /// Returns the training throughput on one core, tokens per second.
    pub fn tokens_per_second(&self, config: &EffectiveConfig) -> f64 {
        let beyond = self.speed.at(&place(config, REFERENCE_TOKENS));
        beyond.exp() / self.parameters.costs.seconds_per_token(config)
    }

    /// Returns the tokens of whole steps that `seconds` buy at a speed `faster` times one core's.
    pub fn tokens(&self, config: &EffectiveConfig, seconds: f64, faster: f64) -> f64 {
        let batch = config.integer(Knob::BatchTokens) as f64;
        (self.tokens_per_second(config) * faster * seconds / batch).round() * batch
    }

    /// Returns the level that a config reaches on one core in the budget of the runs, infinite for a crash:
    /// what an optimiser minimises.
    pub fn worth(&self, config: &EffectiveConfig) -> f64 {
        let tokens = self.tokens(config, BUDGET_SECONDS, 1.0);
        if self.crash(config, tokens).is_some() { f64::INFINITY } else { self.level(config, tokens) }
    }

    /// Returns why a run of a config gives no number, if it gives none.
    pub fn crash(&self, config: &EffectiveConfig, tokens: f64) -> Option<CrashClass> {
        let steps = tokens / config.integer(Knob::BatchTokens) as f64;
        (steps < FEWEST_STEPS).then_some(CrashClass::TooSlow)
    }

    /// Returns what one run measures on validation and on audit, bits per byte.
    pub fn measure(&self, config: &EffectiveConfig, tokens: f64, seed: u64) -> (f64, f64) {
        let level = self.level(config, tokens);
        let (validation, audit) = self.parameters.noise.draw(config, level, tokens, seed);
        (level + validation, level + audit)
    }

    /// Returns the fitted parameters.
    pub const fn parameters(&self) -> &Parameters {
        &self.parameters
    }
}

/// Returns the config that the runs were sampled around.
pub fn start() -> EffectiveConfig {
    runs::parse_config(START).expect("the start is a config").effective(CONTEXT)
}

/// Returns the committed parameters.
pub fn parameters() -> Parameters {
    serde_json::from_str(include_str!("../data/surface.json"))
        .expect("the committed parameters are well-formed")
}

/// Fits all parameters to runs; `tell` hears what is fitted, the round, and the likelihood's logarithm.
pub fn fit(runs: &[RealRun], rounds: usize, tell: &mut dyn FnMut(&str, usize, f64)) -> Parameters {
    let rows = level_rows(runs);
    let level = gaussian::fit(&level_start(), &names(), &rows, rounds, &mut |round, value| {
        tell("level", round, value);
    });
    let costs = Costs::fit(runs);
    let weights =
        KNOBS.iter().map(|row| if row.affects_speed { SPEED_WEIGHT } else { 0.0 }).chain([0.0]).collect();
    let rows = speed_rows(&costs, runs);
    let speed = gaussian::fit(&Kernel::start(weights), &names(), &rows, rounds, &mut |round, value| {
        tell("speed", round, value);
    });
    let noise = noise(&level, runs);
    Parameters { level, speed, costs, noise }
}

/// Returns the noise of runs around the level that this kernel predicts.
pub fn noise(level: &Kernel, runs: &[RealRun]) -> Noise {
    let surface = Gaussian::new(level.clone(), &names(), &level_rows(runs));
    Noise::fit(runs, &|config, tokens| FLOOR + surface.at(&place(config, tokens)).exp())
}

/// Returns the kernel from which the fit of the level begins.
fn level_start() -> Kernel {
    Kernel::start(KNOBS.iter().map(|row| axes::importance(row.knob)).chain([TOKENS_WEIGHT]).collect())
}

/// Returns how well the level is fitted to runs: see [`gaussian::how_fitted`].
pub fn how_fitted(parameters: &Parameters, runs: &[RealRun]) -> (f64, f64) {
    gaussian::how_fitted(&level_start(), &parameters.level, &names(), &level_rows(runs))
}

/// Returns a config's coordinates, then its tokens in octaves, and last its distance from the start: the sum
/// over the knobs, each counting at most 1.
fn place(config: &EffectiveConfig, tokens: f64) -> Vec<f64> {
    static BEGIN: LazyLock<Vec<f64>> = LazyLock::new(|| axes::coordinates(&start()));
    static NAMES: LazyLock<Vec<bool>> = LazyLock::new(axes::choices);
    let mut x = axes::coordinates(config);
    let far: f64 = x
        .iter()
        .zip(&*BEGIN)
        .zip(&*NAMES)
        .map(|((x, begin), name)| (x - begin).abs() / if *name { 1.0 } else { FAR })
        .map(|far| far.min(1.0))
        .sum();
    x.push((tokens.max(1.0) / REFERENCE_TOKENS).log2());
    x.push(far);
    x
}

fn names() -> Vec<bool> {
    let mut names = axes::choices();
    names.push(false);
    names
}

fn level_rows(runs: &[RealRun]) -> Vec<Row> {
    let measured = runs.iter().filter_map(|run| Some((run, run.measured?)));
    measured
        .map(|(run, measured)| Row {
            x: place(&run.config, measured.tokens),
            y: (measured.validation - FLOOR).ln(),
            seed: run.seed,
            noisier: 1.0 + 10.0 * (measured.validation - BAD).max(0.0),
        })
        .collect()
}

fn speed_rows(costs: &Costs, runs: &[RealRun]) -> Vec<Row> {
    runs.iter()
        .enumerate()
        .filter_map(|(index, run)| {
            let speed = run.speed()?;
            Some(Row {
                x: place(&run.config, REFERENCE_TOKENS),
                y: (speed * costs.seconds_per_token(&run.config)).ln(),
                // Prices share the hour at which they were taken, not the seed: eight in a row count as one
                // hour.
                seed: index as u64 / 8,
                noisier: 1.0,
            })
        })
        .collect()
}
