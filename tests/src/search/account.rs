//! What a search has spent, and what it got for it.

use std::collections::BTreeSet;

use autoswarm_protocol::{EffectiveConfig, Outcome, pruning::PruneBounds};

use super::{Rule, Spec, Story};
use crate::ground::{Answer, Ask, Ground};

/// What a rival saw of one run.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Training seconds spent when it ended.
    pub at: f64,
    /// The config.
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

    /// Makes a run, stopped early where it passes a bound; none once the seconds are spent. A run that would end later ends nowhere, and nobody sees it.
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

    /// Returns whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.spent >= self.seconds
    }

    /// Returns what was seen, oldest first.
    pub fn seen(&self) -> &[Seen] {
        &self.seen
    }

    /// Makes a story of it.
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
