//! Ids of records dropped lately, so that they are not fetched again from peers who still have them.

use std::{collections::BTreeSet, mem};

use autoswarm_protocol::id::RecordId;

/// Ids of one generation; two generations are remembered, 2 MiB.
const GENERATION: usize = 32_768;

/// A bounded memory of ids, in two generations; the older one is forgotten as a whole.
#[derive(Debug, Default)]
pub(super) struct Refused {
    young: BTreeSet<RecordId>,
    old: BTreeSet<RecordId>,
}

impl Refused {
    pub(super) fn note(&mut self, id: RecordId) {
        if self.young.len() >= GENERATION {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(id);
    }

    pub(super) fn contains(&self, id: RecordId) -> bool {
        self.young.contains(&id) || self.old.contains(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_remembered_and_no_more() {
        let mut refused = Refused::default();
        let id = |n: usize| RecordId::of(&n.to_le_bytes());
        for n in 0..4 * GENERATION {
            refused.note(id(n));
            assert!(refused.young.len() + refused.old.len() <= 2 * GENERATION);
        }
        assert!((3 * GENERATION..4 * GENERATION).all(|n| refused.contains(id(n))));
        assert!(!refused.contains(id(0)));
    }
}
