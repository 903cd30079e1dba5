//! The budget of a run: seconds become tokens, and the clock is only a hard cap.
//!
//! A run never stops because its time is over. Its price, in tokens per second, fixes beforehand how many
//! tokens it trains on. The cap only ends a run that takes much longer than its price promised.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use autoswarm_protocol::CrashClass;

use super::cpu_time::process_cpu_seconds;
use crate::failure::Failure;

/// What a run may spend on training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Budget {
    /// Seconds. They become tokens at the price of the config on this slot.
    Seconds(f64),
    /// A fixed number of training tokens.
    Tokens(u64),
}

/// Returns how many steps a budget of seconds buys: tokens per second × seconds, rounded to whole steps, at
/// least one.
pub fn affordable_steps(tokens_per_second: f64, seconds: f64, tokens_per_step: u64) -> u64 {
    steps_of((tokens_per_second * seconds) as u64, tokens_per_step)
}

/// Returns the number of steps nearest to a number of tokens, at least one.
pub fn steps_of(tokens: u64, tokens_per_step: u64) -> u64 {
    ((tokens + tokens_per_step / 2) / tokens_per_step).max(1)
}

/// Returns the hard cap, in seconds, for a budget of seconds: 5 % more, at least 2 s more. The margin covers
/// an error of the price and a busy machine.
pub fn hard_cap(seconds: f64) -> f64 {
    seconds + (0.05 * seconds).max(2.0)
}

/// Returns the cap of an evaluation, in seconds: the seconds that training took, at least 30.
pub fn evaluation_cap(seconds: f64) -> f64 {
    seconds.max(30.0)
}

/// The share of one core below which a late run counts as starved. A training run that computes keeps more
/// than one core busy. On a busy machine its low priority leaves it a tenth or less.
pub const STARVED_SHARE: f64 = 0.6;

/// A moment after which a phase of a run has failed, and the failure that it then reports.
#[derive(Debug, Clone)]
pub struct Deadline {
    at: Option<Instant>,
    failure: Failure,
    set_at: Instant,
    cpu_seconds: f64,
}

impl Deadline {
    /// Returns a deadline that never comes.
    pub fn never() -> Self {
        Self::new(Instant::now(), None, Failure::new(CrashClass::TimedOut, ""))
    }

    /// Returns a deadline `seconds` from now. Once it has passed, the run fails as `class` with `message`.
    pub fn after(seconds: f64, class: CrashClass, message: impl Into<String>) -> Self {
        // The clamp keeps the arithmetic of the clock in range; a cap of years is no cap anyway.
        let span = Duration::from_secs_f64(seconds.clamp(0.0, 1e9));
        let now = Instant::now();
        Self::new(now, now.checked_add(span), Failure::new(class, message))
    }

    fn new(set_at: Instant, at: Option<Instant>, failure: Failure) -> Self {
        Self { at, failure, set_at, cpu_seconds: process_cpu_seconds() }
    }

    /// Returns the failure to report: `Starved` where other work took the processor, else the deadline's own.
    /// A deadline that had already passed when it was set is never `Starved`: other work had no time to take.
    fn failure(&self) -> Failure {
        let wall = self.set_at.elapsed().as_secs_f64();
        let share = (process_cpu_seconds() - self.cpu_seconds) / wall.max(1e-9);
        let had_time = self.at.is_some_and(|at| at > self.set_at);
        starved(share).filter(|_| had_time).unwrap_or_else(|| self.failure.clone())
    }

    /// Fails if the deadline has passed.
    pub fn check(&self) -> Result<(), Failure> {
        match self.at {
            Some(at) if Instant::now() >= at => Err(self.failure()),
            _ => Ok(()),
        }
    }

    /// Returns the failure if the deadline passed at least `grace` ago.
    fn overrun(&self, grace: Duration) -> Option<Failure> {
        let at = self.at?;
        (Instant::now() >= at + grace).then(|| self.failure())
    }
}

/// Returns a `Starved` failure if a run got less than [`STARVED_SHARE`] of one core. Returns nothing for a
/// larger share: then the run itself is to blame.
pub fn starved(share: f64) -> Option<Failure> {
    (share < STARVED_SHARE).then(|| {
        let message = format!("other work left the run {:.0} % of one core", 100.0 * share);
        Failure::new(CrashClass::Starved, message)
    })
}

/// The deadline in force, shared with a thread that ends the process when the deadline has passed. The thread
/// is needed because a run cannot look at the clock inside one libtorch call, such as the backward pass of a
/// huge model.
#[derive(Debug, Clone)]
pub struct Watch(Arc<Mutex<Deadline>>);

impl Default for Watch {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Deadline::never())))
    }
}

impl Watch {
    /// How long a run may take to notice its deadline by itself.
    const GRACE: Duration = Duration::from_millis(200);

    /// Puts a deadline in force, in place of the one before.
    pub fn set(&self, deadline: &Deadline) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = deadline.clone();
    }

    /// Lifts the deadline in force.
    pub fn lift(&self) {
        self.set(&Deadline::never());
    }

    /// Returns the failure of a deadline that has passed and that the run did not notice in time.
    pub fn overrun(&self) -> Option<Failure> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).overrun(Self::GRACE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_rounded_to_whole_steps() {
        for (rate, seconds, per_step, steps) in [
            (1000.0, 10.0, 1000, 10),
            (1000.0, 10.4, 1000, 10),
            (1000.0, 10.5, 1000, 11),
            (10.0, 1.0, 1000, 1),
        ] {
            assert_eq!(affordable_steps(rate, seconds, per_step), steps, "{rate} {seconds}");
        }
        assert_eq!(steps_of(8192 * 7, 8192), 7);
    }

    #[test]
    fn the_cap_leaves_two_seconds_or_five_percent() {
        for (seconds, cap) in [(1.0, 3.0), (10.0, 12.0), (40.0, 42.0), (300.0, 315.0)] {
            assert!((hard_cap(seconds) - cap).abs() < 1e-9);
        }
    }

    #[test]
    fn a_deadline_fails_as_its_class_once_it_has_come() {
        // This spins until the deadline has passed: a thread that sleeps would be taken for a starved one.
        let past = Deadline::after(0.02, CrashClass::TimedOut, "over");
        while past.check().is_ok() {
            std::hint::spin_loop();
        }
        let class = past.check().expect_err("it has come").class;
        assert!(matches!(class, CrashClass::TimedOut | CrashClass::Starved), "{class}");
        assert_eq!(starved(0.9), None);
        assert_eq!(starved(0.1).map(|failure| failure.class), Some(CrashClass::Starved));
        assert_eq!(Deadline::never().check(), Ok(()));
        assert_eq!(Deadline::after(1e300, CrashClass::TimedOut, "over").check(), Ok(()));
    }

    #[test]
    fn a_deadline_that_had_come_when_it_was_set_is_nobody_elses_doing() {
        // The deadline was set a minute ago, and this thread hardly computed since: its share is below any
        // bound.
        let now = Instant::now();
        let set_at = now.checked_sub(Duration::from_mins(1)).expect("a clock counts from before that");
        let deadline = |at| Deadline::new(set_at, Some(at), Failure::new(CrashClass::TimedOut, "over"));
        assert_eq!(deadline(set_at).check().expect_err("it has come").class, CrashClass::TimedOut);
        assert_eq!(deadline(now).check().expect_err("it has come").class, CrashClass::Starved);
    }

    #[test]
    fn a_watch_reports_only_what_is_in_force_and_overdue() {
        let watch = Watch::default();
        assert_eq!(watch.overrun(), None);
        watch.set(&Deadline::after(1000.0, CrashClass::TimedOut, "over"));
        assert_eq!(watch.overrun(), None);
    }
}
