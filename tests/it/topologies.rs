//! Every record reaches every node, over links that a test decides.
//!
//! This holds on any graph, through partitions and restarts, and after the death of the first node.

#![allow(clippy::print_stdout)] // figures, for `--nocapture`

use std::{
    path::Path,
    time::{Duration, Instant},
};

use autoswarm_node::swarm::network::archive::Archive;
use autoswarm_protocol::{id::RecordId, record::Signed};
use rand::{Rng, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use crate::{
    many::cpu_seconds,
    nodes::{
        NOW, Node, Start, address_at, converge, from_environment, keys, objective, port, quantile, record,
        until,
    },
    weather::{Link, Weather},
};

/// The delay of a link, one way.
const HOP: Duration = Duration::from_millis(50);

/// Milliseconds between two records of the swarm: about the rate of a thousand nodes that keep an experiment
/// every two minutes. All nodes of the test share one machine. Fifty of them need `BETWEEN=400`, to measure
/// the protocol and not the machine.
const BETWEEN: u32 = 100;

fn empty() -> Archive {
    Archive::in_memory(objective())
}

/// Makes record `n` of node `node`.
fn record_of(node: usize, n: u32) -> Signed {
    record(&objective(), &keys(node as u32), n)
}

/// Starts the nodes of a graph: node `n` dials the nodes `dials(n)`, all of which start before it.
async fn graph(weather: &Weather, ports: &[u64], dials: impl Fn(usize) -> Vec<usize>) -> Vec<Node> {
    let mut nodes = Vec::new();
    for (n, port) in ports.iter().enumerate() {
        let peers = dials(n).into_iter().map(|peer| address_at(peer as u32, ports[peer])).collect();
        nodes.push(Start::in_weather(weather, n as u32, *port, peers).start(empty()).await);
    }
    nodes
}

fn ports(count: usize) -> Vec<u64> {
    (0..count).map(|_| port()).collect()
}

/// Waits until every node has a peer in its gossip mesh.
async fn meshed(nodes: &[Node]) {
    until("everybody is in the mesh", async || {
        let mut lonely = Vec::new();
        for (n, node) in nodes.iter().enumerate() {
            if !node.view().await.peers.iter().any(|peer| peer.meshed) {
                lonely.push(n);
            }
        }
        if lonely.is_empty() { Ok(()) } else { Err(lonely) }
    })
    .await;
}

/// Publishes a record, and returns its id and the time.
async fn tell(node: &Node, record: Signed) -> (RecordId, Instant) {
    let (id, at) = (record.id, Instant::now());
    node.publish(record).await;
    (id, at)
}

/// `scripts/swarm.sh` runs the long version, with `SEEDS=20 NODES=50`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_record_reaches_every_node_at_fifty_milliseconds_a_hop() {
    let (count, seeds) = (from_environment("NODES", 12) as usize, u64::from(from_environment("SEEDS", 2)));
    for seed in 0..seeds {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (weather, ports) = (Weather::new(HOP), ports(count));
        let edges: Vec<Vec<usize>> =
            (0..count).map(|n| (0..2.min(n)).map(|_| rng.random_range(0..n)).collect()).collect();
        let nodes = graph(&weather, &ports, |n| edges[n].clone()).await;
        meshed(&nodes).await;
        let between = Duration::from_millis(from_environment("BETWEEN", BETWEEN).into());
        let (mut told, cpu, since) = (Vec::new(), cpu_seconds(std::process::id()), Instant::now());
        for n in 0..2 * count {
            told.push((n % count, tell(&nodes[n % count], record_of(n % count, n as u32)).await));
            tokio::time::sleep(between).await;
        }
        let cores = (cpu_seconds(std::process::id()) - cpu) / since.elapsed().as_secs_f64();
        converge(&nodes, 2 * count).await;
        let mut times = Vec::new();
        for (author, (id, at)) in told {
            let others = nodes.iter().enumerate().filter(|(n, _)| *n != author);
            times.extend(others.map(|(_, node)| node.arrival(id).expect("it has arrived") - at));
        }
        let (mut gossiped, mut reconciled) = (0, 0);
        for node in &nodes {
            let counts = node.counts().await;
            gossiped += counts.gossiped;
            reconciled += counts.reconciled;
        }
        let share = gossiped as f64 / (gossiped + reconciled) as f64;
        let [half, most, all] = [0.5, 0.99, 1.0].map(|part| quantile(&mut times, part));
        println!(
            "seed {seed}: {count} nodes, {} records everywhere: median {half:.0?}, p99 {most:.0?}, \
             last {all:.0?}; by gossip {:.1} %; a record every {between:.0?} took {cores:.2} cores",
            2 * count,
            100.0 * share,
        );
        assert_eq!(times.len(), 2 * count * (count - 1));
        assert!(share > 0.5, "gossip carries the news, not reconciliation: {share:.2}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_star_and_a_line_are_enough() {
    let count = 6;
    for (name, exists) in [
        ("star", (|a, _| a == 0) as fn(usize, usize) -> bool),
        // Only neighbours can reach each other, so the ends learn of each other through the nodes between.
        ("line", |a, b| b == a + 1),
    ] {
        let (weather, ports) = (Weather::new(Duration::from_millis(10)), ports(count));
        let places = ports.clone();
        let place = move |port| places.iter().position(|other| *other == port).expect("a node of this test");
        weather.set(move |a, b| if exists(place(a), place(b)) { Link::Open } else { Link::Cut });
        let near = |n: usize| (0..n).filter(|other| exists(*other, n)).collect();
        let nodes = graph(&weather, &ports, near).await;
        for (n, node) in nodes.iter().enumerate() {
            node.publish(record_of(n, 1)).await;
        }
        let took = converge(&nodes, count).await;
        let mut most = 0;
        for node in &nodes[1..] {
            most = most.max(node.view().await.peers.len());
        }
        assert!(most <= 2, "no other links");
        println!("{name} of {count} nodes: the same everywhere after {took:.1?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_heals() {
    let count = 8;
    let (weather, ports) = (Weather::new(Duration::from_millis(10)), ports(count));
    let nodes = graph(&weather, &ports, |n| (n.saturating_sub(2)..n).collect()).await;
    meshed(&nodes).await;
    let middle = ports[count / 2];
    weather.set(move |a, b| if a < middle && b >= middle { Link::Cut } else { Link::Open });
    until("nobody of the other half is connected", async || {
        let peers = nodes[0].view().await.peers.len();
        if peers < count / 2 { Ok(()) } else { Err(peers) }
    })
    .await;
    for (n, node) in nodes.iter().enumerate() {
        node.publish(record_of(n, 1)).await;
    }
    let (left, right) = nodes.split_at(count / 2);
    converge(left, count / 2).await;
    converge(right, count / 2).await;
    assert_ne!(left[0].view().await.fingerprint, right[0].view().await.fingerprint);
    weather.set(|_, _| Link::Open);
    let took = converge(&nodes, count).await;
    println!("two halves of {count} nodes: the same {took:.1?} after they were joined again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_peer_keeps_nobody_waiting() {
    let (weather, ports) = (Weather::new(Duration::from_millis(5)), ports(3));
    let nodes = graph(&weather, &ports, |n| (0..n).collect()).await;
    meshed(&nodes).await;
    // The first node hears and says nothing, though its connections stay open.
    let first = ports[0];
    weather.set(move |a, b| if a == first || b == first { Link::Stalled } else { Link::Open });
    nodes[1].publish(record_of(1, 1)).await;
    let took = converge(&nodes[1..], 1).await;
    println!("beside a stalled peer: {took:.1?}");
    weather.set(|_, _| Link::Open);
    converge(&nodes, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_node_may_come_late_and_leave_early() {
    let (weather, ports) = (Weather::new(Duration::from_millis(5)), ports(4));
    // Nobody is at the address that the joiners were given.
    let mut joiners = Vec::new();
    for n in 1..4 {
        let start = Start::in_weather(&weather, n, ports[n as usize], vec![address_at(0, ports[0])]);
        joiners.push(start.start(empty()).await);
        joiners[n as usize - 1].publish(record_of(n as usize, 1)).await;
    }
    until("they say that nobody is home", async || {
        let view = joiners[0].view().await;
        if view.trouble.is_some() && view.peers.is_empty() { Ok(()) } else { Err(view) }
    })
    .await;
    let seeder = Start::in_weather(&weather, 0, ports[0], Vec::new()).start(empty()).await;
    seeder.publish(record_of(0, 1)).await;
    let took = converge(&joiners, 4).await;
    println!("bootstrap appeared: the same everywhere after {took:.1?}");
    until("they have met each other", async || {
        let mut peers = Vec::new();
        for node in &joiners {
            peers.push(node.view().await.peers.len());
        }
        if peers.iter().all(|count| *count == 3) { Ok(()) } else { Err(peers) }
    })
    .await;
    seeder.close().await;
    joiners[0].publish(record_of(1, 2)).await;
    converge(&joiners, 5).await;
    // A later joiner needs to reach only one of them.
    let place = port();
    let start = Start::in_weather(&weather, 9, place, vec![address_at(1, ports[1])]);
    joiners.push(start.start(empty()).await);
    converge(&joiners, 5).await;
}

/// Rounds of churn in CI; `ROUNDS=10` stands for ten minutes in which 30 % restart each minute.
const ROUNDS: u32 = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_a_third_restarts_again_and_again() {
    let (count, rounds) = (from_environment("CHURN_NODES", 7) as usize, from_environment("ROUNDS", ROUNDS));
    let seed = u64::from(from_environment("SEED", 1));
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let folder = tempfile::tempdir().expect("a folder");
    let (weather, ports) = (Weather::new(Duration::from_millis(5)), ports(count));
    let mut nodes = Vec::new();
    for n in 0..count {
        nodes.push(Some(revive(folder.path(), &weather, &ports, n, &mut rng).await));
    }
    let mut told = 0;
    for round in 0..rounds {
        let mut order: Vec<usize> = (0..count).collect();
        order.shuffle(&mut rng);
        let (leaving, staying) = order.split_at(count.div_ceil(3));
        for n in leaving {
            // It publishes a record just before it goes.
            let node = nodes[*n].take().expect("all live between rounds");
            node.publish(record_of(*n, 2 * round)).await;
            node.close().await;
        }
        for n in staying {
            nodes[*n].as_ref().expect("it stays").publish(record_of(*n, 2 * round)).await;
        }
        for n in leaving {
            nodes[*n] = Some(revive(folder.path(), &weather, &ports, *n, &mut rng).await);
        }
        told += count;
    }
    let nodes: Vec<Node> = nodes.into_iter().flatten().collect();
    let took = converge(&nodes, told).await;
    println!(
        "seed {seed}: {rounds} rounds in which a third of {count} nodes restarted: \
         all {told} records everywhere {took:.1?} later"
    );
}

/// Starts a node with the archive that it had, and two others to dial.
async fn revive(folder: &Path, weather: &Weather, ports: &[u64], n: usize, rng: &mut ChaCha8Rng) -> Node {
    let place = folder.join(n.to_string());
    let (archive, note) = Archive::open(&place, objective(), NOW + 1_000_000).expect("opens");
    assert_eq!(note, None);
    let others: Vec<usize> = (0..ports.len()).filter(|other| *other != n).collect();
    let dials = (0..2).map(|_| others[rng.random_range(0..others.len())]);
    let peers = dials.map(|other| address_at(other as u32, ports[other])).collect();
    Start { sync_every: Duration::from_secs(1), ..Start::in_weather(weather, n as u32, ports[n], peers) }
        .start(archive)
        .await
}
