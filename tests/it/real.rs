//! The node with the real trainer and libtorch, at tiny budgets: nothing here is faked.

#![allow(clippy::print_stdout)] // figures, for `--nocapture`

mod swarm;

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::Stdio,
};

use autoswarm_node::home::journal::Recorded;
use autoswarm_protocol::{Outcome, RunRole, Verdict};

use crate::{
    solo::{Place, succeed, text},
    supervisor::FAKE_TRAINER,
};

/// Returns the real trainer's binary, which stands beside the fake one's.
fn trainer() -> PathBuf {
    let trainer = Path::new(FAKE_TRAINER).with_file_name("trainer");
    assert!(
        trainer.is_file(),
        "there is no `{}`: run scripts/test.sh, or `cargo build -p autoswarm-trainer`",
        trainer.display()
    );
    trainer
}

/// A home beside a megabyte of text, and the real trainer.
fn place() -> Place {
    let mut place = Place::new();
    place.trainer = trainer();
    // Text with some structure: the numbers written out and their squares.
    let lines: Vec<String> = (0..30_000u64).map(|n| format!("the square of {n} is {}", n * n)).collect();
    fs::write(place.folder.path().join("text.txt"), lines.join("\n")).expect("a file");
    place
}

#[test]
fn a_baseline_and_two_experiments_are_trained_and_add_up() {
    let place = place();
    let printed = succeed(&mut place.solo(&["--experiments", "2", "--devices", "cpu:1x1"]));
    let recorded = place.read();
    assert_eq!(recorded.len(), 3, "{printed}");
    assert!(matches!(recorded[0].experiment.verdict, Verdict::Baseline));
    let reports: Vec<_> = recorded
        .iter()
        .flat_map(|recorded| &recorded.experiment.runs)
        .filter_map(|run| run.outcome.report().map(|report| (run, report)))
        .collect();
    // A hopeless screening run is pruned and has no report.
    let was_trained = |recorded: &Recorded| {
        let outcomes = recorded.experiment.runs.iter().map(|run| &run.outcome);
        outcomes.filter(|it| matches!(it, Outcome::Finished(_) | Outcome::Pruned(_))).count() > 0
    };
    assert!(recorded.iter().all(was_trained), "{printed}");
    assert!(reports.len() >= 3, "the baseline's: {printed}");
    for (run, report) in reports {
        assert_eq!(report.executed, run.requested);
        assert_eq!(report.seed, run.seed);
        assert!((report.initial_loss - 256f64.ln()).abs() < 0.2, "initial loss {}", report.initial_loss);
        assert!(report.validation.get() < 8.0 && report.validation.get() > 0.05);
        assert_eq!(
            report.audit.is_some(),
            matches!(run.role, RunRole::Baseline | RunRole::Child | RunRole::Incumbent)
        );
        assert!(report.locked.is_none(), "the locked split is for `node report` alone");
    }
}

/// Kills of one CI run with the real trainer.
const KILLS: usize = 5;

#[test]
fn kills_with_the_real_trainer_lose_nothing_and_leave_no_trainer_behind() {
    let place = place();
    let mut seen: BTreeMap<u32, String> = BTreeMap::new();
    for kill in 0..KILLS {
        let mut command = place.solo(&["--json", "--devices", "cpu:1x1"]);
        let mut node =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the node starts");
        let mut lines = BufReader::new(node.stdout.take().expect("piped")).lines().map_while(Result::ok);
        // The kills come after one, two and three runs in turn, in the middle of the next run.
        let mut runs = 0;
        for line in lines.by_ref() {
            let event: serde_json::Value = serde_json::from_str(&line).expect("a JSON line");
            match event["event"].as_str() {
                Some("concluded") => {
                    let number = event["number"].as_u64().expect("a number") as u32;
                    seen.insert(number, event["commit"].as_str().expect("a commit").to_owned());
                }
                Some("run_finished") => runs += 1,
                _ => {}
            }
            if runs > kill % 3 {
                break;
            }
        }
        node.kill().expect("a running node");
        let output = node.wait_with_output().expect("an ended node");
        assert_eq!(output.status.code(), None, "ended by itself: {}", text(&output.stderr));
        let recorded = place.read();
        for (number, commit) in &seen {
            let held = recorded.iter().find(|recorded| recorded.experiment.number == *number);
            assert_eq!(held.map(|held| &held.commit), Some(commit), "experiment {number} is lost");
        }
    }
    let printed = succeed(&mut place.solo(&["--experiments", "1", "--devices", "cpu:1x1"]));
    assert!(printed.contains("1 experiment,"), "{printed}");
    let recorded = place.read();
    let runs = recorded.iter().map(|recorded| recorded.experiment.runs.len()).sum::<usize>();
    assert!(runs >= 4, "{printed}");
    assert!(!is_running(&place.trainer, place.folder.path()), "a trainer outlived its node");
}

/// Returns whether a process of this program still works in a folder.
fn is_running(program: &Path, folder: &Path) -> bool {
    let folder = folder.display().to_string();
    fs::read_dir("/proc").into_iter().flatten().flatten().any(|entry| {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        line.starts_with(&program.display().to_string()) && line.contains(&folder)
    })
}

/// A/A experiments of one CI run; `AA=24 BUDGET=5s DATA=default` makes more, on the default corpus.
const NULL_CHANGES: usize = 2;

/// Changes that alter the trajectory but not the quality: small steps, in all knob groups, of minor knobs.
const NULL: [(&str, &[&str]); 11] = [
    ("rope_base", &["11000", "9500", "12000"]),
    ("warmdown", &["0.55", "0.45"]),
    ("adam_eps", &["0.0000000002", "0.00000000005", "0.0000000005"]),
    ("init_kind", &["normal", "orthogonal"]),
    ("muon_momentum_start", &["0.86", "0.84", "0.87"]),
    ("feedback_init", &["0.15", "0.05"]),
    ("scalar_beta2", &["0.951", "0.949", "0.948"]),
    ("embedding_init", &["1.1", "0.95"]),
    ("unembedding_init", &["0.0011", "0.00095"]),
    ("muon_momentum_warmup", &["0.35", "0.25"]),
    ("feedback_beta1", &["0.95", "0.97"]),
];

#[test]
fn null_changes_are_not_kept() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<usize>().ok());
    let wanted = number("AA").unwrap_or(NULL_CHANGES);
    let budget = std::env::var("BUDGET").unwrap_or_else(|_| "1s".to_owned());
    let mut place = place();
    let data = std::env::var("DATA").ok();
    let data = data.as_deref().map_or(Some("text.txt"), |data| Some(data).filter(|data| *data != "default"));
    place.budget = budget;
    succeed(&mut place.solo_on(data, &["--experiments", "1"]));
    // First one value of each knob, then the next value of each: no two are the same config.
    let most = NULL.iter().map(|(_, values)| values.len()).max().unwrap_or(0);
    let changes: Vec<String> = (0..most)
        .flat_map(|round| {
            NULL.iter().filter_map(move |(knob, values)| Some(format!("{knob} {}", values.get(round)?)))
        })
        .collect();
    assert!(wanted <= changes.len(), "there are {} null changes", changes.len());
    for change in &changes[..wanted] {
        let tried = place.node(&["try", change, "--because", "A/A"]).output().expect("the node starts");
        assert!(tried.status.success(), "{change}: {}", text(&tried.stderr));
    }
    let recorded = place.read();
    let of_ours = recorded.iter().filter(|recorded| recorded.experiment.hypothesis.because == "A/A");
    let experiments: Vec<_> = of_ours.map(|recorded| &recorded.experiment).collect();
    assert_eq!(experiments.len(), wanted);
    let keeps = experiments.iter().filter(|experiment| experiment.verdict.name() == "keep").count();
    for experiment in &experiments {
        let runs = experiment.runs.len();
        println!(
            "{} {:?} {:?} {runs} runs",
            experiment.hypothesis.patch, experiment.screens, experiment.verdict
        );
    }
    println!("{keeps} of {wanted} A/A experiments kept");
    // Simulated nights of no-ops alone keep at most 0.39 of 100 experiments (node/docs/verdict.md). At that
    // rate, one keep in two has a probability of 0.8 %, and two keeps in 24 have one of 0.4 %.
    let most = usize::from(wanted > 4);
    assert!(keeps <= most, "{keeps} of {wanted} null changes were kept");
}
