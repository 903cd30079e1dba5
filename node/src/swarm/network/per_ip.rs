//! A limit on the connections with one IP address, so that one machine cannot take all places.
//!
//! libp2p's own limits do not look at addresses.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    net::{IpAddr, Ipv6Addr},
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm, dummy,
    },
};

use super::reach;

/// Most connections with one address: enough for a few machines behind one router.
pub(super) const MAX_PER_IP: usize = 8;

/// The reason for refusing a connection: its address has too many.
#[derive(Debug, thiserror::Error)]
#[error("there are {MAX_PER_IP} connections with `{0}` already")]
struct TooMany(IpAddr);

/// Counts connections by address and refuses those over the limit.
#[derive(Debug)]
pub(super) struct PerIp {
    /// Whether connections within this machine do not count.
    is_loopback_exempt: bool,
    /// The counted connections: open ones, and incoming ones from their first byte on. The limits on all
    /// connections bound them.
    open: HashMap<ConnectionId, IpAddr>,
    counts: BTreeMap<IpAddr, usize>,
}

impl PerIp {
    pub(super) fn new(is_loopback_exempt: bool) -> Self {
        Self { is_loopback_exempt, open: HashMap::new(), counts: BTreeMap::new() }
    }

    /// Returns the address under which a connection counts. It is none over a relay, whose address does not
    /// tell who comes. Of an IPv6 address it is the /64 network, which a provider gives to one customer.
    fn counted(&self, address: &Multiaddr) -> Option<IpAddr> {
        if reach::is_relayed(address) {
            return None;
        }
        let ip = reach::ip(address)?;
        if ip.is_loopback() && self.is_loopback_exempt {
            return None;
        }
        match ip {
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.segments();
                Some(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into())
            }
            IpAddr::V4(_) => Some(ip),
        }
    }

    fn add(&mut self, connection: ConnectionId, address: &Multiaddr) {
        if let Some(ip) = self.counted(address)
            && self.open.insert(connection, ip).is_none()
        {
            *self.counts.entry(ip).or_insert(0) += 1;
        }
    }

    fn remove(&mut self, connection: ConnectionId) {
        if let Some(ip) = self.open.remove(&connection)
            && let Some(count) = self.counts.get_mut(&ip)
        {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&ip);
            }
        }
    }

    fn check(&self, address: &Multiaddr) -> Result<(), ConnectionDenied> {
        match self.counted(address) {
            Some(ip) if self.counts.get(&ip).is_some_and(|count| *count >= MAX_PER_IP) => {
                Err(ConnectionDenied::new(TooMany(ip)))
            }
            _ => Ok(()),
        }
    }
}

impl NetworkBehaviour for PerIp {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.check(remote)?;
        // Counted from its first byte, so that half-open connections are no way around the limit.
        self.add(connection, remote);
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        address: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.check(address)?;
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        match event {
            FromSwarm::ConnectionEstablished(established) => {
                // An incoming one was counted when it began; `add` does not count it twice.
                self.add(established.connection_id, established.endpoint.get_remote_address());
            }
            FromSwarm::ConnectionClosed(closed) => self.remove(closed.connection_id),
            FromSwarm::ListenFailure(failed) => self.remove(failed.connection_id),
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        libp2p::core::util::unreachable(event)
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(address: &str, is_loopback_exempt: bool, expected: Option<&str>) {
        let counted = PerIp::new(is_loopback_exempt).counted(&address.parse().expect("an address"));
        assert_eq!(counted, expected.map(|ip| ip.parse().expect("an IP")), "{address}");
    }

    #[test]
    fn addresses_are_counted_by_who_can_have_many_of_them() {
        check("/ip4/93.184.216.34/tcp/1", true, Some("93.184.216.34"));
        check("/ip4/127.0.0.1/tcp/1", true, None);
        check("/ip4/127.0.0.2/tcp/1", false, Some("127.0.0.2"));
        check("/ip6/2606:2800:220:1:2::3/udp/1/quic-v1", true, Some("2606:2800:220:1::"));
        let relay = PeerId::random();
        check(&format!("/ip4/93.184.216.34/tcp/1/p2p/{relay}/p2p-circuit"), true, None);
        check("/memory/3", false, None);
    }
}
