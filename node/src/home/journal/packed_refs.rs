//! Many refs at once: `packed-refs` is rewritten under git's own lock, so that ten thousand refs are one file
//! and one sync.
//!
//! **Two writers never meet**: libgit2 gives up at once on a lock that is held. So whoever of this program
//! writes the file waits for [`hold`] first.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::Path,
};

use git2::Oid;

/// The first line as git writes it: the names are sorted, and tags have their target with them.
const HEADER: &str = "# pack-refs with: peeled fully-peeled sorted ";

/// Waits until nobody else of this program writes `packed-refs`; nobody does until the returned file is
/// dropped.
pub(crate) fn hold(repository: &Path) -> io::Result<File> {
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).open(repository.join("refs.hold"))?;
    file.lock()?;
    Ok(file)
}

/// Sets refs in one step, durably; refs of the same name move, all others stay as they are.
pub(crate) fn set(repository: &Path, refs: &BTreeMap<String, Oid>) -> io::Result<()> {
    if refs.is_empty() {
        return Ok(());
    }
    let _hold = hold(repository)?;
    let path = repository.join("packed-refs");
    let lock = repository.join("packed-refs.lock");
    // A git at work in the journal may hold the same lock. Then this fails, and is tried another time.
    let mut file = OpenOptions::new().write(true).create_new(true).open(&lock)?;
    let written = (|| {
        let old = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            read => read?,
        };
        file.write_all(merged(&old, refs)?.as_bytes())?;
        file.sync_all()?;
        fs::rename(&lock, &path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&lock);
    }
    written?;
    File::open(repository)?.sync_all()
}

/// Returns the file's content with `refs` in it. A line that it does not understand is an error, and not
/// lost.
fn merged(old: &str, refs: &BTreeMap<String, Oid>) -> io::Result<String> {
    let mut header = HEADER;
    let mut entries: BTreeMap<&str, String> = BTreeMap::new();
    let mut last = None;
    for line in old.lines() {
        if line.starts_with('#') {
            header = line;
        } else if line.starts_with('^') {
            // The target of the tag in the line before.
            let entry = last.and_then(|name| entries.get_mut(name)).ok_or_else(|| not_understood(line))?;
            entry.push_str(line);
            entry.push('\n');
        } else {
            let (_, name) = line
                .split_once(' ')
                .filter(|(id, _)| id.len() == 40 && Oid::from_str(id).is_ok())
                .ok_or_else(|| not_understood(line))?;
            entries.insert(name, format!("{line}\n"));
            last = Some(name);
        }
    }
    for (name, id) in refs {
        entries.insert(name, format!("{id} {name}\n"));
    }
    Ok(std::iter::once(format!("{header}\n")).chain(entries.into_values()).collect())
}

fn not_understood(line: &str) -> io::Error {
    let line = crate::base::text::one_line(line, 80);
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("packed-refs has a line that makes no sense: `{line}`"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> Oid {
        Oid::from_bytes(&[n; 20]).expect("20 bytes are an id")
    }

    #[test]
    fn new_refs_join_the_old_in_order_and_nothing_else_changes() {
        let one = "1".repeat(40);
        let old = format!(
            "# pack-refs with: peeled fully-peeled sorted \n\
             {one} refs/heads/a\n{one} refs/tags/t\n^{one}\n{one} refs/z\n"
        );
        let refs = BTreeMap::from([("refs/swarm/b".to_owned(), id(2)), ("refs/z".to_owned(), id(3))]);
        let expected = format!(
            "# pack-refs with: peeled fully-peeled sorted \n\
             {one} refs/heads/a\n{} refs/swarm/b\n{one} refs/tags/t\n^{one}\n{} refs/z\n",
            id(2),
            id(3)
        );
        assert_eq!(merged(&old, &refs).expect("understood"), expected);
        assert!(merged("", &refs).expect("understood").starts_with(HEADER));
        assert!(merged("xyz\n", &refs).is_err() && merged("^1\n", &refs).is_err());
    }

    #[test]
    fn git_reads_what_was_set_beside_loose_refs() {
        let folder = tempfile::tempdir().expect("a folder");
        let repository = git2::Repository::init_bare(folder.path()).expect("a repository");
        let blob = repository.blob(b"x").expect("written");
        repository.reference("refs/heads/loose", blob, false, "").expect("a ref");
        let refs: BTreeMap<String, Oid> = (0..1000).map(|n| (format!("refs/swarm/{n}"), blob)).collect();
        set(folder.path(), &refs).expect("set");
        assert_eq!(repository.references_glob("refs/swarm/*").expect("readable").count(), 1000);
        assert_eq!(repository.references().expect("readable").count(), 1001);
        assert!(!folder.path().join("packed-refs.lock").exists());
        // A lock that somebody else holds is left alone.
        fs::write(folder.path().join("packed-refs.lock"), "").expect("a file");
        assert_eq!(set(folder.path(), &refs).expect_err("locked").kind(), io::ErrorKind::AlreadyExists);
        assert!(folder.path().join("packed-refs.lock").exists());
    }
}
