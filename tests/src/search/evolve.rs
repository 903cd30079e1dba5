//! The node's own search in the benchmark: the research core with one slot on a virtual clock.

use autoswarm_node::{
    cli::settings,
    proposers::evolve::{Evolve, Machine},
    research::{Action, Input, Policy, Research, Rules, RunOrder},
};
use autoswarm_protocol::{
    EffectiveConfig, Patch, SwarmConfig, Verdict,
    arena::{Arena, Dtype},
    id::{CorpusHash, TokenizerHash},
};

use super::{Account, Judge, Rule, Spec, Story};
use crate::{
    chance::Chance,
    ground::{BUDGET, Ground, SECONDS},
};

/// Seconds since 1970 at which a search begins.
const EPOCH: f64 = 1_767_225_600.0;
/// The machine that the search is told of: one core, and memory (bytes) as in the simulator. The first prices
/// correct the speed.
const MEMORY: u64 = 8 << 30;
const FLOPS_PER_SECOND: f64 = 4e10;

/// Searches until the seconds are spent.
pub(super) fn search(spec: &Spec, start: &EffectiveConfig, ground: &mut dyn Ground) -> anyhow::Result<Story> {
    let mut research = research(spec, start);
    let mut account = Account::new(spec.seconds);
    let (mut concluded, mut clock) = (Concluded::default(), EPOCH);
    let mut actions = research.handle(Input::Start, clock as u64);
    while let Some(order) = concluded.heed(&actions, account.spent())? {
        let started = clock as u64;
        let Some(answer) = account.run(&order.config, order.tokens, order.seed, order.prune, ground)? else {
            break;
        };
        clock += answer.seconds + answer.beside;
        let outcome = Box::new(answer.outcome);
        let event = Input::RunEnded { id: order.id, started_at: started, outcome, better_tokens: None };
        actions = research.handle(event, clock as u64);
    }
    let Concluded { stands, claimed, experiments } = concluded;
    let mut judge = Judge::new(spec.seed, start);
    let mut gains = vec![(0.0, 0.0)];
    for (at, config) in &stands {
        gains.push((*at, judge.gain(config, ground)?));
    }
    let chosen = stands.last().map_or(start, |(_, config)| config);
    let choice = Patch::between(start, chosen).to_string();
    Ok(Story {
        experiments,
        claimed: Some(claimed),
        ..account.story("evolve", Rule::Incumbent, spec, gains, choice)
    })
}

/// What the search has concluded so far.
#[derive(Default)]
struct Concluded {
    /// The incumbents, each with the training second from which on it was one.
    stands: Vec<(f64, EffectiveConfig)>,
    /// The sum of what its keeps claim, bits per byte; above 0 is a gain.
    claimed: f64,
    experiments: usize,
}

impl Concluded {
    /// Notes what the actions conclude, and returns the run that they order, if there is one.
    fn heed(&mut self, actions: &[Action], spent: f64) -> anyhow::Result<Option<RunOrder>> {
        let mut next = None;
        for action in actions {
            match action {
                Action::Run(order) => next = Some((**order).clone()),
                Action::Conclude(experiment) => {
                    self.experiments += usize::from(experiment.parent.is_some());
                    if let Verdict::Keep { estimate, .. } = &experiment.verdict {
                        self.stands.push((spent, experiment.config.clone()));
                        self.claimed -= estimate.delta;
                    }
                }
                Action::Halt(why) => anyhow::bail!("the search halts: {why}"),
                Action::Propose { .. }
                | Action::TryBegan { .. }
                | Action::TryRefused { .. }
                | Action::Note(_)
                | Action::Finish => {}
            }
        }
        Ok(next)
    }
}

fn research(spec: &Spec, start: &EffectiveConfig) -> Research {
    let objective = SwarmConfig::parse(settings::BUILT_IN[0].1).expect("the default is valid").objective;
    let arena = Arena {
        objective: objective.id(),
        // The seeds of all runs follow from the arena, so each repetition needs its own.
        corpus: CorpusHash::of(&spec.seed.to_le_bytes()),
        tokenizer: TokenizerHash::of(b"bytes"),
        context: objective.context,
        evaluation_tokens: objective.evaluation_tokens,
        budget: BUDGET,
        dtype: Dtype::F32,
        semantics: 1,
    };
    let rules = Rules {
        arena: arena.id(),
        context: objective.context as usize,
        slots: 1,
        baseline: start.clone(),
        policy: Policy { min_effect: objective.min_effect, ..Policy::default() },
        experiments: None,
    };
    // With endless memory and time, the predictor rules nothing out.
    let (machine, seconds) = if spec.predictor {
        (machine(), SECONDS)
    } else {
        (Machine { memory_bytes: u64::MAX, ..machine() }, f64::INFINITY)
    };
    let evolve = Evolve::new(objective, machine, seconds, Chance::new(spec.seed).bits(&[4]));
    Research::new(rules, Box::new(evolve), &[], Vec::new(), 0)
}

/// Returns the machine as the predictor is told of it.
pub(super) fn machine() -> Machine {
    Machine { flops_per_second: FLOPS_PER_SECOND, ..Machine::cpu(1, MEMORY, 256) }
}
