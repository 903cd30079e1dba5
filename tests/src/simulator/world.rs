//! The world of a simulated swarm: clock, event queue, the ground that answers runs, and the truth.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    sync::Arc,
};

use autoswarm_node::{cli::settings, research::RunOrder};
use autoswarm_protocol::{
    EffectiveConfig, Experiment, Outcome, Patch, SwarmConfig, Verdict,
    arena::{Arena, Dtype},
    id::{ConfigHash, CorpusHash, RecordId, TokenizerHash},
    record::{Body, Verified},
};

use super::{
    Spec,
    liar::{self, Liar},
    measures::{Adoption, Spread, Story},
    node::{Common, EPOCH, Idea, Node, Wish},
};
use libp2p::PeerId;

use crate::{
    chance::{Chance, key_of},
    ground::{self, Answer, Ask, Ground, SurfaceGround},
    surrogate::Surrogate,
};

/// Standard deviation of the logarithm of the speeds of equal machines.
const MACHINE_SD: f64 = 0.03;
/// Seconds within which all nodes begin, each at a drawn time.
const BEGINNING: f64 = 20.0;
/// Peers from which a node hears gossip: gossipsub's mesh.
const MESH: u64 = 8;
/// Most discoveries whose spread is followed: enough for a median.
const MOST_FOLLOWED: usize = 400;

/// What happens next in the swarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Begins { node: usize },
    RunEnds { node: usize, id: u64 },
    Heard { node: usize, record: usize },
    Lies { liar: usize },
}

struct World<'a> {
    spec: &'a Spec,
    ground: &'a mut dyn Ground,
    common: Common,
    /// The source of all luck; the first number of a key tells its uses apart.
    chance: Chance,
    nodes: Vec<Node>,
    peers: Vec<PeerId>,
    liars: Vec<Liar>,
    queue: BinaryHeap<Reverse<(u64, u64, Event)>>,
    order: u64,
    outcomes: BTreeMap<(usize, u64), (Outcome, f64, Idea)>,
    /// Experiments that each node has concluded, its baseline not counted.
    concluded: Vec<usize>,
    records: Vec<Arc<Verified<Body>>>,
    /// All discoveries told: the liars', and the honest nodes'.
    found: [Vec<Arc<Verified<Body>>>; 2],
    lies: BTreeSet<RecordId>,
    tried: BTreeSet<ConfigHash>,
    story: Story,
}

/// Runs a swarm to its end on a surface.
pub fn simulate(spec: &Spec, surface: &Surrogate) -> Story {
    let speeds = (0..spec.nodes).map(|number| speed_of(spec, number)).collect();
    let mut ground = SurfaceGround::new(surface, Chance::new(spec.seed), speeds);
    simulate_on(spec, &mut ground).expect("the surface answers every run")
}

/// Runs a swarm to its end on a ground; an error is the ground's.
pub fn simulate_on(spec: &Spec, ground: &mut dyn Ground) -> anyhow::Result<Story> {
    let mut world = World::new(spec, ground);
    let end = milliseconds(spec.hours * 3600.0);
    while let Some(Reverse((at, _, event))) = world.queue.pop() {
        if at > end || (0..spec.nodes).all(|node| world.is_done(node)) {
            break;
        }
        world.take(event, at)?;
    }
    world.story.length = spec.hours * 3600.0;
    let incumbents = world.nodes.iter().filter_map(Node::incumbent).map(EffectiveConfig::hash);
    world.story.incumbents = incumbents.collect();
    Ok(world.story)
}

/// Returns the speed of a node's core, relative to the surface's.
fn speed_of(spec: &Spec, number: usize) -> f64 {
    let off = MACHINE_SD * Chance::new(spec.seed).normal(&[3, number as u64]);
    spec.speeds[number % spec.speeds.len()] * off.exp()
}

impl<'a> World<'a> {
    fn new(spec: &'a Spec, ground: &'a mut dyn Ground) -> Self {
        let objective = SwarmConfig::parse(settings::BUILT_IN[0].1).expect("the default is valid").objective;
        let arena = Arena {
            objective: objective.id(),
            corpus: CorpusHash::of(b"simulated"),
            tokenizer: TokenizerHash::of(b"bytes"),
            context: objective.context,
            evaluation_tokens: objective.evaluation_tokens,
            budget: ground::BUDGET,
            dtype: Dtype::F32,
            semantics: 1,
        };
        let common = Common { objective, arena: arena.id(), start: ground.start(), talking: spec.talking };
        let chance = Chance::new(spec.seed);
        let mut world = Self {
            spec,
            ground,
            common,
            chance,
            nodes: Vec::new(),
            peers: Vec::new(),
            liars: (0..spec.liars)
                .map(|liar| Liar::new(chance.bits(&[2, liar as u64]), &spec.lies))
                .collect(),
            queue: BinaryHeap::new(),
            order: 0,
            outcomes: BTreeMap::new(),
            concluded: vec![0; spec.nodes],
            records: Vec::new(),
            found: [Vec::new(), Vec::new()],
            lies: BTreeSet::new(),
            tried: BTreeSet::new(),
            story: Story {
                gains: vec![Vec::new(); spec.nodes],
                stands: vec![Vec::new(); spec.nodes],
                ..Story::default()
            },
        };
        for number in 0..spec.nodes {
            let key = number as u64;
            let speed = speed_of(spec, number);
            let search = if spec.one_search_seed { 0 } else { chance.bits(&[4, key]) };
            world.nodes.push(Node::new(&world.common, speed, search, chance.bits(&[1, key])));
            let at = BEGINNING * chance.uniform(&[5, key]);
            world.push(at, Event::Begins { node: number });
        }
        world.peers = world.nodes.iter().map(Node::peer).chain(world.liars.iter().map(Liar::peer)).collect();
        for liar in 0..spec.liars {
            world.push(liar::EVERY * chance.uniform(&[6, liar as u64]), Event::Lies { liar });
        }
        world
    }

    fn push(&mut self, at: f64, event: Event) {
        // Events of the same millisecond come in the order in which they were pushed, so a seed has one
        // trajectory.
        self.order += 1;
        self.queue.push(Reverse((milliseconds(at), self.order, event)));
    }

    fn take(&mut self, event: Event, at: u64) -> anyhow::Result<()> {
        let now = at as f64 / 1000.0;
        let clock = EPOCH + at / 1000;
        match event {
            Event::Begins { node } => {
                let wishes = self.nodes[node].start(&self.common, clock);
                self.grant(node, wishes, now)?;
            }
            Event::RunEnds { node, id } => {
                let (outcome, seconds, idea) =
                    self.outcomes.remove(&(node, id)).expect("what ends has begun");
                self.story.seconds += seconds;
                match idea {
                    Idea::Own => {}
                    Idea::Foreign => self.story.foreign.0 += seconds,
                    Idea::Reproduction => self.story.foreign.1 += seconds,
                }
                self.story.runs.0 += 1;
                self.story.runs.1 += usize::from(matches!(outcome, Outcome::Crashed(_)));
                let wishes = self.nodes[node].run_ended(id, outcome, &self.common, clock);
                self.grant(node, wishes, now)?;
            }
            Event::Heard { node, record } => {
                // The mesh peer of the hearer that was first to pass it on.
                let mesh = self.chance.bits(&[11, record as u64, node as u64]) % MESH;
                let relay = self.chance.bits(&[12, node as u64, mesh]) % self.peers.len() as u64;
                let relayed_by = self.peers[relay as usize];
                self.nodes[node].heard(&self.records[record], relayed_by, clock);
            }
            Event::Lies { liar } => {
                let base = self.common.start.clone();
                let [liars, honest] = &self.found;
                let lies = self.liars[liar].lie(&base, liars, honest, &self.common, clock);
                for record in lies {
                    if record.discovery().is_some() {
                        self.lies.insert(record.id());
                        self.found[0].push(Arc::clone(&record));
                    }
                    self.tell(self.spec.nodes + liar, record, now);
                }
                self.push(now + liar::EVERY, Event::Lies { liar });
            }
        }
        Ok(())
    }

    /// Returns whether a node has concluded as many experiments as it may.
    fn is_done(&self, node: usize) -> bool {
        self.spec.experiments.is_some_and(|most| self.concluded[node] >= most)
    }

    fn grant(&mut self, node: usize, wishes: Vec<Wish>, now: f64) -> anyhow::Result<()> {
        for wish in wishes {
            match wish {
                Wish::Run(_) if self.is_done(node) => {}
                Wish::Run(order) => self.run(node, &order, now)?,
                Wish::Tell(record) => {
                    if let Some(discovery) = record.discovery() {
                        let truth = self.true_effect(
                            node,
                            &discovery.value().config.effective(self.context()),
                            &discovery.value().patch.invert(),
                        );
                        if let Some(truth) = truth {
                            self.follow(record.id(), truth, now);
                        }
                        self.found[1].push(Arc::clone(&record));
                    }
                    self.tell(node, record, now);
                }
                Wish::Concluded(experiment) => self.concluded(node, &experiment, now),
            }
        }
        Ok(())
    }

    fn context(&self) -> usize {
        self.common.objective.context as usize
    }

    /// Sends a record on its way to every other honest node.
    fn tell(&mut self, from: usize, record: Arc<Verified<Body>>, now: f64) {
        if !self.spec.talking {
            return;
        }
        let index = self.records.len();
        let is_reconciled = record.value().is_reconciled();
        self.records.push(record);
        for to in (0..self.spec.nodes).filter(|to| *to != from) {
            let chance = self.chance.of(&[8, index as u64, to as u64]);
            let link = self.spec.link;
            let at = if is_reconciled {
                Some(link.heard_at(from, to, now, chance))
            } else {
                link.gossiped_at(from, to, now, chance)
            };
            if let Some(at) = at {
                self.push(at, Event::Heard { node: to, record: index });
            }
        }
    }

    fn run(&mut self, node: usize, order: &RunOrder, now: f64) -> anyhow::Result<()> {
        let RunOrder { id, tokens, seed, .. } = *order;
        let ask = Ask { machine: node, id, config: &order.config, tokens, seed };
        let Answer { outcome, seconds, beside } = self.ground.run(&ask)?.pruned(order.prune);
        let idea = self.nodes[node].idea(order.number);
        self.story.training += seconds;
        let seconds = seconds + beside;
        self.outcomes.insert((node, id), (outcome, seconds, idea));
        self.push(now + seconds, Event::RunEnds { node, id });
        Ok(())
    }

    /// Returns a change's true effect on a node, where that is known: the config's level minus that of its
    /// parent, to which `back` leads.
    fn true_effect(&mut self, node: usize, config: &EffectiveConfig, back: &Patch) -> Option<f64> {
        let parent = back.apply(config).expect("a patch leads back").effective(self.context());
        Some(self.ground.truth(node, config)? - self.ground.truth(node, &parent)?)
    }

    fn concluded(&mut self, node: usize, experiment: &Experiment, now: f64) {
        let mix = |digest: u64, part: u64| Chance::new(digest).bits(&[part]);
        let key = key_of(experiment.config.hash().as_bytes());
        self.story.digest = mix(mix(self.story.digest, key), milliseconds(now) ^ node as u64);
        if experiment.parent.is_none() {
            self.story.gains[node].push((now, 0.0));
            return;
        }
        self.concluded[node] += 1;
        let is_kept = matches!(experiment.verdict, Verdict::Keep { .. });
        let kind = match experiment.verdict {
            Verdict::Reproduction { .. } => Idea::Reproduction,
            _ if experiment.hypothesis.inspired_by.is_empty() => Idea::Own,
            _ => Idea::Foreign,
        };
        let ideas = &mut self.story.ideas[kind as usize];
        *ideas = (ideas.0 + 1, ideas.1 + usize::from(is_kept), ideas.2 + experiment.runs.len());
        if kind == Idea::Reproduction {
            return;
        }
        self.story.experiments.0 += 1;
        self.story.experiments.1 += usize::from(self.tried.insert(experiment.config.hash()));
        if !is_kept {
            return;
        }
        let truth = self.true_effect(node, &experiment.config, &experiment.hypothesis.patch.invert());
        self.story.keeps.0 += 1;
        self.story.keeps.1 += usize::from(truth.is_some_and(|truth| truth >= 0.0));
        self.story.stands[node].push((now, experiment.config.clone()));
        let level = |config: &EffectiveConfig| self.ground.truth(node, config);
        let known = [&self.common.start, &experiment.config].map(level);
        if let [Some(start), Some(level)] = known {
            self.story.gains[node].push((now, start - level));
        }
        let cited = experiment.hypothesis.inspired_by.iter().filter_map(|id| id.parse().ok());
        let cited: Vec<RecordId> = cited.collect();
        if !cited.is_empty() {
            let lie = cited.iter().any(|discovery| self.lies.contains(discovery));
            self.story.adoptions.push(Adoption { at: now, node, lie, truth });
        }
        for discovery in cited {
            self.held(node, discovery, now);
        }
    }

    fn follow(&mut self, discovery: RecordId, truth: f64, now: f64) {
        if self.story.spreads.len() < MOST_FOLLOWED {
            let holders = vec![false; self.spec.nodes];
            self.story.spreads.push(Spread { discovery, told: now, truth, holders, half: None });
        }
    }

    fn held(&mut self, node: usize, discovery: RecordId, now: f64) {
        if let Some(spread) = self.story.spreads.iter_mut().find(|spread| spread.discovery == discovery) {
            spread.holders[node] = true;
            // One more, because the author has it too.
            let having = 1 + spread.holders.iter().filter(|has| **has).count();
            if spread.half.is_none() && 2 * having >= self.spec.nodes {
                spread.half = Some(now - spread.told);
            }
        }
    }
}

fn milliseconds(seconds: f64) -> u64 {
    (seconds * 1000.0).round() as u64
}
