//! Tests of the budget: seconds become tokens, and the caps hold when a config takes longer than its price.

use std::time::Instant;

use autoswarm_protocol::{CrashClass, TrainerEvent};
use autoswarm_trainer::harness::budget::{Budget, Deadline};

use crate::support::{check_class, observe, settings, tiny};

#[test]
fn seconds_are_paid_in_tokens() {
    let mut run = settings(tiny(""), 0, 1);
    run.budget = Budget::Seconds(1.0);
    run.cap_seconds = Some(60.0); // a busy machine must not fail this test
    let (result, events) = observe(&run);
    let report = result.expect("a run");
    let priced = events.iter().find_map(|event| match event {
        TrainerEvent::Priced { tokens_per_second, tokens, cpu_share, .. } => {
            Some((*tokens_per_second, *tokens, *cpu_share))
        }
        _ => None,
    });
    let (rate, tokens, cpu_share) = priced.expect("a price");
    assert_eq!(report.tokens, tokens);
    assert_eq!(report.tokens, report.steps * 512);
    assert!((tokens as f64 - rate).abs() <= 256.0 + 1.0, "{tokens} of {rate}");
    assert!(cpu_share > 0.0 && cpu_share <= 1.0, "{cpu_share}");
}

#[test]
fn a_replay_by_tokens_repeats_a_run_by_seconds() {
    let mut run = settings(tiny(""), 0, 1);
    run.budget = Budget::Seconds(0.2);
    run.cap_seconds = Some(60.0);
    let by_seconds = observe(&run).0.expect("a run");
    run.budget = Budget::Tokens(by_seconds.tokens);
    let by_tokens = observe(&run).0.expect("a run");
    assert_eq!(by_seconds.validation, by_tokens.validation);
    assert_eq!(by_seconds.curve, by_tokens.curve);
}

#[test]
fn a_budget_of_too_few_steps_is_refused() {
    let mut run = settings(tiny(""), 0, 1);
    run.budget = Budget::Seconds(0.01);
    run.min_steps = 1000;
    check_class(&observe(&run).0.expect_err("too slow"), CrashClass::TooSlow);
}

#[test]
fn training_past_its_cap_has_timed_out() {
    let mut run = settings(tiny(""), 512 * 1_000_000, 1);
    run.cap_seconds = Some(0.3);
    let started = Instant::now();
    check_class(&observe(&run).0.expect_err("out of time"), CrashClass::TimedOut);
    assert!(started.elapsed().as_secs_f64() < 10.0);
}

#[test]
fn a_deadline_is_seen_between_the_layers() {
    use autoswarm_trainer::model::Model;
    use tch::{Device, Kind, Tensor};
    let model = Model::new(&tiny("").effective(32), 256, 32, 1, Kind::Float, Device::Cpu);
    let rows = Tensor::zeros([1, 33], (Kind::Int64, Device::Cpu));
    let past = Deadline::after(0.0, CrashClass::TimedOut, "over");
    assert_eq!(model.loss(&rows, None, &past).expect_err("over").class, CrashClass::TimedOut);
}

#[test]
fn a_diverging_run_is_a_crash_and_not_a_number() {
    // Each step moves every weight of the output matrix by 12, and nothing caps the logits.
    let toml = "softcap = 0.0\nunembedding_init = 1.0\nunembedding_lr = 0.5\nlr_width_power = 1.0";
    let failure = observe(&settings(tiny(toml), 512 * 40, 1)).0.expect_err("diverged");
    assert!(matches!(failure.class, CrashClass::Diverged | CrashClass::NotANumber), "{failure:?}");
}
