//! Reads records out of somebody's repository, which may be made to harm whoever reads it.
//!
//! **Sizes are asked for before anything is read, only the top level of a tree is looked at, and nothing is
//! checked out**: links, submodules and deep trees are mere names in a list. What comes out are candidates;
//! the archive judges them.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
};

use autoswarm_protocol::{
    id::RecordId,
    record::{MAX_INSPIRATIONS, MAX_RECORD_BYTES},
};
use git2::{ObjectType, Odb, Oid, Repository, TreeEntry};

use super::{DISCOVERIES, Imported, RECORDS, commit::RECORD, write_candidate, writer::RecordKind};
use crate::swarm::network::archive::MAX_RECORDS;

/// Most refs that are looked at: a discovery of each record that an archive holds, and as many nodes.
const MAX_REFS: usize = 2 * MAX_RECORDS;
/// Most commits that are looked at: those of the refs, and the chains of ten nodes.
const MAX_COMMITS: usize = 4 * MAX_RECORDS;
/// Most candidates, and most bytes of them: twice what an archive holds, at the size that records usually
/// have.
const MAX_CANDIDATES: usize = 2 * MAX_RECORDS;
const MAX_CANDIDATE_BYTES: usize = 512 << 20;
/// Largest commit that is read, bytes. Ours have 1 KB; one with a million parents has 48 MB.
const MAX_COMMIT_BYTES: usize = 64 << 10;
/// Largest tree that is read, bytes. Ours have 27 KB.
const MAX_TREE_BYTES: usize = 1 << 20;
/// Most bytes of all trees together: the chains of ten nodes have 200 MB.
const MAX_TREES_BYTES: usize = 1 << 30;
/// Most parents of a commit that are followed; a discovery has half of it.
const MAX_PARENTS: usize = 2 * MAX_INSPIRATIONS;

/// What was found in a repository.
#[derive(Debug, Default)]
pub struct Harvest {
    /// Counts of candidates whose files are known already, and of what is refused without asking the archive.
    pub imported: Imported,
    /// The ids of all records that are there.
    pub records: BTreeSet<RecordId>,
    /// The refs, each with its commit.
    pub refs: BTreeSet<(String, Oid)>,
}

/// Reads all records that `refs` reach, and writes those that are not `known` to `out` as candidates.
pub fn harvest(
    repository: &Repository,
    refs: impl IntoIterator<Item = (String, Oid)>,
    known: &BTreeMap<Oid, RecordId>,
    out: &mut impl Write,
) -> anyhow::Result<Harvest> {
    let odb = repository.odb()?;
    let mut refs =
        refs.into_iter().filter(|(name, _)| name.starts_with(DISCOVERIES) || name.starts_with(RECORDS));
    let refs_read: BTreeSet<(String, Oid)> = refs.by_ref().take(MAX_REFS).collect();
    let mut reader = Reader {
        repository,
        odb,
        known,
        found: Harvest::default(),
        trees: BTreeSet::new(),
        files: BTreeSet::new(),
        tree_bytes: 0,
        candidates: 0,
        bytes: 0,
    };
    if refs.next().is_some() {
        reader.refuse(&format!("refs beyond the first {MAX_REFS}"));
    }
    let mut next: Vec<Oid> = refs_read.iter().map(|(_, id)| *id).collect();
    let mut commits = BTreeSet::new();
    while let Some(id) = next.pop() {
        if !commits.insert(id) {
            continue;
        }
        if commits.len() > MAX_COMMITS {
            reader.refuse(&format!("commits beyond the first {MAX_COMMITS}"));
            break;
        }
        next.extend(reader.commit(id, out)?.into_iter().filter(|parent| !commits.contains(parent)));
    }
    reader.found.refs = refs_read;
    Ok(reader.found)
}

struct Reader<'a> {
    repository: &'a Repository,
    odb: Odb<'a>,
    known: &'a BTreeMap<Oid, RecordId>,
    found: Harvest,
    /// Trees and files that were looked at already.
    trees: BTreeSet<Oid>,
    files: BTreeSet<Oid>,
    tree_bytes: usize,
    candidates: usize,
    bytes: usize,
}

impl Reader<'_> {
    fn refuse(&mut self, reason: &str) {
        self.found.imported.refuse(reason, 1);
    }

    /// Returns an object's size if it is of this kind and of at most `most` bytes; else counts it as refused.
    fn fit(&mut self, id: Oid, kind: ObjectType, most: usize, what: &str) -> Option<usize> {
        let problem = match self.odb.read_header(id) {
            Err(_) => "is missing or damaged",
            Ok((_, found)) if found != kind => "is something else",
            Ok((size, _)) if size > most => "is too large",
            Ok((size, _)) => return Some(size),
        };
        self.refuse(&format!("{what} that {problem}"));
        None
    }

    /// Reads a commit's records; returns its parents.
    fn commit(&mut self, id: Oid, out: &mut impl Write) -> io::Result<Vec<Oid>> {
        if self.fit(id, ObjectType::Commit, MAX_COMMIT_BYTES, "a commit").is_none() {
            return Ok(Vec::new());
        }
        let Ok(commit) = self.repository.find_commit(id) else {
            self.refuse("a commit that is missing or damaged");
            return Ok(Vec::new());
        };
        let tree = commit.tree_id();
        let most = MAX_TREE_BYTES.min(MAX_TREES_BYTES - self.tree_bytes);
        if self.trees.insert(tree)
            && let Some(size) = self.fit(tree, ObjectType::Tree, most, "a tree")
        {
            self.tree_bytes += size;
            match self.repository.find_tree(tree) {
                Ok(tree) => tree.iter().try_for_each(|entry| self.entry(&entry, out))?,
                Err(_) => self.refuse("a tree that is missing or damaged"),
            }
        }
        Ok(commit.parent_ids().take(MAX_PARENTS).collect())
    }

    fn entry(&mut self, entry: &TreeEntry<'_>, out: &mut impl Write) -> io::Result<()> {
        let is_record = entry.name().is_ok_and(|name| {
            let end = name.rsplit_once('.').map_or("", |(_, end)| end);
            name == RECORD || RecordKind::ALL.iter().any(|(_, kind)| *kind == end)
        });
        if !is_record {
            return Ok(());
        }
        // The mode first: an entry that is no file would else mark its id as looked at, and hide the file of
        // the same id elsewhere.
        if entry.filemode() & 0o170_000 != 0o100_000 {
            self.refuse("a record that is no file");
            return Ok(());
        }
        if !self.files.insert(entry.id()) {
            return Ok(());
        }
        if let Some(id) = self.known.get(&entry.id()) {
            self.found.records.insert(*id);
            self.found.imported.known += 1;
            return Ok(());
        }
        if self.fit(entry.id(), ObjectType::Blob, MAX_RECORD_BYTES, "a record").is_none() {
            return Ok(());
        }
        let Ok(blob) = self.repository.find_blob(entry.id()) else {
            self.refuse("a record that is missing or damaged");
            return Ok(());
        };
        if self.candidates == MAX_CANDIDATES || self.bytes + blob.size() > MAX_CANDIDATE_BYTES {
            self.refuse("a record beyond what one sync takes");
            return Ok(());
        }
        self.candidates += 1;
        self.bytes += blob.size();
        self.found.records.insert(RecordId::of(blob.content()));
        write_candidate(out, blob.content())
    }
}
