//! Errors of tokenizers, and the bounds of a vocabulary.

/// The smallest vocabulary: the 256 bytes, the document token and one merge.
pub(super) const MIN_VOCABULARY: usize = 258;

/// The largest vocabulary whose ids fit into two bytes.
pub(super) const MAX_VOCABULARY: usize = 1 << 16;

/// An error of a tokenizer or of its spec.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// `tokenizer.json` is not one that this trainer writes.
    #[error("the tokenizer cannot be read: {0}")]
    Unreadable(String),
    /// The spec names no tokenizer.
    #[error("`{0}` is no tokenizer; give `bytes`, or `bpe:N` for byte pairs with a vocabulary of N")]
    Unknown(String),
    /// The vocabulary is out of range.
    #[error("a vocabulary of {0} is out of range; give one from {MIN_VOCABULARY} to {MAX_VOCABULARY}")]
    Vocabulary(usize),
    /// The text has too few different pairs.
    #[error("the training text gives only {learned} tokens and not {vocabulary}; ask for fewer or add text")]
    TooFewPairs {
        /// The number of ids that was asked for.
        vocabulary: usize,
        /// The number of ids that the text gave.
        learned: usize,
    },
    /// The `tokenizers` crate failed.
    #[error("the tokenizer cannot be trained: {0}")]
    Library(String),
}
