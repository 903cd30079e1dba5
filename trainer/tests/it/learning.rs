//! Tests that a model learns, that the seed decides everything, and that the report adds up.

use autoswarm_protocol::{
    Knob, RunReport, Split, TrainerEvent,
    outcome::early_losses,
    pruning::{self, PruneBounds},
};
use autoswarm_trainer::{
    harness::{
        budget::{Deadline, Watch},
        dataset::Dataset,
    },
    learner::Learner,
    model::{Model, Role, Shape},
    train::{self, Ended, TrainSettings},
};
use tch::{Device, Kind};

use crate::support::{RULE, config, data, observe, report, settings, tiny, trajectory};

/// The number of tokens of a run that has one step for each point of its curve.
const LONG: u64 = 512 * 64;

#[test]
fn a_run_that_is_behind_stops_at_that_look_and_one_that_is_not_is_the_same() {
    let whole = report(&settings(tiny(""), LONG, 1));
    let early = early_losses(&whole).expect("long enough");
    let pruned = |bounds: [f64; 3]| {
        let settings = TrainSettings { prune: Some(PruneBounds(bounds)), ..settings(tiny(""), LONG, 1) };
        train::run(&settings, &Watch::default(), &mut |_| {}).expect("no failure")
    };
    // With bounds just above its own losses the run goes on, and nothing else changes.
    let Ended::Finished(kept) = pruned(early.map(|loss| loss + 1e-9)) else { panic!("it was stopped") };
    assert_eq!(trajectory(&whole), trajectory(&kept));
    let Ended::Pruned(stopped) = pruned([f64::INFINITY, early[1] - 1e-9, f64::INFINITY]) else {
        panic!("it was not stopped")
    };
    assert_eq!((stopped.step, stopped.steps, stopped.tokens), (pruning::PRUNE_POINTS[1], 64, LONG));
    assert_eq!(stopped.loss.to_bits(), early[1].to_bits());
    assert!(stopped.loss > stopped.bound);
}

#[test]
fn an_untrained_model_knows_nothing() {
    let report = report(&settings(tiny(""), 512, 1));
    assert!((report.initial_loss - 256f64.ln()).abs() < 0.01, "{}", report.initial_loss);
}

#[test]
fn the_curve_falls() {
    let report = report(&settings(tiny(""), 512 * 40, 1));
    let last = report.curve.last().expect("a curve").loss;
    assert!(last < 0.5 * report.initial_loss, "{last} after {}", report.initial_loss);
    assert!(report.validation.get() < 4.0, "{}", report.validation);
}

#[test]
fn one_batch_is_learned_by_heart() {
    let dataset = Dataset::open(data()).expect("prepared");
    let config = tiny("batch_tokens = 256\nsoftcap = 0.0\nmatrix_decay = 0.0").effective(32);
    let mut loss = f64::INFINITY;
    let mut learner = Learner::new(&config, &dataset, 32, 1, Kind::Float, Device::Cpu).expect("a learner");
    for _ in 0..150 {
        learner.rewind();
        loss = learner.step(0.0, &Deadline::never()).expect("a step").double_value(&[]);
    }
    assert!(loss < 0.05, "{loss}");
}

#[test]
fn the_same_seed_gives_the_same_bits() {
    for toml in ["", "dropout = 0.2\nhead = \"tied\"\nembedding_init = 0.02"] {
        let run = |seed| report(&settings(tiny(toml), 512 * 4, seed));
        let without_times = |report: RunReport| RunReport {
            training_seconds: 0.0,
            training_cpu_seconds: 0.0,
            startup_seconds: 0.0,
            evaluation_seconds: 0.0,
            peak_memory_bytes: 0,
            ..report
        };
        let first = without_times(run(7));
        assert_eq!(first, without_times(run(7)), "{toml}");
        assert_ne!(trajectory(&first), trajectory(&run(8)), "{toml}");
    }
}

#[test]
fn the_report_adds_up_and_names_what_ran() {
    let requested = tiny("width = 20\nkv_group = 8");
    let mut settings = settings(requested.clone(), 512 * 5 + 100, 3);
    settings.splits = vec![Split::Audit, Split::Locked];
    let (result, events) = observe(&settings);
    let report = result.expect("a run");
    assert_eq!((report.steps, report.tokens), (5, 512 * 5));
    assert_eq!(report.executed, requested.effective(RULE.context).hash());
    let Some(TrainerEvent::Starting { config, flops_per_token, parameters, .. }) = events.first() else {
        panic!("a run starts with `starting`: {events:?}");
    };
    assert_eq!(*config, report.executed);
    assert!((report.flops / (flops_per_token * report.tokens as f64) - 1.0).abs() < 1e-12);
    assert_eq!(report.parameters, *parameters);
    assert_eq!(report.curve.len(), 5);
    assert!(report.training_seconds > 0.0 && report.training_cpu_seconds > 0.0);
    let (audit, locked) = (report.audit.expect("asked for"), report.locked.expect("asked for"));
    assert!(audit != locked && audit != report.validation);
}

#[test]
fn events_come_in_their_order() {
    let (_, events) = observe(&settings(tiny(""), 512 * 3, 1));
    let order: Vec<u8> = events
        .iter()
        .map(|event| match event {
            TrainerEvent::Starting { .. } => 0,
            TrainerEvent::TrainingStarted { steps, tokens, .. } => {
                assert_eq!((*steps, *tokens), (3, 512 * 3));
                1
            }
            TrainerEvent::Progress { .. } => 2,
            TrainerEvent::Evaluating { .. } => 3,
            other => panic!("{other:?} has no place here"),
        })
        .collect();
    assert!(order.is_sorted(), "{order:?}");
    assert_eq!((order.first(), order.last()), (Some(&0), Some(&3)));
}

#[test]
fn micro_batches_change_nothing_but_rounding() {
    let whole = report(&settings(tiny(""), 512 * 3, 1));
    let parts = report(&settings(tiny("micro_batch_tokens = 256"), 512 * 3, 1));
    for (a, b) in whole.curve.iter().zip(&parts.curve) {
        assert!((a.loss - b.loss).abs() < 1e-3, "{} and {}", a.loss, b.loss);
    }
}

#[test]
fn bf16_learns_what_f32_learns() {
    let mut in_bf16 = settings(tiny(""), 512 * 20, 1);
    in_bf16.dtype = autoswarm_trainer::device::Dtype::Bf16;
    let (narrow, wide) = (report(&in_bf16), report(&settings(tiny(""), 512 * 20, 1)));
    assert_eq!((narrow.dtype.as_str(), wide.dtype.as_str()), ("bf16", "f32"));
    assert!(
        (narrow.validation.get() - wide.validation.get()).abs() < 0.1,
        "{} {}",
        narrow.validation,
        wide.validation
    );
}

fn parameter(toml: &str, role: Role) -> tch::Tensor {
    let config = tiny(toml).effective(32);
    let model = Model::new(&config, 256, 32, 5, Kind::Float, Device::Cpu);
    model.parameters.expect(role).detach()
}

#[test]
fn initial_values_survive_changes_elsewhere() {
    // A change of scale only scales, and other knobs leave every bit as it was.
    assert!(
        parameter("", Role::MlpIn).equal(&parameter("activation = \"gelu\"\nmatrix_lr = 0.01", Role::MlpIn))
    );
    assert!((parameter("", Role::MlpIn) * 2.0).allclose(
        &parameter("matrix_init = 2.0", Role::MlpIn),
        1e-6,
        0.0,
        false
    ));
    // A deeper model keeps its first layers, and its value embeddings counted from the last.
    let deeper = parameter("depth = 4", Role::AttentionIn);
    assert!(parameter("", Role::AttentionIn).equal(&deeper.narrow(0, 0, 2)));
    let deeper = parameter("depth = 4", Role::ValueEmbedding);
    assert!(parameter("", Role::ValueEmbedding).equal(&deeper.narrow(0, 1, 1)));
    // Another seed draws other values.
    let other = Model::new(&tiny("").effective(32), 256, 32, 6, Kind::Float, Device::Cpu);
    assert!(!parameter("", Role::MlpIn).equal(other.parameters.expect(Role::MlpIn)));
}

#[test]
fn the_default_config_has_the_parameters_of_its_table() {
    let config = config("").effective(256);
    let shape = Shape::new(&config, 256, 256);
    // Four blocks of 12 · 128², two tables of 256 · 128, two value embeddings, their gates, and two factors
    // per block.
    let expected = 4 * 12 * 128 * 128 + 2 * 256 * 128 + 2 * 256 * 128 + 2 * 4 * 32 + 8;
    assert_eq!(Model::parameter_count(&config, &shape), expected);
    assert_eq!(config.integer(Knob::Depth), 4);
}
