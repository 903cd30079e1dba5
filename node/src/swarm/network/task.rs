//! The task that owns the libp2p swarm: network events and the node's commands in, actions on both out.
//!
//! This file receives and dispatches. What is done about an event stands in the files beside it.

mod connection;
mod gossip;
mod known;
mod meeting;
mod reconcile;
mod relaying;
mod state;
mod view;

use std::{collections::VecDeque, time::Duration};

use autoswarm_protocol::id::RecordId;
use futures::StreamExt;
use libp2p::{PeerId, gossipsub, identify, kad, mdns, ping, swarm::SwarmEvent, upnp};
use rand::Rng;
use tokio::sync::mpsc;

use super::{
    archive::{Archive, Taken},
    behaviour::{self, BehaviourEvent},
    compatibility,
    messages::{NetworkCommand, NetworkEvent},
    peers::Connections,
    ticket,
};
use crate::base::clock::unix_now;

pub(super) use state::Task;

/// How often the task looks for due dials and reconciliations.
const TICK: Duration = Duration::from_millis(500);

impl Task {
    /// Runs until every handle is gone.
    pub(super) async fn run(mut self) {
        let mut tick = tokio::time::interval(TICK);
        // One tick looks at everything that is due, so missed ones need no catching up.
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let news = self.news.clone();
        loop {
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => break,
                },
                event = self.swarm.select_next_some() => self.swarm_event(event),
                permit = news.reserve(), if !self.late.is_empty() => match permit {
                    Ok(permit) => {
                        if let Some(event) = Self::next_late(&mut self.late, &self.archive) {
                            permit.send(event);
                        }
                    }
                    // Nobody reads the events any more.
                    Err(_) => self.late.clear(),
                },
                _ = tick.tick() => self.tick(),
            }
        }
        if let Err(error) = self.archive.flush() {
            tracing::warn!("cannot keep the last records: {error}");
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn command(&mut self, command: NetworkCommand) {
        match command {
            NetworkCommand::Publish(record) => {
                // It was checked when it was signed, so a refusal is not expected.
                if let Err(fault) = self.archive.insert(&record.bytes, unix_now()) {
                    tracing::warn!("an own record is refused: {fault}");
                    return;
                }
                if let Err(error) = self.archive.flush() {
                    tracing::warn!("cannot keep a record: {error}");
                }
                let topic = behaviour::topic(self.archive.objective().id());
                if let Err(error) = self.swarm.behaviour_mut().gossip.publish(topic, record.bytes) {
                    // Whoever comes later gets it by reconciliation.
                    tracing::debug!("not gossiped now: {error}");
                }
            }
            // Whoever asked may have gone away and needs no answer then, so a failed send is fine.
            NetworkCommand::Ids(answer) => {
                let _ = answer.send(self.archive.iter().map(|held| held.record.id()).collect());
            }
            NetworkCommand::Get(ids, answer) => {
                let held = ids.iter().filter_map(|id| self.archive.get(*id));
                let _ = answer.send(held.map(|held| held.bytes.clone()).collect());
            }
            NetworkCommand::Take(records, answer) => {
                let taken = records.iter().map(|bytes| self.archive.insert(bytes, unix_now()));
                let taken: Vec<_> = taken.collect();
                // No peer brought these, so this node stands for the relayer.
                let relayed_by = *self.swarm.local_peer_id();
                for record in taken.iter().filter_map(|taken| match taken {
                    Ok(Taken::New(record)) => Some(record.clone()),
                    _ => None,
                }) {
                    self.tell(NetworkEvent::Record { record, relayed_by });
                }
                let _ = answer.send(taken);
            }
        }
    }

    fn tick(&mut self) {
        self.dial_due();
        self.show();
        self.reconcile_due();
        self.meet_more();
        self.keep_reachable();
        for peer in self.peers.forgiven(self.now()) {
            self.swarm.behaviour_mut().blocked.unblock_peer(peer);
        }
    }

    fn dial_due(&mut self) {
        let (now, connections) = (self.now(), self.connections());
        let connected = |peer: &PeerId| self.connected.contains_key(peer);
        let due = self.peers.due(now, connections, connected, || self.rng.random());
        for address in due {
            if ticket::peer_of(&address) != Some(*self.swarm.local_peer_id()) {
                // An address that cannot be dialled now becomes due again.
                let _ = self.swarm.dial(address);
            }
        }
    }

    fn connections(&self) -> Connections {
        let outbound = self.connected.values().filter(|connected| connected.is_chosen()).count();
        Connections { all: self.connected.len(), outbound }
    }

    fn swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.behaviour_event(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.came(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, num_established, .. } => {
                if num_established == 0 {
                    self.left(peer_id);
                } else if let Some(connected) = self.connected.get_mut(&peer_id) {
                    connected.connections.remove(&connection_id);
                }
            }
            // Each new address goes into the ticket.
            SwarmEvent::NewListenAddr { .. } => self.show(),
            SwarmEvent::ListenerClosed { listener_id, reason, .. } => self.slot_gone(listener_id, reason),
            // Peers learn of the address at once, not only when identify next tells them.
            SwarmEvent::ExternalAddrConfirmed { .. } => {
                self.swarm.behaviour_mut().identify.push(self.connected.keys().copied());
            }
            SwarmEvent::OutgoingConnectionError { error, .. } if self.connected.is_empty() => {
                self.trouble = Some(compatibility::why_not(&error, self.config.private.is_some()));
            }
            SwarmEvent::IncomingConnectionError { error, .. } => self.not_understood(&error),
            _ => {}
        }
    }

    fn behaviour_event(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Gossip(gossipsub::Event::Message { propagation_source, message_id, message }) => {
                let acceptance = self.gossiped(propagation_source, &message.data);
                self.swarm.behaviour_mut().gossip.report_message_validation_result(
                    &message_id,
                    &propagation_source,
                    acceptance,
                );
            }
            BehaviourEvent::Records(event) => self.exchanged(event),
            BehaviourEvent::Mdns(mdns::Event::Discovered(found)) => self.found_nearby(found),
            BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
                self.introduced(peer_id, info);
            }
            BehaviourEvent::Ping(ping::Event { peer, result: Ok(latency), .. }) => {
                if let Some(connected) = self.connected.get_mut(&peer) {
                    connected.latency = Some(latency);
                }
            }
            // Peers of peers are dialled too, so that a swarm does not depend on one bootstrap node.
            BehaviourEvent::Kad(kad::Event::RoutingUpdated { peer, .. })
                if !self.connected.contains_key(&peer) && self.connections().are_few() =>
            {
                // A peer that cannot be dialled now will turn up again.
                let _ = self.swarm.dial(peer);
            }
            BehaviourEvent::Reachable(event) => self.was_tried(event),
            BehaviourEvent::RelayClient(event) => self.relay_said(&event),
            BehaviourEvent::Dcutr(event) => self.punched(event),
            BehaviourEvent::Upnp(event) => self.router_said(&event),
            _ => {}
        }
    }

    fn router_said(&mut self, event: &upnp::Event) {
        match event {
            upnp::Event::NewExternalAddr { external_addr, .. } => {
                self.say_once(format!("the router lets peers in at {external_addr}"));
            }
            upnp::Event::GatewayNotFound => {
                self.say_once(
                    "`--upnp`: no router here answers; peers come in only if a port is opened by hand"
                        .to_owned(),
                );
            }
            upnp::Event::NonRoutableGateway => {
                self.say_once(
                    "`--upnp`: the router has no public address itself; peers come in over a relay only"
                        .to_owned(),
                );
            }
            upnp::Event::ExpiredExternalAddr { .. } => {}
        }
    }

    /// Tells the node. A held record that finds no room now waits by its id; any other event is news of the
    /// moment and is dropped.
    fn tell(&mut self, event: NetworkEvent) {
        if let Err(mpsc::error::TrySendError::Full(NetworkEvent::Record { record, relayed_by })) =
            self.news.try_send(event)
            && self.archive.get(record.id()).is_some()
        {
            self.late.push_back((record.id(), relayed_by));
        }
    }

    /// Returns the next record that waited; none if it was evicted from the archive meanwhile.
    fn next_late(late: &mut VecDeque<(RecordId, PeerId)>, archive: &Archive) -> Option<NetworkEvent> {
        let (id, relayed_by) = late.pop_front()?;
        let record = archive.get(id)?.record.clone();
        Some(NetworkEvent::Record { record, relayed_by })
    }
}
