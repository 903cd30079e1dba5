//! The seconds that a training token takes on one core: a few causes of cost with one coefficient each.

use autoswarm_protocol::{EffectiveConfig, Knob};
use serde::{Deserialize, Serialize};

use super::runs::RealRun;

/// Tokens in the vocabulary of bytes.
const VOCABULARY: f64 = 256.0;
/// How many causes of cost there are.
const CAUSES: usize = 5;

/// Coefficients of the causes: products, attention, elementwise work, operations started, and the optimizer's
/// own products.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Costs([f64; CAUSES]);

impl Costs {
    /// Fits the coefficients, none below zero, to the relative errors of the runs' speeds by least squares.
    pub fn fit(runs: &[RealRun]) -> Self {
        let rows: Vec<[f64; CAUSES]> = runs
            .iter()
            .filter_map(|run| {
                let speed = run.speed()?;
                Some(causes(&run.config).map(|cause| cause * speed))
            })
            .collect();
        // Coordinate descent on Σ (row · c − 1)²: five unknowns need no solver.
        let mut c = [0.0; CAUSES];
        for _ in 0..4000 {
            for k in 0..CAUSES {
                let (mut up, mut down) = (0.0, 1e-30);
                for row in &rows {
                    let others: f64 = (0..CAUSES).filter(|j| *j != k).map(|j| row[j] * c[j]).sum();
                    up += row[k] * (1.0 - others);
                    down += row[k] * row[k];
                }
                c[k] = f64::max(up / down, 0.0);
            }
        }
        Self(c)
    }

    /// Returns the seconds that a training token takes according to these costs.
    pub fn seconds_per_token(&self, config: &EffectiveConfig) -> f64 {
        causes(config).iter().zip(self.0).map(|(cause, c)| cause * c).sum()
    }
}

/// Returns how much of each cause there is in a training token of a config.
fn causes(config: &EffectiveConfig) -> [f64; CAUSES] {
    let depth = config.integer(Knob::Depth) as f64;
    let width = config.integer(Knob::Width) as f64;
    let hidden = config.hidden() as f64;
    let batch = config.integer(Knob::BatchTokens) as f64;
    let sequence = config.integer(Knob::SequenceLength) as f64;
    let pass = config.pass_tokens() as f64;
    let gates = if config.choice(Knob::Activation) == "swiglu" { 2.0 } else { 1.0 };
    let kv_width = (config.kv_heads() * config.integer(Knob::HeadDim)) as f64;
    let matrices = depth * (2.0 * width * (width + kv_width) + (1.0 + gates) * width * hidden);
    let seen: f64 = config
        .short_layers()
        .into_iter()
        .map(|short| if short { sequence * config.number(Knob::ShortWindow) } else { sequence })
        .sum();
    let muon = config.choice(Knob::MatrixOptimizer) == "muon";
    let iterations = if muon { config.integer(Knob::MuonSteps) as f64 } else { 0.0 };
    [
        1e-9 * (matrices + VOCABULARY * width),
        1e-9 * seen * width,
        1e-9 * (depth * (5.0 * width + gates * hidden) + VOCABULARY),
        1e-3 * ((depth + 0.5) / pass + (depth + 1.0) / batch),
        1e-9 * iterations * (matrices * width + 1e5 * depth) / batch,
    ]
}
