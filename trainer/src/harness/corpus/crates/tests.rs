//! The rules of the default corpus, and the default corpus itself.

use std::collections::BTreeMap;

use super::{select::*, *};
use crate::harness::corpus::overlap::overlaps;

#[track_caller]
fn check_licence(expression: &str, expect: bool) {
    assert_eq!(is_permissive(expression), expect, "{expression}");
}

#[test]
fn licences_are_expressions() {
    for good in [
        "MIT",
        "MIT/Apache-2.0",
        "MIT OR GPL-3.0",
        "(MIT OR Apache-2.0) AND Unicode-3.0",
        "Apache-2.0 WITH LLVM-exception",
        "GPL-2.0 OR (ISC AND Zlib)",
    ] {
        check_licence(good, true);
    }
    for bad in ["", "MPL-2.0", "MIT AND GPL-3.0", "GPL-2.0 AND (MIT OR ISC)", "(MIT", "MIT)", "MIT ISC"] {
        check_licence(bad, false);
    }
}

#[track_caller]
fn check_clean(text: &str, expect: bool) {
    assert_eq!(clean(text.as_bytes().to_vec()).is_some(), expect, "{text:.80}");
}

#[test]
fn only_what_people_wrote_is_text() {
    let code = "fn increase(value: usize) -> usize { value.saturating_add(one) }\n".repeat(10);
    check_clean(&code, true);
    check_clean("fn short() {}\n", false);
    check_clean(&format!("// This file is @generated\n{code}"), false);
    check_clean(&format!("{code}// {}\n", "long ".repeat(120)), false);
    check_clean(&"0x12, 0x34, 0x56, 0x78,\n".repeat(20), false);
    check_clean(&format!("{code}\0"), false);
    check_clean(&code.repeat(1000), false);
}

#[test]
fn licence_notices_go_and_other_comments_stay() {
    let code = "fn increase(value: usize) -> usize { value.saturating_add(one) }\n".repeat(10);
    for notice in ["// Copyright 2020 Somebody\n// All rights\n\n", "/* Licensed under\n * whatever */\n"] {
        assert_eq!(clean(format!("{notice}{code}").into_bytes()), Some(code.clone()));
    }
    for comment in ["// Increases values.\n", "//! Copyright is a topic of this crate.\n"] {
        let text = format!("{comment}{code}");
        assert_eq!(clean(text.clone().into_bytes()), Some(text));
    }
}

fn selected(name: &str, repository: &str, text: &str) -> SelectedCrate {
    let files = BTreeMap::from([(format!("{name}-1.0.0/src/lib.rs"), text.to_owned())]);
    SelectedCrate { name: name.to_owned(), repository: repository.to_owned(), files }
}

#[test]
fn families_share_a_prefix_or_a_repository() {
    let crates = [
        selected("alpha", "https://example.org/a/one", ""),
        selected("alpha-core", "https://example.org/a/two.git", ""),
        selected("beta_derive", "https://example.org/A/Two/tree/main/beta", ""),
        selected("beta", "", ""),
        selected("gamma", "https://example.org/a/three", ""),
        selected("delta", "", ""),
    ];
    let families = families::families(&crates);
    let members: Vec<Vec<&str>> =
        families.values().map(|family| family.iter().map(|member| member.name.as_str()).collect()).collect();
    assert_eq!(members, [vec!["alpha", "alpha-core", "beta_derive", "beta"], vec!["delta"], vec!["gamma"]]);
}

#[test]
fn copies_are_dropped_and_the_first_stays() {
    let text = |word: &str| {
        let lines: Vec<String> = (0..20)
            .map(|line| {
                format!(
                    "let {word}_{line} = compute({word}, {line});
"
                )
            })
            .collect();
        lines.concat()
    };
    let mixed = format!("{}{}", text("first"), text("second").repeat(2));
    let mut crates = [
        selected("a", "", &text("first")),
        selected("b", "", &text("first")),
        selected("c", "", &text("other")),
        selected("d", "", &mixed),
    ];
    duplicates::drop_duplicates(&mut crates);
    let left: Vec<usize> = crates.iter().map(|selected| selected.files.len()).collect();
    assert_eq!(left, [1, 0, 1, 0]);
}

#[test]
fn every_listed_crate_is_locked() {
    let manifest: toml::Table = MANIFEST.parse().unwrap();
    let names: Vec<&String> = manifest["dependencies"].as_table().unwrap().keys().collect();
    let locked = vendor::listed();
    assert!(names.len() >= 350, "{} crates", names.len());
    assert_eq!(locked.keys().collect::<Vec<_>>(), names);
}

/// This makes the real corpus: it downloads 62 MB the first time on a machine, and takes a second after that.
#[test]
fn the_default_corpus_is_what_its_page_says() {
    let cache = store::default_cache().unwrap();
    let corpus = read(&cache, &mut |_, _, _| {}).unwrap();
    assert_eq!(corpus.hash(), pinned_hash());
    let bytes = corpus.bytes();
    let total: u64 = bytes.values().sum();
    assert!(bytes[&Split::Train] >= 100_000_000);
    for split in Split::HELD_OUT {
        let share = bytes[&split] as f64 / total as f64;
        assert!((0.015..=0.03).contains(&share) && bytes[&split] >= 1_500_000, "{split}: {share}");
    }
    for (split, overlap) in overlaps(corpus.documents()) {
        assert!(overlap <= 0.05, "{split}: {overlap}");
    }
    for (name, bytes) in bytes_per_crate(&corpus) {
        assert!(bytes as f64 <= 0.02 * total as f64, "{name}: {bytes} bytes of {total}");
    }
    assert!(corpus.documents().windows(2).all(|pair| pair[0].path < pair[1].path));
}

#[test]
fn a_stored_corpus_that_is_damaged_is_not_used() {
    let cache = tempfile::tempdir().unwrap();
    let document = |path: &str, split, text: &str| Document { path: path.into(), split, text: text.into() };
    let corpus = Corpus::new(
        vec![document("a", Split::Train, "größe\n"), document("b", Split::Audit, "second")],
        Vec::new(),
    );
    let load = || store::load(cache.path(), "it", corpus.hash(), &mut |_, _, _| {});
    assert_eq!(load(), None);
    store::save(cache.path(), "it", &corpus).unwrap();
    assert_eq!(load(), Some(corpus.clone()));
    for (file, bad) in [("text", "grösse\nsecond"), ("text", "größe\nsecund"), ("listing.tsv", "")] {
        std::fs::write(cache.path().join("it").join(file), bad).unwrap();
        assert_eq!(load(), None, "{file} is damaged");
        store::save(cache.path(), "it", &corpus).unwrap();
        assert_eq!(load(), Some(corpus.clone()), "saving again repairs");
    }
}
