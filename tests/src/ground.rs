//! Grounds answer the runs of a search or of a simulated node: the response surface, or the real trainer.
//!
//! ```text
//! search, simulator ──Ask: config, tokens or none, seed──▶ Ground ──Answer: outcome, seconds──▶
//!                                                           ├─ SurfaceGround   fitted to real runs, fast
//!                                                           └─ TrainerGround   a child process, with a memo
//! ```
//!
//! Time is virtual on both: an answer says how long the run took, and the asker moves its own clock. Not
//! here: the choice of what to run.

mod memo;
mod surface;
mod trainer;

use autoswarm_protocol::{
    Budget, EffectiveConfig, Outcome, Pruned,
    pruning::{PruneBounds, curve_point},
};

pub use memo::Memo;
pub use surface::SurfaceGround;
pub use trainer::TrainerGround;

/// Training seconds of a run: those of the real runs that the surface is fitted to.
pub const SECONDS: f64 = 5.0;
/// [`SECONDS`] as the budget of an arena.
pub const BUDGET: Budget = Budget::Milliseconds(5000);
/// Fewest optimizer steps that a run may have: the trainer's own default.
pub const FEWEST_STEPS: f64 = 8.0;

/// A run that is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// The index of the machine that makes the run, where machines differ.
    pub machine: usize,
    /// The run's number on that machine.
    pub id: u64,
    /// The config to train.
    pub config: &'a EffectiveConfig,
    /// Training tokens; none for as many as [`SECONDS`] buy.
    pub tokens: Option<u64>,
    /// The seed of the run.
    pub seed: u64,
}

/// What came of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The report, or the crash. A report's training seconds are the virtual ones.
    pub outcome: Outcome,
    /// Virtual seconds of training, also of a crash: what a search pays.
    pub seconds: f64,
    /// Virtual seconds beside training: starting, pricing, evaluating.
    pub beside: f64,
}

impl Answer {
    /// Returns the answer with a training time of `seconds`; a crash keeps its own time where that is
    /// shorter.
    #[must_use]
    pub fn taking(mut self, seconds: f64) -> Self {
        self.seconds = if self.outcome.report().is_some() { seconds } else { self.seconds.min(seconds) };
        if let Outcome::Finished(report) = &mut self.outcome {
            report.training_seconds = seconds;
        }
        self
    }

    /// Returns what the trainer would have answered under pruning bounds: the run stops where its curve first
    /// passes one. A run without a curve goes to its end.
    #[must_use]
    pub fn pruned(self, bounds: Option<PruneBounds>) -> Self {
        let (Outcome::Finished(report), Some(bounds)) = (&self.outcome, bounds) else { return self };
        let passed = report.curve.iter().find_map(|at| {
            let point = curve_point(at.step, report.steps)?;
            Some((at.step, at.loss, bounds.passed(point, at.loss)?))
        });
        let Some((step, loss, bound)) = passed else { return self };
        let share = step as f64 / report.steps as f64;
        let seconds = share * self.seconds;
        let outcome = Outcome::Pruned(Pruned {
            step,
            steps: report.steps,
            tokens: report.tokens,
            loss,
            bound,
            training_seconds: seconds,
            training_cpu_seconds: share * report.training_cpu_seconds,
            startup_seconds: report.startup_seconds,
        });
        // A run that is stopped early is not evaluated.
        Self { outcome, seconds, beside: report.startup_seconds }
    }
}

/// The source of a search's or a simulated node's runs.
pub trait Ground {
    /// Returns the config that a search on it begins with.
    fn start(&self) -> EffectiveConfig;

    /// Makes the run. An error is the ground's own trouble; a config that fails is an outcome.
    fn run(&mut self, ask: &Ask<'_>) -> anyhow::Result<Answer>;

    /// Returns the noiseless level that a config reaches on a machine in [`SECONDS`], bits per byte. It is
    /// infinite for a config that cannot run, and none where the truth is not known.
    fn truth(&mut self, machine: usize, config: &EffectiveConfig) -> Option<f64>;
}

#[cfg(test)]
mod tests {
    use autoswarm_protocol::{Bpb, Crash, CrashClass, RunReport};

    use super::*;
    use crate::surrogate::start;

    #[test]
    fn a_finished_run_takes_what_its_price_says_and_a_crash_no_more() {
        let bpb = Bpb::new(2.5).expect("positive");
        let report = RunReport::simulated(start().hash(), 1, 1000, 9.0, bpb);
        let slowed = Answer { outcome: Outcome::Finished(Box::new(report)), seconds: 9.0, beside: 1.0 };
        let answer = slowed.taking(5.0);
        assert_eq!(
            (answer.seconds, answer.outcome.report().map(|report| report.training_seconds)),
            (5.0, Some(5.0))
        );
        let crash = Crash { class: CrashClass::Diverged, message: String::new(), seconds: 2.0 };
        let early = Answer { outcome: Outcome::Crashed(crash), seconds: 2.0, beside: 0.0 };
        let near = |answer: Answer, seconds: f64| (answer.seconds - seconds).abs() < 1e-12;
        assert!(near(early.clone().taking(5.0), 2.0) && near(early.taking(1.0), 1.0));
    }
}
