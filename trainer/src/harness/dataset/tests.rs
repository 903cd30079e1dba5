//! Tests of prepared folders: what is written is read back, rows and windows are as promised, damage is
//! named.

use std::fs;

use super::*;
use crate::harness::{
    corpus::{Corpus, Document},
    tokenizer::{Tokenizer, TokenizerSpec},
};

const CONTEXT: usize = 16;

fn corpus() -> Corpus {
    let documents = (0..60_u32)
        .map(|index| {
            let split = match index % 20 {
                0 => Split::Validation,
                1 => Split::Audit,
                2 => Split::Locked,
                _ => Split::Train,
            };
            let text = format!("{} größe {index}\n", blake3::hash(&index.to_le_bytes()).to_hex()).repeat(3);
            Document { path: format!("{index:03}"), split, text }
        })
        .collect();
    Corpus::new(documents, Vec::new())
}

fn prepare(spec: TokenizerSpec) -> (tempfile::TempDir, Dataset) {
    let folder = tempfile::tempdir().unwrap();
    let corpus = corpus();
    let tokenizer = Tokenizer::train(spec, &corpus, &mut |_, _, _| {}).unwrap();
    let path = folder.path().join("data");
    let manifest = write(&path, &corpus, &tokenizer, &mut |_, _, _| {}).unwrap();
    let dataset = Dataset::open(&path).unwrap();
    assert_eq!(dataset.manifest(), &manifest);
    (folder, dataset)
}

fn all_tokens(dataset: &Dataset, split: Split) -> Vec<i64> {
    let mut tokens = vec![0; dataset.token_count(split) as usize];
    dataset.read(split, 0, &mut tokens).unwrap();
    tokens
}

#[test]
fn every_split_reads_back_its_documents() {
    for spec in [TokenizerSpec::Bytes, TokenizerSpec::Bpe(300)] {
        let (_folder, dataset) = prepare(spec);
        let json = fs::read(dataset.folder().join("tokenizer.json")).unwrap();
        let tokenizer = Tokenizer::from_json(&json).unwrap();
        let lengths = dataset.token_bytes();
        assert_eq!(lengths.len(), dataset.vocabulary_size());
        for split in Split::ALL {
            let tokens = all_tokens(&dataset, split);
            let documents =
                tokens.iter().filter(|&&token| token == i64::from(dataset.document_token())).count();
            let bytes: u64 = tokens.iter().map(|&token| u64::from(lengths[token as usize])).sum();
            let figures = &dataset.manifest().splits[&split];
            assert_eq!((documents as u64, bytes), (figures.documents, figures.bytes));
            let text: String = corpus().split(split).map(|document| document.text.as_str()).collect();
            let ids: Vec<u16> = tokens.iter().map(|&token| token as u16).collect();
            assert_eq!(tokenizer.decode(&ids), text.as_bytes());
        }
    }
}

#[test]
fn the_size_of_a_batch_only_groups_rows() {
    let (_folder, dataset) = prepare(TokenizerSpec::Bytes);
    let batches = Batches::new(&dataset, 7, CONTEXT).unwrap();
    let all = batches.rows(0, 60).unwrap();
    for size in [1, 2, 3, 20] {
        let grouped: Vec<i64> =
            (0..60 / size).flat_map(|batch| batches.rows((batch * size) as u64, size).unwrap()).collect();
        assert_eq!(grouped, all, "batches of {size}");
    }
}

#[test]
fn seeds_differ_and_repeat() {
    let (_folder, dataset) = prepare(TokenizerSpec::Bytes);
    let rows = |seed| Batches::new(&dataset, seed, CONTEXT).unwrap().rows(0, 20).unwrap();
    assert_eq!(rows(1), rows(1));
    assert_ne!(rows(1), rows(2));
}

#[test]
fn no_token_repeats_within_an_epoch() {
    let (_folder, dataset) = prepare(TokenizerSpec::Bytes);
    let tokens = all_tokens(&dataset, Split::Train);
    let batches = Batches::new(&dataset, 3, CONTEXT).unwrap();
    let epoch = batches.rows_per_epoch();
    assert!(epoch as usize >= tokens.len() / CONTEXT - 2, "an epoch leaves out at most two windows");
    for first in [0, epoch] {
        let mut windows: Vec<&[i64]> = Vec::new();
        let rows = batches.rows(first, epoch as usize).unwrap();
        windows.extend(rows.chunks_exact(CONTEXT + 1));
        windows.sort_unstable();
        windows.dedup();
        // The text repeats each line three times, but no window of 17 bytes repeats at a distance that is a
        // multiple of 16.
        assert_eq!(windows.len() as u64, epoch);
        assert!(windows.iter().all(|window| tokens.windows(CONTEXT + 1).any(|there| &there == window)));
    }
    assert_ne!(batches.rows(0, 20).unwrap(), batches.rows(epoch, 20).unwrap(), "a second epoch differs");
}

#[test]
fn evaluation_predicts_the_same_tokens_for_any_grouping() {
    let (_folder, dataset) = prepare(TokenizerSpec::Bytes);
    let tokens = all_tokens(&dataset, Split::Validation);
    let places = spread(&dataset, 15);
    let expected: Vec<i64> =
        places.iter().flat_map(|place| &tokens[place * CONTEXT + 1..][..CONTEXT]).copied().collect();
    let windows = EvaluationWindows::new(&dataset, Split::Validation, CONTEXT, 250).unwrap();
    assert_eq!((windows.count(), windows.tokens()), (15, 240));
    for size in [1, 2, 7, 15, 100] {
        let mut targets = Vec::new();
        for first in (0..windows.count()).step_by(size) {
            for row in windows.rows(first, size).unwrap().chunks_exact(CONTEXT + 1) {
                targets.extend_from_slice(&row[1..]);
            }
        }
        assert_eq!(targets, expected, "groups of {size}");
    }
}

/// Returns the positions of an evaluation's windows, counted in windows.
fn spread(dataset: &Dataset, count: u64) -> Vec<usize> {
    let windows =
        EvaluationWindows::new(dataset, Split::Validation, CONTEXT, count * CONTEXT as u64).unwrap();
    let tokens = all_tokens(dataset, Split::Validation);
    let rows = windows.rows(0, count as usize).unwrap();
    let place =
        |row| tokens.chunks(CONTEXT).enumerate().position(|(at, _)| tokens[at * CONTEXT..].starts_with(row));
    rows.chunks_exact(CONTEXT + 1).map(|row| place(row).expect("a window of the split")).collect()
}

#[test]
fn evaluation_looks_at_the_whole_split() {
    let (_folder, dataset) = prepare(TokenizerSpec::Bytes);
    let all = (dataset.token_count(Split::Validation) - 1) / CONTEXT as u64;
    let places = spread(&dataset, all);
    assert_eq!(places, (0..all as usize).collect::<Vec<_>>(), "all of it, each window once");
    let few = spread(&dataset, 8);
    let wide = all as usize / 8;
    assert!(few.windows(2).all(|two| (wide..=wide + 1).contains(&(two[1] - two[0]))), "{few:?} of {all}");
}

#[track_caller]
fn check_message(error: &DatasetError, folder: &Path, expect: &str) {
    assert_eq!(error.to_string().replace(&folder.display().to_string(), "DIR"), expect);
}

#[test]
fn too_short_a_split_is_an_error_and_not_a_smaller_evaluation() {
    let (_folder, dataset) = prepare(TokenizerSpec::Bytes);
    let error = EvaluationWindows::new(&dataset, Split::Audit, CONTEXT, 1 << 20).expect_err("too short");
    check_message(
        &error,
        dataset.folder(),
        "the audit split has 684 tokens, and 1048577 are needed; use a larger corpus or a shorter context",
    );
    Batches::new(&dataset, 0, 1 << 20).expect_err("too short");
}

#[test]
fn a_folder_that_is_no_dataset_says_what_to_run() {
    let folder = tempfile::tempdir().unwrap();
    let error = Dataset::open(folder.path()).expect_err("an empty folder");
    check_message(&error, folder.path(), "`DIR` is not a prepared dataset; run `trainer prepare --out DIR`");
}

#[test]
fn damage_is_named_and_preparing_again_repairs_it() {
    let (_folder, dataset) = prepare(TokenizerSpec::Bytes);
    let path = dataset.folder().to_owned();
    let tokenizer = Tokenizer::bytes();
    for split in Split::ALL {
        let file = path.join(file_name(split));
        let good = fs::read(&file).unwrap();
        let mut bad = good.clone();
        bad[5] ^= 1;
        fs::write(&file, &bad).unwrap();
        let error = Dataset::open(&path).and_then(|dataset| dataset.verify()).expect_err("a flipped bit");
        assert!(error.to_string().contains("its hash is not the manifest's"), "{error}");
        fs::write(&file, &good[1..]).unwrap();
        let error = Dataset::open(&path).expect_err("a short file");
        assert!(error.to_string().contains(&format!("{}` is damaged", file_name(split))), "{error}");
        write(&path, &corpus(), &tokenizer, &mut |_, _, _| {}).unwrap();
        assert_eq!(fs::read(&file).unwrap(), good);
    }
}

#[test]
fn a_folder_with_other_files_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("thesis.tex"), "years of work").unwrap();
    let error =
        write(folder.path(), &corpus(), &Tokenizer::bytes(), &mut |_, _, _| {}).expect_err("not ours");
    assert!(error.to_string().contains("thesis.tex`, which is no part of a dataset"), "{error}");
    assert!(folder.path().join("thesis.tex").exists());
}
