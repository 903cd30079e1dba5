//! The network as itself: many nodes in one process over loopback, and a joiner with a long history to fetch.

#![allow(clippy::print_stdout)] // figures, for `--nocapture`

use std::time::{Duration, Instant};

use autoswarm_node::{
    network::{Network, NetworkConfig, Switches, archive::Archive},
    settings::BUILT_IN,
};
use autoswarm_protocol::{
    Estimate, Patch, SwarmConfig, TrainConfig,
    id::{ArenaId, ConfigHash},
    record::{Body, Digest, Ending, Line, Signed, sign},
    swarm_config::Objective,
};
use libp2p::{Multiaddr, identity::Keypair};

const NOW: u64 = 1_795_219_384;

fn objective() -> Objective {
    SwarmConfig::parse(BUILT_IN[0].1).expect("valid").objective
}

fn keys(n: u32) -> Keypair {
    Keypair::ed25519_from_bytes(*blake3::hash(&n.to_le_bytes()).as_bytes()).expect("32 bytes are a key")
}

/// Record `n` of an author: a digest of three results, about as large as an attestation.
fn record(objective: &Objective, keys: &Keypair, n: u32) -> Signed {
    let patch = Patch::parse("warmup 0.1", &TrainConfig::new()).expect("a patch");
    let line = |m: u32| Line {
        config: ConfigHash::of(&[n.to_le_bytes(), m.to_le_bytes()].concat()),
        patch: patch.clone(),
        ending: Ending::Discarded,
        found: Some(Estimate { delta: 0.1, standard_error: 0.03, pairs: 1 }),
    };
    let body = Body::Digest(Digest { arena: ArenaId::of(b"a"), lines: (0..3).map(line).collect() });
    sign(&body, objective, keys, NOW + u64::from(n)).expect("valid")
}

/// Starts node `n` on loopback and waits until it listens; returns it with its address.
async fn node(n: u32, peers: Vec<Multiaddr>, archive: Archive) -> (Network, Multiaddr) {
    let config = NetworkConfig {
        keys: keys(n),
        listen: vec!["/ip4/127.0.0.1/tcp/0".parse().expect("an address")],
        peers,
        switches: Switches { mdns: false, autonat: false, ..Switches::default() },
        known_peers: None,
        swarm_config: String::new(),
        sync_every: Duration::from_secs(2),
        private: None,
    };
    let mut network = Network::start(config, archive).expect("starts");
    let ticket = network.listening().await.ticket;
    let address = ticket.split_once('@').expect("a ticket").1.parse().expect("an address");
    (network, address)
}

/// Waits until all nodes hold so many records, the same ones; returns how long that took.
async fn converge(nodes: &[Network], records: usize, patience: Duration) -> Duration {
    let started = Instant::now();
    loop {
        let views: Vec<_> = nodes.iter().map(Network::view).collect();
        let is_equal = views.iter().all(|view| view.fingerprint == views[0].fingerprint);
        if is_equal && views[0].records == records {
            return started.elapsed();
        }
        let held: Vec<usize> = views.iter().map(|view| view.records).collect();
        assert!(started.elapsed() < patience, "not all have all after {patience:?}: {held:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Nodes of one CI run; `NODES=50` makes more.
const NODES: u32 = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_record_reaches_every_node_of_a_line() {
    let count = std::env::var("NODES").ok().and_then(|text| text.parse().ok()).unwrap_or(NODES);
    let objective = objective();
    let mut nodes = Vec::new();
    let mut last: Vec<Multiaddr> = Vec::new();
    for n in 0..count {
        let (network, address) = node(n, last, Archive::in_memory(objective.clone())).await;
        nodes.push(network);
        last = vec![address];
    }
    // Some speak before they know anybody, some later.
    for (n, network) in nodes.iter_mut().enumerate() {
        for m in 0..5 {
            assert!(network.publish(record(&objective, &keys(n as u32), m)));
        }
    }
    let took = converge(&nodes, 5 * nodes.len(), Duration::from_mins(2)).await;
    println!("{count} nodes in a line, {} records: the same everywhere after {took:.1?}", 5 * count);
    // A record of the first node, once all are connected.
    assert!(nodes[0].publish(record(&objective, &keys(0), 99)));
    let took = converge(&nodes, 5 * nodes.len() + 1, Duration::from_mins(1)).await;
    println!("one more record is everywhere after {took:.1?} (looked at every 0.5 s)");
}

/// Records of a joiner's history.
const HISTORY: u32 = 10_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_joiner_fetches_a_history_of_ten_thousand_records() {
    let objective = objective();
    let mut archive = Archive::in_memory(objective.clone());
    let authors: Vec<Keypair> = (100..110).map(keys).collect();
    let (mut bytes, started) = (0, Instant::now());
    for n in 0..HISTORY {
        let signed = record(&objective, &authors[n as usize % authors.len()], n);
        bytes += signed.bytes.len();
        archive.insert(&signed.bytes, NOW + u64::from(HISTORY)).expect("valid");
    }
    println!("{HISTORY} records of {bytes} bytes made and taken in {:.1?}", started.elapsed());
    let (old, address) = node(1, Vec::new(), archive).await;
    let (new, _) = node(2, vec![address], Archive::in_memory(objective)).await;
    let took = converge(&[old, new], HISTORY as usize, Duration::from_mins(1)).await;
    println!("fetched in {took:.1?}");
}
