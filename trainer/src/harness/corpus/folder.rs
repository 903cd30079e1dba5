//! A corpus from the user's own folder or file of UTF-8 text.
//!
//! A folder is split by file. The hash of a file's path alone decides its split, so adding a file moves no
//! other file to another split.
//!
//! A single file is cut into blocks. Every twentieth block goes to each held-out split, so appending to the
//! file moves no earlier block.
//!
//! Hidden files and folders are left out. Links are not followed, so nothing is read twice and there is no
//! endless loop.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use autoswarm_protocol::Split;

use super::{Corpus, CorpusError, Document, Progress, Skipped, normalise, thousandth};

/// The largest file that is read from a folder, in bytes; larger ones are left out. 256 MiB is the text of a
/// year of training on a CPU.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// The most text of a corpus, in bytes. More is refused, so that a wrong path (`/`) ends with an error and
/// not with a full memory.
const MAX_TOTAL_BYTES: u64 = 4 << 30;

/// The most files of a corpus. More are refused, for the same reason.
const MAX_FILES: u64 = 1_000_000;

/// The greatest depth of a folder below the corpus.
const MAX_DEPTH: usize = 64;

/// The size of the blocks into which a single file is cut at line ends, in bytes. It is large enough that few
/// sentences straddle a border between splits, and small enough that the smallest corpus has three blocks in
/// each split.
const BLOCK_BYTES: usize = 8 * 1024;

/// The domain of the hash that assigns files to splits.
const SPLIT_DOMAIN: &str = "autoswarm 1 folder corpus split";

/// The share of the files that each held-out split gets, in thousandths.
const HELD_OUT_THOUSANDTHS: u64 = 50;

/// Reads a folder or a file into a corpus.
pub fn read(path: &Path, progress: Progress<'_>) -> Result<Corpus, CorpusError> {
    let metadata = fs::metadata(path).map_err(|source| io_error("open the corpus", path, source))?;
    if metadata.is_dir() { read_folder(path, progress) } else { read_single(path, metadata.len()) }
}

/// Reads all text files below a folder, each as one document.
fn read_folder(root: &Path, progress: Progress<'_>) -> Result<Corpus, CorpusError> {
    let mut skipped = Skipped::default();
    let files = list(root, &mut skipped)?;
    let mut documents = Vec::new();
    let mut total = 0;
    for (index, file) in files.iter().enumerate() {
        if index % 64 == 0 {
            progress("read", index as u64, files.len() as u64);
        }
        let Some(text) = read_text(file, &mut skipped) else { continue };
        total += text.len() as u64;
        if total > MAX_TOTAL_BYTES {
            let source = io::Error::other(format!("it has more than {MAX_TOTAL_BYTES} bytes of text"));
            return Err(io_error("use all of", root, source));
        }
        let path = relative(root, file);
        documents.push(Document { split: split_of(&path), path, text });
    }
    progress("read", files.len() as u64, files.len() as u64);
    finish(root, documents, skipped)
}

/// Reads one file, each block of it as one document.
fn read_single(path: &Path, length: u64) -> Result<Corpus, CorpusError> {
    let mut skipped = Skipped { files: 1, ..Skipped::default() };
    if length > MAX_TOTAL_BYTES {
        let source = io::Error::other(format!("it is larger than {MAX_TOTAL_BYTES} bytes"));
        return Err(io_error("use all of", path, source));
    }
    let bytes = fs::read(path).map_err(|source| io_error("read", path, source))?;
    let Some(text) = to_text(bytes, &mut skipped) else {
        return Err(CorpusError::NoText { path: path.to_owned(), found: skipped });
    };
    let documents = blocks(&text)
        .enumerate()
        .map(|(index, block)| {
            let path = format!("block-{index:08}");
            Document { path, split: split_of_block(index), text: block.to_owned() }
        })
        .collect();
    finish(path, documents, skipped)
}

/// Makes the corpus, with a note on what was left out; fails if nothing is text.
fn finish(path: &Path, documents: Vec<Document>, skipped: Skipped) -> Result<Corpus, CorpusError> {
    if documents.is_empty() {
        return Err(CorpusError::NoText { path: path.to_owned(), found: skipped });
    }
    let mut notes = Vec::new();
    if skipped != (Skipped { files: skipped.files, ..Skipped::default() }) {
        notes.push(format!("left out of `{}`: of {skipped}", path.display()));
    }
    Ok(Corpus::new(documents, notes))
}

/// Returns the regular files below `root`, sorted by path, without following links.
fn list(root: &Path, skipped: &mut Skipped) -> Result<Vec<PathBuf>, CorpusError> {
    let mut files = Vec::new();
    let mut folders = vec![(root.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(source) if depth == 0 => return Err(io_error("list", root, source)),
            Err(_) => {
                skipped.unreadable += 1;
                continue;
            }
        };
        for entry in entries {
            let Ok(entry) = entry else {
                skipped.unreadable += 1;
                continue;
            };
            let Ok(kind) = entry.file_type() else {
                skipped.unreadable += 1;
                continue;
            };
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            if kind.is_dir() && depth < MAX_DEPTH {
                folders.push((entry.path(), depth + 1));
            } else if kind.is_file() {
                files.push(entry.path());
            } else {
                skipped.special += 1;
            }
            skipped.files += u64::from(!kind.is_dir());
            if skipped.files > MAX_FILES {
                let source = io::Error::other(format!("it has more than {MAX_FILES} files"));
                return Err(io_error("use all of", root, source));
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Returns the text of a file, or counts why it has none.
fn read_text(file: &Path, skipped: &mut Skipped) -> Option<String> {
    let length = fs::metadata(file).map_or(0, |metadata| metadata.len());
    if length > MAX_FILE_BYTES {
        skipped.huge += 1;
        return None;
    }
    let Ok(bytes) = fs::read(file) else {
        skipped.unreadable += 1;
        return None;
    };
    to_text(bytes, skipped)
}

/// Returns the bytes as normalised text, or counts why they are not text.
fn to_text(bytes: Vec<u8>, skipped: &mut Skipped) -> Option<String> {
    if bytes.contains(&0) {
        skipped.binary += 1;
        return None;
    }
    let Ok(text) = String::from_utf8(bytes) else {
        skipped.not_utf8 += 1;
        return None;
    };
    if text.trim().is_empty() {
        skipped.empty += 1;
        return None;
    }
    Some(normalise(&text))
}

/// Cuts a text at line ends into blocks of about [`BLOCK_BYTES`]; a longer line is cut at a character.
fn blocks(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut end = BLOCK_BYTES.min(rest.len());
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        if end < rest.len() {
            end = rest[..end].rfind('\n').map_or(end, |newline| newline + 1);
        }
        let (block, tail) = rest.split_at(end);
        rest = tail;
        Some(block)
    })
}

fn split_of(path: &str) -> Split {
    match thousandth(SPLIT_DOMAIN, path) / HELD_OUT_THOUSANDTHS {
        0 => Split::Validation,
        1 => Split::Audit,
        2 => Split::Locked,
        _ => Split::Train,
    }
}

/// Returns the split of a block of a single file. The blocks of a held-out split are spread evenly, and each
/// held-out split gets 5 % of them.
fn split_of_block(index: usize) -> Split {
    match index % 20 {
        4 => Split::Validation,
        10 => Split::Audit,
        16 => Split::Locked,
        _ => Split::Train,
    }
}

/// Returns the path below `root` with `/` between its parts. Bytes that are not UTF-8, tabs and line ends are
/// replaced.
fn relative(root: &Path, file: &Path) -> String {
    let below = file.strip_prefix(root).unwrap_or(file);
    let parts: Vec<String> = below
        .components()
        .map(|part| part.as_os_str().to_string_lossy().replace(['\t', '\n', '\r'], "_"))
        .collect();
    parts.join("/")
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> CorpusError {
    CorpusError::Io { action, path: path.to_owned(), source }
}
