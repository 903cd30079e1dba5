//! Tests of what a trainer may say, and when: tables of lines, ticks and exits with their verdicts.

use autoswarm_protocol::{Bpb, outcome::CurvePoint, pruning::PRUNE_POINTS};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn limits() -> Limits {
    Limits {
        startup: 10 * SECOND,
        cap: 20 * SECOND,
        grace: SECOND,
        evaluation: 30 * SECOND,
        silence: 15 * SECOND,
        memory_bytes: 1000 << 20,
    }
}

fn expected() -> ExpectedReport {
    ExpectedReport {
        config: ConfigHash::of(b"config"),
        seed: 3,
        corpus: CorpusHash::of(b"corpus"),
        tokenizer: TokenizerHash::of(b"tokenizer"),
        tokens_per_step: 100,
        tokens: Some(950),
        splits: vec![Split::Validation],
        prune: None,
    }
}

fn report() -> RunReport {
    RunReport {
        executed: ConfigHash::of(b"config"),
        seed: 3,
        corpus: CorpusHash::of(b"corpus"),
        tokenizer: TokenizerHash::of(b"tokenizer"),
        semantics: TRAINER_SEMANTICS,
        device: "cpu".to_owned(),
        dtype: "f32".to_owned(),
        threads: 1,
        steps: 10,
        tokens: 1000,
        flops: 1.0,
        parameters: 1,
        training_seconds: 1.0,
        training_cpu_seconds: 1.0,
        startup_seconds: 1.0,
        evaluation_seconds: 1.0,
        peak_memory_bytes: 1,
        initial_loss: 5.5,
        curve: vec![CurvePoint { step: 10, tokens: 1000, loss: 1.0 }],
        validation: Bpb::new(2.0).expect("positive"),
        audit: None,
        locked: None,
    }
}

const PROGRESS: &str =
    r#"{"event":"progress","step":1,"tokens":100,"loss":1.0,"tokens_per_second":1.0,"seconds":1.0}"#;
const EVALUATING: &str = r#"{"event":"evaluating","split":"validation","done":0,"total":1}"#;
const STARTED: &str = r#"{"event":"training_started","tokens":1000,"steps":10,"cap_seconds":20.0}"#;

fn starting() -> String {
    let config = ConfigHash::of(b"config");
    format!(
        r#"{{"event":"starting","config":"{config}","seed":3,"device":"cpu","threads":1,"parameters":1,"flops_per_token":1.0}}"#
    )
}

fn finished(report: RunReport) -> String {
    serde_json::to_string(&TrainerEvent::Finished { report: Box::new(report) }).expect("a report is JSON")
}

/// Returns the watch of a run that has trained since second 1.
fn training() -> Watch {
    let mut watch = Watch::new(Goal::Train(expected()), limits());
    for line in [starting().as_str(), STARTED] {
        watch.line(line.as_bytes(), SECOND).expect("in order");
    }
    watch
}

#[track_caller]
fn check_report_of(change: impl FnOnce(&mut RunReport), expect: Option<CrashClass>) {
    let mut changed = report();
    change(&mut changed);
    let class = training().line(finished(changed).as_bytes(), SECOND).err().map(|fault| fault.class);
    assert_eq!(class, expect);
}

#[test]
fn only_a_report_of_what_was_asked_for_counts() {
    use CrashClass::{BadOutput, ConfigMismatch};
    check_report_of(|_| (), None);
    check_report_of(|r| r.executed = ConfigHash::of(b"other"), Some(ConfigMismatch));
    check_report_of(|r| r.seed = 4, Some(ConfigMismatch));
    check_report_of(|r| r.corpus = CorpusHash::of(b"other"), Some(ConfigMismatch));
    check_report_of(|r| r.tokenizer = TokenizerHash::of(b"other"), Some(ConfigMismatch));
    check_report_of(|r| r.semantics += 1, Some(ConfigMismatch));
    check_report_of(|r| r.steps = 9, Some(BadOutput));
    check_report_of(|r| (r.steps, r.tokens) = (0, 0), Some(BadOutput));
    check_report_of(|r| (r.steps, r.tokens) = (11, 1100), Some(BadOutput));
    check_report_of(|r| (r.steps, r.tokens) = (9, 900), None);
}

#[test]
fn a_report_without_a_split_that_was_asked_for_is_bad_output() {
    let goal = Goal::Train(ExpectedReport { splits: vec![Split::Validation, Split::Audit], ..expected() });
    let mut watch = Watch::new(goal, limits());
    for line in [starting().as_str(), STARTED] {
        watch.line(line.as_bytes(), SECOND).expect("in order");
    }
    let fault = watch.line(finished(report()).as_bytes(), SECOND).expect_err("no audit");
    assert!(fault.message.contains("lacks the audit split"), "{}", fault.message);
}

#[track_caller]
fn check_line(line: &str, class: CrashClass) {
    let fault = training().line(line.as_bytes(), SECOND).expect_err(line);
    assert_eq!(fault.class, class, "{}", fault.message);
    assert!(fault.message.chars().count() <= MESSAGE);
}

#[test]
fn numbers_that_are_none_are_told_from_garbage() {
    let finished = finished(report());
    for word in ["NaN", "null", "nan", "-Infinity", "inf"] {
        check_line(&PROGRESS.replace("\"loss\":1.0", &format!("\"loss\":{word}")), CrashClass::NotANumber);
        check_line(
            &finished.replace("\"validation\":2.0", &format!("\"validation\":{word}")),
            CrashClass::NotANumber,
        );
    }
    for line in ["NaN", "null", "{", "{\"event\":null}", "{\"event\":\"dance\",\"loss\":null}", "\u{0}"] {
        check_line(line, CrashClass::BadOutput);
    }
    for number in ["0.0", "-1.0", "\"2.0\""] {
        check_line(
            &finished.replace("\"validation\":2.0", &format!("\"validation\":{number}")),
            CrashClass::BadOutput,
        );
    }
}

#[test]
fn events_out_of_turn_are_bad_output() {
    check_line(&starting(), CrashClass::BadOutput);
    check_line(STARTED, CrashClass::BadOutput);
    let mut watch = Watch::new(Goal::Train(expected()), limits());
    for line in [PROGRESS, STARTED, EVALUATING, &finished(report())] {
        assert!(watch.line(line.as_bytes(), SECOND).is_err(), "{line}");
    }
}

#[track_caller]
fn check_tick(mut watch: Watch, lines: &[(&str, u64)], at: f64, expect: Option<CrashClass>) {
    for (line, second) in lines {
        watch.line(line.as_bytes(), *second as u32 * SECOND).expect("in order");
    }
    let class = watch.tick(Duration::from_secs_f64(at), 0).err().map(|fault| fault.class);
    assert_eq!(class, expect, "{lines:?} at {at}");
}

#[test]
fn every_phase_has_its_limit_and_its_grace() {
    use CrashClass::{EvaluationTimedOut, Hung, TimedOut};
    let fresh = || Watch::new(Goal::Train(expected()), limits());
    check_tick(fresh(), &[], 10.9, None);
    check_tick(fresh(), &[], 11.1, Some(Hung));
    check_tick(training(), &[], 15.9, None);
    check_tick(training(), &[], 16.1, Some(Hung));
    check_tick(training(), &[(PROGRESS, 15)], 21.9, None);
    check_tick(training(), &[(PROGRESS, 15)], 22.1, Some(TimedOut));
    let evaluated = [(PROGRESS, 15), (EVALUATING, 20), (EVALUATING, 40)];
    check_tick(training(), &evaluated, 50.9, None);
    check_tick(training(), &evaluated, 51.1, Some(EvaluationTimedOut));
    let done = finished(report());
    check_tick(training(), &[(&done, 15)], 1000.0, None);
}

#[test]
fn memory_is_checked_before_the_clock() {
    let fault = training().tick(100 * SECOND, 1001 << 20).expect_err("too much");
    assert_eq!(fault.class, CrashClass::OutOfMemory);
    assert_eq!(fault.message, "it took 1001 MiB of memory, and a slot has 1000 MiB");
}

#[track_caller]
fn check_exit(exit: Exit, error: Option<&str>, starved: bool, class: CrashClass, words: &str) {
    let fault = training().exited(exit, error, starved).expect_err("no result");
    assert_eq!(fault.class, class);
    assert!(fault.message.contains(words), "{}", fault.message);
}

#[test]
fn an_exit_without_a_result_says_why() {
    use CrashClass::{BadOutput, Failed, Killed, OutOfMemory};
    check_exit(Exit::Code(0), None, false, BadOutput, "without a result");
    check_exit(
        Exit::Code(2),
        Some("no such file"),
        false,
        Failed,
        "code 2; its last error line: no such file",
    );
    check_exit(Exit::Signal(9), None, false, Killed, "signal 9 (kill) ended the trainer");
    check_exit(Exit::Signal(9), None, true, OutOfMemory, "memory ran out");
    check_exit(Exit::Signal(6), Some("std::bad_alloc"), false, OutOfMemory, "std::bad_alloc");
    check_exit(Exit::Signal(11), None, false, Killed, "segmentation fault");
}

#[test]
fn a_result_stands_whatever_the_process_does_after_it() {
    let mut watch = training();
    watch.line(finished(report()).as_bytes(), 2 * SECOND).expect("it fits");
    assert!(!watch.lingers(2 * SECOND) && watch.lingers(4 * SECOND));
    assert!(matches!(watch.exited(Exit::Signal(11), None, false), Ok(LastWord::Report(_))));
}

#[test]
fn after_a_pause_the_trainers_own_clock_blames_nobody() {
    let late = r#"{"event":"failed","class":"timed_out","message":"training passed its hard cap of 20.0 s"}"#;
    for (pause, class) in [(false, CrashClass::TimedOut), (true, CrashClass::Killed)] {
        let mut watch = training();
        if pause {
            watch.note_pause();
        }
        watch.line(late.as_bytes(), 5 * SECOND).expect("in order");
        let fault = watch.exited(Exit::Code(1), None, false).expect_err("it failed");
        assert_eq!(fault.class, class);
        assert!(fault.message.ends_with("hard cap of 20.0 s"), "{}", fault.message);
    }
}

#[track_caller]
fn check_pruned(bounds: Option<PruneBounds>, step: u64, loss: f64, expect: Option<CrashClass>) {
    let goal = Goal::Train(ExpectedReport { prune: bounds, ..expected() });
    let mut watch = Watch::new(goal, limits());
    for line in [starting().as_str(), STARTED] {
        watch.line(line.as_bytes(), SECOND).expect("in order");
    }
    let line = format!(
        r#"{{"event":"raced","raced":{{"step":{step},"steps":64,"tokens":6400,"loss":{loss},"bound":2.0,"training_seconds":1.0,"training_cpu_seconds":1.0,"startup_seconds":0.1}}}}"#
    );
    let class = watch.line(line.as_bytes(), SECOND).err().map(|fault| fault.class);
    assert_eq!(class, expect);
    if expect.is_none() {
        let answer = watch.exited(Exit::Code(0), None, false).expect("an answer");
        assert!(matches!(answer, LastWord::Pruned(pruned) if pruned.step == step), "{answer:?}");
    }
}

#[test]
fn a_run_stops_early_only_for_a_reason_that_it_was_given() {
    let bounds = Some(PruneBounds([3.0, 2.0, f64::INFINITY]));
    check_pruned(bounds, PRUNE_POINTS[0], 3.1, None);
    check_pruned(bounds, PRUNE_POINTS[1], 2.1, None);
    check_pruned(bounds, PRUNE_POINTS[0], 2.9, Some(CrashClass::BadOutput));
    check_pruned(bounds, PRUNE_POINTS[2], 9.0, Some(CrashClass::BadOutput));
    check_pruned(bounds, PRUNE_POINTS[0] + 1, 9.0, Some(CrashClass::BadOutput));
    check_pruned(None, PRUNE_POINTS[0], 9.0, Some(CrashClass::BadOutput));
    check_pruned(bounds, PRUNE_POINTS[0], -1.0, Some(CrashClass::NotANumber));
}
