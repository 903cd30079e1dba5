//! Pruning: a run that is far behind the incumbent's run on the same seed is stopped before its end.
//!
//! Before the run, the parent says how large the smoothed training loss may be at a few points of it. The
//! trainer looks once at each point and stops the run where the loss is larger. So what decides does not
//! depend on a clock or on the machine, and no message can come too late.
//!
//! Not here: how large the loss may be, which the node learns from its own runs.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The points of a run's loss curve, out of [`CURVE_POINTS`], at which it can be stopped: after about 15, 30
/// and 50 % of its steps.
pub const PRUNE_POINTS: [u64; 3] = [10, 19, 32];

/// Number of points of a whole loss curve.
pub const CURVE_POINTS: u64 = 64;

/// Returns the point of the loss curve that a run of `steps` steps reaches with `step`, counted from 1. None
/// where the step before had reached it already.
pub fn curve_point(step: u64, steps: u64) -> Option<u64> {
    let share = |step: u64| step * CURVE_POINTS / steps.max(1);
    (share(step) > share(step.saturating_sub(1))).then(|| share(step))
}

/// The largest smoothed loss with which a run goes on, at each of [`PRUNE_POINTS`], nats per token; infinite
/// where it always goes on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PruneBounds(pub [f64; PRUNE_POINTS.len()]);

impl PruneBounds {
    /// Returns the bound at a point of the curve if `loss` is above it.
    pub fn passed(&self, point: u64, loss: f64) -> Option<f64> {
        let place = PRUNE_POINTS.iter().position(|at| *at == point)?;
        Some(self.0[place]).filter(|bound| loss > *bound)
    }
}

impl fmt::Display for PruneBounds {
    /// Prints the bounds separated by commas, `inf` where there is none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&texts.join(","))
    }
}

impl FromStr for PruneBounds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Result<Vec<f64>, _> = text.split(',').map(|part| part.trim().parse::<f64>()).collect();
        let bounds = numbers.ok().filter(|all| all.iter().all(|bound| *bound > 0.0)); // false for a NaN too
        bounds.and_then(|all| all.try_into().ok()).map(Self).ok_or_else(|| {
            format!("`{text}` is not {} losses above 0, separated by commas", PRUNE_POINTS.len())
        })
    }
}

/// How a run ended that was stopped because it was too far behind.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Pruned {
    /// Optimizer steps done when it was stopped.
    pub step: u64,
    /// Optimizer steps that the whole run would have had.
    pub steps: u64,
    /// Training tokens that the whole run would have had.
    pub tokens: u64,
    /// Its smoothed training loss then, nats per token.
    pub loss: f64,
    /// The largest loss with which it would have gone on, nats per token.
    pub bound: f64,
    /// Wall-clock seconds of training until then.
    pub training_seconds: f64,
    /// CPU seconds of training until then, over all threads.
    pub training_cpu_seconds: f64,
    /// Seconds before training started.
    pub startup_seconds: f64,
}

impl Pruned {
    /// Returns the place in [`PRUNE_POINTS`] of the point at which it was stopped.
    pub fn place(&self) -> Option<usize> {
        let point = curve_point(self.step, self.steps)?;
        PRUNE_POINTS.iter().position(|at| *at == point)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_is_reached_once() {
        for steps in [1, 5, 63, 64, 65, 1000] {
            let points: Vec<u64> = (1..=steps).filter_map(|step| curve_point(step, steps)).collect();
            assert_eq!(points.len() as u64, steps.min(CURVE_POINTS), "{steps}");
            assert!(points.is_sorted() && points.last() == Some(&CURVE_POINTS), "{steps}");
        }
    }

    #[test]
    fn bounds_are_read_back() {
        let bounds = PruneBounds([3.25, f64::INFINITY, 2.0]);
        assert_eq!(bounds.to_string().parse(), Ok(bounds));
        assert_eq!(bounds.passed(PRUNE_POINTS[0], 3.26), Some(3.25));
        assert_eq!(bounds.passed(PRUNE_POINTS[0], 3.25), None);
        assert_eq!(bounds.passed(PRUNE_POINTS[1], 99.0), None);
        assert_eq!(bounds.passed(11, 99.0), None);
    }

    #[track_caller]
    fn check_wrong(text: &str) {
        let error = text.parse::<PruneBounds>().expect_err(text);
        assert_eq!(error, format!("`{text}` is not 3 losses above 0, separated by commas"));
    }

    #[test]
    fn other_texts_are_no_bounds() {
        for text in ["", "1,2", "1,2,3,4", "1,2,x", "1,2,NaN", "1,2,-3"] {
            check_wrong(text);
        }
    }
}
