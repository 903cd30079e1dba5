//! Writes files so that a kill or a power cut leaves either the old content or the new one, never a part.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// Replaces the content of `path` durably, with mode 0600: a temporary file beside it is written, synced and
/// renamed over it.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().ok_or_else(|| io::Error::other("not a file's path"))?.to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    // The new name is safe only once the folder that holds it is synced too.
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// Moves a file or folder that cannot be used any more to `<name>.damaged` beside it, and returns its new
/// path. Only the newest is kept: one is enough to look at, and one a night would fill the disk.
pub fn move_aside(path: &Path) -> io::Result<PathBuf> {
    let mut name = path.file_name().ok_or_else(|| io::Error::other("not a file's path"))?.to_owned();
    name.push(".damaged");
    let aside = path.with_file_name(name);
    match fs::symlink_metadata(&aside) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(&aside)?,
        Ok(_) => fs::remove_file(&aside)?,
        Err(_) => {}
    }
    fs::rename(path, &aside)?;
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_is_replaced_and_a_torn_attempt_does_not_matter() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a");
        fs::write(folder.path().join("a.new"), b"torn").expect("a file");
        for text in ["first", "second, longer", "3"] {
            replace(&path, text.as_bytes()).expect("a writable folder");
            assert_eq!(fs::read_to_string(&path).expect("a file"), text);
        }
        assert!(!folder.path().join("a.new").exists());
    }

    #[test]
    fn only_the_newest_damaged_thing_is_kept() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("index");
        let aside = folder.path().join("index.damaged");
        fs::create_dir(&path).expect("a free name");
        assert_eq!(move_aside(&path).expect("movable"), aside);
        fs::write(&path, "second").expect("a free name");
        assert_eq!(move_aside(&path).expect("movable"), aside);
        assert_eq!(fs::read_to_string(&aside).expect("a file"), "second");
    }
}
