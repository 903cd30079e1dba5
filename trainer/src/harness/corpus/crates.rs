//! The default corpus: the source and documentation of a pinned list of crates.
//!
//! `crates/crates.toml` lists the crates. `crates/crates.lock` pins them and their dependencies, with the
//! hash of each. Any machine that can build this project can download them. From the listed crates, the text
//! is made in four steps:
//!
//! 1. [`select`]: crates with permissive licences only; their `.rs` and `.md` files that people wrote; at
//!    most [`CRATE_BYTES`] of each crate.
//! 2. [`duplicates`]: files that mostly repeat other files are dropped.
//! 3. [`families`]: crates that share a name prefix or a repository are a family. A family is in one split.
//! 4. Held-out files that overlap too much with training are dropped ([`MAX_DOCUMENT_OVERLAP`]).
//!
//! The result is kept once per user, and checked against the pinned id each time it is used.
//!
//! | 2fd05693… | crates | documents | MB | also in training |
//! |---|---|---|---|---|
//! | training | 525 in 323 families, less the held-out ones | 13,022 | 144.1 | |
//! | validation | 20 families | 386 | 3.9 | 2.6 % |
//! | audit | 27 families | 350 | 3.8 | 3.2 % |
//! | locked | 20 families | 319 | 3.3 | 4.9 % |
//!
//! Making it takes 62 MB of downloads, 0.7 GB of disk temporarily, 150 MB permanently, and 12 CPU seconds.
//!
//! **To change the list**: edit `crates.toml`, run `cargo generate-lockfile` on a copy, and put the result
//! into `crates.lock`. Then run `trainer prepare --corpus crates`, and copy the id that it names into
//! `crates.blake3` and the swarm configs. The result is another corpus, hence another objective.

pub mod duplicates;
pub mod families;
pub mod select;
pub mod vendor;

use std::{collections::BTreeMap, fs, path::Path};

use autoswarm_protocol::{Split, id::CorpusHash};

use super::{Corpus, CorpusError, Document, Progress, overlap::TrainingLines, store};

pub use select::CRATE_BYTES;
pub use vendor::{LOCK, MANIFEST};

/// The largest share of a held-out file's long lines that may also stand in training; a file above it is
/// dropped. The value keeps the overlap of the splits well below 5 %, and costs less than a tenth of their
/// bytes.
pub const MAX_DOCUMENT_OVERLAP: f64 = 0.2;

/// Returns the pinned id of the default corpus.
pub fn pinned_hash() -> CorpusHash {
    include_str!("crates/crates.blake3").trim().parse().expect("the committed id is 64 hexadecimal digits")
}

/// Returns the default corpus from the user's cache, after making it there if it is missing or damaged.
pub fn read(cache: &Path, progress: Progress<'_>) -> Result<Corpus, CorpusError> {
    let pinned = pinned_hash();
    let name = format!("crates-{pinned}");
    let lock = store::lock(cache, progress)?;
    if let Some(corpus) = store::load(cache, &name, pinned, progress) {
        return Ok(corpus);
    }
    let vendored = vendor::vendor(cache, progress)?;
    let corpus = build(&vendored, progress)?;
    fs::remove_dir_all(&vendored).map_err(|source| CorpusError::Io {
        action: "remove",
        path: vendored,
        source,
    })?;
    let found = corpus.hash();
    if found != pinned {
        return Err(CorpusError::PinDiffers { pinned, found });
    }
    store::save(cache, &name, &corpus)?;
    // The lock is held until here, so that two processes do not prepare at the same time.
    drop(lock);
    Ok(corpus)
}

/// Makes the corpus from a folder of vendored crates.
pub fn build(vendored: &Path, progress: Progress<'_>) -> Result<Corpus, CorpusError> {
    let mut crates = select::select(vendored, &vendor::listed(), progress)?;
    progress("filter", 0, 0);
    duplicates::drop_duplicates(&mut crates);
    let splits = families::split(&crates);
    let documents: Vec<Document> = crates
        .into_iter()
        .flat_map(|selected| {
            let split = splits[&selected.name];
            selected.files.into_iter().map(move |(path, text)| Document { path, split, text })
        })
        .collect();
    Ok(Corpus::new(drop_overlapping(documents), Vec::new()))
}

/// Drops held-out documents that overlap too much with training.
fn drop_overlapping(mut documents: Vec<Document>) -> Vec<Document> {
    let training = TrainingLines::new(&documents);
    documents.retain(|document| {
        let (all, same) = training.count(&document.text);
        document.split == Split::Train || same as f64 <= MAX_DOCUMENT_OVERLAP * all as f64
    });
    documents
}

/// Returns the bytes of text of each crate in a corpus. A crate is named by the first part of a document's
/// path.
pub fn bytes_per_crate(corpus: &Corpus) -> BTreeMap<&str, u64> {
    let mut bytes = BTreeMap::new();
    for document in corpus.documents() {
        let name = document.path.split('/').next().unwrap_or_default();
        *bytes.entry(name).or_default() += document.text.len() as u64;
    }
    bytes
}

#[cfg(test)]
mod tests;
