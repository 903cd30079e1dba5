//! Reach: from how far away an address can be dialled.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

/// From how far away an address can be reached, the nearest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// From this machine alone.
    Machine,
    /// From the same local network.
    Local,
    /// From anywhere on the internet.
    World,
}

/// Parses an address at which others are said to reach this machine: an IP address or DNS name, and a port.
pub fn parse_external(text: &str) -> Result<Multiaddr, String> {
    let address: Multiaddr =
        text.parse().map_err(|error| format!("{error}; it looks like /ip4/93.184.216.34/tcp/4001"))?;
    let mut parts = address.iter();
    let host = parts.next();
    let is_name =
        matches!(host, Some(Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_) | Protocol::Dnsaddr(_)));
    if !is_name && of(&address).is_none() {
        return Err("nobody can dial that host; give the machine's public address".to_owned());
    }
    match parts.next() {
        Some(Protocol::Tcp(0) | Protocol::Udp(0)) => {
            Err("port 0 cannot be dialled; give `--listen` a port, and the same one here".to_owned())
        }
        Some(Protocol::Tcp(_) | Protocol::Udp(_)) if !is_relayed(&address) => Ok(address),
        _ => Err("it needs a port, as in /ip4/93.184.216.34/tcp/4001".to_owned()),
    }
}

/// Returns the IP address that an address begins with, if it begins with one.
pub fn ip(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    }
}

/// Returns whether an address leads over a relay.
pub fn is_relayed(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::P2pCircuit)
}

/// Returns the relay that an address leads over, if it leads over one.
pub fn relay_of(address: &Multiaddr) -> Option<PeerId> {
    let mut before = address.iter().take_while(|part| *part != Protocol::P2pCircuit);
    let relay = before.find_map(|part| match part {
        Protocol::P2p(peer) => Some(peer),
        _ => None,
    });
    relay.filter(|_| is_relayed(address))
}

/// Returns from where an address can be reached. An address over a relay is reached from where the relay is.
/// It is none for an address that leads nowhere, as over a relay of a relay, and for a DNS name, which may
/// lead anywhere.
pub fn of(address: &Multiaddr) -> Option<Reach> {
    if address.iter().filter(|part| *part == Protocol::P2pCircuit).count() > 1 {
        return None;
    }
    match address.iter().next()? {
        Protocol::Ip4(ip) => of_ip4(ip),
        Protocol::Ip6(ip) => of_ip6(ip),
        Protocol::Memory(_) => Some(Reach::Machine),
        _ => None,
    }
}

fn of_ip4(ip: Ipv4Addr) -> Option<Reach> {
    let [a, b, ..] = ip.octets();
    if ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast() || a == 0 || a >= 240 {
        None
    } else if ip.is_loopback() {
        Some(Reach::Machine)
    } else if ip.is_private() || ip.is_link_local() || (a == 100 && b & 0xc0 == 64) {
        // 100.64.0.0/10: behind a provider's NAT (RFC 6598).
        Some(Reach::Local)
    } else {
        Some(Reach::World)
    }
}

fn of_ip6(ip: Ipv6Addr) -> Option<Reach> {
    if let Some(ip) = ip.to_ipv4_mapped() {
        return of_ip4(ip);
    }
    if ip.is_unspecified() || ip.is_multicast() {
        None
    } else if ip.is_loopback() {
        Some(Reach::Machine)
    } else if ip.is_unique_local() || ip.is_unicast_link_local() {
        Some(Reach::Local)
    } else {
        Some(Reach::World)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(address: &str, expected: Option<Reach>) {
        assert_eq!(of(&address.parse().expect("an address")), expected, "{address}");
    }

    #[test]
    fn an_address_over_a_relay_names_it() {
        let (relay, peer) = (PeerId::random(), PeerId::random());
        let parse = |text: String| text.parse::<Multiaddr>().expect("an address");
        let over = parse(format!("/ip4/93.184.216.34/tcp/1/p2p/{relay}/p2p-circuit/p2p/{peer}"));
        assert_eq!((is_relayed(&over), relay_of(&over), of(&over)), (true, Some(relay), Some(Reach::World)));
        let twice = parse(format!("{over}/p2p-circuit/p2p/{}", PeerId::random()));
        assert_eq!(of(&twice), None, "no relay passes on to another");
        let direct = parse(format!("/ip4/93.184.216.34/tcp/1/p2p/{peer}"));
        assert_eq!((is_relayed(&direct), relay_of(&direct)), (false, None));
    }

    #[test]
    fn an_external_address_can_be_dialled() {
        for good in
            ["/ip4/93.184.216.34/tcp/4001", "/dns4/example.org/udp/4001/quic-v1", "/ip4/10.0.0.1/tcp/1"]
        {
            assert_eq!(parse_external(good).map(|it| it.to_string()).as_deref(), Ok(good));
        }
        let refused = |text: &str| parse_external(text).expect_err("nobody can dial it");
        assert!(refused("/ip4/0.0.0.0/tcp/4001").contains("public address"));
        assert!(refused("/ip4/93.184.216.34/tcp/0").contains("port 0"));
        assert!(refused("/ip4/93.184.216.34").contains("needs a port"));
        assert!(refused("93.184.216.34:4001").contains("/ip4/"));
    }

    #[test]
    fn addresses_have_a_reach() {
        check("/ip4/127.8.0.1/tcp/1", Some(Reach::Machine));
        check("/memory/7", Some(Reach::Machine));
        check("/ip6/::1/tcp/1", Some(Reach::Machine));
        check("/ip4/192.168.1.2/tcp/1", Some(Reach::Local));
        check("/ip4/10.0.0.1/udp/1/quic-v1", Some(Reach::Local));
        check("/ip4/100.64.3.2/tcp/1", Some(Reach::Local));
        check("/ip6/fe80::1/tcp/1", Some(Reach::Local));
        check("/ip6/::ffff:10.0.0.1/tcp/1", Some(Reach::Local));
        check("/ip4/93.184.216.34/tcp/1", Some(Reach::World));
        check("/ip6/2606:2800:220:1::1/tcp/1", Some(Reach::World));
        check("/ip4/0.0.0.0/tcp/1", None);
        check("/ip4/224.0.0.1/udp/1", None);
        check("/dns4/example.org/tcp/1", None);
    }
}
