//! The text that models learn from and are measured on, split and named by its bytes.
//!
//! A corpus is a sorted list of documents. Its id covers the path, the split and the bytes of every document,
//! so equal ids mean equal data and an equal split. Line endings are normalised to `\n`, so a checkout on
//! another system has the same id. Nothing depends on clocks, on where the folder lies or on the order of a
//! directory listing.
//!
//! Not here: tokens ([`super::tokenizer`]) and the files a run reads ([`super::dataset`]).

pub mod crates;
pub mod folder;
pub mod overlap;
pub mod store;

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
    io,
    path::PathBuf,
};

use autoswarm_protocol::{Split, id::CorpusHash};

/// The least text of a held-out split, in bytes. Below it, a measurement says more about the few documents
/// than about the model.
pub const MIN_HELD_OUT_BYTES: u64 = 16 * 1024;

/// The least text of a corpus, in bytes: about one book. Three held-out splits of 5 % each then reach
/// [`MIN_HELD_OUT_BYTES`].
pub const MIN_BYTES: u64 = 512 * 1024;

/// One text of a corpus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its relative path with `/` between the parts; documents are sorted by it.
    pub path: String,
    /// The split it belongs to.
    pub split: Split,
    /// The text, with `\n` line endings.
    pub text: String,
}

/// A corpus: documents that are each assigned to a split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corpus {
    documents: Vec<Document>,
    notes: Vec<String>,
}

impl Corpus {
    /// Sorts the documents into a corpus. `notes` are sentences for the reader that say what was left out.
    pub fn new(mut documents: Vec<Document>, notes: Vec<String>) -> Self {
        documents.sort_by(|a, b| a.path.cmp(&b.path));
        Self { documents, notes }
    }

    /// Returns the documents, sorted by path.
    pub fn documents(&self) -> &[Document] {
        &self.documents
    }

    /// Returns the documents of one split, sorted by path.
    pub fn split(&self, split: Split) -> impl Iterator<Item = &Document> {
        self.documents.iter().filter(move |document| document.split == split)
    }

    /// Returns sentences that say what was left out and why.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Returns the number of bytes of text in each split.
    pub fn bytes(&self) -> BTreeMap<Split, u64> {
        let mut bytes: BTreeMap<Split, u64> = Split::ALL.into_iter().map(|split| (split, 0)).collect();
        for document in &self.documents {
            *bytes.entry(document.split).or_default() += document.text.len() as u64;
        }
        bytes
    }

    /// Returns the canonical list of the documents, whose hash is the id of the corpus. Each line has split,
    /// length in bytes, BLAKE3 and path, separated by tabs.
    pub fn listing(&self) -> String {
        let mut listing = String::new();
        for Document { path, split, text } in &self.documents {
            let hash = blake3::hash(text.as_bytes()).to_hex();
            writeln!(listing, "{split}\t{}\t{hash}\t{path}", text.len()).expect("a string takes any text");
        }
        listing
    }

    /// Returns the id of the corpus: the hash of its [`listing`](Self::listing).
    pub fn hash(&self) -> CorpusHash {
        CorpusHash::of(self.listing().as_bytes())
    }

    /// Fails if the corpus or a held-out split is too small for a measurement. `name` is what the user gave,
    /// for the message.
    pub fn check_size(&self, name: &str) -> Result<(), CorpusError> {
        let bytes = self.bytes();
        let total: u64 = bytes.values().sum();
        if total < MIN_BYTES {
            return Err(CorpusError::TooSmall { name: name.to_owned(), bytes: total });
        }
        for split in Split::HELD_OUT {
            if bytes[&split] < MIN_HELD_OUT_BYTES {
                return Err(CorpusError::Uneven { name: name.to_owned(), split, bytes: bytes[&split] });
            }
        }
        Ok(())
    }

    /// Fails if an id is expected and the corpus has another one.
    pub fn check_hash(&self, name: &str, expected: Option<CorpusHash>) -> Result<(), CorpusError> {
        let found = self.hash();
        match expected {
            Some(expected) if expected != found => {
                Err(CorpusError::HashDiffers { name: name.to_owned(), expected, found })
            }
            _ => Ok(()),
        }
    }
}

/// Returns a number from 0 to 999, a pure function of `domain` and `key`: the place of a document in the hash
/// space, in thousandths.
fn thousandth(domain: &str, key: &str) -> u64 {
    let mut hasher = blake3::Hasher::new_derive_key(domain);
    let hash = hasher.update(key.as_bytes()).finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    // The modulo's bias over 2^64 is below 1e-15.
    u64::from_le_bytes(first) % 1000
}

/// Returns the text with `\n` line endings and no byte order mark.
fn normalise(text: &str) -> String {
    text.trim_start_matches('\u{feff}').replace("\r\n", "\n").replace('\r', "\n")
}

/// A sink for progress: the name of the stage, the units done, and the units in all (0 where unknown).
pub type Progress<'a> = &'a mut dyn FnMut(&str, u64, u64);

/// The reason why a corpus cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum CorpusError {
    /// A file or folder cannot be read or written.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// The verb of the action that failed, for the message.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// Nothing in the path is text.
    #[error(
        "`{}` holds no text: {found}; give a folder of UTF-8 text files, or one such file",
        path.display()
    )]
    NoText {
        /// The path that was given.
        path: PathBuf,
        /// Counts of the files that were left out.
        found: Skipped,
    },
    /// The corpus has less text than [`MIN_BYTES`].
    #[error("`{name}` has {bytes} bytes of text, and at least {MIN_BYTES} are needed; add text")]
    TooSmall {
        /// The corpus, as the user named it.
        name: String,
        /// Its bytes of text.
        bytes: u64,
    },
    /// A held-out split has less text than [`MIN_HELD_OUT_BYTES`].
    #[error(
        "the {split} split of `{name}` has {bytes} bytes, and at least {MIN_HELD_OUT_BYTES} are needed; \
         give more and smaller files, or one file with all the text"
    )]
    Uneven {
        /// The corpus, as the user named it.
        name: String,
        /// The split that is too small.
        split: Split,
        /// Its bytes of text.
        bytes: u64,
    },
    /// The corpus is not the one that was asked for.
    #[error(
        "the corpus `{name}` is {found} and not {expected}; use the text that the swarm config was made \
         with, or put the new hash into the swarm config, which makes it another objective"
    )]
    HashDiffers {
        /// The corpus, as the user named it.
        name: String,
        /// The id asked for.
        expected: CorpusHash,
        /// The id of the corpus that was found.
        found: CorpusHash,
    },
    /// The pinned crates do not give the pinned corpus.
    #[error(
        "the pinned crates give the corpus {found} and not {pinned}; use the lock file and the id of one \
         release, or report it"
    )]
    PinDiffers {
        /// The id in the code.
        pinned: CorpusHash,
        /// The id of the corpus that was made.
        found: CorpusHash,
    },
    /// Cargo did not deliver the crates.
    #[error("cannot get the default corpus: {reason}; {fix}")]
    Vendor {
        /// What went wrong, in a few words.
        reason: String,
        /// What the user can do about it.
        fix: String,
    },
}

/// Counts of files that are not part of a corpus, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// All files seen, accepted ones included.
    pub files: u64,
    /// Files with nothing but white space.
    pub empty: u64,
    /// Files with a NUL byte.
    pub binary: u64,
    /// Files that are not UTF-8.
    pub not_utf8: u64,
    /// Files larger than the bound.
    pub huge: u64,
    /// Files and folders that could not be read.
    pub unreadable: u64,
    /// Links, sockets, devices and folders that are too deep.
    pub special: u64,
}

impl fmt::Display for Skipped {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} files", self.files)?;
        let reasons = [
            (self.empty, "empty"),
            (self.binary, "binary"),
            (self.not_utf8, "not UTF-8"),
            (self.huge, "too large"),
            (self.unreadable, "unreadable"),
            (self.special, "links or devices"),
        ];
        for (count, reason) in reasons.into_iter().filter(|&(count, _)| count > 0) {
            write!(formatter, ", {count} {reason}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
