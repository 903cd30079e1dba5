//! A discovery's commit: a pure function of its record and its parents' commits, so that every node has the
//! same id for it.
//!
//! **Whatever is printed here is part of every node's ids**: a change of one byte gives each discovery a
//! second commit, and the golden ids in the tests fail. A peer's text is made one clean line, and trailers
//! stand in a paragraph of their own. So no text can pass for a trailer.

use std::fmt::Write;

use autoswarm_protocol::{
    Budget, Estimate,
    id::{ArenaId, RecordId},
    record::{Discovery, Hardware, Verified},
};
use git2::{Oid, Repository, Signature, Time};
use serde::Serialize;

use crate::base::text;

/// The file of a commit's tree that holds the signed bytes.
pub const RECORD: &str = "record.bin";

/// Longest subject, characters: a line of `git log`.
const SUBJECT: usize = 120;

/// What `discovery.json` holds; the config is in `config.toml`, the losses in `curve.tsv`.
#[derive(Serialize)]
struct Page<'a> {
    record: RecordId,
    author: String,
    made_at: u64,
    arena: ArenaId,
    budget: &'a Budget,
    hardware: Hardware,
    patch: String,
    estimate: &'a Estimate,
    audit: &'a Option<Estimate>,
    level: f64,
    tokens: (u64, u64),
    seconds: f64,
    inspirations: &'a [RecordId],
    because: String,
}

/// Returns the files beside the record: what it says, for people and their tools.
fn pages(record: &Verified<&Discovery>) -> Result<[(&'static str, String); 3], serde_json::Error> {
    let discovery = record.value();
    let page = Page {
        record: record.id(),
        author: record.author().to_string(),
        made_at: record.made_at(),
        arena: discovery.arena,
        budget: &discovery.budget,
        hardware: Hardware {
            device: text::one_line(&discovery.hardware.device, usize::MAX),
            ..discovery.hardware.clone()
        },
        patch: discovery.patch.to_string(),
        estimate: &discovery.estimate,
        audit: &discovery.audit,
        level: discovery.level.get(),
        tokens: discovery.tokens,
        seconds: discovery.seconds,
        inspirations: &discovery.inspirations,
        because: text::one_line(&discovery.because, usize::MAX),
    };
    // Knobs at their default are left out: a later version knows more knobs, and this file must stay the
    // same.
    let config = discovery.config.to_toml();
    let config = config.lines().take_while(|line| !line.is_empty());
    let config: String = config.flat_map(|line| [line, "\n"]).collect();
    let points = discovery.curve.iter().enumerate();
    let curve = points.fold("point\tloss\n".to_owned(), |mut table, (point, loss)| {
        // Writing to a string cannot fail.
        let _ = writeln!(table, "{point}\t{loss}");
        table
    });
    Ok([
        ("config.toml", config),
        ("curve.tsv", curve),
        ("discovery.json", serde_json::to_string_pretty(&page)? + "\n"),
    ])
}

/// Returns the commit's message: what was changed and why in one line, then trailers.
fn message(record: &Verified<&Discovery>) -> String {
    let discovery = record.value();
    let Estimate { delta, standard_error, pairs } = discovery.estimate;
    let subject = text::one_line(&format!("{}: {}", discovery.patch, discovery.because), SUBJECT);
    let mut message = format!(
        "{subject}\n\nDelta: {delta:+.6} ± {standard_error:.6} ({pairs} pairs)\n\
         Arena: {}\nDiscovered-By: {}\nRecord: {}\n",
        discovery.arena,
        record.author(),
        record.id(),
    );
    for inspiration in &discovery.inspirations {
        let _ = writeln!(message, "Inspired-By: {inspiration}");
    }
    message
}

/// Writes a discovery's commit; `bytes` must be the record as it was signed. Returns the commit's id, and the
/// ids of all new objects except the record's own blob.
pub fn write(
    repository: &Repository,
    record: &Verified<&Discovery>,
    bytes: &[u8],
    parents: &[Oid],
) -> Result<(Oid, Vec<Oid>), git2::Error> {
    let pages = pages(record).map_err(|error| git2::Error::from_str(&error.to_string()))?;
    let mut objects = Vec::new();
    let mut tree = repository.treebuilder(None)?;
    tree.insert(RECORD, repository.blob(bytes)?, 0o100_644)?;
    for (name, content) in pages {
        let blob = repository.blob(content.as_bytes())?;
        tree.insert(name, blob, 0o100_644)?;
        objects.push(blob);
    }
    let tree = repository.find_tree(tree.write()?)?;
    let parents = parents.iter().map(|id| repository.find_commit(*id)).collect::<Result<Vec<_>, _>>()?;
    let parents: Vec<_> = parents.iter().collect();
    let author = signature(record.made_at())?;
    let commit = repository.commit(None, &author, &author, &message(record), &tree, &parents)?;
    objects.extend([tree.id(), commit]);
    Ok((commit, objects))
}

/// Returns the author and committer of a commit, the same on every node: who made the discovery stands in the
/// record.
pub(super) fn signature(made_at: u64) -> Result<Signature<'static>, git2::Error> {
    let time = Time::new(i64::try_from(made_at).unwrap_or(i64::MAX), 0);
    Signature::new("autoswarm", "swarm@autoswarm.invalid", &time)
}
