//! Experiments as rows of a list, and which of them a list holds.

use autoswarm_protocol::{Experiment, Verdict};
use serde::{Deserialize, Serialize};

use crate::events::sentences;

/// Most rows that one list holds, as the command line allows them.
pub const MAX_ROWS: u32 = 10_000;

/// Which experiments a list holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExperimentFilter {
    /// Only those with this verdict, by its name.
    pub verdict: Option<String>,
    /// At most this many, the newest.
    pub limit: u32,
}

impl ExperimentFilter {
    /// Returns the rows that are left of `experiments`, which come oldest first; newest last.
    pub fn apply<'a>(
        &self,
        experiments: impl DoubleEndedIterator<Item = &'a Experiment>,
    ) -> Vec<ExperimentRow> {
        let mut rows: Vec<ExperimentRow> = experiments
            .rev()
            .filter(|experiment| self.verdict.as_deref().is_none_or(|name| name == experiment.verdict.name()))
            .take(self.limit.min(MAX_ROWS) as usize)
            .map(ExperimentRow::of)
            .collect();
        rows.reverse();
        rows
    }
}

/// An experiment in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExperimentRow {
    /// Its place in this node's history.
    pub number: u32,
    /// Its id's first digits.
    pub id: String,
    /// The change.
    pub patch: String,
    /// Why it was tried.
    pub because: String,
    /// Who proposed it.
    pub proposer: String,
    /// What became of it.
    pub verdict: Verdict,
    /// Mean validation of the child, bits per byte.
    pub validation: Option<f64>,
    /// Runs made for it.
    pub runs: u32,
    /// End, seconds since 1970.
    pub finished_at: u64,
}

impl ExperimentRow {
    /// Returns an experiment's row.
    pub fn of(experiment: &Experiment) -> Self {
        Self {
            number: experiment.number,
            id: experiment.id().fmt_short(),
            patch: sentences::change(experiment),
            because: experiment.hypothesis.because.clone(),
            proposer: experiment.hypothesis.proposer.name().to_owned(),
            verdict: experiment.verdict.clone(),
            validation: experiment.mean_validation(),
            runs: experiment.runs.len() as u32,
            finished_at: experiment.finished_at,
        }
    }
}
