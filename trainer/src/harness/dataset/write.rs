//! The writer of a prepared folder, which appears complete or not at all.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, BufWriter, Write},
    path::Path,
};

use autoswarm_protocol::id::TokenizerHash;

use super::{Dataset, DatasetError, FORMAT, Manifest, Split, SplitManifest, file_name, width};
use crate::harness::{
    corpus::{Corpus, Document, Progress, overlap::overlaps},
    tokenizer::Tokenizer,
};

/// Encodes a corpus into `folder`, which appears at once and complete. If the folder already holds this very
/// dataset, it is left as it is. Another dataset there is replaced.
pub fn write(
    folder: &Path,
    corpus: &Corpus,
    tokenizer: &Tokenizer,
    progress: Progress<'_>,
) -> Result<Manifest, DatasetError> {
    let fail = |source| DatasetError::Write { path: folder.to_owned(), source };
    let beside = |ending: &str| {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        folder.with_file_name(format!(".{name}.{ending}"))
    };
    let staging = beside("partial");
    if let Some(parent) = folder.parent() {
        fs::create_dir_all(parent).map_err(fail)?;
    }
    // One writer at a time. The lock ends with the process, and the next writer removes what a killed one
    // left.
    let lock = fs::File::create(beside("lock")).map_err(fail)?;
    lock.lock().map_err(fail)?;
    if let Some(manifest) = reusable(folder, corpus, tokenizer) {
        return Ok(manifest);
    }
    if staging.exists() {
        fs::remove_dir_all(&staging).map_err(fail)?;
    }
    fs::create_dir(&staging).map_err(fail)?;
    let manifest = write_into(&staging, corpus, tokenizer, progress).map_err(fail)?;
    replace(folder, &staging).map_err(fail)?;
    Ok(manifest)
}

/// Returns the manifest of the folder if it already holds this dataset, undamaged.
fn reusable(folder: &Path, corpus: &Corpus, tokenizer: &Tokenizer) -> Option<Manifest> {
    let dataset = Dataset::open(folder).ok()?;
    let manifest = dataset.manifest();
    let same =
        manifest.corpus == corpus.hash() && manifest.tokenizer == TokenizerHash::of(&tokenizer.to_json());
    (same && dataset.verify().is_ok()).then(|| manifest.clone())
}

/// Writes all files of the dataset into an empty folder.
fn write_into(
    folder: &Path,
    corpus: &Corpus,
    tokenizer: &Tokenizer,
    progress: Progress<'_>,
) -> io::Result<Manifest> {
    let overlaps = overlaps(corpus.documents());
    let total = corpus.bytes().values().sum();
    let mut done = 0;
    let mut splits = BTreeMap::new();
    for split in Split::ALL {
        let mut writer = SplitWriter::new(folder, split, tokenizer)?;
        for document in corpus.split(split) {
            writer.write(document)?;
            done += document.text.len() as u64;
            if writer.documents % 64 == 0 {
                progress("tokenize", done, total);
            }
        }
        splits.insert(split, writer.finish(overlaps[&split])?);
    }
    progress("tokenize", total, total);
    let json = tokenizer.to_json();
    let manifest = Manifest {
        format: FORMAT,
        corpus: corpus.hash(),
        tokenizer: TokenizerHash::of(&json),
        tokenizer_kind: tokenizer.spec().to_string(),
        vocabulary: tokenizer.vocabulary_size(),
        splits,
    };
    write_synced(&folder.join("tokenizer.json"), &json)?;
    write_synced(&folder.join("dataset.json"), &serde_json::to_vec_pretty(&manifest)?)?;
    Ok(manifest)
}

/// The token file of one split while it is written.
struct SplitWriter<'a> {
    tokenizer: &'a Tokenizer,
    file: BufWriter<fs::File>,
    hasher: blake3::Hasher,
    documents: u64,
    bytes: u64,
    tokens: u64,
}

impl<'a> SplitWriter<'a> {
    fn new(folder: &Path, split: Split, tokenizer: &'a Tokenizer) -> io::Result<Self> {
        let file = BufWriter::new(fs::File::create(folder.join(file_name(split)))?);
        Ok(Self { tokenizer, file, hasher: blake3::Hasher::new(), documents: 0, bytes: 0, tokens: 0 })
    }

    fn write(&mut self, document: &Document) -> io::Result<()> {
        let mut tokens = vec![self.tokenizer.document_token()];
        tokens.extend(self.tokenizer.encode(&document.text));
        let bytes: Vec<u8> = if width(self.tokenizer.vocabulary_size()) == 1 {
            tokens.iter().map(|&token| token as u8).collect()
        } else {
            tokens.iter().flat_map(|token| token.to_le_bytes()).collect()
        };
        self.documents += 1;
        self.bytes += document.text.len() as u64;
        self.tokens += tokens.len() as u64;
        self.hasher.update(&bytes);
        self.file.write_all(&bytes)
    }

    fn finish(self, overlap: f64) -> io::Result<SplitManifest> {
        let Self { file, hasher, documents, bytes, tokens, .. } = self;
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        let hash = hasher.finalize().to_hex().to_string();
        Ok(SplitManifest { documents, bytes, tokens, hash, overlap })
    }
}

/// Writes a file and waits until it is on disk.
fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Moves `staging` to `folder`. An old folder is removed only if it holds nothing but files of a dataset, so
/// that a wrong `--out` costs nobody their files.
fn replace(folder: &Path, staging: &Path) -> io::Result<()> {
    if folder.exists() {
        let ours = |name: &str| {
            matches!(name, "dataset.json" | "tokenizer.json")
                || Split::ALL.iter().any(|&split| file_name(split) == name)
        };
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if !entry.file_name().to_str().is_some_and(ours) {
                fs::remove_dir_all(staging)?;
                let reason = format!("it holds `{}`, which is no part of a dataset", entry.path().display());
                return Err(io::Error::other(reason));
            }
        }
        fs::remove_dir_all(folder)?;
    }
    fs::rename(staging, folder)
}
