//! The swarm's records in git: discoveries as one graph of commits, and a second way to sync where no
//! connection opens.
//!
//! | ref in the journal | what |
//! |---|---|
//! | `refs/swarm/<author>/<record>` | a discovery's commit ([`commit`]), with the same id on every node |
//! | `refs/swarm-records/<author>` | the records that node holds, of every kind: a chain of commits |
//!
//! A discovery's commit is a pure function of its record. Its parents are the discoveries that it builds on,
//! and it is written once they are. The trees of a chain hold the records as they are signed. A chain needs
//! no such order, so nothing waits in it.
//!
//! **Everything here is a copy of the archive, written behind its back**: the writer asks for what git lacks,
//! in batches. Each batch is one pack and then one rewriting of `packed-refs`; a kill in between costs a
//! batch that is written again. Packs of this module are marked with `.keep`, and the upkeep of
//! [`crate::home::journal`] leaves them alone.
//!
//! What comes from elsewhere is read in the process that asked for it and never checked out. It enters the
//! journal only as records that the archive took.

pub mod bundle;
pub mod commit;
mod git_command;
pub mod harvest;
mod mirror;
mod packs;
pub mod remote;
mod writer;

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufReader, Read, Write},
    path::{Path, PathBuf},
};

use anyhow::Context;
use autoswarm_protocol::{
    id::{Author, RecordId},
    record::{Fault, MAX_RECORD_BYTES},
};
use serde::{Deserialize, Serialize};

use crate::swarm::network::archive::{Archive, Taken};

pub use mirror::GitMirror;
pub use writer::{Writer, restore};

/// Prefix of the refs of discoveries' commits.
pub const DISCOVERIES: &str = "refs/swarm/";
/// Prefix of the refs by which nodes say which records they hold.
pub const RECORDS: &str = "refs/swarm-records/";

/// Most records handed to the archive at once. Checking 64 signatures takes some 10 ms, and the network's
/// task waits no longer.
const TAKEN_AT_ONCE: usize = 64;
/// Most reasons that a report tells apart; later ones are counted together.
const MAX_REASONS: usize = 16;

/// An archive of records: of a running node, or of a home at rest.
pub trait Records {
    /// Returns the ids of all records that are held.
    fn ids(&mut self) -> anyhow::Result<Vec<RecordId>>;
    /// Returns the signed bytes of those records that are held.
    fn get(&mut self, ids: &[RecordId]) -> anyhow::Result<Vec<Vec<u8>>>;
    /// Hands over candidates from anywhere; returns one answer for each.
    fn take(&mut self, records: Vec<Vec<u8>>) -> anyhow::Result<Vec<Result<Taken, Fault>>>;
}

/// The records of a home where no node runs.
#[derive(Debug)]
pub struct ArchiveAtRest<'a> {
    /// The home's archive, open.
    pub archive: &'a mut Archive,
    /// The time by which records are judged, seconds since 1970.
    pub now: u64,
}

impl Records for ArchiveAtRest<'_> {
    fn ids(&mut self) -> anyhow::Result<Vec<RecordId>> {
        Ok(self.archive.iter().map(|held| held.record.id()).collect())
    }

    fn get(&mut self, ids: &[RecordId]) -> anyhow::Result<Vec<Vec<u8>>> {
        Ok(ids.iter().filter_map(|id| self.archive.get(*id)).map(|held| held.bytes.clone()).collect())
    }

    fn take(&mut self, records: Vec<Vec<u8>>) -> anyhow::Result<Vec<Result<Taken, Fault>>> {
        Ok(records.iter().map(|bytes| self.archive.insert(bytes, self.now)).collect())
    }
}

/// How many records from elsewhere were taken, and why others were not.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Imported {
    /// Records that are held from now on.
    pub new: u32,
    /// Records that were held before.
    pub known: u32,
    /// What was not taken, counted by reason.
    pub refused: BTreeMap<String, u32>,
}

impl Imported {
    /// Counts something that is not taken.
    pub fn refuse(&mut self, reason: impl Into<String>, count: u32) {
        let mut reason = reason.into();
        if self.refused.len() >= MAX_REASONS && !self.refused.contains_key(&reason) {
            "other reasons".clone_into(&mut reason);
        }
        *self.refused.entry(reason).or_insert(0) += count;
    }

    /// Adds what another step counted.
    pub fn add(&mut self, other: Self) {
        self.new += other.new;
        self.known += other.known;
        for (reason, count) in other.refused {
            self.refuse(reason, count);
        }
    }
}

/// Returns the ref in which a node says what it holds.
pub fn records_ref(node: Author) -> String {
    format!("{RECORDS}{node}")
}

/// Returns the folder in a home for what one sync brings; the running node reads [`incoming`] from there.
pub fn sync_folder(home: &Path) -> PathBuf {
    home.join("sync")
}

/// Returns the file of candidates for the archive. For each record it holds the length, four bytes
/// little-endian, and the bytes.
pub fn incoming(home: &Path) -> PathBuf {
    sync_folder(home).join("incoming")
}

/// Writes one candidate as [`incoming`] describes it.
fn write_candidate(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    out.write_all(&(bytes.len() as u32).to_le_bytes())?;
    out.write_all(bytes)
}

/// Hands the candidates of a file to the archive.
pub fn import(file: &Path, records: &mut dyn Records) -> anyhow::Result<Imported> {
    let mut reader =
        BufReader::new(File::open(file).with_context(|| format!("cannot read `{}`", file.display()))?);
    let mut imported = Imported::default();
    loop {
        let candidates = read_candidates(&mut reader)?;
        if candidates.is_empty() {
            return Ok(imported);
        }
        for answer in records.take(candidates)? {
            match answer {
                Ok(Taken::New(_)) => imported.new += 1,
                Ok(Taken::Known) => imported.known += 1,
                Ok(Taken::Passing(_)) => imported.refuse("a claim, which is of the moment", 1),
                Ok(Taken::NoRoom) => imported.refuse("no room for more of its author", 1),
                Err(fault) => imported.refuse(fault.to_string(), 1),
            }
        }
    }
}

fn read_candidates(reader: &mut impl Read) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut candidates = Vec::new();
    let mut length = [0; 4];
    while candidates.len() < TAKEN_AT_ONCE {
        match reader.read_exact(&mut length) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error.into()),
        }
        let length = u32::from_le_bytes(length) as usize;
        anyhow::ensure!(length <= MAX_RECORD_BYTES, "a candidate of {length} bytes is no record");
        let mut bytes = vec![0; length];
        reader.read_exact(&mut bytes)?;
        candidates.push(bytes);
    }
    Ok(candidates)
}

#[cfg(test)]
mod tests;
