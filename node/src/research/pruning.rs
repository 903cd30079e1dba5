//! Pruning: how far behind the incumbent a run's training may be before there is no hope left.
//!
//! A screening run and the incumbent's run on the same seed train on the same text in the same order, so their smoothed losses can be
//! compared long before the end. At each look the model knows two things, from runs that went to their end: how many bits per byte the final
//! difference is for a loss behind by one, and how far it may still be from that, for each knob group. A run is stopped where even
//! 2.33 standard deviations of that would not make a gain of it. One candidate in twenty is never stopped, so that the
//! model sees what it would have stopped. Pure; only screening runs are pruned, so what is kept was never selected by it.

use std::collections::BTreeMap;

use autoswarm_protocol::{
    Estimate, KnobGroup, Pruned, RunReport,
    id::ConfigHash,
    outcome::early_losses,
    pruning::{PRUNE_POINTS, PruneBounds},
};

/// Standard deviations by which a gain must be out of reach: one-sided 1 % at each look, at most 2 % over the three, which depend on
/// each other.
const BEYOND: f64 = 2.33;
/// One candidate of these many runs on whatever its losses are.
const RUNS_ON: u8 = 20;
/// Final difference for a difference of one at each look, both in bits per byte, before anything was seen, of candidates that make 0.8 to 1.25 times as
/// many steps as the incumbent (122 runs) …
const FIRST_SLOPE: [f64; LOOKS] = [0.41, 0.50, 0.74];
/// … and of those that make fewer than 0.8 times as many (496): a model twice as wide makes half the steps, is 0.3 bpb behind at 15 % of them, and ends ahead.
const FIRST_SLOPE_OF_OTHER_STEPS: [f64; LOOKS] = [0.14, 0.28, 0.50];
/// … and the standard deviation of what is left, relative to the level, of all 648 runs of 5 s on one core that `tests/data/surface-runs.csv` has beside one of
/// the start on their seed and less than a fifth from it. // measured 2026-11
const FIRST_SPREAD: [f64; LOOKS] = [0.036, 0.031, 0.026];
/// Comparisons that those guesses weigh as much as.
const SLOPE_WEIGHT: f64 = 8.0;
const SPREAD_WEIGHT: f64 = 4.0;
/// Comparisons of all groups that a group's own spread is pulled towards as much as by this many of its own.
const POOL_WEIGHT: f64 = 6.0;
/// What a stopped run says about its change is believed to within this share.
const EXTRAPOLATED: f64 = 0.5;

const LOOKS: usize = PRUNE_POINTS.len();

/// A run's early losses, with what makes bits per byte of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Early {
    /// Smoothed training losses at [`PRUNE_POINTS`], nats per token.
    losses: [f64; LOOKS],
    /// The run's bits per byte over its last smoothed loss.
    scale: f64,
    level: f64,
}

impl Early {
    /// Reads a report; none where the run was too short to be pruned.
    pub fn of(report: &RunReport) -> Option<Self> {
        let last = report.curve.last().map(|point| point.loss).filter(|loss| *loss > 0.0)?;
        let level = report.validation.get();
        Some(Self { losses: early_losses(report)?, scale: level / last, level })
    }
}

/// Sums over comparisons of a look: of behind², behind · difference, difference², and their number.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Sums {
    xx: f64,
    xy: f64,
    yy: f64,
    count: f64,
}

impl Sums {
    fn add(&mut self, behind: f64, difference: f64) {
        self.xx += behind * behind;
        self.xy += behind * difference;
        self.yy += difference * difference;
        self.count += 1.0;
    }

    /// Returns the sum of the squares that a slope leaves.
    fn left(&self, slope: f64) -> f64 {
        (self.yy - 2.0 * slope * self.xy + slope * slope * self.xx).max(0.0)
    }
}

/// What runs that went to their end showed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PruneModel {
    groups: BTreeMap<KnobGroup, [Sums; LOOKS]>,
}

impl PruneModel {
    /// Takes a finished screening run and the incumbent's run on the same seed.
    pub fn observe(&mut self, group: KnobGroup, child: &RunReport, incumbent: &Early) {
        let Some(losses) = early_losses(child) else { return };
        let difference = child.validation.get() - incumbent.level;
        // A hopeless config would decide the slope alone, and it is stopped anyway.
        if difference.abs() > 0.2 * incumbent.level {
            return;
        }
        let of_group = self.groups.entry(group).or_default();
        for look in 0..LOOKS {
            let behind = (losses[look] - incumbent.losses[look]) * incumbent.scale;
            of_group[look].add(behind, difference);
        }
    }

    /// Returns how large the losses of a run may be; none for a candidate that runs on.
    pub fn bounds(&self, group: KnobGroup, child: ConfigHash, incumbent: &Early) -> Option<PruneBounds> {
        if child.as_bytes()[0].is_multiple_of(RUNS_ON) {
            return None;
        }
        let behind = |look| {
            BEYOND * self.spread(look, group, incumbent.level) / self.slope(look, group, incumbent.level)
        };
        Some(PruneBounds(std::array::from_fn(|look| incumbent.losses[look] + behind(look) / incumbent.scale)))
    }

    /// Returns the final difference that is expected of a stopped run, bits per byte.
    pub fn expected(&self, group: KnobGroup, pruned: &Pruned, incumbent: &Early) -> Option<f64> {
        let look = pruned.place()?;
        let behind = (pruned.loss - incumbent.losses[look]) * incumbent.scale;
        Some(behind * self.slope(look, group, incumbent.level))
    }

    /// A group's least-squares slope, pulled towards that of its kind, which is pulled towards the first guess.
    fn slope(&self, look: usize, group: KnobGroup, level: f64) -> f64 {
        let first = if may_change_steps(group) { FIRST_SLOPE_OF_OTHER_STEPS } else { FIRST_SLOPE }[look];
        let weight = SLOPE_WEIGHT * (FIRST_SPREAD[look] * level).powi(2);
        let pulled = |xx: f64, xy: f64, towards: f64| (xy + weight * towards) / (xx + weight);
        let alike =
            self.groups.iter().filter(|(other, _)| may_change_steps(**other) == may_change_steps(group));
        let (xx, xy) = alike.fold((0.0, 0.0), |(xx, xy), (_, sums)| (xx + sums[look].xx, xy + sums[look].xy));
        let own = self.of(group)[look];
        pulled(own.xx, own.xy, pulled(xx, xy, first)).max(0.1 * first)
    }

    fn of(&self, group: KnobGroup) -> [Sums; LOOKS] {
        self.groups.get(&group).copied().unwrap_or_default()
    }

    /// Standard deviation of what a group's slope leaves, pulled towards that of all groups, each at its own slope.
    fn spread(&self, look: usize, group: KnobGroup, level: f64) -> f64 {
        let left = |group, sums: &[Sums; LOOKS]| sums[look].left(self.slope(look, group, level));
        let first = (FIRST_SPREAD[look] * level).powi(2);
        let (all, count) = self.groups.iter().fold((0.0, 0.0), |(all, count), (group, sums)| {
            (all + left(*group, sums), count + sums[look].count)
        });
        let pooled = (SPREAD_WEIGHT * first + all) / (SPREAD_WEIGHT + count);
        let own = self.of(group);
        ((POOL_WEIGHT * pooled + left(group, &own)) / (POOL_WEIGHT + own[look].count)).sqrt()
    }
}

/// Returns whether changes of this kind make a run's steps more or fewer, as a rule.
const fn may_change_steps(group: KnobGroup) -> bool {
    matches!(group, KnobGroup::Shape | KnobGroup::Schedule)
}

/// Returns what a stopped run says about its change, in the form of other results: the expected difference with a generous error.
pub fn extrapolated(difference: f64, pair_sd: f64) -> Estimate {
    Estimate { delta: difference, standard_error: pair_sd.hypot(EXTRAPOLATED * difference), pairs: 1 }
}

#[cfg(test)]
mod tests {
    use autoswarm_protocol::{Bpb, outcome::CurvePoint, pruning::CURVE_POINTS};

    use super::*;

    /// A finished run at `level` bits per byte whose losses are above 2 nats by `above`, less from look to look.
    fn report(level: f64, above: f64) -> RunReport {
        let point = |k: u64| {
            let loss = 2.0 + above * (1.0 - k as f64 / (2 * CURVE_POINTS) as f64);
            CurvePoint { step: 10 * k, tokens: 5120 * k, loss: if k == CURVE_POINTS { 2.0 } else { loss } }
        };
        let (config, bpb) = (ConfigHash::of(b"config"), Bpb::new(level).expect("finite"));
        RunReport {
            steps: 10 * CURVE_POINTS,
            curve: (1..=CURVE_POINTS).map(point).collect(),
            ..RunReport::simulated(config, 1, 5120 * CURVE_POINTS, 5.0, bpb)
        }
    }

    fn pruned_at(look: usize, loss: f64) -> Pruned {
        let step = 10 * PRUNE_POINTS[look];
        Pruned {
            step,
            steps: 10 * CURVE_POINTS,
            tokens: 5120 * CURVE_POINTS,
            loss,
            bound: 2.5,
            training_seconds: 1.0,
            training_cpu_seconds: 1.0,
            startup_seconds: 0.0,
        }
    }

    /// A candidate that can be stopped.
    fn candidate() -> ConfigHash {
        (0..=u8::MAX)
            .map(|k| ConfigHash::of(&[k]))
            .find(|hash| !hash.as_bytes()[0].is_multiple_of(RUNS_ON))
            .expect("most can")
    }

    #[test]
    fn bounds_tighten_with_what_is_learned_and_stay_wide_where_the_end_surprises() {
        let incumbent = Early::of(&report(3.0, 0.0)).expect("long enough");
        let width = |model: &PruneModel, group| {
            model.bounds(group, candidate(), &incumbent).expect("can be stopped").0.map(|bound| bound - 2.0)
        };
        let mut model = PruneModel::default();
        let first = width(&model, KnobGroup::Optimizer);
        for k in 0..40 {
            // The optimizer's losers are seen early, the schedule's are not.
            let above = 0.01 * f64::from(k % 9);
            model.observe(KnobGroup::Optimizer, &report(3.0 + above, above), &incumbent);
            model.observe(KnobGroup::Schedule, &report(3.0 + 0.1 * f64::from(k % 2), above), &incumbent);
        }
        let (sure, unsure) = (width(&model, KnobGroup::Optimizer), width(&model, KnobGroup::Schedule));
        for look in 0..LOOKS {
            assert!(sure[look] < 0.5 * first[look], "{sure:?} {first:?}");
            assert!(unsure[look] > 1.5 * sure[look], "{unsure:?} {sure:?}");
        }
    }

    #[test]
    fn a_stopped_run_says_how_far_behind_it_would_have_been() {
        let incumbent = Early::of(&report(3.0, 0.0)).expect("long enough");
        let mut model = PruneModel::default();
        for k in 0..60 {
            let above = 0.02 * f64::from(k % 10);
            model.observe(KnobGroup::Optimizer, &report(3.0 + above, above), &incumbent);
        }
        // At the second look a loss is above by 1 − 19/128 of what the end is, in nats; the scale is 1.5.
        let shown = model.expected(KnobGroup::Optimizer, &pruned_at(1, 2.4), &incumbent).expect("a look");
        assert!((shown - 0.4 / (1.0 - 19.0 / 128.0)).abs() < 0.05, "{shown}");
        let said = extrapolated(shown, 0.03);
        assert!(said.delta > 0.0 && said.standard_error > 0.4 * shown);
    }

    #[test]
    fn a_wider_model_is_not_stopped_for_making_fewer_steps() {
        // Twice the width on one core at 5 s: after 15, 30 and 50 % of its steps up to 0.37, 0.19 and 0.11 bpb behind, and ahead in the end.
        let behind = [0.37, 0.19, 0.11];
        let incumbent = Early::of(&report(2.55, 0.0)).expect("long enough");
        let bounds = |model: &PruneModel| {
            model.bounds(KnobGroup::Shape, candidate(), &incumbent).expect("can be stopped").0
        };
        let passes = |model: &PruneModel| {
            let losses = behind.map(|behind| 2.0 + behind / incumbent.scale);
            losses.iter().zip(bounds(model)).all(|(loss, bound)| *loss < bound)
        };
        let mut model = PruneModel::default();
        assert!(passes(&model), "at the first look");
        // Nor after a night in which whoever of the optimizer's changes was behind stayed it.
        for k in 0..60 {
            let above = 0.02 * f64::from(k % 10);
            model.observe(KnobGroup::Optimizer, &report(2.55 + above, above), &incumbent);
        }
        for _ in 0..4 {
            model.observe(KnobGroup::Shape, &report(2.5, 0.3), &incumbent);
        }
        assert!(passes(&model), "{:?}", bounds(&model));
    }

    #[test]
    fn one_in_a_few_runs_on_and_short_runs_are_not_pruned() {
        let incumbent = Early::of(&report(3.0, 0.0)).expect("long enough");
        let model = PruneModel::default();
        let free = (0..2000u32)
            .filter(|k| {
                let child = ConfigHash::of(&k.to_le_bytes());
                model.bounds(KnobGroup::Shape, child, &incumbent).is_none()
            })
            .count();
        assert!((60..150).contains(&free), "{free}");
        let short = RunReport { curve: Vec::new(), ..report(3.0, 0.0) };
        assert_eq!(Early::of(&short), None);
    }
}
