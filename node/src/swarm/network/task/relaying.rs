//! Being reached by peers who cannot dial this node: relay reservations, and connections that outgrow them.
//!
//! Which relays are asked, and when, is decided in [`slots`](super::super::slots).

use std::collections::BTreeSet;

use libp2p::{Multiaddr, PeerId, autonat, core::transport::ListenerId, dcutr, multiaddr::Protocol, relay};
use rand::Rng;

use super::state::Task;
use crate::{
    base::text,
    swarm::network::{
        reach::{self, Reach},
        slots::Relay,
        ticket,
    },
};

impl Task {
    /// Notes whether a peer that tried could reach this node at one of its addresses (AutoNAT).
    pub(super) fn was_tried(&mut self, event: autonat::v2::client::Event) {
        let was_reached = event.result.is_ok();
        tracing::debug!("reached from outside at {}: {was_reached}", event.tested_addr);
        self.unreached.note(event.tested_addr, was_reached);
    }

    /// Asks relays for reservations as far as this node is not reached without them. If it relays itself, it
    /// offers its own addresses.
    pub(super) fn keep_reachable(&mut self) {
        if self.config.switches.relay {
            self.offer();
        }
        let own = self.own_reach();
        for listener in self.slots.needless(own) {
            self.swarm.remove_listener(listener);
        }
        let relays = self.connected.iter().filter_map(|(peer, connected)| {
            let is_asked = self.config.peers.iter().any(|address| ticket::peer_of(address) == Some(*peer));
            connected.as_relay(*peer, is_asked)
        });
        let now = self.now();
        for relay in self.slots.due(own, relays.collect(), now) {
            self.ask_for_slot(&relay);
        }
    }

    fn ask_for_slot(&mut self, relay: &Relay) {
        let over = relay.address.clone().with(Protocol::P2p(relay.peer)).with(Protocol::P2pCircuit);
        match self.swarm.listen_on(over) {
            Ok(listener) => self.slots.asked(relay, listener),
            Err(error) => {
                tracing::debug!("cannot ask the relay {} for a slot: {error}", relay.peer);
                let (now, random) = (self.now(), self.rng.random());
                self.slots.unasked(relay.peer, now, random);
            }
        }
    }

    /// Returns from how far away this node is reached without a relay; none where it is not reached at all.
    fn own_reach(&self) -> Option<Reach> {
        let listened = self.swarm.listeners().filter(|address| !self.unreached.0.contains(*address));
        let own = listened.chain(self.swarm.external_addresses());
        own.filter(|address| !reach::is_relayed(address)).filter_map(reach::of).max()
    }

    /// Declares, as a relay, the furthest-reaching of this node's addresses to be external: without an
    /// external address libp2p relays nothing. AutoNAT cannot find one on a machine that all others dial and
    /// that dials nobody, since nobody there could try how it is reached.
    fn offer(&mut self) {
        let Some(furthest) = self.swarm.listeners().filter_map(reach::of).max() else { return };
        let listened = self.swarm.listeners().filter(|address| reach::of(address) == Some(furthest));
        let known: BTreeSet<&Multiaddr> = self.swarm.external_addresses().collect();
        let new: Vec<Multiaddr> = listened.filter(|address| !known.contains(address)).cloned().collect();
        for address in new {
            self.swarm.add_external_address(address);
        }
    }

    /// Notes that a relay granted a reservation, and tells a person if it is a new one.
    pub(super) fn relay_said(&mut self, event: &relay::client::Event) {
        if let relay::client::Event::ReservationReqAccepted { relay_peer_id, .. } = event {
            let now = self.now();
            if self.slots.held(*relay_peer_id, now) {
                self.say_once(format!(
                    "this node cannot be dialled from everywhere: \
                     peers reach it over the relay {relay_peer_id}, as the ticket of `node status` says"
                ));
            }
        }
    }

    /// Notes that a listener is gone. If it was a reservation, another relay is looked for.
    pub(super) fn slot_gone(&mut self, listener: ListenerId, reason: Result<(), std::io::Error>) {
        let (now, random) = (self.now(), self.rng.random());
        if let Some(peer) = self.slots.lost(listener, now, random) {
            let why =
                reason.err().map_or_else(|| "the connection is gone".to_owned(), |error| error.to_string());
            tracing::debug!("no slot at the relay {peer}: {}", text::one_line(&why, 200));
        }
    }

    /// Counts an attempt at hole punching, by whether it worked.
    pub(super) fn punched(&mut self, event: dcutr::Event) {
        let peer = event.remote_peer_id;
        match event.result {
            Ok(_) => {
                self.counts.punched += 1;
                tracing::debug!("peer {peer} is reached directly, no longer over a relay");
            }
            Err(error) => {
                self.counts.not_punched += 1;
                tracing::debug!("peer {peer} is reached over a relay only: {error}");
            }
        }
    }

    /// Closes the relayed connections with a peer that is reached directly now.
    pub(super) fn leave_relay(&mut self, peer: PeerId) {
        let Some(connected) = self.connected.get(&peer) else { return };
        let relayed: Vec<_> = connected.relayed().collect();
        for connection in relayed {
            self.swarm.close_connection(connection);
        }
    }
}
