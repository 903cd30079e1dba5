//! What a session remembers: the journal, which is the truth, and the index beside it.
//!
//! How they are kept on the disk is in [`crate::home`].

use anyhow::Context;
use autoswarm_protocol::{Experiment, id::ArenaId};

use crate::{
    events::rows::{self, ExperimentFilter},
    home::{
        Home,
        index::{Index, IndexEntry, IndexState},
        journal::{Journal, JournalCaps, Recorded},
    },
    research::active::Active,
};

/// Experiments recorded between two checks of the journal's size.
const TIDY_EVERY: u32 = 32;

/// The memory of a node. It holds the home, in which only one process works at a time.
#[derive(Debug)]
pub struct Memory {
    home: Home,
    journal: Journal,
    store: Index,
    /// Experiments recorded in this session.
    recorded: u32,
}

impl Memory {
    /// Opens the memory of a home. Returns it with all experiments of the journal, and a line for each thing
    /// that had to be mended.
    pub fn open(home: Home) -> anyhow::Result<(Self, Vec<Recorded>, Vec<String>)> {
        let opened = Journal::open(home.path()).context("cannot open the journal")?;
        let mut notes = opened.damaged;
        let (store, found) =
            Index::open(&home.index(), &opened.experiments).context("cannot open the index")?;
        notes.extend(mended(&found, opened.experiments.len()));
        let memory = Self { home, journal: opened.journal, store, recorded: 0 };
        Ok((memory, opened.experiments, notes))
    }

    /// Returns the home that the memory lies in.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Returns the number of the next experiment.
    pub fn next_number(&self) -> u32 {
        self.journal.next_number()
    }

    /// Returns the experiments of an arena that were in flight when the last session ended.
    pub fn pending(&self, arena: ArenaId) -> Vec<Active> {
        let mut pending: Vec<Active> = self.journal.load_pending(|active: &Active| active.number);
        pending.retain(|active| active.arena == arena);
        pending
    }

    /// Saves the experiments in flight, for a restart to go on with.
    pub fn save_pending(&self, pending: &[Active]) -> anyhow::Result<()> {
        self.journal.save_pending(pending).context("cannot keep the experiments in flight")
    }

    /// Writes a finished experiment to the journal and the index; returns its commit.
    pub fn record(&mut self, experiment: &Experiment) -> anyhow::Result<String> {
        // The journal first: where a kill comes in between, the next start adds the entry to the index.
        let commit = self.journal.record(experiment).context("cannot write the journal")?;
        self.store.add(experiment, &commit).context("cannot write the index")?;
        self.recorded += 1;
        if self.recorded.is_multiple_of(TIDY_EVERY) {
            self.journal.tidy(JournalCaps::default()).context("cannot tidy the journal")?;
        }
        Ok(commit)
    }

    /// Returns a short entry for each experiment, by rising number.
    pub fn entries(&self) -> anyhow::Result<Vec<IndexEntry>> {
        self.store.entries().context("cannot read the index")
    }

    /// Returns the newest experiments that a filter leaves, oldest first.
    pub fn newest(&self, filter: &ExperimentFilter) -> anyhow::Result<Vec<Experiment>> {
        let mut entries = self.entries()?;
        entries.retain(|entry| filter.verdict.as_ref().is_none_or(|verdict| *verdict == entry.verdict));
        let skip = entries.len().saturating_sub(filter.limit as usize);
        entries[skip..].iter().filter_map(|entry| self.experiment(entry.number).transpose()).collect()
    }

    /// Finds an experiment by its number, or by four or more first digits of its id or of its commit; else says
    /// why there is none.
    pub fn find(&self, id: &str) -> anyhow::Result<Result<Experiment, String>> {
        if let Ok(number) = id.trim().trim_start_matches('#').parse()
            && let Some(experiment) = self.experiment(number)?
        {
            return Ok(Ok(experiment));
        }
        // The index has no ids, so a prefix reads the journal: a person asks for it now and then.
        let mut recorded = Vec::new();
        for entry in self.entries()? {
            recorded.extend(self.journal.experiment(entry.number).context("cannot read the journal")?);
        }
        let experiments = recorded.iter().map(|found| (&found.experiment, found.commit.as_str()));
        Ok(rows::find(experiments, id).cloned())
    }

    /// Returns one experiment in full, from the journal; none where the journal lacks it.
    pub fn experiment(&self, number: u32) -> anyhow::Result<Option<Experiment>> {
        let recorded = self.journal.experiment(number).context("cannot read the journal")?;
        Ok(recorded.map(|recorded| recorded.experiment))
    }

    /// Returns in one line what is wrong with the disk, such as too little free space; none where all is
    /// well.
    pub fn disk_problem(&self) -> Option<String> {
        self.home.check_space().err().map(|error| error.to_string())
    }
}

/// Says what opening the index mended; none where nothing was wrong.
fn mended(found: &IndexState, experiments: usize) -> Option<String> {
    match found {
        IndexState::Equal => None,
        IndexState::Missing if experiments == 0 => None,
        IndexState::Missing => {
            Some(format!("the index was missing; rebuilt from the journal's {experiments} experiments"))
        }
        IndexState::Behind(count) => {
            Some(format!("the index lacked {count} of the journal's experiments; added"))
        }
        IndexState::Damaged { reason, moved_to } => Some(format!(
            "the index was damaged ({reason}); rebuilt from the journal's {experiments} experiments, \
             the old one is in `{}`",
            moved_to.display()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::view::lists::tests::several;

    #[test]
    fn a_running_node_finds_what_its_lists_name() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let home = Home::open(folder.path()).expect("a free home");
        let (mut memory, ..) = Memory::open(home).expect("an empty memory");
        let all = several();
        let commits: Vec<String> = all.iter().map(|it| memory.record(it).expect("written")).collect();
        let found = |id: &str| memory.find(id).expect("readable").map(|experiment| experiment.number);
        for (experiment, commit) in all.iter().zip(&commits) {
            assert_eq!(found(&experiment.number.to_string()), Ok(experiment.number));
            assert_eq!(found(&experiment.id().fmt_short()), Ok(experiment.number), "the id of a list");
            assert_eq!(found(&commit[..7]), Ok(experiment.number), "the commit of a session's line");
        }
        assert!(found("moon").is_err());
    }
}
