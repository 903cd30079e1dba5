//! The swarm as a session sees it: the network, what came over it, and this node's signature.
//!
//! Not here: how records travel ([`crate::swarm::network`]), and what to make of those of peers
//! ([`crate::swarm::discoveries`]).

use std::{collections::VecDeque, str::FromStr};

use autoswarm_protocol::{
    Experiment, TrainConfig,
    id::{ArenaId, ConfigHash, RecordId},
    record::{self, Body, Claim, DigestLine},
    swarm_config::Objective,
};
use libp2p::{
    PeerId,
    identity::{Keypair, PublicKey},
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tokio::sync::oneshot;

use crate::{
    base::text,
    control::{Reply, Request, Responder},
    events::NodeEvent,
    research::{Incumbent, PeerResults, Proposal, Reproduction, active::Active, verdict::NoiseModel},
    swarm::{
        discoveries::{
            Arrivals, Discoveries, DiscoveryRow, LocalContext, News, PeerFacts, SwarmView, digest,
        },
        git::GitMirror,
        network::{Network, NetworkEvent, NetworkView},
    },
};

/// Results that fill a digest, which is then sent at once.
const DIGEST_LINES: usize = 8;
/// Seconds after which a digest is sent with fewer results.
const DIGEST_SECONDS: u64 = 900;
/// Runs that an experiment takes at least: a config is claimed for as long as they train.
const CLAIMED_RUNS: f64 = 2.0;

/// Peers' discoveries that a view names: as many as stay in sight beside the runs.
const NEWEST: usize = 3;

/// Seconds between two looks through everything that is known. With 100,000 records each takes some 50 ms.
/// Wild guess.
const LOOK_REST: u64 = 5;

/// The swarm's part of a session: what it needs to hear peers and to tell them something.
#[derive(Debug)]
pub struct SwarmSession {
    /// The handle of the running network.
    pub network: Network,
    /// What is known of peers' discoveries and of this node's own.
    pub discoveries: Discoveries,
    /// Where this node works; none before the probe, and for an observer.
    here: Option<LocalContext>,
    /// The task that keeps the journal's git level with the records.
    pub git: Option<GitMirror>,
    keys: Keypair,
    objective: Objective,
    /// Whether to show each record that this node sends.
    show_sent: bool,
    /// Results that wait for the next digest.
    untold: Vec<DigestLine>,
    /// When the oldest of them ended, seconds since 1970.
    untold_since: u64,
    /// Draws which of the peers' ideas are tried.
    rng: ChaCha8Rng,
    lately: Lately,
}

/// What people see of the swarm, kept so that not every redraw looks through everything.
#[derive(Debug, Default)]
struct Lately {
    /// Counts of the records that came.
    arrivals: Arrivals,
    /// Peers' discoveries with the time they came (seconds since 1970), newest last; at most [`NEWEST`].
    newest: VecDeque<(u64, RecordId)>,
    /// The newest as rows. These three are as of the last look through everything.
    news: Vec<(u64, DiscoveryRow)>,
    /// The largest gain of each arena.
    best: Vec<DiscoveryRow>,
    /// The connected peers as authors.
    peers: Vec<PeerFacts>,
    /// Whether something came since that look.
    is_stale: bool,
    /// When that look was, seconds since 1970.
    looked_at: u64,
}

impl SwarmSession {
    /// Puts the parts together; `seed` decides which of the peers' ideas are drawn.
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
            git: None,
            keys,
            objective,
            show_sent,
            untold: Vec::new(),
            untold_since: 0,
            rng,
            lately: Lately { is_stale: true, ..Lately::default() },
        }
    }

    /// Sets the arena, budget and hardware that this node works with from now on.
    pub fn settle(&mut self, here: LocalContext) {
        self.here = Some(here);
    }

    /// Takes an event of the network at `now`, seconds since 1970; returns what to show of it, if anything.
    pub fn network_event(&mut self, event: &NetworkEvent, now: u64) -> Option<NodeEvent> {
        self.lately.is_stale = true;
        let text = match event {
            NetworkEvent::Record { record, relayed_by } => {
                let is_foreign = self.discoveries.add(record, Some(*relayed_by), now);
                self.lately.arrivals.count(record.value(), now);
                if is_foreign {
                    self.lately.newest.push_back((now, record.id()));
                    self.lately.newest.drain(..self.lately.newest.len().saturating_sub(NEWEST));
                }
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
                    // Digests, claims and this node's own discoveries are counted, not shown.
                    _ => return None,
                }
            }
            NetworkEvent::Connected(peer) => format!("peer {peer} is there"),
            NetworkEvent::Disconnected(peer) => format!("peer {peer} left"),
            NetworkEvent::Note(text) => text.clone(),
        };
        Some(NodeEvent::Swarm { text: text::one_line(&text, 300) })
    }

    /// Makes the next [`Self::overview`] look through everything, because a person asked.
    pub fn look_now(&mut self) {
        (self.lately.is_stale, self.lately.looked_at) = (true, 0);
    }

    /// Returns the swarm as a person sees it at `now`, seconds since 1970. `pending` are the experiments in
    /// flight. Rows are up to a few seconds old, unless [`Self::look_now`] was called.
    pub fn overview(&mut self, pending: &[Active], now: u64) -> SwarmView {
        let lately = &mut self.lately;
        if lately.is_stale && now >= lately.looked_at + LOOK_REST {
            (lately.is_stale, lately.looked_at) = (false, now);
            lately.best = self.discoveries.best();
            lately.peers = peers(&self.network.view(), &self.discoveries);
            lately.news = self.discoveries.rows_of(lately.newest.make_contiguous());
        }
        let news =
            |(at, row): &(u64, DiscoveryRow)| News { seconds_ago: now.saturating_sub(*at), row: row.clone() };
        SwarmView {
            peers: lately.peers.clone(),
            arrived: lately.arrivals.arrived(now),
            best: lately.best.clone(),
            newest: lately.news.iter().map(news).collect(),
            trying: self.discoveries.trying(pending),
        }
    }

    /// Answers a request about discoveries; none for any other request. `incumbent` is this node's, where it
    /// has one.
    pub fn answer(&self, request: &Request, incumbent: Option<&TrainConfig>) -> Option<Reply> {
        match request {
            Request::Discoveries { filter } => {
                Some(Reply::Discoveries { listing: self.discoveries.list(filter) })
            }
            Request::Discovery { id } => Some(match self.discoveries.find(id) {
                Ok(details) => Reply::Discovery {
                    details: Box::new(details),
                    incumbent: incumbent.cloned().map(Box::new),
                },
                Err(reason) => Reply::refused(reason, None),
            }),
            _ => None,
        }
    }

    /// Imports the records that `node sync` left in the home; the answer comes once git has everything, too.
    pub fn sync(&self, responder: Responder) {
        let Some(git) = &self.git else { return };
        let (asker, imported) = oneshot::channel();
        git.sync(asker);
        tokio::spawn(async move {
            // An error means that the node is ending. Dropping the responder tells the client so.
            if let Ok(imported) = imported.await {
                responder.finish(
                    imported
                        .map_or_else(|error| Reply::failed(&error), |imported| Reply::Synced { imported }),
                );
            }
        });
    }

    /// Returns what peers report of their own experiments, if there is anything new.
    pub fn peer_results(&mut self, now: u64) -> Option<PeerResults> {
        self.discoveries.take_peer_results(self.here.as_ref()?.arena, now)
    }

    /// Returns the next of the peers' ideas to try on this incumbent; none while they have had their share.
    pub fn next_to_try(&mut self, incumbent: &Incumbent) -> Option<Proposal> {
        self.discoveries.next_to_try(incumbent, self.here.as_ref()?, &mut self.rng)
    }

    /// Returns the next of the peers' discoveries to reproduce; none while reproductions have had their
    /// share.
    pub fn next_reproduction(&mut self, noise: &NoiseModel) -> Option<Reproduction> {
        self.discoveries.next_reproduction(self.here.as_ref()?, |group| noise.pair_sd(group))
    }

    /// Tells the swarm what an experiment of this node showed, unless it was told before; returns what to
    /// show.
    pub fn publish(&mut self, experiment: &Experiment, pair_sd: f64) -> Vec<NodeEvent> {
        let Some(here) = self.here.clone() else { return Vec::new() };
        let at = experiment.finished_at;
        let bodies = self.discoveries.to_publish(experiment, &here.hardware, here.budget, pair_sd);
        let mut shown: Vec<NodeEvent> = bodies.into_iter().flat_map(|body| self.send(&body, at)).collect();
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

    /// Sends the waiting results as a digest if they have waited long enough at `now`, seconds since 1970, or
    /// if the session is at its end. Returns what to show.
    pub fn tell_waiting(&mut self, now: u64, is_end: bool) -> Vec<NodeEvent> {
        let is_due = is_end || now.saturating_sub(self.untold_since) >= DIGEST_SECONDS;
        match &self.here {
            Some(here) if is_due && !self.untold.is_empty() => self.tell_results(here.arena, now),
            _ => Vec::new(),
        }
    }

    /// Sends the waiting results as one digest.
    fn tell_results(&mut self, arena: ArenaId, at: u64) -> Vec<NodeEvent> {
        let lines = std::mem::take(&mut self.untold);
        self.send(&digest(arena, lines), at)
    }

    /// Claims a config for a while, so that peers try something else first; returns what to show.
    pub fn claim(&mut self, config: ConfigHash, now: u64) -> Vec<NodeEvent> {
        let Some(here) = &self.here else { return Vec::new() };
        let seconds = (CLAIMED_RUNS * here.budget_seconds).ceil() as u32;
        self.send(&Body::Claim(Claim { config, seconds: seconds.clamp(1, record::MAX_CLAIM_SECONDS) }), now)
    }

    /// Signs a body made at `at`, seconds since 1970, and hands it to the network; returns what to show.
    fn send(&mut self, body: &Body, at: u64) -> Vec<NodeEvent> {
        let signed = match record::sign(body, &self.objective, &self.keys, at) {
            Ok(signed) => signed,
            Err(error) => {
                tracing::warn!("a record of this node is not told: {error}");
                return Vec::new();
            }
        };
        let (id, bytes) = (signed.id, signed.bytes.len());
        // A node's own records enter its discoveries as those of peers do: verified from the bytes.
        let verified = record::verify(&signed.bytes, &self.objective, at);
        let text = |text| NodeEvent::Swarm { text };
        if !self.network.publish(signed) {
            // A claim is of the moment and its loss needs no word; everything else is told at the next start.
            let is_lasting = body.is_reconciled();
            return if is_lasting { vec![text(NOT_TOLD.to_owned())] } else { Vec::new() };
        }
        if let Ok(verified) = verified {
            self.lately.is_stale = true;
            self.discoveries.add(&verified, None, at);
        }
        let mut shown = Vec::new();
        match body {
            Body::Discovery(discovery) => {
                shown.push(text(format!("told {}: {}", id.fmt_short(), discovery.patch)));
            }
            Body::Attestation(attestation) => {
                let (of, how) = (attestation.discovery.fmt_short(), attestation.comparison.past());
                shown.push(text(format!("told what {of} did here, {how}")));
            }
            Body::Digest(_) | Body::Claim(_) => {}
        }
        if self.show_sent {
            let json = serde_json::to_string(body).unwrap_or_default();
            shown.push(text(format!("sent {bytes} bytes: {json}")));
        }
        shown
    }
}

/// Shown for a record that finds no room: thousands wait already, so the network is as good as dead.
const NOT_TOLD: &str = "the network takes no records now, so one is not told; \
                        the journal has it, and it is told at the next start";

/// Returns the connected peers as authors. A peer id holds the key that its node signs records with.
fn peers(network: &NetworkView, discoveries: &Discoveries) -> Vec<PeerFacts> {
    let known = network.peers.iter().filter_map(|view| Some((view.peer.clone(), key_of(&view.peer)?)));
    let known: Vec<(String, [u8; 32])> = known.collect();
    let keys: Vec<[u8; 32]> = known.iter().map(|(_, key)| *key).collect();
    let budgets = discoveries.budgets(&keys);
    let facts = |(peer, key): (String, [u8; 32])| PeerFacts {
        peer,
        author: short(&key),
        budget: budgets.get(&key).copied(),
    };
    known.into_iter().map(facts).collect()
}

/// Returns the ed25519 key that a peer id holds; none if it holds another kind of key or is no peer id.
fn key_of(peer: &str) -> Option<[u8; 32]> {
    let peer = PeerId::from_str(peer).ok()?;
    let key = PublicKey::try_decode_protobuf(peer.as_ref().digest()).ok()?;
    Some(key.try_into_ed25519().ok()?.to_bytes())
}

/// Returns the first eight digits of a key, by which lists name its author.
fn short(key: &[u8; 32]) -> String {
    format!("{:08x}", u32::from_be_bytes([key[0], key[1], key[2], key[3]]))
}

#[cfg(test)]
mod tests {
    use autoswarm_protocol::{
        CrashClass, SwarmConfig,
        experiment::Comparison,
        id::Author,
        record::{Attestation, Hardware},
    };

    use super::*;
    use crate::swarm::network::{NetworkConfig, Switches, archive::Archive};

    /// An attestation; each `n` is of another discovery.
    fn answer(n: u32) -> Body {
        let hardware = Hardware { device: "cpu".to_owned(), threads: 1, slots: 1, tokens_per_second: 1.0 };
        Body::Attestation(Box::new(Attestation {
            discovery: RecordId::of(&n.to_le_bytes()),
            comparison: Comparison::Transplants,
            arena: ArenaId::of(b"a"),
            hardware,
            found: Err(CrashClass::Diverged),
            tokens: None,
        }))
    }

    // The network's task runs only where this test awaits something, so it takes nothing from the outbox.
    #[tokio::test]
    async fn told_is_said_of_what_is_told() {
        let keys = Keypair::ed25519_from_bytes([3; 32]).expect("32 bytes are a key");
        let objective = SwarmConfig::parse(crate::cli::settings::BUILT_IN[0].1).expect("valid").objective;
        let config = NetworkConfig {
            keys: keys.clone(),
            listen: Vec::new(),
            external: Vec::new(),
            peers: Vec::new(),
            switches: Switches { mdns: false, autonat: false, ..Switches::default() },
            known_peers: None,
            swarm_config: String::new(),
            sync_every: std::time::Duration::from_secs(45),
            private: None,
        };
        let network = Network::start(config, Archive::in_memory(objective.clone())).expect("starts");
        let discoveries = Discoveries::new(Author::of(&keys).expect("ed25519"));
        let mut side = SwarmSession::new(network, discoveries, keys.clone(), objective.clone(), true, 1);
        let said = |shown: Vec<NodeEvent>| -> Vec<String> {
            let text = |happened| match happened {
                NodeEvent::Swarm { text } => text,
                other => panic!("something else: {other:?}"),
            };
            shown.into_iter().map(text).collect()
        };
        let first = said(side.send(&answer(0), 1));
        assert!(first[0].starts_with("told what") && first[1].starts_with("sent"), "{first:?}");
        let signed = record::sign(&answer(1), &objective, &keys, 1).expect("valid");
        while side.network.publish(signed.clone()) {}
        assert_eq!(said(side.send(&answer(2), 1)), [NOT_TOLD]);
        let claim = Body::Claim(Claim { config: ConfigHash::of(b"c"), seconds: 60 });
        assert_eq!(said(side.send(&claim, 1)), [""; 0]);
    }

    #[test]
    fn a_peer_is_known_by_the_name_that_its_records_have() {
        let keys = Keypair::ed25519_from_bytes([3; 32]).expect("32 bytes are a key");
        let author = Author::of(&keys).expect("ed25519");
        let key = key_of(&keys.public().to_peer_id().to_string()).expect("a key");
        assert_eq!(key, *author.as_bytes());
        assert_eq!(short(&key), author.fmt_short());
        assert_eq!(key_of("moon"), None);
    }
}
