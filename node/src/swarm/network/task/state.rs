//! The state of the network's task: the swarm, its queues, and what is known of peers, syncs and relays.
//!
//! What is done with it stands in the other files of this folder.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use autoswarm_protocol::id::RecordId;
use libp2p::{Multiaddr, PeerId, Swarm, request_response::OutboundRequestId};
use rand_chacha::ChaCha8Rng;
use tokio::sync::{mpsc, watch};

use super::{connection::Connected, known};
use crate::{
    base::text,
    swarm::network::{
        archive::Archive,
        behaviour::Behaviour,
        config::{NetworkConfig, NetworkError},
        joining,
        messages::{NetworkCommand, NetworkEvent},
        overview::{NetworkCounts, NetworkView},
        peers::Peers,
        quotas::Quotas,
        slots::Slots,
        sync::Lead,
        sync_schedule::SyncSchedule,
    },
};

/// The network's task, which owns the libp2p swarm.
pub(in crate::swarm::network) struct Task {
    pub(super) swarm: Swarm<Behaviour>,
    pub(super) config: NetworkConfig,
    pub(super) archive: Archive,
    pub(super) commands: mpsc::Receiver<NetworkCommand>,
    pub(super) news: mpsc::Sender<NetworkEvent>,
    pub(super) shown: watch::Sender<NetworkView>,
    /// Records that the node has not been told of yet, for lack of room, and who relayed each. A record
    /// enters the archive once, which bounds their number.
    pub(super) late: VecDeque<(RecordId, PeerId)>,
    pub(super) peers: Peers,
    pub(super) quotas: Quotas,
    /// The connected peers, bounded by the connection limits.
    pub(super) connected: BTreeMap<PeerId, Connected>,
    pub(super) reconciling: Reconciling,
    pub(super) meeting: Meeting,
    pub(super) slots: Slots,
    pub(super) unreached: Unreached,
    pub(super) counts: NetworkCounts,
    pub(super) rng: ChaCha8Rng,
    pub(super) started: Instant,
    /// Why the last dial failed, as long as no peer is connected.
    pub(super) trouble: Option<String>,
}

impl Task {
    pub(in crate::swarm::network) fn new(
        mut swarm: Swarm<Behaviour>,
        config: NetworkConfig,
        archive: Archive,
        commands: mpsc::Receiver<NetworkCommand>,
        news: mpsc::Sender<NetworkEvent>,
        shown: watch::Sender<NetworkView>,
    ) -> Result<Self, NetworkError> {
        for address in &config.listen {
            swarm.listen_on(address.clone()).map_err(|error| NetworkError::Listen {
                address: address.to_string(),
                reason: text::one_line(&error.to_string(), 200),
            })?;
        }
        for address in &config.external {
            swarm.add_external_address(address.clone());
        }
        let (known, note) = known::read(config.known_peers.as_deref());
        let peers = Peers::new(known, &config.peers);
        let reconciling = Reconciling::new(config.sync_every);
        let rng = joining::rng_of(&config.keys);
        let mut task = Self {
            swarm,
            config,
            archive,
            commands,
            news,
            shown,
            late: VecDeque::new(),
            peers,
            quotas: Quotas::default(),
            connected: BTreeMap::new(),
            reconciling,
            meeting: Meeting::default(),
            slots: Slots::default(),
            unreached: Unreached::default(),
            counts: NetworkCounts::default(),
            rng,
            started: Instant::now(),
            trouble: None,
        };
        if let Some(note) = note {
            task.tell(NetworkEvent::Note(note));
        }
        Ok(task)
    }
}

/// First rest before peers are asked for more peers; later rests grow.
pub(super) const FIRST_REST: Duration = Duration::from_secs(4);

/// When to ask for more peers next, and which notes a person has been given.
#[derive(Debug)]
pub(super) struct Meeting {
    pub(super) next: Duration,
    pub(super) rest: Duration,
    pub(super) said: BTreeSet<String>,
}

impl Default for Meeting {
    fn default() -> Self {
        Self { next: FIRST_REST, rest: FIRST_REST, said: BTreeSet::new() }
    }
}

/// What a reconciliation that this node leads is waiting for.
#[derive(Debug)]
pub(super) enum LeadPhase {
    /// The response to a frame. The frame is kept, because a busy peer gets it again; `request` is none until
    /// the frame is sent.
    Comparing { request: Option<OutboundRequestId>, frame: Vec<u8> },
    /// Record bodies: the ids that each open request asks for.
    Fetching(BTreeMap<OutboundRequestId, Vec<RecordId>>),
}

/// A reconciliation that this node leads with a peer.
#[derive(Debug)]
pub(super) struct Syncing {
    pub(super) lead: Lead,
    pub(super) phase: LeadPhase,
    /// No request is sent before this time.
    pub(super) rest_until: Duration,
    /// How often in a row the peer has said that it is busy.
    pub(super) busy: u32,
    /// Ids of the new records that it brought, collected only while they are few.
    pub(super) news: Vec<RecordId>,
}

impl Syncing {
    /// Returns whether this reconciliation waits for the answer to a request.
    pub(super) fn awaits(&self, id: OutboundRequestId) -> bool {
        match &self.phase {
            LeadPhase::Comparing { request, .. } => *request == Some(id),
            LeadPhase::Fetching(asked) => asked.contains_key(&id),
        }
    }
}

/// All reconciliations that this node leads, and when the next one begins.
#[derive(Debug)]
pub(super) struct Reconciling {
    pub(super) schedule: SyncSchedule,
    pub(super) open: BTreeMap<PeerId, Syncing>,
    /// Connected peers to begin with once there is room.
    pub(super) waiting: BTreeSet<PeerId>,
}

impl Reconciling {
    pub(super) const fn new(every: Duration) -> Self {
        Self { schedule: SyncSchedule::new(every), open: BTreeMap::new(), waiting: BTreeSet::new() }
    }

    /// Ends the reconciliation with a peer, and waits for none with it.
    pub(super) fn drop(&mut self, peer: &PeerId) {
        self.open.remove(peer);
        self.waiting.remove(peer);
    }

    /// Returns the ids that have been asked for and not been answered yet.
    pub(super) fn under_way(&self) -> BTreeSet<RecordId> {
        let phases = self.open.values().map(|syncing| &syncing.phase);
        let asked = phases.filter_map(|phase| match phase {
            LeadPhase::Fetching(asked) => Some(asked.values().flatten().copied()),
            LeadPhase::Comparing { .. } => None,
        });
        asked.flatten().collect()
    }
}

/// Most own addresses that are remembered as unreachable from outside; no machine has more.
const MAX_UNREACHED: usize = 32;

/// Own addresses at which peers tried to reach this node and failed (AutoNAT).
#[derive(Debug, Default)]
pub(super) struct Unreached(pub(super) BTreeSet<Multiaddr>);

impl Unreached {
    pub(super) fn note(&mut self, address: Multiaddr, was_reached: bool) {
        if was_reached {
            self.0.remove(&address);
        } else if self.0.len() < MAX_UNREACHED {
            self.0.insert(address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_nobody_reached_are_bounded_and_forgiven() {
        let mut unreached = Unreached::default();
        let address = |n| format!("/ip4/93.184.216.34/tcp/{n}").parse::<Multiaddr>().expect("an address");
        for n in 1..=100 {
            unreached.note(address(n), false);
        }
        assert_eq!(unreached.0.len(), MAX_UNREACHED);
        unreached.note(address(1), true);
        assert!(!unreached.0.contains(&address(1)));
    }
}
