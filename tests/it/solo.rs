//! `node solo` from the command line, with the fake trainer: whole sessions, kills, and bad input.

#![allow(clippy::print_stdout)] // seeds and counts, for `--nocapture`

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use autoswarm_node::home::{
    index::{Index, IndexState},
    journal::{Journal, Recorded},
};
use autoswarm_protocol::{CrashClass, Verdict};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

use crate::supervisor::FAKE_TRAINER;

/// Returns the node's binary, which stands beside the fake trainer's.
pub(crate) fn node_binary() -> PathBuf {
    let path = Path::new(FAKE_TRAINER).with_file_name("node");
    assert!(
        path.is_file(),
        "there is no `{}`: build it with `cargo build -p autoswarm-node`",
        path.display()
    );
    path
}

/// A folder with a little text and a place for a home.
pub(crate) struct Place {
    pub(crate) folder: TempDir,
    pub(crate) trainer: PathBuf,
    pub(crate) budget: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("text.txt"), "some text\n".repeat(1000)).expect("a file");
        Self { folder, trainer: PathBuf::from(FAKE_TRAINER), budget: "1s".to_owned() }
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    pub(crate) fn node(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(node_binary());
        command.arg("--home").arg(self.home()).args(arguments).current_dir(self.folder.path());
        command.env("AUTOSWARM_TRAINER", &self.trainer).stdin(Stdio::null());
        command
    }

    /// Runs `solo` on the little text with a budget that makes an arena of its own.
    pub(crate) fn solo(&self, arguments: &[&str]) -> Command {
        self.solo_on(Some("text.txt"), arguments)
    }

    /// Runs `solo` on another text, or on the default one.
    pub(crate) fn solo_on(&self, data: Option<&str>, arguments: &[&str]) -> Command {
        let mut command = self.node(&["solo", "--budget", &self.budget]);
        command.args(data.map(|data| ["--data", data]).into_iter().flatten());
        command.args(arguments);
        command
    }

    /// Reads the journal back, and checks that the index says the same.
    #[track_caller]
    pub(crate) fn read(&self) -> Vec<Recorded> {
        let opened = Journal::open(&self.home()).expect("a readable journal");
        assert!(opened.damaged.is_empty(), "{:?}", opened.damaged);
        let (_, found) = Index::open(&self.home().join("index"), &opened.experiments).expect("an index");
        assert!(
            matches!(found, IndexState::Equal | IndexState::Behind(0..=1) | IndexState::Missing),
            "{found:?}"
        );
        opened.experiments
    }
}

#[track_caller]
pub(crate) fn succeed(command: &mut Command) -> String {
    let output = command.output().expect("the node starts");
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// Runs a command that must fail, and returns what it printed to stderr.
#[track_caller]
pub(crate) fn fail(command: &mut Command) -> String {
    fail_with(1, command)
}

/// Runs a command that is used wrongly, and returns what it printed to stderr.
#[track_caller]
pub(crate) fn misuse(command: &mut Command) -> String {
    fail_with(2, command)
}

#[track_caller]
fn fail_with(code: i32, command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().expect("the node starts");
    assert_eq!(status.code(), Some(code), "{}\n{}", text(&stdout), text(&stderr));
    text(&stderr)
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// One slot, for tests that count experiments. On two slots, a winner that came second is tried again, which
/// is one experiment more; and which of two runs ends first depends on the machine.
const ONE_SLOT: &str = "cpu:1x1";

#[test]
fn four_experiments_and_a_baseline_are_in_the_journal_and_in_results_tsv() {
    let place = Place::new();
    let printed = succeed(&mut place.solo(&["--experiments", "4", "--devices", ONE_SLOT]));
    assert!(printed.contains("baseline"), "{printed}");
    let recorded = place.read();
    assert!(matches!(recorded[0].experiment.verdict, Verdict::Baseline));
    assert_eq!(recorded.len(), 5, "{printed}");
    let results = fs::read_to_string(place.home().join("results.tsv")).expect("a table");
    let lines: Vec<&str> = results.lines().collect();
    assert_eq!(lines[0], "commit\tval_bpb\tmemory_gb\tstatus\tdescription");
    assert_eq!(lines.len(), 6, "{results}");
    for recorded in &recorded {
        let child = recorded.experiment.config.hash();
        for run in &recorded.experiment.runs {
            let report = run.outcome.report().expect("a good trainer");
            assert_eq!(report.executed, run.requested);
            assert_eq!(report.tokens, run.tokens.expect("a known price"));
        }
        assert!(recorded.experiment.runs.iter().any(|run| run.requested == child));
    }
}

#[test]
fn the_users_git_configuration_is_not_read() {
    let place = Place::new();
    let of_user = place.folder.path();
    fs::write(of_user.join(".gitconfig"), "[broken\n").expect("a file");
    fs::create_dir(of_user.join("git")).expect("a folder");
    fs::write(of_user.join("git/config"), "[broken\n").expect("a file");
    let with = |mut command: Command| {
        command.env("HOME", of_user).env("XDG_CONFIG_HOME", of_user);
        succeed(&mut command)
    };
    with(place.solo(&["--experiments", "1"]));
    let listed = with(place.node(&["experiments"]));
    assert!(listed.lines().count() == 3, "a header, the baseline and one experiment: {listed}");
}

#[test]
fn json_lines_are_json_and_end_with_a_summary() {
    let place = Place::new();
    let printed = succeed(&mut place.solo(&["--experiments", "2", "--json"]));
    let events: Vec<serde_json::Value> =
        printed.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect();
    let kinds: Vec<&str> = events.iter().filter_map(|event| event["event"].as_str()).collect();
    assert!(
        kinds.contains(&"started") && kinds.contains(&"proposed") && kinds.contains(&"concluded"),
        "{kinds:?}"
    );
    assert_eq!(kinds.last(), Some(&"summary"));
}

#[test]
fn several_slots_work_at_once() {
    let place = Place::new();
    let cores = thread::available_parallelism().map_or(1, usize::from).min(2);
    succeed(&mut place.solo(&["--experiments", "6", "--devices", &format!("cpu:1x{cores}")]));
    let recorded = place.read();
    let slots: std::collections::BTreeSet<u16> =
        recorded.iter().flat_map(|recorded| &recorded.experiment.runs).map(|run| run.slot).collect();
    assert_eq!(slots.len(), cores);
}

#[test]
fn the_same_seed_proposes_the_same() {
    // Each time in a folder of its own: where the text lies must not matter.
    let patches = || {
        let place = Place::new();
        succeed(&mut place.solo(&["--experiments", "3", "--seed", "7", "--devices", ONE_SLOT]));
        let patch = |recorded: &Recorded| recorded.experiment.hypothesis.patch.to_string();
        place.read().iter().map(patch).collect::<Vec<String>>()
    };
    assert_eq!(patches(), patches());
}

/// Kills of one CI run; `KILLS=1000` makes more.
const KILLS: u32 = 100;

#[test]
fn kills_at_any_moment_lose_no_keep_and_count_none_twice() {
    let seed: u64 = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let kills: u32 = std::env::var("KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(KILLS);
    println!("SEED={seed} KILLS={kills}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let place = Place::new();
    fs::create_dir_all(place.folder.path()).expect("a folder");
    let mut seen: BTreeMap<u32, String> = BTreeMap::new();
    for kill in 0..kills {
        let mut command = place.solo(&["--json", "--seed", &kill.to_string()]);
        // A little slowness spreads the kills over the phases of a run.
        command.env("FAKE_TRAINER", "slow=0.01").stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut node = command.spawn().expect("the node starts");
        let stdout = node.stdout.take().expect("piped");
        let reader = thread::spawn(move || concluded(stdout));
        let until = Instant::now() + Duration::from_millis(rng.random_range(20..700));
        while Instant::now() < until && node.try_wait().expect("a child").is_none() {
            thread::yield_now();
        }
        node.kill().expect("a running node");
        let output = node.wait_with_output().expect("an ended node");
        assert_eq!(output.status.code(), None, "kill {kill}: ended by itself: {}", text(&output.stderr));
        seen.extend(reader.join().expect("a reader"));
        let recorded = place.read();
        for (number, commit) in &seen {
            let held = recorded.iter().find(|recorded| recorded.experiment.number == *number);
            assert_eq!(
                held.map(|held| &held.commit),
                Some(commit),
                "kill {kill}: experiment {number} is lost"
            );
        }
        let mut numbers: Vec<u32> = recorded.iter().map(|recorded| recorded.experiment.number).collect();
        let all = numbers.len();
        numbers.dedup();
        assert_eq!(numbers.len(), all, "kill {kill}: a number stands twice");
        let baselines =
            recorded.iter().filter(|recorded| matches!(recorded.experiment.verdict, Verdict::Baseline));
        assert!(baselines.count() <= 1, "kill {kill}: a second baseline");
    }
    let recorded = place.read();
    println!("{} experiments survived {kills} kills", recorded.len());
    assert!(recorded.len() as u32 >= kills / 10, "only {} experiments came through", recorded.len());
}

/// Returns number and commit of each experiment that the node said was concluded.
pub(crate) fn concluded(stdout: std::process::ChildStdout) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        // The last line may be cut off by the kill.
        let Ok(event) = serde_json::from_str::<serde_json::Value>(&line) else { continue };
        if event["event"] == "concluded" {
            let number = event["number"].as_u64().expect("a number") as u32;
            found.push((number, event["commit"].as_str().expect("a commit").to_owned()));
        }
    }
    found
}

#[test]
fn an_index_that_is_gone_or_damaged_is_rebuilt_and_said_so() {
    let place = Place::new();
    succeed(&mut place.solo(&["--experiments", "2", "--devices", ONE_SLOT]));
    let index = place.home().join("index");
    fs::remove_dir_all(&index).expect("an index");
    let printed = succeed(&mut place.solo(&["--experiments", "1"]));
    assert!(printed.contains("the index was missing; rebuilt"), "{printed}");
    for entry in fs::read_dir(&index).expect("an index").flatten().filter(|entry| entry.path().is_file()) {
        fs::write(entry.path(), b"garbage").expect("a writable index");
    }
    let printed = succeed(&mut place.solo(&["--experiments", "1"]));
    assert!(printed.contains("the index was damaged"), "{printed}");
    assert_eq!(place.read().len(), 5);
}

#[test]
fn a_second_process_is_told_who_holds_the_home() {
    let place = Place::new();
    let mut first = place.solo(&["--json"]);
    let mut first =
        first.env("FAKE_TRAINER", "slow=5").stdout(Stdio::piped()).spawn().expect("the node starts");
    let mut line = String::new();
    BufReader::new(first.stdout.as_mut().expect("piped")).read_line(&mut line).expect("a first line");
    let error = fail(&mut place.solo(&[]));
    first.kill().expect("a running node");
    first.wait().expect("an ended node");
    assert!(error.contains(&format!("process {}", first.id())) && error.contains("--home"), "{error}");
}

#[test]
fn a_trainer_that_only_fails_ends_the_session_with_a_word() {
    for (behaviour, expected) in
        [("garbage", "bad output"), ("kill", "killed"), ("wrong_executed", "config mismatch")]
    {
        let place = Place::new();
        let error = fail(place.solo(&["--experiments", "1"]).env("FAKE_TRAINER", behaviour));
        assert!(error.contains(expected), "{behaviour}: {error}");
    }
}

#[test]
fn a_price_that_promised_too_much_is_corrected_by_the_run_itself() {
    let place = Place::new();
    // A budget of 1 s has a cap of 3 s. Four times the tokens do not fit into it; a third of those do, and
    // show the true speed.
    let mut command = place.solo(&["--experiments", "1"]);
    let printed = succeed(command.env("FAKE_TRAINER", "overpriced=4"));
    assert!(printed.contains("it is run again at its own speed"), "{printed}");
    let recorded = place.read();
    assert_eq!(recorded.len(), 2, "{printed}");
    let counted = recorded[0].experiment.runs.iter().rev().take(3);
    let seconds = counted.map(|run| run.outcome.report().expect("a number").training_seconds);
    assert!(seconds.clone().all(|s| (s - 1.0).abs() < 0.05), "{:?}", seconds.collect::<Vec<_>>());
}

#[test]
fn a_machine_that_becomes_slower_costs_time_and_blames_no_config() {
    let place = Place::new();
    succeed(&mut place.solo(&["--experiments", "1", "--devices", ONE_SLOT]));
    // Tries a change that does not alter the cost of a run, on a machine that is slower by this factor.
    let tried = |change: &str, throttled: &str| {
        let mut command = place.node(&["try", change, "--because", "a hunch"]);
        let printed = succeed(command.env("FAKE_TRAINER", throttled));
        let verdict = place.read().last().map(|recorded| recorded.experiment.verdict.clone());
        (verdict.expect("an experiment"), printed)
    };
    let (verdict, printed) = tried("warmup 0.1", "throttled=3.5");
    assert!(!matches!(verdict, Verdict::Crash { .. }), "{verdict:?}\n{printed}");
    let (verdict, printed) = tried("warmup 0.2", "throttled=30");
    assert!(matches!(verdict, Verdict::Crash { class: CrashClass::Starved, .. }), "{verdict:?}\n{printed}");
    assert!(printed.contains("far slower"), "{printed}");
}

#[test]
fn a_run_that_other_work_starves_waits_and_says_so() {
    let place = Place::new();
    succeed(&mut place.solo(&["--experiments", "1"]));
    // A starved node tries again for hours. `--hours` ends one that never says so, and then the test fails.
    let mut command = place.solo(&["--experiments", "2", "--hours", "0.01"]);
    command.env("FAKE_TRAINER", "fail=starved").stdout(Stdio::piped());
    let mut node = command.spawn().expect("the node starts");
    let mut lines = BufReader::new(node.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
    let told = lines.find(|line| line.contains("tried again every half minute"));
    let status = told.as_ref().map(|_| succeed(&mut place.node(&["status"])));
    node.kill().expect("it still waits");
    node.wait().expect("an ended node");
    assert!(status.as_ref().is_some_and(|status| status.contains("waiting")), "{told:?} {status:?}");
}

#[test]
fn bad_input_gives_one_clear_error() {
    let mut place = Place::new();
    let error = fail(&mut place.node(&["solo", "no-such-config"]));
    assert!(error.contains("there is no swarm config `no-such-config`"), "{error}");
    fs::write(place.folder.path().join("bad.toml"), "name = \"x\"\nmetric = 1").expect("a file");
    let error = fail(&mut place.node(&["solo", "bad.toml"]));
    assert!(error.contains("the swarm config `bad.toml` is wrong"), "{error}");
    let error = fail(&mut place.node(&["solo", "--data", "nowhere"]));
    assert!(error.contains("cannot find your text at `nowhere`"), "{error}");
    fs::write(place.folder.path().join("program.md"), "+++\nfocus = [\"depht\"]\n+++\n").expect("a file");
    let error = fail(&mut place.solo(&["--experiments", "1"]));
    assert!(error.contains("program.md line 2") && error.contains("did you mean `depth`"), "{error}");
    fs::write(place.folder.path().join("file"), "").expect("a file");
    let error = fail(place.solo(&["--experiments", "1"]).args(["--home", "file/home"]));
    assert!(error.contains("cannot write to the home"), "{error}");
    place.trainer = place.folder.path().join("nowhere");
    let error = fail(&mut place.solo(&["--experiments", "1"]));
    assert!(error.contains("there is no trainer at") && error.contains("scripts/run.sh"), "{error}");
}
