//! The network as people see it: the values, not how they are printed.

use serde::{Deserialize, Serialize};

/// A connected peer, as people see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerView {
    /// Its libp2p peer id.
    pub peer: String,
    /// The address of the best connection with it, without its id.
    pub address: String,
    /// Round trip in milliseconds; none before it was measured.
    pub latency_ms: Option<f64>,
    /// The program and version that it says it runs; one clean line.
    pub agent: String,
    /// Its gossip score; below zero it is out of the mesh.
    #[serde(default)]
    pub standing: Option<f64>,
    /// Whether it belongs to the gossip mesh, which passes news on at once.
    #[serde(default)]
    pub meshed: bool,
}

/// What the network counted since the start.
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
    /// Requests that were answered with "busy", since the peer was over its quota.
    pub refused: u64,
    /// Reconciliations that this node led to their end.
    pub syncs: u64,
    /// Hole punches that worked: the peer was reached over a relay first, and then directly.
    #[serde(default)]
    pub punched: u64,
    /// Hole punches that failed: the peer is reached over a relay only.
    #[serde(default)]
    pub not_punched: u64,
}

/// The network as people see it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct NetworkView {
    /// This node's libp2p peer id.
    pub peer: String,
    /// The ticket with which others can join; empty while nothing listens.
    pub ticket: String,
    /// The connected peers.
    pub peers: Vec<PeerView>,
    /// How many records this node holds.
    pub records: usize,
    /// The first digits of a hash of their ids: equal sets have equal fingerprints.
    pub fingerprint: String,
    /// Why no peer is connected, and what to do about it; none while one is.
    pub trouble: Option<String>,
    /// What was counted since the start.
    #[serde(default)]
    pub counts: NetworkCounts,
    /// How many peers are turned away now, for their faults.
    #[serde(default)]
    pub turned_away: usize,
    /// Relays over which this node is reached, since not everybody can dial it.
    #[serde(default)]
    pub relays: Vec<String>,
}
