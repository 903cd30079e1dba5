//! Discoveries: whose are tried, what is told about them, and what re-runs say.

use autoswarm_protocol::{
    Bpb, SwarmConfig, TrainConfig,
    id::ArenaId,
    record::{sign, verify},
    swarm_config::Objective,
};
use libp2p::identity::Keypair;

use super::*;
use crate::view::lists::tests::several;

const NOW: u64 = 1_795_219_384;
const CONTEXT: usize = 256;

fn objective() -> Objective {
    SwarmConfig::parse(crate::settings::BUILT_IN[0].1).expect("valid").objective
}

fn keys(n: u8) -> Keypair {
    Keypair::ed25519_from_bytes([n; 32]).expect("32 bytes are a key")
}

fn author(n: u8) -> Author {
    Author::of(&keys(n)).expect("ed25519")
}

fn verified(body: &Body, by: u8) -> Verified<Body> {
    let signed = sign(body, &objective(), &keys(by), NOW).expect("valid");
    verify(&signed.bytes, &objective(), NOW).expect("valid")
}

fn hardware() -> Hardware {
    Hardware { device: "cpu".to_owned(), threads: 1, slots: 2, tokens_per_second: 8100.0 }
}

fn found(patch: &str, delta: f64) -> Body {
    let parent = TrainConfig::new().effective(CONTEXT);
    let patch = Patch::parse(patch, &parent).expect("a patch");
    let config = patch.apply(&parent).expect("applies").effective(CONTEXT);
    Body::Discovery(Box::new(Discovery {
        arena: ArenaId::of(b"arena"),
        budget: Budget::Milliseconds(20_000),
        hardware: hardware(),
        patch: Patch::between(&parent, &config),
        config: (*config).clone(),
        estimate: Estimate { delta, standard_error: 0.004, pairs: 3 },
        audit: None,
        level: Bpb::new(2.4).expect("positive"),
        tokens: (812_032, 812_032),
        seconds: 20.1,
        curve: vec![5.5, 2.4],
        inspirations: vec![],
        because: "it helped".to_owned(),
    }))
}

/// A kept experiment with a run of each side.
fn keep() -> Experiment {
    let mut experiment = several().swap_remove(1);
    let mut of_parent = experiment.runs[0].clone();
    of_parent.requested = experiment.parent.expect("a parent");
    experiment.runs.push(of_parent);
    experiment
}

/// An experiment that tried a discovery.
fn tried(of: RecordId, verdict: Verdict) -> Experiment {
    let mut experiment = several().swap_remove(1);
    experiment.verdict = verdict;
    experiment.hypothesis.inspired_by = vec![of.to_string()];
    experiment
}

fn incumbent() -> EffectiveConfig {
    TrainConfig::new().effective(CONTEXT)
}

#[test]
fn the_surest_gain_of_somebody_else_is_tried_first_and_once() {
    let mut discoveries = Discoveries::new(author(1));
    assert!(!discoveries.hear(&verified(&found("warmup 0.2", -0.5), 1)), "its own");
    let small = verified(&found("warmup 0.1", -0.02), 2);
    let large = verified(&found("matrix_lr 0.03", -0.05), 3);
    assert!(discoveries.hear(&small) && discoveries.hear(&large));
    let next = discoveries.next_to_try(&incumbent(), CONTEXT).expect("one");
    assert_eq!(next.hypothesis.inspired_by, [large.id().to_string()]);
    assert!(next.hypothesis.because.contains("a peer's discovery on this incumbent"));
    let verdict = several().swap_remove(2).verdict;
    discoveries.observe(&tried(large.id(), verdict));
    let next = discoveries.next_to_try(&incumbent(), CONTEXT).expect("the other");
    assert_eq!(next.hypothesis.inspired_by, [small.id().to_string()]);
    // What the incumbent has already is nothing to try.
    assert_eq!(discoveries.next_to_try(&next.child, CONTEXT), None);
}

#[test]
fn others_ideas_have_their_share_and_no_more() {
    let mut discoveries = Discoveries::new(author(1));
    for n in 1..=30 {
        discoveries.hear(&verified(&found(&format!("warmup {}", f64::from(n) / 100.0), -0.02), 2));
    }
    let mut inspired = 0;
    for _ in 0..60 {
        let proposal = discoveries.next_to_try(&incumbent(), CONTEXT);
        let mut experiment = several().swap_remove(2);
        if let Some(proposal) = proposal {
            experiment.hypothesis = proposal.hypothesis;
            inspired += 1;
        }
        discoveries.observe(&experiment);
    }
    assert!((18..=24).contains(&inspired), "{inspired} of 60");
}

#[test]
fn a_keep_is_told_as_a_discovery_that_every_peer_accepts() {
    let mut discoveries = Discoveries::new(author(1));
    let keep = keep();
    let bodies = discoveries.to_publish(&keep, &hardware(), Budget::Class(1), 0.01);
    assert!(matches!(bodies.as_slice(), [Body::Discovery(_)]), "{bodies:?}");
    let record = verified(&bodies[0], 1);
    let discovery = record.discovery().expect("a discovery");
    assert_eq!(discovery.value().patch, keep.hypothesis.patch);
    assert!(!discoveries.hear(&record));
    for other in
        several().into_iter().filter(|experiment| !matches!(experiment.verdict, Verdict::Keep { .. }))
    {
        assert_eq!(discoveries.to_publish(&other, &hardware(), Budget::Class(1), 0.01), []);
    }
}

#[test]
fn trying_somebody_elses_discovery_is_told_as_a_re_run_and_never_as_ones_own() {
    let mut discoveries = Discoveries::new(author(1));
    let keep = several().swap_remove(1);
    let record = verified(&found(&keep.hypothesis.patch.to_string(), -0.02), 2);
    discoveries.hear(&record);
    let kept = tried(record.id(), keep.verdict.clone());
    let dropped = tried(record.id(), several().swap_remove(2).verdict);
    let crashed = tried(record.id(), several().swap_remove(3).verdict);
    for (experiment, ok) in [(kept, true), (dropped, true), (crashed, false)] {
        let bodies = discoveries.to_publish(&experiment, &hardware(), Budget::Class(1), 0.01);
        let [Body::Attestation(attestation)] = bodies.as_slice() else { panic!("{bodies:?}") };
        assert_eq!((attestation.discovery, attestation.found.is_ok()), (record.id(), ok));
        assert_eq!(attestation.comparison, Comparison::Transplants);
        verified(&bodies[0], 1);
    }
}

#[test]
fn only_reproductions_by_others_confirm_or_refute() {
    let mut discoveries = Discoveries::new(author(1));
    let record = verified(&found("warmup 0.1", -0.02), 2);
    discoveries.hear(&record);
    let mut attest = |by: u8, comparison: Comparison, delta: f64| {
        let body = Body::Attestation(Box::new(Attestation {
            discovery: record.id(),
            comparison,
            arena: ArenaId::of(b"arena"),
            hardware: hardware(),
            found: Ok(Estimate { delta, standard_error: 0.004, pairs: 3 }),
            tokens: Some((1024, 1024)),
        }));
        discoveries.hear(&verified(&body, by));
        discoveries.status(record.id())
    };
    assert_eq!(attest(3, Comparison::Transplants, 0.3), Status::Claimed);
    assert_eq!(attest(2, Comparison::Reproduced, -0.02), Status::Claimed);
    assert_eq!(attest(3, Comparison::Reproduced, -0.015), Status::Confirmed);
    assert_eq!(attest(4, Comparison::Reproduced, 0.02), Status::Refuted);
    assert_eq!(discoveries.next_to_try(&incumbent(), CONTEXT), None);
    let row = &discoveries.rows()[0];
    assert_eq!((row.attestations, row.status), (4, Status::Refuted));
    assert!(discoveries.find(&row.id[..8]).is_ok() && discoveries.find("zzzz").is_err());
}
