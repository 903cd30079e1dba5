//! How simulated messages travel: gossip with a latency, and reconciliation for what gossip lost.

use crate::chance::Chance;

/// Seconds between a node's reconciliations, and their jitter: the first rest of the node's
/// `sync_schedule.rs`.
const RECONCILE: (f64, f64) = (45.0, 0.5);

/// How messages travel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Link {
    /// Median seconds from author to hearer, over all hops.
    pub latency: f64,
    /// Share of the messages that gossip loses, 0 to 1.
    pub loss: f64,
    /// A time in which the two halves of the swarm do not hear each other.
    pub partition: Option<Partition>,
}

/// A partition: nodes of even number and nodes of odd number are apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Partition {
    /// When it begins, seconds from the beginning of the simulation.
    pub from: f64,
    /// When it ends, seconds from the beginning of the simulation.
    pub until: f64,
}

impl Default for Link {
    fn default() -> Self {
        Self { latency: 0.2, loss: 0.02, partition: None }
    }
}

impl Link {
    /// Returns when `to` hears by gossip what `from` published at `now`, seconds; none if it is lost.
    pub(super) fn gossiped_at(&self, from: usize, to: usize, now: f64, chance: Chance) -> Option<f64> {
        let apart = self.partition.is_some_and(|p| (from + to) % 2 == 1 && (p.from..p.until).contains(&now));
        let lost = chance.uniform(&[4]) < self.loss;
        (!apart && !lost).then(|| now + self.latency * (0.5 * chance.normal(&[5])).exp())
    }

    /// Returns when `to` hears what `from` published at `now`, seconds: by gossip, or at a reconciliation.
    pub(super) fn heard_at(&self, from: usize, to: usize, now: f64, chance: Chance) -> f64 {
        let next_reconciliation = || {
            let (every, jitter) = RECONCILE;
            // The hearer may be anywhere in its interval.
            every * (1.0 + jitter * (2.0 * chance.uniform(&[2]) - 1.0)) * chance.uniform(&[3])
        };
        let apart =
            |at: f64| self.partition.filter(|p| (from + to) % 2 == 1 && (p.from..p.until).contains(&at));
        self.gossiped_at(from, to, now, chance).unwrap_or_else(|| {
            let at = now + next_reconciliation();
            apart(now).or(apart(at)).map_or(at, |partition| partition.until + next_reconciliation())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_heard_in_the_end_and_none_through_a_partition() {
        let partition = Partition { from: 100.0, until: 500.0 };
        let link = Link { latency: 0.2, loss: 0.3, partition: Some(partition) };
        let mut late = 0;
        for message in 0..1000 {
            let now = f64::from(message) * 0.6;
            let at = link.heard_at(0, 1, now, Chance::new(message as u64));
            assert!(at > now && at < now.max(500.0) + 70.0, "{now} {at}");
            assert!(!(100.0..500.0).contains(&now) || at >= 500.0, "{now} {at}");
            late += i32::from(at > now + 5.0);
        }
        assert!((700..950).contains(&late), "{late}");
    }
}
