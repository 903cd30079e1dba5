//! Checks that the documents made from the code are what the code would make today.

use std::{env, fs, path::Path};

use autoswarm_protocol::knobs::knob_table_markdown;

/// Compares a document with what the code makes, or writes it where `UPDATE_DOCS` is set.
#[track_caller]
fn check(name: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, made).expect("the document can be written");
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == made,
        "node/docs/{name} is out of date; run `UPDATE_DOCS=1 cargo test -p autoswarm-node --test docs` \
         and commit it"
    );
}

#[test]
fn the_knob_table_is_the_codes() {
    let head = "# The knobs\n\n\
        What an experiment with the built-in trainer may change. \
        This page is made from `protocol/src/knobs.rs` by\n\
        `UPDATE_DOCS=1 cargo test -p autoswarm-node --test docs`; do not edit it.\n\n";
    check("knobs.md", &format!("{head}{}", knob_table_markdown()));
}
