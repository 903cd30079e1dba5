//! The swarm's records in git: discoveries as one graph of commits, and a second way of syncing where no connection opens.
//!
//! | ref in the journal | what |
//! |---|---|
//! | `refs/swarm/<author>/<record>` | a discovery's commit: a pure function of its record, so the same id on every node |
//! | `refs/swarm-records/<author>` | what that node holds: a chain of commits whose trees hold the records as they are signed, of every kind |
//!
//! A discovery's parents are the discoveries that it builds on; it is committed once they are. The chain needs no such
//! order, so nothing waits in it. **Everything here is a copy of the archive, written behind its back**: the writer asks for
//! what git lacks, in batches, each one pack and then one rewriting of `packed-refs`; a kill in between costs a batch
//! that is written again. Packs of this module are marked with `.keep`, and [`crate::home::journal`]'s upkeep leaves them alone.
//!
//! What comes from elsewhere is read in the process that asked for it, never checked out, and enters the journal only as
//! records that the archive took.

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

/// Where discoveries' commits are.
pub const DISCOVERIES: &str = "refs/swarm/";
/// Where nodes say which records they hold.
pub const RECORDS: &str = "refs/swarm-records/";

/// Records handed to the archive at once: 64 signatures are checked in some 10 ms, and the network's task waits no longer.
const TAKEN_AT_ONCE: usize = 64;
/// Different reasons that a report tells apart.
const MAX_REASONS: usize = 16;

/// Whoever holds the records.
pub trait Records {
    /// Returns the ids of all that are held.
    fn ids(&mut self) -> anyhow::Result<Vec<RecordId>>;
    /// Returns the signed bytes of those that are held.
    fn get(&mut self, ids: &[RecordId]) -> anyhow::Result<Vec<Vec<u8>>>;
    /// Hands over bytes from anywhere; one answer for each.
    fn take(&mut self, records: Vec<Vec<u8>>) -> anyhow::Result<Vec<Result<Taken, Fault>>>;
}

/// The records of a home where no node runs.
#[derive(Debug)]
pub struct ArchiveAtRest<'a> {
    /// The open archive.
    pub archive: &'a mut Archive,
    /// Seconds since 1970.
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

/// What came of records from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Imported {
    /// Held from now on.
    pub new: u32,
    /// Held before.
    pub known: u32,
    /// Not taken, by reason.
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

/// Returns the file of candidates for the archive: each record's length, four bytes little-endian, and its bytes.
pub fn incoming(home: &Path) -> PathBuf {
    sync_folder(home).join("incoming")
}

/// Writes one candidate.
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
