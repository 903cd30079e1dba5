//! The best known config of the surface: hill climbs from many starts, without noise.

use autoswarm_protocol::{EffectiveConfig, knobs::KNOBS};

use super::{Surrogate, axes::neighbours, runs::CONTEXT, start};
use crate::chance::Chance;

/// Sweeps over all knobs without a gain after which a climb ends.
const IDLE_SWEEPS: usize = 1;
/// Knobs that no proposal moves: they change nothing, or only how a step is divided up.
pub const CLOSED: [&str; 3] = ["width_rounding", "micro_batch_tokens", "value_gate_width"];

/// Climbs from the start and from `climbs` − 1 random places near it; returns the best config and its worth.
pub fn best_known(surrogate: &Surrogate, climbs: u64) -> (EffectiveConfig, f64) {
    let begin = start();
    let all = (0..climbs).map(|number| {
        let chance = Chance::new(number);
        let moves = if number == 0 { 0 } else { 2 + chance.bits(&[0]) % 7 };
        let from = (0..moves).fold(begin.clone(), |config, step| moved(&config, chance.of(&[1, step])));
        climb(surrogate, from, chance, &mut |_| {})
    });
    all.min_by(|a, b| a.1.total_cmp(&b.1)).expect("there is a climb")
}

/// Moves one knob, drawn by chance, to one of its neighbouring values.
pub fn moved(config: &EffectiveConfig, chance: Chance) -> EffectiveConfig {
    let open: Vec<_> = KNOBS.iter().filter(|row| !CLOSED.contains(&row.name)).collect();
    let row = open[(chance.bits(&[2]) % open.len() as u64) as usize];
    let values = neighbours(config, row.knob);
    let value = values[(chance.bits(&[3]) % values.len() as u64) as usize];
    config.with(row.knob, value).expect("a neighbour is in range").effective(CONTEXT)
}

/// Climbs from a config until a sweep over all knobs, in a drawn order, gains nothing. Returns the top and
/// its worth; `step` hears each config on the way.
pub fn climb(
    surrogate: &Surrogate,
    mut at: EffectiveConfig,
    chance: Chance,
    step: &mut dyn FnMut(&EffectiveConfig),
) -> (EffectiveConfig, f64) {
    let mut worth = surrogate.worth(&at);
    let (mut idle, mut sweep) = (0, 0);
    while idle < IDLE_SWEEPS {
        let before = worth;
        let mut order: Vec<usize> = (0..KNOBS.len()).collect();
        order.sort_by_key(|knob| chance.bits(&[4, sweep, *knob as u64]));
        for row in order.into_iter().map(|place| &KNOBS[place]).filter(|row| !CLOSED.contains(&row.name)) {
            for value in neighbours(&at, row.knob) {
                let next = at.with(row.knob, value).expect("a neighbour is in range").effective(CONTEXT);
                let there = surrogate.worth(&next);
                if there < worth - 1e-6 {
                    (at, worth) = (next, there);
                    step(&at);
                }
            }
        }
        idle = if worth < before - 1e-5 { 0 } else { idle + 1 };
        sweep += 1;
    }
    (at, worth)
}
