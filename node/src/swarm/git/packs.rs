//! Packs of records in the journal: complete and synced before anything names what is in them, and marked so
//! that nobody else's upkeep touches them.
//!
//! **Nothing that a pack holds is ever dropped**: an experiment of this node's own may share a file with a
//! discovery.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use git2::{Oid, Repository};

/// Most packs before the smaller ones are merged; git slows down at some fifty.
pub(super) const MAX_PACKS: usize = 16;

/// What our `.keep` files say; one that says something else is a person's.
const MARK: &str = "autoswarm: records of the swarm\n";

/// Returns the folder in which a pack is made before it gets its name.
fn workshop(journal: &Path) -> PathBuf {
    journal.join("swarm.new")
}

/// Removes packs that a kill left half made.
pub(super) fn remove_leftovers(journal: &Path) -> io::Result<()> {
    match fs::remove_dir_all(workshop(journal)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Writes objects that `repository` can read into one pack of the journal; returns its name, none for no
/// objects. The pack is made elsewhere and moved, its mark first and its index last: at no moment is it
/// unmarked or incomplete.
pub(super) fn write(
    repository: &Repository,
    journal: &Path,
    objects: &[Oid],
) -> anyhow::Result<Option<String>> {
    let mut builder = repository.packbuilder()?;
    objects.iter().try_for_each(|id| builder.insert_object(*id, None))?;
    if builder.object_count() == 0 {
        return Ok(None);
    }
    let (workshop, folder) = (workshop(journal), journal.join("objects/pack"));
    fs::create_dir_all(&workshop)?;
    fs::create_dir_all(&folder)?;
    // libgit2 syncs it, since the journal's config says so.
    builder.write(&workshop, 0o444)?;
    let name = format!("pack-{}", builder.name()?.unwrap_or_default());
    drop(builder);
    let mut mark = File::create(folder.join(format!("{name}.keep")))?;
    mark.write_all(MARK.as_bytes())?;
    mark.sync_all()?;
    for end in ["pack", "idx"] {
        let file = format!("{name}.{end}");
        fs::rename(workshop.join(&file), folder.join(&file))?;
    }
    File::open(&folder)?.sync_all()?;
    Ok(Some(name))
}

/// Merges the smaller packs of records into one when there are many.
pub(super) fn merge(journal: &Path) -> anyhow::Result<()> {
    let folder = journal.join("objects/pack");
    let mut packs = ours(&folder)?;
    if packs.len() <= MAX_PACKS {
        return Ok(());
    }
    packs.sort();
    packs.truncate(unbalanced(&packs.iter().map(|(size, _)| *size).collect::<Vec<_>>()));
    let mut objects = BTreeSet::new();
    for (_, name) in &packs {
        objects.extend(ids_of(&fs::read(folder.join(format!("{name}.idx")))?)?);
    }
    let objects: Vec<Oid> = objects.into_iter().collect();
    let merged = write(&Repository::open_bare(journal)?, journal, &objects)?;
    for (_, name) in packs.iter().filter(|(_, name)| Some(name) != merged.as_ref()) {
        // The index first: a pack without one is not looked at. What a kill leaves is a copy.
        for end in ["idx", "pack", "keep"] {
            fs::remove_file(folder.join(format!("{name}.{end}")))?;
        }
    }
    Ok(())
}

/// Returns how many of the packs, sizes rising, to merge so that each that stays is at least twice as large
/// as all smaller ones together. So a record is moved a few times in all, not at every merge.
fn unbalanced(sizes: &[u64]) -> usize {
    let (mut sum, mut count) = (0, 0);
    for (place, size) in sizes.iter().enumerate() {
        if *size < 2 * sum {
            count = place + 1;
        }
        sum += size;
    }
    count
}

/// Returns the sizes and names of our complete packs.
fn ours(folder: &Path) -> io::Result<Vec<(u64, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)?.flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        let Some(name) = file.strip_suffix(".keep") else { continue };
        let is_ours = fs::read_to_string(entry.path()).is_ok_and(|content| content == MARK);
        let pack = fs::metadata(folder.join(format!("{name}.pack")));
        if let (true, Ok(pack), true) = (is_ours, pack, folder.join(format!("{name}.idx")).exists()) {
            found.push((pack.len(), name.to_owned()));
        }
    }
    Ok(found)
}

/// Reads the ids from a pack's index of version 2: a header of 8 bytes, 256 running counts, then the sorted
/// ids.
fn ids_of(index: &[u8]) -> anyhow::Result<Vec<Oid>> {
    const START: usize = 8 + 256 * 4;
    let damaged = || anyhow::anyhow!("an index of a pack of records cannot be read");
    let count = index.get(START - 4..START).and_then(|count| count.try_into().ok()).ok_or_else(damaged)?;
    let count = u32::from_be_bytes(count) as usize;
    let ids = index.get(START..START + count * 20).filter(|_| index.starts_with(b"\xfftOc\0\0\0\x02"));
    Ok(ids.ok_or_else(damaged)?.chunks_exact(20).map(Oid::from_bytes).collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::unbalanced;

    #[test]
    fn small_packs_are_merged_and_large_ones_stay() {
        assert_eq!(unbalanced(&[]), 0);
        assert_eq!(unbalanced(&[1, 1, 1, 1]), 4);
        assert_eq!(unbalanced(&[1, 1, 1, 100, 1000]), 3);
        assert_eq!(unbalanced(&[1, 2, 6, 18]), 0);
        assert_eq!(unbalanced(&[1, 2, 6, 10, 100]), 4);
    }
}
