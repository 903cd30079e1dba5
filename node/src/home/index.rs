//! The index: what lists need of each experiment, without reading its commit.
//!
//! **Never the truth**: it is rebuilt from the journal whenever it is missing, damaged or different, and says
//! so. It is one sled tree with one entry per experiment: the key is `e` and the number, the value an
//! [`IndexEntry`].

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use autoswarm_protocol::{Experiment, codec, id::ConfigHash};
use serde::{Deserialize, Serialize};

use crate::{
    base::{database::open_patiently, files},
    home::journal::Recorded,
};

/// Bytes of memory that sled may use as a cache. Its own default is 1 GiB, which a trainer needs more.
const CACHE_BYTES: u64 = 32 << 20;

/// What is wrong with an index.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// It cannot be opened even after it was moved aside, or it broke at work.
    #[error("the index `{}`: {reason}; delete the folder, it is rebuilt from the journal", path.display())]
    Broken {
        /// The folder of the index.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
    /// It cannot be moved out of the way.
    #[error("cannot move the damaged index `{}` aside: {source}", path.display())]
    Stuck {
        /// The folder of the index.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// What is known of an experiment without reading its commit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IndexEntry {
    /// The experiment's number.
    pub number: u32,
    /// The id of its commit, 40 hexadecimal digits.
    pub commit: String,
    /// The hash of the child's config.
    pub config: ConfigHash,
    /// `baseline`, `keep`, `discard`, `crash` or `re-run`.
    pub verdict: String,
    /// Mean validation value of the child's runs, bits per byte.
    pub validation: Option<f64>,
    /// The patch, or the reason where there is none.
    pub description: String,
}

impl IndexEntry {
    /// Summarises an experiment and its commit.
    pub fn new(experiment: &Experiment, commit: &str) -> Self {
        let hypothesis = &experiment.hypothesis;
        Self {
            number: experiment.number,
            commit: commit.to_owned(),
            config: experiment.config.hash(),
            verdict: experiment.verdict.name().to_owned(),
            validation: experiment.mean_validation(),
            description: if hypothesis.patch.is_empty() {
                hypothesis.because.clone()
            } else {
                hypothesis.patch.to_string()
            },
        }
    }
}

/// In what state the index was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IndexState {
    /// Equal to the journal.
    Equal,
    /// Behind the journal by so many experiments, which were added: a kill came between the two writes.
    Behind(usize),
    /// There was none; it was built.
    Missing,
    /// It was damaged or said something else than the journal; it was built anew.
    Damaged {
        /// What was wrong.
        reason: String,
        /// Where the old one is now.
        moved_to: PathBuf,
    },
}

/// An open index.
#[derive(Debug)]
pub struct Index {
    path: PathBuf,
    database: sled::Db,
}

impl Index {
    /// Opens the index in `path` and makes it equal to `journal`, which is sorted by number.
    pub fn open(path: &Path, journal: &[Recorded]) -> Result<(Self, IndexState), IndexError> {
        let entries: Vec<IndexEntry> =
            journal.iter().map(|recorded| IndexEntry::new(&recorded.experiment, &recorded.commit)).collect();
        let existed = path.exists();
        let first = guarded(|| Self::try_open(path, &entries, existed));
        let reason = match first {
            Ok((store, added)) => {
                let found = match added {
                    _ if !existed => IndexState::Missing,
                    0 => IndexState::Equal,
                    added => IndexState::Behind(added),
                };
                return Ok((store, found));
            }
            Err(reason) => reason,
        };
        let stuck = |source| IndexError::Stuck { path: path.to_owned(), source };
        let moved_to = files::move_aside(path).map_err(stuck)?;
        match guarded(|| Self::try_open(path, &entries, false)) {
            Ok((store, _)) => Ok((store, IndexState::Damaged { reason, moved_to })),
            Err(reason) => Err(IndexError::Broken { path: path.to_owned(), reason }),
        }
    }

    /// Opens the index and compares it with `entries`; returns how many experiments were missing and are
    /// added.
    fn try_open(path: &Path, entries: &[IndexEntry], existed: bool) -> Result<(Self, usize), String> {
        let config = sled::Config::new().path(path).cache_capacity(CACHE_BYTES).flush_every_ms(None);
        let database = open_patiently(&config).map_err(|error| error.to_string())?;
        let store = Self { path: path.to_owned(), database };
        let held = store.read_all()?;
        let journal: BTreeMap<u32, &IndexEntry> = entries.iter().map(|entry| (entry.number, entry)).collect();
        if held.iter().any(|held| journal.get(&held.number) != Some(&held)) {
            return Err("it says something else than the journal".to_owned());
        }
        // Sled takes a log that it cannot read to be an empty one.
        if existed && held.is_empty() && entries.len() > 1 {
            return Err("it is empty and the journal is not".to_owned());
        }
        // Experiments end in another order than they begin, so those that a kill kept out need not be the
        // last.
        let held: BTreeSet<u32> = held.iter().map(|entry| entry.number).collect();
        let missing: Vec<&IndexEntry> =
            entries.iter().filter(|entry| !held.contains(&entry.number)).collect();
        missing.iter().try_for_each(|entry| store.insert(entry))?;
        store.database.flush().map_err(|error| error.to_string())?;
        Ok((store, missing.len()))
    }

    fn read_all(&self) -> Result<Vec<IndexEntry>, String> {
        self.database
            .scan_prefix(b"e")
            .values()
            .map(|value| {
                let bytes = value.map_err(|error| error.to_string())?;
                codec::decode(&bytes).map_err(|error| error.to_string())
            })
            .collect()
    }

    fn insert(&self, entry: &IndexEntry) -> Result<(), String> {
        let number = entry.number.to_be_bytes();
        let value = codec::encode(entry).map_err(|error| error.to_string())?;
        let key = [b"e", &number[..]].concat();
        self.database.insert(key, value).map(drop).map_err(|error| error.to_string())
    }

    /// Adds an experiment that the journal holds already, durably.
    pub fn add(&self, experiment: &Experiment, commit: &str) -> Result<(), IndexError> {
        self.guard(|store| {
            store.insert(&IndexEntry::new(experiment, commit))?;
            store.database.flush().map(drop).map_err(|error| error.to_string())
        })
    }

    /// Returns every entry, by rising number.
    pub fn entries(&self) -> Result<Vec<IndexEntry>, IndexError> {
        self.guard(Self::read_all)
    }

    fn guard<T>(&self, work: impl FnOnce(&Self) -> Result<T, String>) -> Result<T, IndexError> {
        guarded(|| work(self)).map_err(|reason| IndexError::Broken { path: self.path.clone(), reason })
    }
}

/// Turns a panic into a reason: on damaged files sled panics where others return an error.
fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().map(String::as_str);
        let message = message.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason");
        Err(format!("it panicked: {}", crate::base::text::one_line(message, 200)))
    })
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
