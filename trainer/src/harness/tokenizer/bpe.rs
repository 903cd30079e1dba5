//! Byte-pair encoding, trained and run by the `tokenizers` crate.
//!
//! The model works on bytes, written as GPT-2's alphabet of 256 printable stand-ins. So every text has tokens
//! and none is unknown. The special document token is not part of the model: it is the id after the model's
//! last one, so no text can spell it.
//!
//! Training is deterministic. The library breaks ties between pairs by their ids and sums counts, so neither
//! hash order nor threads affect the result. A test checks this.

use autoswarm_protocol::Split;
use tokenizers::{
    DecoderWrapper, NormalizerWrapper, PostProcessorWrapper, Tokenizer as Library, TokenizerBuilder,
    models::bpe::{BPE, BpeTrainerBuilder},
    pre_tokenizers::byte_level::ByteLevel,
};

use super::error::{MAX_VOCABULARY, MIN_VOCABULARY, TokenizerError};
use crate::harness::corpus::{Corpus, Document};

/// The amount of text that merges are learned from, in bytes. Wild guess: merges of a vocabulary of 8192
/// occur thousands of times in it.
const SAMPLE_BYTES: usize = 20_000_000;

/// The largest part of a text that is encoded at once, in bytes. Longer texts are cut at line ends, to bound
/// the library's memory.
const PART_BYTES: usize = 1 << 20;

/// A trained byte-pair encoding.
#[derive(Clone, Debug)]
pub(super) struct Bpe {
    library: Library,
    token_bytes: Vec<Vec<u8>>,
}

impl Bpe {
    /// Learns `vocabulary - 1` tokens from a sample of the training split. The document token is the last id.
    pub(super) fn train(vocabulary: usize, corpus: &Corpus) -> Result<Self, TokenizerError> {
        if !(MIN_VOCABULARY..=MAX_VOCABULARY).contains(&vocabulary) {
            return Err(TokenizerError::Vocabulary(vocabulary));
        }
        let byte_level = ByteLevel::new(false, true, true);
        let mut library = TokenizerBuilder::<
            BPE,
            NormalizerWrapper,
            ByteLevel,
            PostProcessorWrapper,
            DecoderWrapper,
        >::default()
        .with_model(BPE::default())
        .with_normalizer(None)
        .with_pre_tokenizer(Some(byte_level))
        .with_post_processor(None)
        .with_decoder(Some(DecoderWrapper::ByteLevel(byte_level)))
        .build()
        .map_err(|error| TokenizerError::Library(error.to_string()))?;
        let mut trainer = BpeTrainerBuilder::new()
            .show_progress(false)
            .vocab_size(vocabulary - 1)
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .build();
        library
            .train(&mut trainer, sample(corpus).into_iter())
            .map_err(|error| TokenizerError::Library(error.to_string()))?;
        let json = library.to_string(true).map_err(|error| TokenizerError::Library(error.to_string()))?;
        let trained = Self::from_json(json.as_bytes())?;
        let learned = trained.vocabulary_size();
        if learned == vocabulary {
            Ok(trained)
        } else {
            Err(TokenizerError::TooFewPairs { vocabulary, learned })
        }
    }

    /// Reads a tokenizer in the library's own format.
    pub(super) fn from_json(json: &[u8]) -> Result<Self, TokenizerError> {
        let unreadable = |reason: String| TokenizerError::Unreadable(reason);
        let library = Library::from_bytes(json).map_err(|error| unreadable(error.to_string()))?;
        let bytes_of = stand_ins();
        let mut token_bytes = vec![Vec::new(); library.get_vocab_size(true)];
        for (token, id) in library.get_vocab(true) {
            let bytes: Option<Vec<u8>> = token
                .chars()
                .map(|stand_in| bytes_of.iter().position(|&other| other == stand_in))
                .map(|byte| byte.map(|byte| byte as u8))
                .collect();
            let place = token_bytes.get_mut(id as usize);
            let (Some(place), Some(bytes)) = (place, bytes) else {
                return Err(unreadable(format!("the token `{token}` is no sequence of bytes")));
            };
            *place = bytes;
        }
        if token_bytes.len() >= MAX_VOCABULARY || token_bytes.iter().any(Vec::is_empty) {
            return Err(unreadable("its ids are not 0, 1, 2 … up to at most 65534".to_owned()));
        }
        Ok(Self { library, token_bytes })
    }

    /// Returns the tokenizer in the library's own format, which other programs can read too.
    pub(super) fn to_json(&self) -> Vec<u8> {
        self.library.to_string(true).expect("a tokenizer that was read can be written").into_bytes()
    }

    /// Returns the number of ids, the document token included.
    pub(super) fn vocabulary_size(&self) -> usize {
        self.token_bytes.len() + 1
    }

    /// Returns the raw bytes of each id, without the document token.
    pub(super) fn token_bytes(&self) -> &[Vec<u8>] {
        &self.token_bytes
    }

    /// Returns the tokens of a text.
    pub(super) fn encode(&self, text: &str) -> Vec<u16> {
        let mut tokens = Vec::new();
        for part in parts(text) {
            let encoding = self
                .library
                .encode_fast(part, false)
                .expect("every byte has a token, so every text has tokens");
            tokens.extend(encoding.get_ids().iter().map(|&id| id as u16));
        }
        tokens
    }
}

/// Returns the text of training documents, in the order of the hashes of their paths, up to [`SAMPLE_BYTES`].
fn sample(corpus: &Corpus) -> Vec<&str> {
    let mut documents: Vec<&Document> = corpus.split(Split::Train).collect();
    documents.sort_by_cached_key(|document| *blake3::hash(document.path.as_bytes()).as_bytes());
    let mut left = SAMPLE_BYTES;
    let mut sample = Vec::new();
    for document in documents {
        if left == 0 {
            break;
        }
        let mut end = left.min(document.text.len());
        while !document.text.is_char_boundary(end) {
            end -= 1;
        }
        left = if end < document.text.len() { 0 } else { left - end };
        sample.extend(parts(&document.text[..end]));
    }
    sample
}

/// Cuts a text into parts of at most [`PART_BYTES`], at line ends where there are any.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let mut end = PART_BYTES.min(rest.len());
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        if end < rest.len() {
            end = rest[..end].rfind('\n').map_or(end, |newline| newline + 1);
        }
        let (part, tail) = rest.split_at(end);
        rest = tail;
        (!part.is_empty()).then_some(part)
    })
}

/// Returns the character that stands for each byte: the byte itself where Latin-1 prints it, else the next
/// character from U+0100 on. This is GPT-2's table, which the library uses and does not export.
fn stand_ins() -> [char; 256] {
    let mut next = 0x100;
    std::array::from_fn(|byte| {
        let prints = matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
        let code = if prints { byte as u32 } else { next };
        next += u32::from(!prints);
        char::from_u32(code).expect("codes below U+0200 are characters")
    })
}
