//! Experiments as rows of a list, and which of them a list holds.
//!
//! How a list is printed is in [`crate::ui::view::lists`].

use autoswarm_protocol::{Experiment, Verdict};
use serde::{Deserialize, Serialize};

use crate::{base::words, events::sentences};

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

/// Finds an experiment by its number (`12` or `#12`), or by four or more first digits of its id or of its commit:
/// lists show the one, the lines of a session the other. `experiments` come with their commits.
pub fn find<'a>(
    experiments: impl Iterator<Item = (&'a Experiment, &'a str)> + Clone,
    id: &str,
) -> Result<&'a Experiment, String> {
    let id = id.trim().trim_start_matches('#');
    if let Ok(number) = id.parse::<u32>()
        && let Some((experiment, _)) = experiments.clone().find(|(experiment, _)| experiment.number == number)
    {
        return Ok(experiment);
    }
    let shown = words::clean(id);
    let is_prefix = (4..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let prefix = id.to_ascii_lowercase();
    let mut matching = experiments.filter(|(experiment, commit)| {
        is_prefix && (commit.starts_with(&prefix) || experiment.id().to_string().starts_with(&prefix))
    });
    match (matching.next(), matching.next()) {
        (Some((experiment, _)), None) => Ok(experiment),
        (Some(_), Some(_)) => Err(format!("`{shown}` begins more than one id; give more digits")),
        (None, _) => Err(format!("there is no experiment `{shown}`; `node experiments` lists their numbers")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::view::lists::tests::several;

    #[test]
    fn experiments_are_found_by_number_id_and_commit() {
        let all = several();
        let commits: Vec<String> = (0..all.len()).map(|n| format!("{n}abc{}", "0".repeat(36))).collect();
        let with_commits = || all.iter().zip(commits.iter().map(String::as_str));
        let found = |id: &str| find(with_commits(), id).map(|experiment| experiment.number);
        assert_eq!(found("2"), Ok(2));
        assert_eq!(found("#3"), Ok(3));
        let id = all[1].id().to_string();
        assert_eq!(found(&id), Ok(1));
        assert_eq!(found(&id[..10].to_uppercase()), Ok(1));
        assert_eq!(found("2abc"), Ok(2), "the commit that a session prints");
        let missing = "there is no experiment `moon`; `node experiments` lists their numbers";
        assert_eq!(found("moon"), Err(missing.to_owned()));
        assert!(found("").is_err() && found("99").is_err());
        let twice = [(&all[1], "0"), (&all[1], "1")];
        let error = find(twice.into_iter(), &id[..8]).map(|e| e.number).expect_err("two");
        assert!(error.contains("more than one"), "{error}");
    }
}
