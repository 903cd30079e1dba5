//! An honest node of a simulated swarm: the real research core, search and discoveries.
//!
//! What the node's `session/event_loop.rs` and `session/swarm.rs` do between these is repeated here.

use std::sync::Arc;

use autoswarm_node::{
    proposers::evolve::{Evolve, Machine},
    research::{Action, Input, Policy, Research, Rules, RunOrder},
    swarm::discoveries::{Discoveries, LocalContext, digest},
};
use autoswarm_protocol::{
    EffectiveConfig, Experiment, Outcome,
    id::{ArenaId, Author},
    record::{self, Body, Claim, DigestLine, Hardware, Verified},
    swarm_config::Objective,
};
use libp2p::{PeerId, identity::Keypair};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::{
    chance::Chance,
    ground::{BUDGET, SECONDS},
};

/// Seconds since 1970 at which every simulation begins.
pub(super) const EPOCH: u64 = 1_767_225_600;
/// Results that fill a digest, seconds after which fewer are told, and the runs that a claim on a config
/// lasts: as in the node's `session/swarm.rs`.
const DIGEST_LINES: usize = 8;
const DIGEST_SECONDS: u64 = 900;
const CLAIMED_RUNS: f64 = 2.0;

/// What all nodes of a swarm have in common.
#[derive(Debug, Clone)]
pub(super) struct Common {
    pub(super) objective: Objective,
    pub(super) arena: ArenaId,
    pub(super) start: EffectiveConfig,
    /// Whether nodes hear each other at all.
    pub(super) talking: bool,
}

/// What a node asks of the world, or lets it know.
#[derive(Debug)]
pub(super) enum Wish {
    /// Make this run.
    Run(Box<RunOrder>),
    /// Tell this record to the other nodes.
    Tell(Arc<Verified<Body>>),
    /// This experiment is over.
    Concluded(Box<Experiment>),
}

/// Whose idea an experiment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Idea {
    Own,
    /// A peer's idea, tried on the own incumbent or in its place.
    Foreign,
    /// A peer's discovery, run again for that peer.
    Reproduction,
}

/// One honest node.
#[derive(Debug)]
pub(super) struct Node {
    research: Research,
    discoveries: Discoveries,
    keys: Keypair,
    here: LocalContext,
    untold: Vec<DigestLine>,
    untold_since: u64,
    has_news: bool,
    rng: ChaCha8Rng,
}

impl Node {
    pub(super) fn new(common: &Common, speed: f64, search_seed: u64, identity: u64) -> Self {
        let policy = Policy { min_effect: common.objective.min_effect, ..Policy::default() };
        let context = common.objective.context as usize;
        let rules = Rules {
            arena: common.arena,
            context,
            slots: 1,
            baseline: common.start.clone(),
            policy,
            experiments: None,
        };
        let machine = Machine { flops_per_second: 4e10 * speed, ..Machine::cpu(1, 8 << 30, 256) };
        let evolve = Evolve::new(common.objective.clone(), machine, SECONDS, search_seed);
        let keys = keys_of(identity);
        let author = Author::of(&keys).expect("the key is an ed25519 key");
        let here = LocalContext {
            arena: common.arena,
            context,
            budget: BUDGET,
            budget_seconds: SECONDS,
            hardware: hardware(speed),
        };
        Self {
            research: Research::new(rules, Box::new(evolve), &[], Vec::new(), 0),
            discoveries: Discoveries::new(author),
            keys,
            here,
            untold: Vec::new(),
            untold_since: 0,
            has_news: false,
            rng: ChaCha8Rng::seed_from_u64(search_seed),
        }
    }

    /// Returns the node's incumbent.
    pub(super) fn incumbent(&self) -> Option<&EffectiveConfig> {
        self.research.incumbent().map(|incumbent| &incumbent.config)
    }

    /// Returns its name on the network.
    pub(super) fn peer(&self) -> PeerId {
        PeerId::from_public_key(&self.keys.public())
    }

    /// Returns whose idea an experiment in flight is.
    pub(super) fn idea(&self, number: u32) -> Idea {
        match self.research.pending().iter().find(|active| active.number == number) {
            Some(active) if active.reproduction.is_some() => Idea::Reproduction,
            Some(active) if !active.hypothesis.inspired_by.is_empty() => Idea::Foreign,
            _ => Idea::Own,
        }
    }

    /// Starts the node's research, and returns its first wishes.
    pub(super) fn start(&mut self, common: &Common, now: u64) -> Vec<Wish> {
        let actions = self.research.handle(Input::Start, now);
        self.perform(actions, common, now)
    }

    /// Takes the end of a run, and returns what the node wants next.
    pub(super) fn run_ended(&mut self, id: u64, outcome: Outcome, common: &Common, now: u64) -> Vec<Wish> {
        // The real event loop considers news within a quarter of a second. Here it is enough to do so when a
        // run ends, because news matter only when an experiment begins.
        let mut wishes = if self.has_news { self.consider(common, now) } else { Vec::new() };
        let event = Input::RunEnded { id, started_at: now, outcome: Box::new(outcome), better_tokens: None };
        let actions = self.research.handle(event, now);
        wishes.extend(self.perform(actions, common, now));
        wishes.extend(self.consider(common, now));
        if now.saturating_sub(self.untold_since) >= DIGEST_SECONDS {
            wishes.extend(self.tell_results(common, now));
        }
        wishes
    }

    /// Takes a record that a peer passed on.
    pub(super) fn heard(&mut self, record: &Verified<Body>, relayed_by: PeerId, now: u64) {
        self.discoveries.add(record, Some(relayed_by), now);
        self.has_news = true;
    }

    /// Hands news to the research core: peers' results for the search, one discovery to try, and one to run
    /// again. At most one of each of the last two is in flight.
    fn consider(&mut self, common: &Common, now: u64) -> Vec<Wish> {
        self.has_news = false;
        let Some(incumbent) = self.research.incumbent().filter(|_| common.talking) else { return Vec::new() };
        let mut events = Vec::new();
        let peer_results = self.discoveries.take_peer_results(common.arena, now);
        events.extend(peer_results.map(|peer_results| Input::PeerResults(Box::new(peer_results))));
        if !self.research.is_inspired() {
            let proposal = self.discoveries.next_to_try(incumbent, &self.here, &mut self.rng);
            events.extend(proposal.map(|proposal| Input::Inspire(Box::new(proposal))));
        }
        if !self.research.is_reproducing() {
            let noise = self.research.noise();
            let reproduction = self.discoveries.next_reproduction(&self.here, |group| noise.pair_sd(group));
            events.extend(reproduction.map(|reproduction| Input::Reproduction(Box::new(reproduction))));
        }
        let mut wishes = Vec::new();
        for event in events {
            let actions = self.research.handle(event, now);
            wishes.extend(self.perform(actions, common, now));
        }
        wishes
    }

    fn perform(&mut self, actions: Vec<Action>, common: &Common, now: u64) -> Vec<Wish> {
        let mut wishes = Vec::new();
        for action in actions {
            match action {
                Action::Run(order) => wishes.push(Wish::Run(order)),
                Action::Propose { number, .. } => wishes.extend(self.claim(number, common, now)),
                Action::Conclude(experiment) => {
                    if common.talking {
                        wishes.extend(self.publish(&experiment, common, now));
                    }
                    self.discoveries.observe(&experiment);
                    wishes.push(Wish::Concluded(experiment));
                }
                Action::Halt(why) => panic!("a simulated node halts: {why}"),
                Action::TryBegan { .. } | Action::TryRefused { .. } | Action::Note(_) | Action::Finish => {}
            }
        }
        wishes
    }

    /// Tells the others what an experiment showed, at once or in the next digest.
    fn publish(&mut self, experiment: &Experiment, common: &Common, now: u64) -> Vec<Wish> {
        let pair_sd = self.research.noise().pair_sd(experiment.group);
        let bodies = self.discoveries.to_publish(experiment, &self.here.hardware, self.here.budget, pair_sd);
        let mut wishes: Vec<Wish> = bodies.iter().map(|body| self.tell(body, common, now)).collect();
        if let Some(line) = self.discoveries.line(experiment, pair_sd) {
            if self.untold.is_empty() {
                self.untold_since = now;
            }
            self.untold.push(line);
            if self.untold.len() >= DIGEST_LINES {
                wishes.extend(self.tell_results(common, now));
            }
        }
        wishes
    }

    fn tell_results(&mut self, common: &Common, now: u64) -> Option<Wish> {
        let lines = std::mem::take(&mut self.untold);
        (!lines.is_empty()).then(|| self.tell(&digest(common.arena, lines), common, now))
    }

    /// Claims a config that this node is about to run; none for re-runs and the baseline.
    fn claim(&mut self, number: u32, common: &Common, now: u64) -> Option<Wish> {
        let active = self.research.pending().iter().find(|active| active.number == number)?;
        let is_own = active.parent.is_some() && active.reproduction.is_none() && common.talking;
        let config = is_own.then(|| active.child.hash())?;
        let seconds = (CLAIMED_RUNS * SECONDS).ceil() as u32;
        Some(self.tell(&Body::Claim(Claim { config, seconds }), common, now))
    }

    fn tell(&mut self, body: &Body, common: &Common, now: u64) -> Wish {
        let record = sealed(body, common, &self.keys, now);
        self.discoveries.add(&record, None, now);
        Wish::Tell(record)
    }
}

/// Signs a body and verifies the signed bytes, as a peer would.
pub(super) fn sealed(body: &Body, common: &Common, keys: &Keypair, now: u64) -> Arc<Verified<Body>> {
    let signed = record::sign(body, &common.objective, keys, now).expect("what a node says can be signed");
    Arc::new(record::verify(&signed.bytes, &common.objective, now).expect("what was signed holds"))
}

/// Returns the key pair of an identity.
pub(super) fn keys_of(identity: u64) -> Keypair {
    let chance = Chance::new(identity);
    let bytes: [u8; 32] = std::array::from_fn(|k| chance.bits(&[k as u64]) as u8);
    Keypair::ed25519_from_bytes(bytes).expect("32 bytes are a key")
}

/// Returns what a node tells about its machine.
pub(super) fn hardware(speed: f64) -> Hardware {
    Hardware { device: "one core".to_owned(), threads: 1, slots: 1, tokens_per_second: 80_000.0 * speed }
}
