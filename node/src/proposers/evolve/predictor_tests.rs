//! Tests of the predictor, on machines whose true costs are made up.

use autoswarm_protocol::{CrashClass, EffectiveConfig};

use super::*;
use crate::proposers::evolve::tests::{Shown, config, experiment, machine, with_price};

/// Returns the tokens a second of a machine whose coefficients differ from the first guess by these factors.
fn true_speed(config: &EffectiveConfig, factors: [f64; 3]) -> f64 {
    let machine = machine();
    let [a, b, c] = features(config, &machine);
    1.0 / (factors[0] * a / machine.flops_per_second
        + factors[1] * b / machine.bytes_per_second
        + factors[2] * c * machine.launch_seconds)
}

const SHAPES: [&str; 10] = [
    "depth=2 width=64 sequence_length=128 batch_tokens=2048",
    "depth=2 width=64 sequence_length=128 batch_tokens=512",
    "depth=4 width=64 sequence_length=128 batch_tokens=4096",
    "depth=2 width=128 sequence_length=128 batch_tokens=2048",
    "depth=4 width=128 sequence_length=256 batch_tokens=4096",
    "depth=1 width=32 sequence_length=64 batch_tokens=1024",
    "depth=6 width=192 sequence_length=256 batch_tokens=8192",
    "depth=3 width=96 sequence_length=64 batch_tokens=2048",
    "depth=2 width=64 sequence_length=512 batch_tokens=2048",
    "depth=4 width=256 sequence_length=256 batch_tokens=4096",
];

#[track_caller]
fn check(factors: [f64; 3], measured: usize, worst: f64) {
    let mut ledger = Ledger::default();
    for (number, shape) in SHAPES.iter().take(measured).enumerate() {
        let config = config(shape);
        let speed = true_speed(&config, factors);
        let parent = (number > 0).then(|| self::config(SHAPES[0]));
        let crash = Shown::Crash(CrashClass::Failed);
        ledger.observe(&with_price(experiment(number as u32, parent.as_ref(), &config, "", crash), speed, 0));
    }
    let predictor = Predictor::new(machine(), 20.0, &ledger);
    for (place, shape) in SHAPES.iter().enumerate() {
        let config = config(shape);
        let (predicted, truth) = (predictor.predict(&config).tokens_per_second, true_speed(&config, factors));
        let error = (predicted / truth).ln().abs();
        let bound = if place < measured { 1e-9 } else { worst };
        assert!(error <= bound, "{shape}: {predicted} for {truth}");
    }
}

#[test]
fn prices_correct_the_prediction() {
    check([1.0, 1.0, 1.0], 0, 1e-9);
    check([3.0, 3.0, 3.0], 1, 1e-6);
    check([3.0, 0.5, 2.0], 6, 0.25);
    check([0.3, 4.0, 10.0], 6, 0.25);
}

#[test]
fn larger_models_are_slower_and_larger() {
    let ledger = Ledger::default();
    let predictor = Predictor::new(machine(), 20.0, &ledger);
    let mut last = (f64::INFINITY, 0.0);
    for width in [32, 64, 128, 256, 512] {
        let config = config(&format!("depth=4 width={width} sequence_length=128 batch_tokens=2048"));
        let prediction = predictor.predict(&config);
        assert!(prediction.tokens_per_second < last.0 && prediction.memory_bytes > last.1);
        last = (prediction.tokens_per_second, prediction.memory_bytes);
    }
}

#[test]
fn memory_is_scaled_by_what_runs_took() {
    let first = config(SHAPES[0]);
    let plain = memory_bytes(&first, &machine());
    let mut ledger = Ledger::default();
    let experiment = experiment(0, None, &first, "", Shown::Discard(0.0));
    ledger.observe(&with_price(experiment, 5e4, (2.0 * plain) as u64));
    let predicted = Predictor::new(machine(), 20.0, &ledger).predict(&first).memory_bytes / plain;
    assert!((1.4..=2.0).contains(&predicted), "{predicted}");
}

#[track_caller]
fn check_misfit(change: &str, memory_bytes: u64, expected: Option<Misfit>) {
    let ledger = Ledger::default();
    let machine = Machine { memory_bytes, ..machine() };
    let child = config(&format!("{} {change}", SHAPES[0]));
    assert_eq!(Predictor::new(machine, 20.0, &ledger).misfit(&child, &config(SHAPES[0])), expected);
}

#[test]
fn what_cannot_work_is_rejected_with_its_reason() {
    check_misfit("depth=3", 8 << 30, None);
    check_misfit("matrix_lr=0.02", 1, None); // as large as the incumbent, which ran
    check_misfit("batch_tokens=262144", 1 << 30, Some(Misfit::Memory));
    check_misfit("batch_tokens=1048576", 64 << 30, Some(Misfit::Steps));
    check_misfit("depth=12 width=1024", 64 << 30, Some(Misfit::Steps));
    check_misfit("depth=6 width=128 batch_tokens=256", 64 << 30, Some(Misfit::Tokens));
}
