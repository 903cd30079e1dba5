//! The supervisor: runs a trainer as a child process, so that whatever happens to it is an outcome and not our end.
//!
//! ```text
//! RunSpec ──▶ process (own group, nice, its cores) ──lines──▶ watch ──▶ Outcome
//!                 ▲                                    ▲
//!        cancel, pause, kill of the whole tree     clock, memory
//! ```
//!
//! **A run never ends later than its limits, leaves no process behind, and never gives a number that was not checked**
//! against what was asked for. What is not here: which run comes next (research), and what the trainer does inside.

mod pre_exec;
mod process;
mod session;
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
    Crash, CrashClass, EffectiveConfig, Knob, Outcome, Split, TrainerEvent,
    arena::Dtype,
    id::{CorpusHash, TokenizerHash},
    race::RaceBounds,
};
use tokio::{
    sync::{mpsc, watch as channel},
    time::timeout,
};

pub use watch::{Limits, Prepared, Price};

use crate::machine::{guest::TRAINER_NICENESS, slots::Placement};
use pre_exec::Habits;
use process::{ErrorTail, Launch};
use session::{Links, Session};
use watch::{Answer, Expected, Fault, Goal, Watch};

/// How long closed pipes and killed processes may take to be gone.
const AFTERMATH: Duration = Duration::from_secs(2);

/// What a run may use up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RunBudget {
    /// Training seconds: the run prices itself and rounds to whole steps.
    Seconds(f64),
    /// Training tokens.
    Tokens(u64),
}

/// One run of `trainer train`.
#[derive(Debug, Clone)]
pub struct RunSpec {
    /// A number of the caller's, handed back with every event.
    pub run: u64,
    /// The trainer binary.
    pub trainer: PathBuf,
    /// The config to execute.
    pub config: EffectiveConfig,
    /// The prepared dataset.
    pub data: PathBuf,
    /// The corpus that the dataset must hold.
    pub corpus: CorpusHash,
    /// The tokenizer that the dataset must hold.
    pub tokenizer: TokenizerHash,
    /// The seed.
    pub seed: u64,
    /// The budget.
    pub budget: RunBudget,
    /// The slot.
    pub placement: Placement,
    /// The number format, where the trainer shall not choose.
    pub dtype: Option<Dtype>,
    /// The held-out splits to evaluate.
    pub splits: Vec<Split>,
    /// Evaluation context, tokens.
    pub context: u32,
    /// Evaluation tokens of each split.
    pub evaluation_tokens: u64,
    /// The fewest steps that a price must buy.
    pub min_steps: Option<u64>,
    /// Where to save the model.
    pub save: Option<PathBuf>,
    /// How far behind it may be; none for a run that is not raced.
    pub race: Option<RaceBounds>,
    /// The bounds that are enforced.
    pub limits: Limits,
    /// A folder of the run's own: its config and its log go there.
    pub folder: PathBuf,
}

/// Something that a run's trainer said.
#[derive(Debug, Clone, PartialEq)]
pub struct RunProgress {
    /// [`RunSpec::run`].
    pub run: u64,
    /// What it said.
    pub event: TrainerEvent,
}

/// What the owner of a run wants of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Control {
    /// Go on.
    #[default]
    Run,
    /// Stand still; the time until [`Control::Run`] counts against no limit.
    Pause,
    /// End now, without an outcome.
    Cancel,
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// Its outcome; none if it was cancelled.
    pub outcome: Option<Outcome>,
    /// The price that it said.
    pub price: Option<Price>,
    /// Most memory seen by the supervisor, bytes; mapped files not counted.
    pub peak_memory_bytes: u64,
}

/// Runs `trainer train` to its end. Events that the receiver has no room for are dropped: they are news, not results.
pub async fn run(
    spec: RunSpec,
    events: mpsc::Sender<RunProgress>,
    control: channel::Receiver<Control>,
) -> Ended {
    let goal = Goal::Train(spec.expected());
    let report = |answer| match answer {
        Answer::Report(report) => Ok(Outcome::Finished(report)),
        Answer::Raced(raced) => Ok(Outcome::Raced(raced)),
        other => Err(Fault::new(CrashClass::BadOutput, format!("not a report but {other:?}"))),
    };
    let end = spec.call("train", goal, events, control).await;
    Ended {
        outcome: end
            .result
            .map(|result| result.and_then(report).unwrap_or_else(|fault| crash(fault, end.seconds))),
        price: end.price,
        peak_memory_bytes: end.peak_memory_bytes,
    }
}

/// Runs `trainer price`: what [`RunSpec::budget`] buys on this slot. Nothing if it was cancelled.
pub async fn price(
    spec: RunSpec,
    events: mpsc::Sender<RunProgress>,
    control: channel::Receiver<Control>,
) -> Option<Result<Price, Crash>> {
    let goal = Goal::Price(spec.config.hash());
    let end = spec.call("price", goal, events, control).await;
    let said = end.price;
    end.result.map(|result| {
        let fault = Fault::new(CrashClass::BadOutput, "the trainer said no price");
        let crash = |fault: Fault| Crash { class: fault.class, message: fault.message, seconds: end.seconds };
        result.map_err(crash)?;
        said.ok_or_else(|| crash(fault))
    })
}

/// One run of `trainer prepare`.
#[derive(Debug, Clone)]
pub struct PrepareSpec {
    /// The trainer binary.
    pub trainer: PathBuf,
    /// What follows `prepare` on its command line.
    pub arguments: Vec<OsString>,
    /// Threads.
    pub threads: u16,
    /// Longest silence.
    pub silence: Duration,
    /// A folder for its log.
    pub folder: PathBuf,
}

/// Runs `trainer prepare` to its end. Nothing if it was cancelled.
pub async fn prepare(
    spec: PrepareSpec,
    events: mpsc::Sender<RunProgress>,
    control: channel::Receiver<Control>,
) -> Option<Result<Prepared, Crash>> {
    let mut arguments = vec![OsString::from("prepare")];
    arguments.extend(spec.arguments);
    let silence = spec.silence;
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
    let end = call.supervise(events, control).await;
    end.result.map(|result| {
        match result {
            Ok(Answer::Prepared(prepared)) => Ok(prepared),
            Ok(other) => Err(Fault::new(CrashClass::BadOutput, format!("not a dataset but {other:?}"))),
            Err(fault) => Err(fault),
        }
        .map_err(|fault| Crash { class: fault.class, message: fault.message, seconds: end.seconds })
    })
}

fn crash(fault: Fault, seconds: f64) -> Outcome {
    Outcome::Crashed(Crash { class: fault.class, message: fault.message, seconds })
}

impl RunSpec {
    fn expected(&self) -> Expected {
        Expected {
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
            race: self.race,
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
            if let Some(race) = &self.race {
                put("--race", &race.to_string());
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
    ) -> CallEnd {
        let config = self.folder.join("config.toml");
        let written =
            fs::create_dir_all(&self.folder).and_then(|()| fs::write(&config, self.config.to_toml()));
        if let Err(error) = written {
            let message =
                format!("cannot write `{}`: {error}; free space or check permissions", config.display());
            return CallEnd::failed(Fault::new(CrashClass::NotStarted, message));
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

/// One process to supervise.
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

struct CallEnd {
    result: Option<Result<Answer, Fault>>,
    price: Option<Price>,
    seconds: f64,
    peak_memory_bytes: u64,
}

impl CallEnd {
    fn failed(fault: Fault) -> Self {
        Self { result: Some(Err(fault)), price: None, seconds: 0.0, peak_memory_bytes: 0 }
    }
}

impl Call {
    async fn supervise(
        self,
        events: mpsc::Sender<RunProgress>,
        control: channel::Receiver<Control>,
    ) -> CallEnd {
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
            Err(error) => return CallEnd::failed(not_started(&self.program, &error)),
        };
        let errors = ErrorTail::default();
        let reading = child.stderr.take().map(|pipe| tokio::spawn(errors.clone().fill(pipe)));
        let watch = Watch::new(self.goal, self.limits);
        let mut session = Session::new(self.run, watch, child, &mark, Links { events, control });
        let reason = session.follow().await;
        let exit = session.bury().await;
        if let Some(reading) = reading {
            let _ = timeout(AFTERMATH, reading).await;
        }
        // The log is for people; a run without one still counts.
        let _ = fs::write(self.folder.join("run.log"), errors.bytes());
        session.conclude(reason, exit, errors.last_line().as_deref()).await
    }
}

/// Returns a mark that no other run has, of this process or of an earlier one with its id.
fn fresh_mark() -> String {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let run = RUNS.fetch_add(1, Ordering::Relaxed);
    format!("{}-{}-{run}", std::process::id(), since_epoch.as_nanos())
}

fn not_started(program: &Path, error: &io::Error) -> Fault {
    let fix = match error.kind() {
        io::ErrorKind::NotFound => {
            "there is no such file; build it with `scripts/run.sh`, or put it beside `node`"
        }
        io::ErrorKind::PermissionDenied => "make it executable with `chmod +x`",
        _ => "check that it is a program for this machine and that processes may be started",
    };
    let message = format!("cannot start the trainer `{}`: {error}; {fix}", program.display());
    Fault::new(CrashClass::NotStarted, message)
}
