//! Hostile peers: each attack has honest nodes of its own.
//!
//! Under every attack, what honest nodes hold is bounded, honest news pass as before, and no honest relayer
//! loses its standing. The attacker loses its own where it breaks the rules. Memory and CPU time are printed,
//! not checked.

#![allow(clippy::print_stdout)] // figures, for `--nocapture`

mod peer;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use autoswarm_node::swarm::network::{NetworkCounts, PeerView, Switches, archive::Archive, exchange};
use autoswarm_protocol::{
    Bpb, Budget, Estimate, Patch, TrainConfig,
    id::ArenaId,
    record::{Body, Discovery, Hardware, Signed, sign},
};

use libp2p::Multiaddr;
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::{Mutex, MutexGuard},
};

use self::peer::{Deed, GOSSIP, Hostile, Serving, topic};
use crate::{
    many::{cpu_seconds, memory},
    network::{half_open, socket_of},
    nodes::{NOW, Node, Start, from_environment, keys, objective, quantile, record, until},
};

/// The two honest nodes.
const ALICE: u32 = 1;
const BOB: u32 = 2;

/// Honest records told to measure how fast news pass. With more, as by `NEWS=200`, the 99th percentile is not
/// simply the slowest of all.
const NEWS: u32 = 15;

/// Most authors of the news. All are heard of before an attack, as in a swarm that has been running for a
/// while.
const AUTHORS: u32 = 40;

/// Times below this are noise of a busy machine.
const NOISE: Duration = Duration::from_millis(400);

/// Records that one relayer may pass by gossip at once, and per second (the node's quotas).
const RELAYED: f64 = 200.0;
const RELAYED_PER_SECOND: f64 = 50.0;

fn empty() -> Archive {
    Archive::in_memory(objective())
}

/// Lets one attack run at a time: others would disturb its measurements.
static TURN: Mutex<()> = Mutex::const_new(());

/// Two honest nodes that know each other.
struct Pair {
    alice: Node,
    bob: Node,
    told: u32,
    /// What this process used while news passed, before and during the attack.
    usage: Vec<Usage>,
    _turn: MutexGuard<'static, ()>,
}

/// What the process of the honest nodes uses; the attacker runs in it too.
#[derive(Debug, Clone, Copy)]
struct Usage {
    /// CPU seconds a second.
    cores: f64,
    /// Resident memory, bytes.
    memory: u64,
}

/// How fast news pass.
#[derive(Debug, Clone, Copy)]
struct News {
    /// The 99th percentile.
    most: Duration,
    half: Duration,
}

impl Pair {
    async fn start() -> Self {
        Self::with(empty()).await
    }

    async fn with(archive: Archive) -> Self {
        let turn = TURN.lock().await;
        let start = Start { sync_every: Duration::from_secs(1), ..Start::on_loopback(ALICE, Vec::new()) };
        let alice = start.start(archive).await;
        let peers = vec![alice.address.clone()];
        let start = Start { sync_every: Duration::from_secs(1), ..Start::on_loopback(BOB, peers) };
        let bob = start.start(empty()).await;
        let pair = Self { alice, bob, told: 0, usage: Vec::new(), _turn: turn };
        until("the two are in each other's mesh", async || {
            let seen = (pair.alice.sees(pair.bob.peer).await, pair.bob.sees(pair.alice.peer).await);
            let is_meshed = seen.0.as_ref().is_some_and(|peer| peer.meshed);
            if is_meshed && seen.1.as_ref().is_some_and(|peer| peer.meshed) { Ok(()) } else { Err(seen) }
        })
        .await;
        pair
    }

    /// Tells news at one node, and returns within what times 99 % and half of them arrive at the other.
    async fn news(&mut self) -> News {
        let (mut told, process) = (Vec::new(), std::process::id());
        let (cpu, since) = (cpu_seconds(process), Instant::now());
        let count = from_environment("NEWS", NEWS);
        for _ in 0..count {
            // From many authors, since a burst of one author would meet its quota.
            let news = record(&objective(), &keys(1000 + self.told % count.min(AUTHORS)), self.told);
            self.told += 1;
            told.push((news.id, Instant::now()));
            self.alice.publish(news).await;
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
        let mut times = Vec::new();
        for (id, at) in told {
            until("honest news arrive", async || self.bob.arrival(id).map(|_| ()).ok_or(id)).await;
            times.push(self.bob.arrival(id).expect("just seen") - at);
        }
        let cores = (cpu_seconds(process) - cpu) / since.elapsed().as_secs_f64();
        self.usage.push(Usage { cores, memory: memory(process) });
        News { most: quantile(&mut times, 0.99), half: quantile(&mut times, 0.5) }
    }

    /// Asserts that news pass as before while an attack goes on.
    async fn is_undisturbed(&mut self, attack: &str, before: News) {
        let mut during = self.news().await;
        if during.most >= 2 * before.most.max(NOISE) {
            // Once more: an attack disturbs it again, another program on the machine hardly does.
            during = self.news().await;
        }
        let ratio = during.most.as_secs_f64() / before.most.as_secs_f64();
        let (first, last) = (self.usage[0], self.usage[self.usage.len() - 1]);
        println!(
            "{attack}: news within {:.1?} before, {:.1?} during: ratio {ratio:.2}; \
             half of them within {:.1?} and {:.1?}; {:.2} and {:.2} cores; {} and {} MB",
            before.most,
            during.most,
            before.half,
            during.half,
            first.cores,
            last.cores,
            first.memory / 1_000_000,
            last.memory / 1_000_000
        );
        assert!(during.most < 2 * before.most.max(NOISE), "{attack}: {during:?} instead of {before:?}");
        for (one, other) in [(&self.alice, &self.bob), (&self.bob, &self.alice)] {
            let seen = one.sees(other.peer).await.expect("still connected");
            assert!(
                seen.standing.expect("scored") >= 0.0 && seen.meshed,
                "{attack} hurts an honest peer: {seen:?}"
            );
        }
    }

    /// Waits until Alice holds exactly `records` records.
    async fn hold(&self, records: usize) {
        until("all are there and no others", async || {
            let held = self.alice.view().await.records;
            if held == records { Ok(()) } else { Err(held) }
        })
        .await;
    }

    fn victims(&self) -> [Multiaddr; 2] {
        [self.alice.address.clone(), self.bob.address.clone()]
    }
}

/// Gossips these records in the background, one a millisecond.
fn flood(hostile: &Hostile, records: impl IntoIterator<Item = Vec<u8>> + Send + 'static) {
    let deeds = hostile.deeds();
    let records: Vec<Vec<u8>> = records.into_iter().collect();
    tokio::spawn(async move {
        for bytes in records {
            if deeds.send(Deed::Gossip(bytes)).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
}

/// Waits until the first of a flood has arrived at both.
async fn begun(pair: &Pair, what: impl Fn(NetworkCounts) -> bool) {
    until("the attack arrives", async || {
        let counts = [pair.alice.counts().await, pair.bob.counts().await];
        if counts.iter().all(|counts| what(*counts)) { Ok(()) } else { Err(counts) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_author_floods() {
    let mut pair = Pair::start().await;
    let before = pair.news().await;
    let hostile = Hostile::start(&pair.victims(), Serving::Nothing).await;
    let started = Instant::now();
    let records = from_environment("FLOOD", 1500);
    flood(&hostile, (0..records).map(|n| record(&objective(), &keys(7), n).bytes));
    begun(&pair, |counts| counts.over_quota > 100).await;
    pair.is_undisturbed("a flood of valid records", before).await;
    let view = pair.alice.view().await;
    // The author's quota of gossip, 20 at once and one per ten seconds, holds at each node; each also fetches
    // what the other took.
    let most = 2.0 * (20.0 + started.elapsed().as_secs_f64() / 10.0 + 1.0) + f64::from(pair.told);
    assert!((view.records as f64) <= most, "{} records of at most {most}", view.records);
    println!(
        "{records} records of one author: {} held, {} over a quota",
        view.records - pair.told as usize,
        view.counts.over_quota
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_thousand_authors_flood() {
    let mut pair = Pair::start().await;
    let before = pair.news().await;
    let authors = from_environment("SYBILS", 1000);
    let hostile = Hostile::start(&pair.victims(), Serving::Nothing).await;
    let started = Instant::now();
    flood(&hostile, (0..authors).map(|n| record(&objective(), &keys(100_000 + n), 0).bytes));
    begun(&pair, |counts| counts.over_quota > 100).await;
    pair.is_undisturbed("a flood by many authors", before).await;
    let view = pair.alice.view().await;
    let relayed = RELAYED + RELAYED_PER_SECOND * (started.elapsed().as_secs_f64() + 1.0);
    let most = 2.0 * relayed + f64::from(pair.told);
    assert!((view.records as f64) <= most, "{} records of at most {most:.0}", view.records);
    println!("{authors} authors: {} records held, {} over a quota", view.records, view.counts.over_quota);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_signatures_and_garbage_cost_their_relayer_its_standing() {
    let mut pair = Pair::start().await;
    let before = pair.news().await;
    let hostile = Hostile::start(&pair.victims(), Serving::Nothing).await;
    let garbage = (0..400u32).map(|n| {
        let mut bytes = record(&objective(), &keys(7), n).bytes;
        match n % 3 {
            0 => *bytes.last_mut().expect("bytes") ^= 1,
            1 => bytes.truncate(100),
            _ => bytes.push(0),
        }
        bytes
    });
    flood(&hostile, garbage.collect::<Vec<_>>());
    begun(&pair, |counts| counts.faulty > 0).await;
    until("the attacker is out of everything", async || {
        let seen = [pair.alice.sees(hostile.peer).await, pair.bob.sees(hostile.peer).await];
        let is_out = |seen: &Option<PeerView>| {
            seen.as_ref()
                .is_none_or(|peer| !peer.meshed && peer.standing.is_some_and(|score| score < -1400.0))
        };
        if seen.iter().all(is_out) { Ok(()) } else { Err(seen) }
    })
    .await;
    let counts = pair.alice.counts().await;
    println!("graylisted after {} faulty messages", counts.faulty);
    assert!(counts.faulty < 100, "who is graylisted is not heard any more: {counts:?}");
    pair.is_undisturbed("garbage", before).await;
    pair.hold(pair.told as usize).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_records_are_played_again() {
    let mut archive = empty();
    let old: Vec<Signed> = (0..500).map(|n| record(&objective(), &keys(20 + n % 5), n)).collect();
    for record in &old {
        archive.insert(&record.bytes, NOW + 1000).expect("valid");
    }
    let mut pair = Pair::with(archive).await;
    let before = pair.news().await;
    let hostile = Hostile::start(&pair.victims(), Serving::Nothing).await;
    let gossiped = pair.alice.counts().await.gossiped;
    flood(&hostile, old.into_iter().map(|record| record.bytes));
    pair.is_undisturbed("a replay", before).await;
    pair.hold(500 + pair.told as usize).await;
    let counts = pair.alice.counts().await;
    assert_eq!((counts.gossiped, counts.faulty), (gossiped, 0), "nothing new in it, and no fault");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_never_end_keep_nobody_out() {
    let mut pair = Pair::start().await;
    let before = pair.news().await;
    let hostile = Hostile::start(&pair.victims(), Serving::Nothing).await;
    let records = exchange::protocol(objective().id(), "records");
    for n in 0..200u32 {
        // A single byte, garbage, and more than a message may have.
        let bytes = match n % 3 {
            0 => vec![0],
            1 => vec![7; 5000],
            _ => vec![1; 1 << 20],
        };
        hostile.does(Deed::Raw(records.clone(), bytes)).await;
    }
    hostile.does(Deed::Raw(GOSSIP, vec![0xff; 1 << 20])).await;
    let _sockets = half_open(&pair.alice.address, 100);
    pair.is_undisturbed("half-open streams", before).await;
    let late = Start::on_loopback(3, vec![pair.alice.address.clone()]).start(empty()).await;
    let told = pair.told as usize;
    until("a joiner has everything", async || {
        let held = late.view().await.records;
        if held == told { Ok(()) } else { Err(held) }
    })
    .await;
}

/// Checks that a peer which misleads reconciliation is turned away, and that news still pass.
async fn misled(serving: Serving, attack: &str) {
    let mut pair = Pair::start().await;
    let before = pair.news().await;
    let hostile = Hostile::start(&pair.victims(), serving).await;
    let took = until("the attacker is turned away", async || {
        let seen = pair.alice.view().await;
        let is_gone = seen.peers.iter().all(|peer| peer.peer != hostile.peer.to_string());
        if is_gone && seen.turned_away == 1 { Ok(()) } else { Err(seen) }
    })
    .await;
    println!("{attack}: turned away after {took:.1?}");
    pair.is_undisturbed(attack, before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_advertises_what_it_withholds_is_turned_away() {
    let mut archive = empty();
    for n in 0..400 {
        archive.insert(&record(&objective(), &keys(30 + n % 5), n).bytes, NOW + 1000).expect("valid");
    }
    misled(Serving::Withholding(Box::new(archive)), "withholding").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_never_agrees_is_turned_away() {
    misled(Serving::Endless, "endless comparing").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_answers_something_else_is_turned_away() {
    misled(Serving::Evasive, "evasive answers").await;
}

/// A discovery that is too good to be true, in valid form.
fn miracle() -> Signed {
    let parent = TrainConfig::from_toml("depth = 2").expect("valid").effective(256);
    let patch = Patch::parse("matrix_lr 0.03", &parent).expect("a patch");
    let config = patch.apply(&parent).expect("applies").effective(256);
    let estimate = Estimate { delta: -100.0, standard_error: 1e-6, pairs: 100 };
    let discovery = Discovery {
        arena: ArenaId::of(b"arena"),
        budget: Budget::Milliseconds(20_000),
        hardware: Hardware { device: "cpu".to_owned(), threads: 1, slots: 2, tokens_per_second: 8100.0 },
        patch: Patch::between(&parent, &config),
        config: (*config).clone(),
        estimate,
        audit: Some(estimate),
        level: Bpb::new(0.001).expect("positive"),
        tokens: (812_032, 812_032),
        seconds: 20.1,
        curve: vec![5.5, 3.1, 2.4],
        inspirations: Vec::new(),
        because: "trust me".to_owned(),
    };
    sign(&Body::Discovery(Box::new(discovery)), &objective(), &keys(7), NOW).expect("valid")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_relays_a_liar_is_not_punished() {
    let mut pair = Pair::start().await;
    let before = pair.news().await;
    let hostile = Hostile::start(&[pair.alice.address.clone()], Serving::Nothing).await;
    let lie = miracle();
    hostile.does(Deed::Gossip(lie.bytes)).await;
    until("it is heard, since from its bytes nobody can tell", async || {
        pair.bob.arrival(lie.id).map(|_| ()).ok_or("not heard")
    })
    .await;
    pair.is_undisturbed("a liar", before).await;
    assert!(pair.alice.sees(hostile.peer).await.expect("connected").standing.expect("scored") >= 0.0);
}

/// Returns an address that leads to a node by way of 127.0.0.2, so that the node takes it for another
/// machine.
async fn from_elsewhere(node: &Node) -> Multiaddr {
    let target: SocketAddr = socket_of(&node.address).parse().expect("a socket");
    let door = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = door.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((mut one, _)) = door.accept().await {
            let socket = TcpSocket::new_v4().expect("a socket");
            socket.bind("127.0.0.2:0".parse().expect("an address")).expect("this machine's");
            tokio::spawn(async move {
                if let Ok(mut other) = socket.connect(target).await {
                    // Until either side ends it.
                    let _ = tokio::io::copy_bidirectional(&mut one, &mut other).await;
                }
            });
        }
    });
    format!("/ip4/127.0.0.1/tcp/{port}/p2p/{}", node.peer).parse().expect("an address")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_cannot_take_all_places() {
    let _turn = TURN.lock().await;
    let switches = Switches { mdns: false, autonat: false, loopback_exempt: false, ..Switches::default() };
    let alice = Start { switches, ..Start::on_loopback(ALICE, Vec::new()) }.start(empty()).await;
    let attackers = from_environment("ECLIPSE", 30);
    let starts = (0..attackers).map(|_| {
        // Beyond the eighth they are refused before they can say who they are.
        let start = Hostile::start(std::slice::from_ref(&alice.address), Serving::Nothing);
        tokio::time::timeout(Duration::from_secs(5), start)
    });
    let hostile = futures::future::join_all(starts).await;
    let inside = hostile.iter().flatten().count();
    until("all places of the address are taken", async || {
        let peers = alice.view().await.peers.len();
        if peers == 8 { Ok(()) } else { Err((inside, peers)) }
    })
    .await;
    let bob = Start::on_loopback(BOB, vec![from_elsewhere(&alice).await]).start(empty()).await;
    let took = until("an honest peer of another address comes in", async || {
        alice.sees(bob.peer).await.map(|_| ()).ok_or(alice.view().await.peers.len())
    })
    .await;
    let news = record(&objective(), &keys(ALICE), 1);
    let id = news.id;
    alice.publish(news).await;
    until("and hears the news", async || bob.arrival(id).map(|_| ()).ok_or(id)).await;
    println!(
        "{attackers} peers on one address: {} in; an honest one is in after {took:.1?}",
        alice.view().await.peers.len() - 1
    );
}

/// A field of protobuf whose value is bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2][..], &varint(bytes.len() as u64), bytes].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A gossip message with this control part, preceded by its length.
fn control(parts: &[u8]) -> Vec<u8> {
    let rpc = field(3, parts);
    [varint(rpc.len() as u64), rpc].concat()
}

/// Guards against four advisories of gossipsub: two overflows of the back-off, endless topics by GRAFT, and
/// PRUNE of topics that nobody joined.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grafts_and_prunes_of_an_enemy_end_nothing() {
    let mut pair = Pair::start().await;
    let before = pair.news().await;
    let hostile = Hostile::start(&pair.victims(), Serving::Nothing).await;
    let ours = field(1, topic(objective().id()).hash().as_str().as_bytes());
    let graft = |topic: &[u8]| field(3, topic);
    let prune = |topic: &[u8], backoff: u64| field(4, &[topic, &[3 << 3], &varint(backoff)].concat());
    let mut frames = Vec::new();
    for backoff in [u64::MAX, u64::MAX / 2, i64::MAX as u64, 1 << 40] {
        frames.extend(control(&prune(&ours, backoff)));
    }
    for chunk in 0..20 {
        let topics: Vec<Vec<u8>> =
            (0..100).map(|n| field(1, format!("topic {chunk} {n}").as_bytes())).collect();
        frames.extend(control(&topics.iter().flat_map(|topic| graft(topic)).collect::<Vec<u8>>()));
        frames.extend(control(&topics.iter().flat_map(|topic| prune(topic, 3600)).collect::<Vec<u8>>()));
    }
    for _ in 0..50 {
        frames.extend(control(&graft(&ours)));
    }
    hostile.does(Deed::Raw(GOSSIP, frames)).await;
    // Grafting within the back-off costs the attacker its standing. Wait for that: a later stream would
    // replace this one before it is read.
    until("both have read it to its end", async || {
        let seen = [pair.alice.sees(hostile.peer).await, pair.bob.sees(hostile.peer).await];
        let is_out = |seen: &Option<PeerView>| {
            seen.as_ref()
                .is_none_or(|peer| !peer.meshed && peer.standing.is_some_and(|score| score < -1400.0))
        };
        if seen.iter().all(is_out) { Ok(()) } else { Err(seen) }
    })
    .await;
    // It advertises messages that do not exist, and sends garbage.
    let ids: Vec<u8> =
        (0..200u32).flat_map(|n| field(1, &blake3::hash(&n.to_le_bytes()).as_bytes()[..])).collect();
    hostile.does(Deed::Raw(GOSSIP, control(&field(2, &ids)))).await;
    hostile.does(Deed::Raw(GOSSIP, vec![0xff; 4096])).await;
    pair.is_undisturbed("GRAFT and PRUNE", before).await;
    // Once more, a few heartbeats later: then the second overflow would strike.
    pair.is_undisturbed("GRAFT and PRUNE, later", before).await;
}
