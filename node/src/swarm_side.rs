//! The swarm as a session sees it: the network, what came over it, and this node's signature.

use autoswarm_protocol::{
    Experiment,
    id::{ArenaId, ConfigHash},
    record::{self, Body, Claim, Line},
    swarm_config::Objective,
};
use libp2p::identity::Keypair;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::{
    discoveries::{Discoveries, Here, digest},
    network::{Heard, Network},
    progress::Happened,
    research::{Hearsay, Incumbent, Proposal, Rerun, verdict::NoiseModel},
    text,
};

/// Results that make a digest, and seconds after which fewer do.
const DIGEST_LINES: usize = 8;
const DIGEST_SECONDS: u64 = 900;
/// Runs that an experiment surely takes: for so long a config is claimed.
const CLAIMED_RUNS: f64 = 2.0;

/// What a session needs of the swarm.
#[derive(Debug)]
pub struct SwarmSide {
    /// The running network.
    pub network: Network,
    /// What came over it, and this node's own.
    pub discoveries: Discoveries,
    /// Where this node works; none before the probe, and for one that observes.
    here: Option<Here>,
    keys: Keypair,
    objective: Objective,
    /// Whether to show each record that leaves.
    show_sent: bool,
    /// Results that no digest told of, with the end of the oldest.
    untold: Vec<Line>,
    untold_since: u64,
    /// Draws which of the others' ideas are tried.
    rng: ChaCha8Rng,
}

impl SwarmSide {
    /// Puts the parts together; `seed` decides which of the others' ideas are drawn.
    pub fn new(
        network: Network,
        discoveries: Discoveries,
        keys: Keypair,
        objective: Objective,
        show_sent: bool,
        seed: u64,
    ) -> Self {
        let rng = ChaCha8Rng::seed_from_u64(seed);
        Self {
            network,
            discoveries,
            here: None,
            keys,
            objective,
            show_sent,
            untold: Vec::new(),
            untold_since: 0,
            rng,
        }
    }

    /// Says where this node works from now on.
    pub fn settle(&mut self, here: Here) {
        self.here = Some(here);
    }

    /// Takes news at `now`, seconds since 1970; returns what to show of it.
    pub fn heard(&mut self, heard: &Heard, now: u64) -> Option<Happened> {
        let text = match heard {
            Heard::Record { record, relayed_by } => {
                let is_foreign = self.discoveries.hear(record, Some(*relayed_by), now);
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
                        format!("{of} {} by {author}: {what}", attestation.comparison.past())
                    }
                    _ => return None,
                }
            }
            Heard::Connected(peer) => format!("peer {peer} is there"),
            Heard::Disconnected(peer) => format!("peer {peer} left"),
        };
        Some(Happened::Swarm { text: text::one_line(&text, 300) })
    }

    /// Returns what peers say of their own experiments, if there is anything new.
    pub fn hearsay(&mut self, now: u64) -> Option<Hearsay> {
        self.discoveries.take_hearsay(self.here.as_ref()?.arena, now)
    }

    /// Returns the next of the others' ideas to try on this incumbent.
    pub fn next_to_try(&mut self, incumbent: &Incumbent) -> Option<Proposal> {
        self.discoveries.next_to_try(incumbent, self.here.as_ref()?, &mut self.rng)
    }

    /// Returns the next of the others' discoveries to run again for them.
    pub fn next_rerun(&mut self, noise: &NoiseModel) -> Option<Rerun> {
        self.discoveries.next_rerun(self.here.as_ref()?, |group| noise.pair_sd(group))
    }

    /// Tells the swarm what an experiment of this node showed, as far as it was not told before; returns what to show.
    pub fn publish(&mut self, experiment: &Experiment, pair_sd: f64) -> Vec<Happened> {
        let Some(here) = self.here.clone() else { return Vec::new() };
        let at = experiment.finished_at;
        let bodies = self.discoveries.to_publish(experiment, &here.hardware, here.budget, pair_sd);
        let mut shown: Vec<Happened> = bodies.into_iter().flat_map(|body| self.send(&body, at)).collect();
        if let Some(line) = self.discoveries.line(experiment, pair_sd) {
            if self.untold.is_empty() {
                self.untold_since = at;
            }
            self.untold.push(line);
            if self.untold.len() >= DIGEST_LINES {
                shown.extend(self.tell_results(here.arena, at));
            }
        }
        shown
    }

    /// Tells the results that waited long enough, at `now`, seconds since 1970; all of them at the end of a session.
    pub fn tell_waiting(&mut self, now: u64, is_end: bool) -> Vec<Happened> {
        let is_due = is_end || now.saturating_sub(self.untold_since) >= DIGEST_SECONDS;
        match &self.here {
            Some(here) if is_due && !self.untold.is_empty() => self.tell_results(here.arena, now),
            _ => Vec::new(),
        }
    }

    fn tell_results(&mut self, arena: ArenaId, at: u64) -> Vec<Happened> {
        let lines = std::mem::take(&mut self.untold);
        self.send(&digest(arena, lines), at)
    }

    /// Says that this node is at a config, so that others try something else first.
    pub fn claim(&mut self, config: ConfigHash, now: u64) -> Vec<Happened> {
        let Some(here) = &self.here else { return Vec::new() };
        let seconds = (CLAIMED_RUNS * here.budget_seconds).ceil() as u32;
        self.send(&Body::Claim(Claim { config, seconds: seconds.clamp(1, record::MAX_CLAIM_SECONDS) }), now)
    }

    /// Signs a body made at `at`, seconds since 1970, and hands it to the network; returns what to show.
    fn send(&mut self, body: &Body, at: u64) -> Vec<Happened> {
        let signed = match record::sign(body, &self.objective, &self.keys, at) {
            Ok(signed) => signed,
            Err(error) => {
                tracing::warn!("a record of this node is not told: {error}");
                return Vec::new();
            }
        };
        let mut shown = Vec::new();
        match body {
            Body::Discovery(discovery) => {
                let text = format!("told {}: {}", signed.id.fmt_short(), discovery.patch);
                shown.push(Happened::Swarm { text });
            }
            Body::Attestation(attestation) => {
                let (of, how) = (attestation.discovery.fmt_short(), attestation.comparison.past());
                shown.push(Happened::Swarm { text: format!("told what {of} did here, {how}") });
            }
            Body::Digest(_) | Body::Claim(_) => {}
        }
        if self.show_sent {
            let json = serde_json::to_string(body).unwrap_or_default();
            shown.push(Happened::Swarm { text: format!("sent {} bytes: {json}", signed.bytes.len()) });
        }
        if let Ok(verified) = record::verify(&signed.bytes, &self.objective, at) {
            self.discoveries.hear(&verified, None, at);
        }
        if !self.network.publish(signed) {
            tracing::warn!("the network is far behind; a record is not told");
        }
        shown
    }
}
