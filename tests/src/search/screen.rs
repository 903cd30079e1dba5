//! The node's predictor of memory and step time, lent to rivals: configs that it rules out cost them nothing.

use autoswarm_node::proposers::evolve::{Machine, Misfit, Predictor, ledger::Ledger};
use autoswarm_protocol::{
    EffectiveConfig, Experiment, Hypothesis, KnobGroup, Outcome, Patch, Proposer, Run, RunRole, Verdict,
    experiment::Comparison, id::ArenaId,
};

use super::evolve::machine;
use crate::ground::SECONDS;

/// The predictor with the prices that a rival's runs have shown.
#[derive(Debug)]
pub(super) struct Screen {
    ledger: Ledger,
    machine: Machine,
    start: EffectiveConfig,
}

impl Screen {
    pub(super) fn new(start: &EffectiveConfig) -> Self {
        Self { ledger: Ledger::default(), machine: machine(), start: start.clone() }
    }

    /// Returns why a config is not worth a run, if it is not.
    pub(super) fn misfit(&self, config: &EffectiveConfig) -> Option<Misfit> {
        Predictor::new(self.machine, SECONDS, &self.ledger).misfit(config, &self.start)
    }

    /// Learns the price of a run.
    pub(super) fn observe(&mut self, config: &EffectiveConfig, outcome: &Outcome) {
        let run = Run {
            role: RunRole::Screen,
            requested: config.hash(),
            seed: 0,
            tokens: None,
            pair: None,
            slot: 0,
            started_at: 0,
            outcome: outcome.clone(),
        };
        let Outcome::Finished(_) = outcome else { return };
        // The ledger learns only the price from a reproduction, and nothing about the config's worth.
        let verdict = Verdict::Reproduction {
            comparison: Comparison::Reproduced,
            found: Err(autoswarm_protocol::CrashClass::Killed),
        };
        self.ledger.observe(&Experiment {
            number: 0,
            arena: ArenaId::of(b"a rival's"),
            parent: None,
            config: config.clone(),
            attempt: 0,
            hypothesis: Hypothesis {
                proposer: Proposer::Person,
                because: String::new(),
                patch: Patch::default(),
                simplifies: false,
                inspired_by: Vec::new(),
            },
            group: KnobGroup::Shape,
            screens: Vec::new(),
            runs: vec![run],
            verdict,
            started_at: 0,
            finished_at: 0,
        });
    }
}

/// Returns a misfit's name on the oracle's wire.
pub(super) const fn reason(misfit: Misfit) -> &'static str {
    match misfit {
        Misfit::Memory => "memory",
        Misfit::Steps => "steps",
        Misfit::Tokens => "tokens",
    }
}

#[cfg(test)]
mod tests {
    use autoswarm_protocol::{Knob, Value};

    use super::*;
    use crate::{
        chance::Chance,
        ground::{Ask, Ground, SurfaceGround},
        surrogate::{Surrogate, start},
    };

    #[test]
    fn a_giant_is_ruled_out_and_a_neighbour_is_not() {
        let (surface, start) = (Surrogate::committed(), start());
        let mut screen = Screen::new(&start);
        let mut ground = SurfaceGround::new(&surface, Chance::new(1), vec![1.0]);
        let ask = Ask { machine: 0, id: 0, config: &start, tokens: None, seed: 1 };
        screen.observe(&start, &ground.run(&ask).expect("the surface answers").outcome);
        let wide = |width| start.with(Knob::Width, Value::Integer(width)).expect("in range").effective(256);
        assert_eq!(screen.misfit(&wide(48)), None);
        assert!(screen.misfit(&wide(2048)).is_some());
    }
}
