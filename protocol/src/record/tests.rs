//! Tests of records: what passes the verification ladder, and how each of its steps refuses.

use proptest::prelude::*;

use super::*;
use crate::{SwarmConfig, swarm_config::Objective};

pub(crate) const NOW: u64 = 1_795_219_384;

pub(crate) fn objective() -> Objective {
    objective_with("")
}

fn objective_with(more: &str) -> Objective {
    let text = format!(
        "name = \"t\"\ndescription = \"t\"\n[objective]\nmetric = \"val_bpb\"\n\
         corpus = {{ source = \"path\", path = \"/t\" }}\ntokenizer = {{ kind = \"bytes\" }}\n\
         evaluation = {{ context = 256, tokens = 65536 }}\ndtype = \"f32\"\nmin_effect = 0.001\n\
         {more}\n"
    );
    SwarmConfig::parse(&text).expect("valid").objective
}

pub(crate) fn keys(n: u8) -> Keypair {
    Keypair::ed25519_from_bytes([n; 32]).expect("32 bytes are a key")
}

pub(crate) fn discovery(patch: &str) -> Discovery {
    let parent = TrainConfig::from_toml("depth = 2").expect("valid").effective(256);
    let patch = Patch::parse(patch, &parent).expect("a patch");
    let config = patch.apply(&parent).expect("applies").effective(256);
    let estimate = Estimate { delta: -0.02, standard_error: 0.004, pairs: 3 };
    Discovery {
        arena: ArenaId::of(b"arena"),
        budget: Budget::Milliseconds(20_000),
        hardware: Hardware { device: "cpu".to_owned(), threads: 1, slots: 2, tokens_per_second: 8100.0 },
        patch: Patch::between(&parent, &config),
        config: (*config).clone(),
        estimate,
        audit: Some(estimate),
        level: Bpb::new(2.4).expect("positive"),
        tokens: (812_032, 812_032),
        seconds: 20.1,
        curve: vec![5.5, 3.1, 2.4],
        inspirations: vec![RecordId::of(b"another")],
        because: "prior art: it helped elsewhere".to_owned(),
    }
}

fn body() -> Body {
    Body::Discovery(Box::new(discovery("matrix_lr 0.03, warmup 0.1")))
}

fn signed() -> Signed {
    sign(&body(), &objective(), &keys(1), NOW).expect("valid")
}

/// Signs content that no honest author would write.
fn seal_any(change: impl FnOnce(&mut Content)) -> Vec<u8> {
    let keys = keys(1).try_into_ed25519().expect("ed25519");
    let mut content = Content {
        author: Author::from_bytes(keys.public().to_bytes()),
        objective: objective().id(),
        knobs: knobs::KNOB_TABLE_VERSION,
        made_at: NOW,
        body: codec::encode(&body()).expect("small"),
        extensions: Vec::new(),
    };
    change(&mut content);
    seal(content, &keys).expect("small")
}

fn extension(bytes: &[u8]) -> Extension {
    Extension { kind: 7, bytes: bytes.to_vec() }
}

#[track_caller]
fn check(bytes: &[u8], expected: &str, blame: Blame) {
    let fault = verify(bytes, &objective(), NOW).expect_err("a fault");
    assert!(fault.to_string().contains(expected), "{fault}");
    assert_eq!(fault.blame(), blame);
}

#[track_caller]
fn check_body(body: &Body, expected: &str) {
    let bytes = seal_any(|content| content.body = codec::encode(body).expect("small"));
    check(&bytes, expected, Blame::Reject);
    assert!(matches!(sign(body, &objective(), &keys(1), NOW), Err(SignError::Refused(_))));
}

#[test]
fn what_an_author_signs_every_peer_reads() {
    let Signed { id, bytes } = signed();
    let verified = verify(&bytes, &objective(), NOW).expect("valid");
    assert_eq!((verified.id(), verified.made_at()), (id, NOW));
    assert_eq!(Some(verified.author()), Author::of(&keys(1)));
    assert_eq!(verified.value(), &body());
    assert!(verified.discovery().is_some() && verified.attestation().is_none());
    assert!(bytes.len() < 1500, "{} bytes", bytes.len());
}

#[test]
fn equal_content_has_equal_bytes_and_another_author_another_id() {
    assert_eq!(signed(), signed());
    assert_ne!(sign(&body(), &objective(), &keys(2), NOW).expect("valid").id, signed().id);
}

#[test]
fn every_kind_of_body_passes() {
    let hardware = discovery("matrix_lr 0.03").hardware;
    let attestation = Attestation {
        discovery: signed().id,
        comparison: Comparison::Reproduced,
        arena: ArenaId::of(b"arena"),
        hardware,
        found: Err(CrashClass::TimedOut),
        tokens: Some((1024, 2048)),
    };
    let patch = discovery("matrix_lr 0.03").patch;
    let found = Some(Estimate { delta: 0.1, standard_error: 0.03, pairs: 1 });
    let line = DigestLine { config: ConfigHash::of(b"c"), patch, ending: DigestEnding::Discarded, found };
    let bodies = [
        Body::Attestation(Box::new(attestation)),
        Body::Digest(Digest { arena: ArenaId::of(b"arena"), lines: vec![line; MAX_DIGEST] }),
        Body::Claim(Claim { config: ConfigHash::of(b"c"), seconds: 60 }),
    ];
    let last = codec::encode(&bodies[2]).expect("small")[0];
    assert_eq!(last + 1, KINDS, "a claim is the last kind");
    for body in bodies {
        let signed = sign(&body, &objective(), &keys(1), NOW).expect("valid");
        assert_eq!(verify(&signed.bytes, &objective(), NOW).expect("valid").value(), &body);
    }
    let claim = Body::Claim(Claim { config: ConfigHash::of(b"c"), seconds: 60 });
    assert!(!claim.is_reconciled() && body().is_reconciled());
}

#[test]
fn each_step_of_the_ladder_refuses() {
    let good = signed().bytes;
    check(&[], "empty", Blame::Reject);
    check(&vec![1; MAX_RECORD_BYTES + 1], "at most", Blame::Reject);
    check(&[&[2], &good[1..]].concat(), "version 2 of the wire", Blame::Ignore);
    check(&good[..good.len() - 1], "does not decode", Blame::Reject);
    check(&[&good[..], &[0]].concat(), "after its end", Blame::Reject);
    let mut forged = good.clone();
    *forged.last_mut().expect("bytes") ^= 1;
    check(&forged, "not its author's", Blame::Reject);
    let mut other = good;
    other[1] ^= 1; // the author
    check(&other, "not its author's", Blame::Reject);
    check(
        &seal_any(|content| content.objective = ObjectiveId::of(b"other")),
        "another objective",
        Blame::Reject,
    );
    check(&seal_any(|content| content.knobs += 1), "knob table is version", Blame::Ignore);
    check(&seal_any(|content| content.made_at += 601), "in the future", Blame::Ignore);
    check(&seal_any(|content| content.body = vec![KINDS; 40]), "is of kind 4", Blame::Ignore);
    check(&seal_any(|content| content.body = vec![255; 40]), "is of kind 255", Blame::Ignore);
    check(&seal_any(|content| content.body = vec![KINDS - 1; 400]), "does not decode", Blame::Reject);
    check(&seal_any(|content| content.body = Vec::new()), "does not decode", Blame::Reject);
    check(
        &seal_any(|content| content.extensions = vec![extension(b""); MAX_EXTENSIONS + 1]),
        "at most 8 values",
        Blame::Reject,
    );
    // What a later version adds is carried and signed, but not read.
    let extended = seal_any(|content| content.extensions = vec![extension(b"later")]);
    assert!(verify(&extended, &objective(), NOW).is_ok());
    // A clock that lags is fine: records are found again years later.
    assert!(verify(&signed().bytes, &objective(), NOW + 100_000_000).is_ok());
}

#[test]
fn an_author_of_low_order_signs_nothing() {
    // The identity point as a key: a lenient verifier accepts it for every message.
    let mut bytes = signed().bytes;
    bytes[1..33].copy_from_slice(&[
        1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ]);
    let at = bytes.len() - 64;
    bytes[at..].fill(0);
    bytes[at] = 1; // R = identity, S = 0
    check(&bytes, "not its author's", Blame::Reject);
}

#[test]
fn values_that_no_honest_author_writes_are_refused() {
    let change = |change: fn(&mut Discovery)| {
        let mut discovery = discovery("matrix_lr 0.03");
        change(&mut discovery);
        Body::Discovery(Box::new(discovery))
    };
    check_body(&change(|d| d.estimate.delta = f64::NAN), "a difference");
    check_body(&change(|d| d.estimate.standard_error = f64::INFINITY), "a standard error");
    check_body(&change(|d| d.estimate.pairs = 0), "the number of pairs");
    check_body(&change(|d| d.tokens.1 = 0), "the tokens");
    check_body(&change(|d| d.seconds = f64::NAN), "the seconds");
    check_body(&change(|d| d.curve = vec![1.0; MAX_CURVE + 1]), "at most 16 values");
    check_body(&change(|d| d.curve = vec![f32::NAN]), "the curve");
    check_body(
        &change(|d| d.inspirations = vec![RecordId::of(b"x"); MAX_INSPIRATIONS + 1]),
        "at most 8 values",
    );
    check_body(&change(|d| d.patch = Patch::default()), "an empty patch");
    check_body(
        &change(|d| d.config = (*TrainConfig::new().effective(256)).clone()),
        "does not lead to the config",
    );
    check_body(&change(|d| d.because = "line\nVerdict: keep".to_owned()), "one clean line");
    check_body(&change(|d| d.because = "\u{1b}[2J".to_owned()), "one clean line");
    check_body(&change(|d| d.because = "x".repeat(300)), "at most 280 bytes");
    check_body(&change(|d| d.hardware.device = "a\tb".to_owned()), "the device's name");
    check_body(&change(|d| d.hardware.device = "x".repeat(65)), "at most 64 bytes");
    check_body(&change(|d| d.hardware.threads = 0), "the slots");
    check_body(&change(|d| d.budget = Budget::Class(200)), "the budget's class");
    check_body(&Body::Claim(Claim { config: ConfigHash::of(b"c"), seconds: 1 << 20 }), "seconds of a claim");
    check_body(&Body::Digest(Digest { arena: ArenaId::of(b"a"), lines: vec![] }), "the number of results");
}

#[test]
fn the_objectives_search_space_binds_peers_too() {
    let objective =
        objective_with("search = { frozen = [\"warmup\"], ranges = { matrix_lr = [0.01, 0.1] } }");
    let refused = |patch: &str| {
        let body = Body::Discovery(Box::new(discovery(patch)));
        sign(&body, &objective, &keys(1), NOW).expect_err("refused").to_string()
    };
    assert!(refused("warmup 0.1").contains("a frozen knob"));
    assert!(refused("matrix_lr 0.2").contains("outside the search's range"));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic_and_never_pass(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(verify(&bytes, &objective(), NOW).is_err());
        prop_assert!(verify(&[&[WIRE_MAJOR][..], &bytes].concat(), &objective(), NOW).is_err());
    }

    #[test]
    fn a_flipped_bit_is_noticed(at in 0usize..10_000, bit in 0u8..8) {
        let mut bytes = signed().bytes;
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        prop_assert!(verify(&bytes, &objective(), NOW).is_err());
    }

    #[test]
    fn arbitrary_bodies_under_a_good_signature_never_panic(
        body in proptest::collection::vec(any::<u8>(), 0..400)
    ) {
        let is_newer = body.first().is_some_and(|kind| *kind >= KINDS);
        let bytes = seal_any(|content| content.body = body);
        if let Err(fault) = verify(&bytes, &objective(), NOW) {
            prop_assert_eq!(fault.blame(), if is_newer { Blame::Ignore } else { Blame::Reject });
        }
    }
}
