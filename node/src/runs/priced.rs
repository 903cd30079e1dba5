//! A run with its price: taken by one slot at a time, void when starved, checked by the run itself.
//!
//! A price decides for good how many tokens a config gets. So the luck of a price would be mistaken for the
//! config's merit.

use std::{sync::Arc, time::Duration};

use autoswarm_protocol::{Crash, CrashClass, Knob, Outcome, RunReport};
use tokio::sync::{Mutex, mpsc, watch};

use crate::{
    base::clock::unix_now,
    runs::supervisor::{self, Control, Price, RunBudget, RunProgress, RunSpec},
};

/// Least share of its threads' CPU time that pricing must get; below it the price is void.
const LEAST_CPU_SHARE: f64 = 0.97;

/// How far a run's own speed may lie from its price, as a share of the price.
const TOLERANCE: f64 = 0.03;

/// Most prices taken, [`MOMENT`] apart, before the best price of a busy machine is used although it is void.
const TRIES: u32 = 4;
/// Wait between two prices.
const MOMENT: Duration = Duration::from_secs(2);

/// Most times that a run starved by other work is tried again, each after a [`REST`]: two hours in all.
const MOST_RESTS: u32 = 240;
/// Rest before a starved run is tried again.
const REST: Duration = Duration::from_secs(30);

/// The result of a run that was priced where necessary.
#[derive(Debug, Clone)]
pub struct RunResult {
    /// Id of the order that the run is for.
    pub id: u64,
    /// When it started, seconds since 1970.
    pub started_at: u64,
    /// Its outcome; none if it was cancelled.
    pub outcome: Option<Outcome>,
    /// Tokens that its price bought; none where its order gives a number of tokens.
    priced_tokens: Option<u64>,
    /// Tokens that the budget buys at the run's own speed; none where that speed was as priced.
    pub better_tokens: Option<u64>,
}

/// Prices a run where its order gives only seconds, then runs it. `lock` lets one slot price at a time.
///
/// While other work takes the machine, the run waits: it is a guest, and a starved run says nothing about its
/// config.
pub async fn priced_run(
    spec: RunSpec,
    lock: Arc<Mutex<()>>,
    events: mpsc::Sender<RunProgress>,
    mut control: watch::Receiver<Control>,
) -> RunResult {
    let started_at = unix_now();
    let mut result = attempt(spec.clone(), None, &lock, &events, &control).await;
    let timed_out =
        matches!(&result.outcome, Some(Outcome::Crashed(crash)) if crash.class == CrashClass::TimedOut);
    if let (true, RunBudget::Seconds(seconds), Some(tokens)) = (timed_out, spec.budget, result.priced_tokens)
    {
        // It could not see all the tokens that it was promised within the cap, so its speed is below this
        // share of its price.
        let share = seconds / spec.limits.cap.as_secs_f64();
        let most = (tokens as f64 * share) as u64;
        result = attempt(spec.clone(), Some(most), &lock, &events, &control).await;
    }
    for _ in 0..MOST_RESTS {
        let starved =
            matches!(&result.outcome, Some(Outcome::Crashed(crash)) if crash.class == CrashClass::Starved);
        if !starved {
            break;
        }
        if rest(&mut control).await == Control::Cancel {
            result.outcome = None;
            break;
        }
        result = attempt(spec.clone(), None, &lock, &events, &control).await;
    }
    RunResult { started_at, ..result }
}

/// Rests, and returns what the owner wants afterwards; a cancel ends the rest.
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

/// Runs once. Where the order gives only seconds, it trains what a price taken now buys, at most
/// `most_tokens`.
async fn attempt(
    mut spec: RunSpec,
    most_tokens: Option<u64>,
    lock: &Mutex<()>,
    events: &mpsc::Sender<RunProgress>,
    control: &watch::Receiver<Control>,
) -> RunResult {
    let nothing = RunResult {
        id: spec.run,
        started_at: unix_now(),
        outcome: None,
        priced_tokens: None,
        better_tokens: None,
    };
    let mut price = None;
    let tokens_per_step = spec.config.integer(Knob::BatchTokens) as u64;
    if let RunBudget::Seconds(seconds) = spec.budget {
        match take_price(&spec, lock, events, control).await {
            Some(Ok(mut taken)) => {
                if let Some(most) = most_tokens.filter(|most| *most < taken.tokens) {
                    let steps = (most / tokens_per_step).max(1);
                    // Speed and tokens go down together: the run is checked against the speed that its tokens
                    // stand for.
                    taken.tokens_per_second *= (steps * tokens_per_step) as f64 / taken.tokens as f64;
                    taken.tokens = steps * tokens_per_step;
                }
                spec.budget = RunBudget::Tokens(taken.tokens);
                price = Some((taken, seconds));
            }
            Some(Err(crash)) => {
                return RunResult { outcome: Some(Outcome::Crashed(crash)), ..nothing };
            }
            None => return nothing,
        }
    }
    let outcome = supervisor::run(spec, events.clone(), control.clone()).await.outcome();
    let better_tokens = match (&price, outcome.as_ref().and_then(Outcome::report)) {
        (Some((price, seconds)), Some(report)) if !holds(price, report) => {
            let steps = report.tokens_per_second() * seconds / tokens_per_step as f64;
            Some(steps.round().max(1.0) as u64 * tokens_per_step)
        }
        _ => None,
    };
    let priced_tokens = price.map(|(price, _)| price.tokens);
    RunResult { outcome, priced_tokens, better_tokens, ..nothing }
}

/// Takes prices until one is not void or [`TRIES`] are used up; none if it was cancelled.
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
        match supervisor::price(spec.clone(), events.clone(), control.clone()).await? {
            Ok(price) if price.cpu_share >= LEAST_CPU_SHARE => return Some(Ok(price)),
            Ok(price) => {
                // The best of the void prices counts: what starves a price only ever makes it slower.
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

/// Returns whether a run was as fast as its price says. A starved run says nothing about its price.
fn holds(price: &Price, report: &RunReport) -> bool {
    let share =
        report.training_cpu_seconds / (report.training_seconds.max(1e-9) * f64::from(report.threads.max(1)));
    let on_a_cpu = report.device == "cpu";
    if on_a_cpu && share < LEAST_CPU_SHARE {
        return true;
    }
    (report.tokens_per_second() / price.tokens_per_second - 1.0).abs() <= TOLERANCE
}
