//! The archive: every record that this node holds, its own and its peers'.
//!
//! Records are verified when they come in, and again when they are read back. They live in memory; a sled
//! tree beside it brings them back after a restart.
//!
//! Which records stay when there is no room for all is decided in `archive/eviction.rs`.

mod disk;
mod eviction;
mod refused;

use std::{cell::OnceCell, collections::BTreeMap, fmt, mem, path::Path, sync::Arc};

use autoswarm_protocol::{
    id::{Author, RecordId},
    record::{Body, Fault, Verified, verify},
    swarm_config::Objective,
};
use negentropy::{Bound, Id, Item, NegentropyStorageBase, NegentropyStorageVector};

pub use self::eviction::{ArchiveCaps, MAX_RECORDS};
use self::{eviction::Eviction, refused::Refused};
use super::exchange::ShortId;
use crate::base::files;

/// What became of a record whose bytes came in.
#[derive(Debug, Clone, PartialEq)]
pub enum Taken {
    /// It is new, and held from now on.
    New(Verified<Body>),
    /// It was held already.
    Known,
    /// It is valid, but no part of the reconciled set: an intent, which matters for the moment only.
    Passing(Verified<Body>),
    /// It is valid, but finds no room: others of its size class are worth more.
    NoRoom,
}

/// A record as it is held.
#[derive(Debug, Clone)]
pub struct Held {
    /// What the record says, verified.
    pub record: Verified<Body>,
    /// Its bytes as they travel, of which its id is the hash.
    pub bytes: Vec<u8>,
}

/// All held records of one objective.
pub struct Archive {
    objective: Objective,
    records: BTreeMap<RecordId, Held>,
    caps: ArchiveCaps,
    eviction: Eviction,
    refused: Refused,
    tree: Option<sled::Db>,
    /// The ids for reconciliation: made when asked for, and dropped at the next change.
    set: OnceCell<Set>,
}

impl fmt::Debug for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Archive").field("records", &self.records.len()).finish_non_exhaustive()
    }
}

impl Archive {
    /// Makes an empty archive that lives in memory alone.
    pub fn in_memory(objective: Objective) -> Self {
        let caps = ArchiveCaps::default();
        Self {
            objective,
            records: BTreeMap::new(),
            caps,
            eviction: Eviction::new(caps),
            refused: Refused::default(),
            tree: None,
            set: OnceCell::new(),
        }
    }

    /// Opens the archive in a folder; `now` is in seconds since 1970. Returns with it, in one line, what had
    /// to be mended. A damaged folder is moved aside: what it held comes back from the peers.
    pub fn open(folder: &Path, objective: Objective, now: u64) -> anyhow::Result<(Self, Option<String>)> {
        let mut note = None;
        let tree = match disk::open_tree(folder) {
            Ok(tree) => tree,
            Err(reason) => {
                let held_something = disk::was_opened(folder);
                let moved = files::move_aside(folder)?;
                note = held_something.then(|| {
                    format!(
                        "the records were damaged ({reason}); \
                         peers are asked for them again, the old ones are in `{}`",
                        moved.display()
                    )
                });
                disk::open_tree(folder).map_err(anyhow::Error::msg)?
            }
        };
        let mut archive = Self::in_memory(objective);
        let mut refused = 0u32;
        for entry in tree.iter() {
            let taken = entry.map(|(_, bytes)| archive.insert(&bytes, now));
            refused += u32::from(!matches!(taken, Ok(Ok(Taken::New(_)))));
        }
        if refused > 0 {
            note.get_or_insert_with(|| {
                format!("{refused} of the records held no longer pass; they are left out")
            });
        }
        // Attached last, so that the records just read are not written back.
        archive.tree = Some(tree);
        Ok((archive, note))
    }

    /// Changes how much the archive holds; what exceeds the new caps is dropped.
    #[must_use]
    pub fn with_caps(mut self, caps: ArchiveCaps) -> Self {
        self.caps = caps;
        self.eviction = Eviction::new(caps);
        for (_, held) in mem::take(&mut self.records) {
            self.shelve(held);
        }
        self
    }

    /// Verifies bytes from anywhere, and takes the record; `now` is in seconds since 1970.
    pub fn insert(&mut self, bytes: &[u8], now: u64) -> Result<Taken, Fault> {
        let id = RecordId::of(bytes);
        if self.records.contains_key(&id) {
            return Ok(Taken::Known);
        }
        if self.refused.contains(id) {
            return Ok(Taken::NoRoom);
        }
        let record = self.check(bytes, now)?;
        Ok(self.take(record, bytes))
    }

    /// Verifies bytes from anywhere, and takes nothing; `now` is in seconds since 1970.
    pub fn check(&self, bytes: &[u8], now: u64) -> Result<Verified<Body>, Fault> {
        verify(bytes, &self.objective, now)
    }

    /// Takes a record that [`check`](Self::check) has verified, with its bytes.
    pub fn take(&mut self, record: Verified<Body>, bytes: &[u8]) -> Taken {
        let id = record.id();
        if self.records.contains_key(&id) {
            return Taken::Known;
        }
        if !record.value().is_reconciled() {
            return Taken::Passing(record);
        }
        self.shelve(Held { record: record.clone(), bytes: bytes.to_vec() });
        if self.records.contains_key(&id) { Taken::New(record) } else { Taken::NoRoom }
    }

    /// Stores a record, and drops the one that has to go for it, which may be the record itself.
    fn shelve(&mut self, held: Held) {
        let id = held.record.id();
        let dropped = self.eviction.put(&held.record, held.bytes.len());
        if dropped != Some(id) {
            if let Some(tree) = &self.tree {
                // If the write fails, peers send the record again after the next start.
                let _ = tree.insert(id.as_bytes(), held.bytes.as_slice());
            }
            self.records.insert(id, held);
            self.set = OnceCell::new();
        }
        if let Some(dropped) = dropped {
            self.refused.note(dropped);
            if self.records.remove(&dropped).is_some()
                && let Some(tree) = &self.tree
            {
                let _ = tree.remove(dropped.as_bytes());
            }
        }
    }

    /// Returns whether any record of this author is held.
    pub fn knows(&self, author: Author) -> bool {
        self.eviction.has(author)
    }

    /// Returns whether this record lately found no room, so that it need not be fetched.
    pub fn refuses(&self, id: RecordId) -> bool {
        self.refused.contains(id)
    }

    /// Waits until everything is on disk, as is needed after an own record.
    pub fn flush(&self) -> anyhow::Result<()> {
        if let Some(tree) = &self.tree {
            tree.flush()?;
        }
        Ok(())
    }

    /// Returns the objective that every record here belongs to.
    pub const fn objective(&self) -> &Objective {
        &self.objective
    }

    /// Returns the record with this id, if it is held.
    pub fn get(&self, id: RecordId) -> Option<&Held> {
        self.records.get(&id)
    }

    /// Returns the record whose id begins with these bytes, if it is held.
    pub fn find(&self, short: ShortId) -> Option<&Held> {
        // Ids are sorted, so only the first one from this prefix on can begin with it.
        let mut first = [0; 32];
        first[..short.len()].copy_from_slice(&short);
        let (id, held) = self.records.range(RecordId::from_bytes(first)..).next()?;
        id.as_bytes().starts_with(&short).then_some(held)
    }

    /// Iterates over all records in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Held> {
        self.records.values()
    }

    /// Returns how many records are held.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Returns whether no record is held.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Returns the ids as they are now, in the form that reconciliation compares.
    pub fn set(&self) -> Result<Set, negentropy::Error> {
        if let Some(set) = self.set.get() {
            return Ok(set.clone());
        }
        let mut items = NegentropyStorageVector::with_capacity(self.records.len());
        let mut hasher = blake3::Hasher::new();
        for (id, held) in &self.records {
            items.insert(held.record.made_at(), Id::from_byte_array(*id.as_bytes()))?;
            hasher.update(id.as_bytes());
        }
        items.seal()?;
        let set = Set { items: Arc::new(items), fingerprint: hasher.finalize() };
        Ok(self.set.get_or_init(|| set).clone())
    }

    /// Returns a hash of the ids: equal sets have equal hashes.
    pub fn fingerprint(&self) -> blake3::Hash {
        // Sealing fails only for a set that is sealed already.
        self.set().map_or_else(|_| blake3::hash(b""), |set| set.fingerprint)
    }
}

/// The ids of an archive at one moment, shared by all reconciliations of that moment.
#[derive(Debug, Clone)]
pub struct Set {
    items: Arc<NegentropyStorageVector>,
    fingerprint: blake3::Hash,
}

impl NegentropyStorageBase for Set {
    fn size(&self) -> Result<usize, negentropy::Error> {
        self.items.size()
    }

    fn get_item(&self, i: usize) -> Result<Option<Item>, negentropy::Error> {
        self.items.get_item(i)
    }

    fn iterate(
        &self,
        begin: usize,
        end: usize,
        callback: &mut dyn FnMut(Item, usize) -> Result<bool, negentropy::Error>,
    ) -> Result<(), negentropy::Error> {
        self.items.iterate(begin, end, callback)
    }

    fn find_lower_bound(&self, first: usize, last: usize, value: &Bound) -> usize {
        self.items.find_lower_bound(first, last, value)
    }
}

#[cfg(test)]
mod tests {
    use autoswarm_protocol::{
        SwarmConfig,
        id::{ArenaId, ConfigHash},
        record::{Claim, Digest, DigestEnding, DigestLine, sign},
    };
    use libp2p::identity::Keypair;

    use super::*;

    const NOW: u64 = 1_795_219_384;

    fn objective() -> Objective {
        let text = crate::cli::settings::BUILT_IN[0].1;
        SwarmConfig::parse(text).expect("valid").objective
    }

    fn keys(n: u8) -> Keypair {
        Keypair::ed25519_from_bytes([n; 32]).expect("32 bytes are a key")
    }

    fn bytes(author: u8, n: u32) -> Vec<u8> {
        digest(author, n, 1)
    }

    /// A digest of so many lines, each of some 120 bytes.
    fn digest(author: u8, n: u32, lines: usize) -> Vec<u8> {
        let parent = autoswarm_protocol::TrainConfig::new();
        let patch = autoswarm_protocol::Patch::parse("warmup 0.1", &parent).expect("a patch");
        let config = ConfigHash::of(&n.to_le_bytes());
        let line = DigestLine { config, patch, ending: DigestEnding::Discarded, found: None };
        let body = Body::Digest(Digest { arena: ArenaId::of(b"a"), lines: vec![line; lines] });
        sign(&body, &objective(), &keys(author), NOW).expect("valid").bytes
    }

    #[test]
    fn a_record_is_taken_once_and_is_there_after_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut archive, note) = Archive::open(folder.path(), objective(), NOW).expect("opens");
        assert_eq!(note, None);
        let record = bytes(1, 1);
        assert!(matches!(archive.insert(&record, NOW), Ok(Taken::New(_))));
        assert_eq!(archive.insert(&record, NOW), Ok(Taken::Known));
        assert!(archive.insert(&record[1..], NOW).is_err());
        archive.flush().expect("flushed");
        let fingerprint = archive.fingerprint();
        drop(archive);
        let (archive, note) = Archive::open(folder.path(), objective(), NOW).expect("opens");
        assert_eq!((archive.len(), note), (1, None));
        assert_eq!(archive.fingerprint(), fingerprint);
        let id = RecordId::of(&record);
        assert_eq!(archive.get(id).expect("held").bytes, record);
        assert_eq!(archive.find(crate::swarm::network::exchange::short(id)).expect("held").bytes, record);
        assert!(archive.find([0; 16]).is_none() && archive.find([0xff; 16]).is_none());
    }

    #[test]
    fn an_intent_passes_and_is_not_held() {
        let mut archive = Archive::in_memory(objective());
        let body = Body::Claim(Claim { config: ConfigHash::of(b"c"), seconds: 60 });
        let claim = sign(&body, &objective(), &keys(1), NOW).expect("valid");
        assert!(matches!(archive.insert(&claim.bytes, NOW), Ok(Taken::Passing(_))));
        assert!(archive.is_empty());
    }

    /// Room for eight small records, two of each author.
    const TIGHT: ArchiveCaps = ArchiveCaps { bytes_of_class: 8 * 1024, authors: 4 };

    fn ids(archive: &Archive) -> Vec<RecordId> {
        archive.iter().map(|held| held.record.id()).collect()
    }

    #[test]
    fn one_author_has_its_share_and_everybody_a_place() {
        let mut archive = Archive::in_memory(objective()).with_caps(TIGHT);
        let taken: Vec<_> = (0..5).map(|n| archive.insert(&bytes(1, n), NOW)).collect();
        let count = |wanted: fn(&Taken) -> bool| taken.iter().flatten().filter(|taken| wanted(taken)).count();
        assert_eq!(archive.len(), 2);
        assert_eq!(
            taken.len(),
            count(|taken| matches!(taken, Taken::New(_))) + count(|taken| *taken == Taken::NoRoom)
        );
        for author in 2..=20 {
            for n in 0..2 {
                archive.insert(&bytes(author, n), NOW).expect("valid");
            }
        }
        assert_eq!(archive.len(), 8);
        let authors: std::collections::BTreeSet<_> =
            archive.iter().map(|held| held.record.author()).collect();
        assert_eq!(authors.len(), 8, "nobody's second best before somebody's best");
    }

    #[test]
    fn what_was_dropped_is_known_as_dropped_and_gone_from_the_disk() {
        let folder = tempfile::tempdir().expect("a folder");
        let (archive, _) = Archive::open(folder.path(), objective(), NOW).expect("opens");
        let mut archive = archive.with_caps(TIGHT);
        let all: Vec<Vec<u8>> = (0..10).map(|n| bytes(1, n)).collect();
        for bytes in &all {
            archive.insert(bytes, NOW).expect("valid");
        }
        let dropped: Vec<_> = all.iter().filter(|bytes| archive.get(RecordId::of(bytes)).is_none()).collect();
        assert_eq!(dropped.len(), 8);
        assert!(dropped.iter().all(|bytes| archive.refuses(RecordId::of(bytes))));
        assert_eq!(archive.insert(dropped[0], NOW), Ok(Taken::NoRoom));
        let kept = ids(&archive);
        archive.flush().expect("flushed");
        drop(archive);
        let (archive, note) = Archive::open(folder.path(), objective(), NOW).expect("opens");
        assert_eq!((ids(&archive), note), (kept, None));
    }

    #[test]
    fn the_usual_caps_hold_so_many() {
        let of_classes = (0..6).map(|class| ArchiveCaps::default().bytes_of_class / (1024 << class));
        assert_eq!((MAX_RECORDS, of_classes.sum::<usize>()), (129_024, 129_024));
    }

    #[test]
    fn large_records_push_no_small_ones_out() {
        let mut archive = Archive::in_memory(objective()).with_caps(TIGHT);
        archive.insert(&bytes(1, 0), NOW).expect("valid");
        for author in 2..10 {
            archive.insert(&digest(author, 0, 64), NOW).expect("valid");
        }
        assert!(archive.get(RecordId::of(&bytes(1, 0))).is_some());
        assert_eq!(archive.len(), 2, "one of up to 8 KiB, since a class has so many bytes");
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(40))]
        /// What stays depends on the set alone: order, repetition and detours over other archives change
        /// nothing.
        #[test]
        fn what_stays_is_a_function_of_the_set(
            records in proptest::collection::vec((1u8..8, 0u32..6, 0usize..3), 1..40),
            cut in 0usize..40,
            order in proptest::prelude::any::<u64>(),
        ) {
            let all: Vec<Vec<u8>> =
                records.iter().map(|(author, n, size)| digest(*author, *n, 1 + 8 * size)).collect();
            let fill = |bytes: &[Vec<u8>]| {
                let mut archive = Archive::in_memory(objective()).with_caps(TIGHT);
                for bytes in bytes {
                    archive.insert(bytes, NOW).expect("valid");
                }
                archive
            };
            let whole = fill(&all);
            let mut shuffled = all.clone();
            shuffled.sort_by_key(|bytes| blake3::hash(&[&order.to_le_bytes()[..], bytes].concat()).to_hex());
            proptest::prop_assert_eq!(ids(&whole), ids(&fill(&shuffled)));
            let (one, other) = shuffled.split_at(cut.min(shuffled.len()));
            let joined: Vec<Vec<u8>> =
                fill(one).iter().chain(fill(other).iter()).map(|held| held.bytes.clone()).collect();
            proptest::prop_assert_eq!(ids(&whole), ids(&fill(&joined)));
        }
    }

    #[test]
    fn a_kill_before_the_first_record_is_no_damage() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("records");
        // What sled writes before anything of ours is in it.
        drop(sled::Config::new().path(&path).open().expect("opens"));
        let (archive, note) = Archive::open(&path, objective(), NOW).expect("opens");
        assert_eq!((archive.len(), note), (0, None));
    }

    #[test]
    fn damage_is_moved_aside_and_said() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("records");
        let (mut archive, _) = Archive::open(&path, objective(), NOW).expect("opens");
        archive.insert(&bytes(1, 1), NOW).expect("valid");
        archive.flush().expect("flushed");
        drop(archive);
        for entry in
            std::fs::read_dir(&path).expect("a folder").flatten().filter(|entry| entry.path().is_file())
        {
            std::fs::write(entry.path(), b"garbage").expect("writable");
        }
        let (archive, note) = Archive::open(&path, objective(), NOW).expect("opens");
        assert!(archive.is_empty() && note.expect("said").contains("damaged"));
    }
}
