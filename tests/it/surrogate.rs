//! The response surface: how well it predicts real runs that it has not seen, and that its committed parameters and targets
//! are what the committed runs give.

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

/// Rounds of the committed fit: `test-bed fit`'s own number.
const ROUNDS: usize = 60;

/// The runs with their values dealt out anew.
fn shuffled(mut runs: Vec<RealRun>) -> Vec<RealRun> {
    let chance = Chance::new(1);
    let mut measured: Vec<_> = runs.iter().map(|run| run.measured).collect();
    for place in (1..measured.len()).rev() {
        measured.swap(place, (chance.bits(&[place as u64]) % (place as u64 + 1)) as usize);
    }
    for (run, measured) in runs.iter_mut().zip(measured) {
        run.measured = measured;
    }
    runs
}

#[test]
fn unseen_runs_are_predicted_and_shuffled_ones_are_not() {
    let runs = real_runs();
    let scores = scores::held_out(&surrogate::parameters(), &runs);
    println!("{scores:?}");
    assert!(scores.rank.0 > 0.7, "{scores:?}");
    assert!(scores.rank.1 > 0.55, "{scores:?}");
    assert!(scores.rmse_good < 1.1 * scores.spread_good, "{scores:?}");
    assert!(scores.speed < 0.2, "{scores:?}");
    let shuffled = shuffled(runs);
    let parameters = surrogate::fit(&shuffled, ROUNDS, &mut |_, _, _| {});
    let nonsense = scores::held_out(&parameters, &shuffled);
    println!("shuffled: {nonsense:?}");
    assert!(nonsense.rank.0.abs() < 0.3 && nonsense.rank.1.abs() < 0.3, "{nonsense:?}");
    assert!(nonsense.rmse_good > nonsense.spread_good, "{nonsense:?}");
}

#[test]
fn the_committed_parameters_are_what_the_runs_give() {
    let (committed, fitted) =
        (surrogate::parameters(), surrogate::fit(&real_runs(), ROUNDS, &mut |_, _, _| {}));
    // Sums in another order differ in the last digits, and the fit's steps follow signs.
    let near = |a: f64, b: f64| (a.max(1e-9) / b.max(1e-9)).ln().abs() < 0.05;
    for (a, b) in committed.level.weights.iter().zip(&fitted.level.weights) {
        assert!(near(*a, *b), "{a} {b}");
    }
    assert!(near(committed.level.noise, fitted.level.noise), "{committed:?} {fitted:?}");
    assert!(near(committed.noise.sigma, fitted.noise.sigma), "{committed:?} {fitted:?}");
}

#[test]
fn the_targets_are_the_surfaces() {
    let (surface, targets) = (Surrogate::committed(), Targets::committed());
    let best = parse_config(&targets.config).expect("a config").effective(surrogate::runs::CONTEXT);
    assert!((surface.worth(&surrogate::start()) - targets.start).abs() < 1e-6);
    assert!((surface.worth(&best) - targets.best).abs() < 1e-6);
    let (_, found) = optimum::best_known(&surface, 2);
    println!("start {:.4}, best known {:.4}, two climbs {found:.4}", targets.start, targets.best);
    assert!(found > targets.best - 0.02 * targets.gain(1.0), "{found}");
    assert!(found < targets.start - 0.5 * targets.gain(1.0), "{found}");
}
