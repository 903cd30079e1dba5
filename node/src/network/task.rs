//! The task that owns the swarm: events of the network and commands of the node in, actions on both out.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    time::{Duration, Instant},
};

use autoswarm_protocol::{
    SwarmConfig,
    id::{ObjectiveId, RecordId},
    record::Blame,
};
use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, Swarm, SwarmBuilder, gossipsub, identify,
    identity::Keypair,
    kad, mdns,
    multiaddr::Protocol,
    noise, ping,
    request_response::{self, Message, OutboundRequestId, ResponseChannel},
    swarm::SwarmEvent,
    tcp, yamux,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::sync::{mpsc, watch};

use super::{
    Command, Heard, NetworkConfig, NetworkError, NetworkView, PeerView, Ticket,
    archive::{Archive, Taken},
    behaviour::{self, Behaviour, BehaviourEvent},
    exchange::{Answer, Ask},
    peers::{FRAME_COST, Known, Peers},
    sync::{self, Lead, Step},
    ticket,
};
use crate::{event_loop::unix_now, files, text};

/// How often due dials and reconciliations are looked at.
const TICK: Duration = Duration::from_millis(500);
/// Connections above which no more peers of peers are dialled: twice the mesh.
const ENOUGH_PEERS: usize = 8;
/// How long a joiner waits for the swarm config.
const JOIN_PATIENCE: Duration = Duration::from_mins(1);
/// Connections without a use are closed after this; gossip is a use.
const IDLE: Duration = Duration::from_mins(1);

/// Builds the swarm of a real node: tcp and quic, noise, yamux, relayed connections.
pub(super) fn build(
    config: &NetworkConfig,
    objective: ObjectiveId,
) -> Result<Swarm<Behaviour>, NetworkError> {
    let failed = |error: &dyn std::fmt::Display| NetworkError::Setup(error.to_string());
    let swarm = SwarmBuilder::with_existing_identity(config.keys.clone())
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
        .map_err(|error| failed(&error))?
        .with_quic()
        .with_dns()
        .map_err(|error| failed(&error))?
        .with_relay_client(noise::Config::new, yamux::Config::default)
        .map_err(|error| failed(&error))?
        .with_behaviour(|keys, relay| {
            Behaviour::new(keys, relay, objective, config.switches).map_err(Into::into)
        })
        .map_err(|error| failed(&error))?
        .with_swarm_config(|swarm| swarm.with_idle_connection_timeout(IDLE))
        .build();
    Ok(swarm)
}

/// Asks the peers of a ticket for the swarm config and checks it against the ticket's id.
pub async fn fetch_swarm_config(
    config: &NetworkConfig,
    ticket: &Ticket,
) -> Result<(SwarmConfig, String), NetworkError> {
    let mut swarm = build(config, ticket.objective)?;
    let mut peers = Peers::new(BTreeMap::new(), &ticket.addresses);
    let started = Instant::now();
    let mut tick = tokio::time::interval(TICK);
    let mut rng = rng_of(&config.keys);
    let mut last =
        "none of its addresses answered; is the seeder running and reachable from here?".to_owned();
    while started.elapsed() < JOIN_PATIENCE {
        tokio::select! {
            _ = tick.tick() => {
                let due = peers.due(started.elapsed(), |peer| swarm.is_connected(peer), || rng.random());
                for address in due {
                    // What cannot be dialled now is tried again.
                    let _ = swarm.dial(address);
                }
            }
            event = swarm.select_next_some() => match event {
                SwarmEvent::ConnectionEstablished { peer_id, .. } => {
                    swarm.behaviour_mut().records.send_request(&peer_id, Ask::SwarmConfig);
                }
                SwarmEvent::OutgoingConnectionError { error, .. } => last = text::one_line(&error.to_string(), 200),
                SwarmEvent::Behaviour(BehaviourEvent::Records(request_response::Event::Message {
                    message: Message::Response { response: Answer::SwarmConfig(toml), .. },
                    ..
                })) => match SwarmConfig::parse(&toml) {
                    Ok(found) if found.objective.id() == ticket.objective => return Ok((found, toml)),
                    Ok(_) => last = String::from("a peer sent another objective than the ticket names"),
                    Err(error) => last = format!("a peer's swarm config is wrong: {}", text::one_line(&error.to_string(), 200)),
                },
                _ => {}
            },
        }
    }
    Err(NetworkError::NoSwarmConfig(last))
}

/// Makes a generator for rests between dials: different on every node and at every start, which is all that is asked of it.
fn rng_of(keys: &Keypair) -> ChaCha8Rng {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&keys.public().encode_protobuf()).update(&unix_now().to_le_bytes());
    ChaCha8Rng::from_seed(*hasher.finalize().as_bytes())
}

/// A reconciliation that this node leads with a peer.
#[derive(Debug)]
struct Syncing {
    lead: Lead,
    /// The request whose answer is awaited.
    request: OutboundRequestId,
    /// The ids that it asked for, when it asked for bodies.
    asked: Vec<RecordId>,
}

/// What a connected peer is like.
#[derive(Debug, Default)]
struct Connected {
    address: String,
    latency: Option<Duration>,
    agent: String,
}

/// The owner of the swarm.
pub(super) struct Task {
    swarm: Swarm<Behaviour>,
    config: NetworkConfig,
    archive: Archive,
    commands: mpsc::Receiver<Command>,
    news: mpsc::Sender<Heard>,
    shown: watch::Sender<NetworkView>,
    peers: Peers,
    connected: BTreeMap<PeerId, Connected>,
    syncing: HashMap<PeerId, Syncing>,
    rng: ChaCha8Rng,
    started: Instant,
    next_sync: Duration,
    trouble: Option<String>,
}

impl Task {
    pub(super) fn new(
        mut swarm: Swarm<Behaviour>,
        config: NetworkConfig,
        archive: Archive,
        commands: mpsc::Receiver<Command>,
        news: mpsc::Sender<Heard>,
        shown: watch::Sender<NetworkView>,
    ) -> Result<Self, NetworkError> {
        for address in &config.listen {
            swarm.listen_on(address.clone()).map_err(|error| NetworkError::Listen {
                address: address.to_string(),
                reason: error.to_string(),
            })?;
        }
        let known = config.known_peers.as_ref().and_then(|file| fs::read(file).ok());
        let known: Option<BTreeMap<String, Known>> =
            known.and_then(|text| serde_json::from_slice(&text).ok());
        let peers = Peers::new(known.unwrap_or_default(), &config.peers);
        let next_sync = config.sync_every;
        let rng = rng_of(&config.keys);
        Ok(Self {
            swarm,
            config,
            archive,
            commands,
            news,
            shown,
            peers,
            connected: BTreeMap::new(),
            syncing: HashMap::new(),
            rng,
            started: Instant::now(),
            next_sync,
            trouble: None,
        })
    }

    /// Goes on until every handle is gone.
    pub(super) async fn run(mut self) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => return,
                },
                event = self.swarm.select_next_some() => self.swarm_event(event),
                _ = tick.tick() => self.tick(),
            }
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Publish(record) => {
                // It was checked when it was signed.
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
            // Whoever asked and went away needs no answer.
            Command::Ids(answer) => {
                let _ = answer.send(self.archive.iter().map(|held| held.record.id()).collect());
            }
            Command::Get(ids, answer) => {
                let held = ids.iter().filter_map(|id| self.archive.get(*id));
                let _ = answer.send(held.map(|held| held.bytes.clone()).collect());
            }
            Command::Take(records, answer) => {
                let taken = records.iter().map(|bytes| self.archive.insert(bytes, unix_now()));
                let taken: Vec<_> = taken.collect();
                let relayed_by = *self.swarm.local_peer_id();
                for record in taken.iter().filter_map(|taken| match taken {
                    Ok(Taken::New(record)) => Some(record.clone()),
                    _ => None,
                }) {
                    self.tell(Heard::Record { record, relayed_by });
                }
                let _ = answer.send(taken);
            }
        }
    }

    fn tick(&mut self) {
        let now = self.started.elapsed();
        let due = self.peers.due(now, |peer| self.connected.contains_key(peer), || self.rng.random());
        for address in due {
            if ticket::peer_of(&address) != Some(*self.swarm.local_peer_id()) {
                // What cannot be dialled now is tried again.
                let _ = self.swarm.dial(address);
            }
        }
        self.shown.send_replace(self.view());
        if now >= self.next_sync {
            self.next_sync = now + self.config.sync_every.mul_f64(0.5 + self.rng.random::<f64>());
            let place = self.rng.random_range(0..self.connected.len().max(1));
            if let Some(peer) = self.connected.keys().nth(place).copied() {
                self.lead(peer);
            }
        }
    }

    fn swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.behaviour_event(event),
            SwarmEvent::ConnectionEstablished { peer_id, endpoint, num_established, .. } => {
                let address = endpoint.get_remote_address().clone();
                if endpoint.is_dialer() {
                    self.reached(peer_id, &address);
                }
                if num_established.get() == 1 {
                    self.trouble = None;
                    let view = Connected { address: address.to_string(), ..Connected::default() };
                    self.connected.insert(peer_id, view);
                    self.tell(Heard::Connected(peer_id));
                    self.lead(peer_id);
                }
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established: 0, .. } => {
                self.connected.remove(&peer_id);
                self.syncing.remove(&peer_id);
                self.peers.left(peer_id);
                self.tell(Heard::Disconnected(peer_id));
            }
            SwarmEvent::OutgoingConnectionError { error, .. } if self.connected.is_empty() => {
                self.trouble = Some(text::one_line(&error.to_string(), 200));
            }
            _ => {}
        }
    }

    /// Remembers an address at which a peer can be dialled again.
    fn reached(&mut self, peer: PeerId, address: &Multiaddr) {
        let full = match ticket::peer_of(address) {
            Some(_) => address.clone(),
            None => address.clone().with(Protocol::P2p(peer)),
        };
        self.peers.reached(peer, &full, unix_now());
        self.peers.seek(full.clone());
        self.swarm.behaviour_mut().kad.add_address(&peer, full);
        if let (Some(file), Ok(text)) =
            (&self.config.known_peers, serde_json::to_vec_pretty(self.peers.known()))
            && let Err(error) = files::replace(file, &text)
        {
            tracing::warn!("cannot remember peers in `{}`: {error}", file.display());
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
            BehaviourEvent::Mdns(mdns::Event::Discovered(found)) => {
                for (peer, address) in found {
                    if !self.connected.contains_key(&peer) {
                        let _ = self.swarm.dial(address);
                    }
                }
            }
            BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
                if let Some(connected) = self.connected.get_mut(&peer_id) {
                    connected.agent = text::one_line(&info.agent_version, 60);
                }
                for address in info.listen_addrs.into_iter().take(8) {
                    self.swarm.behaviour_mut().kad.add_address(&peer_id, address);
                }
            }
            BehaviourEvent::Ping(ping::Event { peer, result: Ok(latency), .. }) => {
                if let Some(connected) = self.connected.get_mut(&peer) {
                    connected.latency = Some(latency);
                }
            }
            // Peers of peers: a swarm does not hang on one bootstrap node.
            BehaviourEvent::Kad(kad::Event::RoutingUpdated { peer, .. })
                if !self.connected.contains_key(&peer) && self.connected.len() < ENOUGH_PEERS =>
            {
                // Who cannot be dialled now is met again.
                let _ = self.swarm.dial(peer);
            }
            _ => {}
        }
    }

    fn gossiped(&mut self, relayed_by: PeerId, bytes: &[u8]) -> gossipsub::MessageAcceptance {
        match self.archive.insert(bytes, unix_now()) {
            Ok(Taken::New(record) | Taken::Passing(record)) => {
                self.tell(Heard::Record { record, relayed_by });
                gossipsub::MessageAcceptance::Accept
            }
            Ok(Taken::Known | Taken::NoRoom) => gossipsub::MessageAcceptance::Ignore,
            Err(fault) => match fault.blame() {
                Blame::Ignore => gossipsub::MessageAcceptance::Ignore,
                Blame::Reject => gossipsub::MessageAcceptance::Reject,
            },
        }
    }

    fn exchanged(&mut self, event: request_response::Event<Ask, Answer>) {
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
                self.syncing.retain(|other, syncing| *other != peer || syncing.request != request_id);
            }
            request_response::Event::InboundFailure { .. } | request_response::Event::ResponseSent { .. } => {
            }
        }
    }

    fn answer(&mut self, peer: PeerId, ask: &Ask, channel: ResponseChannel<Answer>) {
        let now = self.started.elapsed();
        let answer = match ask {
            Ask::Reconcile(frame) if self.peers.may_ask(peer, FRAME_COST, now) => {
                match sync::answer_frame(&self.archive, frame) {
                    Ok(frame) => Answer::Reconcile(frame),
                    Err(_) => return self.fault(peer, "sent a frame that makes no sense"),
                }
            }
            Ask::Get(ids) => {
                let answer = sync::answer_ids(&self.archive, ids);
                let bytes = match &answer {
                    Answer::Records(records) => records.iter().map(Vec::len).sum(),
                    _ => 0,
                };
                if self.peers.may_ask(peer, bytes, now) { answer } else { Answer::Busy }
            }
            Ask::SwarmConfig if self.peers.may_ask(peer, FRAME_COST, now) => {
                Answer::SwarmConfig(self.config.swarm_config.clone())
            }
            Ask::Reconcile(_) | Ask::SwarmConfig => Answer::Busy,
        };
        // A peer that left needs no answer.
        let _ = self.swarm.behaviour_mut().records.send_response(channel, answer);
    }

    /// Begins a reconciliation, unless one with this peer goes on.
    fn lead(&mut self, peer: PeerId) {
        if self.syncing.contains_key(&peer) {
            return;
        }
        match Lead::begin(&self.archive) {
            Ok((lead, frame)) => {
                let request = self.swarm.behaviour_mut().records.send_request(&peer, Ask::Reconcile(frame));
                self.syncing.insert(peer, Syncing { lead, request, asked: Vec::new() });
            }
            Err(error) => tracing::warn!("cannot reconcile: {error}"),
        }
    }

    fn answered(&mut self, peer: PeerId, request: OutboundRequestId, answer: Answer) {
        // An answer to something that was given up.
        let Some(mut syncing) = self.syncing.remove(&peer) else { return };
        if syncing.request != request {
            self.syncing.insert(peer, syncing);
            return;
        }
        match answer {
            Answer::Reconcile(frame) if syncing.asked.is_empty() => match syncing.lead.step(&frame) {
                Ok(Step::Frame(frame)) => {
                    syncing.request =
                        self.swarm.behaviour_mut().records.send_request(&peer, Ask::Reconcile(frame));
                    self.syncing.insert(peer, syncing);
                }
                Ok(Step::Fetch) => self.fetch(peer, syncing),
                Err(_) => self.fault(peer, "sent a frame that makes no sense"),
            },
            Answer::Records(records) if !syncing.asked.is_empty() => {
                let mut asked = std::mem::take(&mut syncing.asked);
                let before = asked.len();
                for bytes in &records {
                    let id = RecordId::of(bytes);
                    if !asked.contains(&id) {
                        return self.fault(peer, "sent a record that was not asked for");
                    }
                    asked.retain(|other| *other != id);
                    match self.archive.insert(bytes, unix_now()) {
                        Ok(Taken::New(record)) => self.tell(Heard::Record { record, relayed_by: peer }),
                        Ok(_) => {}
                        Err(fault) if fault.blame() == Blame::Ignore => {}
                        Err(fault) => return self.fault(peer, &fault.to_string()),
                    }
                }
                if asked.len() == before {
                    return self.fault(peer, "has records that it does not hand out");
                }
                syncing.lead.again(asked);
                self.fetch(peer, syncing);
            }
            // Busy: another round comes later.
            Answer::Busy => {}
            Answer::Reconcile(_) | Answer::Records(_) | Answer::SwarmConfig(_) => {
                self.fault(peer, "answered something else than was asked");
            }
        }
    }

    fn fetch(&mut self, peer: PeerId, mut syncing: Syncing) {
        if let Some(ids) = syncing.lead.next_ids(&self.archive) {
            syncing.request = self.swarm.behaviour_mut().records.send_request(&peer, Ask::Get(ids.clone()));
            syncing.asked = ids;
            self.syncing.insert(peer, syncing);
        }
    }

    fn fault(&mut self, peer: PeerId, what: &str) {
        tracing::info!("peer {peer} {}", text::one_line(what, 200));
        self.syncing.remove(&peer);
        if self.peers.fault(peer) {
            self.swarm.behaviour_mut().blocked.block_peer(peer);
        }
    }

    fn tell(&self, heard: Heard) {
        if self.news.try_send(heard).is_err() {
            tracing::debug!("the node is too busy for news; the record is in the archive");
        }
    }

    fn view(&self) -> NetworkView {
        let own = *self.swarm.local_peer_id();
        let mut addresses: Vec<Multiaddr> = self.swarm.external_addresses().cloned().collect();
        addresses.extend(self.swarm.listeners().cloned());
        let mut dialable: Vec<Multiaddr> = Vec::new();
        for address in addresses {
            let full = match ticket::peer_of(&address) {
                Some(_) => address,
                None => address.with(Protocol::P2p(own)),
            };
            if !dialable.contains(&full) && dialable.len() < ticket::MAX_ADDRESSES {
                dialable.push(full);
            }
        }
        let peers = self.connected.iter().map(|(peer, connected)| PeerView {
            peer: peer.to_string(),
            address: connected.address.clone(),
            latency_ms: connected.latency.map(|latency| latency.as_secs_f64() * 1000.0),
            agent: connected.agent.clone(),
        });
        let ticket = Ticket { objective: self.archive.objective().id(), addresses: dialable };
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
        }
    }
}
