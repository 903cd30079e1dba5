//! Tests of corpora from folders and files, made in temporary folders.

use std::{fs, os::unix::fs::symlink, path::Path};

use super::{folder, overlap::overlaps, *};

fn quiet() -> impl FnMut(&str, u64, u64) {
    |_: &str, _: u64, _: u64| {}
}

fn read(path: &Path) -> Result<Corpus, CorpusError> {
    folder::read(path, &mut quiet())
}

/// Writes `count` files of `bytes` bytes of distinct lines each.
fn write_files(root: &Path, count: usize, bytes: usize) {
    for file in 0..count {
        let folder = root.join(format!("folder{}", file % 7));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("file{file}.txt")), text(file, bytes)).unwrap();
    }
}

fn text(seed: usize, bytes: usize) -> String {
    let mut text = String::new();
    for line in 0.. {
        if text.len() >= bytes {
            break;
        }
        let hash = blake3::hash(&[seed as u8, line as u8]).to_hex();
        writeln!(text, "line {line} of text {seed}: {hash}").unwrap();
    }
    text
}

#[test]
fn a_folder_gives_the_same_corpus_wherever_it_lies() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_files(one.path(), 200, 4096);
    write_files(two.path(), 200, 4096);
    let corpus = read(one.path()).unwrap();
    assert_eq!(corpus, read(two.path()).unwrap());
    assert_eq!(corpus.hash(), read(two.path()).unwrap().hash());
    corpus.check_size("test").unwrap();
    assert!(corpus.notes().is_empty(), "{:?}", corpus.notes());
    for split in Split::ALL {
        assert!(corpus.split(split).count() > 0, "{split} is empty");
    }
}

#[test]
fn the_hash_of_a_corpus_is_golden() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("sub")).unwrap();
    fs::write(folder.path().join("a.txt"), "first\n").unwrap();
    fs::write(folder.path().join("sub/b.txt"), "second, ünïcödé\n").unwrap();
    let corpus = read(folder.path()).unwrap();
    assert_eq!(corpus.listing().lines().count(), 2);
    assert_eq!(corpus.hash().to_string(), "eb5b978a2f83f6211ec204c624ae4e6dc0c730b66362b37334afeb50db30ed02");
}

#[test]
fn the_hash_covers_path_split_and_bytes() {
    let document =
        |path: &str, split, text: &str| Document { path: path.to_owned(), split, text: text.to_owned() };
    let hash = |document| Corpus::new(vec![document], Vec::new()).hash();
    let base = hash(document("a", Split::Train, "text"));
    assert_ne!(base, hash(document("b", Split::Train, "text")));
    assert_ne!(base, hash(document("a", Split::Audit, "text")));
    assert_ne!(base, hash(document("a", Split::Train, "texts")));
}

#[test]
fn line_endings_and_byte_order_marks_do_not_count() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(one.path().join("a"), "one\ntwo\n").unwrap();
    fs::write(two.path().join("a"), "\u{feff}one\r\ntwo\r\n").unwrap();
    assert_eq!(read(one.path()).unwrap(), read(two.path()).unwrap());
}

#[test]
fn another_file_moves_no_file_to_another_split() {
    let folder = tempfile::tempdir().unwrap();
    write_files(folder.path(), 50, 512);
    let before = read(folder.path()).unwrap();
    fs::write(folder.path().join("another.txt"), "another").unwrap();
    let after = read(folder.path()).unwrap();
    assert_eq!(after.documents().len(), before.documents().len() + 1);
    assert!(before.documents().iter().all(|document| after.documents().contains(document)));
}

#[test]
fn what_is_not_text_is_counted_and_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::write(root.join("good.txt"), "good").unwrap();
    fs::write(root.join("empty.txt"), " \n").unwrap();
    fs::write(root.join("binary.bin"), b"a\0b").unwrap();
    fs::write(root.join("latin1.txt"), b"caf\xe9").unwrap();
    fs::write(root.join(".hidden"), "hidden").unwrap();
    symlink(root, root.join("loop")).unwrap();
    symlink(root.join("good.txt"), root.join("link.txt")).unwrap();
    let corpus = read(root).unwrap();
    assert_eq!(corpus.documents().len(), 1);
    let note = &corpus.notes()[0];
    assert!(note.ends_with("of 6 files, 1 empty, 1 binary, 1 not UTF-8, 2 links or devices"), "{note}");
}

#[track_caller]
fn check_error(path: &Path, expect: &str) {
    let error = read(path).and_then(|corpus| corpus.check_size("it")).expect_err("a bad corpus");
    let message = error.to_string().replace(&path.display().to_string(), "PATH");
    assert_eq!(message, expect);
}

#[test]
fn an_empty_folder_says_so() {
    let folder = tempfile::tempdir().unwrap();
    check_error(
        folder.path(),
        "`PATH` holds no text: 0 files; give a folder of UTF-8 text files, or one such file",
    );
}

#[test]
fn a_binary_folder_says_what_was_found() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.bin"), b"\0").unwrap();
    fs::write(folder.path().join("b.bin"), b"\xff").unwrap();
    check_error(
        folder.path(),
        "`PATH` holds no text: 2 files, 1 binary, 1 not UTF-8; \
         give a folder of UTF-8 text files, or one such file",
    );
}

#[test]
fn a_binary_file_says_what_was_found() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.bin");
    fs::write(&file, b"\0").unwrap();
    check_error(
        &file,
        "`PATH` holds no text: 1 files, 1 binary; give a folder of UTF-8 text files, or one such file",
    );
}

#[test]
fn a_missing_path_says_so() {
    let path = Path::new("/nowhere/at/all");
    check_error(path, "cannot open the corpus `PATH`: No such file or directory (os error 2)");
}

#[test]
fn a_small_corpus_says_how_much_is_needed() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.txt"), "x".repeat(1000)).unwrap();
    check_error(folder.path(), "`it` has 1000 bytes of text, and at least 524288 are needed; add text");
}

#[test]
fn two_large_files_do_not_make_four_splits() {
    let folder = tempfile::tempdir().unwrap();
    write_files(folder.path(), 2, 600_000);
    let error = read(folder.path()).unwrap().check_size("it").expect_err("no held-out text");
    assert!(
        error.to_string().contains("split of `it` has 0 bytes, and at least 16384 are needed"),
        "{error}"
    );
}

#[test]
fn a_single_file_of_the_least_size_has_every_split() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("book.txt");
    let book = text(1, MIN_BYTES as usize);
    fs::write(&file, &book).unwrap();
    let corpus = read(&file).unwrap();
    corpus.check_size("book").unwrap();
    let joined: String = corpus.documents().iter().map(|document| document.text.as_str()).collect();
    assert_eq!(joined, book, "blocks in order are the file");
}

#[test]
fn a_line_longer_than_a_block_is_cut_at_a_character() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("line.txt");
    let line = "ä".repeat(300_000);
    fs::write(&file, &line).unwrap();
    let joined: String =
        read(&file).unwrap().documents().iter().map(|document| document.text.as_str()).collect();
    assert_eq!(joined, line);
}

#[test]
fn a_wrong_hash_names_both_and_the_fix() {
    let corpus = Corpus::new(Vec::new(), Vec::new());
    let expected = CorpusHash::of(b"another");
    let error = corpus.check_hash("it", Some(expected)).expect_err("another corpus").to_string();
    for part in [&expected.to_string(), &corpus.hash().to_string(), "put the new hash into the swarm config"]
    {
        assert!(error.contains(part), "`{error}` lacks `{part}`");
    }
    corpus.check_hash("it", Some(corpus.hash())).unwrap();
}

#[test]
fn overlap_counts_bytes_in_long_lines_only() {
    let (a, b, short) = ("a".repeat(60), "b".repeat(40), "c".repeat(39));
    let document = |split, text: String| Document { path: text.clone(), split, text };
    let documents = [
        document(Split::Train, format!("{a}\n{short}\n")),
        document(Split::Validation, format!("   {a}  \n{b}\n{short}\n")),
        document(Split::Audit, format!("{b}\n")),
        document(Split::Locked, format!("{short}\n")),
    ];
    let overlaps: Vec<f64> = overlaps(&documents).into_values().collect();
    assert_eq!(overlaps, [0.0, 0.6, 0.0, 0.0]);
}
