//! A discovery's lineage: a small tree of what it builds on, and one of what builds on it.

use std::collections::{BTreeMap, BTreeSet};

use autoswarm_protocol::{Estimate, Patch, id::RecordId};
use serde::{Deserialize, Serialize};

use super::{Discoveries, Status, Trust};

/// Generations shown: great-grandparents to great-grandchildren.
const GENERATIONS: u8 = 3;
/// Relatives shown in each direction: what fits on a screen.
const MAX_KIN: usize = 24;

/// A relative of a discovery: one that it builds on, or one that builds on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kin {
    /// Generations between the two: 1 is a parent or a child.
    pub generation: u8,
    /// The relative's record id, 64 hexadecimal digits.
    pub id: String,
    /// What is known of it; none while the record is not here.
    pub known: Option<KnownRelative>,
}

/// What lists show of a relative whose record is here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KnownRelative {
    /// The first digits of its author's key.
    pub author: String,
    /// Whether this node found it.
    pub own: bool,
    /// The change from its author's incumbent of the time.
    pub patch: Patch,
    /// The claimed difference on validation, bits per byte.
    pub estimate: Estimate,
    /// What re-runs of it say.
    pub status: Status,
}

/// Relatives in both directions, each before those that hang below it in the tree.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Lineage {
    /// What the discovery builds on.
    pub above: Vec<Kin>,
    /// What builds on the discovery.
    pub below: Vec<Kin>,
    /// Whether some relatives are left out.
    pub cut: bool,
}

/// Returns the relatives of a discovery. Each is named once per direction, even where two paths lead to it.
pub(super) fn of(discoveries: &Discoveries, id: RecordId, trust: &Trust) -> Lineage {
    let mut children: BTreeMap<RecordId, Vec<RecordId>> = BTreeMap::new();
    for (child, found) in &discoveries.found {
        for parent in &found.discovery.inspirations {
            children.entry(*parent).or_default().push(*child);
        }
    }
    let above = |id: RecordId| {
        discoveries.found.get(&id).map(|found| found.discovery.inspirations.clone()).unwrap_or_default()
    };
    let below = |id: RecordId| children.get(&id).cloned().unwrap_or_default();
    let mut lineage = Lineage::default();
    lineage.above = walk(discoveries, id, &above, trust, &mut lineage.cut);
    lineage.below = walk(discoveries, id, &below, trust, &mut lineage.cut);
    lineage
}

fn walk(
    discoveries: &Discoveries,
    from: RecordId,
    next: &dyn Fn(RecordId) -> Vec<RecordId>,
    trust: &Trust,
    cut: &mut bool,
) -> Vec<Kin> {
    let mut out = Vec::new();
    let mut seen = BTreeSet::from([from]);
    // In reverse, since the stack gives the last one first.
    let later = |id: RecordId, generation: u8| next(id).into_iter().rev().map(move |id| (id, generation));
    let mut waiting: Vec<(RecordId, u8)> = later(from, 1).collect();
    while let Some((id, generation)) = waiting.pop() {
        if !seen.insert(id) {
            continue;
        }
        if generation > GENERATIONS {
            *cut = true;
            continue;
        }
        if out.len() == MAX_KIN {
            *cut = true;
            break;
        }
        let known = discoveries.found.get(&id).map(|found| KnownRelative {
            author: found.author.fmt_short(),
            own: found.author == discoveries.own,
            patch: found.discovery.patch.clone(),
            estimate: found.discovery.estimate,
            status: discoveries.status_by(id, trust),
        });
        out.push(Kin { generation, id: id.to_string(), known });
        waiting.extend(later(id, generation + 1));
    }
    out
}
