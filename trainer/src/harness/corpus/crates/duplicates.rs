//! Files that mostly repeat other files.
//!
//! Crates copy from each other, several versions of one file live side by side, and macros written out by hand
//! repeat themselves. A file is dropped if more than half of the bytes of its lines of
//! 20 bytes or more stood already in a file that was kept, or earlier in itself.

use std::collections::HashSet;

use super::select::SelectedCrate;
use crate::harness::corpus::overlap::line_hash;

/// The largest share of a kept file that was seen before.
const MAX_SEEN: f64 = 0.5;

/// Shorter lines, trimmed and in bytes, are alike everywhere.
const LINE_BYTES: usize = 20;

/// Drops the near-duplicates among the crates' files, first come (by crate, then path) first kept.
pub fn drop_duplicates(crates: &mut [SelectedCrate]) {
    let mut seen = HashSet::new();
    for selected in crates {
        selected.files.retain(|_, text| keep(text, &mut seen));
    }
}

/// Returns whether a text is new enough, and remembers its lines if so.
fn keep(text: &str, seen: &mut HashSet<u64>) -> bool {
    let (mut all, mut repeated) = (0, 0);
    let mut own = HashSet::new();
    for line in text.lines().map(str::trim).filter(|line| line.len() >= LINE_BYTES) {
        let hash = line_hash(line);
        all += line.len();
        if seen.contains(&hash) || !own.insert(hash) {
            repeated += line.len();
        }
    }
    let new = repeated as f64 <= MAX_SEEN * all as f64;
    if new {
        seen.extend(own);
    }
    new
}
