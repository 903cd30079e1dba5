//! `node solo` with the real trainer and libtorch, at tiny budgets: nothing between a person and a result is faked.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::Stdio,
};

use autoswarm_protocol::{RunRole, Verdict};

use crate::{
    solo::{Place, succeed, text},
    supervisor::FAKE_TRAINER,
};

/// A home beside a megabyte of text, and the real trainer.
fn place() -> Place {
    let mut place = Place::new();
    place.trainer = Path::new(FAKE_TRAINER).with_file_name("trainer");
    assert!(
        place.trainer.is_file(),
        "there is no `{}`: run scripts/test.sh, or `cargo build -p autoswarm-trainer`",
        place.trainer.display()
    );
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
    assert!(reports.len() >= 4, "{printed}");
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
        // Each kill comes one run later than the one before, in the midst of the next run.
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
    assert!(printed.contains("#1"), "{printed}");
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
