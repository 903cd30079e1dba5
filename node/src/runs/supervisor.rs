//! The supervisor: runs a trainer as a child process, so that whatever happens to it is an outcome and the
//! node goes on.
//!
//! ```text
//! RunSpec ──▶ process (own group, nice, its cores) ──lines──▶ watch ──▶ Outcome
//!                 ▲                                    ▲
//!        cancel, pause, kill of the whole tree     clock, memory
//! ```
//!
//! **A run never ends later than its limits, leaves no process behind, and never gives a number that was not
//! checked** against what was asked for. Not here: which run comes next (research), and what the trainer does
//! inside.

mod ended;
mod links;
mod pre_exec;
mod process;
mod supervision;
mod tree;
mod watch;

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use autoswarm_protocol::{
    Crash, CrashClass, EffectiveConfig, Knob, Split,
    arena::Dtype,
    id::{CorpusHash, TokenizerHash},
    pruning::PruneBounds,
};
use tokio::{
    sync::{mpsc, watch as channel},
    time::timeout,
};

pub use ended::Ended;
pub use links::{Control, RunProgress};
pub use watch::{Limits, Prepared, Price};

use crate::machine::{guest::TRAINER_NICENESS, slots::Placement};
use links::Links;
use pre_exec::Habits;
use process::{ErrorTail, Launch};
use supervision::{AFTERMATH, Supervision};
use watch::{CallFault, ExpectedReport, Goal, Watch};

/// What a run may use up: training seconds or training tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RunBudget {
    /// Training seconds: the run prices itself and rounds to whole steps.
    Seconds(f64),
    /// A fixed number of training tokens.
    Tokens(u64),
}

/// One run of `trainer train`.
#[derive(Debug, Clone)]
pub struct RunSpec {
    /// Number chosen by the caller and handed back with every event.
    pub run: u64,
    /// Path of the trainer binary.
    pub trainer: PathBuf,
    /// The config to execute.
    pub config: EffectiveConfig,
    /// Folder of the prepared dataset.
    pub data: PathBuf,
    /// Hash of the corpus that the dataset must hold.
    pub corpus: CorpusHash,
    /// Hash of the tokenizer that the dataset must hold.
    pub tokenizer: TokenizerHash,
    /// Seed of the training.
    pub seed: u64,
    /// Training seconds or tokens that it may use up.
    pub budget: RunBudget,
    /// The slot that it runs on.
    pub placement: Placement,
    /// The number format; none where the trainer shall choose.
    pub dtype: Option<Dtype>,
    /// The held-out splits to evaluate.
    pub splits: Vec<Split>,
    /// Evaluation context, tokens.
    pub context: u32,
    /// Evaluation tokens of each split.
    pub evaluation_tokens: u64,
    /// Fewest steps that a price must buy; none for the trainer's default.
    pub min_steps: Option<u64>,
    /// Where to save the trained model; none to keep no model.
    pub save: Option<PathBuf>,
    /// The losses above which it is pruned; none for a run that is not pruned.
    pub prune: Option<PruneBounds>,
    /// The limits that the supervisor enforces.
    pub limits: Limits,
    /// Folder of the run's own, for its config and its log.
    pub folder: PathBuf,
}

/// Runs `trainer train` to its end. Events for which the receiver has no room are dropped: they are news, not
/// results.
pub async fn run(
    spec: RunSpec,
    events: mpsc::Sender<RunProgress>,
    control: channel::Receiver<Control>,
) -> Ended {
    let goal = Goal::Train(spec.expected());
    spec.call("train", goal, events, control).await
}

/// Runs `trainer price`: what [`RunSpec::budget`] buys on this slot. Returns none if it was cancelled.
pub async fn price(
    spec: RunSpec,
    events: mpsc::Sender<RunProgress>,
    control: channel::Receiver<Control>,
) -> Option<Result<Price, Crash>> {
    let goal = Goal::Price(spec.config.hash());
    spec.call("price", goal, events, control).await.into_price()
}

/// One run of `trainer prepare`.
#[derive(Debug, Clone)]
pub struct PrepareSpec {
    /// Path of the trainer binary.
    pub trainer: PathBuf,
    /// What follows `prepare` on its command line.
    pub arguments: Vec<OsString>,
    /// Threads that the preparation may use.
    pub threads: u16,
    /// Longest time without a line of output.
    pub silence: Duration,
    /// Folder for its log.
    pub folder: PathBuf,
}

/// Runs `trainer prepare` to its end. Returns none if it was cancelled.
pub async fn prepare(
    spec: PrepareSpec,
    events: mpsc::Sender<RunProgress>,
    control: channel::Receiver<Control>,
) -> Option<Result<Prepared, Crash>> {
    let mut arguments = vec![OsString::from("prepare")];
    arguments.extend(spec.arguments);
    let silence = spec.silence;
    // A preparation has no budget, so silence is what ends it.
    let limits = Limits { silence, startup: silence, ..Limits::for_budget(Duration::ZERO, 0) };
    let call = Call {
        run: 0,
        program: spec.trainer,
        arguments,
        threads: spec.threads,
        cpus: Vec::new(),
        folder: spec.folder,
        goal: Goal::Prepare,
        limits,
    };
    call.supervise(events, control).await.into_dataset()
}

impl RunSpec {
    fn expected(&self) -> ExpectedReport {
        ExpectedReport {
            config: self.config.hash(),
            seed: self.seed,
            corpus: self.corpus,
            tokenizer: self.tokenizer,
            tokens_per_step: self.config.integer(Knob::BatchTokens) as u64,
            tokens: match self.budget {
                RunBudget::Tokens(tokens) => Some(tokens),
                RunBudget::Seconds(_) => None,
            },
            splits: self.splits.clone(),
            prune: self.prune,
        }
    }

    fn arguments(&self, verb: &str, config: &Path) -> Vec<OsString> {
        let mut list: Vec<OsString> = vec![verb.into()];
        let mut put = |flag: &str, value: &dyn AsRef<std::ffi::OsStr>| {
            list.push(flag.into());
            list.push(value.as_ref().into());
        };
        put("--config", &config);
        put("--data", &self.data);
        match self.budget {
            RunBudget::Seconds(seconds) => put("--budget-seconds", &seconds.to_string()),
            RunBudget::Tokens(tokens) => put("--budget-tokens", &tokens.to_string()),
        }
        put("--seed", &self.seed.to_string());
        put("--device", &self.placement.device.to_string());
        put("--threads", &self.placement.threads.to_string());
        put("--context", &self.context.to_string());
        if let Some(dtype) = self.dtype {
            put("--dtype", &dtype.name());
        }
        if let Some(steps) = self.min_steps {
            put("--min-steps", &steps.to_string());
        }
        if verb == "train" {
            put("--cap-seconds", &self.limits.cap.as_secs_f64().to_string());
            let splits: Vec<&str> = self.splits.iter().map(|split| split.name()).collect();
            put("--splits", &splits.join(","));
            put("--evaluation-tokens", &self.evaluation_tokens.to_string());
            if let Some(path) = &self.save {
                put("--save", path);
            }
            if let Some(prune) = &self.prune {
                put("--prune", &prune.to_string());
            }
        }
        list.push("--json".into());
        list
    }

    async fn call(
        self,
        verb: &str,
        goal: Goal,
        events: mpsc::Sender<RunProgress>,
        control: channel::Receiver<Control>,
    ) -> Ended {
        let config = self.folder.join("config.toml");
        let written =
            fs::create_dir_all(&self.folder).and_then(|()| fs::write(&config, self.config.to_toml()));
        if let Err(error) = written {
            let message =
                format!("cannot write `{}`: {error}; free space or check permissions", config.display());
            return Ended::failed(CallFault::new(CrashClass::NotStarted, message));
        }
        let call = Call {
            run: self.run,
            arguments: self.arguments(verb, &config),
            program: self.trainer,
            threads: self.placement.threads,
            cpus: self.placement.cpus,
            folder: self.folder,
            goal,
            limits: self.limits,
        };
        call.supervise(events, control).await
    }
}

/// One call of the trainer binary, as the supervisor needs it.
struct Call {
    run: u64,
    program: PathBuf,
    arguments: Vec<OsString>,
    threads: u16,
    cpus: Vec<usize>,
    folder: PathBuf,
    goal: Goal,
    limits: Limits,
}

impl Call {
    async fn supervise(
        self,
        events: mpsc::Sender<RunProgress>,
        control: channel::Receiver<Control>,
    ) -> Ended {
        tree::adopt_orphans();
        let mark = fresh_mark();
        let launch = Launch {
            program: &self.program,
            arguments: &self.arguments,
            threads: self.threads,
            habits: Habits { niceness: TRAINER_NICENESS, cpus: self.cpus.clone() },
            mark: &mark,
        };
        let mut child = match process::launch(launch).await {
            Ok(child) => child,
            Err(error) => return Ended::failed(not_started(&self.program, &error)),
        };
        let errors = ErrorTail::default();
        let reading = child.stderr.take().map(|pipe| tokio::spawn(errors.clone().fill(pipe)));
        let watch = Watch::new(self.goal, self.limits);
        let mut supervision = Supervision::new(self.run, watch, child, &mark, Links { events, control });
        let reason = supervision.follow().await;
        let exit = supervision.reap().await;
        // The pipe closes with its last holder; a process that cannot be killed must not hold this up.
        if let Some(reading) = reading {
            let _ = timeout(AFTERMATH, reading).await;
        }
        // The log is for people; a run without one still counts.
        let _ = fs::write(self.folder.join("run.log"), errors.bytes());
        supervision.judge(reason, exit, errors.last_line().as_deref()).await
    }
}

/// Returns a mark that no other run has, neither of this process nor of an earlier one with the same id.
fn fresh_mark() -> String {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let run = RUNS.fetch_add(1, Ordering::Relaxed);
    format!("{}-{}-{run}", std::process::id(), since_epoch.as_nanos())
}

fn not_started(program: &Path, error: &io::Error) -> CallFault {
    let fix = match error.kind() {
        io::ErrorKind::NotFound => {
            "there is no such file; build it with `scripts/run.sh`, or put it beside `node`"
        }
        io::ErrorKind::PermissionDenied => "make it executable with `chmod +x`",
        _ => "check that it is a program for this machine and that processes may be started",
    };
    let message = format!("cannot start the trainer `{}`: {error}; {fix}", program.display());
    CallFault::new(CrashClass::NotStarted, message)
}
