//! Tests of the research state machine: whole sessions on a made-up surface, in virtual time.

use std::collections::BTreeMap;

use autoswarm_protocol::{
    Bpb, Crash, CrashClass, Knob, RunReport, TrainConfig, Value,
    id::{ArenaId, RecordId},
    outcome::CurvePoint,
    pruning::{CURVE_POINTS, PRUNE_POINTS, curve_point},
};

use super::*;

const CONTEXT: usize = 256;
const RUN_SECONDS: u64 = 20;

/// Proposes one-knob changes of the matrix rate in a fixed order; some gain, some lose.
struct Scripted {
    rates: Vec<f64>,
    observed: Vec<u32>,
}

impl Propose for Scripted {
    fn observe(&mut self, experiment: &Experiment) {
        self.observed.push(experiment.number);
    }

    fn propose(
        &mut self,
        incumbent: &EffectiveConfig,
        pending: &[ConfigHash],
        number: u32,
    ) -> Option<Proposal> {
        let rate = *self.rates.get(number as usize % self.rates.len())?;
        // The dropout makes every child new; it changes nothing on the surface.
        let dropout = f64::from(number % 10) * 0.05;
        let child = incumbent
            .with(Knob::MatrixRate, Value::Number(rate))
            .and_then(|child| child.with(Knob::Dropout, Value::Number(dropout)))
            .expect("in range")
            .effective(CONTEXT);
        let patch = Patch::between(incumbent, &child);
        if patch.is_empty() || pending.contains(&child.hash()) {
            return self.propose(incumbent, pending, number + 1);
        }
        let hypothesis = Hypothesis {
            proposer: Author::Evolve,
            because: "scripted".to_owned(),
            patch,
            simplifies: false,
            inspired_by: Vec::new(),
        };
        Some(Proposal { child, hypothesis })
    }
}

/// Lower matrix rates are better on this surface, down to 0.01.
fn surface(config: &EffectiveConfig, seed: u64) -> f64 {
    let rate = config.number(Knob::MatrixRate);
    let noise = (seed % 1000) as f64 / 1000.0 * 0.01;
    let own = f64::from(config.hash().as_bytes()[0]) / 256.0 * 0.002;
    2.0 + 0.1 * (rate / 0.01).ln().abs() + noise + own
}

fn report(config: &EffectiveConfig, seed: u64, tokens: u64) -> Outcome {
    let bpb = |above: f64| Bpb::new(surface(config, seed) + above).expect("finite");
    Outcome::Finished(Box::new(RunReport {
        audit: Some(bpb(0.01)),
        ..RunReport::simulated(config.hash(), seed, tokens, RUN_SECONDS as f64, bpb(0.0))
    }))
}

fn crash(class: CrashClass) -> Outcome {
    Outcome::Crashed(Crash { class, message: "test".to_owned(), seconds: 1.0 })
}

/// A session in virtual time.
struct Session {
    research: Research,
    now: u64,
    ends: BTreeMap<(u64, u64), RunOrder>,
    journal: Vec<Experiment>,
    notes: Vec<String>,
    finished: bool,
    halted: Option<String>,
    runs_made: Vec<(ConfigHash, u64, RunRole)>,
}

fn rules(slots: usize, experiments: u32) -> Rules {
    Rules {
        arena: ArenaId::of(b"test"),
        context: CONTEXT,
        slots,
        baseline: TrainConfig::new().effective(CONTEXT),
        policy: Policy::default(),
        experiments: Some(experiments),
    }
}

fn proposer() -> Scripted {
    Scripted { rates: vec![0.05, 0.03, 0.08, 0.02, 0.1, 0.3], observed: Vec::new() }
}

impl Session {
    fn new(slots: usize, experiments: u32) -> Self {
        Self::resume(rules(slots, experiments), Vec::new(), Vec::new())
    }

    fn resume(rules: Rules, journal: Vec<Experiment>, pending: Vec<Active>) -> Self {
        Self::resume_with(proposer(), rules, journal, pending)
    }

    fn resume_with(proposer: Scripted, rules: Rules, journal: Vec<Experiment>, pending: Vec<Active>) -> Self {
        let research = Research::new(rules, Box::new(proposer), &journal, pending, 0);
        let mut session = Self {
            research,
            now: 1000,
            ends: BTreeMap::new(),
            journal,
            notes: Vec::new(),
            finished: false,
            halted: None,
            runs_made: Vec::new(),
        };
        session.give(Input::Start);
        session
    }

    fn give(&mut self, event: Input) {
        for action in self.research.handle(event, self.now) {
            match action {
                Action::Run(order) => {
                    assert!(self.ends.values().all(|other| other.slot != order.slot), "two runs on one slot");
                    self.ends.insert((self.now + RUN_SECONDS, order.id), *order);
                }
                Action::Conclude(experiment) => self.journal.push(*experiment),
                Action::Note(note) => self.notes.push(note),
                Action::Finish => self.finished = true,
                Action::Halt(why) => self.halted = Some(why),
                Action::Propose { .. } | Action::TryBegan { .. } | Action::TryRefused { .. } => {}
            }
        }
    }

    /// Ends the run that is due next, with the outcome that `outcome` gives it; false if no run is left.
    fn step(&mut self, outcome: impl Fn(&RunOrder) -> Outcome) -> bool {
        let Some(((at, _), order)) = self.ends.pop_first() else { return false };
        self.now = at;
        self.runs_made.push((order.config.hash(), order.seed, order.role));
        let outcome = Box::new(outcome(&order));
        self.give(Input::RunEnded {
            id: order.id,
            started_at: at - RUN_SECONDS,
            outcome,
            better_tokens: None,
        });
        true
    }

    fn run(mut self) -> Self {
        while self.halted.is_none() && self.step(finish) {}
        self
    }

    fn hours(&self) -> f64 {
        (self.now - 1000) as f64 / 3600.0
    }
}

fn finish(order: &RunOrder) -> Outcome {
    report(&order.config, order.seed, order.tokens.unwrap_or(1000))
}

fn keeps(journal: &[Experiment]) -> usize {
    journal.iter().filter(|experiment| matches!(experiment.verdict, Verdict::Keep { .. })).count()
}

#[test]
fn a_session_ends_after_its_experiments_with_the_gains_kept() {
    for slots in [1, 2, 8] {
        let session = Session::new(slots, 12).run();
        assert!(session.finished && session.halted.is_none(), "{slots} slots");
        assert!(matches!(session.journal[0].verdict, Verdict::Baseline));
        let superseded = session.journal.iter().filter(|experiment| {
            matches!(experiment.verdict, Verdict::Discard { reason: DiscardReason::Superseded, .. })
        });
        assert_eq!(session.journal.len(), 1 + 12 + superseded.count(), "{slots} slots");
        assert!(keeps(&session.journal) >= 1, "{slots} slots");
        let incumbent = session.research.incumbent().expect("a baseline");
        assert!(incumbent.config.number(Knob::MatrixRate) < 0.04, "{slots} slots");
    }
}

#[test]
fn every_keep_rests_on_fresh_pairs_at_equal_tokens() {
    let session = Session::new(2, 12).run();
    for experiment in &session.journal {
        let Verdict::Keep { estimate, audit } = &experiment.verdict else { continue };
        let halves = |role| experiment.runs.iter().filter(|run| run.role == role).count();
        assert!(estimate.pairs >= 2);
        assert_eq!(halves(RunRole::Child), usize::from(estimate.pairs));
        assert_eq!(halves(RunRole::Incumbent), usize::from(estimate.pairs));
        assert!(audit.is_some());
        assert!(experiment.runs.iter().all(|run| run.tokens == Some(1000)));
    }
}

/// A session of sixty changes, each a small gain on those before.
fn many_small_keeps(slots: usize, journal: Vec<Experiment>, pending: Vec<Active>) -> Session {
    let rates = (0..60).map(|step| 0.04 * 0.97f64.powi(step)).collect();
    let proposer = Scripted { rates, observed: Vec::new() };
    Session::resume_with(proposer, rules(slots, 60), journal, pending)
}

#[test]
fn a_first_look_is_compared_with_a_run_of_its_own_parent() {
    // As noisy as real runs, so that many pairs are needed and an experiment outlives its incumbent.
    let noisy = |config: &EffectiveConfig, seed: u64| {
        let luck = ArenaId::of(&[config.hash().as_bytes().as_slice(), &seed.to_le_bytes()].concat());
        surface(config, seed) + 0.04 * (f64::from(luck.as_bytes()[0]) / 256.0 - 0.5)
    };
    let finish = |order: &RunOrder| {
        let Outcome::Finished(report) = finish(order) else { unreachable!("`finish` finishes") };
        let validation = Bpb::new(noisy(&order.config, order.seed)).expect("finite");
        Outcome::Finished(Box::new(RunReport { validation, ..*report }))
    };
    let check = |journal: &[Experiment], what: &str| {
        let configs: BTreeMap<ConfigHash, &EffectiveConfig> =
            journal.iter().map(|it| (it.config.hash(), &it.config)).collect();
        for experiment in journal {
            let Some(parent) = experiment.parent.map(|parent| configs[&parent]) else { continue };
            let seeds = experiment.runs.iter().filter(|run| run.role == RunRole::Screen).map(|run| run.seed);
            for (seed, difference) in seeds.zip(&experiment.screens) {
                let expected = noisy(&experiment.config, seed) - noisy(parent, seed);
                let number = experiment.number;
                assert!(
                    (difference - expected).abs() < 1e-12,
                    "{what}, #{number}: {difference}, not {expected}"
                );
            }
        }
    };
    for slots in [1, 2, 8] {
        let mut whole = many_small_keeps(slots, Vec::new(), Vec::new());
        while whole.step(finish) {}
        assert!(keeps(&whole.journal) >= 4, "{slots} slots: {}", keeps(&whole.journal));
        check(&whole.journal, &format!("{slots} slots"));
        for cut in (0..whole.runs_made.len()).step_by(7) {
            let what = format!("{slots} slots, cut after {cut} runs");
            let mut first = many_small_keeps(slots, Vec::new(), Vec::new());
            for _ in 0..cut {
                first.step(finish);
            }
            let pending = first.research.pending().to_vec();
            let mut second = many_small_keeps(slots, first.journal.clone(), pending);
            // The incumbent's cached values are known as before, as long as none is too old.
            for seed in (0..first.research.screening.next_seed()).filter(|_| cut < 60) {
                let known = |session: &Session| session.research.screening.value(seed);
                assert_eq!(known(&second), known(&first), "{what}, seed {seed}");
            }
            while second.step(finish) {}
            check(&second.journal, &what);
        }
    }
}

#[test]
fn one_slot_runs_pairs_in_the_order_a_b_b_a() {
    let session = Session::new(1, 12).run();
    let keep = session.journal.iter().find(|e| matches!(e.verdict, Verdict::Keep { .. })).expect("a keep");
    let roles: Vec<RunRole> =
        keep.runs.iter().filter(|run| run.pair.is_some()).map(|run| run.role).take(4).collect();
    assert_eq!(roles, [RunRole::Child, RunRole::Incumbent, RunRole::Incumbent, RunRole::Child]);
}

#[test]
fn eight_slots_do_seven_times_the_experiments_of_one() {
    // A night of eight hours, however many experiments that makes.
    let per_hour = |slots| {
        let mut session = Session::new(slots, 100_000);
        while session.hours() < 8.0 && session.step(finish) {}
        session.journal.len() as f64 / session.hours()
    };
    let (one, eight) = (per_hour(1), per_hour(8));
    assert!(eight >= 7.0 * one, "{one} and {eight} experiments an hour");
}

#[test]
fn a_killed_run_is_repeated_and_costs_no_experiment() {
    for slots in [1, 2, 8] {
        let mut session = Session::new(slots, 6);
        for _ in 0..5 {
            session.step(finish);
        }
        session.step(|_| crash(CrashClass::Killed));
        let session = session.run();
        assert!(session.finished, "{slots} slots");
        assert!(session.journal.iter().all(|e| !matches!(e.verdict, Verdict::Crash { .. })), "{slots} slots");
    }
}

#[test]
fn a_config_that_crashes_is_a_crash_and_the_loop_goes_on() {
    let mut session = Session::new(1, 6);
    while session.step(|order| {
        if order.config.number(Knob::MatrixRate) > 0.09 {
            crash(CrashClass::NotANumber)
        } else {
            finish(order)
        }
    }) {}
    assert!(session.finished);
    let crashes = session.journal.iter().filter(|e| matches!(e.verdict, Verdict::Crash { .. })).count();
    assert!(crashes >= 1);
}

#[test]
fn a_run_that_is_late_at_a_known_price_is_run_again() {
    let late_once = |is_due: fn(&RunOrder) -> bool| {
        let mut session = Session::new(1, 14);
        let late = std::cell::Cell::new(false);
        while session.step(|order| {
            if is_due(order) && !late.replace(true) { crash(CrashClass::TimedOut) } else { finish(order) }
        }) {}
        assert!(late.get() && session.finished);
        session.journal.iter().filter(|e| matches!(e.verdict, Verdict::Crash { .. })).count()
    };
    assert_eq!(late_once(|order| order.pair == Some(1) && order.role == RunRole::Child), 0);
    // A new config whose speed is known from another one.
    assert_eq!(late_once(|order| order.role == RunRole::Screen && order.tokens.is_some()), 0);
}

#[test]
fn a_machine_that_became_slow_is_not_its_configs_fault() {
    let mut session = Session::new(1, 14);
    let number = std::cell::Cell::new(None);
    // A new config whose speed is known from another one.
    let is_late = |order: &RunOrder| {
        order.role == RunRole::Screen
            && order.tokens.is_some()
            && number.get().is_none_or(|number| number == order.number)
    };
    while session.step(|order| {
        if is_late(order) {
            number.set(Some(order.number));
            crash(CrashClass::TimedOut)
        } else {
            finish(order)
        }
    }) {}
    assert!(session.finished && session.halted.is_none());
    let late =
        session.journal.iter().find(|experiment| Some(experiment.number) == number.get()).expect("judged");
    let gave_none = late.runs.iter().filter(|run| run.validation().is_none());
    assert_eq!(gave_none.count(), MAX_TRIES as usize, "{late:?}");
    assert!(matches!(late.verdict, Verdict::Crash { class: CrashClass::Starved, .. }), "{:?}", late.verdict);
    // If every run is late, no config of a known speed is blamed; the node halts and asks a person.
    let mut session = Session::new(1, 8);
    while session.halted.is_none()
        && session.step(|order| if order.number > 3 { crash(CrashClass::TimedOut) } else { finish(order) })
    {
    }
    assert!(session.halted.is_some_and(|why| why.contains("far slower")));
}

#[test]
fn a_machine_that_only_fails_halts_with_a_word() {
    let mut session = Session::new(1, 6);
    while session.halted.is_none() && session.step(|_| crash(CrashClass::NotStarted)) {}
    assert!(session.halted.expect("halted").contains("not started"));
}

#[test]
fn a_restart_at_any_moment_loses_no_run_and_counts_none_twice() {
    let whole = Session::new(1, 8).run();
    for cut in 0..whole.runs_made.len() {
        let mut first = Session::new(1, 8);
        for _ in 0..cut {
            first.step(finish);
        }
        // Killed here. On disk are the journal and, as JSON, the experiments in flight.
        let json = serde_json::to_string(first.research.pending()).expect("serializable");
        let pending: Vec<Active> = serde_json::from_str(&json).expect("readable");
        let done = first.journal.len() + pending.len();
        let left = 8 - (done as u32).saturating_sub(1).min(8)
            + pending.iter().filter(|a| a.parent.is_some()).count() as u32;
        let second = Session::resume(rules(1, left), first.journal.clone(), pending).run();
        assert_eq!(second.journal.len(), whole.journal.len(), "cut after {cut} runs");
        let numbers: Vec<u32> = second.journal.iter().map(|experiment| experiment.number).collect();
        assert_eq!(numbers, (0..numbers.len() as u32).collect::<Vec<_>>(), "cut after {cut} runs");
        let made = first.runs_made.len() + second.runs_made.len();
        assert_eq!(made, whole.runs_made.len(), "cut after {cut} runs");
        for (a, b) in second.journal.iter().zip(&whole.journal) {
            assert_eq!(a.config, b.config, "cut after {cut} runs");
            assert_eq!(a.verdict, b.verdict, "cut after {cut} runs, experiment {}", a.number);
        }
    }
}

#[test]
fn a_persons_try_goes_first_and_on_top_of_the_count() {
    let mut session = Session::new(1, 2);
    for _ in 0..4 {
        session.step(finish);
    }
    let baseline = session.research.baseline().clone();
    let patch = Patch::parse("warmup 0.1", &baseline).expect("valid");
    let child = patch.apply(&baseline).expect("applies").effective(CONTEXT);
    let hypothesis = Hypothesis {
        proposer: Author::Person,
        because: "a hunch".to_owned(),
        patch,
        simplifies: false,
        inspired_by: Vec::new(),
    };
    session.give(Input::Try(7, Box::new(Proposal { child, hypothesis })));
    let session = session.run();
    assert_eq!(session.journal.iter().filter(|e| e.hypothesis.proposer == Author::Person).count(), 1);
    assert_eq!(session.journal.len(), 4);
}

#[test]
fn every_try_is_answered_with_its_experiment_or_a_reason() {
    let mut session = Session::new(1, 0);
    while session.research.incumbent().is_none() {
        assert!(session.step(finish), "no baseline");
    }
    let proposal = || Box::new(session.research.person_proposal("warmup 0.1", "a hunch").expect("valid"));
    let (first, second) = (proposal(), proposal());
    let answers = |actions: Vec<Action>| -> Vec<Result<u64, u64>> {
        let answer = |action| match action {
            Action::TryBegan { ticket, .. } => Some(Ok(ticket)),
            Action::TryRefused { ticket, .. } => Some(Err(ticket)),
            _ => None,
        };
        actions.into_iter().filter_map(answer).collect()
    };
    assert_eq!(answers(session.research.handle(Input::Try(1, first), 0)), [Ok(1)]);
    // One runs and one more may be prepared. The rest waits, as many as the queue holds; others are refused.
    let more: Vec<_> =
        (2..40).flat_map(|n| answers(session.research.handle(Input::Try(n, second.clone()), 0))).collect();
    assert_eq!(more.len(), 1 + 38 - 1 - MAX_QUEUED, "{more:?}");
    assert!(more[1..].iter().all(Result::is_err));
    assert_eq!(answers(session.research.handle(Input::Stop, 0)), []);
    assert_eq!(answers(session.research.handle(Input::Try(99, second), 0)), [Err(99)]);
}

#[test]
fn a_second_try_of_the_same_change_repeats_no_run_of_the_first() {
    let mut session = Session::new(1, 0);
    while session.research.incumbent().is_none() {
        assert!(session.step(finish), "no baseline");
    }
    let proposal = session.research.person_proposal("warmup 0.1", "a hunch").expect("valid");
    let child = proposal.child.hash();
    let parent = session.research.incumbent().expect("one").config.clone();
    // A small gain at each screening run, so that one is not enough, and none on fresh pairs.
    let fades = |order: &RunOrder| {
        let Outcome::Finished(report) = finish(order) else { panic!("a good trainer") };
        let better = match order.role {
            RunRole::Screen => 0.0025,
            RunRole::Child => -0.0025,
            _ => 0.0,
        };
        let validation = Bpb::new(surface(&parent, order.seed) - better).expect("finite");
        Outcome::Finished(Box::new(RunReport { validation, ..*report }))
    };
    for ticket in 1..4 {
        session.give(Input::Try(ticket, Box::new(proposal.clone())));
        while session.step(fades) {}
    }
    let of_child = |experiment: &&Experiment| experiment.config.hash() == child;
    let tries: Vec<(u16, usize)> =
        session.journal.iter().filter(of_child).map(|it| (it.attempt, it.screens.len())).collect();
    assert_eq!(tries.iter().map(|(attempt, _)| *attempt).collect::<Vec<_>>(), [0, 1, 2], "{tries:?}");
    assert!(tries[0].1 > 1, "one look was enough, so nothing could be repeated: {tries:?}");
    let seeds: Vec<u64> =
        session.runs_made.iter().filter(|(config, ..)| *config == child).map(|(_, seed, _)| *seed).collect();
    let different: std::collections::BTreeSet<_> = seeds.iter().collect();
    assert_eq!(seeds.len(), different.len(), "{seeds:?}");
}

#[test]
fn a_change_made_for_an_earlier_incumbent_says_so() {
    let earlier = Session::new(1, 0).research.baseline().clone();
    let changed = |patch: &str| {
        let patch = Patch::parse(patch, &earlier).expect("valid");
        (patch.apply(&earlier).expect("applies").effective(CONTEXT), patch)
    };
    let (child, patch) = changed("warmup 0.1");
    let because = "a hunch".to_owned();
    let proposer = Author::Person;
    let hypothesis = Hypothesis { proposer, because, patch, simplifies: false, inspired_by: Vec::new() };
    let proposal = Proposal { child, hypothesis };
    let same = rebase(proposal.clone(), &earlier, CONTEXT).expect("a change");
    assert_eq!((&same.child, same.hypothesis.because.as_str()), (&proposal.child, "a hunch"));
    let (newer, _) = changed("matrix_lr 0.031");
    let moved = rebase(proposal.clone(), &newer, CONTEXT).expect("a change");
    assert_eq!(moved.child, changed("warmup 0.1, matrix_lr 0.031").0);
    assert_eq!(moved.hypothesis.because, "on an incumbent that came since: a hunch");
    assert!(rebase(moved.clone(), &moved.child, CONTEXT).is_none(), "nothing is left to change");
}

#[test]
fn stop_starts_nothing_new() {
    let mut session = Session::new(2, 50);
    for _ in 0..5 {
        session.step(finish);
    }
    session.give(Input::Stop);
    while session.step(finish) {}
    assert!(!session.research.pending().is_empty(), "what was cut off waits for the next start");
}

#[test]
fn a_wrong_price_is_replaced_and_its_run_repeated() {
    let mut session = Session::new(1, 1);
    let ((at, _), order) = session.ends.pop_first().expect("the first run");
    assert_eq!(order.tokens, None);
    let outcome = Box::new(report(&order.config, order.seed, 900));
    session.give(Input::RunEnded { id: order.id, started_at: at, outcome, better_tokens: Some(1000) });
    let ((_, _), again) = session.ends.first_key_value().map(|(k, v)| (*k, v.clone())).expect("again");
    assert_eq!((again.seed, again.tokens), (order.seed, Some(1000)));
    let session = session.run();
    assert!(session.finished);
}

#[test]
fn a_keeps_audit_is_of_the_runs_that_counted() {
    let first_keep = |session: &Session| -> Experiment {
        let keep = session.journal.iter().find(|it| matches!(it.verdict, Verdict::Keep { .. }));
        keep.expect("a keep").clone()
    };
    let whole = first_keep(&Session::new(1, 12).run());
    // The first paired run of the keep's child has a wrong price, which shows in its audit value alone.
    let mut session = Session::new(1, 12);
    let mut spoiled = false;
    while let Some(((at, _), order)) = session.ends.pop_first() {
        session.now = at;
        let spoil = !spoiled && order.number == whole.number && order.role == RunRole::Child;
        spoiled |= spoil;
        let Outcome::Finished(mut report) = finish(&order) else { unreachable!("`finish` finishes") };
        if spoil {
            report.audit = Some(Bpb::new(9.0).expect("finite"));
        }
        session.give(Input::RunEnded {
            id: order.id,
            started_at: at - RUN_SECONDS,
            outcome: Box::new(Outcome::Finished(report)),
            better_tokens: spoil.then_some(1000),
        });
    }
    let again = first_keep(&session);
    assert_eq!(again.runs.len(), whole.runs.len() + 1, "nothing was repeated");
    assert_eq!(again.verdict, whole.verdict);
}

#[test]
fn the_journal_by_its_numbers_has_the_incumbent_of_the_night() {
    // Experiments end in another order than they begin, as in
    // `a_first_look_is_compared_with_a_run_of_its_own_parent`.
    for slots in [1, 2, 8] {
        let night = many_small_keeps(slots, Vec::new(), Vec::new()).run();
        let mut journal = night.journal.clone();
        let ends: Vec<u32> = journal.iter().map(|experiment| experiment.number).collect();
        assert!(keeps(&journal) >= 4 && (slots == 1 || !ends.is_sorted()), "{slots} slots: {ends:?}");
        journal.sort_by_key(|experiment| experiment.number);
        let again = Research::new(rules(slots, 0), Box::new(proposer()), &journal, Vec::new(), 0);
        let of = |research: &Research| {
            let incumbent = research.incumbent().expect("a baseline");
            (incumbent.config.clone(), research.gain(), research.next_number)
        };
        assert_eq!(of(&again), of(&night.research), "{slots} slots");
    }
}

/// Returns the re-run of a discovery that halves the matrix rate, at another node's token counts.
fn reproduction(tokens: Option<(u64, u64)>) -> Box<Reproduction> {
    let rate = |rate| TrainConfig::new().with(Knob::MatrixRate, Value::Number(rate)).expect("in range");
    let (parent, child) = (rate(0.1).effective(CONTEXT), rate(0.05).effective(CONTEXT));
    let hypothesis = Hypothesis {
        proposer: Author::Evolve,
        because: "a re-run".to_owned(),
        patch: Patch::between(&parent, &child),
        simplifies: false,
        inspired_by: vec!["d".to_owned()],
    };
    let comparison = autoswarm_protocol::experiment::Comparison::Reproduced;
    Box::new(Reproduction {
        discovery: RecordId::of(b"d"),
        child,
        parent,
        terms: ReproductionTerms { comparison, tokens },
        seeds: vec![11, 12, 13],
        hypothesis,
    })
}

#[test]
fn a_re_run_makes_its_pairs_and_changes_nothing_here() {
    for slots in [1, 2] {
        let mut session = Session::new(slots, 3);
        while session.research.incumbent().is_none() {
            assert!(session.step(finish), "no baseline");
        }
        let order = reproduction(Some((777, 555)));
        let (child, parent) = (order.child.hash(), order.parent.hash());
        session.give(Input::Reproduction(order));
        assert!(session.research.is_reproducing() && !session.research.is_inspired());
        let mut seen = Vec::new();
        while session.step(|order| {
            if order.foreign_tokens {
                assert_eq!(order.tokens, Some(if order.config.hash() == child { 777 } else { 555 }));
            }
            finish(order)
        }) {
            seen.extend(session.runs_made.last().copied());
        }
        let is_rerun = |experiment: &&Experiment| matches!(experiment.verdict, Verdict::Reproduction { .. });
        let done = session.journal.iter().find(is_rerun).expect("a re-run");
        let Verdict::Reproduction { found: Ok(estimate), .. } = done.verdict else {
            panic!("{:?}", done.verdict)
        };
        assert!((estimate.delta + 0.1 * 2f64.ln()).abs() < 0.01 && estimate.pairs == 3, "{estimate}");
        for config in [child, parent] {
            let mut seeds: Vec<u64> =
                done.runs.iter().filter(|run| run.requested == config).map(|run| run.seed).collect();
            seeds.sort_unstable();
            assert_eq!(seeds, [11, 12, 13]);
        }
        // It is no experiment of the search, makes no incumbent and teaches no price.
        assert_eq!(
            session.journal.iter().filter(|e| !is_rerun(e)).count() as u32,
            1 + 3 + superseded(&session)
        );
        assert!(session.finished && session.research.incumbent().expect("one").config.hash() != child);
        let again = Session::resume(rules(slots, 3), session.journal.clone(), Vec::new());
        let stands_on = |session: &Session| session.research.incumbent().map(|it| it.config.clone());
        assert_eq!(stands_on(&again), stands_on(&session));
        assert_eq!(again.research.prices, session.research.prices);
        assert!(!again.research.prices.values().any(|tokens| [777, 555].contains(tokens)));
    }
}

fn superseded(session: &Session) -> u32 {
    let of = |experiment: &&Experiment| {
        matches!(experiment.verdict, Verdict::Discard { reason: DiscardReason::Superseded, .. })
    };
    session.journal.iter().filter(of).count() as u32
}

#[test]
fn a_re_run_that_crashes_says_so_and_waits_for_a_restart_if_cut_off() {
    let mut session = Session::new(1, 0);
    while session.research.incumbent().is_none() {
        assert!(session.step(finish), "no baseline");
    }
    let order = reproduction(None);
    let child = order.child.hash();
    session.give(Input::Reproduction(order));
    let pending = session.research.pending().to_vec();
    let kept: Vec<Active> =
        serde_json::from_str(&serde_json::to_string(&pending).expect("JSON")).expect("the same");
    assert_eq!(kept, pending);
    let mut again = Session::resume(rules(1, 0), session.journal.clone(), kept);
    assert!(again.research.is_reproducing());
    let killed = |order: &RunOrder| {
        if order.config.hash() == child { crash(CrashClass::OutOfMemory) } else { finish(order) }
    };
    while again.step(killed) {}
    let last = again.journal.last().expect("the re-run");
    assert!(
        matches!(last.verdict, Verdict::Reproduction { found: Err(CrashClass::OutOfMemory), .. }),
        "{last:?}"
    );
}

/// Steps of a run that is long enough to be pruned.
const PRUNED_STEPS: u64 = 640;

/// How far a run is behind, in multiples of its final distance: up to each look of pruning, and after the
/// last one. The same as in real runs with as many steps as the incumbent.
const BEHIND: [f64; 4] = [1.0 / 0.41, 1.0 / 0.50, 1.0 / 0.74, 1.0];

/// Returns a finished run whose losses are behind from the beginning, and catch up.
fn with_losses(order: &RunOrder) -> RunReport {
    let Outcome::Finished(report) = finish(order) else { unreachable!("`finish` finishes") };
    let level = report.validation.get();
    let point = |k: u64| {
        let step = k * PRUNED_STEPS / CURVE_POINTS;
        let behind = BEHIND[PRUNE_POINTS.partition_point(|at| *at < k)];
        CurvePoint {
            step,
            tokens: step,
            loss: (2.0 + behind * (level - 2.0)) * std::f64::consts::LN_2 + 1.0
                - k as f64 / CURVE_POINTS as f64,
        }
    };
    RunReport { steps: PRUNED_STEPS, curve: (1..=CURVE_POINTS).map(point).collect(), ..*report }
}

/// Returns the outcome of an order as a trainer makes it: stopped where a loss passes its bound.
fn pruned(order: &RunOrder) -> Outcome {
    let report = with_losses(order);
    let stopped = report.curve.iter().find_map(|at| {
        let bound = order.prune?.passed(curve_point(at.step, report.steps)?, at.loss)?;
        Some(Pruned {
            step: at.step,
            steps: report.steps,
            tokens: report.tokens,
            loss: at.loss,
            bound,
            training_seconds: 1.0,
            training_cpu_seconds: 1.0,
            startup_seconds: 0.0,
        })
    });
    stopped.map_or_else(|| Outcome::Finished(Box::new(report)), Outcome::Pruned)
}

fn was_pruned(experiment: &Experiment) -> bool {
    matches!(experiment.verdict, Verdict::Discard { reason: DiscardReason::Pruned, .. })
}

#[test]
fn hopeless_runs_are_stopped_early_and_no_gain_is() {
    let mut session = Session::resume(rules(1, 40), Vec::new(), Vec::new());
    while session.halted.is_none() && session.step(pruned) {}
    assert!(session.finished, "{:?}", session.halted);
    let stopped: Vec<&Experiment> = session.journal.iter().filter(|it| was_pruned(it)).collect();
    assert!(stopped.len() >= 5, "{}", stopped.len());
    for experiment in stopped {
        let Verdict::Discard { screened: Some(expected), .. } = experiment.verdict else {
            panic!("{:?}", experiment.verdict)
        };
        let parent =
            experiment.hypothesis.patch.invert().apply(&experiment.config).expect("back").effective(CONTEXT);
        let truth = surface(&experiment.config, 0) - surface(&parent, 0);
        assert!(truth > 0.0 && (expected - truth).abs() < 0.5 * truth, "{expected} {truth}");
    }
    // Pruning changes nothing about what is kept; the dropout changes nothing on the surface.
    let whole = Session::new(1, 40).run();
    let rate = |session: &Session| {
        session.research.incumbent().map(|incumbent| incumbent.config.number(Knob::MatrixRate))
    };
    assert!(rate(&whole).is_some_and(|best| best < 0.03), "{:?}", rate(&whole));
    assert_eq!(rate(&session), rate(&whole));
}

#[test]
fn a_restart_prunes_as_if_nothing_had_happened() {
    let mut session = Session::resume(rules(1, 20), Vec::new(), Vec::new());
    let order = |session: &Session| {
        session.ends.values().next().map(|order| (order.config.hash(), order.seed, order.prune))
    };
    // Stop in the middle, just before a screening run.
    for made in 0..60 {
        if made >= 25 && order(&session).is_some_and(|(.., prune)| prune.is_some()) {
            break;
        }
        session.step(pruned);
    }
    let (journal, pending) = (session.journal.clone(), session.research.pending().to_vec());
    let again = Session::resume(rules(1, 20), journal, pending);
    assert_eq!(order(&session), order(&again));
    assert!(order(&again).is_some_and(|(.., prune)| prune.is_some()), "a screening run is next");
}

#[test]
fn only_screening_runs_are_pruned() {
    let mut session = Session::resume(rules(2, 30), Vec::new(), Vec::new());
    let mut seen = 0;
    while session.halted.is_none() {
        for order in session.ends.values() {
            seen += usize::from(order.prune.is_some());
            assert!(order.prune.is_none() || order.role == RunRole::Screen, "{order:?}");
        }
        if !session.step(pruned) {
            break;
        }
    }
    assert!(seen > 10);
}
