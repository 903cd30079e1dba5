//! Tests of the search, on a made-up response surface with noise and a simple judge.

use std::collections::BTreeSet;

use autoswarm_protocol::{
    CrashClass, Estimate, KnobGroup, Run, RunRole, SwarmConfig, TrainConfig, Verdict,
    experiment::DiscardReason, id::ArenaId, knobs::KNOBS, train_config::parse_value,
};

use super::*;

/// Returns a test objective with more lines.
pub(crate) fn objective(extra: &str) -> Objective {
    let text = format!(
        "name = \"test\"\n[objective]\nmetric = \"val_bpb\"\ncorpus = {{ source = \"crates\" }}\nevaluation = {{ context = 2048, tokens = 262144 }}\n{extra}\n"
    );
    SwarmConfig::parse(&text).expect("valid").objective
}

pub(crate) fn config(text: &str) -> EffectiveConfig {
    let set = |config: TrainConfig, part: &str| {
        let (name, value) = part.split_once('=').expect("knob=value");
        let knob = Knob::from_name(name).expect("a knob");
        config.with(knob, parse_value(knob, value).expect("a value")).expect("in range")
    };
    text.split_whitespace().fold(TrainConfig::new(), set).effective(2048)
}

pub(crate) fn machine() -> Machine {
    Machine::cpu(2, 8 << 30, 257)
}

/// The start of a two-core machine.
const START: &str = "depth=2 width=64 sequence_length=128 batch_tokens=4096";

/// What an experiment showed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shown {
    Keep(f64, f64),
    Discard(f64),
    Crash(CrashClass),
}

/// Makes an experiment as the journal would hold it.
pub(crate) fn experiment(
    number: u32,
    parent: Option<&EffectiveConfig>,
    child: &EffectiveConfig,
    because: &str,
    shown: Shown,
) -> Experiment {
    let patch = parent.map_or_else(Patch::default, |parent| Patch::between(parent, child));
    let (verdict, screens) = match shown {
        _ if parent.is_none() => (Verdict::Baseline, vec![]),
        Shown::Keep(delta, standard_error) => (
            Verdict::Keep { estimate: Estimate { delta, standard_error, pairs: 4 }, audit: None },
            vec![delta],
        ),
        Shown::Discard(screened) => (
            Verdict::Discard { reason: DiscardReason::NoGain, screened: Some(screened), estimate: None },
            vec![screened],
        ),
        Shown::Crash(class) => (Verdict::Crash { class, message: String::new() }, vec![]),
    };
    Experiment {
        number,
        arena: ArenaId::of(b"test"),
        parent: parent.map(EffectiveConfig::hash),
        config: child.clone(),
        attempt: 0,
        group: patch.group(),
        hypothesis: Hypothesis {
            proposer: if parent.is_some() { Author::Evolve } else { Author::Baseline },
            because: because.to_owned(),
            patch,
            simplifies: false,
            inspired_by: Vec::new(),
        },
        screens,
        runs: Vec::new(),
        verdict,
        started_at: 0,
        finished_at: 0,
    }
}

/// A night on a made-up machine.
struct Night {
    objective: Objective,
    surface: Surface,
    sigma: f64,
    rng: ChaCha8Rng,
    incumbent: EffectiveConfig,
    start: EffectiveConfig,
    number: u32,
}

/// Optima by knob with the loss of a step away, in bits per byte.
struct Surface(Vec<(Knob, f64, f64)>);

impl Surface {
    /// A dozen knobs that matter, off their optimum by up to three steps; and the rest, which are good as they are.
    fn new(space: &Space, start: &EffectiveConfig, rng: &mut ChaCha8Rng) -> Self {
        let rows = KNOBS.iter().map(|row| {
            let axis = space.axis(row.knob);
            let place = axis.coordinate(start.get(row.knob));
            let optimum =
                if rng.random::<f64>() < 0.3 { place + 1.6 * normal(rng) } else { place + 0.3 * normal(rng) };
            (row.knob, optimum, 0.03 * axis.interest * (0.7 * normal(rng)).exp())
        });
        Self(rows.collect())
    }

    fn value(&self, space: &Space, config: &EffectiveConfig) -> f64 {
        self.0
            .iter()
            .map(|(knob, optimum, loss)| {
                let axis = space.axis(*knob);
                let far = axis.coordinate(config.get(*knob)) - optimum;
                if axis.is_choice() {
                    loss * far.abs().min(1.0)
                } else {
                    loss * far * far / (1.0 + 0.2 * far.abs())
                }
            })
            .sum()
    }
}

impl Night {
    fn new(seed: u64, sigma: f64) -> Self {
        let objective = objective("");
        let start = config(START);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let space = Space::new(&objective, &Direction::default());
        let surface = Surface::new(&space, &start, &mut rng);
        Self { objective, surface, sigma, rng, incumbent: start.clone(), start, number: 0 }
    }

    fn regret(&self) -> f64 {
        let space = Space::new(&self.objective, &Direction::default());
        self.surface.value(&space, &self.incumbent) / self.surface.value(&space, &self.start)
    }

    /// Judges a child as the node does, roughly: a screen, then four pairs.
    fn judge(&mut self, child: &EffectiveConfig, because: &str) -> Experiment {
        let space = Space::new(&self.objective, &Direction::default());
        let gain = self.surface.value(&space, child) - self.surface.value(&space, &self.incumbent);
        let screened = gain + self.sigma * normal(&mut self.rng);
        let paired = gain + self.sigma / 2.0 * normal(&mut self.rng);
        self.number += 1;
        let shown = if screened < 0.5 * self.sigma && paired < -0.8 * self.sigma {
            Shown::Keep(paired, self.sigma / 2.0)
        } else {
            Shown::Discard(screened)
        };
        let parent = self.incumbent.clone();
        if let Shown::Keep(..) = shown {
            self.incumbent = child.clone();
        }
        experiment(self.number, Some(&parent), child, because, shown)
    }
}

/// Returns the share of the start's loss that is left after each experiment.
fn evolve_night(seed: u64, sigma: f64, experiments: u32) -> Vec<f64> {
    let mut night = Night::new(seed, sigma);
    let mut evolve = Evolve::new(night.objective.clone(), machine(), 20.0, seed);
    evolve.observe(&experiment(0, None, &night.start, "", Shown::Discard(0.0)));
    (0..experiments)
        .map(|_| {
            let incumbent = night.incumbent.clone();
            let suggestion = evolve.suggest(&incumbent, &[], night.number).expect("plenty is left");
            let proposal = suggestion.proposal;
            let judged = night.judge(&proposal.child, &proposal.hypothesis.because);
            evolve.observe(&judged);
            night.regret()
        })
        .collect()
}

/// The same with one to three knobs set to random values near the incumbent's.
fn random_night(seed: u64, sigma: f64, experiments: u32) -> Vec<f64> {
    let mut night = Night::new(seed, sigma);
    let space = Space::new(&night.objective, &Direction::default());
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0xabcd);
    (0..experiments)
        .map(|_| {
            let child = loop {
                let changes: Vec<(Knob, Value)> = (0..rng.random_range(1..=3))
                    .filter_map(|_| {
                        let knob = KNOBS[rng.random_range(0..KNOBS.len())].knob;
                        let moves = space.axis(knob).moves(night.incumbent.get(knob));
                        (!moves.is_empty()).then(|| (knob, moves[rng.random_range(0..moves.len())]))
                    })
                    .collect();
                if let Some((child, _)) = space.child(&night.incumbent, &changes) {
                    break child;
                }
            };
            night.judge(&child, "");
            night.regret()
        })
        .collect()
}

#[test]
fn evolve_beats_random_search() {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for seed in 0..24 {
        ours.push(evolve_night(seed, 0.03, 100));
        theirs.push(random_night(seed, 0.03, 100));
    }
    for at in [9, 19, 49, 99] {
        let mean =
            |nights: &[Vec<f64>]| nights.iter().map(|night| night[at]).sum::<f64>() / nights.len() as f64;
        eprintln!("{} evolve {:.3} random {:.3}", at + 1, mean(&ours), mean(&theirs));
    }
}
