//! How well the surface predicts runs that it has not seen.

use super::{
    Parameters, Surrogate,
    runs::{FOLDS, RealRun},
};

/// Errors on held-out runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scores {
    /// How many runs were held out, and how many of them are below [`GOOD`] bits per byte.
    pub runs: (usize, usize),
    /// Root mean square error of all, bits per byte.
    pub rmse: f64,
    /// Root mean square error of those below [`GOOD`], where a search goes, bits per byte.
    pub rmse_good: f64,
    /// Spearman's rank correlation of all, and of those below [`GOOD`].
    pub rank: (f64, f64),
    /// Root mean square error of guessing the mean for all those below [`GOOD`], bits per byte.
    pub spread_good: f64,
    /// Root mean square error of the logarithm of the speed.
    pub speed: f64,
}

/// Bits per byte below which a search would care about a run: the start has about 2.55.
pub const GOOD: f64 = 2.8;

/// Cross-validates: conditions on all parts of the runs but one, predicts that one, and so on for every part.
pub fn held_out(parameters: &Parameters, runs: &[RealRun]) -> Scores {
    let (mut pairs, mut speeds): (Vec<(f64, f64)>, Vec<f64>) = (Vec::new(), Vec::new());
    for fold in 0..FOLDS {
        let (unseen, seen): (Vec<RealRun>, Vec<RealRun>) =
            runs.iter().cloned().partition(|run| run.fold() == fold);
        let surrogate = Surrogate::new(parameters.clone(), &seen);
        for run in &unseen {
            if let Some(measured) = run.measured {
                pairs.push((measured.validation, surrogate.level(&run.config, measured.tokens)));
            }
            speeds.extend(run.speed().map(|speed| (speed / surrogate.tokens_per_second(&run.config)).ln()));
        }
    }
    let good: Vec<(f64, f64)> = pairs.iter().copied().filter(|pair| pair.0 < GOOD).collect();
    let mean = good.iter().map(|pair| pair.0).sum::<f64>() / good.len() as f64;
    Scores {
        runs: (pairs.len(), good.len()),
        rmse: root(pairs.iter().map(|(seen, said)| seen - said)),
        rmse_good: root(good.iter().map(|(seen, said)| seen - said)),
        rank: (rank_correlation(&pairs), rank_correlation(&good)),
        spread_good: root(good.iter().map(|pair| pair.0 - mean)),
        speed: root(speeds.into_iter()),
    }
}

fn root(errors: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = errors.fold((0.0, 0.0), |(sum, count), error| (sum + error * error, count + 1.0));
    (sum / f64::max(count, 1.0)).sqrt()
}

/// Returns Spearman's rank correlation of pairs.
pub fn rank_correlation(pairs: &[(f64, f64)]) -> f64 {
    let ranks = |get: fn(&(f64, f64)) -> f64| -> Vec<f64> {
        let mut order: Vec<usize> = (0..pairs.len()).collect();
        order.sort_by(|a, b| get(&pairs[*a]).total_cmp(&get(&pairs[*b])));
        let mut ranks = vec![0.0; pairs.len()];
        for (rank, at) in order.into_iter().enumerate() {
            ranks[at] = rank as f64;
        }
        ranks
    };
    let (a, b) = (ranks(|pair| pair.0), ranks(|pair| pair.1));
    let middle = (pairs.len() as f64 - 1.0) / 2.0;
    let (mut both, mut one, mut other) = (0.0, 1e-12, 1e-12);
    for (a, b) in a.into_iter().zip(b) {
        both += (a - middle) * (b - middle);
        one += (a - middle).powi(2);
        other += (b - middle).powi(2);
    }
    both / (one * other).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_correlate() {
        let rising: Vec<(f64, f64)> = (0..20).map(|k| (f64::from(k), f64::from(k * k))).collect();
        assert!((rank_correlation(&rising) - 1.0).abs() < 1e-9);
        let falling: Vec<(f64, f64)> = rising.iter().map(|(a, b)| (*a, -b)).collect();
        assert!((rank_correlation(&falling) + 1.0).abs() < 1e-9);
    }
}
