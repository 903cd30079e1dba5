//! The book of peers: where they were found, when to dial them again, and what they did wrong.
//!
//! Pure: the time and the randomness are arguments, and nothing is dialled here.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use libp2p::{Multiaddr, PeerId};
use serde::{Deserialize, Serialize};

use super::{reach, ticket::peer_of};

/// Most peers that are remembered across runs.
pub(super) const MAX_KNOWN: usize = 200;

/// Most hints: addresses that peers named and that were not reached yet. Each peer names sixteen at most.
const MAX_HINTS: usize = 64;
/// Most hints at one IP address: a hostile peer cannot make a node try all ports of a machine.
const MAX_HINTS_OF_IP: usize = 4;
/// How often a hint is dialled before it is dropped.
const HINT_TRIES: u32 = 3;

/// Most dials of one look: half of what may be pending at once.
const DIALS: usize = 16;

/// Connections from which on no more are looked for: twice the mesh.
const ENOUGH: usize = 8;
/// Connections from which on none are looked for, even if this node chose too few of them.
const PLENTY: usize = 50;
/// The share of connections that this node wants to have chosen itself, in tenths. Peers that come by
/// themselves may be one attacker under many names (Lighthouse keeps 20 to 30 %).
const OUTBOUND_TENTHS: usize = 3;

/// How often one more address is dialled though there are connections enough. Otherwise two halves of a swarm
/// that lost each other would never look for each other.
const EXPLORE_EVERY: Duration = Duration::from_mins(1);

/// First rest before an address is dialled again.
const FIRST_REST: Duration = Duration::from_secs(1);
/// Growth of that rest with each try.
const REST_GROWTH: f64 = 1.5;
/// Longest rest before an address is dialled again.
const LONGEST_REST: Duration = Duration::from_mins(5);
/// A shorter connection counts as refused by the peer; dialling again at once would go on for ever.
const SHORTEST_CONNECTION: Duration = Duration::from_secs(10);

/// Faults after which a peer is turned away.
const MOST_FAULTS: f64 = 3.0;
/// Time in which one fault is forgotten.
const FAULT_FORGOTTEN: Duration = Duration::from_mins(20);
/// How long a peer stays turned away.
const TURNED_AWAY: Duration = Duration::from_hours(1);
/// Most peers whose faults are remembered, and most that are turned away.
const MAX_FAULTY: usize = 1024;

/// A peer that was reached once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KnownPeer {
    /// The address at which this node dialled it, with its peer id.
    pub(super) address: String,
    /// When it was last reached, seconds since 1970.
    pub(super) reached_at: u64,
}

/// Why an address is dialled; the strongest reason stands last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Why {
    /// Another peer named it.
    Hinted,
    /// Another peer named it, and it leads over a relay that this node is connected with.
    HintedOverRelay,
    /// It was reached before.
    Reached,
    /// The operator named it.
    Asked,
}

impl Why {
    /// Returns whether the reason is only another peer's word.
    const fn is_hint(self) -> bool {
        matches!(self, Self::Hinted | Self::HintedOverRelay)
    }
}

/// Why and when to dial an address again.
#[derive(Debug, Clone, Copy)]
struct DialAttempt {
    why: Why,
    due: Duration,
    rest: Duration,
    tries: u32,
}

/// How many peers are connected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Connections {
    /// All connected peers.
    pub(super) all: usize,
    /// Those with whom this node began a connection.
    pub(super) outbound: usize,
}

impl Connections {
    /// Returns whether more should be looked for.
    pub(super) fn are_few(self) -> bool {
        self.all < ENOUGH || (self.all < PLENTY && 10 * self.outbound < OUTBOUND_TENTHS * self.all)
    }
}

/// How many faults a peer had (`count`), and when (`at`); the count fades from then on.
#[derive(Debug, Clone, Copy)]
struct Faults {
    count: f64,
    at: Duration,
}

/// The book of peers: those remembered, those to dial, and the faults.
#[derive(Debug, Default)]
pub(super) struct Peers {
    known: BTreeMap<String, KnownPeer>,
    dialling: HashMap<Multiaddr, DialAttempt>,
    explored: Duration,
    faults: BTreeMap<PeerId, Faults>,
    turned_away: BTreeMap<PeerId, Duration>,
}

impl Peers {
    /// Makes the book from the peers that an earlier session kept, and from the addresses to dial first.
    pub(super) fn new(known: BTreeMap<String, KnownPeer>, first: &[Multiaddr]) -> Self {
        let mut peers = Self { known, ..Self::default() };
        let remembered: Vec<Multiaddr> =
            peers.known.values().filter_map(|known| known.address.parse().ok()).collect();
        for address in first {
            peers.seek(address.clone(), Why::Asked);
        }
        for address in remembered {
            peers.seek(address, Why::Reached);
        }
        peers
    }

    /// Adds an address to those that are dialled, if there is room for it.
    pub(super) fn seek(&mut self, address: Multiaddr, why: Why) {
        if let Some(attempt) = self.dialling.get_mut(&address) {
            attempt.why = attempt.why.max(why);
            return;
        }
        let room = match why {
            Why::Asked => true,
            Why::Reached => self.count(Why::Reached) < MAX_KNOWN,
            Why::Hinted => self.has_room_for_hint(&address),
            // Only the relay is dialled, and this node is connected with it already.
            Why::HintedOverRelay => self.hints().count() < MAX_HINTS,
        };
        if room {
            let attempt = DialAttempt { why, due: Duration::ZERO, rest: FIRST_REST, tries: 0 };
            self.dialling.insert(address, attempt);
        }
    }

    fn count(&self, why: Why) -> usize {
        self.dialling.values().filter(|attempt| attempt.why == why).count()
    }

    fn hints(&self) -> impl Iterator<Item = (&Multiaddr, &DialAttempt)> {
        self.dialling.iter().filter(|(_, attempt)| attempt.why.is_hint())
    }

    fn has_room_for_hint(&self, address: &Multiaddr) -> bool {
        let ip = reach::ip(address);
        let of_ip = self
            .hints()
            .filter(|(other, attempt)| attempt.why == Why::Hinted && ip.is_some() && reach::ip(other) == ip)
            .count();
        // There may be many on this machine itself: a swarm on one machine is a test.
        let is_own = reach::of(address) == Some(reach::Reach::Machine);
        self.hints().count() < MAX_HINTS && (is_own || of_ip < MAX_HINTS_OF_IP)
    }

    /// Returns the addresses to dial now, except those of peers that are `connected`. With enough connections
    /// these are only the ones that the operator named, and now and then one more.
    ///
    /// The rest before the next try grows with each one. `random` in [0, 1) stretches it to between half and
    /// one and a half of its length. So a swarm whose bootstrap node was down does not come back all at once.
    pub(super) fn due(
        &mut self,
        now: Duration,
        connections: Connections,
        connected: impl Fn(&PeerId) -> bool,
        mut random: impl FnMut() -> f64,
    ) -> Vec<Multiaddr> {
        self.dialling.retain(|_, attempt| !attempt.why.is_hint() || attempt.tries < HINT_TRIES);
        // How many addresses may be dialled besides the operator's.
        let mut others = if connections.are_few() {
            DIALS
        } else if now >= self.explored + EXPLORE_EVERY {
            self.explored = now;
            1
        } else {
            0
        };
        let mut due: Vec<(&Multiaddr, &mut DialAttempt)> =
            self.dialling.iter_mut().filter(|(_, attempt)| attempt.due <= now).collect();
        due.sort_by_key(|(_, attempt)| std::cmp::Reverse(attempt.why));
        let mut dialled = Vec::new();
        for (address, attempt) in due {
            if peer_of(address).is_some_and(|peer| connected(&peer) || self.turned_away.contains_key(&peer)) {
                // Looked at again much later; `left` makes it due as soon as the peer leaves.
                attempt.rest = FIRST_REST;
                attempt.due = now + LONGEST_REST;
            } else if dialled.len() < DIALS && (attempt.why == Why::Asked || others > 0) {
                others -= usize::from(attempt.why != Why::Asked);
                dialled.push(address.clone());
                attempt.due = now + attempt.rest.mul_f64(0.5 + random());
                attempt.rest = attempt.rest.mul_f64(REST_GROWTH).min(LONGEST_REST);
                attempt.tries += 1;
            }
        }
        dialled
    }

    /// Remembers where a peer was reached; `at` is in seconds since 1970. Peers that were reached longest ago
    /// are forgotten first.
    pub(super) fn reached(&mut self, peer: PeerId, address: &Multiaddr, at: u64) {
        let known = KnownPeer { address: address.to_string(), reached_at: at };
        self.known.insert(peer.to_string(), known);
        while self.known.len() > MAX_KNOWN {
            let oldest =
                self.known.iter().min_by_key(|(_, known)| known.reached_at).map(|(peer, _)| peer.clone());
            match oldest {
                Some(peer) => self.known.remove(&peer),
                None => break,
            };
        }
        self.seek(address.clone(), Why::Reached);
    }

    /// Makes a peer that left due at once. Not so if it was there only for a moment; nor its addresses over
    /// relays, whose time is spent sparingly.
    pub(super) fn left(&mut self, peer: PeerId, lasted: Duration) {
        if lasted < SHORTEST_CONNECTION {
            return;
        }
        for (address, attempt) in &mut self.dialling {
            if peer_of(address) == Some(peer) && !reach::is_relayed(address) {
                attempt.due = Duration::ZERO;
                attempt.rest = FIRST_REST;
            }
        }
    }

    /// Forgets a peer and stops dialling it. If the operator named it, it is still dialled, at the longest
    /// rests.
    pub(super) fn give_up(&mut self, peer: PeerId) {
        self.known.remove(&peer.to_string());
        self.dialling.retain(|address, attempt| attempt.why == Why::Asked || peer_of(address) != Some(peer));
        for (address, attempt) in &mut self.dialling {
            if peer_of(address) == Some(peer) {
                attempt.rest = LONGEST_REST;
            }
        }
    }

    /// Returns the peers to remember for the next session, by peer id.
    pub(super) fn known(&self) -> &BTreeMap<String, KnownPeer> {
        &self.known
    }

    /// Notes a fault of a peer. Returns true if it was one too many, and the peer is turned away.
    pub(super) fn fault(&mut self, peer: PeerId, now: Duration) -> bool {
        let faded = |faults: &Faults| {
            let since = now.saturating_sub(faults.at).as_secs_f64();
            (faults.count - since / FAULT_FORGOTTEN.as_secs_f64()).max(0.0)
        };
        if self.faults.len() >= MAX_FAULTY && !self.faults.contains_key(&peer) {
            self.faults.retain(|_, faults| faded(faults) > 0.0);
            if self.faults.len() >= MAX_FAULTY
                && let Some(least) =
                    self.faults.iter().min_by_key(|(_, faults)| faults.at).map(|(peer, _)| *peer)
            {
                self.faults.remove(&least);
            }
        }
        let faults = self.faults.entry(peer).or_insert(Faults { count: 0.0, at: now });
        *faults = Faults { count: faded(faults) + 1.0, at: now };
        // Earlier faults have faded a little, so the third in quick succession makes the count a bit less
        // than three.
        let is_last = faults.count > MOST_FAULTS - 1.0;
        if is_last {
            self.faults.remove(&peer);
            self.turned_away.insert(peer, now + TURNED_AWAY);
        }
        is_last
    }

    /// Lets peers come again that were turned away, if their time is over or others need the room; returns
    /// them.
    pub(super) fn forgiven(&mut self, now: Duration) -> Vec<PeerId> {
        let over = self.turned_away.len().saturating_sub(MAX_FAULTY);
        let mut by_time: Vec<(Duration, PeerId)> =
            self.turned_away.iter().map(|(peer, until)| (*until, *peer)).collect();
        // Where others need the room, those whose time ends first are let in.
        by_time.sort_unstable();
        let forgiven: Vec<PeerId> = by_time
            .iter()
            .enumerate()
            .filter(|(place, (until, _))| *place < over || *until <= now)
            .map(|(_, (_, peer))| *peer)
            .collect();
        for peer in &forgiven {
            self.turned_away.remove(peer);
        }
        forgiven
    }

    /// Returns how many peers are turned away now.
    pub(super) fn turned_away(&self) -> usize {
        self.turned_away.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Connections = Connections { all: 0, outbound: 0 };

    fn address(peer: PeerId) -> Multiaddr {
        format!("/ip4/127.0.0.1/tcp/4001/p2p/{peer}").parse().expect("an address")
    }

    #[test]
    fn nobody_home_is_dialled_for_ever_at_growing_rests() {
        let wanted = address(PeerId::random());
        let mut peers = Peers::new(BTreeMap::new(), std::slice::from_ref(&wanted));
        let (mut now, mut dials) = (Duration::ZERO, Vec::new());
        while now < Duration::from_hours(2) {
            if peers.due(now, NONE, |_| false, || 0.5) == [wanted.clone()] {
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
        assert!(peers.due(Duration::ZERO, NONE, |_| true, || 0.5).is_empty());
        assert!(peers.due(Duration::from_secs(1), NONE, |_| false, || 0.5).is_empty());
        peers.left(peer, Duration::from_secs(1));
        assert!(
            peers.due(Duration::from_secs(2), NONE, |_| false, || 0.5).is_empty(),
            "it was refused there"
        );
        peers.left(peer, Duration::from_mins(1));
        assert_eq!(peers.due(Duration::from_secs(3), NONE, |_| false, || 0.5).len(), 1);
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
        let dialled: usize = (0..20).map(|_| again.due(Duration::ZERO, NONE, |_| false, || 0.5).len()).sum();
        assert_eq!(dialled, MAX_KNOWN);
    }

    #[test]
    fn more_are_looked_for_while_few_are_there_or_few_were_chosen() {
        let few = |all, outbound| Connections { all, outbound }.are_few();
        assert!(few(0, 0) && few(7, 7) && few(20, 5));
        assert!(!few(8, 3) && !few(20, 6) && !few(50, 0));
        let (asked, reached) = (address(PeerId::random()), address(PeerId::random()));
        let mut peers = Peers::new(BTreeMap::new(), std::slice::from_ref(&asked));
        peers.seek(reached.clone(), Why::Reached);
        let enough = Connections { all: 10, outbound: 5 };
        assert_eq!(peers.due(Duration::ZERO, enough, |_| false, || 0.5), [asked]);
        assert_eq!(peers.due(EXPLORE_EVERY, enough, |_| false, || 0.5).len(), 2, "now and then one more");
        assert_eq!(peers.due(2 * EXPLORE_EVERY, NONE, |_| false, || 0.5).len(), 2);
        assert!(peers.dialling.contains_key(&reached));
    }

    #[test]
    fn hints_are_few_and_tried_a_few_times() {
        let mut peers = Peers::default();
        for n in 0..200 {
            let text = format!("/ip4/93.184.{}.{}/tcp/1/p2p/{}", n / 10, n % 3, PeerId::random());
            peers.seek(text.parse().expect("an address"), Why::Hinted);
        }
        assert_eq!(peers.hints().count(), MAX_HINTS);
        let (mut now, mut dials) = (Duration::ZERO, 0);
        while now < Duration::from_mins(10) {
            dials += peers.due(now, NONE, |_| false, || 0.5).len();
            now += Duration::from_millis(500);
        }
        assert_eq!((dials, peers.dialling.len()), (MAX_HINTS * HINT_TRIES as usize, 0));
        for _ in 0..20 {
            let text = format!("/ip4/93.184.216.34/tcp/1/p2p/{}", PeerId::random());
            peers.seek(text.parse().expect("an address"), Why::Hinted);
        }
        assert_eq!(peers.dialling.len(), MAX_HINTS_OF_IP);
    }

    #[test]
    fn hints_over_a_relay_of_ones_own_knock_on_no_doors() {
        let (mut peers, relay) = (Peers::default(), PeerId::random());
        let over = |why, peers: &mut Peers| {
            for _ in 0..200 {
                let text =
                    format!("/ip4/93.184.216.34/tcp/1/p2p/{relay}/p2p-circuit/p2p/{}", PeerId::random());
                peers.seek(text.parse().expect("an address"), why);
            }
        };
        over(Why::Hinted, &mut peers);
        assert_eq!(peers.dialling.len(), MAX_HINTS_OF_IP, "the relay may be anybody's machine");
        over(Why::HintedOverRelay, &mut peers);
        assert_eq!(peers.dialling.len(), MAX_HINTS);
    }

    #[test]
    fn who_left_over_a_relay_is_not_dialled_at_once() {
        let (relay, peer) = (PeerId::random(), PeerId::random());
        let text = format!("/ip4/93.184.216.34/tcp/1/p2p/{relay}/p2p-circuit/p2p/{peer}");
        let mut peers = Peers::new(BTreeMap::new(), &[text.parse().expect("an address")]);
        assert!(peers.due(Duration::ZERO, NONE, |_| true, || 0.5).is_empty());
        peers.left(peer, Duration::from_mins(2));
        assert!(peers.due(Duration::from_mins(2), NONE, |_| false, || 0.5).is_empty());
        assert_eq!(peers.due(LONGEST_REST, NONE, |_| false, || 0.5).len(), 1);
    }

    #[test]
    fn the_third_fault_turns_away_for_an_hour_and_old_ones_fade() {
        let (mut peers, peer) = (Peers::default(), PeerId::random());
        let at = |minutes| Duration::from_mins(minutes);
        assert_eq!([0, 1, 2].map(|minute| peers.fault(peer, at(minute))), [false, false, true]);
        peers.seek(address(peer), Why::Asked);
        assert!(peers.due(at(3), NONE, |_| false, || 0.5).is_empty());
        assert!(peers.forgiven(at(3)).is_empty());
        assert_eq!((peers.forgiven(at(63)), peers.turned_away()), (vec![peer], 0));
        let clumsy = PeerId::random();
        assert!((0..20).all(|n| !peers.fault(clumsy, at(100 + 21 * n))));
    }

    #[test]
    fn no_more_faults_are_remembered_than_there_is_room_for() {
        let mut peers = Peers::default();
        for n in 0..3 * MAX_FAULTY as u64 {
            let peer = PeerId::random();
            for _ in 0..=n % 3 {
                peers.fault(peer, Duration::from_secs(n));
            }
            peers.forgiven(Duration::from_secs(n));
            assert!(peers.faults.len() <= MAX_FAULTY && peers.turned_away() <= MAX_FAULTY);
        }
    }
}
