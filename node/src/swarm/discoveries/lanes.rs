//! What re-runs for others have cost, by the lane that paid: proven authors have one, and each relaying peer
//! has another.

use std::collections::{BTreeMap, BTreeSet};

use autoswarm_protocol::id::RecordId;
use libp2p::PeerId;

/// Training seconds that each lane had, and the discoveries that they went to.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    /// Training seconds for authors with a confirmed claim.
    pub(super) proven: f64,
    /// Training seconds by the peer that relayed the discovery, where that is known.
    pub(super) relayed: BTreeMap<Option<PeerId>, f64>,
    /// Discoveries that this node re-ran.
    pub(super) done: BTreeSet<RecordId>,
    /// Those among them that the lane of proven authors paid for.
    pub(super) of_proven: BTreeSet<RecordId>,
}

impl Lanes {
    /// Notes a finished re-run with the training seconds that it took.
    pub(super) fn ran(&mut self, id: RecordId, relayed_by: Option<PeerId>, seconds: f64) {
        self.done.insert(id);
        if self.of_proven.contains(&id) {
            self.proven += seconds;
        } else {
            *self.relayed.entry(relayed_by).or_insert(0.0) += seconds;
        }
    }
}
