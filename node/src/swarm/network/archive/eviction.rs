//! Eviction: which records stay when there is no room for all.
//!
//! It is a pure function of the set of records. Two full archives that have seen the same records keep the
//! same ones, in whatever order they came.
//!
//! Records are kept by size class. Every class has the same number of bytes, so memory is bounded. In a
//! class, the records of an author form a row, in order of worth. A class that overflows drops the last record
//! of its longest row: everybody's best stays before anybody's second best. What an author claims moves its own
//! records only, never those of another.
//!
//! Records are ranked singly and by their places in their author's row, and both ranks can only fall while a
//! set grows. Hence nothing that was dropped ever comes back. And two sets that are cut down and then joined
//! keep what they would have kept if they had been joined first.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use autoswarm_protocol::{
    id::{Author, RecordId},
    record::{Body, MAX_RECORD_BYTES, Verified},
};

/// Largest record of the smallest size class, bytes; most records are smaller.
const SMALLEST_CLASS: usize = 1024;

/// Most records that an archive with the default caps holds. There are six classes, and each holds half as
/// many as the one below it.
pub const MAX_RECORDS: usize = 2 * (BYTES_OF_CLASS / SMALLEST_CLASS) - BYTES_OF_CLASS / MAX_RECORD_BYTES;

/// Bytes that each size class has by default.
const BYTES_OF_CLASS: usize = 64 << 20;

/// How much an archive holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchiveCaps {
    /// Bytes of each size class (up to 1, 2, 4 … 32 KiB).
    pub bytes_of_class: usize,
    /// The divisor of a class: one author may take one part in so many of its records.
    pub authors: usize,
}

impl Default for ArchiveCaps {
    /// 65,536 records of up to 1 KiB, 32,768 of up to 2 KiB, and so on: 384 MiB in the worst case. One author
    /// has room for 2,048 small records: half a year of nights in which ten experiments are kept.
    fn default() -> Self {
        Self { bytes_of_class: BYTES_OF_CLASS, authors: 32 }
    }
}

/// What decides a record's place in its author's row; the smaller the better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Worth {
    /// Discoveries first, attestations of re-runs next, digests last.
    kind: u8,
    /// Δ/se in thousandths, for discoveries only: the author's own ranking.
    strength: i64,
    newest: Reverse<u64>,
    id: RecordId,
}

impl Worth {
    fn of(record: &Verified<Body>) -> Self {
        let (kind, strength) = match record.value() {
            Body::Discovery(discovery) => {
                let estimate = &discovery.estimate;
                // The cast saturates, and a standard error of zero counts as a tiny one.
                (0, (estimate.delta / estimate.standard_error.max(1e-9) * 1000.0) as i64)
            }
            Body::Attestation(_) => (1, 0),
            Body::Digest(_) | Body::Claim(_) => (2, 0),
        };
        Self { kind, strength, newest: Reverse(record.made_at()), id: record.id() }
    }
}

/// The records of one size class.
#[derive(Debug, Default)]
struct SizeClass {
    rows: BTreeMap<Author, BTreeSet<Worth>>,
    /// Authors by the lengths of their rows here.
    by_length: BTreeSet<(usize, Author)>,
    records: usize,
}

impl SizeClass {
    fn put(&mut self, author: Author, worth: Worth) {
        let row = self.rows.entry(author).or_default();
        let before = row.len();
        row.insert(worth);
        let after = row.len();
        self.by_length.remove(&(before, author));
        self.by_length.insert((after, author));
        self.records += after - before;
    }

    /// Takes the last record out of an author's row, and returns its id.
    fn drop_last(&mut self, author: Author) -> Option<RecordId> {
        let row = self.rows.get_mut(&author)?;
        let last = row.pop_last()?;
        self.records -= 1;
        self.by_length.remove(&(row.len() + 1, author));
        if row.is_empty() {
            self.rows.remove(&author);
        } else {
            self.by_length.insert((row.len(), author));
        }
        Some(last.id)
    }
}

/// All size classes of an archive, by their largest record in bytes.
#[derive(Debug)]
pub(super) struct Eviction {
    caps: ArchiveCaps,
    classes: BTreeMap<usize, SizeClass>,
}

impl Eviction {
    pub(super) const fn new(caps: ArchiveCaps) -> Self {
        Self { caps, classes: BTreeMap::new() }
    }

    /// Returns whether a record of this author is here.
    pub(super) fn has(&self, author: Author) -> bool {
        self.classes.values().any(|class| class.rows.contains_key(&author))
    }

    /// Takes a record of `bytes` bytes into its class. Returns the record that had to go for it, maybe the
    /// same one.
    pub(super) fn put(&mut self, record: &Verified<Body>, bytes: usize) -> Option<RecordId> {
        let class = bytes.clamp(SMALLEST_CLASS, MAX_RECORD_BYTES).next_power_of_two();
        let room = (self.caps.bytes_of_class / class).max(1);
        let of_author = (room / self.caps.authors).max(1);
        let author = record.author();
        let held = self.classes.entry(class).or_default();
        held.put(author, Worth::of(record));
        // An author over its own share loses its own last record, even while the class has room.
        if held.rows.get(&author).is_some_and(|row| row.len() > of_author) {
            return held.drop_last(author);
        }
        if held.records > room {
            // Among rows of one length the author's id decides, which is the same on every node.
            let (_, longest) = *held.by_length.last()?;
            return held.drop_last(longest);
        }
        None
    }
}
