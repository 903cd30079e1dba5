//! What peers found, as this node knows it: their discoveries, what re-runs showed, and what else was tried.
//!
//! From this follows what to try here next, what to re-run for others, and what to tell the swarm. The code
//! is pure: time and chance are arguments. How records arrive is not here: see [`crate::swarm::network`] and
//! [`crate::swarm::git`].
//!
//! **A peer's config is data; it is adopted only after it won here, on fresh pairs.**

mod autoresearch;
mod choose;
mod export;
pub(crate) mod inspect;
mod lanes;
mod lineage;
pub(crate) mod overview;
mod peer_reports;
mod promise;
mod reproductions;
mod tell;
mod transfer;
mod trust;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::OnceLock,
};

use autoswarm_protocol::{
    Budget, Estimate, Experiment, Verdict,
    experiment::{Comparison, DiscardReason},
    id::{ArenaId, Author, ConfigHash, RecordId},
    record::{Attestation, Body, Discovery, Hardware, Verified},
};
use libp2p::PeerId;
use serde::{Deserialize, Serialize};

use peer_reports::PeerReports;
use promise::Promise;
use transfer::Transfer;
pub use {
    autoresearch::autoresearch,
    export::{toml, tsv},
    inspect::{AttestationRow, Details, DiscoveryFilter, DiscoveryRow, Listing, MAX_ROWS, Says, Sort, Whose},
    lineage::{Kin, KnownRelative, Lineage},
    overview::{Arrivals, Arrived, Count, News, PeerFacts, SwarmView, Trying},
    tell::digest,
    transfer::SpeedClass,
    trust::Trust,
};

/// Where this node works: its arena, budget and machine. They decide which findings of others concern it.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalContext {
    /// The arena of the session.
    pub arena: ArenaId,
    /// Length of the evaluation context, tokens.
    pub context: usize,
    /// The training budget of one run in this session.
    pub budget: Budget,
    /// That budget in seconds of training.
    pub budget_seconds: f64,
    /// This machine; its throughput sets its class of hardware.
    pub hardware: Hardware,
}

/// What the re-runs known here say of a discovery's claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// No reproduction says anything yet.
    Claimed,
    /// Reproductions agree, but only by attesters not yet found right here: all of them may be one liar.
    Seconded,
    /// A reproduction agrees: this node's own, or one by an attester who was found right here before.
    Confirmed,
    /// Reproductions agree on some classes of hardware and exclude it on others.
    Limited,
    /// Reproductions exclude the claim.
    Refuted,
}

impl Status {
    /// Returns the name used in lists.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Claimed => "claimed",
            Self::Seconded => "seconded",
            Self::Confirmed => "confirmed",
            Self::Limited => "limited",
            Self::Refuted => "refuted",
        }
    }
}

/// A discovery, its author, and how it came here.
#[derive(Debug, Clone)]
struct KnownDiscovery {
    discovery: Discovery,
    author: Author,
    made_at: u64,
    /// The connected peer that relayed it; none after a restart, and for this node's own discoveries.
    relayed_by: Option<PeerId>,
}

/// A re-run of a discovery, with the node that signed it.
#[derive(Debug, Clone)]
struct Attested {
    author: Author,
    attestation: Attestation,
}

/// Training seconds of this node's experiments, baselines left out: in all, and of re-runs for others.
#[derive(Debug, Clone, Copy, Default)]
struct Spent {
    all: f64,
    reproductions: f64,
}

/// All discoveries, re-runs and digests that are known here, and what this node did about them.
#[derive(Debug)]
pub struct Discoveries {
    own: Author,
    found: BTreeMap<RecordId, KnownDiscovery>,
    /// Re-runs by the discovery that they are of, which may not have come yet. As many as the archive holds.
    attestations: BTreeMap<RecordId, Vec<Attested>>,
    /// Whom to believe by those re-runs. Kept until the next record, since judging walks through all of them.
    trust: OnceLock<Trust>,
    /// How many discoveries build on each.
    children: BTreeMap<RecordId, u32>,
    peer_reports: PeerReports,
    /// Discoveries that inspired an experiment here.
    tried: BTreeSet<RecordId>,
    /// Whose ideas help here. This never moves trust.
    promise: Promise,
    /// Configs that were tried here and need no further try: see [`is_settled`].
    settled: BTreeSet<ConfigHash>,
    /// Configs of others' discoveries, so that an adopted copy is not published as this node's own.
    configs: BTreeSet<ConfigHash>,
    experiments: u32,
    inspired: u32,
    spent: Spent,
    lanes: lanes::Lanes,
}

impl Discoveries {
    /// Makes an empty collection for a node that signs as `own`.
    pub fn new(own: Author) -> Self {
        Self {
            own,
            found: BTreeMap::new(),
            attestations: BTreeMap::new(),
            trust: OnceLock::new(),
            children: BTreeMap::new(),
            peer_reports: PeerReports::default(),
            tried: BTreeSet::new(),
            promise: Promise::default(),
            settled: BTreeSet::new(),
            configs: BTreeSet::new(),
            experiments: 0,
            inspired: 0,
            spent: Spent::default(),
            lanes: lanes::Lanes::default(),
        }
    }

    /// Takes in a record that the peer `relayed_by` sent; `now` is in seconds since 1970. Returns whether it
    /// is a discovery of somebody else.
    pub fn add(&mut self, record: &Verified<Body>, relayed_by: Option<PeerId>, now: u64) -> bool {
        let author = record.author();
        match record.value() {
            Body::Discovery(discovery) => {
                let is_foreign = author != self.own;
                if is_foreign {
                    self.promise.found(record.id(), author);
                    self.configs.insert(ConfigHash::of(&discovery.config.canonical_bytes()));
                }
                for parent in &discovery.inspirations {
                    *self.children.entry(*parent).or_insert(0) += 1;
                }
                let discovery = (**discovery).clone();
                // This node's own re-runs may be here before the discovery itself: compare the numbers now.
                let own = self.attestations.get(&record.id()).into_iter().flatten();
                for shown in
                    own.filter(|it| it.author == self.own).filter_map(|it| it.attestation.found.as_ref().ok())
                {
                    self.peer_reports.compare(author, &discovery.estimate, shown);
                }
                self.trust.take();
                let found = KnownDiscovery { discovery, author, made_at: record.made_at(), relayed_by };
                self.found.insert(record.id(), found);
                is_foreign
            }
            Body::Attestation(attestation) => {
                let of = self.attestations.entry(attestation.discovery).or_default();
                let is_reproduction = |it: &Attestation| it.comparison == Comparison::Reproduced;
                let answered = |it: &Attested| it.author == author && is_reproduction(&it.attestation);
                // One reproduction per attester: saying it again makes nobody more right.
                if is_reproduction(attestation) && of.iter().any(answered) {
                    return false;
                }
                // Reproductions say whether a claim is true; the other comparisons say whether the idea helps
                // elsewhere.
                if author != self.own && attestation.comparison != Comparison::Reproduced {
                    let shown = attestation.found.as_ref();
                    let helped =
                        shown.is_ok_and(|shown| shown.delta < -transfer::SUCCESS_AT * shown.standard_error);
                    self.promise.told(attestation.discovery, author, helped);
                }
                if let (true, Ok(shown), Some(found)) =
                    (author == self.own, &attestation.found, self.found.get(&attestation.discovery))
                {
                    self.peer_reports.compare(found.author, &found.discovery.estimate, shown);
                }
                self.trust.take();
                of.push(Attested { author, attestation: (**attestation).clone() });
                false
            }
            Body::Digest(digest) => {
                self.peer_reports.add(author, author == self.own, digest);
                false
            }
            Body::Claim(claim) => {
                if author != self.own {
                    self.peer_reports.claimed(claim, now);
                }
                false
            }
        }
    }

    /// Learns from an experiment of this node, of this session or an earlier one.
    pub fn observe(&mut self, experiment: &Experiment) {
        if experiment.parent.is_none() {
            return;
        }
        let reports = experiment.runs.iter().filter_map(|run| run.outcome.report());
        let seconds: f64 = reports.map(|report| report.training_seconds).sum();
        self.spent.all += seconds;
        if let Verdict::Reproduction { .. } = experiment.verdict {
            self.spent.reproductions += seconds;
            for id in inspirations(experiment) {
                self.lanes.ran(id, self.found.get(&id).and_then(|found| found.relayed_by), seconds);
            }
            return;
        }
        self.experiments += 1;
        if is_settled(experiment) {
            self.settled.insert(experiment.config.hash());
        }
        let inspired: Vec<RecordId> = inspirations(experiment);
        let is_kept = matches!(experiment.verdict, Verdict::Keep { .. });
        for id in &inspired {
            self.promise.tried(*id, is_kept, inspired.len() - 1);
        }
        self.inspired += u32::from(!inspired.is_empty());
        self.tried.extend(inspired);
    }

    /// Returns what peers report of their own experiments, for a search in the arena `arena` at `now`,
    /// seconds since 1970. Returns none if nothing came since the last call.
    pub fn take_peer_results(&mut self, arena: ArenaId, now: u64) -> Option<crate::research::PeerResults> {
        if !self.peer_reports.is_news() {
            return None;
        }
        // Fills the cache, which is read below as a field: the reports are borrowed mutably beside it.
        self.trust();
        let trust = self.trust.get();
        Some(
            self.peer_reports
                .take(arena, now, |author| trust.is_some_and(|trust| trust.is_distrusted(author))),
        )
    }

    /// Returns what reproductions by others than its author say of a discovery, for each class of hardware
    /// apart. Only this node's own runs, and attesters that were found right here before, confirm or refute a
    /// claim. Else anybody could talk a discovery up or down.
    pub fn status(&self, id: RecordId) -> Status {
        self.status_by(id, self.trust())
    }

    fn status_by(&self, id: RecordId, trust: &Trust) -> Status {
        let Some(found) = self.found.get(&id) else { return Status::Claimed };
        let mut classes: BTreeMap<SpeedClass, (Pool, Pool)> = BTreeMap::new();
        for attested in self.reproductions(id, found) {
            let Ok(shown) = &attested.attestation.found else { continue };
            let (all, trusted) = classes.entry(SpeedClass::of(&attested.attestation.hardware)).or_default();
            all.add(shown);
            if attested.author == self.own || trust.is_calibrated(attested.author) {
                trusted.add(shown);
            }
        }
        let claim = &found.discovery.estimate;
        let says = |pool: &Pool| pool.estimate().and_then(|shown| trust::agrees(claim, &shown));
        let (mut seconded, mut confirmed, mut refuted) = (false, false, false);
        for (all, trusted) in classes.values() {
            // Trusted answers go first; those of strangers can only second a claim.
            match (says(trusted), says(all)) {
                (Some(false), _) => refuted = true,
                (Some(true), _) => confirmed = true,
                (None, Some(true)) => seconded = true,
                _ => {}
            }
        }
        match (confirmed, refuted) {
            (true, true) => Status::Limited,
            (true, false) => Status::Confirmed,
            (false, true) => Status::Refuted,
            (false, false) if seconded => Status::Seconded,
            (false, false) => Status::Claimed,
        }
    }

    /// Returns whom to believe, judged by what became of their claims.
    pub fn trust(&self) -> &Trust {
        self.trust.get_or_init(|| {
            let known = self.found.iter().map(|(id, found)| {
                let reproductions = self.reproductions(*id, found).map(|it| (it.author, &it.attestation));
                (found.author, &found.discovery, reproductions)
            });
            Trust::judge(self.own, known)
        })
    }

    fn reproductions<'a>(
        &'a self,
        id: RecordId,
        found: &'a KnownDiscovery,
    ) -> impl Iterator<Item = &'a Attested> {
        let of = self.attestations.get(&id).into_iter().flatten();
        of.filter(|it| it.attestation.comparison == Comparison::Reproduced && it.author != found.author)
    }

    /// Returns what re-runs say about how likely others' findings help on this class of hardware.
    fn transfer(&self, here: &LocalContext) -> Transfer {
        let runs = self.attestations.iter().filter_map(|(id, of)| Some((&self.found.get(id)?.discovery, of)));
        let runs = runs.flat_map(|(discovery, of)| of.iter().map(move |it| (discovery, &it.attestation)));
        Transfer::learn(runs, SpeedClass::of(&here.hardware))
    }
}

/// Estimates of one difference, pooled with weights of one over the squared standard error.
#[derive(Debug, Clone, Copy, Default)]
struct Pool {
    weighted: f64,
    weight: f64,
    pairs: u16,
}

impl Pool {
    fn add(&mut self, estimate: &Estimate) {
        let weight = estimate.standard_error.max(1e-6).powi(-2);
        self.weighted += weight * estimate.delta;
        self.weight += weight;
        self.pairs = self.pairs.saturating_add(estimate.pairs);
    }

    fn estimate(&self) -> Option<Estimate> {
        let standard_error = self.weight.sqrt().recip();
        (self.weight > 0.0).then(|| Estimate {
            delta: self.weighted / self.weight,
            standard_error,
            pairs: self.pairs,
        })
    }
}

/// Returns whether a config needs no further try, even if a peer found a gain in it. A config that only
/// screening runs saw gets a second try, and no third: with noise as large as the gains, many a true one
/// looks like none at first.
fn is_settled(experiment: &Experiment) -> bool {
    let Verdict::Discard { reason, estimate, .. } = &experiment.verdict else { return true };
    let never_paired = *reason == DiscardReason::NoGain && estimate.is_none();
    !never_paired || experiment.attempt > 0
}

fn inspirations(experiment: &Experiment) -> Vec<RecordId> {
    experiment.hypothesis.inspired_by.iter().filter_map(|id| id.parse().ok()).collect()
}

#[cfg(test)]
mod tests;
