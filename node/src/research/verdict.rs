//! Keep or discard: what a few noisy runs say about a change, and what to run next to know more.
//!
//! The rule has two standards of evidence. Every difference may condemn a change; **only freshly paired runs
//! may acquit it**, and the published Δ ± se is from those alone.
//!
//! Screening compares the child with a cached run of the incumbent on the same seed, one run at a time. Most
//! losers end there. A change that looks good is run against the incumbent in fresh pairs on unseen seeds
//! until it is kept or dropped; the order is A B B A. `node/docs/verdict.md` explains the rule and shows what
//! it does over simulated nights.
//!
//! Δ = child − incumbent in bits per byte; negative is better.
//! Not here: running anything, clocks, files, randomness.

mod noise;
mod screening;

use autoswarm_protocol::{
    KnobGroup,
    experiment::{DiscardReason, Estimate},
};
use serde::{Deserialize, Serialize};

pub use noise::{NoiseBelief, NoiseModel};
pub use screening::{ScreenPlan, ScreeningCache};

/// The differences of one experiment from one incumbent so far (bpb, child − incumbent, oldest first).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Screening: the child against the incumbent's cached run on the same screening seed.
    pub screens: Vec<Screen>,
    /// Confirmation: the child against the incumbent, both run now on an unseen seed.
    pub pairs: Vec<f64>,
    /// Whether the change removes something (an ablation, a smaller model); it may be kept for that alone.
    pub removes_something: bool,
    /// Who had the idea: this node or a peer.
    pub source: IdeaSource,
}

/// Who had an idea. The chances of a gain differ tenfold, so each source has its own share of gains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum IdeaSource {
    /// This node's search, or a person at this node.
    #[default]
    Own,
    /// A peer, which kept the change.
    Peers,
}

impl Evidence {
    /// Returns the mean of the fresh pairs (bpb); none without pairs.
    /// `pair_sd`, the noise of one pair, gives its standard error.
    pub fn estimate(&self, pair_sd: f64) -> Option<Estimate> {
        raw_estimate(self, pair_sd)
    }

    /// Returns the mean of the screening differences as measured (bpb), for display.
    pub fn screened(&self) -> Option<f64> {
        let sum: f64 = self.screens.iter().map(|screen| screen.difference).sum();
        (!self.screens.is_empty()).then(|| sum / self.screens.len() as f64)
    }
}

/// One screening difference and its seed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Screen {
    /// The seed of both runs. By it the noise model finds other children compared with the same cached run.
    pub seed: u64,
    /// Child − the incumbent's cached run (bpb).
    pub difference: f64,
}

/// Why a change is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepReason {
    /// It gains at least the smallest effect that counts.
    Gain,
    /// It removes something, and fresh pairs showed that it loses less than the smallest effect that counts.
    Simpler,
}

/// What to do about an experiment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Next {
    /// Make one more screening run of the child; see [`ScreeningCache::plan`].
    Screen,
    /// Make this many more fresh pairs; they may run side by side.
    Pair(u16),
    /// The child becomes the incumbent. The estimate is corrected for selection.
    Keep(Estimate, KeepReason),
    /// The child is dropped. The estimate is as measured; none without fresh pairs.
    Discard(DiscardReason, Option<Estimate>),
}

/// The constants of the rule. They were tuned together for the most true gains at 2.5 runs an experiment, on
/// about 20,000 simulated nights whose seeds no test uses (`tests/it/nights.rs`).
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Smallest gain worth keeping when something is added (bpb).
    pub min_effect: f64,
    /// Drop when P(gain | everything) falls below this.
    pub drop_below: f64,
    /// Leave screening for fresh pairs when P(gain | everything) is above this.
    /// A screening run costs half a pair.
    pub pair_above: f64,
    /// Leave screening for fresh pairs after this many screening runs in any case.
    pub most_screens: usize,
    /// A keep needs fresh pairs that by themselves make a gain this many times likelier.
    pub fresh_factor: f64,
    /// A keep also needs P(gain | everything) above this, so that the other evidence leaves no doubt.
    pub keep_all_above: f64,
    /// Fewest fresh pairs of a keep: one A B B A block.
    pub fewest_pairs: usize,
    /// Most pairs that one change may cost.
    pub most_pairs: usize,
    /// Runs of the node after which the incumbent's cached run is replaced by one on the next seed. Sooner
    /// costs runs and forgets what is known of its luck; later lets drift in.
    pub refresh_after: u64,
    /// Strength of the correction for selection: the Δ of a keep is multiplied by 1 − this · (se/Δ)². What is
    /// kept was lucky more often than not, the more so the nearer Δ is to its standard error. 1 is the
    /// James–Stein factor.
    pub selection_correction: f64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            min_effect: 0.0,
            drop_below: 0.07,
            pair_above: 0.5,
            most_screens: 5,
            fresh_factor: 10.0,
            keep_all_above: 0.8,
            fewest_pairs: 2,
            most_pairs: 10,
            refresh_after: 60,
            selection_correction: 1.0,
        }
    }
}

/// P(loss) above which a discard is called a clear loser rather than no gain.
/// A removal that is above it without any fresh pair is dropped.
const CLEAR_LOSS: f64 = 0.9;
/// One-sided 95 % point of the normal distribution, for the test that a simplification costs nothing.
const ONE_SIDED_95: f64 = 1.645;
/// 80 % point of the normal distribution.
const FOUR_IN_FIVE: f64 = 0.842;

impl Policy {
    /// Returns what to do next, by an experiment's evidence and what is known of the noise. Deterministic;
    /// call it again after each result.
    pub fn next(&self, evidence: &Evidence, noise: &NoiseModel, group: KnobGroup) -> Next {
        if evidence.screens.is_empty() && evidence.pairs.is_empty() {
            return Next::Screen;
        }
        let all = noise.belief(group, evidence.source, &evidence.screens, &evidence.pairs);
        let estimate = raw_estimate(evidence, all.pair_sd);
        if evidence.removes_something {
            return self.next_removal(evidence, &all);
        }
        if all.gain < self.drop_below {
            return Next::Discard(reason(&all), estimate);
        }
        if evidence.pairs.is_empty() {
            let paired = all.gain > self.pair_above || evidence.screens.len() >= self.most_screens;
            return if paired { Next::Pair(1) } else { Next::Screen };
        }
        // Without the screening runs: luck there must not help to acquit.
        let fresh = noise.belief(group, evidence.source, &[], &evidence.pairs);
        match estimate {
            Some(estimate)
                if evidence.pairs.len() >= self.fewest_pairs
                    && fresh.factor > self.fresh_factor
                    && all.gain > self.keep_all_above =>
            {
                let claim = self.corrected(estimate);
                if -claim.delta < self.min_effect {
                    Next::Discard(DiscardReason::BelowMinEffect, Some(estimate))
                } else {
                    Next::Keep(claim, KeepReason::Gain)
                }
            }
            _ if evidence.pairs.len() >= self.most_pairs => {
                Next::Discard(DiscardReason::Inconclusive, estimate)
            }
            _ => Next::Pair(1),
        }
    }

    /// Returns what to do about a change that removes something. It only has to be shown not to lose
    /// `min_effect` (an equivalence test).
    fn next_removal(&self, evidence: &Evidence, all: &NoiseBelief) -> Next {
        let Some(raw) = raw_estimate(evidence, all.pair_sd) else {
            return if all.loss > CLEAR_LOSS {
                Next::Discard(DiscardReason::ClearLoser, None)
            } else {
                Next::Pair(self.fewest_pairs as u16)
            };
        };
        let enough = evidence.pairs.len() >= self.fewest_pairs;
        if enough && raw.delta + ONE_SIDED_95 * raw.standard_error < self.min_effect {
            return Next::Keep(self.corrected(raw), KeepReason::Simpler);
        }
        if raw.delta - ONE_SIDED_95 * raw.standard_error > 0.0 || all.loss > 1.0 - self.drop_below {
            return Next::Discard(reason(all), Some(raw));
        }
        if evidence.pairs.len() >= self.most_pairs {
            return Next::Discard(DiscardReason::Inconclusive, Some(raw));
        }
        Next::Pair(1)
    }

    /// Returns the smallest gain (bpb) that an hour of fresh pairs on one change would show: a one-sided test
    /// at 5 % finds it four times in five.
    ///
    /// `run_seconds` is the wall time of one run, start-up and evaluation included.
    pub fn resolution(&self, noise: &NoiseModel, group: KnobGroup, run_seconds: f64, slots: usize) -> f64 {
        let pairs = (3600.0 * slots as f64 / (2.0 * run_seconds)).max(1.0);
        (ONE_SIDED_95 + FOUR_IN_FIVE) * noise.pair_sd(group) / pairs.sqrt()
    }

    /// Corrects the Δ of a keep for selection, if it is a gain. A loss is claimed as measured.
    fn corrected(&self, raw: Estimate) -> Estimate {
        if raw.delta >= 0.0 {
            return raw;
        }
        let ratio = raw.standard_error / raw.delta;
        Estimate { delta: raw.delta * (1.0 - self.selection_correction * ratio * ratio).max(0.0), ..raw }
    }
}

/// Returns the mean of the fresh pairs and its standard error; none without pairs.
fn raw_estimate(evidence: &Evidence, pair_sd: f64) -> Option<Estimate> {
    let count = evidence.pairs.len();
    if count == 0 {
        return None;
    }
    let delta = evidence.pairs.iter().sum::<f64>() / count as f64;
    Some(Estimate { delta, standard_error: pair_sd / (count as f64).sqrt(), pairs: count as u16 })
}

fn reason(belief: &NoiseBelief) -> DiscardReason {
    if belief.loss > CLEAR_LOSS { DiscardReason::ClearLoser } else { DiscardReason::NoGain }
}

#[cfg(test)]
mod tests;
