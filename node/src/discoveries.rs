//! What peers found, as this node sees it: discoveries, what re-runs of them showed, and which of them to try here next.
//! Pure. **A peer's config is data; it is adopted only after it won here, on fresh pairs.**

mod inspect;

use std::collections::{BTreeMap, BTreeSet};

use autoswarm_protocol::{
    Budget, EffectiveConfig, Estimate, Experiment, Hypothesis, Outcome, Patch, Proposer as ProposedBy,
    RunRole, Verdict,
    id::{ConfigHash, RecordId},
    record::{Attestation, Author, Body, Comparison, Discovery, Hardware, MAX_CURVE, Verified},
};
use serde::{Deserialize, Serialize};

pub use inspect::{Details, Row};

use crate::research::Proposal;

/// Share of the experiments that may be other nodes' ideas, and how many may come before that is counted.
const SHARE: f64 = 0.34;
const FIRST: f64 = 2.0;

/// How far a reproduction's interval must be from the claim to refute it, standard errors of their difference.
const REFUTED_AT: f64 = 3.0;

/// What became of a discovery, by the re-runs that are known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Nobody re-ran it.
    Claimed,
    /// A reproduction agrees.
    Confirmed,
    /// Reproductions agree on some classes of hardware and exclude it on others.
    Limited,
    /// A reproduction excludes the claim.
    Refuted,
}

impl Status {
    /// Returns the name used in lists.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Claimed => "claimed",
            Self::Confirmed => "confirmed",
            Self::Limited => "limited",
            Self::Refuted => "refuted",
        }
    }
}

/// A discovery with what is known of it.
#[derive(Debug, Clone)]
struct Found {
    discovery: Discovery,
    author: Author,
    made_at: u64,
}

/// All that is known.
#[derive(Debug)]
pub struct Discoveries {
    own: Author,
    found: BTreeMap<RecordId, Found>,
    attestations: BTreeMap<RecordId, Vec<(Author, Attestation)>>,
    /// Discoveries whose patch was tried here.
    tried: BTreeSet<RecordId>,
    /// Configs of discoveries, so that an adopted copy is not published as one's own.
    configs: BTreeSet<ConfigHash>,
    experiments: u32,
    inspired: u32,
}

impl Discoveries {
    /// Makes an empty collection of a node that signs as `own`.
    pub fn new(own: Author) -> Self {
        Self {
            own,
            found: BTreeMap::new(),
            attestations: BTreeMap::new(),
            tried: BTreeSet::new(),
            configs: BTreeSet::new(),
            experiments: 0,
            inspired: 0,
        }
    }

    /// Takes a record; true if it is a discovery of somebody else.
    pub fn hear(&mut self, record: &Verified<Body>) -> bool {
        if let Some(discovery) = record.discovery() {
            let found = Found {
                discovery: (*discovery.value()).clone(),
                author: record.author(),
                made_at: record.made_at(),
            };
            self.configs.insert(ConfigHash::of(&found.discovery.config.canonical_bytes()));
            self.found.insert(record.id(), found);
            return record.author() != self.own;
        }
        if let Some(attestation) = record.attestation() {
            let of = self.attestations.entry(attestation.value().discovery).or_default();
            of.push((record.author(), (*attestation.value()).clone()));
        }
        false
    }

    /// Learns from an experiment of this node, also from those of earlier sessions.
    pub fn observe(&mut self, experiment: &Experiment) {
        if experiment.parent.is_none() {
            return;
        }
        self.experiments += 1;
        let inspired: Vec<RecordId> = inspirations(experiment);
        self.inspired += u32::from(!inspired.is_empty());
        self.tried.extend(inspired);
    }

    /// Returns the next discovery to try on this incumbent, as a proposal; none while others' ideas have had their share.
    /// The surest gain per error goes first, an over-used one last.
    pub fn next_to_try(&self, incumbent: &EffectiveConfig, context: usize) -> Option<Proposal> {
        if f64::from(self.inspired) >= FIRST + SHARE * f64::from(self.experiments) {
            return None;
        }
        let worth = |id: &RecordId, found: &Found| {
            let estimate = &found.discovery.estimate;
            let children = self.attestations.get(id).map_or(0, Vec::len);
            -estimate.delta / estimate.standard_error.max(1e-6) / (1.0 + children as f64)
        };
        let candidates = self.found.iter().filter(|(id, found)| {
            found.author != self.own && !self.tried.contains(id) && self.status(**id) != Status::Refuted
        });
        let mut candidates: Vec<_> = candidates.collect();
        candidates.sort_by(|a, b| worth(b.0, b.1).total_cmp(&worth(a.0, a.1)));
        candidates.into_iter().find_map(|(id, found)| {
            let child = found.discovery.patch.transplant(incumbent).ok()?.effective(context);
            let patch = Patch::between(incumbent, &child);
            let because = format!(
                "a peer's discovery on this incumbent ({} found {}): {}",
                found.author.fmt_short(),
                found.discovery.estimate,
                found.discovery.because
            );
            let hypothesis = Hypothesis {
                proposer: ProposedBy::Evolve,
                because: Hypothesis::one_line(&because),
                patch,
                simplifies: false,
                inspired_by: vec![id.to_string()],
            };
            (!hypothesis.patch.is_empty()).then_some(Proposal { child, hypothesis })
        })
    }

    /// Returns what to tell the swarm about an experiment of this node: its own discovery, and what it showed about
    /// others'. `pair_sd` is the noise of one comparison.
    pub fn to_publish(
        &self,
        experiment: &Experiment,
        hardware: &Hardware,
        budget: Budget,
        pair_sd: f64,
    ) -> Vec<Body> {
        let mut out = Vec::new();
        let tokens = tokens(experiment);
        for discovery in inspirations(experiment).into_iter().filter(|id| self.found.contains_key(id)) {
            let found = match &experiment.verdict {
                Verdict::Keep { estimate, .. } | Verdict::Discard { estimate: Some(estimate), .. } => {
                    Ok(*estimate)
                }
                // One comparison on an equal seed, though not a fresh one: a transplant confirms and refutes nothing.
                Verdict::Discard { screened: Some(delta), .. } => {
                    Ok(Estimate { delta: *delta, standard_error: pair_sd, pairs: 1 })
                }
                Verdict::Crash { class, .. } => Err(*class),
                Verdict::Discard { .. } | Verdict::Baseline => continue,
            };
            out.push(Body::Attestation(Box::new(Attestation {
                discovery,
                comparison: Comparison::Transplants,
                arena: experiment.arena,
                hardware: hardware.clone(),
                found,
                tokens,
            })));
        }
        let is_copy = self.configs.contains(&experiment.config.hash())
            || inspirations(experiment).iter().any(|id| {
                self.found.get(id).is_some_and(|found| found.discovery.patch == experiment.hypothesis.patch)
            });
        if !is_copy {
            out.extend(discovery(experiment, hardware, budget).map(|found| Body::Discovery(Box::new(found))));
        }
        out
    }

    /// Returns what re-runs say of a discovery. Only reproductions count, and not its author's own.
    pub fn status(&self, id: RecordId) -> Status {
        let Some(found) = self.found.get(&id) else { return Status::Claimed };
        let claim = found.discovery.estimate;
        let mut status = Status::Claimed;
        let of = self.attestations.get(&id).into_iter().flatten();
        for (author, attestation) in of.filter(|(_, it)| it.comparison == Comparison::Reproduced) {
            if let (Ok(shown), true) = (&attestation.found, *author != found.author) {
                let error = claim.standard_error.hypot(shown.standard_error).max(1e-9);
                if (shown.delta - claim.delta).abs() > REFUTED_AT * error {
                    return Status::Refuted;
                }
                status = Status::Confirmed;
            }
        }
        status
    }
}

fn inspirations(experiment: &Experiment) -> Vec<RecordId> {
    experiment.hypothesis.inspired_by.iter().filter_map(|id| id.parse().ok()).collect()
}

/// Returns the training tokens of the child's and of the parent's runs; none where one of them has no run here, as after
/// screening against a cached run.
fn tokens(experiment: &Experiment) -> Option<(u64, u64)> {
    let of = |own: bool| {
        experiment.runs.iter().find_map(|run| {
            let report = run.outcome.report()?;
            ((run.requested == experiment.config.hash()) == own).then_some(report.tokens)
        })
    };
    Some((of(true)?, of(false)?))
}

/// Makes the discovery that a kept experiment is.
fn discovery(experiment: &Experiment, hardware: &Hardware, budget: Budget) -> Option<Discovery> {
    let Verdict::Keep { estimate, audit } = &experiment.verdict else { return None };
    let fresh = experiment.runs.iter().filter(|run| run.role == RunRole::Child);
    let reports: Vec<_> = fresh
        .filter_map(|run| match &run.outcome {
            Outcome::Finished(report) => Some(report),
            Outcome::Crashed(_) => None,
        })
        .collect();
    let first = reports.first()?;
    let level = reports.iter().map(|report| report.validation.get()).sum::<f64>() / reports.len() as f64;
    let every = first.curve.len().div_ceil(MAX_CURVE).max(1);
    Some(Discovery {
        arena: experiment.arena,
        budget,
        hardware: hardware.clone(),
        config: (*experiment.config).clone(),
        patch: experiment.hypothesis.patch.clone(),
        estimate: *estimate,
        audit: *audit,
        level: autoswarm_protocol::Bpb::new(level).ok()?,
        tokens: tokens(experiment)?,
        seconds: first.training_seconds,
        curve: first.curve.iter().step_by(every).map(|point| point.loss as f32).collect(),
        inspirations: inspirations(experiment),
        because: Hypothesis::one_line(&experiment.hypothesis.because),
    })
}

#[cfg(test)]
mod tests;
