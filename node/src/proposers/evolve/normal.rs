//! The normal distribution, as far as the search needs it.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// Draws a standard normal number (Box–Muller).
pub(super) fn normal(rng: &mut ChaCha8Rng) -> f64 {
    // A draw may be 0 but never 1, so its complement has a finite logarithm.
    let (radius, angle): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

/// Returns the density of the standard normal distribution.
fn normal_density(x: f64) -> f64 {
    (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt()
}

/// Returns P(z > x) for a standard normal z, good to 10⁻⁷.
/// It is a rational approximation (Abramowitz and Stegun, 26.2.17).
pub(super) fn normal_tail(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * x.abs());
    let series = [1.330_274_429, -1.821_255_978, 1.781_477_937, -0.356_563_782, 0.319_381_530];
    let tail = normal_density(x) * series.iter().fold(0.0, |sum, a| sum * t + a) * t;
    if x > 0.0 { tail } else { 1.0 - tail }
}

/// Returns E[max(0, z + x)] for a standard normal z.
pub(super) fn expected_excess(x: f64) -> f64 {
    x * normal_tail(-x) + normal_density(x)
}
