//! The verbs other than `solo`, both ways: with a running node, and on a home where none runs.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Stdio},
};

use crate::solo::{Place, fail, misuse, succeed};

/// A `solo` in the background that has its baseline.
struct Running<'a> {
    place: &'a Place,
    node: Child,
    lines: Box<dyn Iterator<Item = serde_json::Value>>,
}

impl<'a> Running<'a> {
    fn start(place: &'a Place, behaviour: &str) -> Self {
        let mut command = place.solo(&["--json", "--devices", "cpu:1x1"]);
        // A run takes a moment, so that commands find one in flight.
        command.env("FAKE_TRAINER", behaviour).stdout(Stdio::piped());
        let mut node = command.spawn().expect("the node starts");
        let lines = BufReader::new(node.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let lines = lines.map(|line| serde_json::from_str(&line).expect("a JSON line"));
        let mut running = Self { place, node, lines: Box::new(lines) };
        running.wait_for("concluded");
        running
    }

    /// Waits for an event of this name.
    #[track_caller]
    fn wait_for(&mut self, name: &str) -> serde_json::Value {
        self.lines.find(|event| event["event"] == name).expect("the node says so before it ends")
    }

    fn ask(&self, arguments: &[&str]) -> String {
        succeed(&mut self.place.node(arguments))
    }

    /// Asks the node to stop, and checks that it ends well.
    #[track_caller]
    fn stop(mut self) {
        let printed = self.ask(&["stop"]);
        assert!(printed.contains("stops"), "{printed}");
        self.wait_for("summary");
        assert!(self.node.wait().expect("an ended node").success());
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        // A test that failed half-way leaves no node behind; one that ended is no error.
        let _ = self.node.kill();
        let _ = self.node.wait();
    }
}

#[test]
fn a_running_node_answers_status_and_lists() {
    let place = Place::new();
    let running = Running::start(&place, "slow=0.05");
    let status = running.ask(&["status"]);
    assert!(status.contains("cpu:0") && status.contains("baseline"), "{status}");
    let status: serde_json::Value = serde_json::from_str(&running.ask(&["status", "--json"])).expect("JSON");
    assert_eq!(status["slots"].as_array().map(Vec::len), Some(1));
    assert!(status["incumbent"].is_array() || status["incumbent"].is_object(), "{status}");
    let list = running.ask(&["experiments"]);
    assert!(list.contains("the calibrated start"), "{list}");
    let shown = running.ask(&["experiments", "show", "0"]);
    assert!(shown.contains("experiment #0"), "{shown}");
    let beliefs = running.ask(&["experiments", "--importance", "--limit", "5"]);
    assert!(
        beliefs.contains("what the search believes after") && beliefs.contains("batch_tokens"),
        "{beliefs}"
    );
    let error = fail(&mut place.node(&["experiments", "show", "9999"]));
    assert!(error.contains("no experiment `9999`"), "{error}");
    running.stop();
}

#[test]
fn a_home_at_rest_answers_the_same() {
    let place = Place::new();
    succeed(&mut place.solo(&["--experiments", "1"]));
    let status = succeed(&mut place.node(&["status"]));
    assert!(status.contains("no node is running") && status.contains("2 experiments"), "{status}");
    let list = succeed(&mut place.node(&["experiments", "list", "--json"]));
    assert_eq!(list.lines().count(), 2);
    let beliefs = succeed(&mut place.node(&["experiments", "--importance", "--json"]));
    let beliefs: serde_json::Value = serde_json::from_str(&beliefs).expect("JSON");
    assert_eq!(beliefs["trials"], 1, "{beliefs}");
    let error = misuse(&mut place.node(&["experiments", "--importance", "--verdict", "keep"]));
    assert!(error.contains("--verdict"), "{error}");
    let shown = succeed(&mut place.node(&["experiments", "show", "#1"]));
    assert!(shown.contains("experiment #1"), "{shown}");
    for verb in ["pause", "resume", "stop"] {
        let error = fail(&mut place.node(&[verb]));
        assert!(error.contains("no node is running on this home"), "{error}");
    }
}

#[test]
fn a_persons_try_gets_its_verdict_from_a_running_node() {
    let place = Place::new();
    let running = Running::start(&place, "slow=0.01");
    let shown = running.ask(&["try", "warmup 0.1", "--because", "a\u{1b}[31m hunch"]);
    assert!(shown.contains("by person") && shown.contains("warmup 0 → 0.1"), "{shown}");
    assert!(shown.contains("a [31m hunch") && !shown.contains('\u{1b}'), "{shown}");
    let error = fail(&mut place.node(&["try", "wramup 0.1", "--because", "x"]));
    assert!(error.contains("wramup"), "{error}");
    running.stop();
    assert!(place.read().iter().any(|recorded| recorded.experiment.hypothesis.because == "a [31m hunch"));
}

#[test]
fn a_config_that_gives_no_number_is_a_crash_and_the_loop_goes_on() {
    let place = Place::new();
    let mut running = Running::start(&place, "nan,when=warmup = 0.1");
    let shown = running.ask(&["try", "warmup 0.1", "--because", "to see it crash"]);
    assert!(shown.contains("crash") && shown.contains("not a number"), "{shown}");
    let number = |place: &Place| place.read().last().map(|recorded| recorded.experiment.number);
    running.wait_for("concluded");
    running.stop();
    let after = number(&place);
    assert!(after >= Some(2), "{after:?}");
    let crashed = place.read();
    let crashed = crashed.iter().find(|recorded| recorded.experiment.verdict.name() == "crash");
    assert_eq!(crashed.expect("recorded").experiment.hypothesis.because, "to see it crash");
}

#[test]
fn a_try_on_a_home_at_rest_is_one_experiment_where_the_last_session_left_off() {
    let place = Place::new();
    let error = fail(&mut place.node(&["try", "warmup 0.1", "--because", "no home yet"]));
    assert!(error.contains("there is no home at"), "{error}");
    succeed(&mut place.solo(&["--experiments", "1"]));
    let arena = place.read()[0].experiment.arena;
    let shown = succeed(&mut place.node(&["try", "warmup 0.1", "--because", "a hunch"]));
    assert!(shown.contains("by person") && shown.contains("warmup 0 → 0.1"), "{shown}");
    let recorded = place.read();
    assert_eq!(recorded.len(), 3);
    assert_eq!(recorded[2].experiment.arena, arena, "another arena");
    let error = fail(&mut place.node(&["try", "depth 99", "--because", "too deep"]));
    assert!(error.contains("depth"), "{error}");
    assert_eq!(place.read().len(), 3);
}

#[test]
fn pause_holds_and_resume_goes_on() {
    let place = Place::new();
    let mut running = Running::start(&place, "slow=0.02");
    assert!(running.ask(&["pause"]).contains("paused"));
    assert!(running.wait_for("paused")["reason"].is_string());
    assert!(running.ask(&["status"]).contains("paused"));
    assert!(running.ask(&["resume"]).contains("goes on"));
    assert!(running.wait_for("paused")["reason"].is_null());
    running.wait_for("run_finished");
    running.stop();
}

#[test]
fn a_replay_shows_the_same_bits() {
    let place = Place::new();
    succeed(&mut place.solo(&["--experiments", "1"]));
    let printed = succeed(&mut place.node(&["experiments", "replay", "0"]));
    assert!(printed.contains("the same bits"), "{printed}");
    let printed = succeed(&mut place.node(&["experiments", "replay", "1", "--json"]));
    let replay: serde_json::Value = serde_json::from_str(&printed).expect("JSON alone on standard output");
    assert_eq!((&replay["same_bits"], &replay["number"]), (&true.into(), &1.into()));
    assert_eq!(place.read().len(), 2, "a replay is no experiment");
}

#[test]
fn a_report_reads_the_locked_split_once() {
    let place = Place::new();
    let error = fail(&mut place.node(&["report"]));
    assert!(error.contains("there is no home at"), "{error}");
    succeed(&mut place.solo(&["--experiments", "12", "--seed", "1"]));
    let keeps = place.read().iter().filter(|recorded| recorded.experiment.verdict.name() == "keep").count();
    assert!(keeps > 0, "this seed finds something");
    let page = succeed(&mut place.node(&["report", "--no-locked"]));
    assert!(!page.contains("is read only here"), "{page}");
    let file = place.home().join("locked.json");
    assert!(!file.exists());
    let page = succeed(&mut place.node(&["report"]));
    assert!(page.contains("| locked | is read only here |"), "{page}");
    let first = fs::read(&file).expect("a reading");
    assert_eq!(succeed(&mut place.node(&["report"])), page, "the second report reads nothing anew");
    assert_eq!(fs::read(&file).expect("a reading"), first);
    assert!(fs::read_to_string(place.home().join("report.svg")).expect("a chart").starts_with("<svg"));
    for recorded in place.read() {
        for run in &recorded.experiment.runs {
            assert!(
                run.outcome.report().is_none_or(|report| report.locked.is_none()),
                "locked in the journal"
            );
        }
    }
}
