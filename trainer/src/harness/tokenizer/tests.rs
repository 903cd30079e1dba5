//! Tests of both tokenizers.

use super::*;
use crate::harness::corpus::Document;
use autoswarm_protocol::Split;

/// A text with many different words and characters of one to four bytes.
fn corpus() -> Corpus {
    let documents = (0..40)
        .map(|index: u32| {
            let lines: Vec<String> = (0..200)
                .map(|line| {
                    let hash = blake3::hash(&[index as u8, line]).to_hex();
                    format!(
                        "fn item_{}(größe: u32) -> 日本語 {{ {} }} // 🦀 {}\n",
                        &hash[..3],
                        line,
                        &hash[4..9]
                    )
                })
                .collect();
            Document { path: format!("{index}"), split: Split::Train, text: lines.concat() }
        })
        .collect();
    Corpus::new(documents, Vec::new())
}

fn train(vocabulary: usize) -> Tokenizer {
    Tokenizer::train(TokenizerSpec::Bpe(vocabulary), &corpus(), &mut |_, _, _| {}).unwrap()
}

const TEXTS: [&str; 6] =
    ["", "fn main() {}\n", "größe 日本語 🦀", "  \t\n\n  x", "<|endoftext|>", "\u{10ffff}\u{0}\u{80}"];

#[track_caller]
fn check_lossless(tokenizer: &Tokenizer) {
    let lengths = tokenizer.token_bytes();
    assert_eq!(lengths.len(), tokenizer.vocabulary_size());
    assert_eq!(lengths[usize::from(tokenizer.document_token())], 0);
    for text in TEXTS {
        let tokens = tokenizer.encode(text);
        assert_eq!(tokenizer.decode(&tokens), text.as_bytes());
        let length: u32 = tokens.iter().map(|&token| lengths[usize::from(token)]).sum();
        assert_eq!(length as usize, text.len(), "the lengths of the tokens of `{text}` add up");
        assert!(!tokens.contains(&tokenizer.document_token()));
    }
}

#[test]
fn bytes_are_lossless() {
    check_lossless(&Tokenizer::bytes());
}

#[test]
fn pairs_are_lossless() {
    check_lossless(&train(400));
}

#[test]
fn a_token_that_is_part_of_a_character_counts_its_own_bytes() {
    // With only one merge, nearly every byte of `語` is a token of its own, and such a token is not valid
    // text.
    let tokenizer = train(MIN_VOCABULARY);
    let tokens = tokenizer.encode("語");
    assert!(tokens.len() > 1);
    let lengths = tokenizer.token_bytes();
    let total: u32 = tokens.iter().map(|&token| lengths[usize::from(token)]).sum();
    assert_eq!(total, 3);
    let decoded = tokenizer.decode(&tokens[..1]);
    assert!(String::from_utf8(decoded).is_err(), "the first token is part of a character");
}

#[test]
fn training_twice_gives_the_same_file() {
    let first = train(1500).to_json();
    for _ in 0..3 {
        assert_eq!(train(1500).to_json(), first);
    }
}

#[test]
fn the_trained_file_is_golden() {
    assert_eq!(blake3::hash(&train(600).to_json()).to_hex().as_str(), GOLDEN);
}

/// This value changes only if the training of the library changes. Then every config that uses it becomes
/// another objective.
const GOLDEN: &str = "55e5a89eb91e3da566d16188fd91d9dc426252854d23fb1cab786bae870d8f16";

#[test]
fn a_vocabulary_is_exactly_what_was_asked_for() {
    for vocabulary in [258, 300, 1024] {
        assert_eq!(train(vocabulary).vocabulary_size(), vocabulary);
    }
    let error =
        Tokenizer::train(TokenizerSpec::Bpe(60_000), &corpus(), &mut |_, _, _| {}).expect_err("little text");
    assert!(error.to_string().contains("ask for fewer or add text"), "{error}");
}

#[test]
fn files_round_trip() {
    for tokenizer in [Tokenizer::bytes(), train(300)] {
        let read = Tokenizer::from_json(&tokenizer.to_json()).unwrap();
        assert_eq!(read.to_json(), tokenizer.to_json());
        assert_eq!(read.spec(), tokenizer.spec());
        assert_eq!(read.encode(TEXTS[2]), tokenizer.encode(TEXTS[2]));
    }
}

#[track_caller]
fn check_spec(text: &str, expect: Result<TokenizerSpec, &str>) {
    assert_eq!(
        text.parse().map_err(|error: TokenizerError| error.to_string()),
        expect.map_err(str::to_owned)
    );
}

#[test]
fn specs_parse() {
    check_spec("bytes", Ok(TokenizerSpec::Bytes));
    check_spec("bpe:1024", Ok(TokenizerSpec::Bpe(1024)));
    check_spec("bpe:257", Err("a vocabulary of 257 is out of range; give one from 258 to 65536"));
    check_spec("bpe:70000", Err("a vocabulary of 70000 is out of range; give one from 258 to 65536"));
    let unknown = "`bpe` is no tokenizer; give `bytes`, or `bpe:N` for byte pairs with a vocabulary of N";
    check_spec("bpe", Err(unknown));
}
