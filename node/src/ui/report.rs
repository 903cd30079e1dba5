//! The report of a home: what an arena's experiments came to, for people who were asleep.
//!
//! ```text
//! journal ──Story::of──▶ Story ─┬─ page::markdown ─▶ report.md
//!                               └─ chart::svg ─────▶ report.svg
//! ```
//!
//! Pure but for [`Readings`], the file of what was read of the locked split: **a chosen config is measured
//! there once**, so that nobody chooses by it. Not here: the runs of a reading, which [`crate::session`]
//! makes.

pub mod chart;
mod page;

use std::{fs, io, path::Path};

use anyhow::Context;
use autoswarm_protocol::{
    Estimate, Experiment, RunReport, Verdict,
    experiment::confirmation_seed,
    id::{ArenaId, ConfigHash},
};
use serde::{Deserialize, Serialize};

use crate::base::files;

pub use page::markdown;

/// Fresh pairs of a reading: two blocks in the order A B B A, where runs do not go side by side.
pub const READING_PAIRS: u16 = 4;

/// The attempt number that a reading's seeds are made with. No experiment makes so many attempts.
const READING_ATTEMPT: u16 = u16::MAX;

/// The experiments of one arena from its newest baseline on, and what they came to.
#[derive(Debug, Clone)]
pub struct Story {
    /// The arena of the journal's newest experiment.
    pub arena: ArenaId,
    /// Its experiments from the newest baseline on, by rising number. Times would not do: a clock may be set
    /// back.
    pub experiments: Vec<Experiment>,
}

impl Story {
    /// Makes the story of the newest experiment's arena; none where no baseline was measured there yet.
    pub fn of(mut journal: Vec<Experiment>) -> Option<Self> {
        let arena = journal.iter().max_by_key(|experiment| experiment.number)?.arena;
        journal.retain(|experiment| experiment.arena == arena);
        journal.sort_by_key(|experiment| experiment.number);
        let first = journal.iter().rposition(|experiment| experiment.verdict == Verdict::Baseline)?;
        Some(Self { arena, experiments: journal.split_off(first) })
    }

    /// Returns the experiment that measured the baseline.
    pub fn baseline(&self) -> &Experiment {
        &self.experiments[0]
    }

    /// Returns the kept experiments, oldest first, with their estimates on validation and on audit.
    pub fn keeps(&self) -> impl DoubleEndedIterator<Item = (&Experiment, &Estimate, Option<&Estimate>)> {
        self.experiments.iter().filter_map(|experiment| match &experiment.verdict {
            Verdict::Keep { estimate, audit } => Some((experiment, estimate, audit.as_ref())),
            _ => None,
        })
    }

    /// Returns the experiment that was kept last, whose config is the chosen one; none if nothing was kept.
    pub fn chosen(&self) -> Option<&Experiment> {
        self.keeps().next_back().map(|(experiment, ..)| experiment)
    }

    /// Returns the sum of the kept gains with its standard error, bits per byte.
    pub fn gain(&self) -> Option<Estimate> {
        self.keeps().map(|(_, estimate, _)| *estimate).reduce(Estimate::and_then)
    }

    /// Returns the training tokens of a config's newest finished run.
    pub fn tokens(&self, config: ConfigHash) -> Option<u64> {
        let mut runs = self.experiments.iter().flat_map(|experiment| &experiment.runs).rev();
        runs.find_map(|run| run.outcome.report().filter(|_| run.requested == config))
            .map(|report| report.tokens)
    }

    /// Returns the seed of a reading's pair, which no experiment uses.
    pub fn reading_seed(&self, chosen: ConfigHash, pair: u16) -> u64 {
        confirmation_seed(self.arena, chosen, self.baseline().config.hash(), READING_ATTEMPT, pair)
    }
}

/// The chosen config against the baseline on the three held-out splits: the same fresh pairs for all.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// The arena that both configs were measured in.
    pub arena: ArenaId,
    /// Hash of the chosen config.
    pub chosen: ConfigHash,
    /// Hash of the baseline's config.
    pub baseline: ConfigHash,
    /// When it was read, seconds since 1970.
    pub read_at: u64,
    /// Chosen − baseline on the split that verdicts rest on, bits per byte.
    pub validation: Estimate,
    /// The same on the split that challenges them.
    pub audit: Estimate,
    /// The same on the split that is read only here.
    pub locked: Estimate,
    /// The chosen config's mean on the locked split, bits per byte.
    pub level: f64,
}

impl Reading {
    /// Makes a reading from the reports of pairs, each of the chosen config and the baseline. None if a split
    /// is missing or there are fewer than two pairs.
    pub fn of(story: &Story, chosen: ConfigHash, pairs: &[[RunReport; 2]], read_at: u64) -> Option<Self> {
        let differences = |of: fn(&RunReport) -> Option<f64>| -> Option<Estimate> {
            let values: Option<Vec<f64>> =
                pairs.iter().map(|[chosen, baseline]| Some(of(chosen)? - of(baseline)?)).collect();
            Estimate::of(&values?)
        };
        let locked = |report: &RunReport| Some(report.locked?.get());
        let levels: Option<Vec<f64>> = pairs.iter().map(|[chosen, _]| locked(chosen)).collect();
        Some(Self {
            arena: story.arena,
            chosen,
            baseline: story.baseline().config.hash(),
            read_at,
            validation: differences(|report| Some(report.validation.get()))?,
            audit: differences(|report| Some(report.audit?.get()))?,
            locked: differences(locked)?,
            level: levels?.iter().sum::<f64>() / pairs.len() as f64,
        })
    }
}

/// Every reading that a home has seen.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Readings(Vec<Reading>);

impl Readings {
    /// Loads the readings from `file`; without a file there are none.
    pub fn load(file: &Path) -> anyhow::Result<Self> {
        let damaged =
            || format!("`{}` is damaged; move it away to read the locked split anew", file.display());
        match fs::read(file) {
            Ok(text) => serde_json::from_slice(&text).with_context(damaged),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read `{}`", file.display())),
        }
    }

    /// Adds a reading and saves all of them to `file`.
    pub fn add(&mut self, file: &Path, reading: Reading) -> anyhow::Result<()> {
        self.0.push(reading);
        files::replace(file, &serde_json::to_vec_pretty(self)?)
            .with_context(|| format!("cannot keep the reading in `{}`", file.display()))
    }

    /// Returns the reading of a story's chosen config against its baseline, if there is one.
    pub fn find(&self, story: &Story) -> Option<&Reading> {
        let chosen = story.chosen()?.config.hash();
        let key = (story.arena, story.baseline().config.hash(), chosen);
        self.0.iter().find(|reading| (reading.arena, reading.baseline, reading.chosen) == key)
    }

    /// Returns how often the locked split of an arena was read.
    pub fn count(&self, arena: ArenaId) -> usize {
        self.0.iter().filter(|reading| reading.arena == arena).count()
    }
}

#[cfg(test)]
#[path = "report/tests.rs"]
mod tests;
