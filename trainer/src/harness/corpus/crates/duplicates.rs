//! Near-duplicates: drops the files that mostly repeat other files.
//!
//! Crates copy from each other, several versions of a file exist side by side, and macros written out by hand
//! repeat themselves. So a file is dropped if more than half of its text was seen before. That half is
//! counted in bytes, over lines of 20 bytes or more. A line was seen before if it stands in a file that was
//! kept, or earlier in the same file.

use std::collections::HashSet;

use super::select::SelectedCrate;
use crate::harness::corpus::overlap::line_hash;

/// The largest share of seen text in a file that is kept.
const MAX_SEEN: f64 = 0.5;

/// The shortest line that counts, in bytes without surrounding white space. Shorter lines are alike
/// everywhere.
const LINE_BYTES: usize = 20;

/// Drops the near-duplicates among the crates' files. The first file in the order of crates, then paths, is
/// kept.
pub fn drop_duplicates(crates: &mut [SelectedCrate]) {
    let mut seen = HashSet::new();
    for selected in crates {
        selected.files.retain(|_, text| keep(text, &mut seen));
    }
}

/// Returns whether a text is new enough to keep, and remembers its lines if so.
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
