//! Network nodes without research, in one process, for tests to start, order about, ask and end.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use autoswarm_node::{
    cli::settings::BUILT_IN,
    swarm::network::{
        Network, NetworkConfig, NetworkCounts, NetworkEvent, NetworkView, Other, PeerView, Switches,
        archive::Archive,
    },
};
use autoswarm_protocol::{
    Patch, SwarmConfig, TrainConfig,
    id::{ArenaId, ConfigHash, RecordId},
    record::{Body, Digest, DigestEnding, DigestLine, Signed, sign},
    swarm_config::Objective,
};
use libp2p::{Multiaddr, PeerId, identity::Keypair};
use tokio::sync::{mpsc, oneshot};

use crate::weather::Weather;

/// The time of all records.
pub(crate) const NOW: u64 = 1_795_219_384;

/// How long a test waits for anything on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// Returns the objective of all these tests.
pub(crate) fn objective() -> Objective {
    SwarmConfig::parse(BUILT_IN[0].1).expect("valid").objective
}

/// Returns the keys of node or author `n`.
pub(crate) fn keys(n: u32) -> Keypair {
    Keypair::ed25519_from_bytes(*blake3::hash(&n.to_le_bytes()).as_bytes()).expect("32 bytes are a key")
}

/// Returns record `n` of an author: a digest of three results, about as large as an attestation.
pub(crate) fn record(objective: &Objective, keys: &Keypair, n: u32) -> Signed {
    let patch = Patch::parse("warmup 0.1", &TrainConfig::new()).expect("a patch");
    let line = |m: u32| DigestLine {
        config: ConfigHash::of(&[n.to_le_bytes(), m.to_le_bytes()].concat()),
        patch: patch.clone(),
        ending: DigestEnding::Discarded,
        found: None,
    };
    let body = Body::Digest(Digest { arena: ArenaId::of(b"a"), lines: (0..3).map(line).collect() });
    sign(&body, objective, keys, NOW + u64::from(n)).expect("valid")
}

/// Returns a number from the environment, or the default.
pub(crate) fn from_environment(name: &str, default: u32) -> u32 {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number"))
}

enum Order {
    Publish(Signed),
    View(oneshot::Sender<NetworkView>),
    Close(oneshot::Sender<()>),
}

/// A running node.
pub(crate) struct Node {
    pub(crate) peer: PeerId,
    pub(crate) address: Multiaddr,
    orders: mpsc::Sender<Order>,
    arrivals: Arc<Mutex<BTreeMap<RecordId, Instant>>>,
    notes: Arc<Mutex<Vec<String>>>,
}

/// What to start a node with.
pub(crate) struct Start {
    pub(crate) keys: Keypair,
    pub(crate) listen: Vec<Multiaddr>,
    pub(crate) peers: Vec<Multiaddr>,
    pub(crate) sync_every: Duration,
    pub(crate) switches: Switches,
    pub(crate) transport: Option<Other>,
    pub(crate) known_peers: Option<PathBuf>,
}

impl Start {
    /// A node that listens on tcp on this machine.
    pub(crate) fn on_loopback(n: u32, peers: Vec<Multiaddr>) -> Self {
        Self {
            keys: keys(n),
            listen: vec!["/ip4/127.0.0.1/tcp/0".parse().expect("an address")],
            peers,
            sync_every: Duration::from_secs(2),
            switches: Switches { mdns: false, autonat: false, ..Switches::default() },
            transport: None,
            known_peers: None,
        }
    }

    /// A node on a transport whose links the test decides; its address is known before it starts.
    pub(crate) fn in_weather(weather: &Weather, n: u32, port: u64, peers: Vec<Multiaddr>) -> Self {
        let keys = keys(n);
        let transport = Some(weather.transport(&keys, port));
        let listen = vec![format!("/memory/{port}").parse().expect("an address")];
        Self { listen, transport, sync_every: Duration::from_secs(5), ..Self::on_loopback(n, peers) }
    }

    /// Starts the node, and waits until it listens, if it has an address to listen on.
    pub(crate) async fn start(self, archive: Archive) -> Node {
        let (peer, listens) = (self.keys.public().to_peer_id(), !self.listen.is_empty());
        let config = NetworkConfig {
            keys: self.keys,
            listen: self.listen,
            external: Vec::new(),
            peers: self.peers,
            switches: self.switches,
            known_peers: self.known_peers,
            swarm_config: String::new(),
            sync_every: self.sync_every,
            private: None,
        };
        let mut network = Network::start_over(self.transport, config, archive).expect("starts");
        let address = if listens {
            let ticket = network.listening().await.ticket;
            ticket.split_once('@').expect("a ticket").1.parse().expect("an address")
        } else {
            Multiaddr::empty()
        };
        let (orders, given) = mpsc::channel(1024);
        let (arrivals, notes) = (Arc::default(), Arc::default());
        tokio::spawn(live(network, given, Arc::clone(&arrivals), Arc::clone(&notes)));
        Node { peer, address, orders, arrivals, notes }
    }
}

async fn live(
    mut network: Network,
    mut given: mpsc::Receiver<Order>,
    arrivals: Arc<Mutex<BTreeMap<RecordId, Instant>>>,
    notes: Arc<Mutex<Vec<String>>>,
) {
    loop {
        tokio::select! {
            order = given.recv() => match order {
                Some(Order::Publish(record)) => assert!(network.publish(record)),
                // The test may have ended while it waited for the view.
                Some(Order::View(reply)) => drop(reply.send(network.view())),
                Some(Order::Close(reply)) => {
                    network.close().await;
                    let _ = reply.send(());
                    return;
                }
                None => return,
            },
            heard = network.next_event() => match heard {
                Some(NetworkEvent::Record { record, .. }) => {
                    arrivals.lock().expect("no panic in it").entry(record.id()).or_insert_with(Instant::now);
                }
                Some(NetworkEvent::Note(note)) => notes.lock().expect("no panic in it").push(note),
                Some(_) => {}
                None => return,
            },
        }
    }
}

impl Node {
    pub(crate) async fn publish(&self, record: Signed) {
        self.orders.send(Order::Publish(record)).await.expect("the node lives");
    }

    pub(crate) async fn view(&self) -> NetworkView {
        let (reply, view) = oneshot::channel();
        self.orders.send(Order::View(reply)).await.expect("the node lives");
        view.await.expect("the node lives")
    }

    pub(crate) async fn counts(&self) -> NetworkCounts {
        self.view().await.counts
    }

    /// Returns how this node sees a peer, if it is connected.
    pub(crate) async fn sees(&self, peer: PeerId) -> Option<PeerView> {
        let peer = peer.to_string();
        self.view().await.peers.into_iter().find(|view| view.peer == peer)
    }

    pub(crate) fn heard(&self) -> usize {
        self.arrivals.lock().expect("no panic in it").len()
    }

    pub(crate) fn arrival(&self, id: RecordId) -> Option<Instant> {
        self.arrivals.lock().expect("no panic in it").get(&id).copied()
    }

    pub(crate) fn notes(&self) -> Vec<String> {
        self.notes.lock().expect("no panic in it").clone()
    }

    /// Ends the node properly: what it was told is on the disk.
    pub(crate) async fn close(self) {
        let (reply, closed) = oneshot::channel();
        self.orders.send(Order::Close(reply)).await.expect("the node lives");
        closed.await.expect("the node lives");
    }
}

/// Waits until something holds, looking ten times a second, and returns how long that took. Panics with the
/// last look if it takes too long.
pub(crate) async fn until<T, F>(what: &str, mut look: impl FnMut() -> F) -> Duration
where
    T: std::fmt::Debug,
    F: Future<Output = Result<(), T>>,
{
    let started = Instant::now();
    loop {
        match look().await {
            Ok(()) => return started.elapsed(),
            Err(last) if started.elapsed() > PATIENCE => panic!("not within {PATIENCE:?}: {what}: {last:?}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Waits until all nodes hold the same `records` records; returns how long that took.
pub(crate) async fn converge(nodes: &[Node], records: usize) -> Duration {
    until("all hold the same", || async {
        let mut held = Vec::new();
        for node in nodes {
            let view = node.view().await;
            held.push((view.records, view.fingerprint, view.peers.len()));
        }
        let is_equal = held.iter().all(|(count, print, _)| *count == records && *print == held[0].1);
        if is_equal { Ok(()) } else { Err(held) }
    })
    .await
}

/// Returns a port that no other test has.
pub(crate) fn port() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1_000_000);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Returns the address that node `n` will have at a port of [`Weather`].
pub(crate) fn address_at(n: u32, port: u64) -> Multiaddr {
    format!("/memory/{port}/p2p/{}", keys(n).public().to_peer_id()).parse().expect("an address")
}

/// Returns the time below which this part, 0 to 1, of the times is.
pub(crate) fn quantile(times: &mut [Duration], part: f64) -> Duration {
    times.sort_unstable();
    times.get((times.len() as f64 * part) as usize).or(times.last()).copied().unwrap_or_default()
}
