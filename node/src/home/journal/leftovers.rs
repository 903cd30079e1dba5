//! Removes what a kill leaves in a repository.

use std::{fs, io, path::Path};

/// Removes what a kill may have left: locks, half-written objects and packs. Only the holder of the home's
/// lock may call it.
pub(super) fn remove_leftovers(journal: &Path) -> io::Result<()> {
    let mut folders = vec![journal.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if is_leftover(&name) {
                fs::remove_file(entry.path())?;
            }
        }
    }
    Ok(())
}

fn is_leftover(name: &str) -> bool {
    let end = Path::new(name).extension().is_some_and(|end| end == "lock");
    end || name.starts_with("tmp_") || name.starts_with("pack_git2_") || name.starts_with(".tmp-")
}
