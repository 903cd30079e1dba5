//! Follows one trainer process from its start until the last of its descendants has ended.

use std::{
    fs, io,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal};
use tokio::{
    process::Child,
    time::{MissedTickBehavior, interval, timeout},
};

use super::{
    ended::Ended,
    links::{Control, Links, RunProgress},
    process::{OutputLine, OutputLines},
    tree::{self, Tree},
    watch::{self, CallFault, Exit, Watch},
};

/// Longest wait for pipes to close and for killed processes to be gone.
pub(super) const AFTERMATH: Duration = Duration::from_secs(2);

/// How often the clock and the memory of a run are checked.
const TICK: Duration = Duration::from_millis(100);

/// Ticks between two looks for new descendants. A look reads one file per process of the machine, about 2 ms.
const TICKS_PER_REFRESH: u32 = 10;

/// Why following a process came to its end.
#[derive(Debug)]
pub(super) enum Reason {
    /// It ended, or its last word was taken.
    Over,
    /// It broke a rule.
    Fault(CallFault),
    /// Its owner ended it.
    Cancelled,
}

/// A running process with everything that is known about it.
#[derive(Debug)]
pub(super) struct Supervision {
    run: u64,
    watch: Watch,
    child: Child,
    tree: Tree,
    lines: OutputLines,
    /// Whether standard output can still give lines.
    open: bool,
    links: Links,
    clock: Stopwatch,
    started: Instant,
    /// Most memory of the whole tree seen so far, bytes.
    peak: u64,
    /// How many processes the kernel had killed, for lack of memory, before this one started.
    kills_before: u64,
}

impl Supervision {
    pub(super) fn new(run: u64, watch: Watch, mut child: Child, mark: &str, links: Links) -> Self {
        let id = child.id().expect("a child that nobody waited for has its id");
        let root = Pid::from_raw(id as i32).expect("a process id is positive");
        // If memory runs out, the kernel shall kill the trainer and not the node.
        let _ = fs::write(format!("/proc/{id}/oom_score_adj"), "1000");
        let lines = OutputLines::new(child.stdout.take().expect("its output is piped"));
        Self {
            run,
            watch,
            tree: Tree::new(root, mark),
            lines,
            child,
            open: true,
            links,
            clock: Stopwatch::start(Instant::now()),
            started: Instant::now(),
            peak: 0,
            kills_before: tree::out_of_memory_kills(),
        }
    }

    /// Follows the process until it ends or must end.
    pub(super) async fn follow(&mut self) -> Reason {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut count = 0u32;
        // False once the owner has dropped its end of the channel; what it wanted last then stands.
        let mut owned = true;
        loop {
            // Read before the wait, because a change made before the run started counts as well.
            let wanted = *self.links.control.borrow_and_update();
            if wanted == Control::Cancel {
                return Reason::Cancelled;
            }
            self.set_paused(wanted == Control::Pause);
            // The clock comes before the lines, so that a flood of lines cannot hold it up.
            tokio::select! { biased;
                changed = self.links.control.changed(), if owned => owned = changed.is_ok(),
                _ = ticks.tick() => {
                    count += 1;
                    match self.tick(count.is_multiple_of(TICKS_PER_REFRESH)) {
                        Ok(true) => {}
                        Ok(false) => return Reason::Over,
                        Err(fault) => return Reason::Fault(fault),
                    }
                }
                line = self.lines.next(), if self.open => if let Err(fault) = self.take(line) {
                    return Reason::Fault(fault);
                },
                _ = self.child.wait() => return Reason::Over,
            }
        }
    }

    /// Checks the clock and the memory; returns whether to go on.
    fn tick(&mut self, refresh: bool) -> Result<bool, CallFault> {
        if refresh {
            self.tree.refresh();
        }
        let memory = self.tree.memory_bytes();
        self.peak = self.peak.max(memory);
        let now = self.clock.elapsed(Instant::now());
        self.watch.tick(now, memory)?;
        Ok(!self.watch.lingers(now))
    }

    /// Takes what was read from standard output.
    fn take(&mut self, line: io::Result<OutputLine>) -> Result<(), CallFault> {
        let line = match line {
            Ok(OutputLine::Whole(line)) => line,
            Ok(OutputLine::TooLong(start)) => return Err(watch::too_long(&start)),
            // A pipe that fails is as good as closed: the process goes on or ends, and both are watched.
            Ok(OutputLine::End) | Err(_) => {
                self.open = false;
                return Ok(());
            }
        };
        let event = self.watch.line(&line, self.clock.elapsed(Instant::now()))?;
        // News, not results: where the receiver has no room, they are dropped.
        let _ = self.links.events.try_send(RunProgress { run: self.run, event });
        Ok(())
    }

    fn set_paused(&mut self, paused: bool) {
        if self.clock.is_paused() != paused {
            self.watch.note_pause();
            // A descendant that is not known yet must stop and go on with the others.
            self.tree.refresh();
            self.tree.signal(if paused { Signal::STOP } else { Signal::CONT });
            self.clock.set_paused(paused, Instant::now());
        }
    }

    /// Kills whatever of the run still lives. Returns how its root ended; none where it did not end in time.
    pub(super) async fn reap(&mut self) -> Option<Exit> {
        use std::os::unix::process::ExitStatusExt;
        // Once the root is reaped, its id may be another process's.
        if self.child.id().is_some() {
            self.tree.refresh();
            self.tree.signal(Signal::KILL);
        }
        let status = timeout(AFTERMATH, self.child.wait()).await.ok()?.ok()?;
        let deadline = Instant::now() + AFTERMATH;
        while self.tree.sweep() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Some(status.code().map_or_else(|| Exit::Signal(status.signal().unwrap_or(0)), Exit::Code))
    }

    /// Reads what the process had said before it ended.
    async fn drain(&mut self) -> Result<(), CallFault> {
        while self.open {
            match timeout(AFTERMATH, self.lines.next()).await {
                Ok(line) => self.take(line)?,
                Err(_) => return Ok(()),
            }
        }
        Ok(())
    }

    /// Judges the whole run; `error` is the last line of its standard error.
    pub(super) async fn judge(mut self, reason: Reason, exit: Option<Exit>, error: Option<&str>) -> Ended {
        let seconds = self.started.elapsed().as_secs_f64();
        let starved = exit == Some(Exit::Signal(9)) && self.was_starved();
        let said = match reason {
            Reason::Cancelled => None,
            Reason::Fault(fault) => Some(Err(fault)),
            Reason::Over => Some(match self.drain().await {
                // Without an exit it could not even be killed in time, which is as good as a kill.
                Ok(()) => self.watch.exited(exit.unwrap_or(Exit::Signal(9)), error, starved),
                Err(fault) => Err(fault),
            }),
        };
        Ended { said, price: self.watch.price(), seconds, peak_memory_bytes: self.peak }
    }

    /// Returns whether a kill was most likely the kernel's: it has killed for lack of memory meanwhile, or
    /// the run was close to its own limit.
    fn was_starved(&self) -> bool {
        let limit = self.watch.memory_limit();
        tree::out_of_memory_kills() > self.kills_before || (limit > 0 && self.peak > limit / 10 * 8)
    }
}

/// Measures time without the pauses.
#[derive(Debug)]
struct Stopwatch {
    /// Time measured before it was last stopped or started.
    before: Duration,
    /// Since when it runs again; none while paused.
    since: Option<Instant>,
}

impl Stopwatch {
    fn start(now: Instant) -> Self {
        Self { before: Duration::ZERO, since: Some(now) }
    }

    fn elapsed(&self, now: Instant) -> Duration {
        self.before + self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    fn is_paused(&self) -> bool {
        self.since.is_none()
    }

    fn set_paused(&mut self, paused: bool, now: Instant) {
        self.before = self.elapsed(now);
        self.since = (!paused).then_some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopwatch_leaves_pauses_out() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut clock = Stopwatch::start(start);
        clock.set_paused(true, at(3));
        assert_eq!(clock.elapsed(at(50)), Duration::from_secs(3));
        clock.set_paused(false, at(100));
        assert_eq!(clock.elapsed(at(101)), Duration::from_secs(4));
    }
}
