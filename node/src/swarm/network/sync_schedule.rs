//! When to reconcile next: often while that finds something, ever more rarely while it does not. Pure: the time and the
//! randomness are arguments.

use std::time::Duration;

/// Growth of the rest after a look that found nothing, and the longest rest as a multiple of the first: 45 s become ten minutes
/// (the rests of Ceramic's set reconciliation).
const GROWTH: u32 = 2;
const LONGEST: u32 = 13;

/// The rests between reconciliations.
#[derive(Debug, Clone, Copy)]
pub(super) struct SyncSchedule {
    first: Duration,
    rest: Duration,
    next: Duration,
}

impl SyncSchedule {
    /// Begins with rests of `first` on average.
    pub(super) const fn new(first: Duration) -> Self {
        Self { first, rest: first, next: first }
    }

    /// Returns whether it is time, and if so begins the next rest: half to one and a half of it, as `random` in [0, 1) says.
    pub(super) fn is_due(&mut self, now: Duration, random: f64) -> bool {
        let is_due = now >= self.next;
        if is_due {
            self.next = now + self.rest.mul_f64(0.5 + random);
        }
        is_due
    }

    /// Takes a look that found both sides equal: the next one may wait longer.
    pub(super) fn found_nothing(&mut self) {
        self.rest = (self.rest * GROWTH).min(self.first * LONGEST);
    }

    /// Takes a sign that something is missing, here or there: the rests begin anew.
    pub(super) fn woke(&mut self, now: Duration, random: f64) {
        self.rest = self.first;
        self.next = self.next.min(now + self.first.mul_f64(0.5 + random));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_secs(45);
    const TICK: Duration = Duration::from_millis(500);

    /// Lets an hour pass in which nothing is found, except at `woken`; returns when it was looked.
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
