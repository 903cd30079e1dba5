//! Tests of the index against its journal: equal, behind, deleted, damaged, and of another journal.

use std::fs;

use autoswarm_protocol::{CrashClass, Verdict, experiment::DiscardReason};
use tempfile::TempDir;

use super::*;
use crate::home::journal::tests::experiment;

fn journal(count: u32) -> Vec<Recorded> {
    let verdict = |number| match number {
        0 => Verdict::Baseline,
        n if n % 2 == 0 => Verdict::Crash { class: CrashClass::Hung, message: String::new() },
        _ => Verdict::Discard { reason: DiscardReason::NoGain, screened: None, estimate: None },
    };
    (0..count)
        .map(|number| Recorded {
            experiment: experiment(number, verdict(number)),
            commit: format!("{number:040x}"),
        })
        .collect()
}

fn built(count: u32) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("index");
    let (store, found) = Index::open(&path, &journal(count)).expect("built");
    assert_eq!(found, IndexState::Missing);
    check_equal(&store, count);
    (folder, path)
}

#[track_caller]
fn check_equal(store: &Index, count: u32) {
    let expected: Vec<IndexEntry> = journal(count)
        .iter()
        .map(|recorded| IndexEntry::new(&recorded.experiment, &recorded.commit))
        .collect();
    assert_eq!(store.entries().expect("readable"), expected);
}

#[test]
fn an_added_experiment_survives() {
    let (_folder, path) = built(2);
    let (store, _) = Index::open(&path, &journal(2)).expect("opens");
    let third = &journal(3)[2];
    store.add(&third.experiment, &third.commit).expect("added");
    drop(store);
    let (store, found) = Index::open(&path, &journal(3)).expect("opens");
    assert_eq!(found, IndexState::Equal);
    check_equal(&store, 3);
}

#[test]
fn an_index_behind_the_journal_catches_up() {
    let (_folder, path) = built(2);
    let (store, found) = Index::open(&path, &journal(4)).expect("opens");
    assert_eq!(found, IndexState::Behind(2));
    check_equal(&store, 4);
}

#[test]
fn an_index_that_lacks_an_experiment_before_its_last_catches_up() {
    let (_folder, path) = built(2);
    let (store, _) = Index::open(&path, &journal(2)).expect("opens");
    // The fourth ended before the third, and a kill came between the third's commit and its entry.
    let fourth = &journal(4)[3];
    store.add(&fourth.experiment, &fourth.commit).expect("added");
    drop(store);
    let (store, found) = Index::open(&path, &journal(4)).expect("opens");
    assert_eq!(found, IndexState::Behind(1));
    check_equal(&store, 4);
}

#[track_caller]
fn check_rebuilt(path: &Path, count: u32) {
    let (store, found) = Index::open(path, &journal(count)).expect("rebuilt");
    let IndexState::Damaged { reason, moved_to } = found else { panic!("{found:?}") };
    assert!(!reason.is_empty() && moved_to.exists());
    check_equal(&store, count);
    drop(store);
    assert_eq!(Index::open(path, &journal(count)).expect("opens").1, IndexState::Equal);
}

#[test]
fn an_index_of_another_journal_is_rebuilt() {
    let (_folder, path) = built(3);
    check_rebuilt(&path, 2); // it knows more than the journal
    let mut other = journal(2);
    other[1].commit = "f".repeat(40); // its curve was pruned: another commit
    let (_, found) = Index::open(&path, &other).expect("rebuilt");
    assert!(matches!(found, IndexState::Damaged { .. }), "{found:?}");
}

#[test]
fn a_deleted_index_is_rebuilt() {
    let (_folder, path) = built(3);
    fs::remove_dir_all(&path).expect("removable");
    let (store, found) = Index::open(&path, &journal(3)).expect("rebuilt");
    assert_eq!(found, IndexState::Missing);
    check_equal(&store, 3);
}

#[test]
fn garbage_in_any_file_is_survived() {
    for name in ["conf", "db"] {
        let (_folder, path) = built(3);
        let file = path.join(name);
        let length = fs::metadata(&file).expect("sled's file").len() as usize;
        fs::write(&file, vec![0xA5; length]).expect("writable");
        check_rebuilt(&path, 3);
    }
}

#[test]
fn a_file_in_the_place_of_the_index_is_moved_aside() {
    let (_folder, path) = built(0);
    fs::remove_dir_all(&path).expect("removable");
    fs::write(&path, b"not a folder").expect("a file");
    check_rebuilt(&path, 3);
}

#[test]
fn garbage_at_any_place_never_makes_a_wrong_index() {
    for place in 0..16 {
        let (_folder, path) = built(40);
        let file = path.join("db");
        let mut bytes = fs::read(&file).expect("sled's file");
        let used = bytes.iter().rposition(|&byte| byte != 0).expect("it is not empty");
        let start = used * place / 16;
        for byte in &mut bytes[start..(start + 24).min(used)] {
            *byte ^= 0x5A;
        }
        fs::write(&file, bytes).expect("writable");
        let (store, found) = Index::open(&path, &journal(40)).expect("rebuilt");
        assert_ne!(found, IndexState::Missing, "at {start} of {used}");
        check_equal(&store, 40);
    }
}
