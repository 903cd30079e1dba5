//! The supervisor with a trainer that misbehaves: each failure has its class, and no process is left.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use autoswarm_node::{
    machine::slots::{Device, Placement},
    runs::supervisor::{self, Control, Ended, Limits, PrepareSpec, RunBudget, RunProgress, RunSpec},
};
use autoswarm_protocol::{
    CrashClass, Outcome, RunReport, Split, TrainConfig, TrainerEvent,
    id::{CorpusHash, TokenizerHash},
};
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};

/// The fake trainer's binary.
pub(crate) const FAKE_TRAINER: &str = env!("CARGO_BIN_EXE_fake-trainer");

/// A temporary folder with a prepared dataset, and a run in it.
struct Bench {
    folder: TempDir,
    spec: RunSpec,
}

impl Bench {
    /// Makes a dataset in which the fake trainer finds this behaviour.
    fn new(behaviour: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = folder.path().join("data");
        let (corpus, tokenizer) = (CorpusHash::of(b"fake corpus"), TokenizerHash::of(b"fake tokenizer"));
        fs::create_dir(&data).expect("a folder");
        let manifest = serde_json::json!({ "corpus": corpus, "tokenizer": tokenizer });
        fs::write(data.join("dataset.json"), manifest.to_string()).expect("a file");
        fs::write(data.join("fake-trainer"), behaviour).expect("a file");
        let spec = RunSpec {
            run: 7,
            trainer: PathBuf::from(FAKE_TRAINER),
            config: TrainConfig::new().effective(256),
            data,
            corpus,
            tokenizer,
            seed: 42,
            budget: RunBudget::Seconds(20.0),
            placement: Placement { device: Device::Cpu, threads: 1, cpus: Vec::new() },
            dtype: None,
            splits: vec![Split::Validation, Split::Audit],
            context: 256,
            evaluation_tokens: 1024,
            min_steps: Some(10),
            prune: None,
            save: None,
            limits: Limits {
                startup: Duration::from_secs(30),
                cap: Duration::from_secs(30),
                grace: Duration::from_millis(200),
                evaluation: Duration::from_secs(30),
                silence: Duration::from_secs(30),
                memory_bytes: 1 << 30,
            },
            folder: folder.path().join("run"),
        };
        Self { folder, spec }
    }

    async fn run(&self) -> Ended {
        let (events, _news) = mpsc::channel(64);
        let (_owner, control) = watch::channel(Control::Run);
        supervisor::run(self.spec.clone(), events, control).await
    }

    async fn report(&self) -> RunReport {
        match self.run().await.outcome() {
            Some(Outcome::Finished(report)) => *report,
            other => panic!("no report but {other:?}"),
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.spec.folder.join("run.log")).expect("a log")
    }
}

/// Runs the bench and expects a crash of `class` whose message says `words`.
#[track_caller]
fn check(bench: &Bench, class: CrashClass, words: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    match runtime.block_on(bench.run()).outcome() {
        Some(Outcome::Crashed(crash)) => {
            assert_eq!(crash.class, class, "{}", crash.message);
            assert!(crash.message.contains(words), "`{words}` is not in `{}`", crash.message);
            assert!(!crash.message.chars().any(char::is_control), "{:?}", crash.message);
        }
        other => panic!("no crash but {other:?}"),
    }
}

fn crash(behaviour: &str, class: CrashClass, words: &str) {
    check(&Bench::new(behaviour), class, words);
}

#[tokio::test]
async fn a_good_run_gives_a_checked_report_its_price_and_its_events() {
    let bench = Bench::new("");
    let (events, mut news) = mpsc::channel(64);
    let (_owner, control) = watch::channel(Control::Run);
    let ended = supervisor::run(bench.spec.clone(), events, control).await;
    let Some(Outcome::Finished(report)) = ended.clone().outcome() else { panic!("{ended:?}") };
    assert_eq!(report.executed, bench.spec.config.hash());
    assert_eq!(ended.price.expect("a price").tokens, report.tokens);
    assert!(report.audit.is_some() && report.locked.is_none());
    let mut heard = Vec::new();
    while let Some(RunProgress { run: 7, event }) = news.recv().await {
        heard.push(event);
    }
    assert!(matches!(heard[0], TrainerEvent::Starting { .. }));
    assert!(matches!(heard.last(), Some(TrainerEvent::Finished { .. })));
}

#[tokio::test]
async fn tokens_replay_what_seconds_bought() {
    let mut bench = Bench::new("");
    let first = bench.report().await;
    bench.spec.budget = RunBudget::Tokens(first.tokens);
    assert_eq!(bench.report().await.validation, first.validation);
}

#[tokio::test]
async fn a_price_and_a_dataset_can_be_asked_for() {
    let bench = Bench::new("");
    let (events, _news) = mpsc::channel(64);
    let (_owner, control) = watch::channel(Control::Run);
    let price = supervisor::price(bench.spec.clone(), events.clone(), control.clone()).await;
    assert!(price.expect("not cancelled").expect("a price").tokens > 0);
    let out = bench.folder.path().join("prepared");
    let spec = PrepareSpec {
        trainer: PathBuf::from(FAKE_TRAINER),
        arguments: vec!["--tokenizer".into(), "bytes".into(), "--out".into(), out.clone().into()],
        threads: 1,
        silence: Duration::from_secs(30),
        folder: bench.folder.path().to_owned(),
    };
    let prepared =
        supervisor::prepare(spec, events, control).await.expect("not cancelled").expect("a dataset");
    assert_eq!(prepared.splits.len(), 4);
    assert!(out.join("dataset.json").exists());
}

#[test]
fn what_is_not_the_protocol_is_bad_output() {
    crash("garbage", CrashClass::BadOutput, "`Segmentation [31mfault? not JSON`");
    crash("long_line", CrashClass::BadOutput, "more than 65536 bytes: `xxx");
    crash("flood", CrashClass::BadOutput, "floods its output");
    crash("early", CrashClass::BadOutput, "out of turn");
    crash("babble", CrashClass::BadOutput, "after its last word");
    crash("mute", CrashClass::BadOutput, "without a result");
    crash("zero", CrashClass::BadOutput, "above 0");
    crash("wrong_tokens", CrashClass::BadOutput, "do not add up");
}

#[test]
fn a_number_that_is_none_is_not_a_number() {
    crash("nan", CrashClass::NotANumber, "NaN");
    crash("null", CrashClass::NotANumber, "a number that is none");
}

#[test]
fn what_was_not_asked_for_is_a_mismatch() {
    for behaviour in ["wrong_config", "wrong_executed", "wrong_seed", "wrong_corpus"] {
        crash(behaviour, CrashClass::ConfigMismatch, "was asked for");
    }
}

#[test]
fn a_trainer_that_ends_itself_says_how() {
    crash("exit=3", CrashClass::Failed, "code 3; its last error line: the fake trainer gives up");
    crash("kill", CrashClass::Killed, "signal 9 (kill)");
    crash("abort", CrashClass::Killed, "signal 6 (abort)");
    crash("fail=diverged", CrashClass::Diverged, "as asked");
    crash("oom_message", CrashClass::OutOfMemory, "CUDA out of memory");
}

#[test]
fn too_few_steps_are_too_slow() {
    let mut bench = Bench::new("");
    bench.spec.budget = RunBudget::Seconds(0.1);
    check(&bench, CrashClass::TooSlow, "steps");
}

#[test]
fn silence_is_hung_in_every_phase() {
    for (behaviour, words) in
        [("silent", "nothing for"), ("hang", "nothing for"), ("hang_in_evaluation", "nothing")]
    {
        let mut bench = Bench::new(behaviour);
        bench.spec.limits.silence = Duration::from_millis(200);
        check(&bench, CrashClass::Hung, words);
    }
}

#[test]
fn each_phase_has_its_own_cap() {
    let short = Duration::from_millis(100);
    let mut bench = Bench::new("silent");
    bench.spec.limits.startup = short;
    check(&bench, CrashClass::Hung, "training had not started");
    let mut bench = Bench::new("hang");
    bench.spec.limits.cap = short;
    check(&bench, CrashClass::TimedOut, "training had not ended after 0.1 s");
    let mut bench = Bench::new("hang_in_evaluation");
    bench.spec.limits.evaluation = short;
    check(&bench, CrashClass::EvaluationTimedOut, "evaluation had not ended");
}

#[test]
fn memory_over_the_limit_is_out_of_memory() {
    let mut bench = Bench::new("oom");
    bench.spec.limits.memory_bytes = 128 << 20;
    check(&bench, CrashClass::OutOfMemory, "a slot has 128 MiB");
}

#[test]
fn a_missing_trainer_names_the_fix() {
    let mut bench = Bench::new("");
    bench.spec.trainer = PathBuf::from("/nonexistent/trainer");
    check(&bench, CrashClass::NotStarted, "scripts/run.sh");
    bench.spec.trainer = bench.spec.data.join("dataset.json");
    check(&bench, CrashClass::NotStarted, "chmod +x");
    bench.spec.folder = bench.spec.data.join("dataset.json").join("run");
    check(&bench, CrashClass::NotStarted, "cannot write");
}

#[tokio::test]
async fn a_result_counts_even_if_its_process_stays() {
    let bench = Bench::new("stay");
    let started = Instant::now();
    bench.report().await;
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn what_a_run_leaves_behind_is_killed() {
    for behaviour in ["fork", "orphan", "fork,exit=1", "orphan,kill", "fork,orphan,stay"] {
        let bench = Bench::new(behaviour);
        bench.run().await;
        let log = bench.log();
        let left: Vec<&str> =
            log.lines().filter_map(|line| line.strip_prefix("left ")?.strip_suffix(" behind")).collect();
        assert!(!left.is_empty(), "{behaviour}: {log}");
        for pid in left {
            assert!(!Path::new("/proc").join(pid).exists(), "{behaviour}: {pid} lives");
        }
    }
}

/// Waits until the trainer trains.
async fn training(news: &mut mpsc::Receiver<RunProgress>) {
    while let Some(progress) = news.recv().await {
        if matches!(progress.event, TrainerEvent::Progress { .. }) {
            return;
        }
    }
    panic!("it never trained");
}

#[tokio::test]
async fn a_cancelled_run_ends_within_a_second_and_has_no_outcome() {
    let bench = Bench::new("hang");
    let (events, mut news) = mpsc::channel(64);
    let (owner, control) = watch::channel(Control::Run);
    let run = tokio::spawn(supervisor::run(bench.spec.clone(), events, control));
    training(&mut news).await;
    let asked = Instant::now();
    owner.send(Control::Cancel).expect("the run listens");
    let ended = run.await.expect("no panic");
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    assert_eq!(ended.outcome(), None);
}

#[tokio::test]
async fn paused_time_counts_against_no_limit() {
    let mut bench = Bench::new("slow=0.4");
    bench.spec.limits.cap = Duration::from_millis(900);
    bench.spec.limits.silence = Duration::from_millis(900);
    let (events, mut news) = mpsc::channel(64);
    let (owner, control) = watch::channel(Control::Run);
    let run = tokio::spawn(supervisor::run(bench.spec.clone(), events, control));
    training(&mut news).await;
    owner.send(Control::Pause).expect("the run listens");
    // Longer than every limit of this run.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(!run.is_finished());
    owner.send(Control::Run).expect("the run listens");
    let ended = run.await.expect("no panic");
    assert!(matches!(ended.clone().outcome(), Some(Outcome::Finished(_))), "{ended:?}");
}

#[tokio::test]
async fn an_abandoned_run_leaves_no_process() {
    let bench = Bench::new("orphan,hang");
    let (events, mut news) = mpsc::channel(64);
    let (_owner, control) = watch::channel(Control::Run);
    let run = tokio::spawn(supervisor::run(bench.spec.clone(), events, control));
    training(&mut news).await;
    run.abort();
    assert!(run.await.expect_err("aborted").is_cancelled());
    let mine = format!("{}", bench.spec.folder.display());
    let alive = || {
        let processes = fs::read_dir("/proc").expect("Linux").flatten();
        let lines = processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
        lines.filter(|line| String::from_utf8_lossy(line).contains(&mine)).count()
    };
    // The kill was sent before the abort returned, but the kernel may carry it out a little later.
    let deadline = Instant::now() + Duration::from_secs(10);
    while alive() > 0 && Instant::now() < deadline {
        tokio::task::yield_now().await;
    }
    assert_eq!(alive(), 0);
}

#[tokio::test]
async fn a_trainer_is_nice_and_stays_on_its_core() {
    let mut bench = Bench::new("hang");
    bench.spec.placement.cpus = vec![0];
    let (events, mut news) = mpsc::channel(64);
    let (owner, control) = watch::channel(Control::Run);
    let run = tokio::spawn(supervisor::run(bench.spec.clone(), events, control));
    training(&mut news).await;
    let mine = bench.spec.folder.display().to_string();
    let process = fs::read_dir("/proc")
        .expect("Linux")
        .flatten()
        .map(|entry| entry.path())
        .find(|path| {
            let line = fs::read(path.join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&mine)
        })
        .expect("the trainer runs");
    let read = |name: &str| fs::read_to_string(process.join(name)).expect("it runs");
    let stat = read("stat");
    // The niceness is the 19th field of proc(5); those after the name begin with the third.
    let nice = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(16)).expect("a niceness");
    assert_eq!(nice, "19");
    assert!(read("status").lines().any(|line| line == "Cpus_allowed_list:\t0"), "{}", read("status"));
    owner.send(Control::Cancel).expect("the run listens");
    run.await.expect("no panic");
}
