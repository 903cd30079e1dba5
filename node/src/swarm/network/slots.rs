//! Relay reservations of a node behind a NAT: its slots at peers that relay for it.
//!
//! Pure: the time and the randomness are arguments, and no relay is asked here.
//!
//! A relay helps only if it is reached from further away than the node itself. So a node on a public address
//! needs none, one behind a home's router needs a public one, and one that does not listen takes any.

use std::{cmp::Reverse, collections::BTreeMap, time::Duration};

use libp2p::{Multiaddr, PeerId, core::transport::ListenerId};

use super::reach::Reach;

/// How many reservations a node keeps: one may go away.
const WANTED: usize = 2;

/// First rest before a relay that refused or was lost is asked again.
const FIRST_REST: Duration = Duration::from_secs(2);
/// Longest rest before a relay is asked again (the same as before a peer is dialled again).
const LONGEST_REST: Duration = Duration::from_mins(5);
/// A reservation that was held for so long was no refusal: the rests begin anew.
const GOOD_SLOT: Duration = Duration::from_mins(1);
/// Most relays whose rests are remembered.
const MAX_RESTS: usize = 64;

/// A connected peer that relays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Relay {
    /// The relay's peer id.
    pub(super) peer: PeerId,
    /// Where it can be dialled without another relay in between; without its peer id.
    pub(super) address: Multiaddr,
    /// From where the relay is reached.
    pub(super) reach: Reach,
    /// Whether the operator named it.
    pub(super) is_asked: bool,
    /// Round trip to the relay, once it is measured.
    pub(super) latency: Option<Duration>,
}

/// A reservation at a relay, held or only asked for.
#[derive(Debug, Clone, Copy)]
struct Slot {
    listener: ListenerId,
    reach: Reach,
    /// When the relay granted it; none before.
    held_since: Option<Duration>,
}

/// How long a relay is left alone: until when now, and for how long next time.
#[derive(Debug, Clone, Copy)]
struct Rest {
    until: Duration,
    next: Duration,
}

/// All reservations of a node, and the rests of relays that refused.
#[derive(Debug, Default)]
pub(super) struct Slots {
    slots: BTreeMap<PeerId, Slot>,
    rests: BTreeMap<PeerId, Rest>,
}

impl Slots {
    /// Returns which of the connected relays to ask now, where the node is reached from `own` without any.
    /// Relays that are reached from furthest away come first, then those that the operator named, then the
    /// nearest by latency.
    pub(super) fn due(&self, own: Option<Reach>, mut relays: Vec<Relay>, now: Duration) -> Vec<Relay> {
        relays.retain(|relay| {
            let rests = self.rests.get(&relay.peer).is_some_and(|rest| rest.until > now);
            Some(relay.reach) > own && !rests && !self.slots.contains_key(&relay.peer)
        });
        relays.sort_by_key(|relay| {
            let latency = relay.latency.unwrap_or(Duration::MAX);
            (Reverse(relay.reach), Reverse(relay.is_asked), latency, relay.peer)
        });
        relays.truncate(WANTED.saturating_sub(self.slots.len()));
        relays
    }

    /// Notes that a relay was asked for a reservation, which `listener` stands for.
    pub(super) fn asked(&mut self, relay: &Relay, listener: ListenerId) {
        self.slots.insert(relay.peer, Slot { listener, reach: relay.reach, held_since: None });
    }

    /// Notes that a relay granted a reservation. Returns true if it is new, not a renewal.
    pub(super) fn held(&mut self, peer: PeerId, now: Duration) -> bool {
        match self.slots.get_mut(&peer) {
            Some(slot) if slot.held_since.is_none() => {
                slot.held_since = Some(now);
                true
            }
            _ => false,
        }
    }

    /// Notes that a relay refused, or that a reservation is gone. Returns the relay, if `listener` belonged
    /// to one.
    ///
    /// The relay is asked again after a rest that grows each time. `random` in [0, 1) stretches it to between
    /// half and one and a half of its length.
    pub(super) fn lost(&mut self, listener: ListenerId, now: Duration, random: f64) -> Option<PeerId> {
        let (peer, slot) = self
            .slots
            .iter()
            .find(|(_, slot)| slot.listener == listener)
            .map(|(peer, slot)| (*peer, *slot))?;
        self.slots.remove(&peer);
        self.refused(peer, slot.held_since.is_some_and(|since| now >= since + GOOD_SLOT), now, random);
        Some(peer)
    }

    /// Notes that a relay could not even be asked.
    pub(super) fn unasked(&mut self, peer: PeerId, now: Duration, random: f64) {
        self.refused(peer, false, now, random);
    }

    fn refused(&mut self, peer: PeerId, was_good: bool, now: Duration, random: f64) {
        let next = match self.rests.get(&peer) {
            Some(rest) if !was_good => rest.next,
            _ => FIRST_REST,
        };
        if self.rests.len() >= MAX_RESTS && !self.rests.contains_key(&peer) {
            // The relay whose rest ends first has the least to remember.
            let soonest = self.rests.iter().min_by_key(|(_, rest)| rest.until).map(|(peer, _)| *peer);
            soonest.and_then(|peer| self.rests.remove(&peer));
        }
        let rest = Rest { until: now + next.mul_f64(0.5 + random), next: (next * 2).min(LONGEST_REST) };
        self.rests.insert(peer, rest);
    }

    /// Removes the reservations that reach no further than the node itself, which is reached from `own` now.
    /// Returns their listeners.
    pub(super) fn needless(&mut self, own: Option<Reach>) -> Vec<ListenerId> {
        let needless: Vec<ListenerId> =
            self.slots.values().filter(|slot| Some(slot.reach) <= own).map(|slot| slot.listener).collect();
        self.slots.retain(|_, slot| Some(slot.reach) > own);
        needless
    }

    /// Returns the relays that granted a reservation, over which this node is reached.
    pub(super) fn relays(&self) -> impl Iterator<Item = PeerId> {
        self.slots.iter().filter(|(_, slot)| slot.held_since.is_some()).map(|(peer, _)| *peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);
    const SECOND: Duration = Duration::from_secs(1);

    fn relay(reach: Reach, is_asked: bool, latency: u64) -> Relay {
        let address = "/ip4/93.184.216.34/tcp/1".parse().expect("an address");
        let latency = Some(Duration::from_millis(latency));
        Relay { peer: PeerId::random(), address, reach, is_asked, latency }
    }

    #[test]
    fn a_relay_is_asked_only_if_it_is_reached_from_further_away() {
        let all = [Reach::Machine, Reach::Local, Reach::World].map(|reach| relay(reach, false, 1));
        let due =
            |own| Slots::default().due(own, all.to_vec(), NOW).iter().map(|it| it.reach).collect::<Vec<_>>();
        assert_eq!(due(None), [Reach::World, Reach::Local]);
        assert_eq!(due(Some(Reach::Machine)), [Reach::World, Reach::Local]);
        assert_eq!(due(Some(Reach::Local)), [Reach::World]);
        assert_eq!(due(Some(Reach::World)), []);
    }

    #[test]
    fn those_that_the_operator_named_come_first_and_then_the_nearest() {
        let [far, near, named] =
            [(false, 90), (false, 5), (true, 200)].map(|(asked, ms)| relay(Reach::World, asked, ms));
        let mut slots = Slots::default();
        let relays = vec![far.clone(), near.clone(), named.clone()];
        assert_eq!(slots.due(None, relays.clone(), NOW), [named.clone(), near.clone()]);
        slots.asked(&named, ListenerId::next());
        slots.asked(&near, ListenerId::next());
        assert_eq!(slots.due(None, relays.clone(), NOW), [], "two are enough");
        assert!(slots.held(named.peer, NOW) && !slots.held(named.peer, NOW), "a renewal is no news");
        assert_eq!(slots.relays().collect::<Vec<_>>(), [named.peer]);
        let listener = slots.slots[&named.peer].listener;
        assert_eq!(slots.lost(listener, NOW, 0.5), Some(named.peer));
        assert_eq!(slots.lost(ListenerId::next(), NOW, 0.5), None, "a listener that was no slot");
        assert_eq!(slots.due(None, relays, NOW), [far], "another takes the place of one that is lost");
    }

    #[test]
    fn a_relay_that_refuses_is_asked_again_at_growing_rests() {
        let (mut slots, relay) = (Slots::default(), relay(Reach::World, false, 1));
        let (mut now, mut asked) = (NOW, Vec::new());
        while now < NOW + Duration::from_hours(2) {
            for due in slots.due(None, vec![relay.clone()], now) {
                let listener = ListenerId::next();
                slots.asked(&due, listener);
                slots.lost(listener, now, 0.5);
                asked.push(now);
            }
            now += SECOND;
        }
        let rests: Vec<Duration> = asked.windows(2).map(|pair| pair[1].abs_diff(pair[0])).collect();
        assert_eq!(rests[..3], [2 * SECOND, 4 * SECOND, 8 * SECOND]);
        assert!(rests.len() > 20 && rests.last() == Some(&LONGEST_REST), "{rests:?}");
        // One that was held for long and then lost is asked soon.
        slots.asked(&relay, ListenerId::next());
        slots.held(relay.peer, now);
        now += GOOD_SLOT;
        let listener = slots.slots[&relay.peer].listener;
        slots.lost(listener, now, 0.5);
        assert_eq!(slots.due(None, vec![relay.clone()], now + FIRST_REST).len(), 1);
    }

    #[test]
    fn slots_are_given_back_when_the_node_is_reached_itself() {
        let (mut slots, relay) = (Slots::default(), relay(Reach::World, false, 1));
        let listener = ListenerId::next();
        slots.asked(&relay, listener);
        slots.held(relay.peer, NOW);
        assert_eq!(slots.needless(Some(Reach::Local)), []);
        assert_eq!(slots.needless(Some(Reach::World)), [listener]);
        assert_eq!(slots.relays().count(), 0);
    }

    #[test]
    fn no_more_rests_are_remembered_than_there_is_room_for() {
        let mut slots = Slots::default();
        for n in 0..3 * MAX_RESTS as u32 {
            slots.unasked(PeerId::random(), NOW + n * SECOND, 0.5);
            assert!(slots.rests.len() <= MAX_RESTS);
        }
    }
}
