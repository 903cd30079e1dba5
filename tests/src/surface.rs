//! The made-up response surface of the fake trainer: the true level of a config, and the noise that hides it.
//!
//! **For tests of the node only; no number from here says anything about training.** In a dozen knobs it has
//! a known optimum away from the defaults. Costs grow with the model. The correlation of the noise between
//! two configs on one seed is given. So a test can compare a node's claims with the truth.

use autoswarm_protocol::{EffectiveConfig, Knob};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Vocabulary of the pretended tokenizer.
pub const VOCABULARY: u32 = 257;

/// How strong the noise is, and how much of it two configs on one seed share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Noise {
    /// Standard deviation of one run, bits per byte.
    pub sigma: f64,
    /// Correlation of two configs' runs on one seed, 0 to 1.
    pub correlation: f64,
}

impl Default for Noise {
    fn default() -> Self {
        Self { sigma: 0.02, correlation: 0.8 }
    }
}

/// How far a knob is from its optimum, in the unit that its weight is for.
#[derive(Debug, Clone, Copy)]
enum Distance {
    /// Octaves: powers of two.
    Octaves,
    /// Decades: powers of ten.
    Decades,
    /// The knob's own unit.
    Plain,
}

/// Knobs with their optimum, the unit of distance, and the bits per byte lost at a distance of one unit.
const BOWL: &[(Knob, f64, Distance, f64)] = &[
    (Knob::Depth, 3.0, Distance::Octaves, 0.05),
    (Knob::Width, 192.0, Distance::Octaves, 0.04),
    (Knob::BatchTokens, 2048.0, Distance::Octaves, 0.02),
    (Knob::Warmdown, 0.7, Distance::Plain, 0.2),
    (Knob::MatrixRate, 0.02, Distance::Decades, 0.4),
    (Knob::EmbeddingRate, 0.3, Distance::Decades, 0.1),
    (Knob::UnembeddingRate, 0.008, Distance::Decades, 0.1),
    (Knob::MatrixDecay, 0.05, Distance::Plain, 0.3),
    (Knob::MuonMomentum, 0.9, Distance::Plain, 1.0),
    (Knob::MatrixInit, 0.7, Distance::Plain, 0.05),
    (Knob::UnembeddingInit, 0.01, Distance::Decades, 0.01),
    (Knob::Softcap, 20.0, Distance::Plain, 0.0001),
];

/// Returns the true bits per byte of a config after `tokens` training tokens.
pub fn true_bpb(config: &EffectiveConfig, tokens: u64) -> f64 {
    let bowl: f64 = BOWL
        .iter()
        .map(|&(knob, optimum, distance, weight)| {
            let value = config.get(knob).as_f64();
            let far = match distance {
                Distance::Octaves => (value / optimum).log2(),
                Distance::Decades => (value / optimum).log10(),
                Distance::Plain => value - optimum,
            };
            weight * far * far
        })
        .sum();
    let tied = if config.choice(Knob::Head) == "tied" { 0.03 } else { 0.0 };
    let gated = if config.choice(Knob::Activation) == "swiglu" { -0.01 } else { 0.0 };
    // A power law of the tokens: what training longer would still gain.
    let young = 1.5 * (1e5 / (tokens as f64 + 1e4)).powf(0.3);
    1.5 + bowl + tied + gated + young
}

/// Returns one run's noise, bits per byte; `split` separates the held-out splits.
pub fn noise(config: &EffectiveConfig, seed: u64, split: u8, noise: Noise) -> f64 {
    let shared = normal(&[&seed.to_le_bytes(), &[split]]);
    let own = normal(&[&seed.to_le_bytes(), &[split], config.hash().as_bytes()]);
    noise.sigma * (noise.correlation.sqrt() * shared + (1.0 - noise.correlation).sqrt() * own)
}

/// Returns the number of trainable parameters.
pub fn parameters(config: &EffectiveConfig) -> u64 {
    let (depth, width) = (config.integer(Knob::Depth) as u64, config.integer(Knob::Width) as u64);
    12 * depth * width * width + 2 * u64::from(VOCABULARY) * width
}

/// Returns the training FLOPs per token.
pub fn flops_per_token(config: &EffectiveConfig) -> f64 {
    6.0 * parameters(config) as f64
}

/// Returns the pretended throughput, tokens per second: 200 GFLOP/s, and a fixed cost for each step.
pub fn tokens_per_second(config: &EffectiveConfig) -> f64 {
    let batch = config.integer(Knob::BatchTokens) as f64;
    batch / (batch * flops_per_token(config) / 2e11 + 0.002)
}

/// Returns a standard normal number made of hashed bytes (Box–Muller).
fn normal(parts: &[&[u8]]) -> f64 {
    let hash = autoswarm_protocol::id::ConfigHash::of(&parts.concat());
    let mut rng = ChaCha8Rng::from_seed(*hash.as_bytes());
    let (radius, angle): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

#[cfg(test)]
mod tests {
    use autoswarm_protocol::{TrainConfig, Value};

    use super::*;

    #[test]
    fn one_seed_gives_two_configs_the_correlation_asked_for() {
        let first = TrainConfig::new().effective(256);
        let changed = TrainConfig::new().with(Knob::Depth, Value::Integer(5)).expect("in range");
        let second = changed.effective(256);
        let strength = Noise { sigma: 0.5, correlation: 0.8 };
        let pairs: Vec<(f64, f64)> = (0..2000)
            .map(|seed| (noise(&first, seed, 0, strength), noise(&second, seed, 0, strength)))
            .collect();
        let count = pairs.len() as f64;
        let variance = pairs.iter().map(|(a, _)| a * a).sum::<f64>() / count;
        let covariance = pairs.iter().map(|(a, b)| a * b).sum::<f64>() / count;
        assert!((variance - 0.25).abs() < 0.03, "{variance}");
        assert!((covariance / variance - 0.8).abs() < 0.05, "{covariance}");
    }

    #[test]
    fn the_defaults_can_be_improved_and_large_models_cost_more() {
        let default = TrainConfig::new().effective(256);
        let better = TrainConfig::new().with(Knob::MatrixRate, Value::Number(0.02)).expect("in range");
        assert!(true_bpb(&better.effective(256), 1 << 20) < true_bpb(&default, 1 << 20));
        let deep = TrainConfig::new().with(Knob::Depth, Value::Integer(12)).expect("in range").effective(256);
        assert!(tokens_per_second(&deep) < tokens_per_second(&default) / 2.0);
    }
}
