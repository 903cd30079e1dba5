//! Rivals that need no library: random draws, draws near the start, and a fixed list of mutations.

use autoswarm_protocol::{EffectiveConfig, Knob, Knob as K, TrainConfig};

use super::{
    Account, Axis, Kind, Seen, Spec,
    screen::Screen,
    space::{axes, effective, with_name, with_steps},
};
use crate::{chance::Chance, ground::Ground, surrogate::axes::coordinates};

/// A search that the node's own is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rival {
    /// Every knob is drawn evenly from its range: random search as in the literature.
    Uniform,
    /// One to four knobs of the start are moved by up to two steps: random search by somebody who trusts the
    /// start.
    Neighbours,
    /// One knob of the best config so far is changed by an entry of a fixed list, at random and without
    /// memory, each run on another seed; lower is kept. Swarms of agents were seen to search like this.
    Mutations,
}

/// Knobs that [`Rival::Neighbours`] moves at most, and how far, in steps.
const MOST_MOVED: u64 = 4;
const REACH: f64 = 2.0;
/// Draws in a row that are tried for a config which is new and not ruled out; then the first of them is run
/// anyway.
const MOST_DRAWS: u64 = 100;
/// The seed of every run of the other rivals: two configs differ by less noise on one seed than on two.
/// `seed_of` makes it another seed in each repetition.
pub(super) const SEED: u64 = 1;

/// The fixed list: a knob, and two moves in steps of which one is drawn, or `None` to draw one of its names.
/// It follows the mutation types that the rival's public records count: learning rate, context, weight decay,
/// batch, depth, width, heads, activation, init, warm-up, schedule, dropout, clipping, betas, norm, tying.
/// Training longer is on that list too; here the harness sets the budget.
const MUTATIONS: [(Knob, Option<[f64; 2]>); 20] = [
    (K::MatrixRate, Some([-1.5, 1.5])),
    (K::EmbeddingRate, Some([-1.5, 1.5])),
    (K::UnembeddingRate, Some([-1.5, 1.5])),
    (K::SequenceLength, Some([-1.0, 1.0])),
    (K::MatrixDecay, Some([-1.0, 1.0])),
    (K::BatchTokens, Some([-1.0, 1.0])),
    (K::Depth, Some([-1.0, 1.0])),
    (K::Width, Some([-1.0, 1.0])),
    (K::HeadDim, Some([-1.0, 1.0])),
    (K::MlpRatio, Some([-1.0, 1.0])),
    (K::Activation, None),
    (K::InitKind, None),
    (K::MatrixInit, Some([-1.0, 1.0])),
    (K::Warmup, Some([1.0, 2.0])),
    (K::WarmdownShape, None),
    (K::Dropout, Some([1.0, -1.0])),
    (K::GradientClip, Some([2.0, -2.0])),
    (K::EmbeddingBeta2, Some([-1.0, 1.0])),
    (K::Norm, None),
    (K::Head, None),
];

/// Searches until the seconds are spent.
pub(super) fn search(
    rival: Rival,
    spec: &Spec,
    start: &EffectiveConfig,
    ground: &mut dyn Ground,
) -> anyhow::Result<Account> {
    let mut account = Account::new(spec.seconds);
    let mut screen = Screen::new(start);
    let chance = Chance::new(spec.seed).of(&[0x005e_a7c4]);
    let axes = axes(start, spec.range);
    for number in 0.. {
        let mut draws = (0..MOST_DRAWS).map(|draw| {
            let chance = chance.of(&[number, draw]);
            match rival {
                _ if number == 0 => start.clone(),
                Rival::Uniform => uniform(&axes, start, chance),
                Rival::Neighbours => neighbour(&axes, start, chance),
                Rival::Mutations => mutated(best(account.seen()).unwrap_or(start), chance),
            }
        });
        let fits = |config: &EffectiveConfig| {
            let is_new = account.seen().iter().all(|seen| seen.config != *config);
            (is_new || rival == Rival::Mutations) && (!spec.predictor || screen.misfit(config).is_none())
        };
        let first = draws.next().expect("there is a draw");
        let config = if fits(&first) { first } else { draws.find(fits).unwrap_or(first) };
        let seed = if rival == Rival::Mutations { number } else { SEED };
        let Some(answer) = account.run(&config, None, seed_of(spec.seed, seed), None, ground)? else { break };
        screen.observe(&config, &answer.outcome);
    }
    Ok(account)
}

/// Returns the ground's seed for a rival's seed in a repetition.
pub(super) fn seed_of(repetition: u64, seed: u64) -> u64 {
    Chance::new(repetition).bits(&[0x5eed, seed])
}

fn best(seen: &[Seen]) -> Option<&EffectiveConfig> {
    let finished = seen.iter().filter_map(|seen| Some((seen.value?, &seen.config)));
    finished.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, config)| config)
}

fn uniform(axes: &[Axis], start: &EffectiveConfig, chance: Chance) -> EffectiveConfig {
    let config = axes.iter().fold((**start).clone(), |config, axis| {
        drawn(&config, axis, chance.uniform(&[u64::from(axis.knob.id())])).unwrap_or(config)
    });
    effective(&config)
}

/// Returns a config with an axis at a share of its range.
fn drawn(config: &TrainConfig, axis: &Axis, share: f64) -> Option<TrainConfig> {
    match &axis.kind {
        Kind::Steps { low, high, .. } => with_steps(config, axis.knob, low + share * (high - low)),
        Kind::Names { names, .. } => {
            with_name(config, axis.knob, names[(share * names.len() as f64) as usize])
        }
    }
}

fn neighbour(axes: &[Axis], start: &EffectiveConfig, chance: Chance) -> EffectiveConfig {
    let moved = 1 + chance.bits(&[1]) % MOST_MOVED;
    let config = (0..moved).fold((**start).clone(), |config, step| {
        let chance = chance.of(&[2, step]);
        let axis = &axes[(chance.bits(&[1]) % axes.len() as u64) as usize];
        let next = match &axis.kind {
            Kind::Steps { low, high, start } => {
                let steps = REACH * (2.0 * chance.uniform(&[2]) - 1.0);
                with_steps(&config, axis.knob, (start + steps).clamp(*low, *high))
            }
            Kind::Names { .. } => drawn(&config, axis, chance.uniform(&[2])),
        };
        next.unwrap_or(config)
    });
    effective(&config)
}

fn mutated(best: &EffectiveConfig, chance: Chance) -> EffectiveConfig {
    let (knob, steps) = MUTATIONS[(chance.bits(&[1]) % MUTATIONS.len() as u64) as usize];
    let place = autoswarm_protocol::knobs::KNOBS.partition_point(|row| row.knob < knob);
    let config = match steps {
        Some(steps) => {
            let now = coordinates(best)[place];
            with_steps(best, knob, now + steps[(chance.bits(&[2]) % 2) as usize])
        }
        None => match knob.row().domain {
            autoswarm_protocol::knobs::Domain::Choice(names) => {
                with_name(best, knob, names[(chance.bits(&[2]) % names.len() as u64) as usize])
            }
            _ => None,
        },
    };
    config.map_or_else(|| best.clone(), |config| effective(&config))
}
