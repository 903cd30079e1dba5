//! Tests of the search, on a made-up response surface with noise and a simple judge.

use std::collections::BTreeSet;

use autoswarm_protocol::{
    Bpb, CrashClass, Estimate, Experiment, Hypothesis, Knob, Outcome, Proposer, Run, RunReport, RunRole,
    SwarmConfig, TrainConfig, Value, Verdict, experiment::DiscardReason, id::ArenaId, knobs::KNOBS,
    train_config::parse_value,
};
use rand::{Rng, SeedableRng};

use super::{model::Model, normal::normal, operators, search::Search, space::Space, *};
use crate::{
    proposers::program::Scope,
    research::{PeerResult, Propose},
};

/// Returns a test objective with `extra` lines at its end.
pub(crate) fn objective(extra: &str) -> Objective {
    let text = format!(
        "name = \"test\"\n[objective]\nmetric = \"val_bpb\"\ncorpus = {{ source = \"crates\" }}\n\
         evaluation = {{ context = 2048, tokens = 262144 }}\n{extra}\n"
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

/// The config that a two-core machine starts from.
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
            proposer: if parent.is_some() { Proposer::Evolve } else { Proposer::Baseline },
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

/// Adds a finished run of the child to an experiment.
pub(crate) fn with_price(
    experiment: Experiment,
    tokens_per_second: f64,
    peak_memory_bytes: u64,
) -> Experiment {
    with_run(experiment, tokens_per_second, peak_memory_bytes, 2.0)
}

fn with_run(
    mut experiment: Experiment,
    tokens_per_second: f64,
    peak_memory_bytes: u64,
    value: f64,
) -> Experiment {
    let executed = experiment.config.hash();
    let (tokens, validation) = (20 * 1_000_000, Bpb::new(value).expect("positive"));
    let seconds = tokens as f64 / tokens_per_second;
    let report =
        RunReport { peak_memory_bytes, ..RunReport::simulated(executed, 1, tokens, seconds, validation) };
    experiment.runs.push(Run {
        role: RunRole::Screen,
        requested: executed,
        seed: 1,
        tokens: None,
        pair: None,
        slot: 0,
        started_at: 0,
        outcome: Outcome::Finished(Box::new(report)),
    });
    experiment
}

#[test]
fn importance_says_what_the_trials_taught() {
    let start = config(START);
    let mut evolve = Evolve::new(objective(""), machine(), 20.0, 1);
    assert_eq!(evolve.importance(), None, "no baseline, no belief");
    let mut baseline = experiment(0, None, &start, "", Shown::Discard(0.0));
    for value in [1.99, 2.0, 2.01] {
        baseline = with_run(baseline, 5e4, 0, value);
    }
    evolve.observe(&baseline);
    let find = |importance: &Importance, knob: Knob| {
        importance.knobs.iter().find(|belief| belief.knob == knob.name()).cloned().expect("an open knob")
    };
    let before = evolve.importance().expect("a baseline");
    assert!(before.knobs.is_sorted_by(|a, b| a.effect >= b.effect));
    // A lower rate for the embeddings always helps, a higher one always hurts, and the clip shows no effect.
    for (number, (change, delta)) in (1..).zip([
        ("embedding_lr=0.45", -0.08),
        ("embedding_lr=0.9", 0.09),
        ("embedding_lr=0.42", -0.06),
        ("gradient_clip=1", 0.001),
        ("gradient_clip=2", -0.001),
        ("gradient_clip=0.5", 0.002),
    ]) {
        let child = config(&format!("{START} {change}"));
        evolve.observe(&experiment(number, Some(&start), &child, "model: a step", Shown::Discard(delta)));
    }
    let after = evolve.importance().expect("a baseline");
    assert_eq!((after.trials, after.since_keep), (6, 6));
    let (rate, clip) = (find(&after, Knob::EmbeddingRate), find(&after, Knob::GradientClip));
    assert!(rate.effect > find(&before, Knob::EmbeddingRate).effect, "{rate:?}");
    assert!(rate.effect > 3.0 * clip.effect && rate.trials == 3, "{rate:?} {clip:?}");
    let step = rate.step.expect("a step");
    assert!(step.delta < -0.03 && step.chance > 0.9, "{step:?}");
    assert!((0.2..0.6).contains(&step.to.parse::<f64>().expect("a number")), "{step:?}");
    let model = after.operators.iter().find(|it| it.operator == "model").expect("every operator");
    assert_eq!((model.trials, model.keeps), (6, 0));
}

/// A night on a made-up machine.
struct Night {
    objective: Objective,
    surface: Surface,
    sigma: f64,
    rng: ChaCha8Rng,
    incumbent: EffectiveConfig,
    start: EffectiveConfig,
    /// The start's value, and the value with every knob at its best.
    reach: (f64, f64),
    number: u32,
}

/// For each knob its optimum (a coordinate) and the loss one step away from it, bits per byte.
struct Surface(Vec<(Knob, f64, f64)>);

impl Surface {
    /// Makes a surface: a dozen knobs are off their optimum by up to three steps, the rest are good already.
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
        let base = surface.value(&space, &start);
        let gain = |row: &autoswarm_protocol::knobs::KnobRow| {
            let values = space.axis(row.knob).all(start.get(row.knob));
            let children = values.into_iter().filter_map(|value| space.child(&start, &[(row.knob, value)]));
            children.map(|(child, _)| surface.value(&space, &child) - base).fold(0.0, f64::min)
        };
        let reach = (base, base + KNOBS.iter().map(gain).sum::<f64>());
        Self { objective, surface, sigma, rng, incumbent: start.clone(), start, reach, number: 0 }
    }

    /// Returns the share of the reachable gain that is still to be made.
    fn regret(&self) -> f64 {
        let space = Space::new(&self.objective, &Direction::default());
        let (base, floor) = self.reach;
        (self.surface.value(&space, &self.incumbent) - floor) / (base - floor)
    }

    /// Returns a baseline: the start, run three times.
    fn baseline(&self) -> Experiment {
        let mut baseline = experiment(0, None, &self.start, "", Shown::Discard(0.0));
        for value in [2.0 - self.sigma, 2.0, 2.0 + self.sigma] {
            baseline = with_run(baseline, 5e4, 0, value);
        }
        baseline
    }

    /// Judges a child roughly as the node does: by a screening run, then by four pairs.
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

/// Returns the share of the reachable gain that is left after each experiment.
fn evolve_night(seed: u64, sigma: f64, experiments: u32) -> Vec<f64> {
    let mut night = Night::new(seed, sigma);
    let mut evolve = Evolve::new(night.objective.clone(), machine(), 20.0, seed);
    evolve.observe(&night.baseline());
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

/// The same for random search, which sets one to three knobs to random values near the incumbent's.
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

/// Returns a search that has seen a baseline and nothing else.
fn fresh(objective: Objective, direction: &str) -> Evolve {
    let mut evolve = Evolve::new(objective, machine(), 20.0, 7);
    evolve.direct(Direction::parse(direction).expect("valid"));
    evolve.observe(&experiment(0, None, &config(START), "", Shown::Discard(0.0)));
    evolve
}

/// Proposes and discards until `count` experiments are done or nothing is left.
fn discard_all(evolve: &mut Evolve, count: u32) -> Vec<Suggestion> {
    let incumbent = config(START);
    let mut out = Vec::new();
    for number in 1..=count {
        let Ok(suggestion) = evolve.suggest(&incumbent, &[], number) else { break };
        let Proposal { child, hypothesis } = &suggestion.proposal;
        let judged = experiment(number, Some(&incumbent), child, &hypothesis.because, Shown::Discard(0.02));
        evolve.observe(&judged);
        out.push(suggestion);
    }
    out
}

/// Returns how many experiments it took until at most the share `left` of the reachable gain was left.
fn reached(night: &[f64], left: f64) -> usize {
    night.iter().position(|now| *now <= left).unwrap_or(night.len())
}

#[test]
fn evolve_beats_random_search() {
    let (mut ours, mut theirs, mut wins) = (0, 0, 0);
    for seed in 0..24 {
        let (evolve, random) = (evolve_night(seed, 0.01, 60), random_night(seed, 0.01, 60));
        ours += reached(&evolve, 0.75);
        theirs += reached(&random, 0.75);
        wins += usize::from(evolve[59] < random[59]);
    }
    // Nights that never get there count as 60, which flatters random search.
    assert!(ours * 3 < theirs * 2, "{ours} experiments against {theirs}");
    assert!(wins >= 18, "ahead after 60 experiments in {wins} of 24 nights");
}

#[test]
fn nothing_is_proposed_twice_and_every_patch_applies() {
    let mut evolve = fresh(objective(""), "");
    let incumbent = config(START);
    let mut seen = BTreeSet::from([incumbent.hash()]);
    let suggestions = discard_all(&mut evolve, 2000);
    assert_eq!(suggestions.len(), 2000);
    for Suggestion { proposal: Proposal { child, hypothesis }, operator, .. } in suggestions {
        assert!(seen.insert(child.hash()), "{} again", hypothesis.patch);
        assert!(!hypothesis.patch.is_empty());
        assert_eq!(hypothesis.patch.apply(&incumbent), Ok(TrainConfig::clone(&child)));
        assert_eq!(child.effective(2048), child, "{}", hypothesis.patch);
        assert_eq!(Operator::of(&hypothesis.because), Some(operator), "{}", hypothesis.because);
    }
}

#[test]
fn the_same_seed_proposes_the_same_also_after_a_restart() {
    let mut first = fresh(objective(""), "");
    let run = discard_all(&mut first, 40);
    assert_eq!(discard_all(&mut fresh(objective(""), ""), 40), run);
    let mut restarted = fresh(objective(""), "");
    let incumbent = config(START);
    for (number, suggestion) in run.iter().take(39).enumerate() {
        let Proposal { child, hypothesis } = &suggestion.proposal;
        let shown = Shown::Discard(0.02);
        restarted.observe(&experiment(
            number as u32 + 1,
            Some(&incumbent),
            child,
            &hypothesis.because,
            shown,
        ));
    }
    assert_eq!(restarted.suggest(&incumbent, &[], 40).as_ref(), Ok(&run[39]));
}

#[test]
fn runs_in_flight_are_not_proposed_again() {
    let mut evolve = fresh(objective(""), "");
    let mut pending = Vec::new();
    for number in 1..=64 {
        let suggestion = evolve.suggest(&config(START), &pending, number).expect("plenty is left");
        assert!(!pending.contains(&suggestion.proposal.child.hash()));
        pending.push(suggestion.proposal.child.hash());
    }
}

#[test]
fn frozen_knobs_ranges_focus_and_avoid_are_obeyed() {
    let limits = "search = { frozen = [\"depth\", \"dropout\"], \
        ranges = { matrix_lr = [0.02, 0.06], activation = [\"relu2\", \"gelu\"] } }";
    let program = "+++\nfocus = [\"shape\", \"matrix_lr\", \"batch_tokens\"]\navoid = [\"softcap\"]\n+++";
    let objective = objective(limits);
    let suggestions = discard_all(&mut fresh(objective.clone(), program), 300);
    assert!(suggestions.len() >= 200, "{}", suggestions.len());
    let mut changed = BTreeSet::new();
    for suggestion in &suggestions {
        for (knob, change) in suggestion.proposal.hypothesis.patch.iter() {
            assert!(objective.allows(knob, change.to), "{}", suggestion.proposal.hypothesis.patch);
            changed.insert(knob);
        }
    }
    for forbidden in [Knob::Depth, Knob::Dropout, Knob::Softcap, Knob::Warmdown, Knob::MuonMomentum] {
        assert!(!changed.contains(&forbidden), "{forbidden}");
    }
    for wanted in [Knob::MatrixRate, Knob::BatchTokens, Knob::Width, Knob::Activation] {
        assert!(changed.contains(&wanted), "{wanted}");
    }
}

#[test]
fn a_scope_of_a_person_holds() {
    let sizes = |scope: &str| -> BTreeSet<usize> {
        let direction =
            format!("+++\nscope = \"{scope}\"\navoid = [\"head_dim\", \"value_embeddings\"]\n+++");
        let suggestions = discard_all(&mut fresh(objective(""), &direction), 60);
        suggestions.iter().map(|suggestion| suggestion.proposal.hypothesis.patch.len()).collect()
    };
    // Switching a part off also resets its knobs; none of those left differs from its default at the start.
    assert_eq!(sizes("narrow"), BTreeSet::from([1]));
    assert!(sizes("focused").iter().all(|size| *size <= 3));
    assert!(sizes("broad").iter().any(|size| *size >= 4));
}

#[test]
fn an_empty_direction_says_so() {
    let incumbent = config(START);
    let mut evolve = fresh(objective("search = { frozen = [\"depth\"] }"), "+++\nfocus = [\"depth\"]\n+++");
    assert_eq!(evolve.suggest(&incumbent, &[], 1), Err(Exhausted::NoKnobs));
    let mut evolve = fresh(objective(""), "+++\nfocus = [\"muon_nesterov\", \"cautious_decay\"]\n+++");
    let all = discard_all(&mut evolve, 10);
    assert_eq!(all.len(), 3, "each alone and both together");
    assert_eq!(evolve.exhausted(), Some(Exhausted::NothingNew));
}

#[test]
fn one_knob_moves_at_first_several_when_nothing_is_kept_and_then_many() {
    let objective = objective("search = { priors = false, frozen = [\"head_dim\", \"value_embeddings\"] }");
    let mut evolve = fresh(objective, "");
    let suggestions = discard_all(&mut evolve, 120);
    let sizes: Vec<usize> = suggestions.iter().map(|it| it.proposal.hypothesis.patch.len()).collect();
    let (early, late) = (&sizes[..20], &sizes[20..]);
    let single =
        |sizes: &[usize]| sizes.iter().filter(|size| **size == 1).count() as f64 / sizes.len() as f64;
    assert!(single(early) > 0.6 && single(late) < 0.6, "{early:?} {late:?}");
    assert!(early.iter().all(|size| *size <= 4) && late.iter().any(|size| *size > 4), "{early:?} {late:?}");
    let child = config("depth=3 width=64 sequence_length=128 batch_tokens=2048");
    evolve.observe(&experiment(121, Some(&config(START)), &child, "", Shown::Keep(-0.05, 0.01)));
    let next = evolve.suggest(&child, &[], 122).expect("plenty is left");
    assert!(next.proposal.hypothesis.patch.len() <= 4, "{}", next.proposal.hypothesis.patch);
}

#[test]
fn a_proposal_takes_milliseconds() {
    let mut evolve = fresh(objective(""), "");
    discard_all(&mut evolve, 500);
    let incumbent = config(START);
    // The CPU time of this thread, so that other work on the machine does not count.
    let seconds = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
    };
    let started = seconds();
    for number in 0..20 {
        evolve.suggest(&incumbent, &[], 1000 + number).expect("plenty is left");
    }
    // 5 ms is what it takes.
    let each = (seconds() - started) / 20.0;
    assert!(each < 0.05, "{each} s");
}

/// Returns what one operator lists after some experiments, as `patch | because`.
fn listed(operator: Operator, scope: Scope, experiments: &[Experiment]) -> Vec<String> {
    let ledger = Ledger::from_experiments(experiments);
    let objective = objective("");
    let direction = Direction::default();
    let context = Context {
        objective: &objective,
        ledger: &ledger,
        incumbent: ledger.incumbent().expect("a baseline"),
        pending: &[],
        pending_patches: &[],
        direction: &direction,
        budget_seconds: 20.0,
        machine: machine(),
        peer_results: &PeerResults::default(),
    };
    let search = Search::new(&context);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let candidates = operators::candidates(operator, &search, scope, &mut rng);
    candidates
        .into_iter()
        .filter_map(|candidate| search.viable(candidate))
        .map(|viable| {
            let simpler = if viable.candidate.simplifies { " (simplifies)" } else { "" };
            format!("{} | {}{simpler}", viable.patch, viable.candidate.because)
        })
        .collect()
}

#[track_caller]
fn check_listed(operator: Operator, experiments: &[Experiment], expected: &[&str]) {
    let listed = listed(operator, Scope::Narrow, experiments);
    for line in expected {
        assert!(listed.iter().any(|found| found == line), "`{line}` is not in {listed:#?}");
    }
}

fn history(steps: &[(&str, Shown)]) -> Vec<Experiment> {
    let mut incumbent = config(START);
    let mut experiments = vec![experiment(0, None, &incumbent, "", Shown::Discard(0.0))];
    for (number, (change, shown)) in steps.iter().enumerate() {
        let child = config(&format!("{START} {change}"));
        experiments.push(experiment(number as u32 + 1, Some(&incumbent), &child, "", *shown));
        if matches!(shown, Shown::Keep(..)) {
            incumbent = child;
        }
    }
    experiments
}

const WON: Shown = Shown::Keep(-0.03, 0.005);

#[test]
fn prior_art_moves_from_where_the_incumbent_stands() {
    check_listed(
        Operator::Prior,
        &history(&[]),
        &[
            "batch_tokens 4096 → 2048 | prior art: halving the batch was the reference's first large gain, \
             and the largest on small GPUs",
            "warmdown 0.5 → 0.65 | prior art: the reference and nanochat both lengthened the warm-down",
        ],
    );
    let tried = history(&[("batch_tokens=2048", Shown::Discard(0.1))]);
    let again = listed(Operator::Prior, Scope::Narrow, &tried);
    assert!(!again.iter().any(|line| line.starts_with("batch_tokens 4096 → 2048")), "{again:#?}");
}

#[test]
fn every_prior_names_values_that_exist() {
    for prior in priors::PRIORS {
        for (knob, target) in prior.changes {
            if let priors::PriorTarget::Set(text) = target {
                assert!(parse_value(*knob, text).is_ok(), "{knob} {text}");
            }
        }
        assert!(prior.because.len() < 120, "{}", prior.because);
    }
    let found = listed(Operator::Prior, Scope::Narrow, &history(&[]));
    assert!(found.len() >= 20, "{found:#?}");
}

#[test]
fn scale_says_what_a_change_buys() {
    let found = listed(Operator::Scale, Scope::Narrow, &history(&[]));
    for start in [
        "batch_tokens 4096 → 2048 | scale: ",
        "depth 2 → 3 | ",
        "width 64 → 96 | ",
        "sequence_length 128 → 256 | ",
    ] {
        assert!(found.iter().any(|line| line.starts_with(start)), "{start}: {found:#?}");
    }
    assert!(
        found
            .iter()
            .any(|line| line == "matrix_lr 0.04 → 0.061 | scale: the main rate follows batch and width"),
        "{found:#?}"
    );
    let wide = listed(Operator::Scale, Scope::Focused, &history(&[]));
    assert!(
        wide.iter().any(|line| line.starts_with("batch_tokens 4096 → 2048, matrix_lr 0.04 → 0.026")),
        "{wide:#?}"
    );
}

#[test]
fn a_win_is_bracketed() {
    check_listed(
        Operator::Bracket,
        &history(&[("matrix_lr=0.02", WON)]),
        &[
            "matrix_lr 0.02 → 0.014 | bracket: `matrix_lr 0.04 → 0.02` won; half as far again",
            "matrix_lr 0.02 → 0.028 | bracket: `matrix_lr 0.04 → 0.02` won; half-way",
        ],
    );
    check_listed(
        Operator::Bracket,
        &history(&[("depth=3", WON)]),
        &["depth 3 → 4 | bracket: `depth 2 → 3` won; half as far again"],
    );
    assert!(listed(Operator::Bracket, Scope::Narrow, &history(&[("activation=gelu", WON)])).is_empty());
    assert!(
        listed(Operator::Bracket, Scope::Narrow, &history(&[("depth=3", Shown::Discard(0.1))])).is_empty()
    );
}

#[test]
fn a_kept_change_of_several_knobs_is_split() {
    check_listed(
        Operator::Split,
        &history(&[("matrix_lr=0.02 softcap=20", WON)]),
        &[
            "softcap 20 → 15 | split: did `softcap` help in `softcap 15 → 20, matrix_lr 0.04 → 0.02`? \
             (simplifies)",
            "matrix_lr 0.02 → 0.04 | split: did `matrix_lr` help in `softcap 15 → 20, matrix_lr 0.04 → \
             0.02`? (simplifies)",
        ],
    );
    assert!(listed(Operator::Split, Scope::Narrow, &history(&[("matrix_lr=0.02", WON)])).is_empty());
}

#[test]
fn old_changes_and_parts_are_ablated() {
    let experiments = history(&[("matrix_lr=0.02", WON), ("matrix_lr=0.02 softcap=20", WON)]);
    check_listed(
        Operator::Ablation,
        &experiments,
        &[
            "matrix_lr 0.02 → 0.04 | ablation: is the change of `matrix_lr` still worth it? (simplifies)",
            "embedding_norm on → off | ablation: does `embedding_norm` earn its place at this budget? \
             (simplifies)",
            "softcap 20 → 0 | ablation: does `softcap` earn its place at this budget? (simplifies)",
        ],
    );
    let found = listed(Operator::Ablation, Scope::Narrow, &experiments);
    assert!(
        !found.iter().any(|line| line.starts_with("softcap 20 → 15")),
        "that is the config before: {found:#?}"
    );
}

#[test]
fn near_misses_are_recombined() {
    let experiments = history(&[
        ("matrix_lr=0.03", Shown::Discard(-0.01)),
        ("softcap=20", Shown::Discard(-0.005)),
        ("depth=1", Shown::Discard(0.3)),
    ]);
    check_listed(
        Operator::Recombination,
        &experiments,
        &["softcap 15 → 20, matrix_lr 0.04 → 0.03 | recombination: experiments 1 and 2 each came near"],
    );
}

#[test]
fn what_peers_say_moves_beliefs_and_own_runs_overrule_it() {
    let space = Space::new(&objective(""), &Direction::default());
    let patch = |change: &str| Patch::parse(change, &config(START)).expect("valid");
    let result = |change: &str, delta: f64, same_arena: bool| PeerResult {
        patch: patch(change),
        delta,
        standard_error: 0.001,
        authors: 30,
        belief: 1.0,
        same_arena,
    };
    let belief = |experiments: &[Experiment], results: &[PeerResult], change: &str| {
        let ledger = Ledger::from_experiments(experiments);
        Model::fit(&space, &ledger, results, &[]).predict(&space, &patch(change))
    };
    let lost = [result("softcap 20", 0.1, true)];
    let alone = belief(&history(&[]), &[], "softcap 20");
    let told = belief(&history(&[]), &lost, "softcap 20");
    assert!(told.mean > alone.mean && told.sd < alone.sd, "{told:?} {alone:?}");
    let elsewhere = belief(&history(&[]), &[result("softcap 20", 0.1, false)], "softcap 20");
    assert!(elsewhere.mean < told.mean && elsewhere.sd > told.sd, "{elsewhere:?}");
    let doubtful = [PeerResult { belief: 0.1, ..result("softcap 20", 0.1, true) }];
    let moved = belief(&history(&[]), &doubtful, "softcap 20").mean - alone.mean;
    assert!(moved > 0.0 && moved < 0.15 * (told.mean - alone.mean), "{moved}");
    // However many peers say it, and however sure they are, what was seen here counts more.
    let seen = history(&[("softcap=20", Shown::Keep(-0.05, 0.005)), ("softcap=15", Shown::Discard(0.05))]);
    assert!(belief(&seen, &lost, "softcap 20").mean < 0.0);
}

#[test]
fn what_a_peer_is_at_is_tried_later() {
    let mut evolve = Evolve::new(objective(""), machine(), 20.0, 5);
    evolve.observe(&experiment(0, None, &config(START), "", Shown::Discard(0.0)));
    let first = evolve.suggest(&config(START), &[], 1).expect("plenty").proposal.child.hash();
    let claimed = BTreeSet::from([first]);
    evolve.take_peer_results(PeerResults { results: Vec::new(), claimed });
    let other = evolve.suggest(&config(START), &[], 1).expect("plenty").proposal.child.hash();
    assert_ne!(first, other);
}

#[test]
fn the_model_learns_directions_and_shuns_crashes() {
    let experiments = history(&[
        ("matrix_lr=0.06", Shown::Discard(0.08)),
        ("batch_tokens=8192", Shown::Crash(CrashClass::OutOfMemory)),
    ]);
    let ledger = Ledger::from_experiments(&experiments);
    let space = Space::new(&objective(""), &Direction::default());
    let model = Model::fit(&space, &ledger, &[], &[]);
    let by = |model: &Model, change: &str| {
        let patch = Patch::parse(change, &config(START)).expect("valid");
        model.predict(&space, &patch)
    };
    let expects = |change: &str| by(&model, change);
    let ignorant = Model::fit(&space, &Ledger::from_experiments(&experiments[..1]), &[], &[]);
    let (other_way, before) = (expects("matrix_lr 0.03"), by(&ignorant, "matrix_lr 0.03"));
    assert!(other_way.mean < 0.5 * before.mean, "{other_way:?} {before:?}");
    assert!(expects("matrix_lr 0.08").mean > 0.03, "{:?}", expects("matrix_lr 0.08"));
    assert!(expects("batch_tokens 16384").mean > expects("batch_tokens 2048").mean);
    let unseen = expects("softcap 20");
    assert!(unseen.sd > 0.0 && unseen.mean > 0.0, "{unseen:?}");
    let pending = Patch::parse("softcap 20", &config(START)).expect("valid");
    let waiting = Model::fit(&space, &ledger, &[], std::slice::from_ref(&pending));
    assert!(waiting.predict(&space, &pending).sd < unseen.sd);
}

#[test]
fn what_several_knobs_cost_adds_up_and_a_ruinous_one_stays_alone() {
    let start = config(START);
    let direction = Direction::default();
    let space = Space::new(&objective(""), &direction);
    let patch = |change: &str| Patch::between(&start, &config(&format!("{START} {change}")));
    let (one, two) = ("matrix_lr=0.06", "matrix_lr=0.06 warmdown=0.65");
    let believed = |model: &Model, change: &str| model.predict(&space, &patch(change)).mean;
    let ignorant = Model::fit(&space, &Ledger::from_experiments(&history(&[])), &[], &[]);
    let parts = believed(&ignorant, one) + believed(&ignorant, "warmdown=0.65");
    assert!((believed(&ignorant, two) - parts).abs() < 1e-12 && parts > 0.0);
    // The two lost far more together than a bad step of either usually does; ten times that says little more.
    let after = |delta: f64| {
        let ledger = Ledger::from_experiments(&history(&[(two, Shown::Discard(delta))]));
        believed(&Model::fit(&space, &ledger, &[], &[]), one)
    };
    assert!(after(0.5) > believed(&ignorant, one), "it is still a loss");
    assert!(after(5.0) < 3.0 * after(0.5), "{} {}", after(5.0), after(0.5));
}

#[test]
fn what_does_not_fit_is_not_proposed() {
    let objective = objective("");
    let tight = Machine { memory_bytes: 600 << 20, ..machine() };
    let mut evolve = Evolve::new(objective, tight, 20.0, 3);
    evolve.observe(&experiment(0, None, &config(START), "", Shown::Discard(0.0)));
    for suggestion in discard_all(&mut evolve, 300) {
        assert!(suggestion.prediction.memory_bytes < 600e6, "{}", suggestion.proposal.hypothesis.patch);
        assert!(suggestion.prediction.steps > 30.0, "{}", suggestion.proposal.hypothesis.patch);
    }
}
