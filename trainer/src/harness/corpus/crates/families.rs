//! Families of crates, and the split of each family.
//!
//! Crates that share a repository or the first part of their name share authors, idioms and often text. With
//! a split by family, a held-out split measures what a model learned about code, and not whether it saw a
//! neighbouring file.

use std::collections::BTreeMap;

use autoswarm_protocol::Split;

use super::select::SelectedCrate;
use crate::harness::corpus::thousandth;

/// The domain of the hash that assigns families to splits. Its last number was chosen before any model was
/// trained: it is the first for which each held-out split gets between 1.9 % and 2.8 % of the text.
const SPLIT_DOMAIN: &str = "autoswarm 1 crate family split 16";

/// The largest share of the text of a family that may be held out. Larger families are trained on, so that a
/// held-out split speaks for many authors.
const MAX_HELD_OUT_SHARE: f64 = 0.004;

/// The share of the smaller families that each held-out split gets, in thousandths.
const HELD_OUT_THOUSANDTHS: u64 = 100;

/// Returns the split of each crate.
pub fn split(crates: &[SelectedCrate]) -> BTreeMap<String, Split> {
    let total: usize = crates.iter().map(SelectedCrate::bytes).sum();
    let mut splits = BTreeMap::new();
    for (family, members) in families(crates) {
        let bytes: usize = members.iter().map(|selected| selected.bytes()).sum();
        let held_out = bytes as f64 <= MAX_HELD_OUT_SHARE * total as f64;
        let split = if held_out { split_of(family) } else { Split::Train };
        splits.extend(members.into_iter().map(|selected| (selected.name.clone(), split)));
    }
    splits
}

fn split_of(family: &str) -> Split {
    match thousandth(SPLIT_DOMAIN, family) / HELD_OUT_THOUSANDTHS {
        0 => Split::Validation,
        1 => Split::Audit,
        2 => Split::Locked,
        _ => Split::Train,
    }
}

/// Returns the families, each under the name of its first member.
pub fn families(crates: &[SelectedCrate]) -> BTreeMap<&str, Vec<&SelectedCrate>> {
    // A union-find over the crates: crates that share a key are joined. A crate points at an earlier one of
    // its family, the first one at itself.
    let mut parents: Vec<usize> = (0..crates.len()).collect();
    let mut first_with: BTreeMap<String, usize> = BTreeMap::new();
    for (index, selected) in crates.iter().enumerate() {
        for key in keys(selected) {
            let other = *first_with.entry(key).or_insert(index);
            let (a, b) = (root(&parents, index), root(&parents, other));
            parents[a.max(b)] = a.min(b);
        }
    }
    let mut families: BTreeMap<&str, Vec<&SelectedCrate>> = BTreeMap::new();
    for (index, selected) in crates.iter().enumerate() {
        families.entry(&crates[root(&parents, index)].name).or_default().push(selected);
    }
    families
}

/// Returns the first crate of the family of crate `index`.
fn root(parents: &[usize], mut index: usize) -> usize {
    while parents[index] != index {
        index = parents[index];
    }
    index
}

/// Returns the keys by which a crate joins a family: its name up to the first `-` or `_`, and its repository.
fn keys(selected: &SelectedCrate) -> Vec<String> {
    let name = selected.name.to_lowercase();
    let prefix = name.split(['-', '_']).next().unwrap_or_default();
    let mut keys = vec![format!("name {prefix}")];
    keys.extend(repository(&selected.repository).map(|repository| format!("repository {repository}")));
    keys
}

/// Returns host, owner and project of a repository address, in lower case.
fn repository(address: &str) -> Option<String> {
    let (_, place) = address.split_once("://")?;
    let place = place.to_lowercase();
    let parts: Vec<&str> = place.trim_end_matches('/').split('/').take(3).collect();
    (parts.len() == 3).then(|| parts.join("/").trim_end_matches(".git").to_owned())
}
