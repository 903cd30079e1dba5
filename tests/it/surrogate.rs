//! The response surface predicts real runs that it has not seen, and its files fit the committed runs.

#![allow(clippy::print_stdout)] // figures, for `--nocapture`

use autoswarm_tests::{
    chance::Chance,
    simulator::conditions::Targets,
    surrogate::{
        self, Surrogate, optimum,
        runs::{RealRun, parse_config, real_runs},
        scores,
    },
};

/// Rounds of the fit to shuffled runs; the committed fit had 80, as `test-bed fit` does.
const ROUNDS: usize = 60;

/// Returns the runs that gave a number, with their numbers shuffled. Each keeps its tokens, which predict
/// something by themselves.
fn shuffled(runs: Vec<RealRun>) -> Vec<RealRun> {
    let mut runs: Vec<RealRun> = runs.into_iter().filter(|run| run.measured.is_some()).collect();
    let chance = Chance::new(1);
    let mut values: Vec<(f64, f64)> =
        runs.iter().filter_map(|run| run.measured).map(|it| (it.validation, it.audit)).collect();
    for place in (1..values.len()).rev() {
        values.swap(place, (chance.bits(&[place as u64]) % (place as u64 + 1)) as usize);
    }
    for (measured, (validation, audit)) in runs.iter_mut().filter_map(|run| run.measured.as_mut()).zip(values)
    {
        (measured.validation, measured.audit) = (validation, audit);
    }
    runs
}

#[test]
fn unseen_runs_are_predicted_and_shuffled_ones_are_not() {
    let scores = scores::held_out(&surrogate::parameters(), &real_runs());
    println!("{scores:?}");
    assert!(scores.rank.0 > 0.7, "{scores:?}");
    assert!(scores.rank.1 > 0.55, "{scores:?}");
    assert!(scores.rmse_good < 1.1 * scores.spread_good, "{scores:?}");
    assert!(scores.speed < 0.2, "{scores:?}");
    // Only a part of the runs, because the time of a fit grows with their cube.
    let shuffled = shuffled(real_runs().into_iter().step_by(5).collect());
    let parameters = surrogate::fit(&shuffled, ROUNDS, &mut |_, _, _| {});
    let nonsense = scores::held_out(&parameters, &shuffled);
    println!("shuffled: {nonsense:?}");
    assert!(nonsense.rank.0.abs() < 0.3 && nonsense.rank.1.abs() < 0.3, "{nonsense:?}");
    assert!(nonsense.rmse_good > nonsense.spread_good, "{nonsense:?}");
}

#[test]
fn the_committed_parameters_are_what_the_runs_give() {
    let (committed, runs) = (surrogate::parameters(), real_runs());
    let (better, slope) = surrogate::how_fitted(&committed, &runs);
    println!("the likelihood's logarithm grew by {better:.1}, the steepest slope left is {slope:.2}");
    assert!(better > 50.0 && slope < 1.0, "{better} {slope}");
    let (_, steep) = surrogate::how_fitted(&committed, &shuffled(runs.clone()));
    assert!(steep > 100.0 * slope, "other values would have given others: {steep}");
    let noise = surrogate::noise(&committed.level, &runs);
    assert!((committed.noise.sigma / noise.sigma).ln().abs() < 0.01, "{committed:?} {noise:?}");
}

#[test]
fn the_targets_are_the_surfaces() {
    let (surface, targets) = (Surrogate::committed(), Targets::committed());
    let best = parse_config(&targets.config).expect("a config").effective(surrogate::runs::CONTEXT);
    assert!((surface.worth(&surrogate::start()) - targets.start).abs() < 1e-6);
    assert!((surface.worth(&best) - targets.best).abs() < 1e-6);
    let (_, found) = optimum::best_known(&surface, 4);
    println!("start {:.4}, best known {:.4}, four climbs {found:.4}", targets.start, targets.best);
    assert!(found > targets.best - 0.02 * targets.gain(1.0), "{found}");
    assert!(found < targets.start - 0.5 * targets.gain(1.0), "{found}");
}
