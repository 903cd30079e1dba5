//! Tests of what the verdict must do whatever the numbers are.
//!
//! Not here: how well it does over a whole night, which is in `tests/it/nights.rs`.

use proptest::prelude::*;

use super::*;

const GROUP: KnobGroup = KnobGroup::Optimizer;
/// Baseline values whose sd over seeds is .01.
const BASELINE: [f64; 4] = [2.0, 2.01, 1.99, 2.0141];

/// Returns what a machine knows after many experiments: the sd of a pair of [`GROUP`] is near .01.
fn settled_noise() -> NoiseModel {
    let mut noise = NoiseModel::from_baseline(&BASELINE);
    for (seed, first) in (0..).zip([-0.008, 0.012, 0.001, -0.011, 0.009, 0.004, -0.003, 0.013]) {
        noise.observe(GROUP, &evidence(&[(1000 + seed, first)], &[-first, 0.4 * first]));
    }
    noise
}

fn evidence(screens: &[(u64, f64)], pairs: &[f64]) -> Evidence {
    let screens = screens.iter().map(|&(seed, difference)| Screen { seed, difference }).collect();
    Evidence { screens, pairs: pairs.to_vec(), removes_something: false, source: IdeaSource::Own }
}

fn next(screens: &[f64], pairs: &[f64]) -> Next {
    let screens: Vec<(u64, f64)> = (0..).zip(screens.iter().copied()).collect();
    Policy::default().next(&evidence(&screens, pairs), &settled_noise(), GROUP)
}

fn is_keep(next: &Next) -> bool {
    matches!(next, Next::Keep(..))
}

#[test]
fn settled_noise_is_settled() {
    let sd = settled_noise().pair_sd(GROUP);
    assert!((0.006..0.016).contains(&sd), "{sd}");
}

#[test]
fn an_experiment_begins_with_a_screening_run() {
    assert_eq!(next(&[], &[]), Next::Screen);
}

#[test]
fn a_clear_loser_costs_one_run() {
    assert_eq!(next(&[0.08], &[]), Next::Discard(DiscardReason::ClearLoser, None));
}

#[test]
fn the_grey_band_is_screened_again() {
    assert_eq!(next(&[-0.008], &[]), Next::Screen);
}

#[test]
fn a_clear_winner_is_confirmed_on_fresh_pairs() {
    assert_eq!(next(&[-0.06], &[]), Next::Pair(1));
    assert_eq!(next(&[-0.06], &[-0.05]), Next::Pair(1));
    let Next::Keep(estimate, KeepReason::Gain) = next(&[-0.06], &[-0.05, -0.052]) else { panic!("no keep") };
    assert_eq!(estimate.pairs, 2);
    assert!((-0.051..-0.045).contains(&estimate.delta), "{estimate}");
}

#[test]
fn no_gain_is_too_large_to_be_one() {
    // Three seeds that happened to agree: the true noise is some ten times what they show.
    let noise = NoiseModel::from_baseline(&[3.1318, 3.1287, 3.1261]);
    let policy = Policy::default();
    for size in [0.05, 0.1, 0.2, 0.36, 0.7, 1.5, 3.0] {
        let screened = policy.next(&evidence(&[(0, -size)], &[]), &noise, GROUP);
        assert_eq!(screened, Next::Pair(1), "{size}");
        let paired = policy.next(&evidence(&[(0, -size)], &[-0.97 * size, -1.02 * size]), &noise, GROUP);
        assert!(is_keep(&paired), "{size}: {paired:?}");
        let lost = policy.next(&evidence(&[(0, size)], &[]), &noise, GROUP);
        assert_eq!(lost, Next::Discard(DiscardReason::ClearLoser, None), "{size}");
    }
}

#[test]
fn fresh_pairs_alone_must_speak_for_a_keep() {
    let lucky_screening = [-0.06, -0.06, -0.06, -0.06];
    assert!(!is_keep(&next(&lucky_screening, &[0.001, -0.002])));
    assert!(!is_keep(&next(&lucky_screening, &[0.001, -0.002, 0.001, 0.002])));
}

#[test]
fn the_published_estimate_is_of_the_fresh_pairs() {
    let delta = |screen: f64| match next(&[screen], &[-0.05, -0.052]) {
        Next::Keep(estimate, _) => estimate.delta,
        other => panic!("{other:?}"),
    };
    // The screening difference changes the standard error, through the group's noise, but never the mean.
    assert!((delta(-0.03) - delta(-0.07)).abs() < 0.002);
}

#[test]
fn pairs_that_decide_nothing_end() {
    let policy = Policy::default();
    let pairs: Vec<f64> = (0..policy.most_pairs).map(|at| if at % 2 == 0 { -0.016 } else { 0.004 }).collect();
    assert!(matches!(next(&[-0.01], &pairs), Next::Discard(..) | Next::Keep(..)));
}

#[test]
fn a_gain_below_the_smallest_effect_is_dropped_unless_it_removes_something() {
    let policy = Policy { min_effect: 0.08, ..Policy::default() };
    let mut evidence = evidence(&[(0, -0.06)], &[-0.05, -0.052]);
    let added = policy.next(&evidence, &settled_noise(), GROUP);
    assert!(matches!(added, Next::Discard(DiscardReason::BelowMinEffect, Some(_))), "{added:?}");
    evidence.removes_something = true;
    let removed = policy.next(&evidence, &settled_noise(), GROUP);
    assert!(matches!(removed, Next::Keep(_, KeepReason::Simpler)), "{removed:?}");
}

#[test]
fn a_removal_that_costs_is_dropped() {
    let policy = Policy { min_effect: 0.01, ..Policy::default() };
    let mut evidence = evidence(&[(0, 0.04)], &[0.05, 0.045]);
    evidence.removes_something = true;
    assert!(matches!(policy.next(&evidence, &settled_noise(), GROUP), Next::Discard(..)));
}

#[test]
fn noise_is_learned_per_group_and_losers_do_not_pass_for_it() {
    let mut noise = NoiseModel::from_baseline(&BASELINE);
    for (seed, unit) in (0..).zip([-0.7, 1.1, 0.1, -1.2, 9.0, 0.4, 6.0, 0.9, -0.4, 14.0, 0.2, -0.8]) {
        noise.observe(KnobGroup::Init, &evidence(&[(seed, 0.001 * unit)], &[]));
        noise.observe(KnobGroup::Shape, &evidence(&[(seed, 0.01 * unit)], &[]));
    }
    let (small, large) = (noise.pair_sd(KnobGroup::Init), noise.pair_sd(KnobGroup::Shape));
    assert!((0.0005..0.003).contains(&small), "{small}");
    assert!((0.005..0.03).contains(&large), "{large}");
}

#[test]
fn a_cached_run_that_was_lucky_is_found_out() {
    let mut noise = settled_noise();
    let before = noise.belief(GROUP, IdeaSource::Own, &[Screen { seed: 5, difference: 0.004 }], &[]).gain;
    for difference in [0.014, 0.017, 0.012, 0.016, 0.013, 0.015] {
        noise.observe(GROUP, &evidence(&[(5, difference)], &[]));
    }
    let after = noise.belief(GROUP, IdeaSource::Own, &[Screen { seed: 5, difference: 0.004 }], &[]).gain;
    let elsewhere = noise.belief(GROUP, IdeaSource::Own, &[Screen { seed: 6, difference: 0.004 }], &[]).gain;
    assert!(after > before && after > 2.0 * elsewhere, "{before} {after} {elsewhere}");
}

#[test]
fn what_peers_found_has_its_own_chance_of_a_gain() {
    let gain = |noise: &NoiseModel, source| {
        noise.belief(GROUP, source, &[Screen { seed: 5, difference: -0.004 }], &[]).gain
    };
    let mut noise = settled_noise();
    let own = gain(&noise, IdeaSource::Own);
    let peers = gain(&noise, IdeaSource::Peers);
    assert!(peers > 1.5 * own, "{peers} {own}");
    // Liars' ideas fail: the chance of peers' ideas falls, and own ideas need show no more than before.
    for seed in 100..120 {
        noise.observe(GROUP, &Evidence { source: IdeaSource::Peers, ..evidence(&[(seed, 0.03)], &[]) });
    }
    let (own_later, peers_later) = (gain(&noise, IdeaSource::Own), gain(&noise, IdeaSource::Peers));
    assert!(peers_later < 0.5 * peers, "{peers} {peers_later}");
    assert!((own_later - own).abs() < 0.3 * own, "{own} {own_later}");
    // However likely a gain was thought to be, only fresh pairs can keep it.
    let promising = Evidence { source: IdeaSource::Peers, ..evidence(&[(1, -0.06)], &[]) };
    assert_eq!(Policy::default().next(&promising, &settled_noise(), GROUP), Next::Pair(1));
}

#[test]
fn baselines_that_say_nothing_still_work() {
    for values in [&[][..], &[2.0], &[2.0, 2.0, 2.0]] {
        let noise = NoiseModel::from_baseline(values);
        assert!(noise.pair_sd(GROUP) > 0.0);
        let outcome = Policy::default().next(&evidence(&[(0, 0.3)], &[0.3, 0.3]), &noise, GROUP);
        assert!(matches!(outcome, Next::Discard(..)), "{outcome:?}");
    }
}

#[test]
fn four_times_the_slots_see_half_the_effect() {
    let (policy, noise) = (Policy::default(), settled_noise());
    let one = policy.resolution(&noise, GROUP, 20.0, 1);
    let four = policy.resolution(&noise, GROUP, 20.0, 4);
    assert!((one / four - 2.0).abs() < 1e-9);
    // 90 pairs an hour at an sd near .01.
    assert!((0.0015..0.0045).contains(&one), "{one}");
}

#[test]
fn screening_runs_are_shared_until_they_are_old() {
    let mut cache = ScreeningCache::default();
    assert_eq!(cache.plan(0, 0, 10), ScreenPlan { seed_index: 0, incumbent_first: true });
    cache.record(0, 2.0, 1);
    assert_eq!(cache.plan(0, 11, 10), ScreenPlan { seed_index: 0, incumbent_first: false });
    assert_eq!(cache.plan(1, 11, 10), ScreenPlan { seed_index: 1, incumbent_first: true });
    assert_eq!(cache.plan(0, 12, 10), ScreenPlan { seed_index: 2, incumbent_first: true });
    assert_eq!(cache.value(0), None);
}

#[test]
fn a_new_incumbent_is_screened_on_seeds_that_did_not_select_it() {
    let mut cache = ScreeningCache::default();
    for seed in 0..3 {
        cache.record(seed, 2.0, 1);
    }
    cache.incumbent_changed();
    assert_eq!(cache.plan(0, 2, 10), ScreenPlan { seed_index: 3, incumbent_first: true });
}

/// Draws differences in steps of 2⁻¹², so that adding a constant to the values behind them is exact.
fn differences(most: usize) -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec((-300_i32..300).prop_map(|step| f64::from(step) / 4096.0), 0..=most)
}

proptest! {
    #[test]
    fn no_keep_without_two_fresh_pairs(screens in differences(6), pairs in differences(1)) {
        prop_assert!(!is_keep(&next(&screens, &pairs)));
    }

    #[test]
    fn no_keep_on_fresh_pairs_that_average_a_loss(screens in differences(4), pairs in differences(10)) {
        if pairs.iter().sum::<f64>() >= 0.0 {
            prop_assert!(!is_keep(&next(&screens, &pairs)));
        }
    }

    #[test]
    fn a_constant_on_all_values_changes_nothing(pairs in differences(6), shift in 0_i32..4096) {
        let shift = f64::from(shift) / 4096.0;
        let shifted: Vec<f64> = pairs.iter().map(|difference| (2.0 + shift + difference) - (2.0 + shift)).collect();
        let baseline = |shift: f64| [2.0, 2.03125, 1.96875, 2.0625].map(|value: f64| value + shift);
        let noise = NoiseModel::from_baseline(&baseline(0.0));
        prop_assert_eq!(
            Policy::default().next(&evidence(&[(0, -0.0625)], &pairs), &noise, GROUP),
            Policy::default().next(&evidence(&[(0, -0.0625)], &shifted), &NoiseModel::from_baseline(&baseline(shift)), GROUP)
        );
    }

    #[test]
    fn more_noise_never_turns_a_discard_into_a_keep(
        screens in differences(3), pairs in differences(6), louder in 1.0..20.0_f64,
    ) {
        let screens: Vec<(u64, f64)> = (0..).zip(screens).collect();
        let decide = |scale: f64| {
            let noise = NoiseModel::from_baseline(&BASELINE.map(|value| 2.0 + scale * (value - 2.0)));
            Policy::default().next(&evidence(&screens, &pairs), &noise, GROUP)
        };
        if matches!(decide(1.0), Next::Discard(..)) {
            prop_assert!(!is_keep(&decide(louder)));
        }
    }

    #[test]
    fn a_better_child_is_never_dropped_where_a_worse_one_is_kept(pairs in differences(5), better in 0.0..0.2_f64) {
        let improved: Vec<f64> = pairs.iter().map(|difference| difference - better).collect();
        if is_keep(&next(&[-0.03], &pairs)) {
            prop_assert!(!matches!(next(&[-0.03], &improved), Next::Discard(..)));
        }
    }

    #[test]
    fn replaying_the_evidence_gives_the_same_model(all in prop::collection::vec((differences(3), differences(4)), 0..8)) {
        let replay = || {
            let mut noise = NoiseModel::from_baseline(&BASELINE);
            for (screens, pairs) in &all {
                let screens: Vec<(u64, f64)> = (0..).zip(screens.iter().copied()).collect();
                noise.observe(GROUP, &evidence(&screens, pairs));
            }
            noise
        };
        prop_assert_eq!(replay(), replay());
    }
}
