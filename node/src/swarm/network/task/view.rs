//! Makes the view of the network that people see, twice a second and whenever a peer comes or goes.

use libp2p::Multiaddr;

use super::state::Task;
use crate::swarm::network::{
    behaviour,
    overview::{NetworkView, PeerView},
    ticket::{self, Ticket},
};

impl Task {
    pub(super) fn show(&self) {
        self.shown.send_replace(self.view());
    }

    fn view(&self) -> NetworkView {
        let own = *self.swarm.local_peer_id();
        let ticket = Ticket { objective: self.archive.objective().id(), addresses: self.dialable() };
        let gossip = &self.swarm.behaviour().gossip;
        let topic = behaviour::topic(self.archive.objective().id()).hash();
        let peers = self.connected.iter().map(|(peer, connected)| PeerView {
            peer: peer.to_string(),
            address: ticket::host(connected.address()).to_string(),
            latency_ms: connected.latency.map(|latency| latency.as_secs_f64() * 1000.0),
            agent: connected.agent.clone(),
            standing: gossip.peer_score(peer),
            meshed: gossip.mesh_peers(&topic).any(|meshed| meshed == peer),
        });
        NetworkView {
            peer: own.to_string(),
            ticket: if ticket.addresses.is_empty() { String::new() } else { ticket.to_string() },
            peers: peers.collect(),
            records: self.archive.len(),
            fingerprint: self.archive.fingerprint().to_hex()[..16].to_owned(),
            trouble: self.connected.is_empty().then(|| {
                let why = self.trouble.clone().unwrap_or_else(|| "nobody was found yet".to_owned());
                format!("{why}; training goes on alone, and dialling too; `--peer ADDRESS` names somebody")
            }),
            counts: self.counts,
            turned_away: self.peers.turned_away(),
            relays: self.slots.relays().map(|relay| relay.to_string()).collect(),
        }
    }

    /// Returns where others can dial this node, the furthest-reaching addresses first. Among equals, those
    /// that are confirmed from outside come first.
    fn dialable(&self) -> Vec<Multiaddr> {
        let own = *self.swarm.local_peer_id();
        ticket::dialable(self.swarm.external_addresses().chain(self.swarm.listeners()), own)
    }
}
