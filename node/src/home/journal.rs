//! The journal: a git repository in which every experiment is a commit.
//!
//! It is the truth; everything else is rebuilt from it.
//!
//! | ref | what |
//! |---|---|
//! | `refs/heads/autoresearch/<tag>` | one branch per arena: its baseline and what was kept, in order |
//! | `refs/discards/<number>` | all else, such as discards and crashes, on the branch's tip of its time |
//! | `refs/swarm…` | the swarm's records, written by [`crate::swarm::git`]; its packs have a `.keep` |
//!
//! A commit's tree holds `config.toml`, `result.json`, `curve.tsv` and `report.md`. **Objects are written
//! first and the ref last, each synced. So a kill at any moment loses at most the experiment that was being
//! written**, and that one is still in `pending.json`. The caller holds the home's lock: nobody else writes
//! here.
//!
//! What is not here: judgement (`research`) and look-ups by anything but the number ([`crate::home::index`]).

mod leftovers;
pub(crate) mod packed_refs;
mod page;
mod upkeep;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use autoswarm_protocol::{Experiment, Verdict, id::ArenaId};
use git2::{ErrorCode, Oid, Repository, RepositoryInitOptions, Signature, Time};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::base::files;

pub use upkeep::{JournalCaps, Upkeep};

/// Version of the layout of `result.json`; any other is refused.
const FORMAT: u32 = 1;

/// Largest file that is read back from a commit, bytes. A record of ten runs takes about 20 KB.
const MAX_FILE_BYTES: usize = 16 << 20;

const DISCARDS: &str = "refs/discards/";
const BRANCHES: &str = "refs/heads/autoresearch/";

/// What is wrong with a journal.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Git reports an error.
    #[error("the journal `{}`: {}", path.display(), source.message())]
    Git {
        /// The folder of the repository.
        path: PathBuf,
        /// What libgit2 said.
        source: git2::Error,
    },
    /// A file beside the repository cannot be written or read.
    #[error("cannot write `{}`: {source}; free space or check permissions", path.display())]
    File {
        /// The file that failed.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// An experiment with this number is recorded already.
    #[error("experiment {0} is in the journal already")]
    Duplicate(u32),
}

/// An experiment with its commit.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// The experiment, as the journal holds it.
    pub experiment: Experiment,
    /// Its commit's id, 40 hexadecimal digits.
    pub commit: String,
}

/// What `result.json` holds; the curves are in `curve.tsv`.
#[derive(Serialize, Deserialize)]
struct ResultFile {
    format: u32,
    #[serde(flatten)]
    experiment: Experiment,
}

/// An open journal.
pub struct Journal {
    home: PathBuf,
    repository: Repository,
    commits: BTreeMap<u32, Oid>,
    rows: BTreeMap<u32, String>,
    branches: BTreeMap<ArenaId, String>,
    /// The highest number that a ref names, readable or not.
    highest: Option<u32>,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal")
            .field("home", &self.home)
            .field("experiments", &self.commits.len())
            .finish_non_exhaustive()
    }
}

/// A journal as it was found, with what it holds.
#[derive(Debug)]
pub struct Opened {
    /// The journal, open for writing.
    pub journal: Journal,
    /// Every experiment, by rising number.
    pub experiments: Vec<Recorded>,
    /// Commits that could not be read, with the reason; none unless the disk or a person damaged them.
    pub damaged: Vec<String>,
}

impl Journal {
    /// Opens the journal of a home, or makes an empty one, and reads every experiment. Leftovers of a kill
    /// (locks, temporary files) are removed and `results.tsv` is brought up to date.
    pub fn open(home: &Path) -> Result<Opened, JournalError> {
        let path = home.join("journal");
        let git = |source| JournalError::Git { path: path.clone(), source };
        leftovers::remove_leftovers(&path)
            .map_err(|source| JournalError::File { path: path.clone(), source })?;
        let repository = match Repository::open_bare(&path) {
            Ok(repository) => repository,
            Err(_) => create(&path).map_err(git)?,
        };
        configure(&repository).map_err(git)?;
        let (home, rows) = (home.to_owned(), BTreeMap::new());
        let mut journal = Self {
            home,
            repository,
            commits: BTreeMap::new(),
            rows,
            branches: BTreeMap::new(),
            highest: None,
        };
        let (experiments, damaged) = journal.read().map_err(git)?;
        for recorded in &experiments {
            let number = recorded.experiment.number;
            journal.rows.insert(number, page::table_row(&recorded.experiment, &recorded.commit));
        }
        journal.write_table()?;
        Ok(Opened { journal, experiments, damaged })
    }

    fn git(&self, source: git2::Error) -> JournalError {
        JournalError::Git { path: self.path(), source }
    }

    /// Returns the repository's folder.
    pub fn path(&self) -> PathBuf {
        self.home.join("journal")
    }

    /// Returns the number of the next experiment.
    pub fn next_number(&self) -> u32 {
        self.highest.map_or(0, |number| number + 1)
    }

    /// Returns every experiment's number and commit, by rising number.
    pub fn commits(&self) -> impl Iterator<Item = (u32, String)> + '_ {
        self.commits.iter().map(|(&number, id)| (number, id.to_string()))
    }

    /// Returns the branch of an arena, such as `autoresearch/nov21-1a2b3c4d`, once it has one.
    pub fn branch(&self, arena: ArenaId) -> Option<&str> {
        self.branches.get(&arena).and_then(|name| name.strip_prefix("refs/heads/"))
    }

    /// Writes an experiment and returns its commit's id. From then on the experiment survives a power cut.
    pub fn record(&mut self, experiment: &Experiment) -> Result<String, JournalError> {
        if self.commits.contains_key(&experiment.number) {
            return Err(JournalError::Duplicate(experiment.number));
        }
        let id = self.write_commit(experiment).map_err(|source| self.git(source))?;
        self.commits.insert(experiment.number, id);
        self.highest = self.highest.max(Some(experiment.number));
        self.rows.insert(experiment.number, page::table_row(experiment, &id.to_string()));
        self.write_table()?;
        Ok(id.to_string())
    }

    fn write_commit(&mut self, experiment: &Experiment) -> Result<Oid, git2::Error> {
        let repository = &self.repository;
        let mut bare = experiment.clone();
        page::strip_curves(&mut bare);
        let result = serde_json::to_string_pretty(&ResultFile { format: FORMAT, experiment: bare })
            .map_err(|error| git2::Error::from_str(&error.to_string()))?;
        let mut tree = repository.treebuilder(None)?;
        for (name, content) in [
            ("config.toml", experiment.config.to_toml()),
            ("curve.tsv", page::curves(experiment)),
            ("report.md", page::report(experiment)),
            ("result.json", result),
        ] {
            tree.insert(name, repository.blob(content.as_bytes())?, 0o100_644)?;
        }
        let tree = repository.find_tree(tree.write()?)?;
        let known = self.branches.get(&experiment.arena).cloned();
        let tip = known.as_deref().map(|branch| repository.refname_to_id(branch)).transpose()?;
        let parent = tip.map(|tip| repository.find_commit(tip)).transpose()?;
        let author = Signature::new(
            "autoswarm",
            "node@autoswarm.invalid",
            &Time::new(experiment.finished_at as i64, 0),
        )?;
        let parents: Vec<_> = parent.iter().collect();
        let id = repository.commit(None, &author, &author, &page::message(experiment), &tree, &parents)?;
        // A keep extends the branch of its arena; all else stays beside it, under a ref of its own.
        if matches!(experiment.verdict, Verdict::Baseline | Verdict::Keep { .. }) {
            let branch = known.unwrap_or_else(|| branch_name(experiment));
            match tip {
                Some(tip) => repository.reference_matching(&branch, id, true, tip, "keep")?,
                None => repository.reference(&branch, id, false, "baseline")?,
            };
            if tip.is_none() {
                repository.set_head(&branch)?;
            }
            self.branches.insert(experiment.arena, branch);
        } else {
            repository.reference(&format!("{DISCARDS}{}", experiment.number), id, false, "discard")?;
        }
        Ok(id)
    }

    /// Reads every experiment from the refs, and learns branches and numbers on the way.
    fn read(&mut self) -> Result<(Vec<Recorded>, Vec<String>), git2::Error> {
        let mut found: BTreeMap<u32, Recorded> = BTreeMap::new();
        let mut damaged = Vec::new();
        let mut names: Vec<(String, Oid)> = Vec::new();
        for reference in self.repository.references()? {
            let Ok(reference) = reference else {
                damaged.push("a ref cannot be read".to_owned());
                continue;
            };
            // The swarm's refs are not this module's, and there may be thousands.
            if let (Ok(name), Some(id)) = (reference.name(), reference.target())
                && (name.starts_with(BRANCHES) || name.starts_with(DISCARDS))
            {
                names.push((name.to_owned(), id));
            }
        }
        for (name, id) in names {
            let on_branch = name.starts_with(BRANCHES);
            let discard = name.strip_prefix(DISCARDS);
            self.highest = self.highest.max(discard.and_then(|number| number.parse().ok()));
            let mut next = Some(id);
            while let Some(id) = next.take() {
                match self.read_commit(id) {
                    Ok(recorded) => {
                        let Experiment { number, arena, .. } = recorded.experiment;
                        if on_branch {
                            self.branches.insert(arena, name.clone());
                        }
                        self.commits.insert(number, id);
                        self.highest = self.highest.max(Some(number));
                        found.insert(number, recorded);
                    }
                    Err(reason) => damaged.push(format!("{name}, commit {id}: {reason}")),
                }
                // A damaged record hides none of the older ones below it, unless the commit itself is gone.
                if on_branch {
                    next = self.repository.find_commit(id).ok().and_then(|commit| commit.parent_id(0).ok());
                }
            }
        }
        self.point_head(&found)?;
        Ok((found.into_values().collect(), damaged))
    }

    /// Lets `HEAD` name a branch that exists: a kill may have come between the first commit and this step.
    fn point_head(&self, found: &BTreeMap<u32, Recorded>) -> Result<(), git2::Error> {
        let last = found.values().rev().find_map(|recorded| self.branches.get(&recorded.experiment.arena));
        match last {
            Some(branch) if self.repository.head().is_err() => self.repository.set_head(branch),
            _ => Ok(()),
        }
    }

    fn read_commit(&self, id: Oid) -> Result<Recorded, String> {
        let said = |error: git2::Error| error.message().to_owned();
        let tree = self.repository.find_commit(id).and_then(|commit| commit.tree()).map_err(said)?;
        let file = |name: &str| -> Result<Option<Vec<u8>>, String> {
            let Some(entry) = tree.get_name(name) else { return Ok(None) };
            let blob = self.repository.find_blob(entry.id()).map_err(said)?;
            if blob.size() > MAX_FILE_BYTES {
                return Err(format!("`{name}` is larger than {MAX_FILE_BYTES} bytes"));
            }
            Ok(Some(blob.content().to_vec()))
        };
        let result = file("result.json")?.ok_or("it has no `result.json`")?;
        let ResultFile { format, mut experiment } =
            serde_json::from_slice(&result).map_err(|error| format!("`result.json`: {error}"))?;
        if format != FORMAT {
            return Err(format!("`result.json` has format {format}, and {FORMAT} is read here"));
        }
        if let Some(table) = file("curve.tsv")? {
            page::fill_curves(&mut experiment, &String::from_utf8_lossy(&table));
        }
        Ok(Recorded { experiment, commit: id.to_string() })
    }

    /// Returns an experiment by its number.
    pub fn experiment(&self, number: u32) -> Result<Option<Recorded>, JournalError> {
        let Some(&id) = self.commits.get(&number) else { return Ok(None) };
        self.read_commit(id).map(Some).map_err(|reason| self.git(git2::Error::from_str(&reason)))
    }

    fn write_table(&self) -> Result<(), JournalError> {
        let text: String =
            std::iter::once(page::TABLE_HEADER).chain(self.rows.values().map(String::as_str)).collect();
        let path = self.home.join("results.tsv");
        files::replace(&path, text.as_bytes()).map_err(|source| JournalError::File { path, source })
    }

    /// Keeps the experiments in flight, so that a restart does not repeat their finished runs. Durable when
    /// this returns.
    pub fn save_pending<T: Serialize>(&self, pending: &[T]) -> Result<(), JournalError> {
        let path = self.home.join("pending.json");
        let bytes = serde_json::to_vec(pending).map_err(io::Error::from);
        let written = bytes.and_then(|bytes| files::replace(&path, &bytes));
        written.map_err(|source| JournalError::File { path, source })
    }

    /// Returns what was in flight, except for experiments that are in the journal already; `number` tells an
    /// entry's experiment. Entries that cannot be read are left out as well: that costs runs, not results.
    pub fn load_pending<T: DeserializeOwned>(&self, number: impl Fn(&T) -> u32) -> Vec<T> {
        let text = fs::read(self.home.join("pending.json")).unwrap_or_default();
        let entries: Vec<serde_json::Value> = serde_json::from_slice(&text).unwrap_or_default();
        let entries = entries.into_iter().filter_map(|entry| serde_json::from_value(entry).ok());
        entries.filter(|entry| !self.commits.contains_key(&number(entry))).collect()
    }
}

fn create(path: &Path) -> Result<Repository, git2::Error> {
    let mut options = RepositoryInitOptions::new();
    // No template: what a user's git puts into new repositories, such as hooks, has no business here.
    options.bare(true).external_template(false).initial_head("autoresearch/none").mkpath(true);
    Repository::init_opts(path, &options)
}

/// Makes git sync what it writes, and never pack by itself. libgit2 and older gits read
/// `core.fsyncObjectFiles`, newer gits `core.fsync`.
fn configure(repository: &Repository) -> Result<(), git2::Error> {
    let mut config = repository.config()?;
    for (name, value) in [("core.fsyncObjectFiles", "true"), ("core.fsync", "all"), ("gc.auto", "0")] {
        match config.get_string(name) {
            Ok(found) if found == value => {}
            Err(error) if error.code() != ErrorCode::NotFound => return Err(error),
            _ => config.set_str(name, value)?,
        }
    }
    Ok(())
}

/// Returns the ref of an arena's branch, named by the day of its baseline and the beginning of its id.
fn branch_name(experiment: &Experiment) -> String {
    const MONTHS: [&str; 12] =
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let (month, day) = month_and_day(experiment.started_at / 86_400);
    format!("{BRANCHES}{}{day}-{}", MONTHS[month - 1], experiment.arena.fmt_short())
}

/// Returns the month and the day, both from 1, of a day since 1970. Years are counted from 1 March, so that
/// leap days are last.
fn month_and_day(days: u64) -> (usize, u64) {
    let since_march = days + 719_468; // days from 1 March of year 0 to 1 January 1970
    let of_era = since_march % 146_097; // an era is 400 years
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    (if month < 10 { month + 3 } else { month - 9 } as usize, day)
}

#[cfg(test)]
#[path = "journal_tests.rs"]
pub(crate) mod tests;
