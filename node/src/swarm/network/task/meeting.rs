//! Meeting peers: who came, who it is, and whom it knows.
//!
//! Addresses that peers name are hints. They are few, they are tried a few times, and they never lead into a
//! network that the peer who named them is not in itself. When an address is dialled is decided in
//! [`peers`](super::super::peers).

use std::{collections::BTreeSet, time::Duration};

use libp2p::{
    Multiaddr, PeerId,
    core::ConnectedPoint,
    identify, relay,
    swarm::{ConnectionId, ListenError},
};
use rand::{Rng, seq::SliceRandom};

use super::{
    connection::{Connected, ConnectionKind},
    state::{FIRST_REST, Task},
};
use crate::{
    base::{clock::unix_now, files, text},
    swarm::network::{
        compatibility,
        exchange::{MAX_ADDRESS_BYTES, MAX_ADDRESSES, PeerRequest},
        messages::NetworkEvent,
        peers::Why,
        reach::{self, Reach},
        ticket::{peer_of, whole},
    },
};

/// Most listen addresses of one peer that are kept.
const ADDRESSES_OF_PEER: usize = 4;

/// Longest rest before peers are asked for more peers.
const LONGEST_REST: Duration = Duration::from_mins(5);

/// Most different notes for a person in one session: incompatible peers may be many.
const MAX_SAID: usize = 32;

impl Task {
    /// Remembers an address at which a peer can be dialled again.
    pub(super) fn reached(&mut self, peer: PeerId, address: &Multiaddr) {
        let full = whole(address, peer);
        self.peers.reached(peer, &full, unix_now());
        self.swarm.behaviour_mut().kad.add_address(&peer, full);
        if let (Some(file), Ok(text)) =
            (&self.config.known_peers, serde_json::to_vec_pretty(self.peers.known()))
            && let Err(error) = files::replace(file, &text)
        {
            tracing::warn!("cannot remember peers in `{}`: {error}", file.display());
        }
    }

    /// Notes a new connection with a peer.
    pub(super) fn came(&mut self, peer: PeerId, connection: ConnectionId, endpoint: &ConnectedPoint) {
        let since = self.now();
        let is_new = !self.connected.contains_key(&peer);
        let connected = self.connected.entry(peer).or_insert_with(|| Connected::new(since));
        let kind = connected.came(connection, peer, endpoint);
        match kind {
            // Only an address that this node dialled itself is known to lead to the peer.
            ConnectionKind::Direct if endpoint.is_dialer() => {
                self.reached(peer, endpoint.get_remote_address());
            }
            ConnectionKind::Direct | ConnectionKind::Relayed => {}
            ConnectionKind::Punched => self.leave_relay(peer),
        }
        if is_new {
            self.trouble = None;
            self.show();
            self.tell(NetworkEvent::Connected(peer));
        }
        // No reconciliation over a relay: it is there for news, and the relay itself has the history too.
        if kind == ConnectionKind::Punched || (is_new && kind == ConnectionKind::Direct) {
            self.wake();
            self.lead(peer);
        }
        if is_new && self.connections().are_few() {
            self.swarm.behaviour_mut().records.send_request(&peer, PeerRequest::Peers);
        }
    }

    /// Notes that the last connection with a peer is gone.
    pub(super) fn left(&mut self, peer: PeerId) {
        let Some(connected) = self.connected.remove(&peer) else { return };
        self.reconciling.drop(&peer);
        self.peers.left(peer, self.now().saturating_sub(connected.since));
        // One peer fewer, so others are looked for soon again.
        self.meeting.rest = FIRST_REST;
        self.meeting.next = self.meeting.next.min(self.now() + FIRST_REST);
        self.show();
        self.tell(NetworkEvent::Disconnected(peer));
    }

    /// Notes who a peer says it is (identify), and disconnects it if it is incompatible.
    pub(super) fn introduced(&mut self, peer: PeerId, info: identify::Info) {
        if let Some(stranger) = compatibility::judge(&peer, &info, self.archive.objective().id()) {
            self.say_once(stranger);
            self.peers.give_up(peer);
            // If this fails, the peer is gone already.
            let _ = self.swarm.disconnect_peer_id(peer);
            return;
        }
        // An address that reaches less far than the open connection leads elsewhere: a peer's loopback
        // address, for one, leads to this machine here.
        let reach = self.reach_of(&peer);
        let listens: Vec<Multiaddr> = info
            .listen_addrs
            .into_iter()
            .filter(|address| address.len() <= MAX_ADDRESS_BYTES && reach::of(address) >= Some(reach))
            .take(ADDRESSES_OF_PEER)
            .collect();
        for address in &listens {
            self.swarm.behaviour_mut().kad.add_address(&peer, address.clone());
        }
        if let Some(connected) = self.connected.get_mut(&peer) {
            connected.agent = text::one_line(&info.agent_version, 60);
            connected.relays = info.protocols.contains(&relay::HOP_PROTOCOL_NAME);
            connected.listens = listens;
        }
    }

    /// Dials peers that announced themselves in the local network (mDNS).
    pub(super) fn found_nearby(&mut self, found: Vec<(PeerId, Multiaddr)>) {
        for (peer, address) in found {
            if !self.connected.contains_key(&peer) && self.connections().are_few() {
                // A peer that cannot be dialled now will announce itself again.
                let _ = self.swarm.dial(address);
            }
        }
    }

    /// Asks a random peer for more peers while there are few, at growing rests.
    pub(super) fn meet_more(&mut self) {
        let now = self.now();
        if now < self.meeting.next || self.connected.is_empty() || !self.connections().are_few() {
            return;
        }
        self.meeting.next = now + self.meeting.rest.mul_f64(0.5 + self.rng.random::<f64>());
        self.meeting.rest = (self.meeting.rest * 2).min(LONGEST_REST);
        let place = self.rng.random_range(0..self.connected.len());
        if let Some(peer) = self.connected.keys().nth(place).copied() {
            self.swarm.behaviour_mut().records.send_request(&peer, PeerRequest::Peers);
        }
    }

    /// Returns addresses of the other peers, as far as `peer` can dial them. A peer outside a local network
    /// learns nothing about it.
    pub(super) fn addresses_for(&mut self, peer: PeerId) -> Vec<Vec<u8>> {
        let from = self.reach_of(&peer);
        let mut addresses: Vec<Vec<u8>> = self
            .connected
            .iter()
            .filter(|(other, _)| **other != peer)
            .flat_map(|(other, connected)| {
                let dialled = connected.dialled_at();
                let all: BTreeSet<Multiaddr> =
                    connected.listens.iter().chain(dialled).map(|address| whole(address, *other)).collect();
                all.into_iter().filter(move |address| reach::of(address) >= Some(from)).take(2)
            })
            .map(|address| address.to_vec())
            .collect();
        // They come in the order of peer ids; without a shuffle the cut would always hit the same peers.
        addresses.shuffle(&mut self.rng);
        addresses.truncate(MAX_ADDRESSES);
        addresses
    }

    /// Takes addresses that a peer named as hints, and dials what is due.
    pub(super) fn hinted(&mut self, from: PeerId, addresses: &[Vec<u8>]) {
        let reach = self.reach_of(&from);
        for bytes in addresses.iter().take(MAX_ADDRESSES).filter(|bytes| bytes.len() <= MAX_ADDRESS_BYTES) {
            let Ok(address) = Multiaddr::try_from(bytes.clone()) else { continue };
            let Some(peer) = peer_of(&address) else { continue };
            let is_own = peer == *self.swarm.local_peer_id();
            if !is_own && !self.connected.contains_key(&peer) && reach::of(&address) >= Some(reach) {
                // Over a relay that is connected directly, dialling a hint bothers no other machine.
                let is_near = |relay| self.connected.get(&relay).is_some_and(Connected::is_direct);
                let over_near = reach::relay_of(&address).is_some_and(is_near);
                self.peers.seek(address, if over_near { Why::HintedOverRelay } else { Why::Hinted });
            }
        }
        self.dial_due();
    }

    fn reach_of(&self, peer: &PeerId) -> Reach {
        let connected = self.connected.get(peer);
        // Where nothing is known, the strictest: only addresses that anybody can reach are exchanged.
        connected.and_then(|connected| reach::of(connected.address())).unwrap_or(Reach::World)
    }

    /// Notes that an incoming connection could not be understood; in a private swarm the keys may differ.
    pub(super) fn not_understood(&mut self, error: &ListenError) {
        if self.config.private.is_some() && matches!(error, ListenError::Transport(_)) {
            self.say_once(compatibility::OTHER_KEY.to_owned());
        }
    }

    /// Gives a person a note, each text at most once in a session.
    pub(super) fn say_once(&mut self, text: String) {
        if self.meeting.said.len() < MAX_SAID && self.meeting.said.insert(text.clone()) {
            self.tell(NetworkEvent::Note(text));
        }
    }
}
