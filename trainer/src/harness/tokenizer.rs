//! Text into tokens and back, with the raw byte length of every token.
//!
//! The special token that precedes a document is no bytes long and outside the metric. The length of a token
//! is taken from its own bytes. Decoding it to text and encoding that again would be wrong: a token that is
//! only part of a character would count as the three bytes of the replacement character.

mod bpe;
mod error;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use self::{
    bpe::Bpe,
    error::{MAX_VOCABULARY, MIN_VOCABULARY},
};
use super::corpus::{Corpus, Progress};

pub use error::TokenizerError;

/// The tokenizer that is asked for on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenizerSpec {
    /// Each byte is its own token.
    Bytes,
    /// Byte pairs learned from the training split, with this many ids, the special one included.
    Bpe(usize),
}

impl fmt::Display for TokenizerSpec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes => formatter.write_str("bytes"),
            Self::Bpe(vocabulary) => write!(formatter, "bpe:{vocabulary}"),
        }
    }
}

impl FromStr for TokenizerSpec {
    type Err = TokenizerError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || TokenizerError::Unknown(text.to_owned());
        if text == "bytes" {
            return Ok(Self::Bytes);
        }
        let vocabulary = text.strip_prefix("bpe:").ok_or_else(unknown)?.parse().map_err(|_| unknown())?;
        if !(MIN_VOCABULARY..=MAX_VOCABULARY).contains(&vocabulary) {
            return Err(TokenizerError::Vocabulary(vocabulary));
        }
        Ok(Self::Bpe(vocabulary))
    }
}

/// The id of the special token of [`Tokenizer::bytes`]. The byte never occurs in UTF-8, so the vocabulary
/// stays a round 256 and a token takes one byte.
const BYTES_DOCUMENT_TOKEN: u16 = 0xff;

/// A tokenizer: bytes, or byte pairs learned from a corpus.
#[derive(Clone, Debug)]
pub struct Tokenizer(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Bytes,
    Bpe(Box<Bpe>),
}

/// The contents of `tokenizer.json` for a tokenizer that is not trained.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Untrained {
    kind: String,
    vocabulary: usize,
    document_token: u16,
}

impl Tokenizer {
    /// Returns the tokenizer whose tokens are single bytes.
    pub fn bytes() -> Self {
        Self(Kind::Bytes)
    }

    /// Returns the tokenizer that `spec` asks for. Byte pairs are learned from the training split.
    pub fn train(
        spec: TokenizerSpec,
        corpus: &Corpus,
        progress: Progress<'_>,
    ) -> Result<Self, TokenizerError> {
        match spec {
            TokenizerSpec::Bytes => Ok(Self::bytes()),
            TokenizerSpec::Bpe(vocabulary) => {
                progress("learn tokens", 0, 0);
                Ok(Self(Kind::Bpe(Box::new(Bpe::train(vocabulary, corpus)?))))
            }
        }
    }

    /// Reads the bytes that [`Tokenizer::to_json`] wrote.
    pub fn from_json(json: &[u8]) -> Result<Self, TokenizerError> {
        let Ok(read) = serde_json::from_slice::<Untrained>(json) else {
            return Ok(Self(Kind::Bpe(Box::new(Bpe::from_json(json)?))));
        };
        if read.kind == "bytes" && read.vocabulary == 256 && read.document_token == BYTES_DOCUMENT_TOKEN {
            Ok(Self::bytes())
        } else {
            Err(TokenizerError::Unreadable(format!("the kind `{}` is unknown", read.kind)))
        }
    }

    /// Returns the contents of `tokenizer.json`. They are equal for equal tokenizers.
    pub fn to_json(&self) -> Vec<u8> {
        match &self.0 {
            Kind::Bytes => {
                let value = Untrained {
                    kind: "bytes".to_owned(),
                    vocabulary: self.vocabulary_size(),
                    document_token: self.document_token(),
                };
                serde_json::to_vec_pretty(&value).expect("a struct of plain fields serialises")
            }
            Kind::Bpe(bpe) => bpe.to_json(),
        }
    }

    /// Returns the spec that asks for this tokenizer.
    pub fn spec(&self) -> TokenizerSpec {
        match &self.0 {
            Kind::Bytes => TokenizerSpec::Bytes,
            Kind::Bpe(bpe) => TokenizerSpec::Bpe(bpe.vocabulary_size()),
        }
    }

    /// Returns the number of token ids, the special one included.
    pub fn vocabulary_size(&self) -> usize {
        match &self.0 {
            Kind::Bytes => 256,
            Kind::Bpe(bpe) => bpe.vocabulary_size(),
        }
    }

    /// Returns the length of each token id in raw bytes; 0 for the special one.
    pub fn token_bytes(&self) -> Vec<u32> {
        let mut lengths = match &self.0 {
            Kind::Bytes => vec![1; 256],
            Kind::Bpe(bpe) => bpe.token_bytes().iter().map(|bytes| bytes.len() as u32).chain([0]).collect(),
        };
        lengths[usize::from(self.document_token())] = 0;
        lengths
    }

    /// Returns the id of the special token that precedes each document.
    pub fn document_token(&self) -> u16 {
        match &self.0 {
            Kind::Bytes => BYTES_DOCUMENT_TOKEN,
            Kind::Bpe(bpe) => bpe.token_bytes().len() as u16,
        }
    }

    /// Returns the tokens of a text, without the special one.
    pub fn encode(&self, text: &str) -> Vec<u16> {
        match &self.0 {
            Kind::Bytes => text.bytes().map(u16::from).collect(),
            Kind::Bpe(bpe) => bpe.encode(text),
        }
    }

    /// Returns the bytes that tokens stand for. Special and unknown tokens stand for none.
    pub fn decode(&self, tokens: &[u16]) -> Vec<u8> {
        match &self.0 {
            Kind::Bytes => {
                tokens.iter().filter(|&&id| id < BYTES_DOCUMENT_TOKEN).map(|&id| id as u8).collect()
            }
            Kind::Bpe(bpe) => tokens
                .iter()
                .filter_map(|&id| bpe.token_bytes().get(usize::from(id)))
                .flatten()
                .copied()
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests;
