//! Tests of discoveries: whose are tried, what is told about them, and what re-runs say.

use autoswarm_protocol::{
    Bpb, CrashClass, KnobGroup, Patch, SwarmConfig, TrainConfig,
    experiment::reproduction_seed,
    record::{Claim, Digest, DigestEnding, DigestLine, sign, verify},
    swarm_config::Objective,
};
use libp2p::identity::Keypair;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::{
    research::{Incumbent, Proposal, Reproduction},
    ui::view::lists::tests::several,
};

const NOW: u64 = 1_795_219_384;
const CONTEXT: usize = 256;

fn objective() -> Objective {
    SwarmConfig::parse(crate::cli::settings::BUILT_IN[0].1).expect("valid").objective
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

/// A kept experiment with one run of the child and one of the parent.
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

fn incumbent() -> Incumbent {
    Incumbent { config: TrainConfig::new().effective(CONTEXT), values: vec![2.5, 2.5] }
}

fn here() -> LocalContext {
    LocalContext {
        arena: ArenaId::of(b"here"),
        context: CONTEXT,
        budget: Budget::Milliseconds(20_000),
        budget_seconds: 20.0,
        hardware: hardware(),
    }
}

/// A node that receives others' records.
struct Node {
    discoveries: Discoveries,
    rng: ChaCha8Rng,
}

impl Node {
    fn new() -> Self {
        Self { discoveries: Discoveries::new(author(1)), rng: ChaCha8Rng::seed_from_u64(7) }
    }

    fn add(&mut self, body: &Body, by: u8) -> RecordId {
        self.add_from(body, by, None)
    }

    fn add_from(&mut self, body: &Body, by: u8, relayed_by: Option<PeerId>) -> RecordId {
        let record = verified(body, by);
        assert_eq!(self.discoveries.add(&record, relayed_by, NOW), by != 1 && record.discovery().is_some());
        record.id()
    }

    fn next(&mut self) -> Option<Proposal> {
        self.discoveries.next_to_try(&incumbent(), &here(), &mut self.rng)
    }

    fn reproduction(&mut self) -> Option<Reproduction> {
        self.discoveries.next_reproduction(&here(), |_| 0.01)
    }

    /// Spends training seconds on this node's own search.
    fn search_for(&mut self, seconds: f64) {
        let mut experiment = several().swap_remove(2);
        for run in &mut experiment.runs {
            if let autoswarm_protocol::Outcome::Finished(report) = &mut run.outcome {
                report.training_seconds = seconds / 2.0;
            }
        }
        self.discoveries.observe(&experiment);
    }

    fn attest(&mut self, of: RecordId, by: u8, comparison: Comparison, delta: f64) -> Status {
        self.attest_on(of, by, comparison, delta, hardware())
    }

    fn attest_on(
        &mut self,
        discovery: RecordId,
        by: u8,
        comparison: Comparison,
        delta: f64,
        hardware: Hardware,
    ) -> Status {
        let body = Body::Attestation(Box::new(Attestation {
            discovery,
            comparison,
            arena: ArenaId::of(b"arena"),
            hardware,
            found: Ok(Estimate { delta, standard_error: 0.004, pairs: 3 }),
            tokens: Some((1024, 1024)),
        }));
        self.add(&body, by);
        self.discoveries.status(discovery)
    }

    /// Makes attester `by` right twice about what this node reproduced too.
    fn calibrate(&mut self, by: u8) {
        let ids = CALIBRATING.map(|patch| self.add(&found(patch, -0.02), 9));
        assert_ne!(ids[0], ids[1], "one answer each");
        for id in ids {
            for attester in [1, by] {
                self.attest(id, attester, Comparison::Reproduced, -0.02);
            }
        }
    }
}

/// Patches of the discoveries by which attesters are calibrated.
const CALIBRATING: [&str; 2] = ["warmdown 0.6", "warmdown 0.7"];

#[test]
fn ideas_are_drawn_by_what_they_promise_and_tried_once() {
    let mut first = [0; 2];
    for seed in 0..50 {
        let mut node = Node::new();
        node.rng = ChaCha8Rng::seed_from_u64(seed);
        node.add(&found("warmup 0.2", -0.5), 1);
        let small = node.add(&found("matrix_lr 0.03", -0.02), 2);
        let large = node.add(&found("matrix_lr 0.05", -0.05), 3);
        let mut seen = BTreeSet::new();
        while let Some(next) = node.next() {
            let [id] = next.hypothesis.inspired_by.as_slice() else { panic!("{next:?}") };
            assert!(next.hypothesis.because.contains("a peer's discovery on this incumbent"));
            let place = usize::from(*id == large.to_string());
            assert!(place == 1 || *id == small.to_string());
            first[place] += u32::from(seen.is_empty());
            assert!(seen.insert(id.clone()), "tried twice");
            let mut dropped = several().swap_remove(2);
            (dropped.hypothesis, dropped.config) = (next.hypothesis, next.child);
            node.discoveries.observe(&dropped);
        }
        assert_eq!(seen.len(), 2);
    }
    assert!(first[0] > 0 && first[1] > 3 * first[0], "{first:?}");
}

#[test]
fn a_peers_gain_gets_a_second_look_where_one_noisy_run_saw_none() {
    let glance = Verdict::Discard { reason: DiscardReason::NoGain, screened: Some(-0.01), estimate: None };
    let pairs =
        Verdict::Discard { reason: DiscardReason::NoGain, screened: None, estimate: Some(estimate()) };
    let loser = Verdict::Discard { reason: DiscardReason::ClearLoser, screened: Some(0.3), estimate: None };
    let looks = [(&glance, 0, true), (&glance, 1, false), (&pairs, 0, false), (&loser, 0, false)];
    for (verdict, attempt, again) in looks {
        let mut node = Node::new();
        node.add(&found("warmup 0.1", -0.05), 2);
        let mut experiment = several().swap_remove(2);
        experiment.config = node.next().expect("an idea").child;
        experiment.hypothesis.inspired_by.clear();
        (experiment.verdict, experiment.attempt) = (verdict.clone(), attempt);
        node.discoveries.observe(&experiment);
        assert_eq!(node.next().is_some(), again, "{verdict:?}, attempt {attempt}");
    }
}

#[test]
fn what_the_incumbent_has_already_is_nothing_to_try() {
    let mut node = Node::new();
    node.add(&found("warmup 0.1", -0.05), 2);
    let child = node.next().expect("one").child;
    let incumbent = Incumbent { config: child, values: vec![2.3] };
    assert_eq!(node.discoveries.next_to_try(&incumbent, &here(), &mut node.rng), None);
}

#[test]
fn two_gains_are_tried_at_once_and_whole_configs_where_levels_can_be_compared() {
    let mut node = Node::new();
    node.add(&found("warmup 0.1", -0.05), 2);
    node.add(&found("matrix_lr 0.03", -0.05), 3);
    let Body::Discovery(mut better) = found("softcap 20", -0.001) else { panic!("a discovery") };
    better.arena = here().arena;
    better.level = Bpb::new(2.2).expect("positive");
    let adopted = node.add(&Body::Discovery(better), 4).to_string();
    let mut kinds = BTreeSet::new();
    for _ in 0..200 {
        let next = node.next().expect("always one");
        let Proposal { child, hypothesis } = &next;
        assert_eq!(Patch::between(&incumbent().config, child), hypothesis.patch);
        kinds.insert((hypothesis.inspired_by.len(), hypothesis.because.split(' ').nth(1).map(str::to_owned)));
        if hypothesis.because.contains("whole config") {
            assert_eq!(hypothesis.inspired_by.as_slice(), std::slice::from_ref(&adopted));
        }
    }
    let word = |text: &str| Some(text.to_owned());
    assert!(kinds.contains(&(2, word("peers'"))) && kinds.contains(&(1, word("peer's"))), "{kinds:?}");
}

/// Runs sixty experiments beside forty ideas of one author; every `helps`-th try of an idea is kept. Returns
/// how many experiments tried one.
fn inspired_of_sixty(helps: usize) -> usize {
    let mut node = Node::new();
    for n in 1..=40 {
        node.add(&found(&format!("warmup {}", f64::from(n) / 100.0), -0.02), 2);
    }
    let mut inspired = 0;
    for _ in 0..60 {
        let mut experiment = several().swap_remove(2);
        if let Some(Proposal { child, hypothesis }) = node.next() {
            inspired += 1;
            if inspired % helps == 0 {
                experiment = keep();
            }
            (experiment.hypothesis, experiment.config) = (hypothesis, child);
        }
        node.discoveries.observe(&experiment);
    }
    inspired
}

#[test]
fn others_ideas_have_their_share_and_next_to_none_while_nothing_helps() {
    let (helping, useless) = (inspired_of_sixty(2), inspired_of_sixty(1000));
    assert!((18..=24).contains(&helping), "{helping} of 60");
    assert!((2..=6).contains(&useless), "{useless} of 60");
}

#[test]
fn an_enormous_claim_of_an_unproven_author_draws_no_more_than_a_large_one() {
    let first = |claim: f64, level: f64| -> Vec<Proposal> {
        let draw = |seed| {
            let mut node = Node::new();
            node.rng = ChaCha8Rng::seed_from_u64(seed);
            node.add(&found("matrix_lr 0.03", -0.02), 2);
            node.add(&found("warmup 0.1", -0.03), 3);
            // Many claims of one author are one voice in the median.
            for n in 0..5 {
                let Body::Discovery(mut lie) = found(&format!("softcap {}", 20 + n), -claim) else {
                    panic!()
                };
                (lie.arena, lie.level) = (here().arena, Bpb::new(level).expect("positive"));
                node.add(&Body::Discovery(lie), 4);
            }
            node.next().expect("several")
        };
        (0..40).map(draw).collect()
    };
    // The median claim is 0.03 and the cap twice that, so 0.06 counts in full and 5 counts as 0.06.
    let (large, enormous) = (first(0.06, 2.37), first(5.0, 0.1));
    // Another claim makes another id, and ids break ties; how often each is drawn stays the same.
    let draws = |all: &[Proposal]| {
        let mut counts = BTreeMap::new();
        for proposal in all {
            *counts.entry(proposal.child.hash()).or_insert(0) += 1;
        }
        let mut counts: Vec<u32> = counts.into_values().collect();
        counts.sort_unstable();
        counts
    };
    assert_eq!(draws(&large), draws(&enormous));
}

#[test]
fn strangers_results_are_hardly_believed_and_those_of_who_agreed_with_own_runs_are() {
    let line = |patch: &str, delta: f64| {
        let Body::Discovery(discovery) = found(patch, -0.02) else { panic!("a discovery") };
        let config = ConfigHash::of(&discovery.config.canonical_bytes());
        let found = Some(Estimate { delta, standard_error: 0.01, pairs: 1 });
        DigestLine { config, patch: discovery.patch, ending: DigestEnding::Discarded, found }
    };
    let mut node = Node::new();
    let say = |node: &mut Node, lines: Vec<DigestLine>, by: u8| {
        node.add(&Body::Digest(Digest { arena: here().arena, lines }), by);
    };
    let results = [("warmup 0.1", 0.1), ("warmup 0.2", 0.3), ("softcap 20", 0.05), ("softcap 30", 0.2)];
    let all = |of: fn(f64) -> f64| results.iter().map(|(patch, delta)| line(patch, of(*delta))).collect();
    say(&mut node, all(|delta| delta), 1);
    say(&mut node, all(|delta| 0.9 * delta + 0.01), 2);
    say(&mut node, all(|delta| -delta), 3);
    for (by, patch) in (2..).zip(["matrix_lr 0.02", "matrix_lr 0.03", "matrix_lr 0.05"]) {
        say(&mut node, vec![line(patch, -0.2)], by);
    }
    let peer_results = node.discoveries.take_peer_results(here().arena, NOW).expect("news");
    let belief = |patch: &str| {
        let is = |result: &&crate::research::PeerResult| result.patch.to_string().ends_with(patch);
        peer_results.results.iter().find(is).expect("heard").belief
    };
    let [honest, liar, stranger] = ["0.02", "0.03", "0.05"].map(belief);
    assert!(honest > 0.9 && liar < 0.01 && (stranger - 0.1).abs() < 1e-9, "{honest} {liar} {stranger}");
}

#[test]
fn a_keep_is_told_once_as_a_discovery_that_every_peer_accepts() {
    let mut node = Node::new();
    let keep = keep();
    let told = |node: &Node| node.discoveries.to_publish(&keep, &hardware(), Budget::Class(1), 0.01);
    let bodies = told(&node);
    assert!(matches!(bodies.as_slice(), [Body::Discovery(_)]), "{bodies:?}");
    let record = verified(&bodies[0], 1);
    assert_eq!(record.discovery().expect("a discovery").value().patch, keep.hypothesis.patch);
    node.add(&bodies[0], 1);
    assert_eq!(told(&node), [], "after a restart it is known");
    for other in
        several().into_iter().filter(|experiment| !matches!(experiment.verdict, Verdict::Keep { .. }))
    {
        assert_eq!(node.discoveries.to_publish(&other, &hardware(), Budget::Class(1), 0.01), []);
    }
}

#[test]
fn results_are_told_in_short_once_failures_too() {
    let mut node = Node::new();
    let lines: Vec<DigestLine> =
        several().iter().filter_map(|experiment| node.discoveries.line(experiment, 0.01)).collect();
    let endings: Vec<DigestEnding> = lines.iter().map(|line| line.ending).collect();
    assert_eq!(endings, [DigestEnding::Kept, DigestEnding::Discarded, DigestEnding::Crashed]);
    node.add(&digest(several()[1].arena, lines), 1);
    assert!(several().iter().all(|experiment| node.discoveries.line(experiment, 0.01).is_none()));
}

#[test]
fn trying_somebody_elses_discovery_is_told_as_a_re_run_and_never_as_ones_own() {
    let mut node = Node::new();
    let keep = several().swap_remove(1);
    let id = node.add(&found(&keep.hypothesis.patch.to_string(), -0.02), 2);
    let of = |index: usize| {
        let mut experiment = tried(id, several().swap_remove(index).verdict);
        experiment.hypothesis.patch = keep.hypothesis.patch.clone();
        experiment
    };
    for (experiment, ok) in [(of(1), true), (of(2), true), (of(3), false)] {
        let bodies = node.discoveries.to_publish(&experiment, &hardware(), Budget::Class(1), 0.01);
        let [Body::Attestation(attestation)] = bodies.as_slice() else { panic!("{bodies:?}") };
        assert_eq!((attestation.discovery, attestation.found.is_ok()), (id, ok));
        assert_eq!(attestation.comparison, Comparison::Transplants);
        verified(&bodies[0], 1);
    }
    // A crash that this machine caused says nothing about the discovery.
    let mut spoiled = of(3);
    spoiled.verdict = Verdict::Crash { class: CrashClass::Starved, message: "busy".to_owned() };
    let comparison = Comparison::Reproduced;
    let again = tried(id, Verdict::Reproduction { comparison, found: Err(CrashClass::Killed) });
    for experiment in [spoiled, again] {
        assert_eq!(node.discoveries.to_publish(&experiment, &hardware(), Budget::Class(1), 0.01), []);
    }
    // Together with something else it is this node's own finding, and says nothing about the peer's.
    let mut more = tried(id, keep.verdict.clone());
    let parent = TrainConfig::default();
    more.hypothesis.patch = Patch::parse("depth 3, width 160", &parent).expect("a patch");
    more.config = more.hypothesis.patch.apply(&parent).expect("applies").effective(CONTEXT);
    more.runs = self::keep().runs;
    for run in more.runs.iter_mut().filter(|run| Some(run.requested) != more.parent) {
        run.requested = more.config.hash();
    }
    let bodies = node.discoveries.to_publish(&more, &hardware(), Budget::Class(1), 0.01);
    let [Body::Discovery(discovery)] = bodies.as_slice() else { panic!("{bodies:?}") };
    assert_eq!(discovery.inspirations, [id]);
    let told = node.discoveries.to_publish(&of(1), &hardware(), Budget::Class(1), 0.01);
    node.add(&told[0], 1);
    assert_eq!(node.discoveries.to_publish(&of(1), &hardware(), Budget::Class(1), 0.01), []);
}

#[test]
fn only_reproductions_by_others_confirm_and_strangers_refute_nothing() {
    let mut node = Node::new();
    let id = node.add(&found("warmup 0.1", -0.02), 2);
    assert_eq!(node.attest(id, 3, Comparison::Transplants, 0.3), Status::Claimed);
    assert_eq!(node.attest(id, 2, Comparison::Reproduced, -0.02), Status::Claimed, "its own author");
    assert_eq!(node.attest(id, 3, Comparison::Reproduced, 0.2), Status::Claimed, "a stranger");
    let other = node.add(&found("warmup 0.15", -0.02), 2);
    assert_eq!(node.attest(other, 3, Comparison::Reproduced, -0.015), Status::Seconded);
    assert_eq!(node.attest(other, 3, Comparison::Reproduced, 0.2), Status::Seconded, "one answer each");
    assert_eq!(node.attest(other, 1, Comparison::Reproduced, -0.015), Status::Confirmed);
    assert_eq!(node.attest(id, 1, Comparison::Reproduced, 0.02), Status::Refuted);
    let row = node
        .discoveries
        .list(&DiscoveryFilter::default())
        .rows
        .into_iter()
        .find(|row| row.id == id.to_string())
        .expect("there");
    assert_eq!((row.attestations, row.status), (4, Status::Refuted));
    assert!(node.discoveries.find(&row.id[..8]).is_ok() && node.discoveries.find("zzzz").is_err());
}

#[test]
fn who_was_right_before_can_refute_and_one_class_alone_limits() {
    let mut node = Node::new();
    node.calibrate(3);
    let id = node.add(&found("warmup 0.1", -0.02), 2);
    assert_eq!(node.attest(id, 3, Comparison::Reproduced, 0.02), Status::Refuted);
    let large = Hardware { tokens_per_second: 1e6, ..hardware() };
    let by = |node: &mut Node, key| node.attest_on(id, key, Comparison::Reproduced, -0.02, large.clone());
    assert_eq!(by(&mut node, 5), Status::Refuted, "a stranger's word takes nothing back");
    node.calibrate(4);
    assert_eq!(by(&mut node, 4), Status::Limited);
}

#[test]
fn an_author_whose_claims_fail_is_no_longer_tried() {
    let mut node = Node::new();
    for n in 1..=2 {
        let id = node.add(&found(&format!("warmup 0.{n}"), -0.9), 2);
        assert_eq!(node.attest(id, 1, Comparison::Reproduced, 0.0), Status::Refuted);
    }
    node.add(&found("softcap 20", -0.9), 2);
    assert!(node.discoveries.trust().is_distrusted(author(2)));
    assert_eq!(node.next(), None);
}

#[test]
fn a_re_run_waits_for_its_share_and_takes_the_authors_terms() {
    let mut node = Node::new();
    let id = node.add(&found("warmup 0.1", -0.02), 2);
    assert_eq!(node.reproduction(), None, "nothing was spent yet");
    // Three pairs of runs of twenty seconds are 120 s: a tenth of 1200 s.
    node.search_for(1075.0);
    assert_eq!(node.reproduction(), None);
    node.search_for(20.0);
    let reproduction = node.reproduction().expect("affordable");
    assert_eq!(reproduction.discovery, id);
    assert_eq!(reproduction.terms.comparison, Comparison::Reproduced);
    assert_eq!(reproduction.terms.tokens, Some((812_032, 812_032)));
    assert_eq!(reproduction.seeds, [0, 1, 2].map(|index| reproduction_seed(id, author(1), index)));
    assert_eq!(Patch::between(&reproduction.parent, &reproduction.child), reproduction.hypothesis.patch);
    let mut done =
        tried(id, Verdict::Reproduction { comparison: Comparison::Reproduced, found: Ok(estimate()) });
    done.hypothesis.patch = reproduction.hypothesis.patch.clone();
    let bodies = node.discoveries.to_publish(&done, &hardware(), Budget::Class(1), 0.01);
    let [Body::Attestation(attestation)] = bodies.as_slice() else { panic!("{bodies:?}") };
    assert_eq!(attestation.comparison, Comparison::Reproduced);
    node.add(&bodies[0], 1);
    assert_eq!(node.discoveries.status(id), Status::Confirmed);
    node.discoveries.observe(&done);
    node.search_for(1e4);
    assert_eq!(node.reproduction(), None, "once is enough");
    assert!(node.next().is_some(), "a re-run is no try");
}

fn estimate() -> Estimate {
    Estimate { delta: -0.018, standard_error: 0.004, pairs: 3 }
}

#[test]
fn strangers_re_runs_keep_no_discovery_from_being_looked_at() {
    let mut node = Node::new();
    for attester in 3..6 {
        node.calibrate(attester);
    }
    for patch in CALIBRATING {
        let known = node.add(&found(patch, -0.02), 9);
        let verdict = Verdict::Reproduction { comparison: Comparison::Reproduced, found: Ok(estimate()) };
        node.discoveries.observe(&tried(known, verdict));
    }
    node.search_for(1e5);
    assert_eq!(node.reproduction(), None, "what was run here is not run again");
    let id = node.add(&found("warmup 0.1", -0.02), 2);
    for stranger in 30..40 {
        node.attest(id, stranger, Comparison::Reproduced, -0.02);
    }
    assert_eq!(node.reproduction().expect("one to look at").discovery, id);
    for known in 3..5 {
        node.attest(id, known, Comparison::Reproduced, -0.02);
    }
    assert_eq!(node.reproduction(), None, "two that are known and a crowd");
}

#[test]
fn what_takes_too_long_is_run_within_ones_own_budget_and_what_cannot_be_seen_not_at_all() {
    let mut node = Node::new();
    node.search_for(1e5);
    let Body::Discovery(mut large) = found("warmup 0.1", -0.02) else { panic!("a discovery") };
    large.hardware.tokens_per_second = 1e6;
    node.add(&Body::Discovery(large), 2);
    node.add(&found("warmup 0.2", -0.001), 2);
    let reproduction = node.reproduction().expect("one of the two");
    assert_eq!((reproduction.terms.comparison, reproduction.terms.tokens), (Comparison::Transfers, None));
}

#[test]
fn re_runs_go_evenly_to_relays_and_half_to_proven_authors_whatever_they_claim() {
    let mut node = Node::new();
    node.calibrate(3);
    let (flood, quiet) = (PeerId::random(), PeerId::random());
    for n in 0..40 {
        // A peer with many new authors and enormous claims.
        let body = found(&format!("warmup {}", 0.01 * f64::from(n + 1)), -5.0);
        node.add_from(&body, 50 + n as u8, Some(flood));
    }
    for n in 0..10 {
        node.add_from(&found(&format!("matrix_lr 0.0{}", n + 5), -0.02), 20 + n, Some(quiet));
        node.add(&found("softcap 30", -0.02 - 0.001 * f64::from(n)), 9);
    }
    let mut seconds: BTreeMap<&str, f64> = BTreeMap::new();
    for _ in 0..24 {
        node.search_for(1e4);
        let reproduction = node.reproduction().expect("plenty");
        let patch = reproduction.hypothesis.patch.to_string();
        let knobs = ["warmup", "matrix_lr", "softcap", "warmdown"];
        let lane = knobs.into_iter().find(|knob| patch.starts_with(knob));
        // The discoveries by which attesters were calibrated are the proven author's too.
        let lane = lane.map(|knob| if knob == "warmdown" { "softcap" } else { knob });
        *seconds.entry(lane.expect("one of them")).or_default() += 1.0;
        let verdict = Verdict::Reproduction { comparison: Comparison::Reproduced, found: Ok(estimate()) };
        let mut done = tried(reproduction.discovery, verdict);
        done.hypothesis.patch = reproduction.hypothesis.patch;
        node.discoveries.observe(&done);
    }
    // Half goes to the proven author, the rest evenly to two relays; where the turns stop moves the last
    // shares.
    assert!(seconds["softcap"] >= 8.0, "{seconds:?}");
    assert!((seconds["warmup"] - seconds["matrix_lr"]).abs() <= 2.0, "{seconds:?}");
}

#[test]
fn peer_reports_count_an_author_once_and_claims_end() {
    let mut node = Node::new();
    let line = |delta: f64| {
        let Body::Discovery(discovery) = found("warmup 0.1", -0.02) else { panic!("a discovery") };
        let found = Some(Estimate { delta, standard_error: 0.01, pairs: 1 });
        DigestLine {
            config: ConfigHash::of(&discovery.config.canonical_bytes()),
            patch: discovery.patch,
            ending: DigestEnding::Discarded,
            found,
        }
    };
    let say = |node: &mut Node, arena: ArenaId, delta: f64, by: u8| {
        node.add(&Body::Digest(Digest { arena, lines: vec![line(delta); 64] }), by);
    };
    assert!(node.discoveries.take_peer_results(here().arena, NOW).is_none());
    for _ in 0..50 {
        say(&mut node, here().arena, 0.1, 2);
    }
    let peer_results = node.discoveries.take_peer_results(here().arena, NOW).expect("news");
    let [result] = peer_results.results.as_slice() else { panic!("{peer_results:?}") };
    assert!((result.delta - 0.1).abs() < 1e-9 && result.authors == 1 && result.same_arena);
    assert!((result.standard_error - 0.005).abs() < 1e-9, "as sure as four reports: {result:?}");
    say(&mut node, here().arena, -0.1, 3);
    say(&mut node, ArenaId::of(b"elsewhere"), 0.2, 4);
    node.add(&Body::Claim(Claim { config: ConfigHash::of(b"c"), seconds: 60 }), 3);
    let peer_results = node.discoveries.take_peer_results(here().arena, NOW).expect("news");
    assert_eq!(peer_results.results.len(), 2);
    assert!(peer_results.results.iter().any(|result| result.authors == 2 && result.delta.abs() < 1e-9));
    assert!(peer_results.results.iter().any(|result| !result.same_arena));
    assert_eq!(peer_results.claimed.len(), 1);
    assert!(node.discoveries.take_peer_results(here().arena, NOW).is_none(), "nothing new");
    say(&mut node, here().arena, 0.1, 5);
    let later = node.discoveries.take_peer_results(here().arena, NOW + 61).expect("news");
    assert!(later.claimed.is_empty());
    // An author whose claims were refuted is not listened to.
    for n in 1..=2 {
        let id = node.add(&found(&format!("softcap {}", 20 + n), -0.9), 4);
        node.attest(id, 1, Comparison::Reproduced, 0.0);
    }
    say(&mut node, here().arena, 0.1, 5);
    let without = node.discoveries.take_peer_results(here().arena, NOW).expect("news");
    assert!(without.results.iter().all(|result| result.same_arena), "{without:?}");
}

#[test]
fn groups_that_travel_are_preferred() {
    let mut node = Node::new();
    let id = node.add(&found("warmup 0.1", -0.02), 2);
    for by in 3..20 {
        node.attest(id, by, Comparison::Transplants, 0.05);
    }
    let transfer = node.discoveries.transfer(&here());
    let from = SpeedClass::of(&hardware());
    let [schedule, shape] = [KnobGroup::Schedule, KnobGroup::Shape].map(|group| transfer.chance(group, from));
    assert!(schedule < 0.2 && (shape - 0.5).abs() < 1e-9, "{schedule} {shape}");
}
