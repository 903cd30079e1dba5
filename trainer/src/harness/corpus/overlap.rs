//! The overlap of held-out splits with training: how much of their text stands there verbatim.
//!
//! Only lines of at least 40 characters count, without surrounding white space. They are long enough that
//! equal lines were copied and are not merely alike. The overlap is the share of these lines, in bytes, that
//! also stand in training.

use std::collections::{BTreeMap, HashSet};

use autoswarm_protocol::Split;

use super::Document;

/// The shortest line that counts, in characters without surrounding white space.
pub const LINE_CHARACTERS: usize = 40;

/// Returns the lines of a text that count, trimmed.
pub fn long_lines(text: &str) -> impl Iterator<Item = &str> {
    // A line of 40 characters has at least 40 bytes. The length in bytes is quicker to check.
    text.lines()
        .map(str::trim)
        .filter(|line| line.len() >= LINE_CHARACTERS && line.chars().count() >= LINE_CHARACTERS)
}

/// The long lines of the training split, as hashes for look-up.
#[derive(Debug)]
pub struct TrainingLines(HashSet<u64>);

impl TrainingLines {
    /// Gathers the long lines of the training documents.
    pub fn new<'a>(documents: impl IntoIterator<Item = &'a Document>) -> Self {
        let training = documents.into_iter().filter(|document| document.split == Split::Train);
        Self(training.flat_map(|document| long_lines(&document.text)).map(line_hash).collect())
    }

    /// Returns the bytes of a text in long lines, and how many of those bytes are in lines that stand in
    /// training.
    pub fn count(&self, text: &str) -> (u64, u64) {
        long_lines(text).fold((0, 0), |(all, same), line| {
            let length = line.len() as u64;
            (all + length, same + if self.0.contains(&line_hash(line)) { length } else { 0 })
        })
    }
}

/// Returns the overlap of each split with training, from 0 to 1; 0 for training itself.
pub fn overlaps(documents: &[Document]) -> BTreeMap<Split, f64> {
    let training = TrainingLines::new(documents);
    let mut overlaps = BTreeMap::from([(Split::Train, 0.0)]);
    for split in Split::HELD_OUT {
        let (all, same) = documents
            .iter()
            .filter(|document| document.split == split)
            .map(|document| training.count(&document.text))
            .fold((0, 0), |total, document| (total.0 + document.0, total.1 + document.1));
        overlaps.insert(split, if all == 0 { 0.0 } else { same as f64 / all as f64 });
    }
    overlaps
}

/// Returns 64 bits of a line's BLAKE3. Among ten million lines, two share them with probability 3e-6.
pub(super) fn line_hash(line: &str) -> u64 {
    let hash = blake3::hash(line.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    u64::from_le_bytes(first)
}
