//! How findings travel: how likely one made in one class of hardware helps in another, by knob group.
//!
//! The model is a Beta-binomial per (knob group, from class, to class). Its prior is how findings of the
//! group do in this class wherever they come from; the prior of that is how they do anywhere. So a laptop
//! comes to favour groups whose findings travel.

use std::collections::BTreeMap;

use autoswarm_protocol::{
    KnobGroup,
    experiment::Comparison,
    record::{Attestation, Discovery, Hardware},
};

/// How many trials the prior of a knob group weighs as much as.
const PRIOR_TRIALS: f64 = 4.0;
/// How far below zero a re-run must be to count as a success, in standard errors of its own.
pub(super) const SUCCESS_AT: f64 = 1.0;

/// A class of hardware: the power of four of its training throughput on the reference config, tokens a
/// second. Budget classes have the same steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpeedClass(i8);

impl SpeedClass {
    /// Returns the class of a machine.
    pub fn of(hardware: &Hardware) -> Self {
        Self((hardware.tokens_per_second.max(1e-3).ln() / 4f64.ln()).floor() as i8)
    }
}

/// How many of a number of trials were successes.
#[derive(Debug, Clone, Copy, Default)]
struct Trials {
    successes: f64,
    count: f64,
}

impl Trials {
    fn add(&mut self, success: bool) {
        self.successes += f64::from(u8::from(success));
        self.count += 1.0;
    }

    /// Returns the posterior mean under a prior of this mean, which weighs as much as `weight` trials.
    fn mean(self, prior: f64, weight: f64) -> f64 {
        (self.successes + prior * weight) / (self.count + weight)
    }
}

/// How likely others' findings help in one class of hardware.
#[derive(Debug, Clone, Default)]
pub(super) struct Transfer {
    anywhere: BTreeMap<KnobGroup, Trials>,
    to_here: BTreeMap<KnobGroup, Trials>,
    from_to_here: BTreeMap<(KnobGroup, SpeedClass), Trials>,
}

impl Transfer {
    /// Learns from all re-runs with their discoveries. Reproductions are left out: they say whether a claim
    /// is true, not whether it travels.
    pub(super) fn learn<'a>(
        runs: impl Iterator<Item = (&'a Discovery, &'a Attestation)>,
        here: SpeedClass,
    ) -> Self {
        let mut transfer = Self::default();
        for (discovery, attestation) in runs {
            if attestation.comparison == Comparison::Reproduced {
                continue;
            }
            let shown = attestation.found.as_ref();
            let success = shown.is_ok_and(|shown| shown.delta < -SUCCESS_AT * shown.standard_error);
            let group = discovery.patch.group();
            transfer.anywhere.entry(group).or_default().add(success);
            if SpeedClass::of(&attestation.hardware) == here {
                transfer.to_here.entry(group).or_default().add(success);
                let from = SpeedClass::of(&discovery.hardware);
                transfer.from_to_here.entry((group, from)).or_default().add(success);
            }
        }
        transfer
    }

    /// Returns the chance that a finding of a group, made in class `from`, helps here.
    pub(super) fn chance(&self, group: KnobGroup, from: SpeedClass) -> f64 {
        let known = |trials: Option<&Trials>| trials.copied().unwrap_or_default();
        let anywhere = known(self.anywhere.get(&group)).mean(0.5, 2.0);
        let to_here = known(self.to_here.get(&group)).mean(anywhere, PRIOR_TRIALS);
        known(self.from_to_here.get(&(group, from))).mean(to_here, PRIOR_TRIALS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hardware(tokens_per_second: f64) -> Hardware {
        Hardware { device: "cpu".to_owned(), threads: 1, slots: 1, tokens_per_second }
    }

    #[test]
    fn a_class_is_a_factor_of_four() {
        assert_eq!(SpeedClass::of(&hardware(17_000.0)), SpeedClass::of(&hardware(60_000.0)));
        assert_ne!(SpeedClass::of(&hardware(16_000.0)), SpeedClass::of(&hardware(70_000.0)));
    }

    #[test]
    fn what_is_known_here_outweighs_what_is_known_elsewhere_as_it_grows() {
        let trials = |successes, count| Trials { successes, count };
        assert!((trials(0.0, 0.0).mean(0.5, 2.0) - 0.5).abs() < 1e-12);
        assert!(trials(10.0, 10.0).mean(0.2, PRIOR_TRIALS) > 0.7);
        assert!(trials(0.0, 10.0).mean(0.9, PRIOR_TRIALS) < 0.3);
    }
}
