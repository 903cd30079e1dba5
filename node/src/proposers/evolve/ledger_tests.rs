//! Tests of the ledger, on short made-up histories.

use super::*;
use crate::proposers::evolve::tests::{Shown, config, experiment, with_price};

const KEPT: Shown = Shown::Keep(-0.03, 0.004);

/// Returns a baseline, a keep, a discard against it, a late one against the baseline, a crash, a second keep.
fn history() -> Vec<Experiment> {
    let [base, lower, wide, deep, huge, last] = [
        "",
        "matrix_lr=0.02",
        "matrix_lr=0.02 width=160",
        "depth=5",
        "matrix_lr=0.02 width=4096",
        "matrix_lr=0.02 softcap=20",
    ]
    .map(config);
    vec![
        experiment(0, None, &base, "", Shown::Discard(0.0)),
        experiment(1, Some(&base), &lower, "scale: a reason", KEPT),
        experiment(2, Some(&lower), &wide, "model: a reason", Shown::Discard(0.01)),
        experiment(3, Some(&base), &deep, "no operator", Shown::Discard(0.02)),
        experiment(4, Some(&lower), &huge, "", Shown::Crash(CrashClass::OutOfMemory)),
        experiment(5, Some(&lower), &last, "", Shown::Keep(-0.01, 0.003)),
    ]
}

#[test]
fn scores_are_relative_to_the_baseline_whatever_the_parent() {
    let ledger = Ledger::from_experiments(&history());
    let scores: Vec<Option<f64>> = ledger.trials().map(|trial| trial.score).collect();
    let expected = [Some(-0.03), Some(-0.02), Some(0.02), None, Some(-0.04)];
    for (score, expected) in scores.iter().zip(expected) {
        assert!(score.zip(expected).map_or(*score == expected, |(a, b)| (a - b).abs() < 1e-12), "{scores:?}");
    }
    let (gain, error) = ledger.gain();
    assert!((gain + 0.04).abs() < 1e-12 && (error - 0.005).abs() < 1e-12, "{gain} ± {error}");
    assert_eq!(ledger.chain().iter().map(|link| link.number).collect::<Vec<_>>(), [0, 1, 5]);
    assert_eq!(ledger.incumbent(), Some(&config("matrix_lr=0.02 softcap=20")));
    assert_eq!(ledger.baseline(), Some(&config("")));
}

#[test]
fn counts_operators_and_ruled_out_changes_are_kept() {
    let ledger = Ledger::from_experiments(&history());
    assert_eq!(ledger.counts(), TrialCounts { keeps: 2, discards: 2, crashes: 1 });
    assert_eq!(ledger.since_keep(), 0);
    let operators: Vec<Option<Operator>> = ledger.trials().map(|trial| trial.operator).collect();
    assert_eq!(operators[..3], [Some(Operator::Scale), Some(Operator::Model), None]);
    let ruled_out: Vec<String> = ledger.ruled_out().map(|trial| trial.patch.to_string()).collect();
    assert_eq!(ruled_out, ["width 128 → 160", "depth 4 → 5"]);
    assert_eq!(ledger.tries_of(Knob::Width), 2);
    assert!(ledger.untried(KnobGroup::Shape).all(|knob| knob != Knob::Width && knob != Knob::Depth));
    assert!(ledger.untried(KnobGroup::Shape).any(|knob| knob == Knob::HeadDim));
}

#[test]
fn a_config_is_closed_once_judged_but_not_by_one_fault_of_the_machine() {
    let ledger = Ledger::from_experiments(&history());
    for text in ["", "matrix_lr=0.02", "depth=5", "matrix_lr=0.02 width=4096"] {
        assert!(ledger.is_closed(config(text).hash()), "{text}");
    }
    assert!(!ledger.is_closed(config("depth=6").hash()));
    let spoiled = |number| {
        experiment(number, Some(&config("")), &config("depth=6"), "", Shown::Crash(CrashClass::Killed))
    };
    let mut ledger = Ledger::from_experiments(&history());
    ledger.observe(&spoiled(6));
    assert!(!ledger.is_closed(config("depth=6").hash()));
    ledger.observe(&spoiled(7));
    assert!(ledger.is_closed(config("depth=6").hash()));
    assert_eq!(ledger.attempts(config("depth=6").hash()), 2);
}

#[test]
fn a_new_baseline_begins_a_new_chain_and_remembers_crashes_and_prices() {
    let mut ledger = Ledger::from_experiments(&history());
    let restart = experiment(6, None, &config("depth=3"), "", Shown::Discard(0.0));
    ledger.observe(&with_price(restart, 1000.0, 5));
    assert_eq!(ledger.trials().len(), 0);
    assert_eq!(ledger.gain(), (0.0, 0.0));
    assert_eq!(ledger.incumbent(), Some(&config("depth=3")));
    assert!(ledger.is_closed(config("matrix_lr=0.02 width=4096").hash()));
    assert!(!ledger.is_closed(config("depth=5").hash()));
    assert_eq!(ledger.prices().len(), 1);
}

#[test]
fn prices_are_means_and_share_a_shape() {
    let base = config("");
    let mut ledger = Ledger::default();
    ledger.observe(&with_price(experiment(0, None, &base, "", Shown::Discard(0.0)), 1000.0, 7));
    let child = config("matrix_lr=0.02");
    ledger.observe(&with_price(experiment(1, Some(&base), &child, "", KEPT), 2000.0, 9));
    let price = &ledger.prices()[&base.speed_hash()];
    assert_eq!((price.tokens_per_second, price.peak_memory_bytes, price.runs), (1500.0, 9, 2));
    assert_eq!(ledger.trials().next().and_then(|trial| trial.tokens_per_second), Some(2000.0));
}

#[test]
fn the_noise_of_a_pair_is_learned_by_group() {
    let ledger = Ledger::default();
    assert!((ledger.pair_sd(KnobGroup::Init) - FIRST_PAIR_SD).abs() < 1e-12);
    let base = config("");
    let mut ledger = Ledger::from_experiments(&[experiment(0, None, &base, "", Shown::Discard(0.0))]);
    for number in 1..30 {
        let child = config(&format!("matrix_lr=0.0{}", 10 + number));
        ledger.observe(&experiment(number, Some(&base), &child, "", Shown::Keep(-0.001, 0.001)));
    }
    let (seen, other) = (ledger.pair_sd(KnobGroup::Optimizer), ledger.pair_sd(KnobGroup::Shape));
    assert!(seen < 0.005 && other < FIRST_PAIR_SD, "{seen} {other}");
}
