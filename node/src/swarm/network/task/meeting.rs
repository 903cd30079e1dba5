//! Meeting peers: who came, who it is, and whom it knows. Addresses that peers name are hints: few, tried a few times, and
//! never a way into a network that the one who names them is not in itself.

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

/// Addresses of one peer that are kept and handed on.
const ADDRESSES_OF_PEER: usize = 4;

/// Longest rest before peers are asked for more peers.
const LONGEST_REST: Duration = Duration::from_mins(5);

/// Different lines that are said in one session: strangers may be many.
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

    /// A connection is there.
    pub(super) fn came(&mut self, peer: PeerId, connection: ConnectionId, endpoint: &ConnectedPoint) {
        let since = self.now();
        let is_new = !self.connected.contains_key(&peer);
        let connected = self.connected.entry(peer).or_insert_with(|| Connected::new(since));
        let kind = connected.came(connection, peer, endpoint);
        match kind {
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
        // A relay carries news; a history comes from it itself.
        if kind == ConnectionKind::Punched || (is_new && kind == ConnectionKind::Direct) {
            self.wake();
            self.lead(peer);
        }
        if is_new && self.connections().are_few() {
            self.swarm.behaviour_mut().records.send_request(&peer, PeerRequest::Peers);
        }
    }

    /// The last connection with a peer is gone.
    pub(super) fn left(&mut self, peer: PeerId) {
        let Some(connected) = self.connected.remove(&peer) else { return };
        self.reconciling.drop(&peer);
        self.peers.left(peer, self.now().saturating_sub(connected.since));
        self.meeting.rest = FIRST_REST;
        self.meeting.next = self.meeting.next.min(self.now() + FIRST_REST);
        self.show();
        self.tell(NetworkEvent::Disconnected(peer));
    }

    /// A peer said who it is.
    pub(super) fn introduced(&mut self, peer: PeerId, info: identify::Info) {
        if let Some(stranger) = compatibility::judge(&peer, &info, self.archive.objective().id()) {
            self.say_once(stranger);
            self.peers.give_up(peer);
            // Gone already, if this fails.
            let _ = self.swarm.disconnect_peer_id(peer);
            return;
        }
        // What leads less far than the connection that is there leads elsewhere, as the peer's own loopback.
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

    /// Peers of the local network said that they are there.
    pub(super) fn found_nearby(&mut self, found: Vec<(PeerId, Multiaddr)>) {
        for (peer, address) in found {
            if !self.connected.contains_key(&peer) && self.connections().are_few() {
                // Who cannot be dialled now says it again.
                let _ = self.swarm.dial(address);
            }
        }
    }

    /// Asks somebody for more peers, at growing rests, while there are few.
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

    /// Returns where the other peers are, as far as `peer` can go there: who is outside learns nothing about a local network.
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
        addresses.shuffle(&mut self.rng);
        addresses.truncate(MAX_ADDRESSES);
        addresses
    }

    /// Takes addresses that a peer named.
    pub(super) fn hinted(&mut self, from: PeerId, addresses: &[Vec<u8>]) {
        let reach = self.reach_of(&from);
        for bytes in addresses.iter().take(MAX_ADDRESSES).filter(|bytes| bytes.len() <= MAX_ADDRESS_BYTES) {
            let Ok(address) = Multiaddr::try_from(bytes.clone()) else { continue };
            let Some(peer) = peer_of(&address) else { continue };
            let is_own = peer == *self.swarm.local_peer_id();
            if !is_own && !self.connected.contains_key(&peer) && reach::of(&address) >= Some(reach) {
                let is_near = |relay| self.connected.get(&relay).is_some_and(Connected::is_direct);
                let over_near = reach::relay_of(&address).is_some_and(is_near);
                self.peers.seek(address, if over_near { Why::HintedOverRelay } else { Why::Hinted });
            }
        }
        self.dial_due();
    }

    fn reach_of(&self, peer: &PeerId) -> Reach {
        let connected = self.connected.get(peer);
        connected.and_then(|connected| reach::of(connected.address())).unwrap_or(Reach::World)
    }

    /// Somebody came and could not be understood.
    pub(super) fn not_understood(&mut self, error: &ListenError) {
        if self.config.private.is_some() && matches!(error, ListenError::Transport(_)) {
            self.say_once(compatibility::OTHER_KEY.to_owned());
        }
    }

    /// Tells a person something, once a session.
    pub(super) fn say_once(&mut self, text: String) {
        if self.meeting.said.len() < MAX_SAID && self.meeting.said.insert(text.clone()) {
            self.tell(NetworkEvent::Note(text));
        }
    }
}
