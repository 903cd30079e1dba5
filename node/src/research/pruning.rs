//! Pruning: how far a screening run may be behind the incumbent's before its trainer stops it.
//!
//! A screening run and the incumbent's run on the same seed train on the same text in the same order. So
//! their smoothed losses can be compared long before the end, at a few *looks*. From runs that went to their
//! end the model learns two things for each knob group and look:
//!
//! - the slope: bits per byte of final difference for each bit per byte that the run is behind at the look;
//! - the spread: how far the final difference may still be from that.
//!
//! A run is stopped where even 2.33 standard deviations of the spread would not make it a gain. One candidate
//! in twenty is never stopped, so that the model sees what it would have stopped.
//!
//! Only screening runs are pruned, so nothing that is kept was selected by it. Pure. Not here: stopping a
//! run, which the trainer does by the bounds that its order brings.

use std::collections::BTreeMap;

use autoswarm_protocol::{
    Estimate, KnobGroup, Pruned, RunReport,
    id::ConfigHash,
    outcome::early_losses,
    pruning::{PRUNE_POINTS, PruneBounds},
};

/// Standard deviations by which a gain must be out of reach. One-sided, that is 1 % at each look, and at most
/// 2 % over the three looks, which depend on each other.
const BEYOND: f64 = 2.33;
/// One candidate in this many is never stopped, whatever its losses.
const RUNS_ON: u8 = 20;
/// First guess of the slope at each look: final difference for a difference of one, both in bits per byte.
/// For candidates that make 0.8 to 1.25 times as many steps as the incumbent (122 runs).
const FIRST_SLOPE: [f64; LOOKS] = [0.41, 0.50, 0.74];
/// The same for candidates that make fewer than 0.8 times as many steps (496 runs). A model twice as wide
/// makes half the steps, is 0.3 bpb behind at 15 % of them, and ends ahead.
const FIRST_SLOPE_OF_OTHER_STEPS: [f64; LOOKS] = [0.14, 0.28, 0.50];
/// First guess of the spread: the standard deviation that the slopes leave, relative to the level.
///
/// It is over 648 runs of 5 s on one core: all in `tests/data/surface-runs.csv` that have a run of the start
/// on their seed beside them and end less than a fifth from it. // measured 2026-11
const FIRST_SPREAD: [f64; LOOKS] = [0.036, 0.031, 0.026];
/// Number of comparisons that the first guess of a slope weighs as much as.
const SLOPE_WEIGHT: f64 = 8.0;
/// Number of comparisons that the first guess of the spread weighs as much as.
const SPREAD_WEIGHT: f64 = 4.0;
/// Number of a group's own comparisons that the pooled spread of all groups weighs as much as.
const POOL_WEIGHT: f64 = 6.0;
/// Share of a stopped run's expected difference that counts as its standard error.
const EXTRAPOLATED: f64 = 0.5;

const LOOKS: usize = PRUNE_POINTS.len();

/// A run's early losses, with the factor that makes bits per byte of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Early {
    /// Smoothed training losses at [`PRUNE_POINTS`], nats per token.
    losses: [f64; LOOKS],
    /// The run's bits per byte over its last smoothed loss.
    scale: f64,
    /// The run's final validation value, bits per byte.
    level: f64,
}

impl Early {
    /// Reads the early losses in a report; none where the run was too short to be pruned.
    pub fn of(report: &RunReport) -> Option<Self> {
        let last = report.curve.last().map(|point| point.loss).filter(|loss| *loss > 0.0)?;
        let level = report.validation.get();
        Some(Self { losses: early_losses(report)?, scale: level / last, level })
    }
}

/// Sums over the comparisons at one look: behind² (`xx`), behind · difference (`xy`), difference² (`yy`), and
/// their number. Both are in bits per byte: how far the run was behind at the look, and the final difference.
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

    /// Returns the sum of the squared residuals around a slope.
    fn left(&self, slope: f64) -> f64 {
        (self.yy - 2.0 * slope * self.xy + slope * slope * self.xx).max(0.0)
    }
}

/// What runs that went to their end taught about early losses, for each knob group and look.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PruneModel {
    groups: BTreeMap<KnobGroup, [Sums; LOOKS]>,
}

impl PruneModel {
    /// Learns from a finished screening run and the incumbent's run on the same seed.
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

    /// Returns the largest losses with which a run of `child` goes on; none if it is never stopped.
    pub fn bounds(&self, group: KnobGroup, child: ConfigHash, incumbent: &Early) -> Option<PruneBounds> {
        // The hash chooses these candidates, so a restart chooses the same.
        if child.as_bytes()[0].is_multiple_of(RUNS_ON) {
            return None;
        }
        // A run this far behind is expected to end `BEYOND` spreads worse than the incumbent.
        let behind = |look| {
            BEYOND * self.spread(look, group, incumbent.level) / self.slope(look, group, incumbent.level)
        };
        Some(PruneBounds(std::array::from_fn(|look| incumbent.losses[look] + behind(look) / incumbent.scale)))
    }

    /// Returns the final difference that is expected of a stopped run, bits per byte, negative is better.
    pub fn expected(&self, group: KnobGroup, pruned: &Pruned, incumbent: &Early) -> Option<f64> {
        let look = pruned.place()?;
        let behind = (pruned.loss - incumbent.losses[look]) * incumbent.scale;
        Some(behind * self.slope(look, group, incumbent.level))
    }

    /// Returns a group's least-squares slope. It is pulled towards the slope of all groups of its kind, which
    /// is pulled towards the first guess. The kinds are groups that may change the steps, and the others.
    fn slope(&self, look: usize, group: KnobGroup, level: f64) -> f64 {
        let first = if may_change_steps(group) { FIRST_SLOPE_OF_OTHER_STEPS } else { FIRST_SLOPE }[look];
        // As if so many comparisons had been behind by one spread each.
        let weight = SLOPE_WEIGHT * (FIRST_SPREAD[look] * level).powi(2);
        let pulled = |xx: f64, xy: f64, towards: f64| (xy + weight * towards) / (xx + weight);
        let alike =
            self.groups.iter().filter(|(other, _)| may_change_steps(**other) == may_change_steps(group));
        let (xx, xy) = alike.fold((0.0, 0.0), |(xx, xy), (_, sums)| (xx + sums[look].xx, xy + sums[look].xy));
        let own = self.of(group)[look];
        // A bound divides by the slope, so it stays above zero.
        pulled(own.xx, own.xy, pulled(xx, xy, first)).max(0.1 * first)
    }

    fn of(&self, group: KnobGroup) -> [Sums; LOOKS] {
        self.groups.get(&group).copied().unwrap_or_default()
    }

    /// Returns the standard deviation of the residuals around a group's slope. It is pulled towards that of
    /// all groups, each around its own slope.
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

/// Returns whether changes in this group usually make a run's steps more or fewer.
const fn may_change_steps(group: KnobGroup) -> bool {
    matches!(group, KnobGroup::Shape | KnobGroup::Schedule)
}

/// Returns what a stopped run says about its change: the expected difference, with a generous standard error.
pub fn extrapolated(difference: f64, pair_sd: f64) -> Estimate {
    Estimate { delta: difference, standard_error: pair_sd.hypot(EXTRAPOLATED * difference), pairs: 1 }
}

#[cfg(test)]
mod tests {
    use autoswarm_protocol::{Bpb, outcome::CurvePoint, pruning::CURVE_POINTS};

    use super::*;

    /// Returns a run that ended at `level` bits per byte. Its losses are 2 nats and a falling part of
    /// `above`.
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

    /// Returns a candidate that can be stopped.
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
            // The losers of the optimizer group are seen early, those of the schedule group are not.
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
        // At the second look (point 19 of 64) a loss is above by 1 − 19/128 of the final difference, in nats.
        // The scale is 1.5.
        let shown = model.expected(KnobGroup::Optimizer, &pruned_at(1, 2.4), &incumbent).expect("a look");
        assert!((shown - 0.4 / (1.0 - 19.0 / 128.0)).abs() < 0.05, "{shown}");
        let said = extrapolated(shown, 0.03);
        assert!(said.delta > 0.0 && said.standard_error > 0.4 * shown);
    }

    #[test]
    fn a_wider_model_is_not_stopped_for_making_fewer_steps() {
        // Twice the width, on one core at 5 s, is ahead in the end. After 15, 30 and 50 % of its steps it is
        // up to 0.37, 0.19 and 0.11 bpb behind.
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
        // Nor after a night in which every optimizer change that was behind stayed behind.
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
