//! Quotas: how much a peer may ask for, and how much a peer and an author may say.
//!
//! They are token buckets, pure and bounded. Buckets outlive connections, so that a peer that comes back gets
//! no new burst. The least recently used are forgotten first; by then they are mostly full again.

use std::{collections::BTreeMap, time::Duration};

use autoswarm_protocol::{
    id::Author,
    record::{Body, Glance, Verified},
};
use libp2p::PeerId;

/// A bucket's size, and how much of it fills again per second.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    burst: f64,
    per_second: f64,
}

/// Records that one author may gossip: one in ten seconds, 380 in the first hour. An honest node keeps fewer
/// experiments than that in a month; anything beyond comes by reconciliation.
const OF_AUTHOR: Rate = Rate { burst: 20.0, per_second: 0.1 };
/// Messages over one relayer by newcomers, the authors of whom nothing is held. That is room for a swarm of a
/// thousand that all come within four seconds.
const OF_NEWCOMERS: Rate = Rate { burst: 200.0, per_second: 50.0 };
/// Messages over one relayer by all known authors. A swarm of a thousand, each at its limit, sends 100 a
/// second, a tenth of the verifications that one core can do. Newcomers have a bucket of their own, so that a
/// relayer of endless newcomers cannot hold up authors that are already known.
const OF_KNOWN: Rate = Rate { burst: 2000.0, per_second: 500.0 };
/// Requests of one peer other than for bodies: 30 in ten seconds (Lighthouse's order of magnitude for the
/// like).
const QUESTIONS: Rate = Rate { burst: 30.0, per_second: 3.0 };
/// Bodies for one peer, bytes: forty thousand records at once, then no more than a home connection carries.
const BODIES: Rate = Rate { burst: 16.0 * MIB, per_second: 4.0 * MIB };

/// Ids that a peer advertised and then did not hand out. An honest peer with a full archive drops some
/// between the two.
const WITHHELD: Rate = Rate { burst: 64.0, per_second: 1.0 / 60.0 };

const MIB: f64 = (1 << 20) as f64;

/// Bytes that the smallest request for bodies costs. So asking for what is not held is no way around the
/// quota.
const SMALLEST_REQUEST: usize = 4096;

/// Most peers, or authors, that one quota remembers: sixty times as many as can be connected.
const MOST: usize = 4096;

/// How full a bucket was (`left`), and when (`at`).
#[derive(Debug, Clone, Copy)]
struct Level {
    left: f64,
    at: Duration,
}

/// One bucket for each peer or author, all of one rate. Those that were never used are full.
#[derive(Debug)]
pub(super) struct Buckets<K> {
    rate: Rate,
    levels: BTreeMap<K, Level>,
}

impl<K: Ord + Copy> Buckets<K> {
    const fn new(rate: Rate) -> Self {
        Self { rate, levels: BTreeMap::new() }
    }

    /// Takes `amount` out of a bucket. Returns false, and takes nothing, where less is in it.
    fn take(&mut self, key: K, amount: f64, now: Duration) -> bool {
        if !self.levels.contains_key(&key) && self.levels.len() >= MOST {
            self.forget(now);
        }
        let rate = self.rate;
        let level = self.levels.entry(key).or_insert(Level { left: rate.burst, at: now });
        level.left = rate.level(*level, now);
        level.at = now;
        let is_enough = level.left >= amount;
        if is_enough {
            level.left -= amount;
        }
        is_enough
    }

    /// Returns whether `amount` is in a bucket, and leaves it there.
    fn has(&self, key: K, amount: f64, now: Duration) -> bool {
        self.levels.get(&key).is_none_or(|level| self.rate.level(*level, now) >= amount)
    }

    /// Makes room: forgets the full buckets, which are as good as new, or else the one unused for longest.
    fn forget(&mut self, now: Duration) {
        let rate = self.rate;
        self.levels.retain(|_, level| rate.level(*level, now) < rate.burst);
        if self.levels.len() >= MOST {
            let oldest = self.levels.iter().min_by_key(|(_, level)| level.at).map(|(key, _)| *key);
            if let Some(oldest) = oldest {
                self.levels.remove(&oldest);
            }
        }
    }
}

impl Rate {
    fn level(&self, level: Level, now: Duration) -> f64 {
        let since = now.saturating_sub(level.at).as_secs_f64();
        (level.left + since * self.per_second).min(self.burst)
    }
}

/// All quotas of a node.
#[derive(Debug)]
pub(super) struct Quotas {
    newcomers: Buckets<PeerId>,
    known: Buckets<PeerId>,
    authors: Buckets<Author>,
    /// Intents have buckets of their own, so that they take nothing from the quota for what an author found.
    intents: Buckets<Author>,
    questions: Buckets<PeerId>,
    bodies: Buckets<PeerId>,
    withheld: Buckets<PeerId>,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            newcomers: Buckets::new(OF_NEWCOMERS),
            known: Buckets::new(OF_KNOWN),
            authors: Buckets::new(OF_AUTHOR),
            intents: Buckets::new(OF_AUTHOR),
            questions: Buckets::new(QUESTIONS),
            bodies: Buckets::new(BODIES),
            withheld: Buckets::new(WITHHELD),
        }
    }
}

impl Quotas {
    /// Returns whether a peer may relay one more message; `is_known` says whether its author has records
    /// here.
    ///
    /// A message whose claimed author is over quota is refused at no cost to the relayer. Gossip asks no
    /// second relayer, so otherwise a flood by one author would also stop what else this relayer passes on.
    pub(super) fn may_relay(
        &mut self,
        peer: PeerId,
        glance: Option<Glance>,
        is_known: bool,
        now: Duration,
    ) -> bool {
        let is_over = |glance: Glance| !self.said(glance.is_reconciled).has(glance.author, 1.0, now);
        if glance.is_some_and(is_over) {
            return false;
        }
        let buckets = if is_known { &mut self.known } else { &mut self.newcomers };
        buckets.take(peer, 1.0, now)
    }

    /// Returns whether one more record of its author may pass as gossip.
    pub(super) fn may_say(&mut self, record: &Verified<Body>, now: Duration) -> bool {
        let buckets = if record.value().is_reconciled() { &mut self.authors } else { &mut self.intents };
        buckets.take(record.author(), 1.0, now)
    }

    fn said(&self, is_reconciled: bool) -> &Buckets<Author> {
        if is_reconciled { &self.authors } else { &self.intents }
    }

    /// Returns whether a peer may send one more request.
    pub(super) fn may_ask(&mut self, peer: PeerId, now: Duration) -> bool {
        self.questions.take(peer, 1.0, now)
    }

    /// Returns whether a peer may have so many more bytes of bodies.
    pub(super) fn may_fetch(&mut self, peer: PeerId, bytes: usize, now: Duration) -> bool {
        self.bodies.take(peer, bytes.max(SMALLEST_REQUEST) as f64, now)
    }

    /// Returns whether an honest peer may have dropped so many more records since it advertised them.
    pub(super) fn may_withhold(&mut self, peer: PeerId, records: usize, now: Duration) -> bool {
        self.withheld.take(peer, records as f64, now)
    }
}

#[cfg(test)]
mod tests {
    use autoswarm_protocol::{
        CrashClass, SwarmConfig,
        experiment::Comparison,
        id::{ArenaId, ConfigHash, RecordId},
        record::{Attestation, Claim, Hardware, sign, verify},
    };

    use super::*;

    const NOW: Duration = Duration::from_secs(100);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_peer_gets_a_burst_and_then_a_rate_also_when_it_comes_back() {
        let (mut quotas, peer) = (Quotas::default(), PeerId::random());
        let mut fetched = |now| (0..1000).filter(|_| quotas.may_fetch(peer, 1 << 17, now)).count();
        assert_eq!((fetched(NOW), fetched(NOW), fetched(NOW + SECOND)), (128, 0, 32));
        assert!(quotas.may_fetch(PeerId::random(), 1 << 20, NOW), "another peer's burst is its own");
        let nothing = (0..10_000).filter(|_| quotas.may_fetch(PeerId::random(), 0, NOW)).count();
        assert_eq!(nothing, 10_000, "everybody once");
        let other = PeerId::random();
        assert_eq!((0..10_000).filter(|_| quotas.may_fetch(other, 0, NOW)).count(), 4096);
    }

    /// An intent or an attestation of one author.
    fn record(is_intent: bool) -> Verified<Body> {
        let keys = libp2p::identity::Keypair::ed25519_from_bytes([1; 32]).expect("a key");
        let objective = SwarmConfig::parse(crate::cli::settings::BUILT_IN[0].1).expect("valid").objective;
        let hardware = Hardware { device: "cpu".to_owned(), threads: 1, slots: 1, tokens_per_second: 1.0 };
        let body = if is_intent {
            Body::Claim(Claim { config: ConfigHash::of(b"c"), seconds: 60 })
        } else {
            Body::Attestation(Box::new(Attestation {
                discovery: RecordId::of(b"d"),
                comparison: Comparison::Transplants,
                arena: ArenaId::of(b"a"),
                hardware,
                found: Err(CrashClass::Diverged),
                tokens: None,
            }))
        };
        let signed = sign(&body, &objective, &keys, 1).expect("valid");
        verify(&signed.bytes, &objective, 1).expect("valid")
    }

    #[test]
    fn gossip_and_questions_have_the_rates_that_are_written_here() {
        let (mut quotas, peer) = (Quotas::default(), PeerId::random());
        let [intent, found] = [true, false].map(record);
        let count = |may: &mut dyn FnMut(Duration) -> bool, now| (0..1000).filter(|_| may(now)).count();
        let later = NOW + 10 * SECOND;
        let mut relay = |now| quotas.may_relay(peer, None, false, now);
        assert_eq!((count(&mut relay, NOW), count(&mut relay, NOW + SECOND)), (200, 50));
        let mut relay = |now| quotas.may_relay(peer, None, true, now);
        assert_eq!((count(&mut relay, NOW), count(&mut relay, NOW + SECOND)), (1000, 1000));
        let mut say = |now| quotas.may_say(&intent, now);
        assert_eq!((count(&mut say, NOW), count(&mut say, later)), (20, 1));
        let mut say = |now| quotas.may_say(&found, now);
        assert_eq!((count(&mut say, NOW), count(&mut say, later)), (20, 1), "intents take no place of it");
        let mut ask = |now| quotas.may_ask(peer, now);
        assert_eq!((count(&mut ask, NOW), count(&mut ask, later)), (30, 30));
    }

    #[test]
    fn an_author_over_his_quota_costs_his_relayer_nothing() {
        let (mut quotas, peer) = (Quotas::default(), PeerId::random());
        let found = record(false);
        while quotas.may_say(&found, NOW) {}
        let of = |is_reconciled| Some(Glance { author: found.author(), is_reconciled });
        assert!((0..10_000).all(|_| !quotas.may_relay(peer, of(true), true, NOW)));
        assert!(quotas.may_relay(peer, of(false), true, NOW), "his intents have a quota of their own");
        assert_eq!((0..10_000).filter(|_| quotas.may_relay(peer, None, true, NOW)).count(), 1999);
    }

    #[test]
    fn strangers_push_nobody_out_who_asked_much_and_lately() {
        let (mut quotas, greedy) = (Quotas::default(), PeerId::random());
        while quotas.may_ask(greedy, NOW) {}
        for n in 0..(2 * MOST as u32) {
            quotas.may_ask(PeerId::random(), NOW + SECOND + n * Duration::from_micros(1));
            assert!(quotas.questions.levels.len() <= MOST);
            if n % 1000 == 0 {
                quotas.may_ask(greedy, NOW + SECOND + n * Duration::from_micros(1));
            }
        }
        assert!(!(0..10).all(|_| quotas.may_ask(greedy, NOW + SECOND)), "no new burst");
    }
}
