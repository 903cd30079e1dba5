//! What a session remembers: the journal, which is the truth, and the index beside it.

use anyhow::Context;
use autoswarm_protocol::{Experiment, id::ArenaId};

use crate::{
    home::Home,
    journal::{Caps, Journal, Recorded},
    research::active::Active,
    store::Store,
};

/// Experiments between two looks at the journal's size.
const TIDY_EVERY: u32 = 32;

/// The memory of a node; only one process has it.
#[derive(Debug)]
pub struct Memory {
    home: Home,
    journal: Journal,
    store: Store,
    recorded: u32,
}

impl Memory {
    /// Opens the memory of a home. Returns it with all experiments, and with what had to be mended.
    pub fn open(home: Home) -> anyhow::Result<(Self, Vec<Recorded>, Vec<String>)> {
        let opened = Journal::open(home.path()).context("cannot open the journal")?;
        let mut notes = opened.damaged;
        let (store, mended) = Store::open(&home.index(), &opened.experiments).context("cannot open the index")?;
        notes.extend(mended);
        let memory = Self { home, journal: opened.journal, store, recorded: 0 };
        Ok((memory, opened.experiments, notes))
    }

    /// Returns the home.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Returns the number of the next experiment.
    pub fn next_number(&self) -> u32 {
        self.journal.next_number()
    }

    /// Returns the experiments that a restart interrupted.
    pub fn pending(&self, arena: ArenaId) -> Vec<Active> {
        let mut pending: Vec<Active> = self.journal.load_pending(|active: &Active| active.number);
        pending.retain(|active| active.arena == arena);
        pending
    }

    /// Keeps the experiments in flight.
    pub fn save_pending(&self, pending: &[Active]) -> anyhow::Result<()> {
        self.journal.save_pending(pending).context("cannot keep the experiments in flight")
    }

    /// Writes an experiment that is over; returns its commit.
    pub fn conclude(&mut self, experiment: &Experiment) -> anyhow::Result<String> {
        let commit = self.journal.record(experiment).context("cannot write the journal")?;
        self.store.insert(&Recorded { experiment: experiment.clone(), commit: commit.clone() })?;
        self.recorded += 1;
        if self.recorded.is_multiple_of(TIDY_EVERY) {
            self.journal.tidy(Caps::default()).context("cannot tidy the journal")?;
        }
        Ok(commit)
    }

    /// Returns all experiments in the journal's order.
    pub fn experiments(&self) -> anyhow::Result<Vec<Recorded>> {
        self.store.experiments().context("cannot read the index")
    }

    /// Returns what is wrong with the disk, if something is.
    pub fn disk_problem(&self) -> Option<String> {
        self.home.check_space().err().map(|error| error.to_string())
    }
}
