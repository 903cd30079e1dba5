//! A Gaussian process over configs: the effect of each coordinate by itself, and of every two together.
//!
//! ```text
//! k(x, x') = 1 + away · h h' + A + interaction · Σ_{i<j} u_i u_j
//! u_j = w_j · alike(x_j, x'_j),  A = Σ u_j
//! ```
//!
//! Effects of single knobs add up far from the runs. `h` is the distance of a place from where the runs
//! began, since a step that nobody tried is likelier to cost than to gain. Runs on one seed share a part of
//! their noise, which says nothing of their configs. Weights are fitted by the marginal likelihood, with the
//! gradient written out. Not here: what the coordinates mean.

use serde::{Deserialize, Serialize};

/// Prior standard deviation of a weight's logarithm, around where the fit begins. // Wild guess.
const WEIGHT_SD: f64 = 1.0;
/// Prior variance of the mean, in units of the values' variance.
const CONSTANT: f64 = 1.0;
/// Weights below this count as none.
const NOTHING: f64 = 1e-9;

/// The kernel's parameters, for values of variance one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kernel {
    /// Variance of each coordinate's own effect.
    pub weights: Vec<f64>,
    /// Distance along a coordinate over which an effect stays alike, steps.
    pub length: f64,
    /// Strength of the joint effects of two coordinates.
    pub interaction: f64,
    /// Prior variance of the cost of distance from the start.
    pub away: f64,
    /// Variance of the noise that runs on one seed share.
    pub shared: f64,
    /// Variance of the noise of a single run.
    pub noise: f64,
}

/// One run to learn from.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The coordinates of the run, and last its distance from the start.
    pub x: Vec<f64>,
    /// The value that it gave.
    pub y: f64,
    /// The seed of the run; rows of one seed share noise.
    pub seed: u64,
    /// Factor on the variance of its own noise.
    pub noisier: f64,
}

/// A process conditioned on rows.
#[derive(Debug, Clone)]
pub struct Gaussian {
    kernel: Kernel,
    names: Vec<bool>,
    places: Vec<Vec<f64>>,
    mean: f64,
    scale: f64,
    weights: Vec<f64>,
    factor: Factor,
}

impl Kernel {
    /// Returns the kernel from which a fit begins, with these prior weights; a coordinate of weight 0 stays
    /// out of the fit.
    pub fn start(weights: Vec<f64>) -> Self {
        Self { weights, length: 3.0, interaction: 1.0, away: 0.1, shared: 0.002, noise: 0.01 }
    }

    /// Returns the covariance of two places' true values.
    fn between(&self, names: &[bool], a: &[f64], b: &[f64]) -> f64 {
        let (mut sum, mut squares) = (0.0, 0.0);
        for (j, &w) in self.weights.iter().enumerate() {
            let u = self.alike(names[j], w, a[j] - b[j]);
            sum += u;
            squares += u * u;
        }
        // The distance from the start stands after the coordinates.
        let far = self.away * a[self.weights.len()] * b[self.weights.len()];
        // (Σu)² − Σu² is twice the sum of the products of all pairs.
        CONSTANT + far + sum + 0.5 * self.interaction * (sum * sum - squares)
    }

    fn alike(&self, names: bool, w: f64, distance: f64) -> f64 {
        if distance == 0.0 {
            w
        } else if names || w < NOTHING {
            0.0
        } else {
            w * (-0.5 * (distance / self.length).powi(2)).exp()
        }
    }

    /// Returns the logarithms that the fit moves: active weights, then length, interaction, away, shared,
    /// noise.
    fn logarithms(&self) -> Vec<f64> {
        let rest = [self.length, self.interaction, self.away, self.shared, self.noise];
        self.weights.iter().filter(|w| **w > 0.0).chain(&rest).map(|x| x.ln()).collect()
    }

    fn with(&self, logarithms: &[f64]) -> Self {
        let mut values = logarithms.iter().map(|x| x.exp());
        let mut next = || values.next().expect("as many as there are parameters");
        let weights = self.weights.iter().map(|w| if *w > 0.0 { next() } else { 0.0 }).collect();
        let (length, interaction, away) = (next(), next(), next());
        Self { weights, length, interaction, away, shared: next(), noise: next() }
    }
}

impl Gaussian {
    /// Conditions the process on rows; `names` says which coordinates have no order.
    pub fn new(kernel: Kernel, names: &[bool], rows: &[Row]) -> Self {
        let (mean, scale) = moments(rows);
        let y: Vec<f64> = rows.iter().map(|row| (row.y - mean) / scale).collect();
        let factor = Factor::of(&kernel, names, rows);
        let weights = factor.solve(&y);
        let places = rows.iter().map(|row| row.x.clone()).collect();
        Self { kernel, names: names.to_vec(), places, mean, scale, weights, factor }
    }

    /// Returns the expected value at a place, without noise.
    pub fn at(&self, x: &[f64]) -> f64 {
        let covariance = |place: &Vec<f64>| self.kernel.between(&self.names, place, x);
        let sum: f64 = self.places.iter().zip(&self.weights).map(|(place, w)| w * covariance(place)).sum();
        self.mean + self.scale * sum
    }

    /// Returns the expected value at a place and its standard deviation, both without noise.
    pub fn with_doubt(&self, x: &[f64]) -> (f64, f64) {
        let covariances: Vec<f64> =
            self.places.iter().map(|place| self.kernel.between(&self.names, place, x)).collect();
        let sum: f64 = covariances.iter().zip(&self.weights).map(|(k, w)| k * w).sum();
        // The rows explain |L⁻¹ k|² of the prior variance.
        let explained: f64 = self.factor.forward(covariances).iter().map(|z| z * z).sum();
        let variance = (self.kernel.between(&self.names, x, x) - explained).max(0.0);
        (self.mean + self.scale * sum, self.scale * variance.sqrt())
    }
}

/// Fits the kernel to rows by `rounds` steps of resilient propagation (Rprop) on the likelihood; `tell` hears
/// each round and its likelihood's logarithm.
pub fn fit(
    start: &Kernel,
    names: &[bool],
    rows: &[Row],
    rounds: usize,
    tell: &mut dyn FnMut(usize, f64),
) -> Kernel {
    let mut at = start.logarithms();
    let mut steps = vec![0.2_f64; at.len()];
    let mut before = vec![0.0_f64; at.len()];
    let prior = at.clone();
    for round in 0..rounds {
        let (likelihood, gradient) = likelihood(&start.with(&at), &prior, names, rows);
        tell(round, likelihood);
        for (k, slope) in gradient.into_iter().enumerate() {
            // Only signs count: a step grows while its slope keeps the sign, and halves when that flips.
            let same = slope * before[k];
            if same > 0.0 {
                steps[k] = (steps[k] * 1.2).min(0.5);
            } else if same < 0.0 {
                steps[k] = (steps[k] * 0.5).max(1e-3);
            }
            if same >= 0.0 {
                at[k] = (at[k] + steps[k] * slope.signum()).clamp(-18.0, 4.0);
                before[k] = slope;
            } else {
                before[k] = 0.0;
            }
        }
    }
    start.with(&at)
}

/// Returns how well `kernel` is fitted: the logarithm of its likelihood beyond that of `start`, and the
/// steepest slope that is left along the logarithm of any parameter.
pub fn how_fitted(start: &Kernel, kernel: &Kernel, names: &[bool], rows: &[Row]) -> (f64, f64) {
    let prior = start.logarithms();
    let (before, _) = likelihood(start, &prior, names, rows);
    let (after, gradient) = likelihood(kernel, &prior, names, rows);
    (after - before, gradient.into_iter().map(f64::abs).fold(0.0, f64::max))
}

/// Returns the logarithm of the likelihood and the priors, and its gradient along the logarithms of the
/// parameters.
fn likelihood(kernel: &Kernel, prior: &[f64], names: &[bool], rows: &[Row]) -> (f64, Vec<f64>) {
    let (mean, scale) = moments(rows);
    let y: Vec<f64> = rows.iter().map(|row| (row.y - mean) / scale).collect();
    let factor = Factor::of(kernel, names, rows);
    let weights = factor.solve(&y);
    let fit: f64 = y.iter().zip(&weights).map(|(y, w)| y * w).sum();
    let mut value = -0.5 * fit - factor.half_log_determinant();
    let inverse = factor.inverse();
    let active: Vec<usize> = (0..names.len()).filter(|j| kernel.weights[*j] > 0.0).collect();
    let (count, extra) = (rows.len(), active.len());
    let mut gradient = vec![0.0; extra + 5];
    let mut u = vec![0.0; extra];
    for i in 0..count {
        for j in 0..=i {
            // The gradient is ½ tr((α αᵀ − K⁻¹) ∂K), where each pair off the diagonal stands twice.
            let half = if i == j { 0.5 } else { 1.0 };
            let push = half * (weights[i] * weights[j] - inverse[i * count + j]);
            let (mut sum, mut squares) = (0.0, 0.0);
            for (k, &axis) in active.iter().enumerate() {
                u[k] = kernel.alike(names[axis], kernel.weights[axis], rows[i].x[axis] - rows[j].x[axis]);
                sum += u[k];
                squares += u[k] * u[k];
            }
            let mut stretched = 0.0;
            for (k, &axis) in active.iter().enumerate() {
                let moved = u[k] * (1.0 + kernel.interaction * (sum - u[k]));
                gradient[k] += push * moved;
                if !names[axis] {
                    stretched += moved * ((rows[i].x[axis] - rows[j].x[axis]) / kernel.length).powi(2);
                }
            }
            gradient[extra] += push * stretched;
            gradient[extra + 1] += push * 0.5 * kernel.interaction * (sum * sum - squares);
            gradient[extra + 2] += push * kernel.away * rows[i].x[names.len()] * rows[j].x[names.len()];
            if rows[i].seed == rows[j].seed {
                gradient[extra + 3] += push * kernel.shared;
            }
            if i == j {
                gradient[extra + 4] += push * kernel.noise * rows[i].noisier;
            }
        }
    }
    // Only the weights have a prior: a normal one on their logarithms.
    for ((slope, x), prior) in gradient.iter_mut().zip(kernel.logarithms()).zip(prior).take(extra) {
        let far = (x - prior) / WEIGHT_SD;
        value -= 0.5 * far * far;
        *slope -= far / WEIGHT_SD;
    }
    (value, gradient)
}

fn moments(rows: &[Row]) -> (f64, f64) {
    let count = rows.len() as f64;
    let mean = rows.iter().map(|row| row.y).sum::<f64>() / count;
    let variance = rows.iter().map(|row| (row.y - mean).powi(2)).sum::<f64>() / count;
    (mean, variance.sqrt().max(1e-9))
}

/// The lower Cholesky factor of the rows' covariance, row by row.
#[derive(Debug, Clone)]
struct Factor {
    count: usize,
    lower: Vec<f64>,
}

impl Factor {
    fn of(kernel: &Kernel, names: &[bool], rows: &[Row]) -> Self {
        let count = rows.len();
        let mut lower = vec![0.0; count * count];
        for i in 0..count {
            for j in 0..=i {
                let mut value = kernel.between(names, &rows[i].x, &rows[j].x);
                if rows[i].seed == rows[j].seed {
                    value += kernel.shared;
                }
                if i == j {
                    // The last term keeps the matrix positive definite in floating point.
                    value += kernel.noise * rows[i].noisier + 1e-8;
                }
                let (above, row) = lower.split_at_mut(i * count);
                let other = if i == j { &row[..j] } else { &above[j * count..j * count + j] };
                value -= row[..j].iter().zip(other).map(|(a, b)| a * b).sum::<f64>();
                lower[i * count + j] =
                    if i == j { value.max(1e-12).sqrt() } else { value / lower[j * count + j] };
            }
        }
        Self { count, lower }
    }

    fn half_log_determinant(&self) -> f64 {
        (0..self.count).map(|i| self.lower[i * self.count + i].ln()).sum()
    }

    /// Returns x of L x = b.
    fn forward(&self, b: Vec<f64>) -> Vec<f64> {
        let n = self.count;
        let mut x = b;
        for i in 0..n {
            let (done, rest) = x.split_at_mut(i);
            let row = &self.lower[i * n..i * n + i];
            rest[0] -= row.iter().zip(done).map(|(l, v)| l * *v).sum::<f64>();
            rest[0] /= self.lower[i * n + i];
        }
        x
    }

    /// Returns x of L Lᵀ x = b.
    fn solve(&self, b: &[f64]) -> Vec<f64> {
        let n = self.count;
        let mut x = self.forward(b.to_vec());
        for i in (0..n).rev() {
            x[i] /= self.lower[i * n + i];
            let value = x[i];
            for (x, l) in x[..i].iter_mut().zip(&self.lower[i * n..]) {
                *x -= l * value;
            }
        }
        x
    }

    /// Returns the whole inverse of the covariance.
    fn inverse(&self) -> Vec<f64> {
        let n = self.count;
        // The inverse of the factor, transposed: its column j is row j here, with zeros before place j.
        let mut inverted = vec![0.0; n * n];
        for j in 0..n {
            inverted[j * n + j] = 1.0 / self.lower[j * n + j];
            for i in j + 1..n {
                let row = &self.lower[i * n + j..i * n + i];
                let sum: f64 = row.iter().zip(&inverted[j * n + j..j * n + i]).map(|(l, v)| l * v).sum();
                inverted[j * n + i] = -sum / self.lower[i * n + i];
            }
        }
        let mut inverse = vec![0.0; n * n];
        for i in 0..n {
            for j in 0..=i {
                let (a, b) = (&inverted[i * n + i..(i + 1) * n], &inverted[j * n + i..(j + 1) * n]);
                inverse[i * n + j] = a.iter().zip(b).map(|(a, b)| a * b).sum();
                inverse[j * n + i] = inverse[i * n + j];
            }
        }
        inverse
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of a made-up surface: one coordinate bends, one name helps, and the two together do something
    /// more.
    fn rows(count: usize) -> Vec<Row> {
        let place = |k: usize| {
            vec![((k * 37) % 11) as f64 - 5.0, ((k * 7) % 2) as f64, ((k * 13) % 5) as f64, (k % 3) as f64]
        };
        let value = |x: &[f64]| 0.1 * x[0] * x[0] + x[1] - 0.2 * x[0] * x[1];
        let noise = |k: usize| 0.05 * ((k * 7919) % 13) as f64 / 13.0;
        (0..count)
            .map(|k| Row { x: place(k), y: value(&place(k)) + noise(k), seed: k as u64 % 3, noisier: 1.0 })
            .collect()
    }

    const NAMES: [bool; 3] = [false, true, false];

    #[test]
    fn the_gradient_is_the_slope() {
        let rows = rows(24);
        let kernel = Kernel {
            weights: vec![0.3, 0.2, 0.05],
            length: 2.0,
            interaction: 0.7,
            away: 0.2,
            shared: 0.02,
            noise: 0.05,
        };
        let prior = Kernel::start(vec![0.1; 3]).logarithms();
        let (_, gradient) = likelihood(&kernel, &prior, &NAMES, &rows);
        let at = kernel.logarithms();
        for k in 0..at.len() {
            let moved = |by: f64| {
                let mut there = at.clone();
                there[k] += by;
                likelihood(&kernel.with(&there), &prior, &NAMES, &rows).0
            };
            let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!((slope - gradient[k]).abs() < 1e-3 * (1.0 + slope.abs()), "{k}: {slope} {}", gradient[k]);
        }
    }

    #[test]
    fn fitting_finds_what_matters_and_predicts_unseen_places() {
        let (all, mut first) = (rows(55), 0.0);
        let (seen, unseen) = all.split_at(40);
        let mut last = 0.0;
        let kernel = fit(&Kernel::start(vec![0.05; 3]), &NAMES, seen, 40, &mut |round, likelihood| {
            first = if round == 0 { likelihood } else { first };
            last = likelihood;
        });
        assert!(last > first + 10.0, "{first} {last}");
        assert!(kernel.weights[0] > 20.0 * kernel.weights[2], "{kernel:?}");
        let fitted = Gaussian::new(kernel, &NAMES, seen);
        for row in unseen {
            assert!((fitted.at(&row.x) - row.y).abs() < 0.15, "{row:?}: {}", fitted.at(&row.x));
        }
    }
}
