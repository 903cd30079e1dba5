//! Experiments as rows of a list, and which of them a list holds.
//!
//! How a list is printed is in [`crate::ui::view::lists`].

use autoswarm_protocol::{Experiment, Verdict};
use serde::{Deserialize, Serialize};

use crate::events::sentences;

/// Most rows that one list holds, as the command line allows them.
pub const MAX_ROWS: u32 = 10_000;

/// Which experiments a list holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExperimentFilter {
    /// Only those with the verdict of this name, such as `keep`; none for all.
    pub verdict: Option<String>,
    /// At most this many: the newest.
    pub limit: u32,
}

impl ExperimentFilter {
    /// Returns the rows of those of `experiments` that it leaves. Both are in the order oldest first.
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
    /// The first digits of its id.
    pub id: String,
    /// The change to the incumbent, in words for a baseline.
    pub patch: String,
    /// Why it was tried.
    pub because: String,
    /// Who proposed it, such as `evolve`.
    pub proposer: String,
    /// What became of it.
    pub verdict: Verdict,
    /// Mean validation of the child's runs, bits per byte.
    pub validation: Option<f64>,
    /// How many runs were made for it.
    pub runs: u32,
    /// When it ended, seconds since 1970.
    pub finished_at: u64,
}

impl ExperimentRow {
    /// Makes the row of an experiment.
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
