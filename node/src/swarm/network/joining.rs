//! A joiner's first request: the swarm config of its ticket, from whichever peer of the ticket answers.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use autoswarm_protocol::SwarmConfig;
use futures::StreamExt;
use libp2p::{
    identity::Keypair,
    request_response::{self, Message},
    swarm::SwarmEvent,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{
    behaviour::BehaviourEvent,
    compatibility,
    config::{NetworkConfig, NetworkError},
    exchange::{PeerRequest, PeerResponse},
    peers::{Connections, Peers},
    ticket::Ticket,
    transport,
};
use crate::base::{clock::unix_now, text};

/// How long a joiner waits for the swarm config.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often a joiner looks for due dials.
const TICK: Duration = Duration::from_millis(500);

/// Asks the peers of a ticket for the swarm config, and checks it against the ticket's objective. Returns it
/// parsed, and as the text that came.
pub async fn fetch_swarm_config(
    config: &NetworkConfig,
    ticket: &Ticket,
) -> Result<(SwarmConfig, String), NetworkError> {
    let mut swarm = transport::build(config, ticket.objective, None)?;
    let mut peers = Peers::new(BTreeMap::new(), &ticket.addresses);
    let started = Instant::now();
    let mut tick = tokio::time::interval(TICK);
    let mut rng = rng_of(&config.keys);
    let mut last =
        "none of its addresses answered; is the seeder running and reachable from here?".to_owned();
    while started.elapsed() < PATIENCE {
        tokio::select! {
            _ = tick.tick() => {
                // As if nothing were connected, so that no due address is held back.
                let (now, none) = (started.elapsed(), Connections::default());
                for address in peers.due(now, none, |peer| swarm.is_connected(peer), || rng.random()) {
                    // An address that cannot be dialled now becomes due again.
                    let _ = swarm.dial(address);
                }
            }
            event = swarm.select_next_some() => match event {
                SwarmEvent::ConnectionEstablished { peer_id, .. } => {
                    swarm.behaviour_mut().records.send_request(&peer_id, PeerRequest::SwarmConfig);
                }
                SwarmEvent::OutgoingConnectionError { error, .. } => {
                    last = compatibility::why_not(&error, config.private.is_some());
                }
                SwarmEvent::Behaviour(BehaviourEvent::Identify(libp2p::identify::Event::Received { peer_id, info, .. })) => {
                    if let Some(stranger) = compatibility::judge(&peer_id, &info, ticket.objective) {
                        last = stranger;
                    }
                }
                SwarmEvent::Behaviour(BehaviourEvent::Records(request_response::Event::Message {
                    message: Message::Response { response: PeerResponse::SwarmConfig(toml), .. },
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

/// Makes a generator of random numbers for rests and choices. It differs on every node and at every start,
/// which is all that is asked of it.
pub(super) fn rng_of(keys: &Keypair) -> ChaCha8Rng {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&keys.public().encode_protobuf()).update(&unix_now().to_le_bytes());
    ChaCha8Rng::from_seed(*hasher.finalize().as_bytes())
}
