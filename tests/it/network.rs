//! The network without research: many nodes in one process, a joiner with much to fetch, and strangers.

#![allow(clippy::print_stdout)] // figures, for `--nocapture`

use std::{
    net::TcpStream,
    time::{Duration, Instant},
};

use autoswarm_node::swarm::network::{
    Network, NetworkConfig, Switches, Ticket, archive::Archive, fetch_swarm_config,
};
use futures::StreamExt;
use libp2p::{Multiaddr, identify, identity::Keypair, noise, swarm::SwarmEvent, tcp, yamux};

use crate::{
    nodes::{
        NOW, Node, PATIENCE, Start, address_at, converge, from_environment, keys, objective, port, record,
        until,
    },
    weather::Weather,
};

/// Nodes of one CI run; `NODES=50` makes more.
const NODES: u32 = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_record_reaches_every_node_of_a_line() {
    let count = from_environment("NODES", NODES);
    let objective = objective();
    let mut nodes: Vec<Node> = Vec::new();
    for n in 0..count {
        let last = nodes.last().map(|node| node.address.clone()).into_iter().collect();
        nodes.push(Start::on_loopback(n, last).start(Archive::in_memory(objective.clone())).await);
    }
    // Some nodes publish before they know anybody.
    for (n, node) in nodes.iter().enumerate() {
        for m in 0..5 {
            node.publish(record(&objective, &keys(n as u32), m)).await;
        }
    }
    let took = converge(&nodes, 5 * nodes.len()).await;
    println!("{count} nodes in a line, {} records: the same everywhere after {took:.1?}", 5 * count);
}

/// Records of a joiner's history.
const HISTORY: u32 = 10_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_joiner_fetches_ten_thousand_records_and_then_almost_nothing() {
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
    let copy: Vec<Vec<u8>> = archive.iter().map(|held| held.bytes.clone()).collect();

    let (weather, place) = (Weather::new(Duration::ZERO), port());
    let rarely = Duration::from_mins(1);
    let old = Start { sync_every: rarely, ..Start::in_weather(&weather, 1, place, Vec::new()) };
    let new =
        Start { sync_every: rarely, ..Start::in_weather(&weather, 2, port(), vec![address_at(1, place)]) };
    let nodes = [old.start(archive).await, new.start(empty()).await];
    let took = converge(&nodes, HISTORY as usize).await;
    until("the node above has heard of every record", async || {
        let heard = nodes[1].heard();
        if heard == HISTORY as usize { Ok(()) } else { Err(heard) }
    })
    .await;
    let part = weather.bytes() as f64 / bytes as f64;
    println!("fetched in {took:.1?} with {part:.3} of the bytes that were missing, encryption and all");
    assert!(part <= 1.2, "{part:.3} times the missing bytes");

    let (weather, place, often) = (Weather::new(Duration::ZERO), port(), Duration::from_millis(50));
    let mut nodes = Vec::new();
    for (n, at, peers) in [(3, place, Vec::new()), (4, port(), vec![address_at(3, place)])] {
        let mut archive = empty();
        for bytes in &copy {
            archive.insert(bytes, NOW + u64::from(HISTORY)).expect("valid");
        }
        let start = Start { sync_every: often, ..Start::in_weather(&weather, n, at, peers) };
        nodes.push(start.start(archive).await);
    }
    let syncs = async || nodes[0].counts().await.syncs + nodes[1].counts().await.syncs;
    until("they are connected", async || {
        let done = syncs().await;
        if done >= 4 { Ok(()) } else { Err(done) }
    })
    .await;
    let (bytes_before, before) = (weather.bytes(), syncs().await);
    until("ten reconciliations with nothing to do", async || {
        let done = syncs().await - before;
        if done >= 10 { Ok(()) } else { Err(done) }
    })
    .await;
    let each = (weather.bytes() - bytes_before) / (syncs().await - before);
    println!("a reconciliation with nothing to do: {each} bytes, everything else on the line included");
    assert!(each < 2048, "{each} bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joiners_of_one_seeder_find_each_other() {
    let weather = Weather::new(Duration::from_millis(5));
    let place = port();
    let mut nodes = vec![Start::in_weather(&weather, 1, place, Vec::new()).start(empty()).await];
    for n in 2..6 {
        let start = Start::in_weather(&weather, n, port(), vec![address_at(1, place)]);
        nodes.push(start.start(empty()).await);
    }
    let took = until("everybody is connected with everybody", async || {
        let mut peers = Vec::new();
        for node in &nodes {
            peers.push(node.view().await.peers.len());
        }
        if peers.iter().all(|count| *count == nodes.len() - 1) { Ok(()) } else { Err(peers) }
    })
    .await;
    println!("a seeder and four joiners: all connected after {took:.1?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_peers_are_said_and_another_version_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("peers.json");
    std::fs::write(&file, "{").expect("writable");
    let start = Start { known_peers: Some(file), ..Start::on_loopback(1, Vec::new()) };
    let node = start.start(empty()).await;
    // A peer that says it speaks the next major version of the wire.
    let mut later = libp2p::SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .expect("builds")
        .with_behaviour(|keys| {
            identify::Behaviour::new(identify::Config::new("/autoswarm/2".to_owned(), keys.public()))
        })
        .expect("builds")
        .build();
    later.dial(node.address.clone()).expect("dials");
    let closed =
        async { while !matches!(later.select_next_some().await, SwarmEvent::ConnectionClosed { .. }) {} };
    tokio::time::timeout(PATIENCE, closed).await.expect("a polite refusal");
    until("both are said", async || {
        let notes = node.notes();
        let is_said = |words: &str| notes.iter().any(|note| note.contains(words));
        let both = is_said("peers.json.damaged")
            && is_said("speaks version 2 of the wire, this node 1: update this node");
        if both { Ok(()) } else { Err(notes) }
    })
    .await;
    assert_eq!(node.view().await.counts.faulty, 0, "another version is no fault");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_thousand_records_told_at_once_none_is_lost() {
    const TOLD: u32 = 2000;
    let mut nodes = vec![Start::on_loopback(1, Vec::new()).start(empty()).await];
    let start = Start::on_loopback(2, vec![nodes[0].address.clone()]);
    nodes.push(start.start(empty()).await);
    // More than the task's queue and gossip's quotas take.
    for n in 0..TOLD {
        nodes[0].publish(record(&objective(), &keys(1), n)).await;
    }
    let took = converge(&nodes, TOLD as usize).await;
    let counts = nodes[1].counts().await;
    println!("{TOLD} records told at once: all there after {took:.1?}, {} by gossip", counts.gossiped);
}

/// The configuration of a private node.
fn private(n: u32, key: Option<&str>) -> NetworkConfig {
    NetworkConfig {
        keys: keys(n),
        listen: vec!["/ip4/127.0.0.1/tcp/0".parse().expect("an address")],
        external: Vec::new(),
        peers: Vec::new(),
        switches: Switches { mdns: false, autonat: false, ..Switches::default() },
        known_peers: None,
        swarm_config: autoswarm_node::cli::settings::BUILT_IN[0].1.to_owned(),
        sync_every: Duration::from_secs(2),
        private: key.map(|key| key.parse().expect("a key")),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_who_has_the_key_joins_a_private_swarm() {
    const KEY: &str = "a passphrase of ours";
    let mut seeder = Network::start(private(1, Some(KEY)), empty()).expect("starts");
    let ticket: Ticket = seeder.listening().await.ticket.parse().expect("a ticket");
    let (found, _) = fetch_swarm_config(&private(2, Some(KEY)), &ticket).await.expect("has the key");
    assert_eq!(found.objective.id(), ticket.objective);
    for key in [Some("another passphrase"), None] {
        let config = NetworkConfig { peers: ticket.addresses.clone(), ..private(3, key) };
        let outsider = Network::start(config, empty()).expect("starts");
        until("it is said why", async || {
            let trouble = outsider.view().trouble.unwrap_or_default();
            if trouble.contains("--private") { Ok(()) } else { Err(trouble) }
        })
        .await;
        println!("{}", outsider.view().trouble.unwrap_or_default());
    }
    assert!(seeder.view().peers.iter().all(|peer| peer.peer != keys(3).public().to_peer_id().to_string()));
}

fn empty() -> Archive {
    Archive::in_memory(objective())
}

/// Returns the host and port of a tcp address.
pub(crate) fn socket_of(address: &Multiaddr) -> String {
    let text = address.to_string();
    let parts: Vec<&str> = text.split('/').collect();
    format!("{}:{}", parts[2], parts[4])
}

/// Makes many half-open connections; returned, so that they stay.
pub(crate) fn half_open(address: &Multiaddr, count: usize) -> Vec<TcpStream> {
    (0..count).filter_map(|_| TcpStream::connect(socket_of(address)).ok()).collect()
}
