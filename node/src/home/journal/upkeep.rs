//! Upkeep that keeps the journal small: loose objects go into packs, and old discards lose their curves.
//!
//! What a kill leaves is removed elsewhere, when the journal is opened.
//!
//! **Nothing kept is ever touched.** Every step leaves a readable journal behind it. A pack is complete and
//! synced before what it replaces is removed, and a discard without its curves is a new commit before its ref
//! moves to it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use git2::{ObjectType, Oid, Repository, Sort};

use super::{DISCARDS, Journal, JournalError, packed_refs, page};

/// Caps beyond which upkeep does something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalCaps {
    /// Loose objects before they are packed. An experiment has six; git's own limit is 6,700, but each of
    /// ours is synced.
    pub loose_objects: usize,
    /// Packs before they are merged into one.
    pub packs: usize,
    /// Bytes before old discards lose their curves. A packed experiment takes about 5 KB: this is some 50,000
    /// of them.
    pub bytes: u64,
    /// How many of the newest discards keep their curves all the same.
    pub recent_curves: usize,
}

impl Default for JournalCaps {
    fn default() -> Self {
        Self { loose_objects: 2_000, packs: 10, bytes: 256 << 20, recent_curves: 500 }
    }
}

/// What upkeep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Upkeep {
    /// Loose objects that went into a pack.
    pub packed: usize,
    /// Discards that lost their curves and therefore have new commits.
    pub pruned: usize,
    /// The repository's size afterwards, bytes.
    pub bytes: u64,
}

impl Journal {
    /// Packs objects and drops curves beyond `caps`. Call it now and then; it may take seconds, and usually
    /// does nothing.
    pub fn tidy(&mut self, caps: JournalCaps) -> Result<Upkeep, JournalError> {
        let path = self.path();
        let mut done = Upkeep::default();
        let (loose, packs) = (loose_objects(&path).len(), packs(&path).len());
        let result = (|| {
            if size(&path).saturating_sub(kept_size(&path)) > caps.bytes {
                done.pruned = self.prune(caps.recent_curves)?;
            }
            if done.pruned > 0 || loose > caps.loose_objects || packs > caps.packs {
                let everything = done.pruned > 0 || packs > caps.packs;
                done.packed = self.pack(everything)?;
            }
            Ok(())
        })();
        result.map_err(|source| self.git(source))?;
        if done.pruned > 0 {
            self.write_table()?;
        }
        done.bytes = size(&path);
        Ok(done)
    }

    /// Takes `curve.tsv` out of all discards but the newest `recent`.
    fn prune(&mut self, recent: usize) -> Result<usize, git2::Error> {
        let mut discards: Vec<(u32, Oid)> = Vec::new();
        for reference in self.repository.references_glob(&format!("{DISCARDS}*"))? {
            let reference = reference?;
            let number = reference.name().ok().and_then(|name| name.strip_prefix(DISCARDS)?.parse().ok());
            if let (Some(number), Some(id)) = (number, reference.target()) {
                discards.push((number, id));
            }
        }
        discards.sort_unstable();
        discards.truncate(discards.len().saturating_sub(recent));
        let mut pruned = 0;
        for (number, id) in discards {
            let commit = self.repository.find_commit(id)?;
            let tree = commit.tree()?;
            if tree.get_name("curve.tsv").is_none() {
                continue;
            }
            let mut smaller = self.repository.treebuilder(Some(&tree))?;
            smaller.remove("curve.tsv")?;
            let smaller = self.repository.find_tree(smaller.write()?)?;
            let parents: Vec<_> = commit.parents().collect();
            let parents: Vec<_> = parents.iter().collect();
            let message = String::from_utf8_lossy(commit.message_bytes()).into_owned();
            let (author, committer) = (commit.author(), commit.committer());
            let new = self.repository.commit(None, &author, &committer, &message, &smaller, &parents)?;
            self.repository.reference_matching(&format!("{DISCARDS}{number}"), new, true, id, "prune")?;
            self.commits.insert(number, new);
            if let Ok(recorded) = self.read_commit(new) {
                self.rows.insert(number, page::table_row(&recorded.experiment, &recorded.commit));
            }
            pruned += 1;
        }
        Ok(pruned)
    }

    /// Packs the loose objects, or everything that a ref reaches; returns how many loose objects were packed.
    fn pack(&mut self, everything: bool) -> Result<usize, git2::Error> {
        let path = self.path();
        let (loose, old_packs) = (loose_objects(&path), packs(&path));
        let folder = path.join("objects/pack");
        fs::create_dir_all(&folder).map_err(|error| git2::Error::from_str(&error.to_string()))?;
        let mut builder = self.repository.packbuilder()?;
        if everything {
            let mut walk = self.repository.revwalk()?;
            walk.set_sorting(Sort::TOPOLOGICAL)?;
            for reference in self.repository.references()? {
                let reference = reference?;
                // The swarm's refs reach only what is in packs with a `.keep`, which stay.
                if reference.name().is_ok_and(|name| name.starts_with("refs/swarm")) {
                    continue;
                }
                // A person may point a ref at something that is no commit.
                if let Ok(commit) = reference.peel(ObjectType::Any)?.peel_to_commit() {
                    walk.push(commit.id())?;
                }
            }
            builder.insert_walk(&mut walk)?;
        } else {
            loose.iter().try_for_each(|(id, _)| builder.insert_object(*id, None))?;
        }
        if builder.object_count() == 0 {
            return Ok(0);
        }
        builder.write(&folder, 0o444)?;
        let name = builder.name()?.map(str::to_owned);
        drop(builder);
        // The swarm's writer may be about to write `packed-refs` too.
        let hold = packed_refs::hold(&path).map_err(|error| git2::Error::from_str(&error.to_string()))?;
        self.repository.refdb()?.compress()?;
        drop(hold);
        // From here on only copies are removed. A kill leaves some of them, and the next upkeep removes
        // those.
        let new = name.map(|name| format!("pack-{name}"));
        if everything {
            for pack in old_packs.iter().filter(|pack| Some(pack.as_str()) != new.as_deref()) {
                // The index first: a pack without one is not looked at.
                for end in ["idx", "pack"] {
                    let _ = fs::remove_file(folder.join(format!("{pack}.{end}")));
                }
            }
        }
        for (_, file) in &loose {
            let _ = fs::remove_file(file);
        }
        self.repository = Repository::open_bare(&path)?;
        Ok(loose.len())
    }
}

fn loose_objects(journal: &Path) -> Vec<(Oid, PathBuf)> {
    let mut found = Vec::new();
    for folder in fs::read_dir(journal.join("objects")).into_iter().flatten().flatten() {
        let start = folder.file_name().to_string_lossy().into_owned();
        if start.len() != 2 {
            continue;
        }
        for file in fs::read_dir(folder.path()).into_iter().flatten().flatten() {
            let rest = file.file_name().to_string_lossy().into_owned();
            if let Ok(id) = Oid::from_str(&format!("{start}{rest}"))
                && rest.len() == 38
            {
                found.push((id, file.path()));
            }
        }
    }
    found
}

/// Returns the names of the packs, except for those that a `.keep` marks as somebody else's.
fn packs(journal: &Path) -> BTreeSet<String> {
    let folder = journal.join("objects/pack");
    let files = fs::read_dir(&folder).into_iter().flatten().flatten();
    let names = files.map(|file| file.file_name().to_string_lossy().into_owned());
    let names = names.filter_map(|name| name.strip_suffix(".pack").map(str::to_owned));
    names.filter(|name| !folder.join(format!("{name}.keep")).exists()).collect()
}

/// Returns the bytes of packs that a `.keep` marks: the swarm's records have a bound of their own.
fn kept_size(journal: &Path) -> u64 {
    let folder = journal.join("objects/pack");
    let files = fs::read_dir(&folder).into_iter().flatten().flatten();
    let kept = files.filter(|file| file.path().with_extension("keep").exists());
    kept.filter_map(|file| Some(file.metadata().ok()?.len())).sum()
}

fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => size(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}
