//! A connected peer: its connections, their kinds and addresses, and what the peer says of itself.

use std::{collections::BTreeMap, time::Duration};

use libp2p::{Multiaddr, PeerId, core::ConnectedPoint, swarm::ConnectionId};

use crate::swarm::network::{
    reach::{self, Reach},
    slots::Relay,
    ticket::{peer_of, whole},
};

/// How a connection reaches the peer; the best kind comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ConnectionKind {
    /// Directly, with nobody in between.
    Direct,
    /// Directly, but only for now: two routers were made to let each other's packets in (hole punching).
    Punched,
    /// Over a relay, which passes everything on.
    Relayed,
}

/// One connection with a peer.
#[derive(Debug)]
pub(super) struct PeerConnection {
    kind: ConnectionKind,
    address: Multiaddr,
    /// Whether this node dialled it.
    is_chosen: bool,
}

/// A connected peer.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) since: Duration,
    pub(super) latency: Option<Duration>,
    pub(super) agent: String,
    /// Addresses at which it says that it listens.
    pub(super) listens: Vec<Multiaddr>,
    /// Whether it says that it relays for others.
    pub(super) relays: bool,
    /// Its open connections, never none; bounded by the connection limits.
    pub(super) connections: BTreeMap<ConnectionId, PeerConnection>,
}

impl Connected {
    pub(super) fn new(since: Duration) -> Self {
        Self {
            since,
            latency: None,
            agent: String::new(),
            listens: Vec::new(),
            relays: false,
            connections: BTreeMap::new(),
        }
    }

    /// Notes a new connection and returns its kind.
    pub(super) fn came(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        endpoint: &ConnectedPoint,
    ) -> ConnectionKind {
        // A direct connection that comes while a relayed one is open is the work of hole punching.
        let kind = match (endpoint.is_relayed(), self.relayed().next()) {
            (true, _) => ConnectionKind::Relayed,
            (false, Some(_)) => ConnectionKind::Punched,
            (false, None) => ConnectionKind::Direct,
        };
        let address = match endpoint {
            // A peer that comes over a relay shows no address but the relay's.
            ConnectedPoint::Listener { local_addr, .. } if kind == ConnectionKind::Relayed => {
                whole(local_addr, peer)
            }
            _ => endpoint.get_remote_address().clone(),
        };
        self.connections.insert(id, PeerConnection { kind, address, is_chosen: endpoint.is_dialer() });
        kind
    }

    /// Returns the connections that lead over relays.
    pub(super) fn relayed(&self) -> impl Iterator<Item = ConnectionId> {
        self.connections
            .iter()
            .filter(|(_, connection)| connection.kind == ConnectionKind::Relayed)
            .map(|(id, _)| *id)
    }

    /// Returns whether a connection reaches the peer without a relay.
    pub(super) fn is_direct(&self) -> bool {
        self.connections.values().any(|connection| connection.kind != ConnectionKind::Relayed)
    }

    /// Returns whether this node dialled one of the connections.
    pub(super) fn is_chosen(&self) -> bool {
        self.connections.values().any(|connection| connection.is_chosen)
    }

    /// Returns the address of the best connection.
    pub(super) fn address(&self) -> &Multiaddr {
        let best = self.connections.values().min_by_key(|connection| connection.kind);
        &best.expect("a peer is connected as long as it has a connection").address
    }

    /// Returns the address at which this node dialled the peer, if others can dial it there too.
    pub(super) fn dialled_at(&self) -> Option<&Multiaddr> {
        let dialled = self
            .connections
            .values()
            .find(|connection| connection.is_chosen && connection.kind == ConnectionKind::Direct);
        dialled.map(|connection| &connection.address)
    }

    /// Returns the peer as a relay to ask for a reservation, if it relays and can be dialled directly.
    pub(super) fn as_relay(&self, peer: PeerId, is_asked: bool) -> Option<Relay> {
        let direct = self.listens.iter().find(|address| !reach::is_relayed(address));
        let mut address = self.dialled_at().or(direct).filter(|_| self.relays && self.is_direct())?.clone();
        // Whoever asks for a reservation puts the peer's id back.
        if peer_of(&address).is_some() {
            address.pop();
        }
        // A DNS name may lead anywhere.
        let reach = reach::of(&address).unwrap_or(Reach::World);
        Some(Relay { peer, address, reach, is_asked, latency: self.latency })
    }
}

#[cfg(test)]
mod tests {
    use libp2p::core::{Endpoint, transport::PortUse};

    use super::*;

    fn dialled(address: &str) -> ConnectedPoint {
        let address = address.parse().expect("an address");
        ConnectedPoint::Dialer { address, role_override: Endpoint::Dialer, port_use: PortUse::Reuse }
    }

    #[test]
    fn a_way_over_a_relay_gives_place_to_a_punched_one() {
        let (relay, peer) = (PeerId::random(), PeerId::random());
        let mut connected = Connected::new(Duration::ZERO);
        let [over, direct] = [1, 2].map(ConnectionId::new_unchecked);
        let local_addr: Multiaddr =
            format!("/ip4/93.184.216.34/tcp/1/p2p/{relay}/p2p-circuit").parse().expect("an address");
        let send_back_addr = format!("/p2p/{peer}").parse().expect("an address");
        let came = ConnectedPoint::Listener { local_addr: local_addr.clone(), send_back_addr };
        assert_eq!(connected.came(over, peer, &came), ConnectionKind::Relayed);
        assert_eq!(*connected.address(), whole(&local_addr, peer));
        assert!(!connected.is_direct() && !connected.is_chosen());
        assert_eq!(
            connected.came(direct, peer, &dialled("/ip4/93.184.216.35/tcp/9")),
            ConnectionKind::Punched
        );
        assert_eq!(*connected.address(), "/ip4/93.184.216.35/tcp/9".parse().expect("an address"));
        assert!(connected.is_direct() && connected.dialled_at().is_none(), "nobody else gets in there");
        assert_eq!(connected.relayed().collect::<Vec<_>>(), [over]);
    }

    #[test]
    fn a_relay_is_asked_where_it_was_dialled() {
        let peer = PeerId::random();
        let mut connected = Connected::new(Duration::ZERO);
        let connection = ConnectionId::new_unchecked(1);
        connected.came(connection, peer, &dialled(&format!("/ip4/93.184.216.34/tcp/1/p2p/{peer}")));
        assert_eq!(connected.as_relay(peer, false), None, "it does not relay");
        connected.relays = true;
        let relay = connected.as_relay(peer, true).expect("it relays");
        assert_eq!(relay.address, "/ip4/93.184.216.34/tcp/1".parse().expect("an address"));
        assert_eq!((relay.reach, relay.is_asked), (Reach::World, true));
    }
}
