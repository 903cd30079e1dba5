//! The sync schedule: when to reconcile next.
//!
//! That is often while reconciliations find something, and ever more rarely while they do not. Pure: the time
//! and the randomness are arguments. With whom to reconcile is chosen in `task/reconcile.rs`.

use std::time::Duration;

/// Growth of the rest with each reconciliation that found nothing.
const GROWTH: u32 = 2;
/// Longest rest, as a multiple of the first: 45 s become ten minutes (the rests of Ceramic's set
/// reconciliation).
const LONGEST: u32 = 13;

/// The rests between reconciliations: the first, the present one, and the time at which it ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct SyncSchedule {
    first: Duration,
    rest: Duration,
    next: Duration,
}

impl SyncSchedule {
    /// Makes a schedule whose rests begin with `first` on average.
    pub(super) const fn new(first: Duration) -> Self {
        Self { first, rest: first, next: first }
    }

    /// Returns whether it is time to reconcile. If so, the next rest begins; `random` in [0, 1) stretches it
    /// to between half and one and a half of its length.
    pub(super) fn is_due(&mut self, now: Duration, random: f64) -> bool {
        let is_due = now >= self.next;
        if is_due {
            self.next = now + self.rest.mul_f64(0.5 + random);
        }
        is_due
    }

    /// Notes a reconciliation that found both sides equal: the rests grow.
    pub(super) fn found_nothing(&mut self) {
        self.rest = (self.rest * GROWTH).min(self.first * LONGEST);
    }

    /// Notes a sign that something is missing, here or at a peer: the rests begin anew.
    pub(super) fn woke(&mut self, now: Duration, random: f64) {
        self.rest = self.first;
        // Only ever sooner, so that a stream of signs cannot put the next reconciliation off.
        self.next = self.next.min(now + self.first.mul_f64(0.5 + random));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_secs(45);
    const TICK: Duration = Duration::from_millis(500);

    /// Lets an hour pass in which nothing is found, with a sign at `woken`. Returns when it was looked.
    fn looks(random: f64, woken: Option<Duration>) -> Vec<Duration> {
        let (mut schedule, mut now, mut looks) = (SyncSchedule::new(FIRST), Duration::ZERO, Vec::new());
        while now < Duration::from_hours(1) {
            if woken == Some(now) {
                schedule.woke(now, random);
            }
            if schedule.is_due(now, random) {
                looks.push(now);
                schedule.found_nothing();
            }
            now += TICK;
        }
        looks
    }

    fn rests(looks: &[Duration]) -> Vec<u64> {
        looks.windows(2).map(|pair| pair[1].abs_diff(pair[0]).as_secs()).collect()
    }

    #[test]
    fn looks_that_find_nothing_become_rare_and_never_end() {
        let looks = looks(0.5, None);
        assert_eq!(looks[0], FIRST);
        assert_eq!(rests(&looks), [45, 90, 180, 360, 585, 585, 585, 585]);
    }

    #[test]
    fn the_rests_are_jittered_around_their_mean() {
        assert_eq!(rests(&looks(0.0, None))[..4], [22, 45, 90, 180]);
        assert_eq!(rests(&looks(0.99, None))[..4], [67, 134, 268, 536]);
    }

    #[test]
    fn a_sign_that_something_is_missing_begins_them_anew() {
        let at = Duration::from_secs(2000);
        let looks = looks(0.5, Some(at));
        let after: Vec<Duration> = looks.into_iter().filter(|look| *look >= at).collect();
        assert_eq!(after[0], at + FIRST);
        assert_eq!(rests(&after)[..2], [45, 90]);
    }

    #[test]
    fn a_wake_never_puts_a_look_off() {
        let mut schedule = SyncSchedule::new(FIRST);
        schedule.woke(Duration::from_secs(40), 0.5);
        assert!(schedule.is_due(FIRST, 0.5));
    }
}
