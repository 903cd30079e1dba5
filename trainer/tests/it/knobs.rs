//! Tests every knob of the table, at its lowest value, its highest value and each of its names.
//!
//! Each value builds, trains and evaluates, and each knob changes the result.

use autoswarm_protocol::{
    Knob, TrainConfig, Value,
    knobs::{Domain, KNOBS, KnobRow},
};

use crate::support::{RULE, report, settings, tiny, trajectory};

/// Returns the other settings that a knob needs to have an effect.
fn companion(knob: Knob) -> &'static str {
    use Knob as K;
    match knob {
        K::WidthRounding => "head_dim = 32\nwidth = 48",
        K::WindowPattern => "depth = 5",
        K::ShortWindow => "window_pattern = \"S\"",
        K::MatrixBeta1 | K::MatrixBeta2 => "matrix_optimizer = \"adamw\"\nmatrix_lr = 0.003",
        K::ValueEmbeddings => "depth = 3",
        K::CautiousDecay => "matrix_decay = 1.0",
        _ => "",
    }
}

/// Returns the values to try: both ends of the range and every name, except what a test cannot afford.
fn values(row: &KnobRow) -> Vec<Value> {
    let (low, high) = row.domain.bounds();
    match (row.knob, row.domain) {
        (Knob::Width, _) => vec![low, Value::Integer(256)], // 4096 take minutes and 4 GB
        (Knob::BatchTokens, _) => vec![low, Value::Integer(4096)], // 2,097,152 take minutes
        (Knob::Depth, _) => vec![low, Value::Integer(12)],
        // The highest bound may be above all norms that occur.
        (Knob::GradientClip, _) => vec![low, Value::Number(0.1), high],
        (_, Domain::Choice(names)) => (0..names.len() as u8).map(Value::Choice).collect(),
        _ => vec![low, high],
    }
}

/// Runs three steps. Returns the hash of the executed config, and the trajectory.
fn outcome(config: &TrainConfig) -> (String, (Vec<u64>, u64)) {
    let effective = config.effective(RULE.context);
    let tokens = effective.sequences_per_step() * effective.integer(Knob::SequenceLength);
    let report = report(&settings(config.clone(), 3 * tokens as u64, 1));
    assert_eq!(report.executed, effective.hash());
    assert_eq!(report.steps, 3);
    (report.executed.to_string(), trajectory(&report))
}

#[track_caller]
fn check(row: &KnobRow) {
    let base = tiny(companion(row.knob));
    let (base_hash, base_trajectory) = outcome(&base);
    let mut matters = false;
    for value in values(row) {
        let changed = base.with(row.knob, value).expect("in range");
        let text = value.display(row.knob);
        let (hash, trajectory) = outcome(&changed);
        if hash == base_hash {
            assert_eq!(trajectory, base_trajectory, "{} = {text}: one config, two trajectories", row.name);
        }
        matters |= trajectory != base_trajectory;
    }
    assert!(matters, "no value of `{}` changes the trajectory", row.name);
}

fn check_group(ids: std::ops::Range<u16>) {
    let rows: Vec<&KnobRow> = KNOBS.iter().filter(|row| ids.contains(&row.knob.id())).collect();
    assert!(!rows.is_empty());
    rows.into_iter().for_each(check);
}

#[test]
fn every_shape_knob_matters() {
    check_group(1..100);
}

#[test]
fn every_schedule_knob_matters() {
    check_group(100..200);
}

#[test]
fn every_optimizer_knob_matters() {
    check_group(200..300);
}

#[test]
fn every_init_knob_matters() {
    check_group(300..u16::MAX);
}
