//! The `node` binary as a person or a script meets it: exit codes, output streams, and errors on bad input.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

/// Runs `node` on a home, with a trainer that does not exist.
fn node(home: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_node"))
        .args(arguments)
        .env("AUTOSWARM_HOME", home)
        .env("AUTOSWARM_TRAINER", "/nonexistent/trainer")
        .env_remove("RUST_LOG")
        .output()
        .expect("the binary runs")
}

/// Runs `node` on a home that does not exist and compares exit code, standard output and standard error.
#[track_caller]
fn check(arguments: &[&str], code: i32, out: &str, err: &str) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let home = folder.path().join("home");
    let output = node(&home, arguments);
    let replace = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(&*home.to_string_lossy(), "HOME");
    assert_eq!((replace(&output.stdout).as_str(), replace(&output.stderr).as_str()), (out, err));
    assert_eq!(output.status.code(), Some(code));
    assert!(!home.exists(), "a command that only looks makes no home");
}

const NO_HOME: &str = "error: there is no home at `HOME` yet\n\
    hint: `node solo` makes it; or name another with `--home DIR`\n";

#[test]
fn without_a_home_nothing_can_be_looked_at() {
    check(&["status"], 1, "", NO_HOME);
    check(&["experiments"], 1, "", NO_HOME);
    check(&["experiments", "show", "3", "--json"], 1, "", NO_HOME);
}

#[test]
fn without_a_node_nothing_can_be_asked_of_it() {
    let error = |verb| {
        format!("error: cannot {verb}: no node is running on this home\nhint: start one with `node solo`\n")
    };
    check(&["pause"], 1, "", &error("pause"));
    check(&["resume"], 1, "", &error("resume"));
    check(&["stop"], 1, "", &error("stop"));
}

/// Runs `node` with arguments that make no sense and compares exit code and error.
#[track_caller]
fn usage(arguments: &[&str], because: &str) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = node(folder.path(), arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(output.stdout.is_empty() && error.contains(because), "{error}");
}

#[test]
fn a_command_line_that_makes_no_sense_exits_with_2() {
    usage(&["fly"], "unrecognized subcommand");
    usage(&["solo", "--budget", "soon"], "`soon` is not a duration: write `20s`, `5m` or `2h`");
    usage(&["solo", "--devices", "cpu:9"], "names no device");
    usage(&["try", "depth 3"], "--because");
    usage(&[], "Usage");
}

#[test]
fn an_empty_home_has_empty_lists() {
    let home = tempfile::tempdir().expect("a temporary folder");
    // The lock is what makes a folder a home.
    fs::write(home.path().join("lock"), "").expect("a file");
    let text = |arguments: &[&str]| {
        let output = node(home.path(), arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    assert_eq!(text(&["experiments"]), "no experiments yet\n");
    assert_eq!(text(&["experiments", "--json"]), "");
    assert_eq!(
        text(&["status"]),
        "no node is running on this home; it holds 0 experiments, 0 kept, 0 crashed\n"
    );
    let status: serde_json::Value = serde_json::from_str(&text(&["status", "--json"])).expect("JSON");
    assert_eq!((status["running"].as_bool(), status["experiments"].as_u64()), (Some(false), Some(0)));
    let output = node(home.path(), &["experiments", "show", "3"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "error: there is no experiment `3`; `node experiments` lists their numbers\n"
    );
}

#[test]
fn good_files_are_explained_and_bad_ones_get_one_error() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("a file");
        path.to_string_lossy().into_owned()
    };
    let output = node(folder.path(), &["check", "default"]);
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("default is good\n"));
    let output = node(folder.path(), &["check", &file("program.md", "Be bold.\n")]);
    assert!(output.status.success());

    let bad = node(folder.path(), &["check", &file("bad.md", "+++\nfocus = [\"itin\"]\n+++\n")]);
    assert_eq!(bad.status.code(), Some(1));
    let error = String::from_utf8_lossy(&bad.stderr).into_owned();
    assert!(error.starts_with("error: program.md line 2") && error.lines().count() == 1, "{error}");

    let bad = node(folder.path(), &["check", &file("bad.toml", "name = \"x\"\nnmae = 3\n")]);
    assert_eq!(bad.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&bad.stderr).contains("line 2"), "the line is named");

    let missing = node(folder.path(), &["check", "nowhere.toml"]);
    assert!(String::from_utf8_lossy(&missing.stderr).contains("hint: built in are: default"));
}

#[test]
fn the_doctor_finds_the_missing_trainer_and_goes_on() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = node(&folder.path().join("home"), &["doctor", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let findings: Vec<serde_json::Value> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("each line is JSON"))
        .collect();
    let state = |check: &str| {
        findings.iter().find(|finding| finding["check"] == check).map(|finding| finding["state"].clone())
    };
    assert_eq!(state("trainer"), Some("fail".into()));
    assert_eq!(state("clock"), Some("ok".into()));
    for finding in &findings {
        assert_eq!(finding["state"] == "ok", finding["fix"].is_null(), "{finding}");
    }
}
