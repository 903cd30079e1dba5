//! A prepared folder of tokens: `trainer prepare` writes it, and every run reads it.
//!
//! | file | what |
//! |---|---|
//! | `dataset.json` | the [`Manifest`]: hashes, vocabulary, bytes, tokens and overlap of each split |
//! | `tokenizer.json` | the tokenizer; [`Manifest::tokenizer`] is the hash of its bytes |
//! | `train.bin`, `validation.bin`, `audit.bin`, `locked.bin` | the token ids of each split |
//!
//! A token id takes one byte if the vocabulary has at most 256 ids, else two, little-endian.
//!
//! Every document is preceded by one special token ([`Dataset::document_token`]). It stands for no bytes, so
//! it is outside the metric. Tokens are read from the file where they are needed: the page cache of the
//! operating system is the only copy, and all slots of a machine share it.
//!
//! Not here: how text becomes tokens ([`super::tokenizer`]) and where text comes from ([`super::corpus`]).

mod batches;
mod windows;
mod write;

use std::{
    collections::BTreeMap,
    fs,
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use autoswarm_protocol::{
    Split,
    id::{CorpusHash, TokenizerHash},
};
use serde::{Deserialize, Serialize};

pub use batches::Batches;
pub use windows::EvaluationWindows;
pub use write::write;

/// The number of the layout of the folder. A folder with another number is refused.
pub const FORMAT: u32 = 1;

/// Returns the name of a split's token file.
pub fn file_name(split: Split) -> String {
    format!("{}.bin", split.name())
}

/// The contents of `dataset.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The number of the layout of the folder, [`FORMAT`].
    pub format: u32,
    /// The id of the corpus that the tokens come from.
    pub corpus: CorpusHash,
    /// The hash of the bytes of `tokenizer.json`.
    pub tokenizer: TokenizerHash,
    /// The tokenizer that was asked for: `bytes` or `bpe:N`.
    pub tokenizer_kind: String,
    /// The number of token ids, the special one included.
    pub vocabulary: usize,
    /// The figures of each split.
    pub splits: BTreeMap<Split, SplitManifest>,
}

/// The figures of one split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitManifest {
    /// The number of documents, each preceded by the special token.
    pub documents: u64,
    /// The number of bytes of text, without special tokens.
    pub bytes: u64,
    /// The number of tokens in the file, special ones included.
    pub tokens: u64,
    /// The BLAKE3 of the token file, in hex.
    pub hash: String,
    /// The overlap with training, from 0 to 1; 0 for training itself. It counts bytes in lines of 40 or more
    /// characters that stand verbatim in training, as a share of all bytes in such lines.
    pub overlap: f64,
}

/// An error of a prepared folder, or of what is asked of it.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// The folder was never prepared.
    #[error("`{}` is not a prepared dataset; run `trainer prepare --out {}`", .0.display(), .0.display())]
    NotPrepared(PathBuf),
    /// A file cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// The file that cannot be read.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The folder cannot be written.
    #[error("cannot write the dataset `{}`: {source}", path.display())]
    Write {
        /// The folder of the dataset.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A file does not hold what the manifest says.
    #[error("`{}` is damaged: {reason}; delete its folder and run `trainer prepare` again", path.display())]
    Damaged {
        /// The damaged file.
        path: PathBuf,
        /// How the file differs from the manifest.
        reason: String,
    },
    /// A split is too short for the context.
    #[error(
        "the {split} split has {tokens} tokens, and {needed} are needed; \
         use a larger corpus or a shorter context"
    )]
    TooShort {
        /// The split that is too short.
        split: Split,
        /// The number of tokens it has.
        tokens: u64,
        /// The smallest number of tokens that would be enough.
        needed: u64,
    },
}

/// A prepared folder, open for reading.
#[derive(Debug)]
pub struct Dataset {
    folder: PathBuf,
    manifest: Manifest,
    token_bytes: Vec<u32>,
    document_token: u16,
    files: BTreeMap<Split, File>,
}

impl Dataset {
    /// Opens the folder and checks it against its manifest: the length of every file, the hash of the
    /// tokenizer, and the hashes of the held-out splits (a few MB). The hash of training is checked by
    /// `trainer prepare` alone.
    pub fn open(folder: &Path) -> Result<Self, DatasetError> {
        let manifest = read_manifest(folder)?;
        let tokenizer_path = folder.join("tokenizer.json");
        let tokenizer_json = read_file(&tokenizer_path)?;
        if TokenizerHash::of(&tokenizer_json) != manifest.tokenizer {
            return Err(damaged(&tokenizer_path, "its hash is not the manifest's".to_owned()));
        }
        let tokenizer = super::tokenizer::Tokenizer::from_json(&tokenizer_json)
            .map_err(|error| damaged(&tokenizer_path, format!("{error}")))?;
        if tokenizer.vocabulary_size() != manifest.vocabulary {
            return Err(damaged(&tokenizer_path, "its vocabulary is not the manifest's".to_owned()));
        }
        let mut files = BTreeMap::new();
        for split in Split::ALL {
            files.insert(split, open_split(folder, &manifest, split)?);
        }
        Ok(Self {
            folder: folder.to_owned(),
            token_bytes: tokenizer.token_bytes(),
            document_token: tokenizer.document_token(),
            manifest,
            files,
        })
    }

    /// Returns the contents of `dataset.json`.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Returns the path of the folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the number of token ids, the special one included.
    pub fn vocabulary_size(&self) -> usize {
        self.manifest.vocabulary
    }

    /// Returns the length of each token id in raw bytes; 0 for the special one.
    pub fn token_bytes(&self) -> &[u32] {
        &self.token_bytes
    }

    /// Returns the special token that precedes each document. A prompt starts with it too.
    pub fn document_token(&self) -> u16 {
        self.document_token
    }

    /// Returns the number of tokens in a split.
    pub fn token_count(&self, split: Split) -> u64 {
        self.manifest.splits[&split].tokens
    }

    /// Fills `out` with tokens of a split, from position `start` on.
    pub fn read(&self, split: Split, start: u64, out: &mut [i64]) -> Result<(), DatasetError> {
        let width = width(self.manifest.vocabulary);
        let mut bytes = vec![0; out.len() * width];
        self.files[&split]
            .read_exact_at(&mut bytes, start * width as u64)
            .map_err(|source| DatasetError::Read { path: self.folder.join(file_name(split)), source })?;
        if width == 1 {
            for (token, &byte) in out.iter_mut().zip(&bytes) {
                *token = i64::from(byte);
            }
        } else {
            for (token, pair) in out.iter_mut().zip(bytes.chunks_exact(2)) {
                *token = i64::from(u16::from_le_bytes([pair[0], pair[1]]));
            }
        }
        Ok(())
    }

    /// Checks the hash of every token file, training included. It takes 0.1 s per 100 MB.
    pub fn verify(&self) -> Result<(), DatasetError> {
        for split in Split::ALL {
            let path = self.folder.join(file_name(split));
            check_hash(&path, &read_file(&path)?, &self.manifest.splits[&split].hash)?;
        }
        Ok(())
    }
}

/// Returns how many bytes one token takes in a file.
pub(crate) fn width(vocabulary: usize) -> usize {
    if vocabulary <= 256 { 1 } else { 2 }
}

fn read_manifest(folder: &Path) -> Result<Manifest, DatasetError> {
    let path = folder.join("dataset.json");
    let json = match fs::read(&path) {
        Ok(json) => json,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(DatasetError::NotPrepared(folder.to_owned()));
        }
        Err(source) => return Err(DatasetError::Read { path, source }),
    };
    let manifest: Manifest =
        serde_json::from_slice(&json).map_err(|error| damaged(&path, error.to_string()))?;
    if manifest.format != FORMAT {
        let reason = format!("its format is {} and this trainer reads {FORMAT}", manifest.format);
        return Err(damaged(&path, reason));
    }
    if let Some(split) = Split::ALL.into_iter().find(|split| !manifest.splits.contains_key(split)) {
        return Err(damaged(&path, format!("it has no {split} split")));
    }
    Ok(manifest)
}

fn open_split(folder: &Path, manifest: &Manifest, split: Split) -> Result<File, DatasetError> {
    let path = folder.join(file_name(split));
    let wanted = &manifest.splits[&split];
    let file = File::open(&path).map_err(|source| DatasetError::Read { path: path.clone(), source })?;
    let length = file.metadata().map_err(|source| DatasetError::Read { path: path.clone(), source })?.len();
    if length != wanted.tokens * width(manifest.vocabulary) as u64 {
        return Err(damaged(&path, format!("{length} bytes are not {} tokens", wanted.tokens)));
    }
    if split != Split::Train {
        check_hash(&path, &read_file(&path)?, &wanted.hash)?;
    }
    Ok(file)
}

fn read_file(path: &Path) -> Result<Vec<u8>, DatasetError> {
    fs::read(path).map_err(|source| DatasetError::Read { path: path.to_owned(), source })
}

fn check_hash(path: &Path, bytes: &[u8], wanted: &str) -> Result<(), DatasetError> {
    if blake3::hash(bytes).to_hex().as_str() == wanted {
        Ok(())
    } else {
        Err(damaged(path, "its hash is not the manifest's".to_owned()))
    }
}

fn damaged(path: &Path, reason: String) -> DatasetError {
    DatasetError::Damaged { path: path.to_owned(), reason }
}

#[cfg(test)]
mod tests;
