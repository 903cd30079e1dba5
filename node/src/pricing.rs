//! A run with its price: taken with the machine's lock held, void when starved, checked by the run itself.
//!
//! A price decides how many tokens a config gets for good, so that its luck would be mistaken for the config's merit.

use std::{sync::Arc, time::Duration};

use autoswarm_protocol::{Crash, CrashClass, Knob, Outcome, RunReport};
use tokio::sync::{Mutex, mpsc, watch};

use crate::{
    event_loop::unix_now,
    experiment::{self, Control, Price, RunBudget, RunProgress, RunSpec},
};

/// Share of its threads' CPU time below which a price is void (design §4).
const LEAST_CPU_SHARE: f64 = 0.97;

/// How far a run's own speed may lie from its price (design §4).
const TOLERANCE: f64 = 0.03;

/// Prices taken, a moment apart, before a busy machine's price is taken as it is.
const TRIES: u32 = 4;
const MOMENT: Duration = Duration::from_secs(2);

/// Rests before a run that other work starved is tried again, and how long each is: two hours in all.
const MOST_RESTS: u32 = 240;
const REST: Duration = Duration::from_secs(30);

/// What a run came to.
#[derive(Debug, Clone)]
pub struct RunResult {
    /// The order's id.
    pub id: u64,
    /// Start, seconds since 1970.
    pub started_at: u64,
    /// Its outcome; none if it was cancelled.
    pub outcome: Option<Outcome>,
    /// The tokens that the run's own speed makes of the budget, where it did not go as fast as its price says.
    pub better_tokens: Option<u64>,
}

/// Prices a run where its order says only seconds, then runs it. `lock` lets one slot price at a time. While other work
/// takes the machine, the run waits: it is polite, and a starved run says nothing about its config.
pub async fn priced_run(
    spec: RunSpec,
    lock: Arc<Mutex<()>>,
    events: mpsc::Sender<RunProgress>,
    mut control: watch::Receiver<Control>,
) -> RunResult {
    let started_at = unix_now();
    let mut result = attempt(spec.clone(), &lock, &events, &control).await;
    let timed_out = matches!(&result.0, Some(Outcome::Crashed(crash)) if crash.class == CrashClass::TimedOut);
    if timed_out && matches!(spec.budget, RunBudget::Seconds(_)) {
        // It was promised more tokens than it could see: the price may be to blame, so it gets another one.
        result = attempt(spec.clone(), &lock, &events, &control).await;
    }
    for _ in 0..MOST_RESTS {
        let starved =
            matches!(&result.0, Some(Outcome::Crashed(crash)) if crash.class == CrashClass::Starved);
        if !starved {
            break;
        }
        if rest(&mut control).await == Control::Cancel {
            result.0 = None;
            break;
        }
        result = attempt(spec.clone(), &lock, &events, &control).await;
    }
    RunResult { id: spec.run, started_at, outcome: result.0, better_tokens: result.1 }
}

/// Waits, and returns what is wanted now; a cancel ends the wait.
async fn rest(control: &mut watch::Receiver<Control>) -> Control {
    let cancelled = async {
        // An error means that the owner is gone, which is as good as a cancel.
        let _ = control.wait_for(|wanted| *wanted == Control::Cancel).await;
    };
    match tokio::time::timeout(REST, cancelled).await {
        Ok(()) => Control::Cancel,
        Err(_) => Control::Run,
    }
}

/// Returns the outcome, none if it was cancelled, and better tokens where its price was wrong.
async fn attempt(
    mut spec: RunSpec,
    lock: &Mutex<()>,
    events: &mpsc::Sender<RunProgress>,
    control: &watch::Receiver<Control>,
) -> (Option<Outcome>, Option<u64>) {
    let mut price = None;
    let tokens_per_step = spec.config.integer(Knob::BatchTokens) as u64;
    if let RunBudget::Seconds(seconds) = spec.budget {
        match take_price(&spec, lock, events, control).await {
            Some(Ok(taken)) => {
                spec.budget = RunBudget::Tokens(taken.tokens);
                price = Some((taken, seconds));
            }
            Some(Err(crash)) => return (Some(Outcome::Crashed(crash)), None),
            None => return (None, None),
        }
    }
    let ended = experiment::run(spec, events.clone(), control.clone()).await;
    let better_tokens = match (&price, ended.outcome.as_ref().and_then(Outcome::report)) {
        (Some((price, seconds)), Some(report)) if !holds(price, report) => {
            let steps = report.tokens_per_second() * seconds / tokens_per_step as f64;
            Some(steps.round().max(1.0) as u64 * tokens_per_step)
        }
        _ => None,
    };
    (ended.outcome, better_tokens)
}

async fn take_price(
    spec: &RunSpec,
    lock: &Mutex<()>,
    events: &mpsc::Sender<RunProgress>,
    control: &watch::Receiver<Control>,
) -> Option<Result<Price, Crash>> {
    let _held = lock.lock().await;
    let mut last = None;
    for attempt in 0..TRIES {
        if attempt > 0 {
            tokio::time::sleep(MOMENT).await;
        }
        match experiment::price(spec.clone(), events.clone(), control.clone()).await? {
            Ok(price) if price.cpu_share >= LEAST_CPU_SHARE => return Some(Ok(price)),
            Ok(price) => {
                // The best of the void prices: what starves a price only ever makes it slower.
                let slower = |last: &Price| last.tokens < price.tokens;
                if last.as_ref().is_none_or(slower) {
                    last = Some(price);
                }
            }
            Err(crash) => return Some(Err(crash)),
        }
    }
    last.map(Ok)
}

/// Returns whether a run went as fast as its price says. A run that was starved says nothing about its price.
fn holds(price: &Price, report: &RunReport) -> bool {
    let share =
        report.training_cpu_seconds / (report.training_seconds.max(1e-9) * f64::from(report.threads.max(1)));
    let on_a_cpu = report.device == "cpu";
    if on_a_cpu && share < LEAST_CPU_SHARE {
        return true;
    }
    (report.tokens_per_second() / price.tokens_per_second - 1.0).abs() <= TOLERANCE
}
