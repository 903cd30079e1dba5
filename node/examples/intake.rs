//! Measures how many records one core takes in a second: bytes → `Verified` → archive in memory.
//!
//! It also says what each part of the work costs. `scripts/bench-intake.sh` builds and runs it. Of several
//! rounds the best counts, since other work on the machine only makes a round slower.

#![allow(clippy::print_stdout)]

use std::{fs, process::ExitCode, time::Instant};

use autoswarm_node::{cli::settings::BUILT_IN, swarm::network::archive::Archive};
use autoswarm_protocol::{
    Bpb, Budget, Estimate, Patch, SwarmConfig, TrainConfig, codec,
    experiment::Comparison,
    id::{ArenaId, ConfigHash, RecordId},
    record::{
        Attestation, Body, Digest, DigestEnding, DigestLine, Discovery, Hardware, Signed, sign, verify,
    },
    swarm_config::Objective,
};
use libp2p::identity::Keypair;

/// Records that each round takes in.
const RECORDS: u32 = 8000;
/// Rounds of each measurement.
const ROUNDS: u32 = 5;
/// Authors of the records; none has more of them than an archive keeps of one author.
const AUTHORS: u32 = 20;
/// Records that one core must take in a second, for the benchmark to pass.
const WANTED: f64 = 5000.0;
/// The clock when the records are read, seconds since 1970.
const NOW: u64 = 1_795_219_384;

const PATCHES: [&str; 4] = [
    "matrix_lr 0.03",
    "warmup 0.1, depth 3",
    "activation swiglu",
    "adam_eps 1e-12, softcap 0, muon_steps 3, projection_init 0.5",
];

fn main() -> ExitCode {
    let objective = SwarmConfig::parse(BUILT_IN[0].1).expect("a shipped config").objective;
    let authors: Vec<Keypair> = (0..AUTHORS).map(keys).collect();
    let bodies: Vec<Body> = (0..RECORDS).map(|n| body(&objective, n)).collect();
    let made = |(n, body): (usize, &Body)| {
        sign(body, &objective, &authors[n % authors.len()], NOW).expect("an honest record")
    };
    let records: Vec<Signed> = bodies.iter().enumerate().map(made).collect();
    let encoded: Vec<Vec<u8>> = bodies.iter().map(|body| codec::encode(body).expect("small")).collect();
    let bytes: usize = records.iter().map(|record| record.bytes.len()).sum();
    println!("{RECORDS} records of {} bytes on average, by {AUTHORS} authors", bytes / records.len());
    for (kind, count) in ["discovery", "attestation", "digest"].iter().zip(counts(&bodies)) {
        println!("  {count:5} of kind {kind}");
    }

    // The parts of the work, each measured alone. What the whole takes beyond them is bookkeeping.
    let signature = authors[0].sign(&[7; 32]).expect("ed25519 signs everything");
    let public = authors[0].public();
    let stages = [
        (
            "the id: a hash",
            each(&records, |record| {
                std::hint::black_box(RecordId::of(&record.bytes));
            }),
        ),
        ("the signature", each(&records, |_| assert!(public.verify(&[7; 32], &signature)))),
        ("the body's bytes", each(&encoded, |bytes| drop(codec::decode::<Body>(bytes).expect("valid")))),
        (
            "bytes to verified, all",
            each(&records, |record| drop(verify(&record.bytes, &objective, NOW).expect("valid"))),
        ),
    ];
    for (stage, seconds) in stages {
        println!("  {:7.1} µs  {stage}", 1e6 * seconds / f64::from(RECORDS));
    }
    let whole = best(|| {
        let mut archive = Archive::in_memory(objective.clone());
        for record in &records {
            archive.insert(&record.bytes, NOW).expect("valid");
        }
        assert_eq!(archive.len(), records.len());
    });
    let rate = f64::from(RECORDS) / whole;
    println!("  {:7.1} µs  bytes to archive, all", 1e6 * whole / f64::from(RECORDS));
    println!("{rate:.0} records a second on one core; wanted: {WANTED:.0}");
    if rate >= WANTED { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Returns the CPU seconds of the best round of `work` on every item.
fn each<T>(all: &[T], work: impl Fn(&T)) -> f64 {
    best(|| {
        for one in all {
            work(one);
        }
    })
}

/// Returns the CPU seconds of the best round of `work`; wall-clock seconds where the system does not say.
fn best(mut work: impl FnMut()) -> f64 {
    let mut round = || {
        let (since, cpu) = (Instant::now(), cpu_seconds());
        work();
        match (cpu, cpu_seconds()) {
            (Some(before), Some(after)) => after - before,
            _ => since.elapsed().as_secs_f64(),
        }
    };
    (0..ROUNDS).map(|_| round()).fold(f64::INFINITY, f64::min)
}

/// Returns the CPU seconds of this thread so far; none where the system does not say.
fn cpu_seconds() -> Option<f64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(text.split_whitespace().next()?.parse::<f64>().ok()? / 1e9)
}

fn counts(bodies: &[Body]) -> [usize; 3] {
    let count = |is_it: fn(&Body) -> bool| bodies.iter().filter(|body| is_it(body)).count();
    [
        count(|body| matches!(body, Body::Discovery(_))),
        count(|body| matches!(body, Body::Attestation(_))),
        count(|body| matches!(body, Body::Digest(_))),
    ]
}

fn keys(n: u32) -> Keypair {
    Keypair::ed25519_from_bytes(*blake3::hash(&n.to_le_bytes()).as_bytes()).expect("32 bytes are a key")
}

/// Returns the `n`-th body of a plausible mix. Of each four records one is a discovery, two are re-runs, and
/// one is a digest of eight results: what a node tells that keeps one experiment in eight and tries as many
/// experiments of others.
fn body(objective: &Objective, n: u32) -> Body {
    let arena = ArenaId::of(b"arena");
    let hardware =
        Hardware { device: "AMD EPYC 9554".to_owned(), threads: 8, slots: 2, tokens_per_second: 8100.5 };
    let estimate =
        Estimate { delta: -0.001 * f64::from(n % 50), standard_error: 0.004, pairs: 3 + (n % 5) as u16 };
    let id = |m: u32| RecordId::of(&[n.to_le_bytes(), m.to_le_bytes()].concat());
    match n % 4 {
        0 => {
            let context = objective.context as usize;
            let parent = TrainConfig::new().effective(context);
            let patch = Patch::parse(PATCHES[n as usize / 4 % PATCHES.len()], &parent).expect("a patch");
            let config = patch.apply(&parent).expect("its parent").effective(context);
            Body::Discovery(Box::new(Discovery {
                arena,
                budget: Budget::Class(4),
                hardware,
                patch: Patch::between(&parent, &config),
                config: (*config).clone(),
                estimate,
                audit: Some(estimate),
                level: Bpb::new(2.0 + 0.0001 * f64::from(n)).expect("positive"),
                tokens: (812_032 + u64::from(n), 812_032),
                seconds: 120.1,
                curve: (1..=16u8).map(|i| 5.5 - f32::from(i) / 8.0).collect(),
                inspirations: vec![id(0)],
                because: "a peer's discovery on this incumbent: bracketing a win".to_owned(),
            }))
        }
        1 | 2 => Body::Attestation(Box::new(Attestation {
            discovery: id(1),
            comparison: [Comparison::Reproduced, Comparison::Transplants][n as usize % 2],
            arena,
            hardware,
            found: Ok(estimate),
            tokens: Some((812_032, 812_032)),
        })),
        _ => Body::Digest(Digest { arena, lines: (0..8).map(|m| line(n, m, estimate)).collect() }),
    }
}

fn line(n: u32, m: u32, estimate: Estimate) -> DigestLine {
    let patch = PATCHES[(n + m) as usize % PATCHES.len()];
    DigestLine {
        config: ConfigHash::of(&[n.to_le_bytes(), m.to_le_bytes()].concat()),
        patch: Patch::parse(patch, &TrainConfig::new()).expect("a patch"),
        ending: DigestEnding::Discarded,
        found: Some(estimate),
    }
}
