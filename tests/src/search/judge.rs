//! The true gain of a choice: the ground's own truth, or else fresh pairs with the start on unused seeds.

use std::collections::BTreeMap;

use autoswarm_protocol::{EffectiveConfig, Outcome, id::ConfigHash};

use crate::{
    chance::Chance,
    ground::{Ask, Ground},
};

/// Fresh pairs that judge a config where the truth is not known.
const PAIRS: u64 = 8;
/// Key of the judge's seeds, which no search and no choice uses.
const FRESH: u64 = 0x00ed;
/// First number of the judge's runs, above those of every search and its choice.
const FIRST_ID: u64 = 1 << 40;
/// The value of a crash on a judge's seed, bits per byte: that of a model which knows nothing.
const NOTHING_KNOWN: f64 = 8.0;

/// A gain over the start.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gain {
    /// Bits per byte; above 0 is better than the start.
    pub gain: f64,
    /// Its standard error; 0 where the truth is known.
    pub error: f64,
}

/// A judge of one repetition: all its methods are judged on the same seeds.
#[derive(Debug)]
pub struct Judge {
    chance: Chance,
    start: EffectiveConfig,
    known: BTreeMap<ConfigHash, Gain>,
}

impl Judge {
    /// Makes a judge who compares with `start`.
    pub fn new(repetition: u64, start: &EffectiveConfig) -> Self {
        let chance = Chance::new(repetition).of(&[FRESH]);
        Self { chance, start: start.clone(), known: BTreeMap::new() }
    }

    /// Returns the true gain of a config over the start, bits per byte.
    pub fn gain(&mut self, config: &EffectiveConfig, ground: &mut dyn Ground) -> anyhow::Result<f64> {
        self.measure(config, ground).map(|gain| gain.gain)
    }

    /// Returns the true gain with its standard error; a config is measured once and then remembered.
    pub fn measure(&mut self, config: &EffectiveConfig, ground: &mut dyn Ground) -> anyhow::Result<Gain> {
        if *config == self.start {
            return Ok(Gain { gain: 0.0, error: 0.0 });
        }
        if let Some(known) = self.known.get(&config.hash()) {
            return Ok(*known);
        }
        let start = self.start.clone();
        let known = ground.truth(0, &start).zip(ground.truth(0, config));
        let gain = if let Some((start, level)) = known {
            Gain { gain: start - level.min(NOTHING_KNOWN), error: 0.0 }
        } else {
            let pairs = (0..PAIRS).map(|pair| {
                let level = |config, ground: &mut dyn Ground| self.level(config, pair, ground);
                Ok(level(&start, ground)? - level(config, ground)?)
            });
            mean(&pairs.collect::<anyhow::Result<Vec<f64>>>()?)
        };
        self.known.insert(config.hash(), gain);
        Ok(gain)
    }

    fn level(&self, config: &EffectiveConfig, pair: u64, ground: &mut dyn Ground) -> anyhow::Result<f64> {
        let seed = self.chance.bits(&[pair]);
        let answer = ground.run(&Ask { machine: 0, id: FIRST_ID + pair, config, tokens: None, seed })?;
        Ok(match answer.outcome {
            Outcome::Finished(report) => report.validation.get(),
            Outcome::Crashed(_) | Outcome::Pruned(_) => NOTHING_KNOWN,
        })
    }
}

fn mean(values: &[f64]) -> Gain {
    let count = values.len() as f64;
    let gain = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - gain).powi(2)).sum();
    Gain { gain, error: (squares / (count - 1.0) / count).sqrt() }
}
