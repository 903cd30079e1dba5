//! Reconciling with peers: requests sent and answered, and the responses that come back.
//!
//! The steps themselves are in [`sync`](super::super::sync), and when they begin in
//! [`sync_schedule`](super::super::sync_schedule).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use autoswarm_protocol::{id::RecordId, record::Blame};
use libp2p::{
    PeerId,
    request_response::{self, Message, OutboundRequestId, ResponseChannel},
};
use rand::{Rng, seq::IndexedRandom};

use super::state::{LeadPhase, Syncing, Task};
use crate::{
    base::{clock::unix_now, text},
    swarm::network::{
        archive::Taken,
        behaviour,
        exchange::{self, MAX_IDS, PeerRequest, PeerResponse},
        messages::NetworkEvent,
        sync::{self, Lead, Misled, SyncStep},
    },
};

/// Most reconciliations that this node leads at once; each may hold 8 MB of ids.
const MAX_LEADS: usize = 8;
/// Most requests for bodies that are under way with one peer. With several at once, the round trip does not
/// decide the speed (Psyche fetches four at once).
const PIPELINE: usize = 4;
/// Most new records of one reconciliation that are gossiped on. So few are a hole in gossip; more are the
/// history that a joiner fetches.
const MOST_NEWS: usize = 16;
/// Rest after a peer said that it is busy.
const BUSY_REST: Duration = Duration::from_secs(1);
/// After so many busy responses in a row a peer is given up until the next round.
const MOST_BUSY: u32 = 60;

impl Task {
    pub(super) fn exchanged(&mut self, event: request_response::Event<PeerRequest, PeerResponse>) {
        match event {
            request_response::Event::Message {
                peer,
                message: Message::Request { request, channel, .. },
                ..
            } => {
                self.answer(peer, &request, channel);
            }
            request_response::Event::Message {
                peer,
                message: Message::Response { request_id, response },
                ..
            } => self.answered(peer, request_id, response),
            request_response::Event::OutboundFailure { peer, request_id, .. } => {
                if self.reconciling.open.get(&peer).is_some_and(|syncing| syncing.awaits(request_id)) {
                    // A later round makes up for it, with this peer or another.
                    self.reconciling.drop(&peer);
                }
            }
            request_response::Event::InboundFailure { .. } | request_response::Event::ResponseSent { .. } => {
            }
        }
    }

    fn answer(&mut self, peer: PeerId, ask: &PeerRequest, channel: ResponseChannel<PeerResponse>) {
        let now = self.now();
        let answer = match ask {
            PeerRequest::Get(ids) if ids.len() > MAX_IDS => {
                return self.fault(peer, "asked for too many records at once");
            }
            PeerRequest::Get(ids) => {
                // The quota counts bytes, so the response is made before the quota is asked.
                let answer = sync::answer_ids(&self.archive, ids);
                let bytes = match &answer {
                    PeerResponse::Records(records) => records.iter().map(Vec::len).sum(),
                    _ => 0,
                };
                if self.quotas.may_fetch(peer, bytes, now) { answer } else { PeerResponse::Busy }
            }
            _ if !self.quotas.may_ask(peer, now) => PeerResponse::Busy,
            PeerRequest::Reconcile(frame) => match sync::answer_frame(&self.archive, frame) {
                Ok(frame) => {
                    // The two sets differ, so this node may lack something too.
                    if !sync::says_equal(&frame) {
                        self.wake();
                    }
                    PeerResponse::Reconcile(frame)
                }
                Err(_) => return self.fault(peer, &Misled::BadFrame.to_string()),
            },
            PeerRequest::SwarmConfig => PeerResponse::SwarmConfig(self.config.swarm_config.clone()),
            PeerRequest::Peers => PeerResponse::Peers(self.addresses_for(peer)),
        };
        self.counts.refused += u64::from(answer == PeerResponse::Busy);
        // A peer that left needs no response.
        let _ = self.swarm.behaviour_mut().records.send_response(channel, answer);
    }

    /// Begins the reconciliations that are due, and goes on with those that rested.
    pub(super) fn reconcile_due(&mut self) {
        let now = self.now();
        if self.reconciling.schedule.is_due(now, self.rng.random()) {
            // No reconciliation over a relay: it is there for news, and the relay itself has the history too.
            let direct = self.connected.iter().filter(|(_, connected)| connected.is_direct());
            let direct: Vec<PeerId> = direct.map(|(peer, _)| *peer).collect();
            if let Some(peer) = direct.choose(&mut self.rng) {
                self.lead(*peer);
            }
        }
        let resting: Vec<PeerId> = self.reconciling.open.keys().copied().collect();
        for peer in resting {
            if let Some(syncing) = self.reconciling.open.remove(&peer) {
                self.go_on(peer, syncing);
            }
        }
        while self.reconciling.open.len() < MAX_LEADS
            && let Some(peer) = self.reconciling.waiting.pop_first()
        {
            self.lead(peer);
        }
    }

    /// Makes reconciliations frequent again: something is missing here or at a peer.
    pub(super) fn wake(&mut self) {
        let now = self.now();
        self.reconciling.schedule.woke(now, self.rng.random());
    }

    /// Begins a reconciliation with a peer, unless one is open. It waits while too many others are.
    pub(super) fn lead(&mut self, peer: PeerId) {
        if self.reconciling.open.contains_key(&peer) {
            return;
        }
        if self.reconciling.open.len() >= MAX_LEADS {
            self.reconciling.waiting.insert(peer);
            return;
        }
        match Lead::begin(&self.archive) {
            Ok((lead, frame)) => {
                let phase = LeadPhase::Comparing { request: None, frame };
                let news = Vec::new();
                self.go_on(peer, Syncing { lead, phase, rest_until: Duration::ZERO, busy: 0, news });
            }
            Err(error) => tracing::warn!("cannot reconcile: {error}"),
        }
    }

    /// Sends the requests that come next, and ends the reconciliation when there are none.
    fn go_on(&mut self, peer: PeerId, mut syncing: Syncing) {
        if self.now() >= syncing.rest_until {
            let records = &mut self.swarm.behaviour_mut().records;
            match &mut syncing.phase {
                LeadPhase::Comparing { request: request @ None, frame } => {
                    *request = Some(records.send_request(&peer, PeerRequest::Reconcile(frame.clone())));
                }
                LeadPhase::Comparing { .. } => {}
                LeadPhase::Fetching(asked) => {
                    // This reconciliation was taken out of `open`, so what it asked for is added.
                    let mut under_way = self.reconciling.under_way();
                    under_way.extend(asked.values().flatten());
                    while asked.len() < PIPELINE
                        && let Some(ids) = syncing.lead.next_ids(&self.archive, &under_way)
                    {
                        under_way.extend(&ids);
                        let short = ids.iter().map(|id| exchange::short(*id)).collect();
                        asked.insert(records.send_request(&peer, PeerRequest::Get(short)), ids);
                    }
                    if asked.is_empty() && syncing.lead.is_done() {
                        self.counts.syncs += 1;
                        if syncing.lead.found_nothing() {
                            self.reconciling.schedule.found_nothing();
                        } else {
                            self.wake();
                        }
                        self.pass_on(&syncing.news);
                        return;
                    }
                }
            }
        }
        self.reconciling.open.insert(peer, syncing);
    }

    fn answered(&mut self, peer: PeerId, request: OutboundRequestId, answer: PeerResponse) {
        if !self.reconciling.open.get(&peer).is_some_and(|syncing| syncing.awaits(request)) {
            // Addresses are asked for at other times too. Any other response is to a request that was given
            // up.
            if let PeerResponse::Peers(addresses) = answer {
                self.hinted(peer, &addresses);
            }
            return;
        }
        let Some(mut syncing) = self.reconciling.open.remove(&peer) else { return };
        let rest = self.now() + BUSY_REST;
        let done = match (&mut syncing.phase, answer) {
            (LeadPhase::Comparing { request, .. }, PeerResponse::Busy) => {
                *request = None;
                syncing.busy += 1;
                syncing.rest_until = rest;
                Ok(())
            }
            (LeadPhase::Comparing { .. }, PeerResponse::Reconcile(frame)) => {
                syncing.busy = 0;
                syncing.lead.step(&frame).map_err(|misled| misled.to_string()).map(|step| {
                    syncing.phase = match step {
                        SyncStep::Frame(frame) => LeadPhase::Comparing { request: None, frame },
                        SyncStep::Fetch => LeadPhase::Fetching(BTreeMap::new()),
                    };
                })
            }
            (LeadPhase::Fetching(asked), answer) => match (asked.remove(&request), answer) {
                (None, _) => Ok(()),
                (Some(ids), PeerResponse::Busy) => {
                    syncing.lead.again(ids);
                    syncing.busy += 1;
                    syncing.rest_until = rest;
                    Ok(())
                }
                (Some(ids), PeerResponse::Records(records)) => {
                    syncing.busy = 0;
                    self.fetched(peer, ids, &records).map(|(missing, new)| {
                        syncing.lead.again(missing);
                        // One more than is gossiped on, so that `pass_on` can tell that there were too many.
                        let room = (MOST_NEWS + 1).saturating_sub(syncing.news.len());
                        syncing.news.extend(new.into_iter().take(room));
                    })
                }
                (Some(_), _) => Err("answered something else than was asked".to_owned()),
            },
            (LeadPhase::Comparing { .. }, _) => Err("answered something else than was asked".to_owned()),
        };
        match done {
            Ok(()) if syncing.busy < MOST_BUSY => self.go_on(peer, syncing),
            // Busy for too long. The reconciliation is out of `open` already, so it ends here.
            Ok(()) => {}
            Err(what) => {
                self.fault(peer, &what);
                // The peer is asked again at once. Faults that lie far apart are forgotten, so it would take
                // turns from honest peers for ever without being turned away.
                if self.connected.contains_key(&peer) {
                    self.reconciling.waiting.insert(peer);
                }
            }
        }
    }

    /// Takes bodies that were asked for. Returns the ids to ask for again, because the response had no room
    /// for them, and the ids of the records that are new.
    fn fetched(
        &mut self,
        peer: PeerId,
        ids: Vec<RecordId>,
        records: &[Vec<u8>],
    ) -> Result<(Vec<RecordId>, Vec<RecordId>), String> {
        let mut missing: BTreeSet<RecordId> = ids.into_iter().collect();
        let (mut bytes, mut new) = (0, Vec::new());
        for record in records {
            bytes += record.len() + sync::RECORD_OVERHEAD;
            if !missing.remove(&RecordId::of(record)) {
                return Err("sent a record that was not asked for".to_owned());
            }
            match self.archive.insert(record, unix_now()) {
                Ok(Taken::New(record)) => {
                    self.counts.reconciled += 1;
                    new.push(record.id());
                    self.tell(NetworkEvent::Record { record, relayed_by: peer });
                }
                Ok(_) => {}
                Err(fault) if fault.blame() == Blame::Ignore => {}
                Err(fault) => return Err(fault.to_string()),
            }
        }
        // A full response leaves out what the peer may well have, so it is asked for again.
        if !sync::had_room(bytes) {
            return Ok((missing.into_iter().collect(), new));
        }
        let now = self.now();
        if missing.is_empty() || self.quotas.may_withhold(peer, missing.len(), now) {
            Ok((Vec::new(), new))
        } else {
            Err("has records that it does not hand out".to_owned())
        }
    }

    /// Gossips what a reconciliation brought, if that is little: then it is news to the peers behind this
    /// node too. A whole history is not.
    fn pass_on(&mut self, news: &[RecordId]) {
        if news.len() > MOST_NEWS {
            return;
        }
        let (now, topic) = (self.now(), behaviour::topic(self.archive.objective().id()));
        for held in news.iter().filter_map(|id| self.archive.get(*id)) {
            if self.quotas.may_say(&held.record, now) {
                // This fails for a record that was gossiped already, which is fine.
                let _ = self.swarm.behaviour_mut().gossip.publish(topic.clone(), held.bytes.clone());
            }
        }
    }

    /// Notes a fault of a peer. Three within twenty minutes turn it away.
    pub(super) fn fault(&mut self, peer: PeerId, what: &str) {
        tracing::info!("peer {peer} {}", text::one_line(what, 200));
        self.counts.faulty += 1;
        self.reconciling.drop(&peer);
        let now = self.now();
        if self.peers.fault(peer, now) {
            self.swarm.behaviour_mut().blocked.block_peer(peer);
        }
    }
}
