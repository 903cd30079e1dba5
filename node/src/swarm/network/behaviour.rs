//! The libp2p behaviours of one node, and their parameters.
//!
//! Sources of the numbers: libp2p's own defaults, and the published configurations of Lighthouse, Forest and
//! Calimero. They are used as far as they fit small swarms of small, rare messages.

use std::{
    collections::HashSet,
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use autoswarm_protocol::{
    id::ObjectiveId,
    record::{MAX_RECORD_BYTES, WIRE_MAJOR},
};
use libp2p::{
    PeerId, allow_block_list, autonat, connection_limits, dcutr,
    gossipsub::{self, TopicHash},
    identify,
    identity::Keypair,
    kad, mdns, ping, relay,
    request_response::{self, ProtocolSupport},
    swarm::{NetworkBehaviour, behaviour::toggle::Toggle},
    upnp,
};

use super::{
    config::{NetworkError, Switches},
    exchange::{self, Codec},
    per_ip,
};

/// Bytes around a record in a gossip message: topic, source, number, signature.
const GOSSIP_OVERHEAD: usize = 1024;

/// Most connections that peers began. A swarm of home machines needs a few dozen for each node. Incoming
/// connections have places of their own, so that they never take the places of those that this node chooses.
const MAX_INCOMING: u32 = 64;
/// Most connections that this node began.
const MAX_OUTGOING: u32 = 64;
/// Most connections that are being set up, in each direction.
const MAX_PENDING: u32 = 32;
/// Most connections with one peer: two, because both sides may dial at once, and one by which a peer tries
/// how this node is reached.
const MAX_PER_PEER: u32 = 3;

/// Most circuits that a node relays at once, each for two minutes and 128 KiB (libp2p's own bounds). That is
/// enough for two peers to reach each other directly, and for news where they cannot. Histories come from the
/// relay itself, which has them too.
const MAX_CIRCUITS: usize = 64;

/// Most requests that one connection may have open.
const MAX_STREAMS: usize = 32;
/// How long a request may take, with its response.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// Every protocol that a node speaks. What refuses connections stands first.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    pub(super) limits: connection_limits::Behaviour,
    pub(super) per_ip: per_ip::PerIp,
    pub(super) blocked: allow_block_list::Behaviour<allow_block_list::BlockedPeers>,
    pub(super) gossip: gossipsub::Behaviour<gossipsub::IdentityTransform, TopicFilter>,
    pub(super) records: request_response::Behaviour<Codec>,
    pub(super) kad: kad::Behaviour<kad::store::MemoryStore>,
    pub(super) mdns: Toggle<mdns::tokio::Behaviour>,
    pub(super) identify: identify::Behaviour,
    pub(super) ping: ping::Behaviour,
    pub(super) relay_client: relay::client::Behaviour,
    pub(super) relay_server: Toggle<relay::Behaviour>,
    pub(super) dcutr: dcutr::Behaviour,
    /// Asks peers to try how this node is reached.
    pub(super) reachable: Toggle<autonat::v2::client::Behaviour>,
    /// Tries for peers how they are reached.
    pub(super) reaching: Toggle<autonat::v2::server::Behaviour>,
    pub(super) upnp: Toggle<upnp::tokio::Behaviour>,
}

type TopicFilter = gossipsub::MaxCountSubscriptionFilter<gossipsub::WhitelistSubscriptionFilter>;

/// Returns the gossip topic of an objective, which has one only.
pub(super) fn topic(objective: ObjectiveId) -> gossipsub::IdentTopic {
    gossipsub::IdentTopic::new(format!("{}/{objective}", exchange::language(WIRE_MAJOR)))
}

impl Behaviour {
    /// Makes the behaviours of a node with these keys.
    pub(super) fn new(
        keys: &Keypair,
        relay_client: relay::client::Behaviour,
        objective: ObjectiveId,
        switches: Switches,
    ) -> Result<Self, NetworkError> {
        let peer = keys.public().to_peer_id();
        let limits = connection_limits::ConnectionLimits::default()
            .with_max_pending_incoming(Some(MAX_PENDING))
            .with_max_pending_outgoing(Some(MAX_PENDING))
            .with_max_established_incoming(Some(MAX_INCOMING))
            .with_max_established_outgoing(Some(MAX_OUTGOING))
            .with_max_established_per_peer(Some(MAX_PER_PEER));
        let agent = format!("autoswarm/{}", env!("CARGO_PKG_VERSION"));
        let identify = identify::Config::new(exchange::language(WIRE_MAJOR), keys.public())
            .with_agent_version(agent)
            // Peers learn at once that a node is reached over a new relay.
            .with_push_listen_addr_updates(true);
        let mdns = if switches.mdns {
            let made = mdns::tokio::Behaviour::new(mdns::Config::default(), peer);
            Some(made.map_err(|error| NetworkError::Setup(format!("mdns: {error}")))?)
        } else {
            None
        };
        let requests = request_response::Config::default()
            .with_request_timeout(REQUEST_TIMEOUT)
            .with_max_concurrent_streams(MAX_STREAMS);
        let relaying = || relay::Config { max_circuits: MAX_CIRCUITS, ..relay::Config::default() };
        let relay_server = switches.relay.then(|| relay::Behaviour::new(peer, relaying()));
        Ok(Self {
            limits: connection_limits::Behaviour::new(limits),
            per_ip: per_ip::PerIp::new(switches.loopback_exempt),
            blocked: allow_block_list::Behaviour::default(),
            gossip: gossip(keys, objective, switches.loopback_exempt)?,
            records: request_response::Behaviour::with_codec(
                Codec,
                [(exchange::protocol(objective, "records"), ProtocolSupport::Full)],
                requests,
            ),
            kad: kademlia(peer, objective),
            mdns: mdns.into(),
            identify: identify::Behaviour::new(identify),
            ping: ping::Behaviour::default(),
            relay_client,
            relay_server: relay_server.into(),
            dcutr: dcutr::Behaviour::new(peer),
            reachable: switches.autonat.then(autonat::v2::client::Behaviour::default).into(),
            reaching: switches.autonat.then(autonat::v2::server::Behaviour::default).into(),
            upnp: switches.upnp.then(upnp::tokio::Behaviour::default).into(),
        })
    }
}

fn kademlia(peer: PeerId, objective: ObjectiveId) -> kad::Behaviour<kad::store::MemoryStore> {
    let mut config = kad::Config::new(exchange::protocol(objective, "kad"));
    // Kademlia is here to find addresses of peers; nobody may store values.
    config.set_record_filtering(kad::StoreInserts::FilterBoth);
    let mut behaviour = kad::Behaviour::with_config(peer, kad::store::MemoryStore::new(peer), config);
    behaviour.set_mode(Some(kad::Mode::Server));
    behaviour
}

fn gossip(
    keys: &Keypair,
    objective: ObjectiveId,
    is_loopback_exempt: bool,
) -> Result<gossipsub::Behaviour<gossipsub::IdentityTransform, TopicFilter>, NetworkError> {
    let topic = topic(objective);
    // The id hashes the whole content, so that nobody can make two messages share one.
    let id = |message: &gossipsub::Message| {
        let mut hasher = blake3::Hasher::new();
        hasher.update(message.topic.as_str().as_bytes()).update(&message.data);
        gossipsub::MessageId::from(hasher.finalize().as_bytes().to_vec())
    };
    let config = gossipsub::ConfigBuilder::default()
        .mesh_n(4)
        .mesh_n_low(2)
        .mesh_n_high(8)
        .mesh_outbound_min(1)
        .heartbeat_interval(Duration::from_secs(1))
        .history_length(12)
        .history_gossip(3)
        .flood_publish(true)
        .validate_messages()
        .validation_mode(gossipsub::ValidationMode::Strict)
        .message_id_fn(id)
        .duplicate_cache_time(Duration::from_mins(10))
        .max_transmit_size(MAX_RECORD_BYTES + GOSSIP_OVERHEAD)
        .max_publish_messages(100)
        .connection_handler_queue_len(512)
        .prune_backoff(Duration::from_secs(10))
        .build()
        .map_err(|error| NetworkError::Setup(format!("gossipsub: {error}")))?;
    let filter = gossipsub::MaxCountSubscriptionFilter {
        filter: gossipsub::WhitelistSubscriptionFilter(HashSet::from([topic.hash()])),
        max_subscribed_topics: 4,
        max_subscriptions_per_request: 8,
    };
    let authenticity = gossipsub::MessageAuthenticity::Signed(keys.clone());
    let failed = |error: &str| NetworkError::Setup(format!("gossipsub: {error}"));
    let mut behaviour =
        gossipsub::Behaviour::new_with_subscription_filter(authenticity, config, filter).map_err(failed)?;
    behaviour
        .with_peer_score(score(topic.hash(), is_loopback_exempt), thresholds())
        .map_err(|error| failed(&error))?;
    behaviour.subscribe(&topic).map_err(|error| failed(&error.to_string()))?;
    Ok(behaviour)
}

/// Returns how gossip scores its peers. An honest peer reaches 50 at most. One invalid message costs 100,
/// which takes the peer out of the mesh; four graylist it; an hour forgives one. Nothing is expected of a
/// topic that is silent for hours (P3 and P3b are 0).
fn score(topic: TopicHash, is_loopback_exempt: bool) -> gossipsub::PeerScoreParams {
    let ten_minutes = gossipsub::score_parameter_decay(Duration::from_mins(10));
    let hour = gossipsub::score_parameter_decay(Duration::from_hours(1));
    let of_topic = gossipsub::TopicScoreParams {
        topic_weight: 1.0,
        time_in_mesh_weight: 10.0 / 3600.0,
        time_in_mesh_quantum: Duration::from_secs(1),
        time_in_mesh_cap: 3600.0,
        first_message_deliveries_weight: 1.0,
        first_message_deliveries_decay: ten_minutes,
        first_message_deliveries_cap: 40.0,
        mesh_message_deliveries_weight: 0.0,
        mesh_failure_penalty_weight: 0.0,
        invalid_message_deliveries_weight: -100.0,
        invalid_message_deliveries_decay: hour,
        ..gossipsub::TopicScoreParams::default()
    };
    gossipsub::PeerScoreParams {
        topics: [(topic, of_topic)].into(),
        app_specific_weight: 1.0,
        ip_colocation_factor_weight: -20.0,
        ip_colocation_factor_threshold: 8.0,
        ip_colocation_factor_whitelist: if is_loopback_exempt {
            HashSet::from([Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()])
        } else {
            HashSet::new()
        },
        behaviour_penalty_weight: -10.0,
        behaviour_penalty_threshold: 6.0,
        behaviour_penalty_decay: ten_minutes,
        decay_interval: Duration::from_secs(1),
        decay_to_zero: 0.01,
        retain_score: Duration::from_hours(6),
        slow_peer_weight: -1.0,
        slow_peer_threshold: 0.0,
        slow_peer_decay: 0.2,
        ..gossipsub::PeerScoreParams::default()
    }
}

fn thresholds() -> gossipsub::PeerScoreThresholds {
    gossipsub::PeerScoreThresholds {
        gossip_threshold: -300.0,
        publish_threshold: -700.0,
        graylist_threshold: -1400.0,
        accept_px_threshold: 1000.0,
        opportunistic_graft_threshold: 3.5,
    }
}
