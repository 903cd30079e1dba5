//! What re-runs for others have cost, by the lane that paid: proven authors have one, and each relaying peer another.

use std::collections::{BTreeMap, BTreeSet};

use autoswarm_protocol::id::RecordId;
use libp2p::PeerId;

/// What the lanes have had.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    /// Seconds for authors of whom something was confirmed.
    pub(super) proven: f64,
    /// Seconds by relaying peer.
    pub(super) relayed: BTreeMap<Option<PeerId>, f64>,
    /// Discoveries that this node ran again.
    pub(super) done: BTreeSet<RecordId>,
    /// Those among them that the lane of proven authors paid for.
    pub(super) of_proven: BTreeSet<RecordId>,
}

impl Lanes {
    /// Notes a re-run that is over.
    pub(super) fn ran(&mut self, id: RecordId, relayed_by: Option<PeerId>, seconds: f64) {
        self.done.insert(id);
        if self.of_proven.contains(&id) {
            self.proven += seconds;
        } else {
            *self.relayed.entry(relayed_by).or_insert(0.0) += seconds;
        }
    }
}
