//! A session of the node: open the home, prepare the text, probe the machine, make the tour, do research.
//!
//! `solo`, `try` and `probe` begin here, the swarm's commands in `join`, replays and readings of the locked
//! split in `replay`. Not here: what to try next ([`crate::research`]) and how a run is supervised
//! ([`crate::runs`]).

pub mod board;
pub mod ending;
mod event_loop;
mod inputs;
mod join;
pub mod memory;
mod observer;
mod replay;
pub mod swarm;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use autoswarm_protocol::{
    Arena, Budget, Experiment,
    outcome::TRAINER_SEMANTICS,
    swarm_config::{CorpusSource, Objective},
};
use tokio::sync::mpsc;

pub use join::{JoinOptions, RECORDS, join};
pub use replay::{LOCKED, read_locked, replay};

use crate::{
    base::clock::unix_now,
    cli::settings::Settings,
    control::{self, Reply, Request, Responder},
    events::{NodeEvent, Snapshot, sentences},
    home::{Home, journal::Recorded},
    machine::{
        guest,
        slots::{Placement, slot_name},
    },
    objectives::train::{
        calibrated::calibrated_start,
        dataset,
        plan::RunPlan,
        probe::{self, Probe},
    },
    proposers::{
        directed::{ProgramPaths, Searcher},
        evolve::{Evolve, Machine},
    },
    research::{Policy, Research, Rules},
    session::{
        board::Board,
        ending::{Ending, PersonsChange},
        event_loop::EventLoop,
        inputs::Inputs,
        memory::Memory,
        swarm::SwarmSession,
    },
    ui::view::View,
};

/// Training budget of a run of the tour: long enough for a model to learn something, short enough to watch.
const TOUR_BUDGET: Budget = Budget::Milliseconds(10_000);

/// Experiments of the tour. After the baseline's three runs, the first verdict comes within three minutes.
const TOUR_EXPERIMENTS: u32 = 3;

/// Share of the machine's memory that the runs of all slots together may take.
const MEMORY_SHARE: f64 = 0.8;

/// What a session holds across arenas: the tour works in one arena, the real work in another.
#[derive(Debug)]
struct Session<'a> {
    settings: &'a Settings,
    memory: Memory,
    /// The journal as it was when the session began.
    recorded: Vec<Recorded>,
    view: View,
    requests: mpsc::Receiver<(Request, Responder)>,
    /// When the hours asked for are over.
    deadline: Option<Instant>,
    /// The change that `node try` opened the session for.
    first_try: Option<(PersonsChange, Responder)>,
    swarm: Option<SwarmSession>,
}

/// Runs `node solo`: research on this machine alone, until it is done or told to stop.
pub async fn solo(settings: &Settings, home: &Path, view: View) -> anyhow::Result<()> {
    let mut session = Session::open(settings, home, view)?;
    settings.text.remember(home)?;
    let result = session.run().await;
    session.view.finish();
    result
}

/// Tries one change for a person on a home where no node runs, and returns the final reply. `settings` ask
/// for no experiments of the search's own.
pub async fn try_once(
    settings: &Settings,
    home: &Path,
    view: View,
    change: PersonsChange,
) -> anyhow::Result<Reply> {
    let mut session = Session::open(settings, home, view)?;
    let (responder, mut replies) = Responder::channel();
    session.first_try = Some((change, responder));
    let result = session.run().await;
    session.view.finish();
    result?;
    while let Some(reply) = replies.recv().await {
        if reply.is_final() {
            return Ok(reply);
        }
    }
    bail!("the session ended without an answer")
}

/// Runs `node probe`: measures the layouts that no probe is remembered for, or with `again` all of them.
pub async fn probe(settings: &Settings, home: &Path, view: View, again: bool) -> anyhow::Result<Probe> {
    let mut session = Session::open(settings, home, view)?;
    let mut plan = session.prepare().await?;
    let probe = session.probe(&mut plan, again).await;
    session.view.finish();
    probe
}

impl<'a> Session<'a> {
    fn open(settings: &'a Settings, home: &Path, view: View) -> anyhow::Result<Self> {
        let home = Home::open(home)?;
        let (sender, requests) = mpsc::channel(control::MAX_WAITING_REQUESTS);
        let socket = control::bind(home.path()).context("cannot open the control socket")?;
        // The task owns the socket: when the session drops `requests`, it ends and the socket's file is
        // removed.
        tokio::spawn(async move { control::serve(&socket.listener, sender).await });
        let (memory, recorded, notes) = Memory::open(home)?;
        let deadline = settings.hours.map(|hours| Instant::now() + Duration::from_secs_f64(hours * 3600.0));
        let first_try = None;
        let mut session =
            Self { settings, memory, recorded, view, requests, deadline, first_try, swarm: None };
        for note in notes {
            session.tell(&NodeEvent::Note { text: note, fix: None })?;
        }
        Ok(session)
    }

    async fn run(&mut self) -> anyhow::Result<()> {
        let mut plan = self.prepare().await?;
        let probe = self.probe(&mut plan, false).await?;
        let (budget, seconds) = match self.settings.budget {
            Some(budget @ Budget::Milliseconds(ms)) => (budget, ms as f64 / 1000.0),
            _ => probe.budget(),
        };
        if self.wants_tour() {
            plan.budget_seconds = 10.0;
            self.note(
                "first launch: a tour with runs of 10 s, in an arena of its own; the real work follows",
            )?;
            // Without the swarm: what a tour finds is too small to be told, and peers' ideas come after it.
            let swarm = self.swarm.take();
            let ending = self.research(&plan, TOUR_BUDGET, Some(TOUR_EXPERIMENTS), &probe).await?;
            self.swarm = swarm;
            if ending == Ending::Stopped {
                return Ok(());
            }
            self.note(&format!("the tour is over; from here on a run trains for {seconds:.0} s ({budget})"))?;
        }
        plan.budget_seconds = seconds;
        self.research(&plan, budget, self.settings.experiments, &probe).await?;
        Ok(())
    }

    fn wants_tour(&self) -> bool {
        self.settings.tour && self.settings.budget.is_none() && self.memory.next_number() == 0
    }

    async fn prepare(&mut self) -> anyhow::Result<RunPlan> {
        let settings = self.settings;
        let objective = &settings.objective;
        let threads = guest::default_threads(guest::cores()) as u16;
        let view = &mut self.view;
        let news = |stage: &str, done, total| {
            // A print error is ignored here: it returns at the next event, and preparing goes on.
            let _ = view.happened(unix_now(), &NodeEvent::Working { stage: stage.to_owned(), done, total });
        };
        let data = self.memory.home().data();
        let dataset = dataset::prepare(objective, &settings.trainer, &data, threads, news).await?;
        if self.swarm.is_some() && objective.corpus != CorpusSource::Crates && objective.corpus_hash.is_none()
        {
            self.note(&format!(
                "the shared text is not pinned, so everybody needs it at the same path; \
                 with `blake3 = \"{}\"` in the config's `corpus` others say where theirs lies: \
                 `node join TICKET --data PATH`",
                dataset.corpus
            ))?;
        }
        let evaluation_tokens = evaluation_tokens(objective, dataset.held_out_tokens);
        if evaluation_tokens < objective.evaluation_tokens {
            let wanted = objective.evaluation_tokens;
            self.note(&format!(
                "the text is small: runs are evaluated on {evaluation_tokens} tokens instead of {wanted}, \
                 in an arena of its own"
            ))?;
        }
        Ok(RunPlan {
            trainer: settings.trainer.clone(),
            data: dataset.folder,
            corpus: dataset.corpus,
            tokenizer: dataset.tokenizer,
            vocabulary: dataset.vocabulary,
            dtype: objective.dtype,
            context: objective.context,
            evaluation_tokens,
            // A placeholder: `run` sets it once the budget is known.
            budget_seconds: 10.0,
            slots: settings.layouts[0].clone(),
            runs: self.memory.home().runs(),
            memory_bytes: memory_of_a_slot(settings.layouts[0].len()),
        })
    }

    /// Chooses the fastest layout of slots, and returns what one of its slots does in a second. `again`
    /// measures layouts that are remembered, too.
    async fn probe(&mut self, plan: &mut RunPlan, again: bool) -> anyhow::Result<Probe> {
        let file = self.memory.home().path().join("probe.json");
        let layouts = &self.settings.layouts;
        let view = &mut self.view;
        let total = (layouts.len() + 1) as u64;
        let mut working = |done: usize| {
            let event = NodeEvent::Working { stage: "probe".to_owned(), done: done as u64, total };
            let _ = view.happened(unix_now(), &event);
        };
        let mut probes = Vec::new();
        for (index, layout) in layouts.iter().enumerate() {
            let known = probe::remembered(&file, layout);
            let probe = match known {
                Some(probe) if !again => probe,
                // What was known still counts: a machine keeps its class while it stays near it.
                known => {
                    working(index);
                    use_slots(plan, layout);
                    let probe = probe::measure(plan, known.as_ref()).await?;
                    probe::remember(&file, &probe)?;
                    probe
                }
            };
            probes.push(probe);
        }
        let chosen = probe::fastest(&probes);
        use_slots(plan, &layouts[chosen]);
        let mut probe = probes.swap_remove(chosen);
        // The reference shape was enough to choose by; only the chosen layout needs the others.
        if probe.is_complete() {
            return Ok(probe);
        }
        working(layouts.len());
        probe::complete(plan, &mut probe).await?;
        working(layouts.len() + 1);
        probe::remember(&file, &probe)?;
        let (budget, budget_seconds) = probe.budget();
        let tokens_per_second = probe.tokens_per_second();
        let slots = probe.slots;
        self.tell(&NodeEvent::Probed { slots, tokens_per_second, budget, budget_seconds })?;
        Ok(probe)
    }

    /// Does research in the arena that the plan and the budget make, until it is done or stopped.
    async fn research(
        &mut self,
        plan: &RunPlan,
        budget: Budget,
        experiments: Option<u32>,
        probe: &Probe,
    ) -> anyhow::Result<Ending> {
        let settings = self.settings;
        let objective = &settings.objective;
        let mut pinned = objective.clone();
        // Text that was named by its path alone is identified by its bytes, so that it stays the same arena
        // when it is moved.
        if settings.text.data.is_some() {
            pinned.corpus_hash = Some(plan.corpus);
        }
        let arena = Arena {
            objective: pinned.id(),
            corpus: plan.corpus,
            tokenizer: plan.tokenizer,
            context: objective.context,
            evaluation_tokens: plan.evaluation_tokens,
            budget,
            dtype: objective.dtype,
            semantics: TRAINER_SEMANTICS,
        }
        .id();
        self.settle(plan, budget, arena, probe);
        let mut journal: Vec<Experiment> =
            self.recorded.iter().map(|recorded| recorded.experiment.clone()).collect();
        journal.retain(|experiment| experiment.arena == arena);
        // By number and not by time, since the clock may have been set back. A keep's number is always above
        // that of the keep that it builds on.
        journal.sort_by_key(|experiment| experiment.number);
        let start = calibrated_start(probe.flops_per_second(), plan.budget_seconds, objective);
        // A measured baseline stays, since a later release may calibrate another one.
        let baseline = journal
            .iter()
            .rfind(|experiment| experiment.parent.is_none())
            .map_or_else(|| start.effective(plan.context as usize), |experiment| experiment.config.clone());
        let rules = Rules {
            arena,
            context: plan.context as usize,
            slots: plan.slots.len(),
            baseline,
            policy: Policy { min_effect: objective.min_effect, ..Policy::default() },
            experiments,
        };
        let machine = Machine {
            flops_per_second: probe.flops_per_second(),
            ..Machine::cpu(plan.slots[0].threads, plan.memory_bytes, plan.vocabulary)
        };
        let evolve = Evolve::new(objective.clone(), machine, plan.budget_seconds, settings.seed);
        let searcher = Searcher::new(evolve, self.program_paths()?)?;
        let resumed = journal.len() as u32;
        let pending = self.memory.pending(arena);
        let research = Research::new(rules, Box::new(searcher), &journal, pending, self.memory.next_number());
        let board = Board::new(self.snapshot(plan, budget, &arena.fmt_short(), &journal));
        self.tell(&NodeEvent::Started {
            home: self.memory.home().path().display().to_string(),
            objective: settings.name.clone(),
            arena: arena.fmt_short(),
            budget,
            budget_seconds: plan.budget_seconds,
            slots: plan.slots.iter().map(slot_name).collect(),
            resumed,
        })?;
        EventLoop::new(
            research,
            plan.clone(),
            &mut self.memory,
            board,
            &mut self.view,
            Inputs::new(&mut self.requests, self.swarm.as_mut(), self.deadline, event_loop::TICK)?,
        )
        .with_try(self.first_try.take())
        .after(journal)
        .run()
        .await
    }

    fn program_paths(&self) -> anyhow::Result<ProgramPaths> {
        Ok(ProgramPaths {
            asked: self.settings.program.clone(),
            folder: std::env::current_dir().context("cannot tell which folder this is")?,
            home: self.memory.home().path().to_owned(),
        })
    }

    fn snapshot(&self, plan: &RunPlan, budget: Budget, arena: &str, journal: &[Experiment]) -> Snapshot {
        let count = |name: &str| journal.iter().filter(|e| e.verdict.name() == name).count() as u32;
        let recent = journal.iter().rev().take(crate::events::RECENT_VERDICTS).rev();
        Snapshot {
            objective: self.settings.name.clone(),
            arena: arena.to_owned(),
            budget,
            budget_seconds: plan.budget_seconds,
            slots: plan.slots.iter().map(|slot| Board::idle_slot(slot_name(slot))).collect(),
            incumbent: None,
            incumbent_patch: String::new(),
            gain: None,
            recent: recent.map(|e| (e.number, sentences::headline(e), e.verdict.clone())).collect(),
            experiments: journal.iter().filter(|e| e.parent.is_some()).count() as u32,
            keeps: count("keep"),
            crashes: count("crash"),
            experiments_per_hour: None,
            next_verdict_seconds: None,
            paused: None,
            network: None,
            swarm: None,
        }
    }

    fn note(&mut self, text: &str) -> anyhow::Result<()> {
        self.tell(&NodeEvent::Note { text: text.to_owned(), fix: None })
    }

    fn tell(&mut self, event: &NodeEvent) -> anyhow::Result<()> {
        show(&mut self.view, event)
    }
}

/// Shows an event as happening now.
fn show(view: &mut View, event: &NodeEvent) -> anyhow::Result<()> {
    view.happened(unix_now(), event).context("cannot print what happened")
}

/// Gives a plan a layout, and the memory that each of its slots may then take.
fn use_slots(plan: &mut RunPlan, layout: &[Placement]) {
    plan.slots = layout.to_vec();
    plan.memory_bytes = memory_of_a_slot(layout.len());
}

/// Returns the most memory that a run may take so that every slot can have one, bytes.
fn memory_of_a_slot(slots: usize) -> u64 {
    (guest::memory_bytes() as f64 * MEMORY_SHARE) as u64 / slots as u64
}

/// Returns how many tokens of each held-out split are evaluated: what the objective says, or fewer where a
/// small text has fewer whole contexts. A split needs one token more than that, as the target of the last
/// prediction.
fn evaluation_tokens(objective: &Objective, held_out: Option<u64>) -> u64 {
    let context = u64::from(objective.context);
    let available = held_out.map_or(u64::MAX, |tokens| tokens.saturating_sub(1) / context * context);
    objective.evaluation_tokens.min(available.max(context))
}
