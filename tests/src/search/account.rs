//! The account of a search: the training seconds it has spent, and the runs it got for them.

use std::collections::BTreeSet;

use autoswarm_protocol::{EffectiveConfig, Outcome, pruning::PruneBounds};

use super::{Rule, Spec, Story};
use crate::ground::{Answer, Ask, Ground};

/// One run as a rival saw it.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Training seconds spent when it ended.
    pub at: f64,
    /// The config that was run.
    pub config: EffectiveConfig,
    /// Bits per byte on validation; none for a crash.
    pub value: Option<f64>,
}

/// Training seconds, and the runs that they bought.
#[derive(Debug)]
pub struct Account {
    seconds: f64,
    spent: f64,
    runs: usize,
    crashes: usize,
    seen: Vec<Seen>,
}

impl Account {
    /// Makes an account of so many training seconds.
    pub fn new(seconds: f64) -> Self {
        Self { seconds, spent: 0.0, runs: 0, crashes: 0, seen: Vec::new() }
    }

    /// Makes a run, stopped early where it passes a pruning bound. Returns none once the seconds are spent;
    /// the run that outlasts them is cut off, and its result is not seen.
    pub fn run(
        &mut self,
        config: &EffectiveConfig,
        tokens: Option<u64>,
        seed: u64,
        prune: Option<PruneBounds>,
        ground: &mut dyn Ground,
    ) -> anyhow::Result<Option<Answer>> {
        if self.spent >= self.seconds {
            return Ok(None);
        }
        let id = self.runs as u64;
        let answer = ground.run(&Ask { machine: 0, id, config, tokens, seed })?.pruned(prune);
        self.spent += answer.seconds;
        if self.spent > self.seconds {
            self.spent = self.seconds;
            return Ok(None);
        }
        self.runs += 1;
        let value = answer.outcome.report().map(|report| report.validation.get());
        self.crashes += usize::from(matches!(answer.outcome, Outcome::Crashed(_)));
        self.seen.push(Seen { at: self.spent, config: config.clone(), value });
        Ok(Some(answer))
    }

    /// Returns the training seconds spent.
    pub fn spent(&self) -> f64 {
        self.spent
    }

    /// Returns whether no seconds are left.
    pub fn is_empty(&self) -> bool {
        self.spent >= self.seconds
    }

    /// Returns the runs that ended in time, oldest first.
    pub fn seen(&self) -> &[Seen] {
        &self.seen
    }

    /// Makes the story of a search with these gains and this choice.
    pub(super) fn story(
        &self,
        method: &str,
        rule: Rule,
        spec: &Spec,
        gains: Vec<(f64, f64)>,
        choice: String,
    ) -> Story {
        let configs: BTreeSet<_> = self.seen.iter().map(|seen| seen.config.hash()).collect();
        Story {
            method: method.to_owned(),
            rule,
            predictor: spec.predictor,
            range: spec.range,
            seed: spec.seed,
            seconds: spec.seconds,
            gains,
            claimed: None,
            experiments: configs.len(),
            runs: self.runs,
            crashes: self.crashes,
            choice,
        }
    }
}
