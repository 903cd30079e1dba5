//! The swarm as a session sees it: the network, what came over it, and this node's signature.

use autoswarm_protocol::{
    Budget, Experiment,
    record::{self, Body, Hardware},
    swarm_config::Objective,
};
use libp2p::identity::Keypair;

use crate::{
    discoveries::Discoveries,
    network::{Heard, Network},
    progress::Happened,
    text,
};

/// What a session needs of the swarm.
#[derive(Debug)]
pub struct SwarmSide {
    /// The running network.
    pub network: Network,
    /// What came over it, and this node's own.
    pub discoveries: Discoveries,
    /// What this machine is.
    pub hardware: Hardware,
    /// The budget of the session's arena.
    pub budget: Budget,
    keys: Keypair,
    objective: Objective,
    /// Whether to show each record that leaves.
    show_sent: bool,
}

impl SwarmSide {
    /// Puts the parts together; hardware and budget are known after the probe.
    pub fn new(
        network: Network,
        discoveries: Discoveries,
        keys: Keypair,
        objective: Objective,
        show_sent: bool,
    ) -> Self {
        let hardware =
            Hardware { device: "unknown".to_owned(), threads: 1, slots: 1, tokens_per_second: 1.0 };
        let budget = Budget::Class(0);
        Self { network, discoveries, hardware, budget, keys, objective, show_sent }
    }

    /// Takes news; returns what to show of it.
    pub fn heard(&mut self, heard: &Heard) -> Option<Happened> {
        let text = match heard {
            Heard::Record { record, relayed_by: _ } => {
                let is_foreign = self.discoveries.hear(record);
                match record.value() {
                    Body::Discovery(discovery) if is_foreign => {
                        let (author, id) = (record.author().fmt_short(), record.id().fmt_short());
                        format!("heard {id}: {}  {} (by {author})", discovery.patch, discovery.estimate)
                    }
                    Body::Attestation(attestation) => {
                        let what = match &attestation.found {
                            Ok(estimate) => estimate.to_string(),
                            Err(class) => class.to_string(),
                        };
                        let (author, of) = (record.author().fmt_short(), attestation.discovery.fmt_short());
                        format!("re-run of {of} by {author}: {what}")
                    }
                    _ => return None,
                }
            }
            Heard::Connected(peer) => format!("peer {peer} is there"),
            Heard::Disconnected(peer) => format!("peer {peer} left"),
        };
        Some(Happened::Swarm { text: text::one_line(&text, 300) })
    }

    /// Tells the swarm what an experiment of this node showed, at `now`, seconds since 1970; returns what to show.
    pub fn publish(&mut self, experiment: &Experiment, pair_sd: f64, now: u64) -> Vec<Happened> {
        let bodies = self.discoveries.to_publish(experiment, &self.hardware, self.budget, pair_sd);
        self.discoveries.observe(experiment);
        let mut shown = Vec::new();
        for body in bodies {
            let signed = match record::sign(&body, &self.objective, &self.keys, now) {
                Ok(signed) => signed,
                Err(error) => {
                    tracing::warn!("a record of this node is not told: {error}");
                    continue;
                }
            };
            let what = match &body {
                Body::Discovery(discovery) => format!("told {}: {}", signed.id.fmt_short(), discovery.patch),
                Body::Attestation(attestation) => {
                    format!("told what {} did here", attestation.discovery.fmt_short())
                }
                Body::Digest(_) | Body::Claim(_) => continue,
            };
            shown.push(Happened::Swarm { text: what });
            if self.show_sent {
                let json = serde_json::to_string(&body).unwrap_or_default();
                shown.push(Happened::Swarm { text: format!("sent {} bytes: {json}", signed.bytes.len()) });
            }
            if let Ok(verified) = record::verify(&signed.bytes, &self.objective, now) {
                self.discoveries.hear(&verified);
            }
            if !self.network.publish(signed) {
                tracing::warn!("the network is far behind; a record is not told");
            }
        }
        shown
    }
}
