//! The file that remembers peers across runs.
//!
//! Little is lost with it. Still, a damaged file is reported and moved aside, not quietly taken for an empty
//! one.

use std::{collections::BTreeMap, fs, io, path::Path};

use crate::{base::files, swarm::network::peers::KnownPeer};

/// Returns the peers that an earlier session kept, by peer id, and in one line what is wrong with the file.
pub(super) fn read(file: Option<&Path>) -> (BTreeMap<String, KnownPeer>, Option<String>) {
    let Some(file) = file else { return (BTreeMap::new(), None) };
    let damaged = |reason: &dyn std::fmt::Display| {
        let place = match files::move_aside(file) {
            Ok(aside) => format!("it is now `{}`", aside.display()),
            Err(error) => format!("and it cannot be moved aside: {error}"),
        };
        let file = file.display();
        format!(
            "the peers of earlier runs cannot be read from `{file}` ({reason}); {place}; \
             the others find this node again"
        )
    };
    match fs::read(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => (BTreeMap::new(), None),
        Err(error) => (BTreeMap::new(), Some(damaged(&error))),
        Ok(text) => match serde_json::from_slice(&text) {
            Ok(known) => (known, None),
            Err(error) => (BTreeMap::new(), Some(damaged(&error))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_said_and_moved_aside() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("peers.json");
        assert_eq!(read(Some(&file)), (BTreeMap::new(), None), "a first run");
        fs::write(&file, "{\"torn").expect("writable");
        let (known, note) = read(Some(&file));
        assert!(known.is_empty() && note.expect("said").contains("peers.json.damaged"));
        assert_eq!(fs::read(folder.path().join("peers.json.damaged")).expect("moved"), b"{\"torn");
        assert_eq!(read(Some(&file)).1, None, "said once");
    }
}
