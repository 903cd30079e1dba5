//! The writer of the swarm's records into the journal: what git lacks of the archive, batch by batch.
//!
//! It knows from the refs alone what is there. So after a kill, an error or an overflow it starts from them
//! again.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use autoswarm_protocol::{
    id::{Author, RecordId},
    record::{Body, Verified, verify},
    swarm_config::Objective,
};
use git2::{Oid, Repository};

use super::{DISCOVERIES, Records, commit, packs, records_ref};
use crate::{
    home::journal::packed_refs,
    swarm::network::archive::{Archive, MAX_RECORDS},
};

/// Most records of one pack: some 700 KB, which are gone from memory within a second.
const BATCH: usize = 256;
/// Most discoveries that wait for those that they build on. The rest is looked for in the journal once fewer
/// wait.
const MAX_WAITING: usize = 10_000;
/// Most records in the chain: twice what an archive holds, since what an archive evicts stays in git.
const MAX_LOGGED: usize = 2 * MAX_RECORDS;
/// Priority of the objects in memory: above all other places where libgit2 writes objects.
const FIRST: i32 = 1000;

/// The kind of a record, which is also the end of its file's name in the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RecordKind {
    Discovery,
    Attestation,
    Digest,
}

impl RecordKind {
    pub(super) const ALL: [(Self, &'static str); 3] =
        [(Self::Discovery, "discovery"), (Self::Attestation, "attestation"), (Self::Digest, "digest")];

    /// Returns the kind of a record; none for one that is not kept.
    const fn of(body: &Body) -> Option<Self> {
        match body {
            Body::Discovery(_) => Some(Self::Discovery),
            Body::Attestation(_) => Some(Self::Attestation),
            Body::Digest(_) => Some(Self::Digest),
            Body::Claim(_) => None,
        }
    }

    fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(kind, _)| *kind == self);
        found.map_or("", |(_, name)| name)
    }
}

/// A record in the chain, with the file that holds it.
#[derive(Debug, Clone, Copy)]
struct Logged {
    kind: RecordKind,
    blob: Oid,
}

/// A node's chain as read from git: its newest commit, and the records in it.
#[derive(Debug, Default)]
pub(super) struct Log {
    tip: Option<Oid>,
    logged: BTreeMap<RecordId, Logged>,
}

impl Log {
    /// Reads a node's chain; empty where there is none.
    fn read(repository: &Repository, node: Author) -> Self {
        let tip = repository.refname_to_id(&records_ref(node));
        tip.map_or_else(|_| Self::default(), |tip| Self::at(repository, tip))
    }

    /// Reads the chain that ends at `tip`. A damaged one counts as empty, so it is written anew.
    pub(super) fn at(repository: &Repository, tip: Oid) -> Self {
        let mut log = Self { tip: Some(tip), logged: BTreeMap::new() };
        let mut next = Some(tip);
        while let Some(id) = next {
            match log.read_commit(repository, id) {
                Ok(parent) => next = parent,
                Err(error) => {
                    tracing::warn!("the records in git are damaged ({}); written anew", error.message());
                    return Self::default();
                }
            }
        }
        log
    }

    fn read_commit(&mut self, repository: &Repository, id: Oid) -> Result<Option<Oid>, git2::Error> {
        let (commit, odb) = (repository.find_commit(id)?, repository.odb()?);
        for entry in &commit.tree()? {
            let parsed = entry.name().ok().and_then(|name| name.split_once('.')).and_then(|(id, end)| {
                let (kind, _) = *RecordKind::ALL.iter().find(|(_, name)| *name == end)?;
                Some((id.parse().ok()?, kind))
            });
            if let Some((id, kind)) = parsed {
                // Only the header is asked for: reading the files would be reading all records.
                odb.read_header(entry.id())?;
                self.logged.insert(id, Logged { kind, blob: entry.id() });
            }
        }
        Ok(commit.parent_ids().next())
    }

    /// Returns each record's id with the file that holds it.
    pub(super) fn files(&self) -> impl Iterator<Item = (RecordId, Oid)> + '_ {
        self.logged.iter().map(|(id, logged)| (*id, logged.blob))
    }
}

/// What one round wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Written {
    /// Records that were added to the chain.
    pub records: usize,
    /// Discoveries that were added to the graph.
    pub discoveries: usize,
}

/// The writer of one journal. After an error it must be opened again: its picture may be ahead of the refs.
#[derive(Debug)]
pub struct Writer {
    journal: PathBuf,
    objective: Objective,
    node: Author,
    log: Log,
    commits: BTreeMap<RecordId, Oid>,
    /// Discoveries without a commit, with those that they build on.
    waiting: BTreeMap<RecordId, Vec<RecordId>>,
    /// Whether some discoveries found no room in `waiting`.
    overflowed: bool,
}

impl Writer {
    /// Reads what is in git already. The caller holds the home's lock, and nobody else writes these refs.
    pub fn open(journal: &Path, node: Author, objective: Objective) -> anyhow::Result<Self> {
        packs::remove_leftovers(journal)?;
        let repository = Repository::open_bare(journal)?;
        let odb = repository.odb()?;
        let mut commits = BTreeMap::new();
        for (name, id) in refs_of(&repository, DISCOVERIES)? {
            let record = name.rsplit_once('/').and_then(|(_, id)| id.parse().ok());
            // A ref whose commit is missing counts as none: it is written again, with the same id.
            if let (Some(record), true) = (record, odb.exists(id)) {
                commits.insert(record, id);
            }
        }
        let log = Log::read(&repository, node);
        let (journal, waiting) = (journal.to_owned(), BTreeMap::new());
        let mut writer = Self { journal, objective, node, log, commits, waiting, overflowed: false };
        writer.find_waiting(&repository);
        Ok(writer)
    }

    /// Writes what git lacks, until nothing is left or `stop` is set. Each batch is complete on the disk.
    pub fn round(&mut self, records: &mut dyn Records, stop: &AtomicBool) -> anyhow::Result<Written> {
        let mut lacking = records.ids()?;
        lacking.retain(|id| !self.log.logged.contains_key(id));
        let room = MAX_LOGGED.saturating_sub(self.log.logged.len());
        if lacking.len() > room {
            tracing::warn!("git holds {MAX_LOGGED} records of the swarm; no more are written");
            lacking.truncate(room);
        }
        let mut done = Written::default();
        for ids in lacking.chunks(BATCH) {
            if stop.load(Ordering::Relaxed) {
                return Ok(done);
            }
            let mut batch = BTreeMap::new();
            for bytes in records.get(ids)? {
                // The clock is not asked again: it had its say when the archive took the record.
                if let Ok(record) = verify(&bytes, &self.objective, u64::MAX) {
                    batch.insert(record.id(), (record, bytes));
                }
            }
            done.records += batch.len();
            done.discoveries += self.write(&batch)?;
        }
        // Discoveries that waited may be ready by now, with their parents written.
        while !stop.load(Ordering::Relaxed) {
            if self.overflowed && self.waiting.len() < MAX_WAITING / 2 {
                self.find_waiting(&Repository::open_bare(&self.journal)?);
            }
            match self.write(&BTreeMap::new())? {
                0 => break,
                more => done.discoveries += more,
            }
        }
        if done != Written::default() {
            packs::merge(&self.journal)?;
        }
        Ok(done)
    }

    /// Writes one batch: new records into the chain, and discoveries that are ready into the graph. Returns
    /// how many discoveries were ready.
    fn write(&mut self, batch: &BTreeMap<RecordId, (Verified<Body>, Vec<u8>)>) -> anyhow::Result<usize> {
        // Opened anew for each batch: its objects are gathered in memory, and go when it is dropped.
        let repository = Repository::open_bare(&self.journal)?;
        let odb = repository.odb()?;
        let _memory = odb.add_new_mempack_backend(FIRST)?;
        let mut refs = BTreeMap::new();
        let mut objects = self.write_chain(&repository, batch)?;
        refs.extend(self.log.tip.map(|tip| (records_ref(self.node), tip)));
        for (record, _) in batch.values() {
            self.wait(record);
        }
        let ready = self.ready();
        for id in &ready {
            let parents = self.waiting.remove(id).unwrap_or_default();
            let bytes = match batch.get(id) {
                Some((_, bytes)) => bytes.clone(),
                None => self.stored(&repository, *id).unwrap_or_default(),
            };
            // A record that the disk spoiled gets no commit. Those that build on it wait, and everything else
            // goes on.
            let Ok(record) = verify(&bytes, &self.objective, u64::MAX) else { continue };
            let Some(discovery) = record.discovery() else { continue };
            // The parents are those inspirations that are discoveries, in the order of their ids. A spoiled
            // one has no commit, and then this one gets none either.
            let is_discovery = |id: &&RecordId| {
                self.log.logged.get(*id).is_some_and(|logged| logged.kind == RecordKind::Discovery)
            };
            let parents: Option<Vec<Oid>> =
                parents.iter().filter(is_discovery).map(|parent| self.commits.get(parent).copied()).collect();
            let Some(parents) = parents else { continue };
            let (commit, new) = commit::write(&repository, &discovery, &bytes, &parents)?;
            objects.extend(new);
            refs.insert(format!("{DISCOVERIES}{}/{id}", record.author()), commit);
            self.commits.insert(*id, commit);
        }
        if !objects.is_empty() {
            packs::write(&repository, &self.journal, &objects)?;
            packed_refs::set(&self.journal, &refs)?;
        }
        Ok(ready.len())
    }

    /// Returns a record's bytes from the chain.
    fn stored(&self, repository: &Repository, id: RecordId) -> Option<Vec<u8>> {
        let blob = repository.find_blob(self.log.logged.get(&id)?.blob).ok()?;
        Some(blob.content().to_vec())
    }

    /// Adds a commit with the batch's records to the chain; returns the ids of the new objects.
    fn write_chain(
        &mut self,
        repository: &Repository,
        batch: &BTreeMap<RecordId, (Verified<Body>, Vec<u8>)>,
    ) -> Result<Vec<Oid>, git2::Error> {
        let mut objects = Vec::new();
        let mut tree = repository.treebuilder(None)?;
        let mut newest = 0;
        for (id, (record, bytes)) in batch {
            let Some(kind) = RecordKind::of(record.value()) else { continue };
            let blob = repository.blob(bytes)?;
            tree.insert(format!("{id}.{}", kind.name()), blob, 0o100_644)?;
            objects.push(blob);
            newest = newest.max(record.made_at());
            self.log.logged.insert(*id, Logged { kind, blob });
        }
        if objects.is_empty() {
            return Ok(objects);
        }
        let tree = repository.find_tree(tree.write()?)?;
        let parent = self.log.tip.map(|tip| repository.find_commit(tip)).transpose()?;
        let parents: Vec<_> = parent.iter().collect();
        let author = commit::signature(newest)?;
        let subject = format!("{} records", objects.len());
        let tip = repository.commit(None, &author, &author, &subject, &tree, &parents)?;
        objects.extend([tree.id(), tip]);
        self.log.tip = Some(tip);
        Ok(objects)
    }

    /// Remembers a discovery that has no commit yet.
    fn wait(&mut self, record: &Verified<Body>) {
        let Some(discovery) = record.discovery() else { return };
        if self.commits.contains_key(&record.id()) {
            return;
        }
        if self.waiting.len() >= MAX_WAITING {
            self.overflowed = true;
            return;
        }
        let inspirations: BTreeSet<RecordId> = discovery.value().inspirations.iter().copied().collect();
        self.waiting.insert(record.id(), inspirations.into_iter().collect());
    }

    /// Looks through the chain for discoveries without a commit.
    fn find_waiting(&mut self, repository: &Repository) {
        self.overflowed = false;
        let discoveries = self.log.logged.iter().filter(|(_, logged)| logged.kind == RecordKind::Discovery);
        let lacking: Vec<Oid> = discoveries
            .filter(|(id, _)| !self.commits.contains_key(id) && !self.waiting.contains_key(id))
            .map(|(_, logged)| logged.blob)
            .collect();
        for blob in lacking {
            let Ok(blob) = repository.find_blob(blob) else { continue };
            if let Ok(record) = verify(blob.content(), &self.objective, u64::MAX) {
                self.wait(&record);
            }
        }
    }

    /// Returns discoveries whose parents are all in the graph, or come before them in the list; at most a
    /// batch.
    fn ready(&self) -> Vec<RecordId> {
        // Kahn's algorithm: each discovery that is ready frees those that wait for it alone.
        let mut children: BTreeMap<RecordId, Vec<RecordId>> = BTreeMap::new();
        let mut missing: BTreeMap<RecordId, usize> = BTreeMap::new();
        let mut free = BTreeSet::new();
        for (&id, inspirations) in &self.waiting {
            let open = inspirations.iter().filter(|inspiration| !self.is_settled(**inspiration));
            let count = open.map(|parent| children.entry(*parent).or_default().push(id)).count();
            if count == 0 {
                free.insert(id);
            } else {
                missing.insert(id, count);
            }
        }
        let mut ready = Vec::new();
        while let Some(id) = free.pop_first() {
            ready.push(id);
            if ready.len() == BATCH {
                break;
            }
            for child in children.remove(&id).unwrap_or_default() {
                let count = missing.get_mut(&child).map_or(1, |count| {
                    *count -= 1;
                    *count
                });
                if count == 0 {
                    free.insert(child);
                }
            }
        }
        ready
    }

    /// Returns whether an inspiration holds nothing up: it is in the graph, or it is held and no discovery.
    fn is_settled(&self, id: RecordId) -> bool {
        match self.log.logged.get(&id) {
            Some(logged) => logged.kind != RecordKind::Discovery || self.commits.contains_key(&id),
            None => false,
        }
    }
}

/// Returns the refs under a prefix with the commits that they point to.
pub(super) fn refs_of(repository: &Repository, prefix: &str) -> Result<Vec<(String, Oid)>, git2::Error> {
    let mut found = Vec::new();
    for reference in repository.references()? {
        // A ref that cannot be read counts as absent.
        let Ok(reference) = reference else { continue };
        if let (Ok(name), Some(id)) = (reference.name(), reference.target())
            && name.starts_with(prefix)
        {
            found.push((name.to_owned(), id));
        }
    }
    Ok(found)
}

/// Fills an archive that lost everything from this node's chain in the journal; returns how many records came
/// back.
pub fn restore(journal: &Path, node: Author, archive: &mut Archive, now: u64) -> anyhow::Result<usize> {
    let repository = Repository::open_bare(journal)?;
    for (_, blob) in Log::read(&repository, node).files() {
        // A record that the disk spoiled is left out: the peers have it.
        let Ok(blob) = repository.find_blob(blob) else { continue };
        if let Err(fault) = archive.insert(blob.content(), now) {
            tracing::debug!("a record in git does not pass: {fault}");
        }
    }
    archive.flush()?;
    Ok(archive.len())
}
