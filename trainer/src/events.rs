//! Reports how a run goes: JSON lines on standard output for a parent, or prose on standard error for a
//! person.

use std::{
    io::{self, Write},
    time::{Duration, Instant},
};

use autoswarm_protocol::{CrashClass, TrainerEvent};

use crate::{failure::Failure, harness::budget::Watch, system};

/// A function that receives a run's events.
pub type Sink<'a> = &'a mut dyn FnMut(TrainerEvent);

/// The shortest pause between two progress events: at most five a second.
pub const PROGRESS_PAUSE: Duration = Duration::from_millis(200);

/// Limits something to once per [`PROGRESS_PAUSE`].
#[derive(Debug)]
pub struct Limiter {
    last: Option<Instant>,
}

impl Limiter {
    /// Returns a limiter that is ready at once.
    pub const fn new() -> Self {
        Self { last: None }
    }

    /// Returns whether the pause is over, and starts the next pause if so.
    pub fn ready(&mut self) -> bool {
        let ready = self.last.is_none_or(|last| last.elapsed() >= PROGRESS_PAUSE);
        if ready {
            self.last = Some(Instant::now());
        }
        ready
    }
}

impl Default for Limiter {
    fn default() -> Self {
        Self::new()
    }
}

/// The form in which a run is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voice {
    /// JSON on standard output, one object per line.
    Json,
    /// Prose on standard error, for a person.
    Prose,
}

impl Voice {
    /// Reports one event. A failing write is not an error here: where the reader is gone, the run is ended
    /// elsewhere.
    pub fn tell(self, event: &TrainerEvent) {
        let _ = match self {
            Self::Json => write_line(event),
            Self::Prose => narrate(event, &mut io::stderr().lock()),
        };
    }

    /// Starts a thread that ends the process if a deadline passes inside a libtorch call; it reports a
    /// `failed` event first. In JSON mode it also ends the process, silently, once the parent is gone.
    pub fn guard(self, watch: Watch) {
        let parent = (self == Self::Json).then(rustix::process::getppid);
        let work = move || loop {
            std::thread::sleep(Duration::from_millis(25));
            if let Some(Failure { class, message }) = watch.overrun() {
                self.tell(&TrainerEvent::Failed { class, message });
                system::exit_now(1);
            }
            if parent.is_some_and(|parent| rustix::process::getppid() != parent) {
                system::exit_now(1);
            }
        };
        // A failure to start the thread is ignored: the supervisor's own cap still holds.
        let _ = std::thread::Builder::new().name("watch".to_owned()).spawn(work);
    }
}

/// Warns a person on standard error that the run goes on without something.
pub fn warn(message: &str) {
    let _ = writeln!(io::stderr(), "warning: {message}");
}

fn write_line(event: &TrainerEvent) -> io::Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    let mut output = io::stdout().lock();
    output.write_all(&line)?;
    output.flush()
}

fn narrate(event: &TrainerEvent, out: &mut dyn Write) -> io::Result<()> {
    use TrainerEvent as E;
    match event {
        E::Starting { config, device, threads, parameters, .. } => writeln!(
            out,
            "config {}  {:.2} M parameters  {device}  {threads} threads",
            config.fmt_short(),
            *parameters as f64 / 1e6
        ),
        E::Priced { tokens_per_second, tokens, cpu_share, seconds } => writeln!(
            out,
            "price {tokens_per_second:.0} tokens/s buys {tokens} tokens \
             (taken in {seconds:.1} s at {:.0} % of the CPU)",
            cpu_share * 100.0
        ),
        E::TrainingStarted { tokens, steps, cap_seconds } => {
            writeln!(out, "training on {tokens} tokens in {steps} steps, at most {cap_seconds:.0} s")
        }
        E::Progress { step, loss, tokens_per_second, seconds, .. } => {
            write!(
                out,
                "\rstep {step:05} | loss {loss:.4} | {tokens_per_second:.0} tokens/s | {seconds:.0} s "
            )
        }
        E::Evaluating { split, done, total } => {
            let end = if done == total { "\n" } else { "" };
            let start = if *done == 0 { "\n" } else { "\r" };
            write!(out, "{start}evaluating {split}: {done} of {total} tokens{end}")
        }
        E::Failed { class: CrashClass::Failed, message } => writeln!(out, "error: {message}"),
        E::Failed { class, message } => writeln!(out, "\nerror: {class}: {message}"),
        E::Pruned { pruned } => writeln!(
            out,
            "\nstopped after {} of {} steps: the loss is {:.4}, and at most {:.4} was allowed",
            pruned.step, pruned.steps, pruned.loss, pruned.bound
        ),
        E::Finished { .. } | E::Preparing { .. } | E::Prepared { .. } => Ok(()),
    }
}
