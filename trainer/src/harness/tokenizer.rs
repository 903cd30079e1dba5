//! Text into tokens and back, with the raw byte length of every token.
//!
//! The special token that precedes a document is no bytes long and outside the metric. Lengths come from
//! the tokens' own bytes: decoding a token that is part of a character and encoding it again would count
//! three bytes of replacement character.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::corpus::{Corpus, Progress};

/// What can be wrong with a tokenizer.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// `tokenizer.json` is not one that this trainer writes.
    #[error("the tokenizer cannot be read: {0}")]
    Unreadable(String),
    /// The spec names no tokenizer.
    #[error("`{0}` is no tokenizer; give `bytes`")]
    Unknown(String),
}

/// How a tokenizer is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenizerSpec {
    /// Each byte is its own token.
    Bytes,
}

impl fmt::Display for TokenizerSpec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes => formatter.write_str("bytes"),
        }
    }
}

impl FromStr for TokenizerSpec {
    type Err = TokenizerError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "bytes" => Ok(Self::Bytes),
            _ => Err(TokenizerError::Unknown(text.to_owned())),
        }
    }
}

/// The id of the special token of [`Tokenizer::Bytes`]: a byte that never occurs in UTF-8, so that the
/// vocabulary stays a round 256 and a token one byte.
const BYTES_DOCUMENT_TOKEN: u16 = 0xff;

/// A tokenizer.
#[derive(Clone, Debug)]
pub enum Tokenizer {
    /// Each byte of UTF-8 is its own token.
    Bytes,
}

/// What `tokenizer.json` holds for a tokenizer that is not trained.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Untrained {
    kind: String,
    vocabulary: usize,
    document_token: u16,
}

impl Tokenizer {
    /// Makes the tokenizer that `spec` asks for.
    pub fn train(
        spec: TokenizerSpec,
        _corpus: &Corpus,
        _progress: Progress<'_>,
    ) -> Result<Self, TokenizerError> {
        match spec {
            TokenizerSpec::Bytes => Ok(Self::Bytes),
        }
    }

    /// Reads what [`Tokenizer::to_json`] wrote.
    pub fn from_json(json: &[u8]) -> Result<Self, TokenizerError> {
        let read: Untrained =
            serde_json::from_slice(json).map_err(|error| TokenizerError::Unreadable(error.to_string()))?;
        match read.kind.as_str() {
            "bytes" => Ok(Self::Bytes),
            kind => Err(TokenizerError::Unreadable(format!("the kind `{kind}` is unknown"))),
        }
    }

    /// Returns the bytes of `tokenizer.json`, equal for equal tokenizers.
    pub fn to_json(&self) -> Vec<u8> {
        let Self::Bytes = self;
        let value = Untrained {
            kind: "bytes".to_owned(),
            vocabulary: self.vocabulary_size(),
            document_token: self.document_token(),
        };
        serde_json::to_vec_pretty(&value).expect("a struct of plain fields serialises")
    }

    /// Returns how it is asked for: `bytes`.
    pub fn kind(&self) -> String {
        "bytes".to_owned()
    }

    /// Returns the number of token ids, the special one included.
    pub fn vocabulary_size(&self) -> usize {
        256
    }

    /// Returns the raw byte length of each token id; 0 for the special one.
    pub fn token_bytes(&self) -> Vec<u32> {
        (0..=u16::from(u8::MAX)).map(|id| u32::from(id != BYTES_DOCUMENT_TOKEN)).collect()
    }

    /// Returns the id of the special token that precedes each document.
    pub fn document_token(&self) -> u16 {
        BYTES_DOCUMENT_TOKEN
    }

    /// Returns the tokens of a text, the special one not among them.
    pub fn encode(&self, text: &str) -> Vec<u16> {
        text.bytes().map(u16::from).collect()
    }

    /// Returns the bytes that tokens stand for; special tokens stand for none.
    pub fn decode(&self, tokens: &[u16]) -> Vec<u8> {
        tokens.iter().filter(|&&id| id < BYTES_DOCUMENT_TOKEN).map(|&id| id as u8).collect()
    }
}
