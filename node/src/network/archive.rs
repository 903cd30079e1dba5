//! The archive: every record that this node holds, its own and foreign ones, checked when they come in and again when
//! they are read back. Memory first; a sled tree beside it, so that a restart has them again.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use autoswarm_protocol::{
    id::RecordId,
    record::{Author, Body, Fault, Verified, verify},
    swarm_config::Objective,
};
use negentropy::{Id, NegentropyStorageVector};

use crate::files;

/// Memory that sled may cache.
const CACHE_BYTES: u64 = 32 << 20;

/// Most records of one author: a node that keeps ten experiments a night needs half a year for them.
pub const MAX_PER_AUTHOR: u32 = 2000;

/// Most records in all, about 150 MB of memory.
pub const MAX_RECORDS: usize = 100_000;

/// What became of bytes that came in.
#[derive(Debug, Clone, PartialEq)]
pub enum Taken {
    /// Held from now on.
    New(Verified<Body>),
    /// Held before.
    Known,
    /// Valid, but not of the reconciled set: an intent of the moment.
    Passing(Verified<Body>),
    /// Valid, but there is no room for more of this author, or of any.
    NoRoom,
}

/// A record as it is held.
#[derive(Debug, Clone)]
pub struct Held {
    /// What it says.
    pub record: Verified<Body>,
    /// What travels.
    pub bytes: Vec<u8>,
}

/// All records of one objective.
pub struct Archive {
    objective: Objective,
    records: BTreeMap<RecordId, Held>,
    authors: HashMap<Author, u32>,
    tree: Option<sled::Db>,
}

impl fmt::Debug for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Archive").field("records", &self.records.len()).finish_non_exhaustive()
    }
}

impl Archive {
    /// Makes an empty archive that lives in memory alone.
    pub fn in_memory(objective: Objective) -> Self {
        Self { objective, records: BTreeMap::new(), authors: HashMap::new(), tree: None }
    }

    /// Opens the archive in a folder; `now` is in seconds since 1970. Returns what had to be mended, in one line. A damaged
    /// folder is moved aside: what it held comes back from the peers.
    pub fn open(folder: &Path, objective: Objective, now: u64) -> anyhow::Result<(Self, Option<String>)> {
        let mut note = None;
        let tree = match open_tree(folder) {
            Ok(tree) => tree,
            Err(reason) => {
                let moved = files::move_aside(folder)?;
                note = Some(format!(
                    "the records were damaged ({reason}); peers are asked for them again, the old ones are in `{}`",
                    moved.display()
                ));
                open_tree(folder).map_err(anyhow::Error::msg)?
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
        archive.tree = Some(tree);
        Ok((archive, note))
    }

    /// Takes bytes from anywhere.
    pub fn insert(&mut self, bytes: &[u8], now: u64) -> Result<Taken, Fault> {
        let id = RecordId::of(bytes);
        if self.records.contains_key(&id) {
            return Ok(Taken::Known);
        }
        let record = verify(bytes, &self.objective, now)?;
        if !record.value().is_reconciled() {
            return Ok(Taken::Passing(record));
        }
        let of_author = self.authors.entry(record.author()).or_insert(0);
        if *of_author >= MAX_PER_AUTHOR || self.records.len() >= MAX_RECORDS {
            return Ok(Taken::NoRoom);
        }
        *of_author += 1;
        if let Some(tree) = &self.tree {
            // A write that fails is made good by the peers at the next start.
            let _ = tree.insert(id.as_bytes(), bytes);
        }
        self.records.insert(id, Held { record: record.clone(), bytes: bytes.to_vec() });
        Ok(Taken::New(record))
    }

    /// Waits until everything is on the disk: after a record of this node's own.
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

    /// Returns a record.
    pub fn get(&self, id: RecordId) -> Option<&Held> {
        self.records.get(&id)
    }

    /// Iterates over all records by their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Held> {
        self.records.values()
    }

    /// Returns how many there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Returns the set in the form that reconciliation compares.
    pub fn set(&self) -> Result<NegentropyStorageVector, negentropy::Error> {
        let mut set = NegentropyStorageVector::with_capacity(self.records.len());
        for (id, held) in &self.records {
            set.insert(held.record.made_at(), Id::from_byte_array(*id.as_bytes()))?;
        }
        set.seal()?;
        Ok(set)
    }

    /// Returns a hash of the set: equal sets, equal hashes.
    pub fn fingerprint(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        for id in self.records.keys() {
            hasher.update(id.as_bytes());
        }
        hasher.finalize()
    }
}

/// Opens the tree; says in one line why it cannot be trusted.
fn open_tree(folder: &Path) -> Result<sled::Db, String> {
    let existed = folder.join("db").exists();
    let open = || {
        let tree = sled::Config::new().path(folder).cache_capacity(CACHE_BYTES).open()?;
        // Over some kinds of damage sled begins anew without a word; a tree that was ours has this mark.
        let marks = tree.open_tree("marks")?;
        let is_ours = marks.contains_key("autoswarm")?;
        if !is_ours {
            marks.insert("autoswarm", b"1")?;
            tree.flush()?;
        }
        Ok(((existed && !is_ours), tree))
    };
    // sled panics on other kinds.
    match catch_unwind(AssertUnwindSafe(open)) {
        Ok(Ok((false, tree))) => Ok(tree),
        Ok(Ok((true, _))) => Err("what was in it is gone".to_owned()),
        Ok(Err(error)) => Err::<_, sled::Error>(error).map_err(|error| error.to_string()),
        Err(_) => Err("it cannot be read".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use autoswarm_protocol::{
        SwarmConfig,
        id::{ArenaId, ConfigHash},
        record::{Claim, Digest, Ending, Line, sign},
    };
    use libp2p::identity::Keypair;

    use super::*;

    const NOW: u64 = 1_795_219_384;

    fn objective() -> Objective {
        let text = crate::settings::BUILT_IN[0].1;
        SwarmConfig::parse(text).expect("valid").objective
    }

    fn keys(n: u8) -> Keypair {
        Keypair::ed25519_from_bytes([n; 32]).expect("32 bytes are a key")
    }

    fn bytes(author: u8, n: u32) -> Vec<u8> {
        let parent = autoswarm_protocol::TrainConfig::new();
        let patch = autoswarm_protocol::Patch::parse("warmup 0.1", &parent).expect("a patch");
        let config = ConfigHash::of(&n.to_le_bytes());
        let line = Line { config, patch, ending: Ending::Discarded, found: None };
        let body = Body::Digest(Digest { arena: ArenaId::of(b"a"), lines: vec![line] });
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
        assert_eq!(archive.get(RecordId::of(&record)).expect("held").bytes, record);
    }

    #[test]
    fn an_intent_passes_and_is_not_held() {
        let mut archive = Archive::in_memory(objective());
        let body = Body::Claim(Claim { config: ConfigHash::of(b"c"), seconds: 60 });
        let claim = sign(&body, &objective(), &keys(1), NOW).expect("valid");
        assert!(matches!(archive.insert(&claim.bytes, NOW), Ok(Taken::Passing(_))));
        assert!(archive.is_empty());
    }

    #[test]
    fn one_author_cannot_fill_it() {
        let mut archive = Archive::in_memory(objective());
        archive.authors.insert(Author::of(&keys(1)).expect("ed25519"), MAX_PER_AUTHOR);
        assert_eq!(archive.insert(&bytes(1, 1), NOW), Ok(Taken::NoRoom));
        assert!(matches!(archive.insert(&bytes(2, 1), NOW), Ok(Taken::New(_))));
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
