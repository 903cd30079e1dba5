//! The network as people see it.

use serde::{Deserialize, Serialize};

/// A peer as people see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerView {
    /// Its id.
    pub peer: String,
    /// Where it is.
    pub address: String,
    /// Round trip, milliseconds.
    pub latency_ms: Option<f64>,
    /// Its version, as it says itself; one clean line.
    pub agent: String,
    /// What gossip thinks of it: below zero it is out of the mesh.
    #[serde(default)]
    pub standing: Option<f64>,
    /// Whether it is of the mesh that passes news on at once.
    #[serde(default)]
    pub meshed: bool,
}

/// What was counted since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NetworkCounts {
    /// New records that came by gossip.
    pub gossiped: u64,
    /// New records that came by reconciliation.
    pub reconciled: u64,
    /// Messages over a peer's or an author's quota.
    pub over_quota: u64,
    /// Messages and answers that no honest peer sends.
    pub faulty: u64,
    /// Questions that were too many.
    pub refused: u64,
    /// Reconciliations that came to an end.
    pub syncs: u64,
    /// Peers behind routers of their own who were reached over a relay first and then directly.
    #[serde(default)]
    pub punched: u64,
    /// Peers of whom only a relay knows the way.
    #[serde(default)]
    pub not_punched: u64,
}

/// The network as people see it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct NetworkView {
    /// This node.
    pub peer: String,
    /// What others can join with; empty while nothing listens.
    pub ticket: String,
    /// Who is connected.
    pub peers: Vec<PeerView>,
    /// Records held.
    pub records: usize,
    /// A hash of their ids: equal sets, equal fingerprints.
    pub fingerprint: String,
    /// Why nobody is connected and what to do, when nobody is.
    pub trouble: Option<String>,
    /// What was counted.
    #[serde(default)]
    pub counts: NetworkCounts,
    /// Peers that are turned away for what they did.
    #[serde(default)]
    pub turned_away: usize,
    /// Peers over whom this node is reached, since it cannot be dialled itself.
    #[serde(default)]
    pub relays: Vec<String>,
}
