//! Judges what a trainer says, and how long it takes, without IO and without a clock.
//!
//! ```text
//! starting ──▶ training ──▶ evaluating ──▶ done       every line, tick and exit is checked against the phase
//! ```
//!
//! Times are durations since the start, without pauses. Not here: processes and pipes ([`super::process`]);
//! memory comes in as a number.

use std::time::Duration;

use autoswarm_protocol::{
    CrashClass, Pruned, RunReport, Split, TrainerEvent,
    event::{MAX_LINE_BYTES, SplitSummary},
    id::{ConfigHash, CorpusHash, TokenizerHash},
    outcome::TRAINER_SEMANTICS,
    pruning::PruneBounds,
};

use crate::base::text::one_line;

/// Most characters of a strange line that a crash message quotes.
const QUOTED: usize = 100;

/// Most characters of a crash message.
const MESSAGE: usize = 400;

/// Lines that a trainer may write at once, beside [`LINES_PER_SECOND`]. It promises five a second; evaluation
/// and preparation may be chattier, a flood is not.
const LINES_AT_ONCE: f64 = 2_000.0;
/// Lines a second that a trainer may write on top of [`LINES_AT_ONCE`].
const LINES_PER_SECOND: f64 = 100.0;

/// Limits of a run that its supervisor enforces, whatever the trainer does about them itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Longest time from the start of the process to the first step: loading, building, pricing.
    pub startup: Duration,
    /// Longest time from the first step to the last; the trainer is told, and ends itself.
    pub cap: Duration,
    /// Time that the trainer gets on top of a limit to end itself before it is killed.
    pub grace: Duration,
    /// Longest time from the first `evaluating` to the result.
    pub evaluation: Duration,
    /// Longest time between two lines, in every phase.
    pub silence: Duration,
    /// Most resident memory of the whole process tree, bytes, without files that it maps; 0 for no limit.
    pub memory_bytes: u64,
}

impl Limits {
    /// Returns the limits of a run whose training should take `budget`: a cap of budget + max(2 s, 5 %).
    pub fn for_budget(budget: Duration, memory_bytes: u64) -> Self {
        let cap = budget + Duration::from_secs(2).max(budget.mul_f64(0.05));
        Self {
            // The first step comes within 2 s on an idle machine; a price may take as long as a short budget.
            startup: Duration::from_mins(2) + budget,
            cap,
            grace: Duration::from_secs(1),
            // Evaluation is about a fifth of a 20 s run on two cores (wild guess for everything else).
            evaluation: Duration::from_mins(1) + 2 * budget,
            // One step of a huge model can be as long as the cap; the cap itself ends that one.
            silence: Duration::from_secs(30) + cap,
            memory_bytes,
        }
    }
}

/// What a run must say about itself to count.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ExpectedReport {
    pub(super) config: ConfigHash,
    pub(super) seed: u64,
    pub(super) corpus: CorpusHash,
    pub(super) tokenizer: TokenizerHash,
    pub(super) tokens_per_step: u64,
    pub(super) tokens: Option<u64>,
    pub(super) splits: Vec<Split>,
    pub(super) prune: Option<PruneBounds>,
}

/// What a trainer process was started for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Goal {
    /// To train: a report that fits this.
    Train(ExpectedReport),
    /// To price this config.
    Price(ConfigHash),
    /// To prepare a dataset.
    Prepare,
}

/// What a config costs on a slot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Price {
    /// Training throughput, tokens a second.
    pub tokens_per_second: f64,
    /// Tokens that the budget buys, in whole steps.
    pub tokens: u64,
    /// Share of its threads' CPU time that the trainer got; below 0.97 the price is void.
    pub cpu_share: f64,
    /// Seconds that the pricing took.
    pub seconds: f64,
}

/// What `trainer prepare` made.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    /// Hash of the corpus.
    pub corpus: CorpusHash,
    /// Hash of the tokenizer.
    pub tokenizer: TokenizerHash,
    /// Number of distinct token ids.
    pub vocabulary: u32,
    /// Size and overlap of each split.
    pub splits: Vec<SplitSummary>,
}

/// The last event of a trainer that did what it was started for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum LastWord {
    Report(Box<RunReport>),
    Pruned(Pruned),
    Price(Price),
    Prepared(Prepared),
}

/// Why a trainer process gave no result.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct CallFault {
    pub(super) class: CrashClass,
    pub(super) message: String,
}

impl CallFault {
    pub(super) fn new(class: CrashClass, message: impl AsRef<str>) -> Self {
        Self { class, message: one_line(message.as_ref(), MESSAGE) }
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    Code(i32),
    Signal(i32),
}

#[derive(Debug, Clone, PartialEq)]
enum CallPhase {
    Starting,
    Training,
    Evaluating,
    Done(Result<LastWord, CallFault>),
}

/// The state of one trainer process, as its supervisor sees it.
#[derive(Debug)]
pub(super) struct Watch {
    goal: Goal,
    limits: Limits,
    phase: CallPhase,
    phase_since: Duration,
    last_line: Duration,
    lines: u64,
    /// Whether the trainer has said which config it starts.
    introduced: bool,
    /// Whether the run was ever paused.
    paused: bool,
    price: Option<Price>,
}

impl Watch {
    pub(super) fn new(goal: Goal, limits: Limits) -> Self {
        Self {
            goal,
            limits,
            phase: CallPhase::Starting,
            phase_since: Duration::ZERO,
            last_line: Duration::ZERO,
            lines: 0,
            introduced: false,
            paused: false,
            price: None,
        }
    }

    /// Returns the price that the trainer reported, if it did.
    pub(super) fn price(&self) -> Option<Price> {
        self.price
    }

    /// Returns the memory limit, bytes; 0 for none.
    pub(super) fn memory_limit(&self) -> u64 {
        self.limits.memory_bytes
    }

    /// Returns whether the trainer has said its last word.
    fn is_done(&self) -> bool {
        matches!(self.phase, CallPhase::Done(_))
    }

    /// Takes a line of standard output; `now` is the time since the start. A fault ends the run.
    pub(super) fn line(&mut self, line: &[u8], now: Duration) -> Result<TrainerEvent, CallFault> {
        self.last_line = now;
        self.lines += 1;
        if self.lines as f64 > LINES_AT_ONCE + LINES_PER_SECOND * now.as_secs_f64() {
            return Err(bad("the trainer floods its output: more than 100 lines a second"));
        }
        let event = parse(line)?;
        if self.is_done() {
            return Err(bad(format!("the trainer went on after its last word: {}", quote(line))));
        }
        self.step(&event, now).map_err(|fault| match fault.class {
            CrashClass::BadOutput => bad(format!("{}: {}", fault.message, quote(line))),
            _ => fault,
        })?;
        Ok(event)
    }

    /// Moves on by one event, or refuses it where it does not belong to the phase.
    fn step(&mut self, event: &TrainerEvent, now: Duration) -> Result<(), CallFault> {
        let next = match (event, &self.phase) {
            (TrainerEvent::Failed { class, message }, _) => CallPhase::Done(Err(self.said(*class, message))),
            (TrainerEvent::Preparing { .. }, CallPhase::Starting) if self.goal == Goal::Prepare => {
                return Ok(());
            }
            (TrainerEvent::Prepared { corpus, tokenizer, vocabulary, splits }, CallPhase::Starting)
                if self.goal == Goal::Prepare =>
            {
                let (corpus, tokenizer, vocabulary) = (*corpus, *tokenizer, *vocabulary);
                let prepared = Prepared { corpus, tokenizer, vocabulary, splits: splits.clone() };
                CallPhase::Done(Ok(LastWord::Prepared(prepared)))
            }
            (TrainerEvent::Starting { config, seed, .. }, CallPhase::Starting) if !self.introduced => {
                self.introduced = true;
                return self.check_start(*config, *seed);
            }
            (
                &TrainerEvent::Priced { tokens_per_second, tokens, cpu_share, seconds },
                CallPhase::Starting,
            ) if self.introduced && self.price.is_none() => {
                let price = Price { tokens_per_second, tokens, cpu_share, seconds };
                if ![tokens_per_second, cpu_share, seconds].iter().all(|x| x.is_finite() && *x >= 0.0) {
                    return Err(CallFault::new(
                        CrashClass::NotANumber,
                        "the trainer's price is not a number",
                    ));
                }
                self.price = Some(price);
                match self.goal {
                    Goal::Price(_) => CallPhase::Done(Ok(LastWord::Price(price))),
                    _ => return Ok(()),
                }
            }
            (TrainerEvent::TrainingStarted { .. }, CallPhase::Starting)
                if self.introduced && self.trains() =>
            {
                CallPhase::Training
            }
            (TrainerEvent::Progress { .. }, CallPhase::Training)
            | (TrainerEvent::Evaluating { .. }, CallPhase::Evaluating) => return Ok(()),
            (TrainerEvent::Evaluating { .. }, CallPhase::Training) => CallPhase::Evaluating,
            (TrainerEvent::Finished { report }, CallPhase::Training | CallPhase::Evaluating) => {
                if let Goal::Train(expected) = &self.goal {
                    check_report(report, expected)?;
                }
                CallPhase::Done(Ok(LastWord::Report(report.clone())))
            }
            (TrainerEvent::Pruned { pruned }, CallPhase::Training) => {
                if let Goal::Train(expected) = &self.goal {
                    check_pruned(pruned, expected)?;
                }
                CallPhase::Done(Ok(LastWord::Pruned(*pruned)))
            }
            _ => return Err(bad("the trainer spoke out of turn")),
        };
        self.phase = next;
        self.phase_since = now;
        Ok(())
    }

    /// Returns the fault that the trainer reports. Its own clock runs on while it is paused. So after a pause
    /// nobody is to blame if it says that it is late: our clock would have ended it.
    fn said(&self, class: CrashClass, message: &str) -> CallFault {
        match class {
            CrashClass::TimedOut | CrashClass::EvaluationTimedOut if self.paused => CallFault::new(
                CrashClass::Killed,
                format!("a pause made it late by its own clock: {message}"),
            ),
            _ => CallFault::new(class, message),
        }
    }

    /// Notes that the process stood still for a while.
    pub(super) fn note_pause(&mut self) {
        self.paused = true;
    }

    fn trains(&self) -> bool {
        matches!(self.goal, Goal::Train(_))
    }

    fn check_start(&self, config: ConfigHash, seed: u64) -> Result<(), CallFault> {
        let (requested, wanted_seed) = match &self.goal {
            Goal::Train(expected) => (expected.config, Some(expected.seed)),
            Goal::Price(config) => (*config, None),
            Goal::Prepare => return Err(bad("the trainer starts a run instead of preparing data")),
        };
        same("config", &requested.fmt_short(), &config.fmt_short(), requested == config)?;
        match wanted_seed {
            Some(wanted) => same("seed", &wanted.to_string(), &seed.to_string(), wanted == seed),
            None => Ok(()),
        }
    }

    /// Checks the time in the present phase, and the memory of the whole tree, bytes.
    pub(super) fn tick(&self, now: Duration, memory_bytes: u64) -> Result<(), CallFault> {
        let Limits { startup, cap, grace, evaluation, silence, memory_bytes: most } = self.limits;
        if most > 0 && memory_bytes > most {
            let message = format!("it took {} of memory, and a slot has {}", mebi(memory_bytes), mebi(most));
            return Err(CallFault::new(CrashClass::OutOfMemory, message));
        }
        let in_phase = now.saturating_sub(self.phase_since);
        let over = |limit: Duration, class, what: &str| {
            let message = format!("{what} after {:.1} s", limit.as_secs_f64());
            if in_phase > limit + grace { Err(CallFault::new(class, message)) } else { Ok(()) }
        };
        match self.phase {
            // `prepare` may download, so only silence limits it.
            CallPhase::Starting if self.goal == Goal::Prepare => {}
            CallPhase::Starting => over(startup, CrashClass::Hung, "training had not started")?,
            CallPhase::Training => over(cap, CrashClass::TimedOut, "training had not ended")?,
            CallPhase::Evaluating => {
                over(evaluation, CrashClass::EvaluationTimedOut, "evaluation had not ended")?;
            }
            // It has said its last word and does not leave: the word counts, and its process is killed.
            CallPhase::Done(_) => return Ok(()),
        }
        if now.saturating_sub(self.last_line) > silence {
            let message = format!("the trainer said nothing for {:.1} s", silence.as_secs_f64());
            return Err(CallFault::new(CrashClass::Hung, message));
        }
        Ok(())
    }

    /// Returns whether a trainer that has said its last word should be gone by now.
    pub(super) fn lingers(&self, now: Duration) -> bool {
        self.is_done() && now.saturating_sub(self.phase_since) > self.limits.grace
    }

    /// Returns the result of a process that has ended. `error` is the last line of its standard error;
    /// `starved` says whether memory most likely ran out.
    pub(super) fn exited(
        &self,
        exit: Exit,
        error: Option<&str>,
        starved: bool,
    ) -> Result<LastWord, CallFault> {
        if let CallPhase::Done(result) = &self.phase {
            return result.clone();
        }
        let said = error.map_or(String::new(), |line| format!("; its last error line: {line}"));
        if starved || error.is_some_and(says_out_of_memory) {
            return Err(CallFault::new(CrashClass::OutOfMemory, format!("memory ran out{said}")));
        }
        Err(match exit {
            Exit::Signal(signal) => {
                let message = format!("signal {signal}{} ended the trainer{said}", name(signal));
                CallFault::new(CrashClass::Killed, message)
            }
            Exit::Code(0) => bad(format!("the trainer ended without a result{said}")),
            Exit::Code(code) => {
                CallFault::new(CrashClass::Failed, format!("the trainer exited with code {code}{said}"))
            }
        })
    }
}

fn bad(message: impl AsRef<str>) -> CallFault {
    CallFault::new(CrashClass::BadOutput, message)
}

/// Quotes the beginning of a line in a message.
pub(super) fn quote(line: &[u8]) -> String {
    // A character takes at most four bytes.
    format!("`{}`", one_line(&String::from_utf8_lossy(&line[..line.len().min(4 * QUOTED)]), QUOTED))
}

/// Returns the fault of a line longer than [`MAX_LINE_BYTES`]; `start` is its beginning.
pub(super) fn too_long(start: &[u8]) -> CallFault {
    bad(format!("the trainer wrote a line of more than {MAX_LINE_BYTES} bytes: {}", quote(start)))
}

fn parse(line: &[u8]) -> Result<TrainerEvent, CallFault> {
    serde_json::from_slice(line).map_err(|error| {
        if numberless(line) {
            let message = format!("the trainer wrote a number that is none: {}", quote(line));
            CallFault::new(CrashClass::NotANumber, message)
        } else {
            bad(format!("the trainer wrote no event ({error}): {}", quote(line)))
        }
    })
}

/// Returns whether a line would be an event if its missing numbers were there. JSON has no word for what is
/// not a number, so writers print `NaN`, `inf` or `null`.
fn numberless(line: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(line) else { return false };
    let mut repaired = text.to_owned();
    for word in ["-Infinity", "Infinity", "-inf", "-NaN", "NaN", "nan", "inf"] {
        for (before, after) in [(":", ","), (":", "}"), (": ", ","), (": ", "}"), ("[", ","), (",", "]")] {
            repaired = repaired.replace(&format!("{before}{word}{after}"), &format!("{before}null{after}"));
        }
    }
    let Ok(mut value) = serde_json::from_str::<serde_json::Value>(&repaired) else { return false };
    fill(&mut value) && serde_json::from_value::<TrainerEvent>(value).is_ok()
}

/// Replaces every null with a 1; returns whether there was any.
fn fill(value: &mut serde_json::Value) -> bool {
    use serde_json::Value;
    match value {
        Value::Null => {
            *value = Value::from(1);
            true
        }
        Value::Array(items) => items.iter_mut().fold(false, |any, item| fill(item) | any),
        Value::Object(fields) => fields.values_mut().fold(false, |any, item| fill(item) | any),
        _ => false,
    }
}

fn same(what: &str, requested: &str, executed: &str, equal: bool) -> Result<(), CallFault> {
    if equal {
        return Ok(());
    }
    let message = format!("the trainer executed {what} `{executed}`, and `{requested}` was asked for");
    Err(CallFault::new(CrashClass::ConfigMismatch, message))
}

fn check_report(report: &RunReport, expected: &ExpectedReport) -> Result<(), CallFault> {
    let ExpectedReport { config, seed, corpus, tokenizer, tokens_per_step, tokens, splits, .. } = expected;
    same("config", &config.fmt_short(), &report.executed.fmt_short(), *config == report.executed)?;
    same("seed", &seed.to_string(), &report.seed.to_string(), *seed == report.seed)?;
    same("corpus", &corpus.fmt_short(), &report.corpus.fmt_short(), *corpus == report.corpus)?;
    let (wanted, used) = (tokenizer.fmt_short(), report.tokenizer.fmt_short());
    same("tokenizer", &wanted, &used, *tokenizer == report.tokenizer)?;
    let (wanted, used) = (TRAINER_SEMANTICS.to_string(), report.semantics.to_string());
    same("semantics", &wanted, &used, TRAINER_SEMANTICS == report.semantics)?;
    if report.steps == 0 || report.tokens != report.steps * tokens_per_step {
        let (steps, tokens) = (report.steps, report.tokens);
        return Err(bad(format!("{tokens} tokens in {steps} steps of {tokens_per_step} do not add up")));
    }
    // A run trains whole steps, so it may miss the number asked for by less than one.
    if let Some(asked) = tokens
        && report.tokens.abs_diff(*asked) >= *tokens_per_step
    {
        return Err(bad(format!("{} tokens were trained and {asked} asked for", report.tokens)));
    }
    let held_out = |split| match split {
        Split::Audit => report.audit.is_some(),
        Split::Locked => report.locked.is_some(),
        Split::Train | Split::Validation => true,
    };
    match splits.iter().find(|&&split| !held_out(split)) {
        Some(split) => Err(bad(format!("the report lacks the {split} split"))),
        None => Ok(()),
    }
}

/// Checks that a run was pruned for a reason that it was given: a loss above the bound of that point.
fn check_pruned(pruned: &Pruned, expected: &ExpectedReport) -> Result<(), CallFault> {
    let Pruned { loss, training_seconds, training_cpu_seconds, startup_seconds, .. } = *pruned;
    if ![loss, training_seconds, training_cpu_seconds, startup_seconds]
        .iter()
        .all(|x| x.is_finite() && *x >= 0.0)
    {
        return Err(CallFault::new(CrashClass::NotANumber, "a stopped run's numbers are none"));
    }
    let bound = pruned.place().zip(expected.prune).map(|(place, prune)| prune.0[place]);
    match bound {
        Some(bound) if loss > bound => Ok(()),
        _ => Err(bad(format!(
            "the run was stopped after {} of {} steps at loss {loss}, without a reason",
            pruned.step, pruned.steps
        ))),
    }
}

fn says_out_of_memory(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    ["out of memory", "bad_alloc", "can't allocate memory", "memory allocation of", "cannot allocate memory"]
        .iter()
        .any(|phrase| line.contains(phrase))
}

fn name(signal: i32) -> &'static str {
    match signal {
        4 => " (illegal instruction)",
        6 => " (abort)",
        7 => " (bus error)",
        8 => " (floating-point exception)",
        9 => " (kill)",
        11 => " (segmentation fault)",
        15 => " (terminate)",
        _ => "",
    }
}

fn mebi(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
