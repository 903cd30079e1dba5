//! The noise of a run: larger where the level is worse, and shared by near configs on one seed.
//!
//! ```text
//! z = √everyone · z(seed) + √neighbours · field(seed, config) + √rest · z(seed, config, tokens)
//! ```
//!
//! `field` is a smooth random function of the config, another for each seed (random Fourier features), so
//! that two configs' correlation falls with their distance as it does between real runs.

use std::{collections::BTreeMap, f64::consts::TAU, sync::LazyLock};

use autoswarm_protocol::EffectiveConfig;
use serde::{Deserialize, Serialize};

use super::{
    axes::{choices, coordinates},
    runs::RealRun,
};
use crate::chance::{Chance, key_of};

/// Features of the field: the correlation is off by about one over the square root of this number.
const FEATURES: usize = 48;
/// Distance over which neighbours' noise is alike, steps.
const LENGTH: f64 = 3.0;
/// Distance between two names of a knob, steps.
const NAME: f64 = 3.0;
/// Fewest runs of a config from which its spread is estimated.
const FEWEST: usize = 3;

/// The parameters of the noise.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Noise {
    /// Standard deviation of a run at `level`, bits per byte.
    pub sigma: f64,
    /// The level at which `sigma` holds, bits per byte.
    pub level: f64,
    /// The standard deviation grows with this power of a run's level over `level`.
    pub power: f64,
    /// Share of the variance that all runs on a seed have in common.
    pub everyone: f64,
    /// Share of the variance that near configs have in common on a seed.
    pub neighbours: f64,
    /// How much higher audit is than validation, bits per byte.
    pub audit: f64,
    /// Correlation of a run's audit with its validation.
    pub audit_correlation: f64,
}

/// A run of a repeated config: the config, the seed, and the distance from the config's own mean.
struct Residual<'a> {
    config: &'a EffectiveConfig,
    seed: u64,
    validation: f64,
}

impl Noise {
    /// Estimates the noise from configs that ran on several seeds; subtracting `level` corrects for unequal
    /// tokens.
    pub fn fit(runs: &[RealRun], level: &dyn Fn(&EffectiveConfig, f64) -> f64) -> Self {
        let mut groups: BTreeMap<[u8; 32], Vec<(&RealRun, f64, f64)>> = BTreeMap::new();
        for (run, measured) in runs.iter().filter_map(|run| Some((run, run.measured?))) {
            let expected = level(&run.config, measured.tokens);
            let of = groups.entry(*run.config.hash().as_bytes()).or_default();
            of.push((run, measured.validation - expected, measured.audit - expected));
        }
        groups.retain(|_, of| of.len() >= FEWEST);
        let mut residuals: Vec<Residual<'_>> = Vec::new();
        let (mut squares, mut audits, mut products, mut freedom) = (0.0, 0.0, 0.0, 0.0);
        let mut sizes: Vec<(f64, f64, f64)> = Vec::new();
        for of in groups.values() {
            let count = of.len() as f64;
            let mean = |get: fn(&(&RealRun, f64, f64)) -> f64| of.iter().map(get).sum::<f64>() / count;
            let (validation, audit) = (mean(|x| x.1), mean(|x| x.2));
            let before = squares;
            for &(run, v, a) in of {
                // Makes residuals as large as deviations from the true mean: the group's own mean takes one
                // degree of freedom.
                let grown = (count / (count - 1.0)).sqrt();
                let (v, a) = ((v - validation) * grown, (a - audit) * grown);
                residuals.push(Residual { config: &run.config, seed: run.seed, validation: v });
                squares += v * v * (count - 1.0) / count;
                audits += a * a * (count - 1.0) / count;
                products += v * a * (count - 1.0) / count;
            }
            freedom += count - 1.0;
            let tokens = of[0].0.measured.map_or(1.0, |measured| measured.tokens);
            sizes.push((
                level(&of[0].0.config, tokens).ln(),
                (squares - before) / (count - 1.0),
                count - 1.0,
            ));
        }
        let sigma = (squares / freedom).sqrt();
        // A regression of the logarithm of a variance on that of the level, weighted by degrees of freedom.
        let weighted = |get: &dyn Fn(&(f64, f64, f64)) -> f64| {
            sizes.iter().map(|size| size.2 * get(size)).sum::<f64>() / freedom
        };
        let (x, y) = (weighted(&|s| s.0), weighted(&|s| s.1.max(1e-9).ln()));
        let slope =
            weighted(&|s| (s.0 - x) * (s.1.max(1e-9).ln() - y)) / weighted(&|s| (s.0 - x).powi(2)).max(1e-9);
        let offsets = runs.iter().filter_map(|run| run.measured).map(|m| m.audit - m.validation);
        let mut offsets: Vec<f64> = offsets.collect();
        offsets.sort_by(f64::total_cmp);
        let (everyone, neighbours) = shares(&residuals, sigma);
        Self {
            sigma,
            level: x.exp(),
            // Half, because the slope is that of the variance.
            power: (0.5 * slope).clamp(0.0, 8.0),
            everyone,
            neighbours,
            audit: offsets[offsets.len() / 2],
            audit_correlation: (products / (squares * audits).sqrt()).clamp(0.0, 1.0),
        }
    }

    /// Returns the standard deviation of a run of a config at this level.
    pub fn sigma_at(&self, level: f64) -> f64 {
        self.sigma * (level / self.level).powf(self.power).min(20.0)
    }

    /// Returns what the noise of a run adds to validation and to audit, bits per byte.
    pub fn draw(&self, config: &EffectiveConfig, level: f64, tokens: f64, seed: u64) -> (f64, f64) {
        let chance = Chance::new(seed);
        let run = chance.of(&[key_of(config.hash().as_bytes()), tokens.to_bits()]);
        let rest = (1.0 - self.everyone - self.neighbours).max(0.0);
        let z = self.everyone.sqrt() * chance.normal(&[1])
            + self.neighbours.sqrt() * field(chance, config)
            + rest.sqrt() * run.normal(&[2]);
        let r = self.audit_correlation;
        let other = r * z + (1.0 - r * r).sqrt() * run.normal(&[3]);
        let sigma = self.sigma_at(level);
        (sigma * z, self.audit + sigma * other)
    }
}

/// Fits `everyone` and `neighbours` by least squares to the correlation of residuals on one seed, which is
/// taken to be everyone + neighbours · exp(−½ (distance / LENGTH)²).
fn shares(residuals: &[Residual<'_>], sigma: f64) -> (f64, f64) {
    let (mut count, mut near, mut nears) = (0.0, 0.0, 0.0);
    let (mut sum, mut product) = (0.0, 0.0);
    for (i, a) in residuals.iter().enumerate() {
        for b in residuals[..i].iter().filter(|b| b.seed == a.seed && b.config != a.config) {
            let alike = (-0.5 * (distance(a.config, b.config) / LENGTH).powi(2)).exp();
            let c = (a.validation * b.validation / sigma.powi(2)).clamp(-9.0, 9.0);
            count += 1.0;
            near += alike;
            nears += alike * alike;
            sum += c;
            product += c * alike;
        }
    }
    // Without pairs at several distances nothing can be told apart, and a usual value has to do.
    let determinant = count * nears - near * near;
    if determinant < 1e-9 {
        return (0.5, 0.2);
    }
    let neighbours = ((count * product - near * sum) / determinant).clamp(0.0, 0.95);
    let everyone = ((sum - neighbours * near) / count).clamp(0.0, 0.95 - neighbours);
    (everyone, neighbours)
}

/// Returns the coordinates in which noise is compared: two names lie [`NAME`] apart.
fn places(config: &EffectiveConfig) -> Vec<f64> {
    let names = choices();
    coordinates(config).into_iter().zip(names).map(|(x, name)| if name { NAME * x } else { x }).collect()
}

fn distance(a: &EffectiveConfig, b: &EffectiveConfig) -> f64 {
    let far = |(a, b): (f64, f64)| (a - b).powi(2);
    places(a).into_iter().zip(places(b)).map(far).sum::<f64>().sqrt()
}

/// The features' directions, the same for every seed.
static DIRECTIONS: LazyLock<Vec<f64>> = LazyLock::new(|| {
    let axes = choices().len();
    let chance = Chance::new(0x00f1_e1d5);
    (0..FEATURES * axes).map(|k| chance.normal(&[k as u64]) / LENGTH).collect()
});

fn field(chance: Chance, config: &EffectiveConfig) -> f64 {
    let x = places(config);
    let waves = DIRECTIONS.chunks(x.len()).enumerate().map(|(k, direction)| {
        let turn: f64 = direction.iter().zip(&x).map(|(w, x)| w * x).sum();
        (turn + TAU * chance.uniform(&[4, k as u64])).cos()
    });
    waves.sum::<f64>() * (2.0 / FEATURES as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use autoswarm_protocol::{Knob, Value};

    use super::{super::start, *};

    const NOISE: Noise = Noise {
        sigma: 0.05,
        level: 3.0,
        power: 2.0,
        everyone: 0.3,
        neighbours: 0.4,
        audit: 0.1,
        audit_correlation: 0.9,
    };

    fn changed(knob: Knob, value: Value) -> EffectiveConfig {
        start().with(knob, value).expect("in range").effective(256)
    }

    #[test]
    fn correlation_on_a_seed_falls_with_distance() {
        let near = changed(Knob::Warmdown, Value::Number(0.55));
        let far = changed(Knob::MatrixRate, Value::Number(0.4));
        let draws = |config: &EffectiveConfig| -> Vec<f64> {
            (0..3000).map(|seed| NOISE.draw(config, 3.0, 4e5, seed).0 / NOISE.sigma).collect()
        };
        let base = draws(&start());
        let with = |config: &EffectiveConfig| {
            draws(config).iter().zip(&base).map(|(a, b)| a * b).sum::<f64>() / 3000.0
        };
        let (one, close, away) = (with(&start()), with(&near), with(&far));
        assert!((one - 1.0).abs() < 0.1, "{one}");
        assert!((close - 0.7).abs() < 0.1, "{close}");
        assert!(away < 0.5 && away > 0.2, "{away}");
    }

    #[test]
    fn audit_goes_with_validation_and_bad_configs_are_noisier() {
        let draws: Vec<(f64, f64)> = (0..3000).map(|seed| NOISE.draw(&start(), 3.0, 4e5, seed)).collect();
        let mean = draws.iter().map(|draw| draw.1).sum::<f64>() / 3000.0;
        assert!((mean - 0.1).abs() < 0.01, "{mean}");
        assert!((NOISE.sigma_at(6.0) - 0.2).abs() < 1e-9);
    }

    #[test]
    fn a_known_noise_is_found_again() {
        let mut runs = Vec::new();
        let configs = [
            start(),
            changed(Knob::Warmdown, Value::Number(0.55)),
            changed(Knob::MatrixRate, Value::Number(0.4)),
            changed(Knob::Width, Value::Integer(96)),
        ];
        for config in &configs {
            for seed in 0..60 {
                let (v, a) = NOISE.draw(config, 3.0, 4e5, seed);
                let measured = super::super::runs::Measured {
                    tokens: 4e5,
                    cpu_seconds: 5.0,
                    memory: 4e8,
                    validation: 3.0 + v,
                    audit: 3.0 + a,
                };
                let (kind, price) = ("repeat".to_owned(), None);
                runs.push(RealRun {
                    kind,
                    seed,
                    price,
                    measured: Some(measured),
                    crash: None,
                    config: config.clone(),
                    curve: Vec::new(),
                });
            }
        }
        let found = Noise::fit(&runs, &|_, _| 3.0);
        assert!((found.sigma / NOISE.sigma - 1.0).abs() < 0.15, "{found:?}");
        assert!((found.everyone + found.neighbours - 0.7).abs() < 0.2, "{found:?}");
        assert!((found.audit - 0.1).abs() < 0.02 && found.audit_correlation > 0.8, "{found:?}");
    }
}
