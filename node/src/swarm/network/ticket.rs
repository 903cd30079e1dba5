//! The ticket: the one string that joins a swarm.
//!
//! It is `<objective-id>@<multiaddr>[,<multiaddr>…]`, where each address ends in `/p2p/<peer-id>`.

use std::{cmp::Reverse, fmt, str::FromStr};

use autoswarm_protocol::id::ObjectiveId;
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

use super::reach::{self, Reach};

/// Most addresses in one ticket.
pub const MAX_ADDRESSES: usize = 16;

/// What to research, and whom to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// The shared objective; whatever peers send is checked against it.
    pub objective: ObjectiveId,
    /// Addresses of peers, with their peer ids; never empty in a ticket that was parsed.
    pub addresses: Vec<Multiaddr>,
}

/// Returns the peer that an address leads to, if it ends in a peer id.
pub fn peer_of(address: &Multiaddr) -> Option<PeerId> {
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => Some(peer),
        _ => None,
    }
}

/// Returns an address without the peer id at its end.
pub fn host(address: &Multiaddr) -> Multiaddr {
    let mut host = address.clone();
    if peer_of(address).is_some() {
        host.pop();
    }
    host
}

/// Returns an address with a peer id at its end, which is added where it is missing.
pub fn whole(address: &Multiaddr, peer: PeerId) -> Multiaddr {
    match peer_of(address) {
        Some(_) => address.clone(),
        None => address.clone().with(Protocol::P2p(peer)),
    }
}

/// Returns where others can dial a peer that has these addresses, each once. Those that are reached from
/// furthest away come first, otherwise they keep their order. Addresses of this machine alone stay only where
/// there are no others.
pub fn dialable<'a>(addresses: impl Iterator<Item = &'a Multiaddr>, peer: PeerId) -> Vec<Multiaddr> {
    let mut dialable: Vec<Multiaddr> = Vec::new();
    for address in addresses.map(|address| whole(address, peer)) {
        if !dialable.contains(&address) {
            dialable.push(address);
        }
    }
    // A DNS name may lead anywhere.
    let reach = |address: &Multiaddr| reach::of(address).unwrap_or(Reach::World);
    dialable.sort_by_key(|address| Reverse(reach(address)));
    if dialable.first().is_some_and(|furthest| reach(furthest) > Reach::Machine) {
        dialable.retain(|address| reach(address) > Reach::Machine);
    }
    dialable.truncate(MAX_ADDRESSES);
    dialable
}

impl Ticket {
    /// Returns in one line who can use the ticket, if not everybody can.
    pub fn limits(&self) -> Option<&'static str> {
        // A DNS name may lead anywhere.
        let reach = self.addresses.iter().map(|address| reach::of(address).unwrap_or(Reach::World)).max()?;
        match reach {
            Reach::World => None,
            Reach::Local => Some(
                "all addresses of the ticket are private: it works in the same local network only; \
                 from elsewhere a peer with a public address is needed, \
                 as `node join --observe` on a rented machine",
            ),
            Reach::Machine => Some(
                "all addresses of the ticket are of this machine alone: nobody else can use it; \
                 unless told where to, a node listens on every interface, \
                 so either `--listen` said otherwise or there is no network",
            ),
        }
    }
}

impl FromStr for Ticket {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (objective, addresses) = text
            .trim()
            .split_once('@')
            .ok_or("a ticket is `<objective-id>@<address>`; `node seed` and `node status` print one")?;
        let objective = objective.parse().map_err(|error| format!("the ticket's objective: {error}"))?;
        let parse = |text: &str| {
            let shown: String = text.chars().take(120).collect();
            let address: Multiaddr =
                text.parse().map_err(|error| format!("the ticket's address `{shown}`: {error}"))?;
            match peer_of(&address) {
                Some(_) => Ok(address),
                None => Err(format!("the ticket's address `{shown}` does not end in `/p2p/<peer-id>`")),
            }
        };
        let addresses = addresses.split(',').map(|text| parse(text.trim())).collect::<Result<Vec<_>, _>>()?;
        if addresses.len() > MAX_ADDRESSES {
            return Err(format!("the ticket has {} addresses; it takes {MAX_ADDRESSES}", addresses.len()));
        }
        Ok(Self { objective, addresses })
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@", self.objective)?;
        for (index, address) in self.addresses.iter().enumerate() {
            write!(f, "{}{address}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: &str = "/ip4/127.0.0.1/tcp/4001/p2p/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";

    #[test]
    fn a_ticket_prints_as_it_is_read() {
        let text = format!(
            "{}@{ADDRESS},{}",
            ObjectiveId::of(b"x"),
            ADDRESS.replace("tcp/4001", "udp/4001/quic-v1")
        );
        let ticket: Ticket = text.parse().expect("valid");
        assert_eq!(ticket.addresses.len(), 2);
        assert_eq!(ticket.to_string(), text);
    }

    #[test]
    fn who_is_furthest_away_is_served_first() {
        let peer = peer_of(&ADDRESS.parse().expect("valid")).expect("a peer");
        let dial = |hosts: &[&str]| -> Vec<String> {
            let addresses: Vec<Multiaddr> =
                hosts.iter().map(|host| format!("{host}/tcp/1").parse().expect("valid")).collect();
            let end = format!("/tcp/1/p2p/{peer}");
            let dialable = dialable(addresses.iter().chain(&addresses), peer);
            dialable.iter().map(|it| it.to_string().strip_suffix(&end).expect("whole").to_owned()).collect()
        };
        let (own, near, far) = ("/ip4/127.0.0.1", "/ip4/192.168.1.2", "/ip4/93.184.216.34");
        assert_eq!(dial(&[own, "/ip6/::1"]), [own, "/ip6/::1"]);
        assert_eq!(dial(&[own, near, far, "/ip4/10.0.0.1"]), [far, near, "/ip4/10.0.0.1"]);
        assert_eq!(dial(&["/dns4/example.org", own, far]), ["/dns4/example.org", far]);
    }

    #[test]
    fn a_ticket_says_who_can_use_it() {
        let limits = |hosts: &[&str]| {
            let addresses: Vec<_> =
                hosts.iter().map(|host| ADDRESS.replace("/ip4/127.0.0.1", host)).collect();
            let ticket = format!("{}@{}", ObjectiveId::of(b"x"), addresses.join(","));
            ticket.parse::<Ticket>().expect("valid").limits()
        };
        assert!(limits(&["/ip4/127.0.0.1"]).expect("said").contains("this machine alone"));
        assert!(limits(&["/ip4/127.0.0.1", "/ip4/192.168.1.2"]).expect("said").contains("local network"));
        assert_eq!(limits(&["/ip4/192.168.1.2", "/ip4/93.184.216.34"]), None);
        assert_eq!(limits(&["/dns4/example.org"]), None);
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let error = text.parse::<Ticket>().expect_err("wrong");
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn a_typo_is_named() {
        let objective = ObjectiveId::of(b"x");
        check("default", "a ticket is `<objective-id>@<address>`");
        check(&format!("abc@{ADDRESS}"), "`abc` is not an id");
        check(
            &format!("{objective}@/ip4/127.0.0.1/tpc/4001"),
            "the ticket's address `/ip4/127.0.0.1/tpc/4001`",
        );
        check(&format!("{objective}@/ip4/127.0.0.1/tcp/4001"), "does not end in `/p2p/<peer-id>`");
        check(&format!("{objective}@{}", vec![ADDRESS; 17].join(",")), "it takes 16");
    }
}
