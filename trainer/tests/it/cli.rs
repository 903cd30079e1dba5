//! Tests of the binary: its output, its exit codes, its files, and its end when a config is far too large.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
    time::Instant,
};

use autoswarm_protocol::{CrashClass, RunReport, TrainerEvent};
use autoswarm_trainer::failure::Failure;

use crate::support::{TINY, check_class, data};

fn trainer(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trainer")).args(args).output().expect("the binary starts")
}

fn write_config(name: &str, toml: &str) -> String {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, toml).expect("the folder is writable");
    path.to_str().expect("a plain path").to_owned()
}

/// Runs `trainer COMMAND` on the tests' corpus with one thread and the arguments `more`.
fn run(command: &str, config: &str, more: &[&str]) -> Output {
    let data = data().to_str().expect("a plain path");
    let mut args = vec![command, "--config", config, "--data", data, "--seed", "1", "--threads", "1"];
    args.extend(["--context", "32", "--evaluation-tokens", "512"]);
    args.extend(more);
    trainer(&args)
}

fn events(output: &Output) -> Vec<TrainerEvent> {
    let text = String::from_utf8(output.stdout.clone()).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

#[track_caller]
fn failure(output: &Output) -> (CrashClass, String) {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    match events(output).pop() {
        Some(TrainerEvent::Failed { class, message }) => (class, message),
        other => panic!("the last event is {other:?}"),
    }
}

fn finished(output: &Output) -> Box<RunReport> {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    match events(output).pop() {
        Some(TrainerEvent::Finished { report }) => report,
        other => panic!("the last event is {other:?}"),
    }
}

#[test]
fn json_lines_go_to_stdout_and_the_summary_to_stderr() {
    let config = write_config("json.toml", TINY);
    let output = run("train", &config, &["--budget-tokens", "2048", "--json"]);
    let report = finished(&output);
    assert_eq!(report.steps, 4);
    assert!(matches!(events(&output).first(), Some(TrainerEvent::Starting { .. })));
    let narration = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(narration.contains(&format!("val_bpb:          {:.6}\n", report.validation)), "{narration}");
}

#[test]
fn without_json_the_summary_is_the_output() {
    let config = write_config("summary.toml", TINY);
    let output = run("train", &config, &["--budget-tokens", "1024"]);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let keys: Vec<&str> = text.lines().map(|line| line.split(':').next().unwrap_or("")).collect();
    let expected = [
        "---",
        "val_bpb",
        "training_seconds",
        "total_seconds",
        "peak_vram_mb",
        "mfu_percent",
        "total_tokens_M",
        "num_steps",
        "num_params_M",
        "depth",
    ];
    assert_eq!(keys, expected);
}

#[test]
fn a_saved_model_evaluates_and_talks() {
    let config = write_config("save.toml", TINY);
    let model = Path::new(env!("CARGO_TARGET_TMPDIR")).join("model.safetensors");
    let model = model.to_str().expect("a plain path");
    let report = finished(&run("train", &config, &["--budget-tokens", "10240", "--json", "--save", model]));

    let data = data().to_str().expect("a plain path");
    let evaluated = trainer(&[
        "evaluate",
        "--model",
        model,
        "--data",
        data,
        "--context",
        "32",
        "--evaluation-tokens",
        "512",
        "--threads",
        "1",
    ]);
    let expected = format!("validation: {:.6}\n", report.validation);
    assert_eq!(String::from_utf8_lossy(&evaluated.stdout), expected, "{evaluated:?}");

    let say = |seed: &str, temperature: &str| {
        let args = ["sample", "--model", model, "--prompt", "let x", "--tokens", "40", "--seed", seed];
        let output = trainer(&[&args[..], &["--temperature", temperature, "--threads", "1"]].concat());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        output.stdout
    };
    assert!(say("1", "1.0").starts_with(b"let x"));
    assert!(say("1", "1.0").len() > 10);
    assert_eq!(say("1", "1.0"), say("1", "1.0"));
    assert_ne!(say("1", "1.0"), say("2", "1.0"));
    assert_eq!(say("1", "0"), say("2", "0"));
}

#[test]
fn a_price_is_printed_and_nothing_is_trained() {
    let config = write_config("price.toml", TINY);
    let output = run("price", &config, &["--budget-seconds", "0.5", "--min-steps", "1", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let [TrainerEvent::Starting { .. }, TrainerEvent::Priced { .. }] = events(&output)[..] else {
        panic!("{output:?}");
    };
}

#[test]
fn a_config_far_too_large_ends_on_time() {
    // One step of this model takes longer than the whole budget, most of it inside one call of libtorch.
    let config =
        write_config("giant.toml", "depth = 12\nwidth = 1024\nsequence_length = 32\nbatch_tokens = 8192");
    let started = Instant::now();
    let (class, message) = failure(&run("train", &config, &["--budget-seconds", "2", "--json"]));
    check_class(&Failure { class, message }, CrashClass::TooSlow);
    let priced = started.elapsed().as_secs_f64();

    let cap = ["--budget-tokens", "1000000", "--cap-seconds", "1", "--json"];
    let started = Instant::now();
    let output = run("train", &config, &cap);
    let (class, message) = failure(&output);
    check_class(&Failure { class, message }, CrashClass::TimedOut);
    let capped = started.elapsed().as_secs_f64();
    // Both times include building 0.6 GB of initial values, which no budget pays for.
    assert!(priced < 20.0 && capped < 20.0, "{priced} {capped}");
}

#[track_caller]
fn check_error(output: &Output, expected: &str) {
    let (class, message) = failure(output);
    assert_eq!(class, CrashClass::Failed);
    assert!(message.contains(expected), "{message}");
    assert!(!message.contains('\n'));
}

#[test]
fn bad_input_gives_one_clear_error() {
    let good = write_config("good.toml", TINY);
    let bad = write_config("bad.toml", "depht = 3");
    let more = &["--budget-tokens", "512", "--json"][..];
    check_error(&run("train", &bad, more), "unknown knob `depht`; did you mean `depth`?");
    check_error(&run("train", "/nowhere/c.toml", more), "cannot read the config `/nowhere/c.toml`");
    let elsewhere = ["train", "--config", &good, "--data", "/nowhere", "--budget-tokens", "512", "--json"];
    check_error(&trainer(&elsewhere), "`/nowhere` is not a prepared dataset; run `trainer prepare");
    check_error(&run("train", &good, &[more, &["--device", "cuda:99"]].concat()), "device cuda:99");
    check_error(&run("train", &good, &[more, &["--device", "mps"]].concat()), "device mps is not there");
    check_error(
        &run("train", &good, &[more, &["--save", "/nowhere/m"]].concat()),
        "cannot save the model to `/nowhere/m`",
    );
}

#[test]
fn wrong_usage_is_exit_code_two() {
    for args in [
        &["train", "--config", "x", "--data", "y"][..],
        &["train", "--config", "x", "--data", "y", "--budget-seconds", "1", "--budget-tokens", "1"],
        &["train", "--config", "x", "--data", "y", "--budget-seconds", "-1"],
        &["train", "--config", "x", "--data", "y", "--budget-tokens", "1", "--device", "gpu"],
        &["train", "--config", "x", "--data", "y", "--budget-tokens", "1", "--splits", "train"],
        &["bench", "--shape", "1,2,3"],
        &["dance"],
    ] {
        let output = trainer(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn bench_prints_json() {
    let output =
        trainer(&["bench", "--shape", "1,32,32,4,256", "--seconds", "0.1", "--threads", "1", "--json"]);
    let line: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one line of JSON");
    assert!(line["tokens_per_second"].as_f64().is_some_and(|rate| rate > 0.0), "{line}");
    for (part, backward) in [("mlp", true), ("attention", true), ("head", true), ("matrices", false)] {
        let (forward, gradient) = part_of(&line, part);
        assert!(forward > 0.0 && (gradient > 0.0) == backward, "{part}: {line}");
    }
}

/// Returns the forward and the backward seconds of a part of a benchmark's step.
fn part_of(line: &serde_json::Value, part: &str) -> (f64, f64) {
    let parts = line["parts"].as_array().expect("a list of parts");
    let found =
        parts.iter().find(|entry| entry["part"] == part).unwrap_or_else(|| panic!("no {part}: {line}"));
    let seconds = |key| found[key].as_f64().expect("a number");
    (seconds("forward"), seconds("backward"))
}

#[test]
fn bench_divides_a_run_into_its_stages() {
    let config = write_config("bench.toml", TINY);
    let data = data().to_str().expect("a plain path");
    let rule = ["--context", "32", "--evaluation-tokens", "512"];
    let run = ["bench", "--config", &config, "--data", data, "--seconds", "0.3", "--threads", "1", "--json"];
    let output = trainer(&[&run[..], &rule].concat());
    let line: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    let stages = line["stages"].as_array().expect("a list of stages");
    let names: Vec<&str> = stages.iter().filter_map(|stage| stage["name"].as_str()).collect();
    assert_eq!(names, ["start", "pricing", "set-up", "training", "evaluation", "end"]);
    assert!(part_of(&line, "data").0 > 0.0);
}
