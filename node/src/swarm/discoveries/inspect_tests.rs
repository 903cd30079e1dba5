//! Tests of lists under filters, of what re-runs say, and of lineages.

use autoswarm_protocol::{
    CrashClass, SwarmConfig, TrainConfig,
    id::{ArenaId, Author},
    knobs::{Domain, KNOBS},
    record::{Body, Hardware, Verified, sign, verify},
    swarm_config::Objective,
    train_config::Value,
};
use libp2p::identity::Keypair;

use super::*;

const NOW: u64 = 1_795_219_384;

fn objective() -> Objective {
    SwarmConfig::parse(crate::cli::settings::BUILT_IN[0].1).expect("valid").objective
}

fn keys(n: u8) -> Keypair {
    Keypair::ed25519_from_bytes([n; 32]).expect("32 bytes are a key")
}

fn verified(body: &Body, by: u8, age: u64) -> Verified<Body> {
    let signed = sign(body, &objective(), &keys(by), NOW - age).expect("valid");
    verify(&signed.bytes, &objective(), NOW).expect("valid")
}

fn hardware() -> Hardware {
    Hardware { device: "a cpu".to_owned(), threads: 1, slots: 2, tokens_per_second: 8100.0 }
}

/// A discovery whose parent is the default config.
fn found(patch: &str, estimate: (f64, f64), budget: Budget, inspirations: Vec<RecordId>) -> Discovery {
    let parent = TrainConfig::new().effective(256);
    let patch = Patch::parse(patch, &parent).expect("a patch");
    let config = patch.apply(&parent).expect("applies").effective(256);
    let (delta, standard_error) = estimate;
    let audit = Estimate { delta: delta + 0.0014, standard_error: 0.004, pairs: 3 };
    Discovery {
        arena: ArenaId::of(budget.to_string().as_bytes()),
        budget,
        hardware: hardware(),
        patch: Patch::between(&parent, &config),
        config: (*config).clone(),
        estimate: Estimate { delta, standard_error, pairs: 3 },
        audit: matches!(budget, Budget::Class(_)).then_some(audit),
        level: Bpb::new(2.4031).expect("positive"),
        tokens: (812_032, 790_528),
        seconds: 20.1,
        curve: vec![5.5, 2.4],
        inspirations,
        because: "bracketing around the last win".to_owned(),
    }
}

/// Returns what a node with key 1 knows, and the ids in the order made: three generations by three authors,
/// one of them re-run in every way.
pub(crate) fn sample() -> (Discoveries, Vec<String>) {
    let mut discoveries = Discoveries::new(Author::of(&keys(1)).expect("ed25519"));
    let mut ids = Vec::new();
    let mut hear = |discovery: Discovery, by: u8, age: u64| {
        let record = verified(&Body::Discovery(Box::new(discovery)), by, age);
        discoveries.add(&record, None, NOW);
        ids.push(record.id());
        record.id()
    };
    let first = hear(
        found("batch_tokens 8192 → 2048", (-0.2504, 0.0287), Budget::Milliseconds(5000), vec![]),
        2,
        90_000,
    );
    let class = Budget::Class(3);
    let second = hear(found("depth 3, matrix_lr 0.03", (-0.0213, 0.0031), class, vec![first]), 1, 7200);
    hear(
        found("warmdown 0.7", (-0.0052, 0.0021), class, vec![second, RecordId::from_bytes([7; 32])]),
        3,
        600,
    );
    let re_runs = [
        (3, Comparison::Reproduced, Ok((-0.2411, 0.0310))),
        (1, Comparison::Transplants, Ok((-0.0643, 0.0263))),
        (4, Comparison::Transfers, Err(CrashClass::OutOfMemory)),
    ];
    for (by, comparison, shown) in re_runs {
        let body = Body::Attestation(Box::new(Attestation {
            discovery: first,
            comparison,
            arena: ArenaId::of(b"another"),
            hardware: hardware(),
            found: shown.map(|(delta, standard_error)| Estimate { delta, standard_error, pairs: 2 }),
            tokens: Some((812_032, 790_528)),
        }));
        discoveries.add(&verified(&body, by, 60), None, NOW);
    }
    (discoveries, ids.iter().map(ToString::to_string).collect())
}

/// Compares the patches that a filter leaves, in their order.
#[track_caller]
fn check(filter: &DiscoveryFilter, expected: &[&str]) {
    let listing = sample().0.list(filter);
    let knobs: Vec<String> = listing.rows.iter().map(|row| row.patch.to_string()).collect();
    let first: Vec<&str> = knobs.iter().map(|patch| patch.split(' ').next().unwrap_or_default()).collect();
    assert_eq!(first, expected, "{filter:?}");
}

fn all() -> DiscoveryFilter {
    DiscoveryFilter::default()
}

#[test]
fn a_list_holds_what_its_filters_leave() {
    check(&all(), &["batch_tokens", "depth", "warmdown"]);
    check(&DiscoveryFilter { status: Some(Status::Seconded), ..all() }, &["batch_tokens"]);
    check(&DiscoveryFilter { status: Some(Status::Refuted), ..all() }, &[]);
    check(&DiscoveryFilter { whose: Whose::Mine, ..all() }, &["depth"]);
    check(&DiscoveryFilter { whose: Whose::Foreign, ..all() }, &["batch_tokens", "warmdown"]);
    let of = |n: u8| Author::of(&keys(n)).expect("ed25519").to_string();
    check(&DiscoveryFilter { author: Some(of(3)[..6].to_uppercase()), ..all() }, &["warmdown"]);
    check(&DiscoveryFilter { knob: Some("matrix_lr".to_owned()), ..all() }, &["depth"]);
    check(&DiscoveryFilter { knob: Some("moon".to_owned()), ..all() }, &[]);
    check(&DiscoveryFilter { budget: Some(Budget::Class(3)), ..all() }, &["depth", "warmdown"]);
    let arena = ArenaId::of(b"5s").fmt_short();
    check(&DiscoveryFilter { arena: Some(arena), ..all() }, &["batch_tokens"]);
    check(&DiscoveryFilter { since: Some(NOW - 7200), ..all() }, &["depth", "warmdown"]);
    let id = sample().1[2][..12].to_owned();
    check(&DiscoveryFilter { id: Some(id), ..all() }, &["warmdown"]);
}

#[test]
fn a_list_has_an_order_and_a_limit() {
    check(&DiscoveryFilter { limit: 2, ..all() }, &["depth", "warmdown"]);
    check(&DiscoveryFilter { sort: Sort::Delta, limit: 2, ..all() }, &["batch_tokens", "depth"]);
    check(&DiscoveryFilter { sort: Sort::Surety, ..all() }, &["batch_tokens", "depth", "warmdown"]);
    check(&DiscoveryFilter { sort: Sort::ReRuns, ..all() }, &["batch_tokens", "warmdown", "depth"]);
    assert_eq!(sample().0.list(&DiscoveryFilter { limit: 1, ..all() }).left_out, 2);
    assert_eq!(sample().0.list(&all()).left_out, 0);
}

/// A patch of every knob, with the longest text that its values have.
fn widest() -> Patch {
    let longest = |domain: Domain| match domain {
        Domain::Integer { high, .. } | Domain::PowerOfTwo { high, .. } => Value::Integer(high),
        Domain::Linear { high, step, .. } => Value::Number(high - step),
        Domain::Log { low, .. } => Value::Number(low * 1.1),
        Domain::Choice(names) => {
            let longest = (0..names.len()).max_by_key(|index| names[*index].len());
            Value::Choice(longest.expect("a choice has names") as u8)
        }
    };
    let change = |config: TrainConfig, knob: Knob, value: Value| config.with(knob, value).unwrap_or(config);
    let (mut from, mut to) = (TrainConfig::new(), TrainConfig::new());
    for row in KNOBS {
        to = change(to, row.knob, longest(row.domain));
        if to.get(row.knob) == from.get(row.knob) {
            let other = match row.domain {
                Domain::Choice(_) => Value::Choice(0),
                Domain::Integer { low, .. } | Domain::PowerOfTwo { low, .. } => Value::Integer(low),
                Domain::Linear { low, .. } | Domain::Log { low, .. } => Value::Number(low),
            };
            from = change(from, row.knob, other);
        }
    }
    Patch::between(&from, &to)
}

#[test]
fn a_list_fits_into_a_reply_whatever_is_in_it() {
    let patch = widest();
    assert!(patch.len() >= KNOBS.len() - 2, "{} of {} knobs", patch.len(), KNOBS.len());
    let (mut discoveries, ids) = sample();
    let id: RecordId = ids[0].parse().expect("an id");
    let mut wide = discoveries.found[&id].clone();
    wide.discovery.patch = patch;
    wide.discovery.estimate = Estimate { delta: -1.0 / 3e9, standard_error: 1.0 / 3e9, pairs: 9999 };
    wide.discovery.audit = Some(wide.discovery.estimate);
    let row = discoveries.row(id, &wide, &Trust::default());
    let bytes = serde_json::to_vec(&row).expect("JSON").len();
    assert!(bytes <= row.weight(), "{bytes} > {}", row.weight());
    let many = 2 * MAX_LIST_BYTES / row.weight();
    for n in 0..many {
        let id = RecordId::of(&n.to_le_bytes());
        discoveries.found.insert(id, wide.clone());
    }
    let listing = discoveries.list(&all());
    assert_eq!(listing.rows.len() + listing.left_out as usize, many + 3);
    let bytes = serde_json::to_vec(&listing).expect("JSON").len();
    assert!(
        bytes <= MAX_LIST_BYTES && listing.rows.len() > 500,
        "{bytes} bytes, {} rows",
        listing.rows.len()
    );
}

#[test]
fn re_runs_say_what_they_say_about_the_claim() {
    let (discoveries, ids) = sample();
    let details = discoveries.find(&ids[0][..8]).expect("there");
    let says: Vec<_> =
        details.attestations.iter().map(|re_run| (re_run.attestation.comparison, re_run.says)).collect();
    let expected = [
        (Comparison::Reproduced, Says::Agrees),
        (Comparison::Transfers, Says::Nothing),
        (Comparison::Transplants, Says::Gains),
    ];
    assert_eq!(says, expected);
    assert!(details.attestations[2].own && details.re_runs == 3);
    let row = &discoveries.list(&all()).rows[0];
    let counts = (row.confirmations, row.reproductions, row.helps, row.attestations);
    assert_eq!((counts, row.status), ((1, 1, 1, 3), Status::Seconded));
}

#[test]
fn a_lineage_goes_up_and_down_and_names_what_is_not_here() {
    let (discoveries, ids) = sample();
    let of = |n: usize| discoveries.find(&ids[n]).expect("there").lineage;
    let generations = |kin: &[crate::swarm::discoveries::Kin]| {
        kin.iter().map(|kin| (kin.generation, kin.id.clone())).collect::<Vec<_>>()
    };
    assert_eq!(generations(&of(0).below), [(1, ids[1].clone()), (2, ids[2].clone())]);
    assert_eq!(of(0).above, []);
    let above = of(2).above;
    assert_eq!((above.len(), of(2).below.len(), of(2).cut), (3, 0, false));
    assert_eq!(generations(&above[..2]), [(1, ids[1].clone()), (2, ids[0].clone())]);
    assert_eq!((above[2].generation, &above[2].known), (1, &None));
}

#[test]
fn a_large_family_is_cut_and_that_is_said() {
    let (mut discoveries, ids) = sample();
    let parent: RecordId = ids[0].parse().expect("an id");
    let child = discoveries.found[&ids[1].parse().expect("an id")].clone();
    for n in 0u32..100 {
        let mut child = child.clone();
        child.discovery.inspirations = vec![parent];
        discoveries.found.insert(RecordId::of(&n.to_le_bytes()), child);
    }
    let lineage = discoveries.find(&ids[0]).expect("there").lineage;
    assert!(lineage.below.len() == 24 && lineage.cut, "{}", lineage.below.len());
}
