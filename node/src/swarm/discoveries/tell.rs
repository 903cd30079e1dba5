//! What this node tells the swarm: its own discoveries, what it found about others', and its other results in
//! short.
//!
//! All of it follows from the experiments in the journal and from what was told before. So what a kill
//! swallowed is told at the next start, and nothing is told twice.

use autoswarm_protocol::{
    Bpb, Budget, Estimate, Experiment, Hypothesis, Outcome, RunRole, Verdict,
    experiment::{Comparison, DiscardReason},
    id::{ArenaId, RecordId},
    record::{Attestation, Body, Digest, DigestEnding, DigestLine, Discovery, Hardware, MAX_CURVE},
};

use super::{Discoveries, choose::is_transplant, inspirations};
use crate::research::pruning::extrapolated;

impl Discoveries {
    /// Returns what to tell the swarm of an experiment of this node: its own discovery, and what it showed
    /// about others'; nothing that was told before. `pair_sd` is the standard deviation of one comparison,
    /// bits per byte.
    pub fn to_publish(
        &self,
        experiment: &Experiment,
        hardware: &Hardware,
        budget: Budget,
        pair_sd: f64,
    ) -> Vec<Body> {
        let mut out = Vec::new();
        for (id, comparison, found) in self.shown(experiment, pair_sd) {
            let told = self.attestations.get(&id).into_iter().flatten();
            if told.clone().any(|it| it.author == self.own && it.attestation.comparison == comparison) {
                continue;
            }
            out.push(Body::Attestation(Box::new(Attestation {
                discovery: id,
                comparison,
                arena: experiment.arena,
                hardware: hardware.clone(),
                found,
                tokens: tokens(experiment),
            })));
        }
        let is_keep = matches!(experiment.verdict, Verdict::Keep { .. });
        if is_keep && !self.is_copy(experiment) && !self.is_told(experiment) {
            out.extend(discovery(experiment, hardware, budget).map(|found| Body::Discovery(Box::new(found))));
        }
        out
    }

    /// Returns what an experiment shows about others' discoveries.
    fn shown(
        &self,
        experiment: &Experiment,
        pair_sd: f64,
    ) -> Vec<(RecordId, Comparison, Result<Estimate, autoswarm_protocol::CrashClass>)> {
        let ids = inspirations(experiment).into_iter().filter(|id| self.found.contains_key(id));
        let (comparison, found) = match &experiment.verdict {
            Verdict::Reproduction { comparison, found } => (*comparison, *found),
            Verdict::Keep { estimate, .. } | Verdict::Discard { estimate: Some(estimate), .. } => {
                (Comparison::Transplants, Ok(*estimate))
            }
            // One screening run on an equal seed, not on a fresh one. That will do: a transplant confirms and
            // refutes nothing.
            Verdict::Discard { screened: Some(delta), .. } => {
                let estimate = Estimate { delta: *delta, standard_error: pair_sd, pairs: 1 };
                (Comparison::Transplants, Ok(estimate))
            }
            Verdict::Crash { class, .. } => (Comparison::Transplants, Err(*class)),
            Verdict::Discard { .. } | Verdict::Baseline => return Vec::new(),
        };
        // A crash that this machine caused says nothing about the discovery.
        if found.is_err_and(|class| !class.blames_config()) {
            return Vec::new();
        }
        let says = |id: &RecordId| {
            comparison != Comparison::Transplants
                || is_transplant(&experiment.hypothesis.patch, &self.found[id].discovery)
        };
        ids.filter(says).map(|id| (id, comparison, found)).collect()
    }

    /// Returns whether a kept experiment only repeats somebody else's finding.
    fn is_copy(&self, experiment: &Experiment) -> bool {
        let ids = inspirations(experiment);
        let mut found = ids.iter().filter_map(|id| self.found.get(id));
        self.configs.contains(&experiment.config.hash())
            || found.any(|found| is_transplant(&experiment.hypothesis.patch, &found.discovery))
    }

    fn is_told(&self, experiment: &Experiment) -> bool {
        self.found.values().any(|found| {
            found.author == self.own
                && found.discovery.arena == experiment.arena
                && found.discovery.config == *experiment.config
                && found.discovery.patch == experiment.hypothesis.patch
        })
    }

    /// Returns an experiment's line of a digest, unless it was told or says nothing that another could use.
    pub fn line(&self, experiment: &Experiment, pair_sd: f64) -> Option<DigestLine> {
        let patch = &experiment.hypothesis.patch;
        if patch.is_empty() || self.peer_reports.was_told(experiment.arena, experiment.config.hash()) {
            return None;
        }
        let ending = match &experiment.verdict {
            Verdict::Keep { .. } => DigestEnding::Kept,
            Verdict::Discard { .. } => DigestEnding::Discarded,
            Verdict::Crash { class, .. } if class.blames_config() => DigestEnding::Crashed,
            Verdict::Crash { .. } | Verdict::Baseline | Verdict::Reproduction { .. } => return None,
        };
        let found = match &experiment.verdict {
            Verdict::Keep { estimate, .. } | Verdict::Discard { estimate: Some(estimate), .. } => {
                Some(*estimate)
            }
            Verdict::Discard { reason: DiscardReason::Pruned, screened: Some(difference), .. } => {
                Some(extrapolated(*difference, pair_sd))
            }
            _ => {
                let screens = &experiment.screens;
                let count = screens.len() as f64;
                (!screens.is_empty()).then(|| Estimate {
                    delta: screens.iter().sum::<f64>() / count,
                    standard_error: pair_sd / count.sqrt(),
                    pairs: screens.len() as u16,
                })
            }
        };
        Some(DigestLine { config: experiment.config.hash(), patch: patch.clone(), ending, found })
    }
}

/// Makes a digest of lines of one arena.
pub fn digest(arena: ArenaId, lines: Vec<DigestLine>) -> Body {
    Body::Digest(Digest { arena, lines })
}

/// Returns the training tokens of the child's and of the parent's runs. Returns none where one of them has no
/// run here, as after screening against a cached run.
fn tokens(experiment: &Experiment) -> Option<(u64, u64)> {
    let of = |own: bool| {
        experiment.runs.iter().find_map(|run| {
            let report = run.outcome.report()?;
            ((run.requested == experiment.config.hash()) == own).then_some(report.tokens)
        })
    };
    Some((of(true)?, of(false)?))
}

/// Returns a kept experiment as a discovery; none for any other, or where a number that it needs is missing.
fn discovery(experiment: &Experiment, hardware: &Hardware, budget: Budget) -> Option<Discovery> {
    let Verdict::Keep { estimate, audit } = &experiment.verdict else { return None };
    let fresh = experiment.runs.iter().filter(|run| run.role == RunRole::Child);
    let reports: Vec<_> = fresh
        .filter_map(|run| match &run.outcome {
            Outcome::Finished(report) => Some(report),
            Outcome::Crashed(_) | Outcome::Pruned(_) => None,
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
        level: Bpb::new(level).ok()?,
        tokens: tokens(experiment)?,
        seconds: first.training_seconds,
        curve: first.curve.iter().step_by(every).map(|point| point.loss as f32).collect(),
        inspirations: inspirations(experiment),
        because: Hypothesis::one_line(&experiment.hypothesis.because),
    })
}
