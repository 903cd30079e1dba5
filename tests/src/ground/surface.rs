//! The response surface as a ground: prices and times are a little off, and the truth is known.

use std::collections::BTreeMap;

use autoswarm_protocol::{
    Bpb, Crash, EffectiveConfig, Knob, Outcome, RunReport,
    id::{ConfigHash, SpeedHash},
};

use super::{Answer, Ask, Ground, SECONDS};
use crate::{
    chance::{Chance, key_of},
    surrogate::{self, Surrogate},
};

/// Seconds of a run beside training: starting, pricing and evaluating, as in the real runs.
const OVERHEAD: f64 = 2.0;
/// Those seconds of [`OVERHEAD`] that come before training.
const STARTUP: f64 = 0.5;
/// Standard deviation of a price's logarithm: what a quiet machine's prices differ by.
const PRICE_SD: f64 = 0.01;
/// Seconds after which a run that gives no number is over.
const CRASH_SECONDS: f64 = 2.0;

/// The surface and the machines that run on it.
#[derive(Debug)]
pub struct SurfaceGround<'a> {
    surface: &'a Surrogate,
    chance: Chance,
    speeds: Vec<f64>,
    prices: BTreeMap<(usize, SpeedHash), f64>,
    levels: BTreeMap<(ConfigHash, u64), f64>,
}

impl<'a> SurfaceGround<'a> {
    /// Makes a ground of machines with these speeds, relative to the core of the real runs. All luck follows
    /// from `chance` and the runs that are asked for.
    pub fn new(surface: &'a Surrogate, chance: Chance, speeds: Vec<f64>) -> Self {
        Self { surface, chance, speeds, prices: BTreeMap::new(), levels: BTreeMap::new() }
    }

    /// Returns the tokens that a config's price buys on a machine; a price is taken once, a little off.
    fn price(&mut self, machine: usize, config: &EffectiveConfig) -> f64 {
        let speed = config.speed_hash();
        if let Some(tokens) = self.prices.get(&(machine, speed)) {
            return *tokens;
        }
        let off = (PRICE_SD * self.chance.normal(&[9, machine as u64, key_of(speed.as_bytes())])).exp();
        let tokens = self.surface.tokens(config, SECONDS, self.speeds[machine] * off);
        self.prices.insert((machine, speed), tokens);
        tokens
    }

    fn level(&mut self, config: &EffectiveConfig, tokens: f64) -> f64 {
        let surface = self.surface;
        *self.levels.entry((config.hash(), tokens as u64)).or_insert_with(|| surface.level(config, tokens))
    }

    fn finished(&mut self, ask: &Ask<'_>, tokens: f64) -> Answer {
        let level = self.level(ask.config, tokens);
        let noise = self.surface.parameters().noise;
        let (validation, audit) = noise.draw(ask.config, level, tokens, ask.seed);
        let bpb = |value: f64| Bpb::new(value.max(0.1)).expect("above zero");
        let price = self.price(ask.machine, ask.config);
        let late = (PRICE_SD * self.chance.normal(&[10, ask.machine as u64, ask.id])).exp();
        let seconds = SECONDS * tokens / price * late;
        let report = RunReport {
            steps: (tokens / ask.config.integer(Knob::BatchTokens) as f64) as u64,
            parameters: 40_000,
            startup_seconds: STARTUP,
            evaluation_seconds: OVERHEAD - STARTUP,
            peak_memory_bytes: 370 << 20,
            audit: Some(bpb(level + audit)),
            ..RunReport::simulated(
                ask.config.hash(),
                ask.seed,
                tokens as u64,
                seconds,
                bpb(level + validation),
            )
        };
        Answer { outcome: Outcome::Finished(Box::new(report)), seconds, beside: OVERHEAD }
    }
}

impl Ground for SurfaceGround<'_> {
    fn start(&self) -> EffectiveConfig {
        surrogate::start()
    }

    fn run(&mut self, ask: &Ask<'_>) -> anyhow::Result<Answer> {
        let tokens = ask.tokens.map_or_else(|| self.price(ask.machine, ask.config), |tokens| tokens as f64);
        Ok(match self.surface.crash(ask.config, tokens) {
            Some(class) => {
                let message = "as the surface says".to_owned();
                let crash = Crash { class, message, seconds: CRASH_SECONDS };
                Answer { outcome: Outcome::Crashed(crash), seconds: CRASH_SECONDS, beside: 0.0 }
            }
            None => self.finished(ask, tokens),
        })
    }

    fn truth(&mut self, machine: usize, config: &EffectiveConfig) -> Option<f64> {
        let tokens = self.surface.tokens(config, SECONDS, self.speeds[machine]);
        let crashes = self.surface.crash(config, tokens).is_some();
        Some(if crashes { f64::INFINITY } else { self.level(config, tokens) })
    }
}
