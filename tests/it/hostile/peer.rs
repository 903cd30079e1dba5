//! A hostile peer: it speaks the real protocols and keeps none of the rules.

use std::{collections::HashSet, io, time::Duration};

use autoswarm_node::swarm::network::{
    archive::Archive,
    exchange::{self, Codec, PeerRequest, PeerResponse},
    sync,
};
use autoswarm_protocol::id::ObjectiveId;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, gossipsub, identify,
    identity::Keypair,
    noise,
    request_response::{self, Message, ProtocolSupport},
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use tokio::sync::mpsc;

use crate::nodes::objective;

/// How a hostile peer answers requests for records.
pub(crate) enum Serving {
    /// It has no records.
    Nothing,
    /// It says which records it has, and hands none out.
    Withholding(Box<Archive>),
    /// Its fingerprints never match, so that comparing never ends.
    Endless,
    /// It answers another question than the one asked.
    Evasive,
}

/// What a test makes a hostile peer do.
pub(crate) enum Deed {
    /// Gossip these bytes.
    Gossip(Vec<u8>),
    /// Open a stream of a protocol to every victim, write these bytes, and then neither close nor read.
    Raw(StreamProtocol, Vec<u8>),
}

/// A codec that writes bytes and leaves the stream open.
#[derive(Debug, Clone, Default)]
struct Raw;

impl request_response::Codec for Raw {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, _: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        let mut byte = [0];
        while io.read(&mut byte).await? > 0 {}
        Ok(Vec::new())
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, bytes: Vec<u8>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&bytes).await?;
        io.flush().await?;
        // Longer than any test, so that the stream stays half-open.
        tokio::time::sleep(Duration::from_hours(1)).await;
        Ok(())
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, _: &mut T, _: Vec<u8>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[derive(NetworkBehaviour)]
struct Behaviour {
    gossip: gossipsub::Behaviour,
    records: request_response::Behaviour<Codec>,
    raw_records: request_response::Behaviour<Raw>,
    raw_gossip: request_response::Behaviour<Raw>,
    identify: identify::Behaviour,
}

/// A running hostile peer.
pub(crate) struct Hostile {
    pub(crate) peer: PeerId,
    deeds: mpsc::Sender<Deed>,
}

/// Returns the topic of an objective.
pub(crate) fn topic(objective: ObjectiveId) -> gossipsub::IdentTopic {
    gossipsub::IdentTopic::new(format!("/autoswarm/1/{objective}"))
}

/// The protocol of gossip's streams, for raw bytes.
pub(crate) const GOSSIP: StreamProtocol = StreamProtocol::new("/meshsub/1.1.0");

impl Hostile {
    /// Starts a hostile peer, connects it with its victims, and waits until they are ready to hear it.
    pub(crate) async fn start(victims: &[Multiaddr], serving: Serving) -> Self {
        let mut swarm = build();
        for victim in victims {
            swarm.dial(victim.clone()).expect("an address");
        }
        let mut connected = HashSet::new();
        while connected.len() < victims.len() {
            // Gossip passes once a victim has told its topics.
            let event = swarm.select_next_some().await;
            if let SwarmEvent::Behaviour(BehaviourEvent::Gossip(gossipsub::Event::Subscribed {
                peer_id,
                ..
            })) = event
            {
                connected.insert(peer_id);
            }
        }
        let peer = *swarm.local_peer_id();
        let (deeds, given) = mpsc::channel(64);
        tokio::spawn(live(swarm, given, serving, connected));
        Self { peer, deeds }
    }

    pub(crate) async fn does(&self, deed: Deed) {
        self.deeds.send(deed).await.expect("it lives");
    }

    /// Returns a sender for deeds from elsewhere.
    pub(crate) fn deeds(&self) -> mpsc::Sender<Deed> {
        self.deeds.clone()
    }
}

fn build() -> Swarm<Behaviour> {
    let objective = objective().id();
    let forever = Duration::from_mins(10);
    let requests = || {
        request_response::Config::default().with_max_concurrent_streams(10_000).with_request_timeout(forever)
    };
    let records = exchange::protocol(objective, "records");
    let behaviour = |keys: &Keypair| {
        let config = gossipsub::ConfigBuilder::default()
            .flood_publish(true)
            .max_transmit_size(1 << 20)
            .message_id_fn(|message| {
                gossipsub::MessageId::from(blake3::hash(&message.data).as_bytes().to_vec())
            })
            .build()
            .expect("valid");
        let signed = gossipsub::MessageAuthenticity::Signed(keys.clone());
        let mut gossip = gossipsub::Behaviour::new(signed, config).expect("valid");
        gossip.subscribe(&topic(objective)).expect("allowed");
        Behaviour {
            gossip,
            records: request_response::Behaviour::with_codec(
                Codec,
                [(records.clone(), ProtocolSupport::Full)],
                requests(),
            ),
            raw_records: request_response::Behaviour::with_codec(
                Raw,
                [(records.clone(), ProtocolSupport::Outbound)],
                requests(),
            ),
            raw_gossip: request_response::Behaviour::with_codec(
                Raw,
                [(GOSSIP, ProtocolSupport::Outbound)],
                requests(),
            ),
            identify: identify::Behaviour::new(identify::Config::new(
                "/autoswarm/1".to_owned(),
                keys.public(),
            )),
        }
    };
    SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
        .expect("builds")
        .with_behaviour(behaviour)
        .expect("builds")
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_mins(5)))
        .build()
}

async fn live(
    mut swarm: Swarm<Behaviour>,
    mut given: mpsc::Receiver<Deed>,
    serving: Serving,
    victims: HashSet<PeerId>,
) {
    loop {
        tokio::select! {
            deed = given.recv() => match deed {
                None => return,
                Some(Deed::Gossip(bytes)) => {
                    // What gossipsub itself refuses here, such as a message told before, reaches nobody.
                    let _ = swarm.behaviour_mut().gossip.publish(topic(objective().id()), bytes);
                }
                Some(Deed::Raw(protocol, bytes)) => {
                    for victim in &victims {
                        let behaviour = swarm.behaviour_mut();
                        let raw = if protocol == GOSSIP { &mut behaviour.raw_gossip } else { &mut behaviour.raw_records };
                        raw.send_request(victim, bytes.clone());
                    }
                }
            },
            event = swarm.select_next_some() => {
                if let SwarmEvent::Behaviour(BehaviourEvent::Records(request_response::Event::Message {
                    message: Message::Request { request, channel, .. },
                    ..
                })) = event {
                    let answer = serving.answer(&request);
                    let _ = swarm.behaviour_mut().records.send_response(channel, answer);
                }
            }
        }
    }
}

impl Serving {
    fn answer(&self, ask: &PeerRequest) -> PeerResponse {
        match (self, ask) {
            (Self::Evasive, _) => PeerResponse::Peers(Vec::new()),
            (_, PeerRequest::SwarmConfig) => PeerResponse::SwarmConfig("not = \"a swarm config".to_owned()),
            (_, PeerRequest::Peers) => PeerResponse::Peers(bogus_addresses()),
            (_, PeerRequest::Get(_)) => PeerResponse::Records(Vec::new()),
            (Self::Withholding(archive), PeerRequest::Reconcile(frame)) => {
                PeerResponse::Reconcile(sync::answer_frame(archive, frame).expect("an honest frame"))
            }
            // One range over everything, with a fingerprint that matches nothing.
            (Self::Endless, PeerRequest::Reconcile(_)) => {
                PeerResponse::Reconcile([&[0x61, 0, 0, 1][..], &[7; 16]].concat())
            }
            // A frame without ranges: nothing to compare.
            (Self::Nothing, PeerRequest::Reconcile(_)) => PeerResponse::Reconcile(vec![0x61]),
        }
    }
}

/// Addresses that an enemy hands out: too many, some garbage, and all of other machines.
fn bogus_addresses() -> Vec<Vec<u8>> {
    let victim = |n: u8| format!("/ip4/192.0.2.{n}/tcp/80/p2p/{}", PeerId::random());
    let addresses = (0..100).map(|n| victim(n).parse::<Multiaddr>().expect("an address").to_vec());
    addresses.chain([vec![0xff; 100], Vec::new()]).collect()
}
