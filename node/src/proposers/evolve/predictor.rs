//! The predictor: how much memory a config will take, and how many tokens a second it will train.
//!
//! It answers before the config runs. Seconds per token are three costs with one coefficient each:
//!
//! ```text
//! seconds/token = a · products   FLOPs per token, a share of Muon's work in a step included
//!               + b · traffic    bytes that elementwise work and the optimizer move per token
//!               + c · launches   operations started per token: few when a pass holds many tokens
//! ```
//!
//! The machine's description gives the coefficients their first values. The prices measured so far correct
//! them by ridge regression on relative errors, so that a small model counts as much as a large one. A shape
//! that was measured is looked up instead of predicted.
//!
//! Memory is weights, gradients and optimizer states, plus what one pass keeps for its backward, scaled by
//! what the measured runs really took.

use autoswarm_protocol::{EffectiveConfig, Knob, id::SpeedHash};

use super::ledger::Ledger;

/// What the predictor must know of the machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Machine {
    /// Memory that one run may use, bytes.
    pub memory_bytes: u64,
    /// CPU threads of one run.
    pub threads: u16,
    /// Sustained FLOP/s of training's matrix products.
    pub flops_per_second: f64,
    /// Sustained bytes/s of elementwise work.
    pub bytes_per_second: f64,
    /// Seconds to start one operation.
    pub launch_seconds: f64,
    /// Number of tokens in the vocabulary.
    pub vocabulary: u32,
    /// Bytes of one number in the matrix products.
    pub number_bytes: u8,
}

impl Machine {
    /// Describes a CPU whose threads and memory alone are known: an eighth of the products' peak, a few GB/s
    /// per thread. // Wild guess, corrected by the first prices.
    pub fn cpu(threads: u16, memory_bytes: u64, vocabulary: u32) -> Self {
        Self {
            memory_bytes,
            threads,
            flops_per_second: 4e10 * f64::from(threads),
            bytes_per_second: 6e9 * f64::from(threads),
            launch_seconds: 4e-6,
            vocabulary,
            number_bytes: 4,
        }
    }
}

/// What a config is expected to cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prediction {
    /// Training throughput, tokens per second.
    pub tokens_per_second: f64,
    /// Peak memory of a run, bytes.
    pub memory_bytes: f64,
    /// Optimizer steps that the budget buys.
    pub steps: f64,
    /// Training tokens that the budget buys.
    pub tokens: f64,
}

/// Number of measured shapes that the first coefficients weigh as much as.
const PRIOR_STRENGTH: f64 = 0.05;
/// Most measured shapes that the fit looks at: enough for three unknowns many times over.
const MOST_PRICES: usize = 256;
/// Bytes that the process takes before it trains anything: libtorch, its threads, the corpus. // Wild guess.
const FIXED_MEMORY: f64 = 4e8;
/// Share of the memory that a run may plan for; the rest is for what the formula leaves out.
const MEMORY_SHARE: f64 = 0.8;
/// Fewest steps in which a run can learn something. // Wild guess.
const FEWEST_STEPS: f64 = 30.0;
/// A child that trains on this many times fewer tokens than the incumbent is hopeless. // Wild guess.
const TOKEN_RATIO: f64 = 6.0;

/// Why a config is not worth a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Misfit {
    /// It needs more memory than a run may plan for.
    Memory,
    /// The budget buys too few steps.
    Steps,
    /// It would train on far fewer tokens than the incumbent.
    Tokens,
}

/// A predictor that this machine's measured prices have corrected.
#[derive(Debug, Clone)]
pub struct Predictor<'a> {
    machine: Machine,
    budget_seconds: f64,
    /// Seconds per FLOP of products, per byte of traffic and per launch.
    coefficients: [f64; 3],
    memory_factor: f64,
    ledger: &'a Ledger,
}

impl<'a> Predictor<'a> {
    /// Makes a predictor and corrects it by the prices in the ledger.
    pub fn new(machine: Machine, budget_seconds: f64, ledger: &'a Ledger) -> Self {
        let first = [
            1.0 / machine.flops_per_second.max(1.0),
            1.0 / machine.bytes_per_second.max(1.0),
            machine.launch_seconds.max(1e-9),
        ];
        let mut rows: Vec<[f64; 3]> = Vec::new();
        let mut memory = (1.0, 1.0);
        for price in ledger.prices().values().take(MOST_PRICES) {
            let features = features(&price.config, &machine);
            // Each cost as a share of the measured time. They sum to 1 if the first coefficients are right.
            rows.push(std::array::from_fn(|k| features[k] * first[k] * price.tokens_per_second));
            if price.peak_memory_bytes > 0 {
                let ratio = price.peak_memory_bytes as f64 / memory_bytes(&price.config, &machine);
                memory = (memory.0 + ratio.clamp(0.25, 4.0), memory.1 + 1.0);
            }
        }
        // First one factor for the whole machine, then one each for products, traffic and launches.
        let logs: f64 = rows.iter().map(|row| row.iter().sum::<f64>().ln()).sum();
        let slower = (-logs / rows.len().max(1) as f64).exp();
        for row in &mut rows {
            *row = row.map(|x| x * slower);
        }
        let scales = fit(&rows);
        let coefficients = std::array::from_fn(|k| first[k] * slower * scales[k]);
        let memory_factor = memory.0 / memory.1;
        Self { machine, budget_seconds, coefficients, memory_factor, ledger }
    }

    /// Predicts what a config costs.
    pub fn predict(&self, config: &EffectiveConfig) -> Prediction {
        let tokens_per_second = self.tokens_per_second(config);
        let tokens = tokens_per_second * self.budget_seconds;
        Prediction {
            tokens_per_second,
            memory_bytes: memory_bytes(config, &self.machine) * self.memory_factor,
            steps: tokens / config.integer(Knob::BatchTokens) as f64,
            tokens,
        }
    }

    fn tokens_per_second(&self, config: &EffectiveConfig) -> f64 {
        self.measured(config.speed_hash()).unwrap_or_else(|| {
            let features = features(config, &self.machine);
            1.0 / features.iter().zip(self.coefficients).map(|(x, a)| x * a).sum::<f64>()
        })
    }

    fn measured(&self, speed: SpeedHash) -> Option<f64> {
        self.ledger.prices().get(&speed).map(|price| price.tokens_per_second)
    }

    /// Returns why a child of `incumbent` is not worth a run, if it is not.
    ///
    /// A child that is no worse than the incumbent passes: the incumbent ran, whatever is predicted for it.
    pub fn misfit(&self, child: &EffectiveConfig, incumbent: &EffectiveConfig) -> Option<Misfit> {
        if child.speed_hash() == incumbent.speed_hash() {
            return None; // it costs what the incumbent costs
        }
        let (new, old) = (self.predict(child), self.predict(incumbent));
        if new.memory_bytes > MEMORY_SHARE * self.machine.memory_bytes as f64
            && new.memory_bytes > old.memory_bytes
        {
            Some(Misfit::Memory)
        } else if new.steps < FEWEST_STEPS && new.steps < old.steps {
            Some(Misfit::Steps)
        } else if new.tokens * TOKEN_RATIO < old.tokens {
            Some(Misfit::Tokens)
        } else {
            None
        }
    }
}

/// The sizes of a config from which its costs are computed.
struct Sizes {
    depth: f64,
    width: f64,
    hidden: f64,
    gates: f64,
    kv_width: f64,
    value_layers: f64,
    matrices: f64,
    parameters: f64,
}

fn sizes(config: &EffectiveConfig, vocabulary: f64) -> Sizes {
    let depth = config.integer(Knob::Depth) as f64;
    let width = config.integer(Knob::Width) as f64;
    let hidden = config.hidden() as f64;
    let kv_width = (config.kv_heads() * config.integer(Knob::HeadDim)) as f64;
    let gates = if config.choice(Knob::Activation) == "swiglu" { 2.0 } else { 1.0 };
    let value_layers = config.value_embedding_layers().into_iter().filter(|has| *has).count() as f64;
    let matrices = depth * (2.0 * width * width + 2.0 * width * kv_width + (1.0 + gates) * width * hidden);
    let heads = if config.choice(Knob::Head) == "tied" { 1.0 } else { 2.0 };
    let parameters = matrices + heads * vocabulary * width + value_layers * vocabulary * kv_width;
    Sizes { depth, width, hidden, gates, kv_width, value_layers, matrices, parameters }
}

/// Returns products (FLOPs), traffic (bytes) and launches (operations), each per token.
fn features(config: &EffectiveConfig, machine: &Machine) -> [f64; 3] {
    let vocabulary = f64::from(machine.vocabulary);
    let s = sizes(config, vocabulary);
    let batch = config.integer(Knob::BatchTokens) as f64;
    let sequence = config.integer(Knob::SequenceLength) as f64;
    let pass = config.pass_tokens() as f64;
    let seen: f64 = config
        .short_layers()
        .into_iter()
        .map(|short| if short { sequence * config.number(Knob::ShortWindow) } else { sequence })
        .sum();
    let muon = config.choice(Knob::MatrixOptimizer) == "muon";
    // An iteration on an m × n matrix, m ≤ n, is two products of m·m·n and one of m³. That is about 6·m per
    // entry at m = n.
    let muon_flops =
        if muon { 6.0 * config.integer(Knob::MuonSteps) as f64 * s.matrices * s.width } else { 0.0 };
    let products = 6.0 * (s.matrices + vocabulary * s.width) + 12.0 * seen * s.width + muon_flops / batch;
    let number = f64::from(machine.number_bytes);
    // Elementwise passes over each activation, forward and backward, writes and reads again. // Wild guess.
    let per_layer = 60.0 * s.width + 12.0 * s.gates * s.hidden;
    let activations = s.depth * per_layer + 16.0 * s.value_layers * s.kv_width + 10.0 * vocabulary;
    let traffic = number * activations + 32.0 * s.parameters / batch;
    // Operations of a pass and of an optimizer step. // Wild guess.
    let launches = (90.0 * s.depth + 40.0) / pass + (60.0 * s.depth + 60.0) / batch;
    [products, traffic, launches]
}

/// Returns the peak memory, bytes. A parameter takes a weight, a gradient and the optimizer's states in 32
/// bits (one under Muon, two under AdamW). A token of a pass takes what its backward needs.
fn memory_bytes(config: &EffectiveConfig, machine: &Machine) -> f64 {
    let vocabulary = f64::from(machine.vocabulary);
    let s = sizes(config, vocabulary);
    let states = if config.choice(Knob::MatrixOptimizer) == "muon" { 4.0 } else { 8.0 };
    let weights = s.matrices * (8.0 + states) + (s.parameters - s.matrices) * 16.0;
    let number = f64::from(machine.number_bytes);
    // Inputs, normalised inputs, q, k, v, scores' sums, outputs; the MLP's input and activation.
    // Logits in 32 bits.
    let per_token =
        s.depth * (14.0 * s.width + (1.0 + 2.0 * s.gates) * s.hidden) * number + 12.0 * vocabulary;
    FIXED_MEMORY + weights + config.pass_tokens() as f64 * per_token
}

/// Minimises Σ (row · s − 1)² + λ Σ (s − 1)² over s ≥ 0.02, where λ is [`PRIOR_STRENGTH`]. Three unknowns
/// need no solver, so it is done by coordinate descent.
fn fit(rows: &[[f64; 3]]) -> [f64; 3] {
    let mut squares = [[0.0; 3]; 3];
    let mut sums = [PRIOR_STRENGTH; 3];
    for row in rows {
        for k in 0..3 {
            sums[k] += row[k];
            for j in 0..3 {
                squares[k][j] += row[k] * row[j];
            }
        }
    }
    let mut s = [1.0; 3];
    for _ in 0..200 {
        for k in 0..3 {
            let others: f64 = (0..3).filter(|j| *j != k).map(|j| squares[k][j] * s[j]).sum();
            s[k] = ((sums[k] - others) / (squares[k][k] + PRIOR_STRENGTH)).max(0.02);
        }
    }
    s
}

#[cfg(test)]
#[path = "predictor_tests.rs"]
mod tests;
