//! What is known of peers: where they were found, when to dial again, what they may ask, what they did wrong. Pure: the
//! time and the randomness are arguments.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use libp2p::{Multiaddr, PeerId};
use serde::{Deserialize, Serialize};

/// Peers remembered across runs.
pub(super) const MAX_KNOWN: usize = 200;

/// First rest before dialling somebody again, its growth, and its end.
const FIRST_REST: Duration = Duration::from_secs(1);
const REST_GROWTH: f64 = 1.5;
const LONGEST_REST: Duration = Duration::from_mins(5);

/// Answers that a peer may get at once, bytes, and how fast they become free again: ten thousand records in seconds, and no more
/// than a home connection carries.
const BURST_BYTES: f64 = 16e6;
const BYTES_PER_SECOND: f64 = 4e6;
/// What a frame of a reconciliation costs of that, so that ids cannot be asked for without end.
pub(super) const FRAME_COST: usize = 64 * 1024;

/// Faults after which a peer is turned away for the rest of the session.
const MOST_FAULTS: u32 = 3;

/// A peer that was reached once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    /// Where.
    pub(super) address: String,
    /// When it was last reached, seconds since 1970.
    pub(super) reached_at: u64,
}

/// When to dial an address again.
#[derive(Debug, Clone, Copy)]
struct Attempt {
    due: Duration,
    rest: Duration,
}

/// What a peer may still ask.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    bytes: f64,
    at: Duration,
}

/// The book of peers. Times are since the start of the session.
#[derive(Debug, Default)]
pub(super) struct Peers {
    known: BTreeMap<String, Known>,
    dialling: HashMap<Multiaddr, Attempt>,
    buckets: HashMap<PeerId, Bucket>,
    faults: HashMap<PeerId, u32>,
}

impl Peers {
    /// Makes the book from what an earlier session kept, and from whom to ask first.
    pub(super) fn new(known: BTreeMap<String, Known>, first: &[Multiaddr]) -> Self {
        let mut peers = Self { known, ..Self::default() };
        let remembered: Vec<Multiaddr> =
            peers.known.values().filter_map(|known| known.address.parse().ok()).collect();
        for address in first.iter().cloned().chain(remembered) {
            peers.seek(address);
        }
        peers
    }

    /// Dials an address from now on, until it answers.
    pub(super) fn seek(&mut self, address: Multiaddr) {
        if self.dialling.len() < 2 * MAX_KNOWN {
            self.dialling.entry(address).or_insert(Attempt { due: Duration::ZERO, rest: FIRST_REST });
        }
    }

    /// Returns the addresses that are due, except those of peers who are `connected`. The rest grows with each try, by half to
    /// one and a half of it as `random` in [0, 1) says, so that a swarm whose bootstrap was down does not come back at once.
    pub(super) fn due(
        &mut self,
        now: Duration,
        connected: impl Fn(&PeerId) -> bool,
        mut random: impl FnMut() -> f64,
    ) -> Vec<Multiaddr> {
        let mut due = Vec::new();
        for (address, attempt) in &mut self.dialling {
            if attempt.due > now {
                continue;
            }
            if super::ticket::peer_of(address).is_some_and(|peer| connected(&peer)) {
                attempt.rest = FIRST_REST;
                attempt.due = now + LONGEST_REST;
                continue;
            }
            due.push(address.clone());
            attempt.due = now + attempt.rest.mul_f64(0.5 + random());
            attempt.rest = attempt.rest.mul_f64(REST_GROWTH).min(LONGEST_REST);
        }
        due
    }

    /// Remembers where a peer was reached; `at` is in seconds since 1970. The longest not reached are forgotten first.
    pub(super) fn reached(&mut self, peer: PeerId, address: &Multiaddr, at: u64) {
        let known = Known { address: address.to_string(), reached_at: at };
        self.known.insert(peer.to_string(), known);
        while self.known.len() > MAX_KNOWN {
            let oldest =
                self.known.iter().min_by_key(|(_, known)| known.reached_at).map(|(peer, _)| peer.clone());
            match oldest {
                Some(peer) => self.known.remove(&peer),
                None => break,
            };
        }
    }

    /// Dials a peer at once when it left.
    pub(super) fn left(&mut self, peer: PeerId) {
        for (address, attempt) in &mut self.dialling {
            if super::ticket::peer_of(address) == Some(peer) {
                *attempt = Attempt { due: Duration::ZERO, rest: FIRST_REST };
            }
        }
        self.buckets.remove(&peer);
    }

    /// Returns what to keep for the next session.
    pub(super) fn known(&self) -> &BTreeMap<String, Known> {
        &self.known
    }

    /// Takes `bytes` from what a peer may ask; false if it has asked too much.
    pub(super) fn may_ask(&mut self, peer: PeerId, bytes: usize, now: Duration) -> bool {
        let bucket = self.buckets.entry(peer).or_insert(Bucket { bytes: BURST_BYTES, at: now });
        let since = now.saturating_sub(bucket.at).as_secs_f64();
        bucket.bytes = (bucket.bytes + since * BYTES_PER_SECOND).min(BURST_BYTES);
        bucket.at = now;
        let enough = bucket.bytes >= bytes as f64;
        if enough {
            bucket.bytes -= bytes as f64;
        }
        enough
    }

    /// Notes a fault; true when the peer has had its last.
    pub(super) fn fault(&mut self, peer: PeerId) -> bool {
        // One entry per peer that was connected: the connection limits bound how fast that grows.
        let faults = self.faults.entry(peer).or_insert(0);
        *faults += 1;
        *faults >= MOST_FAULTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(peer: PeerId) -> Multiaddr {
        format!("/ip4/127.0.0.1/tcp/4001/p2p/{peer}").parse().expect("an address")
    }

    #[test]
    fn nobody_home_is_dialled_for_ever_at_growing_rests() {
        let wanted = address(PeerId::random());
        let mut peers = Peers::new(BTreeMap::new(), std::slice::from_ref(&wanted));
        let (mut now, mut dials) = (Duration::ZERO, Vec::new());
        while now < Duration::from_hours(2) {
            if peers.due(now, |_| false, || 0.5) == [wanted.clone()] {
                dials.push(now);
            }
            now += Duration::from_millis(500);
        }
        let rests: Vec<f64> = dials.windows(2).map(|pair| pair[1].abs_diff(pair[0]).as_secs_f64()).collect();
        assert!(rests[0] <= 1.5 && rests.windows(2).all(|pair| pair[1] >= pair[0] - 0.5), "{rests:?}");
        assert!((rests.last().expect("many") - 300.0).abs() < 1.0);
        assert!(rests.len() > 25);
    }

    #[test]
    fn a_peer_that_is_there_is_not_dialled_and_one_that_left_at_once() {
        let peer = PeerId::random();
        let mut peers = Peers::new(BTreeMap::new(), &[address(peer)]);
        assert!(peers.due(Duration::ZERO, |_| true, || 0.5).is_empty());
        assert!(peers.due(Duration::from_secs(1), |_| false, || 0.5).is_empty());
        peers.left(peer);
        assert_eq!(peers.due(Duration::from_secs(2), |_| false, || 0.5).len(), 1);
    }

    #[test]
    fn the_last_two_hundred_are_remembered_and_dialled_next_time() {
        let mut peers = Peers::default();
        for n in 0..250 {
            let peer = PeerId::random();
            peers.reached(peer, &address(peer), n);
        }
        assert_eq!(peers.known().len(), MAX_KNOWN);
        assert!(peers.known().values().all(|known| known.reached_at >= 50));
        let mut again = Peers::new(peers.known().clone(), &[]);
        assert_eq!(again.due(Duration::ZERO, |_| false, || 0.5).len(), MAX_KNOWN);
    }

    #[test]
    fn a_peer_gets_a_burst_and_then_a_rate() {
        let (mut peers, peer) = (Peers::default(), PeerId::random());
        let now = Duration::from_secs(100);
        let asked = (0..1000).filter(|_| peers.may_ask(peer, 100_000, now)).count();
        assert_eq!(asked, 160);
        let asked = (0..1000).filter(|_| peers.may_ask(peer, 100_000, now + Duration::from_secs(1))).count();
        assert_eq!(asked, 40);
        assert!(peers.may_ask(PeerId::random(), 100_000, now), "another peer's burst is its own");
    }

    #[test]
    fn the_third_fault_is_the_last() {
        let (mut peers, peer) = (Peers::default(), PeerId::random());
        assert_eq!([(); 3].map(|()| peers.fault(peer)), [false, false, true]);
    }
}
