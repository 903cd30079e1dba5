//! What `experiments` and `status` print, of a few experiments made here.

use autoswarm_protocol::{
    Bpb, CrashClass, Estimate, Hypothesis, Outcome, Patch, Proposer, RunReport,
    experiment::DiscardReason,
    id::{ArenaId, CorpusHash, TokenizerHash},
    outcome::Crash,
};

use super::*;
use crate::{events::rows::ExperimentFilter, ui::view::frame::tests::snapshot};

fn run(
    role: RunRole,
    pair: Option<u16>,
    outcome: Outcome,
    config: &autoswarm_protocol::EffectiveConfig,
) -> Run {
    Run {
        role,
        requested: config.hash(),
        seed: 1234,
        tokens: Some(812_032),
        pair,
        slot: 0,
        started_at: 1_795_219_384,
        outcome,
    }
}

fn experiment(number: u32, change: &str, verdict: Verdict) -> Experiment {
    let parent = TrainConfig::default();
    let patch = Patch::parse(change, &parent).expect("a patch");
    let config = patch.apply(&parent).expect("applies").effective(256);
    let report = RunReport {
        executed: config.hash(),
        seed: 1234,
        corpus: CorpusHash::of(b"c"),
        tokenizer: TokenizerHash::of(b"t"),
        semantics: 1,
        device: "cpu".to_owned(),
        dtype: "f32".to_owned(),
        threads: 2,
        steps: 99,
        tokens: 812_032,
        flops: 1e12,
        parameters: 100_000,
        training_seconds: 20.04,
        training_cpu_seconds: 39.9,
        startup_seconds: 0.8,
        evaluation_seconds: 2.0,
        peak_memory_bytes: 300 << 20,
        initial_loss: 5.545,
        curve: vec![],
        validation: Bpb::new(2.1034).expect("positive"),
        audit: Some(Bpb::new(2.2034).expect("positive")),
        locked: None,
    };
    let finished = Outcome::Finished(Box::new(report));
    let crashed =
        Outcome::Crashed(Crash { class: CrashClass::Killed, message: "signal 9".to_owned(), seconds: 3.0 });
    Experiment {
        number,
        arena: ArenaId::of(b"arena"),
        parent: Some(parent.effective(256).hash()),
        attempt: 0,
        hypothesis: Hypothesis {
            proposer: Proposer::Evolve,
            because: "nearer to\u{1b}[31m the last win".to_owned(),
            patch,
            simplifies: number == 2,
            inspired_by: vec![],
        },
        group: autoswarm_protocol::KnobGroup::Shape,
        screens: vec![],
        runs: vec![
            run(RunRole::Screen, None, finished.clone(), &config),
            run(RunRole::Child, Some(0), finished, &config),
            run(RunRole::Incumbent, Some(0), crashed, &config),
        ],
        config,
        verdict,
        started_at: 1_795_219_384,
        finished_at: 1_795_219_464 + u64::from(number) * 100,
    }
}

pub(crate) fn several() -> Vec<Experiment> {
    let estimate = Estimate { delta: -0.0213, standard_error: 0.0031, pairs: 3 };
    vec![
        experiment(0, "depth 2", Verdict::Baseline),
        experiment(1, "depth 3", Verdict::Keep { estimate, audit: Some(estimate) }),
        experiment(
            2,
            "depth 3, width 160, matrix_lr 0.03, warmdown 0.7",
            Verdict::Discard { reason: DiscardReason::NoGain, screened: Some(0.0112), estimate: None },
        ),
        experiment(
            3,
            "depth 12",
            Verdict::Crash { class: CrashClass::OutOfMemory, message: "9 GB".to_owned() },
        ),
    ]
}

const NOW: u64 = 1_795_220_000;

fn rows(verdict: Option<&str>, limit: u32) -> Vec<ExperimentRow> {
    ExperimentFilter { verdict: verdict.map(str::to_owned), limit }.apply(several().iter())
}

#[test]
fn a_list_at_a_hundred_columns() {
    insta::assert_snapshot!(table(&rows(None, 30), NOW, 100));
}

#[test]
fn a_list_at_sixty_columns() {
    insta::assert_snapshot!(table(&rows(None, 30), NOW, 60));
}

#[test]
fn an_empty_list_says_so() {
    assert_eq!(table(&[], NOW, 80), "no experiments yet\n");
}

#[test]
fn filters_keep_the_newest_in_order() {
    let numbers = |rows: Vec<ExperimentRow>| rows.iter().map(|row| row.number).collect::<Vec<_>>();
    assert_eq!(numbers(rows(None, 2)), [2, 3]);
    assert_eq!(numbers(rows(Some("keep"), 30)), [1]);
    assert_eq!(numbers(rows(Some("moon"), 30)), [0; 0]);
}

#[test]
fn one_experiment_shows_everything() {
    insta::assert_snapshot!(show(&several()[1]));
}

#[test]
fn rows_survive_json() {
    let rows = rows(None, 30);
    let text = serde_json::to_string(&rows).expect("JSON");
    assert_eq!(serde_json::from_str::<Vec<ExperimentRow>>(&text).expect("rows"), rows);
}

#[test]
fn a_status_of_a_running_node() {
    insta::assert_snapshot!(status(&snapshot(), 80));
}

#[test]
fn a_status_at_rest() {
    insta::assert_snapshot!(at_rest(&HomeAtRest::of(&several(), 2), NOW, 80));
}
