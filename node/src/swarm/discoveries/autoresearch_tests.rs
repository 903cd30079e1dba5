//! Tests of the export: the diff applies to the reference's constants, sets what the config says, and names
//! the rest.

use autoswarm_protocol::{Patch, train_config::parse_value};

use super::*;
use crate::swarm::discoveries::inspect::tests::sample;

/// Returns a file of filler lines, with the constants on the lines where the reference has them.
fn skeleton() -> String {
    let mut lines: Vec<String> = (1..=460).map(|n| format!("line {n}")).collect();
    for (first, block) in BLOCKS {
        for (offset, (name, value, comment)) in block.iter().enumerate() {
            lines[first - 1 + offset] = format!("{name} = {value}{comment}");
        }
        lines[first - 1 + block.len()] = String::new();
    }
    lines.join("\n") + "\n"
}

/// Applies a diff with libgit2, which refuses a hunk that does not fit line by line.
fn apply(diff: &str) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("train.py");
    std::fs::write(&path, skeleton()).expect("a file");
    let repository = git2::Repository::init(folder.path()).expect("a repository");
    let diff = git2::Diff::from_buffer(diff.as_bytes()).expect("a diff");
    repository.apply(&diff, git2::ApplyLocation::WorkDir, None).expect("it applies");
    std::fs::read_to_string(path).expect("a file")
}

/// Returns the values of the constants in a file.
fn constants(text: &str) -> Vec<(String, String)> {
    let names: Vec<&str> = BLOCKS.iter().flat_map(|(_, lines)| lines.iter().map(|line| line.0)).collect();
    text.lines()
        .filter_map(|line| line.split_once(" = "))
        .filter(|(name, _)| names.contains(name))
        .map(|(name, rest)| {
            let value = rest.split('#').next().unwrap_or_default().trim();
            (name.to_owned(), value.to_owned())
        })
        .collect()
}

fn config(changes: &[(Knob, &str)]) -> TrainConfig {
    changes.iter().fold(reference(), |config, (knob, text)| {
        config.with(*knob, parse_value(*knob, text).expect("a value")).expect("in range")
    })
}

/// Compares the constants that change, and the knobs that are named.
#[track_caller]
fn check(changes: &[(Knob, &str)], expected: &[(&str, &str)], named: &[&str]) {
    let translation = Translation::of(&config(changes));
    let text = diff(&translation.constants);
    let before = constants(&skeleton());
    let after = if text.is_empty() { before.clone() } else { constants(&apply(&text)) };
    assert_eq!(after.len(), 15);
    let changed: Vec<_> = after.iter().filter(|constant| !before.contains(constant)).collect();
    let expected: Vec<_> =
        expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    assert_eq!(changed, expected.iter().collect::<Vec<_>>());
    let knobs: Vec<&str> =
        translation.by_hand.iter().map(|(_, text)| text.split(' ').next().unwrap_or_default()).collect();
    assert_eq!(knobs, named, "{:?}", translation.by_hand);
}

#[test]
fn the_references_own_config_changes_nothing() {
    check(&[], &[], &[]);
}

#[test]
fn constants_say_what_they_can() {
    check(&[(Knob::MatrixRate, "0.03")], &[("MATRIX_LR", "0.03")], &[]);
    check(
        &[(Knob::Depth, "9"), (Knob::Width, "576"), (Knob::HeadDim, "64")],
        &[("HEAD_DIM", "64"), ("DEPTH", "9")],
        &[],
    );
    check(&[(Knob::Width, "768")], &[("ASPECT_RATIO", "96")], &[]);
    check(&[(Knob::BatchTokens, "262144")], &[("TOTAL_BATCH_SIZE", "2**18")], &[]);
    check(
        &[(Knob::BatchTokens, "65536")],
        &[("TOTAL_BATCH_SIZE", "2**16"), ("DEVICE_BATCH_SIZE", "32")],
        &[],
    );
    check(&[(Knob::MicroBatchTokens, "131072")], &[("DEVICE_BATCH_SIZE", "64")], &[]);
    check(&[(Knob::WindowPattern, "SL")], &[("WINDOW_PATTERN", "\"SL\"")], &[]);
    let betas = [
        (Knob::EmbeddingBeta1, "0.9"),
        (Knob::UnembeddingBeta1, "0.9"),
        (Knob::ValueEmbeddingBeta1, "0.9"),
        (Knob::ScalarBeta1, "0.9"),
    ];
    check(&betas, &[("ADAM_BETAS", "(0.9, 0.95)")], &[]);
    let schedule = [(Knob::Warmup, "0.05"), (Knob::Warmdown, "0.75"), (Knob::FinalRate, "0.1")];
    let expected = [("WARMUP_RATIO", "0.05"), ("WARMDOWN_RATIO", "0.75"), ("FINAL_LR_FRAC", "0.1")];
    check(&schedule, &expected, &[]);
}

#[test]
fn what_no_constant_says_is_named() {
    check(&[(Knob::Activation, "gelu"), (Knob::Softcap, "0")], &[], &["activation", "softcap"]);
    check(&[(Knob::SequenceLength, "256")], &[], &["sequence_length"]);
    check(&[(Knob::BatchTokens, "1024")], &[], &["batch_tokens"]);
    check(
        &[(Knob::Depth, "32"), (Knob::Width, "16"), (Knob::HeadDim, "16")],
        &[("HEAD_DIM", "16"), ("DEPTH", "32")],
        &["width"],
    );
    check(&[(Knob::UnembeddingBeta1, "0.9")], &[], &["unembedding_beta1"]);
    // Value embeddings keep their own rate, which is then named; without them there is nothing to name.
    check(&[(Knob::EmbeddingRate, "0.3")], &[("EMBEDDING_LR", "0.3")], &["value_embedding_lr"]);
    check(
        &[(Knob::EmbeddingRate, "0.3"), (Knob::ValueEmbeddings, "none")],
        &[("EMBEDDING_LR", "0.3")],
        &["value_embeddings"],
    );
    check(&[(Knob::MatrixOptimizer, "adamw")], &[], &["matrix_optimizer", "matrix_lr", "matrix_decay"]);
}

#[test]
fn another_power_of_the_width_is_in_the_rates() {
    // Without scaling a rate of 0.6 at width 512 is 0.6 · (512 / 768)^0.5 there.
    let expected = [("EMBEDDING_LR", "0.489898"), ("UNEMBEDDING_LR", "0.00326599")];
    let changes = [(Knob::RateWidthPower, "0"), (Knob::ValueEmbeddings, "none")];
    check(&changes, &expected, &["value_embeddings"]);
}

#[test]
fn the_whole_export_reads_and_applies() {
    let (discoveries, ids) = sample();
    let details = discoveries.find(&ids[1]).expect("there");
    let text = autoresearch(&details);
    insta::assert_snapshot!(text.replace(&ids[1], "ID").replace(&details.author, "AUTHOR"));
    let after = constants(&apply(&text));
    assert!(after.contains(&("DEPTH".to_owned(), "3".to_owned())), "{after:?}");
    let changed = Patch::between(&TrainConfig::new().effective(256), &details.discovery.config);
    assert!(changed.len() == 2 && text.lines().all(|line| !line.contains('\u{1b}')));
}
