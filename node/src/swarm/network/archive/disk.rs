//! The sled tree behind an archive, opened with care: it may be damaged in ways that sled does not report.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use crate::base::database;

/// Memory that sled may use as a cache, bytes.
const CACHE_BYTES: u64 = 32 << 20;

/// The file that says that a tree was opened and marked once. A kill before that leaves nothing to lose.
const OPENED: &str = "opened";

/// Returns whether the folder has a tree that may hold something.
pub(super) fn was_opened(folder: &Path) -> bool {
    folder.join(OPENED).exists()
}

/// Opens the tree, or says in one line why it cannot be trusted.
pub(super) fn open_tree(folder: &Path) -> Result<sled::Db, String> {
    let existed = was_opened(folder);
    let open = || {
        let config = sled::Config::new().path(folder).cache_capacity(CACHE_BYTES);
        let tree = database::open_patiently(&config)?;
        // After some kinds of damage sled begins anew without a word. A tree that was ours has this mark.
        let marks = tree.open_tree("marks")?;
        let is_ours = marks.contains_key("autoswarm")?;
        if !is_ours {
            marks.insert("autoswarm", b"1")?;
            tree.flush()?;
        }
        std::fs::write(folder.join(OPENED), b"")?;
        Ok(((existed && !is_ours), tree))
    };
    // After other kinds of damage sled panics.
    match catch_unwind(AssertUnwindSafe(open)) {
        Ok(Ok((false, tree))) => Ok(tree),
        Ok(Ok((true, _))) => Err("what was in it is gone".to_owned()),
        Ok(Err(error)) => Err::<_, sled::Error>(error).map_err(|error| error.to_string()),
        Err(_) => Err("it cannot be read".to_owned()),
    }
}
