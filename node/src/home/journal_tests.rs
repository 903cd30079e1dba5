//! Tests of the journal on a real disk with real git: round trips, forged text, and the partial states that
//! kills leave.

use std::process::Command;

use autoswarm_protocol::{
    Bpb, Crash, CrashClass, Estimate, Hypothesis, Knob, Outcome, Proposer, Run, RunReport, RunRole,
    TrainConfig, Value,
    experiment::DiscardReason,
    id::{ConfigHash, CorpusHash, TokenizerHash},
    outcome::CurvePoint,
    patch::Patch,
};
use tempfile::TempDir;

use super::*;

fn report(config: ConfigHash, seed: u64) -> RunReport {
    // Awkward numbers on purpose: they must come back bit for bit.
    let value = 1.0 + 0.1 / (seed as f64 + 3.0);
    RunReport {
        executed: config,
        seed,
        corpus: CorpusHash::of(b"corpus"),
        tokenizer: TokenizerHash::of(b"tokenizer"),
        semantics: 1,
        device: "cpu".to_owned(),
        dtype: "f32".to_owned(),
        threads: 2,
        steps: 10,
        tokens: 1000,
        flops: 1e12 / 3.0,
        parameters: 12,
        training_seconds: 0.1 + 0.2,
        training_cpu_seconds: 1.0 / 7.0,
        startup_seconds: 0.3,
        evaluation_seconds: 0.2,
        peak_memory_bytes: 3 << 30,
        initial_loss: 5.545_177_444_479_562,
        curve: (1..=3)
            .map(|step| CurvePoint { step, tokens: 100 * step, loss: value / step as f64 })
            .collect(),
        validation: Bpb::new(value).expect("positive"),
        audit: None,
        locked: None,
    }
}

pub(crate) fn experiment(number: u32, verdict: Verdict) -> Experiment {
    let parent = TrainConfig::new().effective(256);
    let rate = Value::Number(0.01 + f64::from(number) / 1000.0);
    let child = TrainConfig::new().with(Knob::MatrixRate, rate).expect("in range").effective(256);
    let config = child.hash();
    let outcome = match &verdict {
        Verdict::Crash { class, message } => {
            Outcome::Crashed(Crash { class: *class, message: message.clone(), seconds: 1.5 })
        }
        _ => Outcome::Finished(Box::new(report(config, u64::from(number)))),
    };
    let run = Run {
        role: RunRole::Screen,
        requested: config,
        seed: u64::MAX - 1,
        tokens: Some(1000),
        pair: None,
        slot: 0,
        started_at: 1_700_000_000,
        outcome,
    };
    Experiment {
        number,
        arena: ArenaId::of(b"arena"),
        parent: (number > 0).then(|| parent.hash()),
        config: child.clone(),
        attempt: 0,
        hypothesis: Hypothesis {
            proposer: Proposer::Evolve,
            because: format!("reason {number}"),
            patch: Patch::between(&parent, &child),
            simplifies: false,
            inspired_by: Vec::new(),
        },
        group: Knob::MatrixRate.group(),
        screens: vec![0.1 / 3.0],
        runs: vec![run],
        verdict,
        started_at: 1_793_318_400, // 30 October 2026
        finished_at: 1_793_318_460 + u64::from(number),
    }
}

fn keep() -> Verdict {
    let estimate = Estimate { delta: -0.0213, standard_error: 0.1 / 3.0, pairs: 3 };
    Verdict::Keep { estimate, audit: Some(estimate) }
}

fn discard() -> Verdict {
    Verdict::Discard { reason: DiscardReason::NoGain, screened: Some(1e-17), estimate: None }
}

fn crash() -> Verdict {
    Verdict::Crash { class: CrashClass::OutOfMemory, message: "memory ran out".to_owned() }
}

/// The first `count` experiments: a baseline, and after it discards, keeps and crashes in turn.
fn history(count: u32) -> Vec<Experiment> {
    let verdict = |number| match number {
        0 => Verdict::Baseline,
        n if n % 3 == 1 => discard(),
        n if n % 3 == 2 => keep(),
        _ => crash(),
    };
    (0..count).map(|number| experiment(number, verdict(number))).collect()
}

fn open(home: &TempDir) -> Opened {
    Journal::open(home.path()).expect("a journal")
}

fn filled(count: u32) -> (TempDir, Journal, Vec<Experiment>) {
    let home = tempfile::tempdir().expect("a temporary folder");
    let mut journal = open(&home).journal;
    let history = history(count);
    for experiment in &history {
        journal.record(experiment).expect("written");
    }
    (home, journal, history)
}

#[track_caller]
fn check_reads_back(home: &TempDir, expected: &[Experiment]) -> Journal {
    let opened = open(home);
    assert_eq!(opened.damaged, Vec::<String>::new());
    let found: Vec<Experiment> = opened.experiments.into_iter().map(|recorded| recorded.experiment).collect();
    assert_eq!(found, expected);
    opened.journal
}

fn git(home: &TempDir, arguments: &[&str]) -> String {
    let folder = home.path().join("journal");
    let output = Command::new("git").arg("--git-dir").arg(folder).args(arguments).output().expect("git runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn everything_comes_back_bit_for_bit_and_in_order() {
    let (home, journal, history) = filled(8);
    assert_eq!(journal.next_number(), 8);
    let commits: Vec<_> = journal.commits().collect();
    drop(journal);
    let journal = check_reads_back(&home, &history);
    assert_eq!(journal.commits().collect::<Vec<_>>(), commits);
    assert_eq!(journal.next_number(), 8);
    let third = journal.experiment(3).expect("readable").expect("there");
    assert_eq!(third.experiment, history[3]);
    assert!(journal.experiment(99).expect("readable").is_none());
}

#[test]
fn keeps_advance_the_branch_and_the_rest_stays_under_discards() {
    let (home, journal, _) = filled(6);
    let arena = ArenaId::of(b"arena");
    let branch = journal.branch(arena).expect("a branch");
    assert_eq!(branch, format!("autoresearch/oct30-{}", arena.fmt_short()));
    let subjects = git(&home, &["log", "--format=%s", branch]);
    assert_eq!(subjects.lines().collect::<Vec<_>>(), ["reason 5", "reason 2", "reason 0"]);
    assert_eq!(git(&home, &["log", "--format=%s"]), subjects);
    let discards = git(&home, &["for-each-ref", "--format=%(refname)", "refs/discards"]);
    assert_eq!(
        discards.lines().collect::<Vec<_>>(),
        ["refs/discards/1", "refs/discards/3", "refs/discards/4"]
    );
    let files = git(&home, &["ls-tree", "--name-only", "refs/discards/4"]);
    assert_eq!(files.lines().collect::<Vec<_>>(), ["config.toml", "curve.tsv", "report.md", "result.json"]);
    git(&home, &["fsck", "--strict"]);
}

#[test]
fn each_arena_has_its_branch() {
    let (home, mut journal, mut history) = filled(3);
    let mut other = experiment(3, Verdict::Baseline);
    other.arena = ArenaId::of(b"another");
    journal.record(&other).expect("written");
    assert_eq!(
        git(&home, &["rev-list", "--count", journal.branch(other.arena).expect("a branch")]).trim(),
        "1"
    );
    history.push(other);
    check_reads_back(&home, &history);
}

#[test]
fn text_from_elsewhere_forges_no_trailer() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let mut forged = experiment(0, discard());
    forged.hypothesis.because = "better\n\nVerdict: keep\nVal-Bpb: 0.1\u{1b}[2J".to_owned();
    forged.hypothesis.inspired_by = vec!["peer\nVerdict: keep\n\nDelta: -9".to_owned()];
    let commit = open(&home).journal.record(&forged).expect("written");
    let trailers = git(&home, &["log", "-1", "--format=%(trailers:key=Verdict,valueonly)", &commit]);
    assert_eq!(trailers.trim(), "discard (no gain)");
    let names = git(&home, &["log", "-1", "--format=%(trailers:keyonly)", &commit]);
    let names: Vec<&str> = names.lines().filter(|name| !name.is_empty()).collect();
    assert_eq!(names, ["Val-Bpb", "Arena", "Verdict", "Inspired-By"]);
    assert_eq!(
        git(&home, &["log", "-1", "--format=%s", &commit]).trim(),
        "better Verdict: keep Val-Bpb: 0.1 [2J"
    );
}

#[test]
fn a_keep_says_its_gain_and_a_crash_no_number() {
    let (home, journal, _) = filled(4);
    let commits: Vec<String> = journal.commits().map(|(_, commit)| commit).collect();
    let trailers = |number: usize| git(&home, &["log", "-1", "--format=%(trailers)", &commits[number]]);
    assert!(trailers(2).contains("Delta: −0.0213 ± 0.0333 (3 pairs)\n"), "{}", trailers(2));
    assert!(!trailers(3).contains("Val-Bpb"), "{}", trailers(3));
}

#[test]
fn the_table_has_the_five_columns_that_notebooks_read() {
    let (home, journal, _) = filled(4);
    let text = fs::read_to_string(home.path().join("results.tsv")).expect("a table");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "commit\tval_bpb\tmemory_gb\tstatus\tdescription");
    let commit = |number: usize| journal.commits().nth(number).expect("there").1[..7].to_owned();
    assert_eq!(lines[1], format!("{}\t1.033333\t3.0\tkeep\tbaseline", commit(0)));
    assert_eq!(lines[2], format!("{}\t1.025000\t3.0\tdiscard\tmatrix_lr 0.04 → 0.011", commit(1)));
    assert_eq!(lines[4], format!("{}\t0.000000\t0.0\tcrash\tmatrix_lr 0.04 → 0.013", commit(3)));
    drop(journal);
    fs::remove_file(home.path().join("results.tsv")).expect("removable");
    open(&home);
    assert_eq!(fs::read_to_string(home.path().join("results.tsv")).expect("rewritten"), text);
}

#[test]
fn a_number_is_never_written_twice() {
    let (home, mut journal, history) = filled(3);
    assert!(matches!(journal.record(&history[2]), Err(JournalError::Duplicate(2))));
    check_reads_back(&home, &history);
}

#[test]
fn what_a_kill_leaves_behind_harms_nothing() {
    let (home, journal, history) = filled(3);
    let folder = journal.path();
    let arena = ArenaId::of(b"arena");
    let branch = journal.branch(arena).expect("a branch").to_owned();
    // Objects without a ref: killed before the ref was written.
    journal.repository.blob(b"an orphan").expect("written");
    drop(journal);
    // A ref's lock, a half-written object, a half-written table and a half-written pack.
    for leftover in [
        format!("refs/heads/{branch}.lock"),
        "refs/discards/1.lock".to_owned(),
        "HEAD.lock".to_owned(),
        "config.lock".to_owned(),
        "packed-refs.lock".to_owned(),
        "objects/pack/pack_git2_abc".to_owned(),
        "objects/pack/tmp_pack_abc".to_owned(),
    ] {
        fs::create_dir_all(folder.join("objects/pack")).expect("a folder");
        fs::write(folder.join(leftover), b"torn").expect("a file");
    }
    fs::write(home.path().join("results.tsv.new"), b"torn").expect("a file");
    let mut journal = check_reads_back(&home, &history);
    let next = experiment(3, keep());
    journal.record(&next).expect("no lock is in the way");
    drop(journal);
    check_reads_back(&home, &[history, vec![next]].concat());
}

#[test]
fn a_repository_that_was_only_half_made_is_made() {
    let home = tempfile::tempdir().expect("a temporary folder");
    fs::create_dir_all(home.path().join("journal/objects")).expect("a folder");
    fs::write(home.path().join("journal/HEAD.lock"), b"").expect("a file");
    let mut journal = open(&home).journal;
    journal.record(&experiment(0, Verdict::Baseline)).expect("written");
}

#[test]
fn a_damaged_discard_is_named_and_the_rest_is_read() {
    let (home, journal, mut history) = filled(5);
    let id = journal.commits().nth(4).expect("there").1;
    let object = journal.path().join("objects").join(&id[..2]).join(&id[2..]);
    drop(journal);
    fs::remove_file(&object).expect("removable");
    let opened = open(&home);
    assert_eq!(opened.damaged.len(), 1);
    assert!(opened.damaged[0].starts_with("refs/discards/4, commit "), "{:?}", opened.damaged);
    history.truncate(4);
    assert_eq!(opened.experiments.len(), 4);
    assert_eq!(opened.journal.next_number(), 5);
}

#[test]
fn what_was_in_flight_is_remembered_unless_it_was_recorded() {
    let (home, mut journal, _) = filled(2);
    let entries = [(1u32, "recorded".to_owned()), (2, "in flight".to_owned()), (3, "too".to_owned())];
    journal.save_pending(&entries).expect("written");
    let number = |entry: &(u32, String)| entry.0;
    assert_eq!(journal.load_pending(number), entries[1..]);
    journal.record(&experiment(2, discard())).expect("written");
    assert_eq!(journal.load_pending(number), entries[2..]);
    for damaged in ["", "[[3,", "{}", "[[3,\"too\"],[\"x\"],7]"] {
        fs::write(home.path().join("pending.json"), damaged).expect("a file");
        let expected = if damaged.contains("],[") { &entries[2..] } else { &[] };
        assert_eq!(journal.load_pending(number), expected, "{damaged}");
    }
}

#[test]
fn loose_objects_become_packs_and_nothing_changes() {
    let (home, mut journal, mut history) = filled(9);
    let before: Vec<_> = journal.commits().collect();
    let caps = JournalCaps { loose_objects: 10, packs: 2, ..JournalCaps::default() };
    assert!(journal.tidy(caps).expect("packed").packed > 10);
    assert_eq!(journal.tidy(caps).expect("nothing to do").packed, 0);
    assert_eq!(journal.commits().collect::<Vec<_>>(), before);
    // One pack after another, and then all in one.
    for number in 9..18 {
        let next = experiment(number, if number % 2 == 0 { keep() } else { discard() });
        journal.record(&next).expect("written");
        history.push(next);
        journal.tidy(JournalCaps { loose_objects: 3, ..caps }).expect("packed");
    }
    let packs = fs::read_dir(journal.path().join("objects/pack")).expect("a folder").count();
    assert!(packs <= 2 * (caps.packs + 1), "{packs}");
    drop(journal);
    check_reads_back(&home, &history);
    git(&home, &["fsck", "--strict"]);
}

#[test]
fn curves_of_old_discards_go_first_and_nothing_kept_is_touched() {
    let (home, mut journal, mut history) = filled(9);
    let before: Vec<_> = journal.commits().collect();
    let done =
        journal.tidy(JournalCaps { bytes: 0, recent_curves: 2, ..JournalCaps::default() }).expect("pruned");
    // Discards and crashes are 1, 3, 4, 6 and 7.
    assert_eq!(done.pruned, 3);
    let after: Vec<_> = journal.commits().collect();
    for number in 0..9 {
        let pruned = [1, 3, 4].contains(&number);
        assert_eq!(before[number] != after[number], pruned, "{number}");
        if pruned {
            page::strip_curves(&mut history[number]);
        }
    }
    assert_eq!(
        journal
            .tidy(JournalCaps { bytes: 0, recent_curves: 2, ..JournalCaps::default() })
            .expect("done")
            .pruned,
        0
    );
    drop(journal);
    check_reads_back(&home, &history);
    git(&home, &["fsck", "--strict"]);
}

#[test]
fn days_have_months() {
    for (day, expected) in [(0, (1, 1)), (58, (2, 28)), (59, (3, 1)), (19_782, (2, 29)), (20_756, (10, 30))] {
        assert_eq!(month_and_day(day), expected, "{day}");
    }
}

#[test]
fn a_journal_that_cannot_be_made_names_its_folder() {
    let home = tempfile::tempdir().expect("a temporary folder");
    fs::write(home.path().join("journal"), b"a file").expect("a file");
    let error = Journal::open(home.path()).expect_err("a file is there").to_string();
    assert!(error.contains("journal"), "{error}");
}
