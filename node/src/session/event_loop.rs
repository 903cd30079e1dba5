//! The driver of a research session: it starts what the state machine orders, and tells it what came of it.
//!
//! One `Event`, two functions: `next_event` only waits, `handle_event` only acts. What to do
//! next is decided in [`crate::research`], what a person sees is made in [`crate::session::board`].

use std::{
    collections::BTreeSet,
    future,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use autoswarm_protocol::Experiment;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{Mutex, mpsc, watch},
    task::JoinSet,
};

use crate::{
    base::clock::unix_now,
    control::{Reply, Request, Responder},
    events::{Happened, sentences},
    machine::guest,
    objectives::train::plan::RunPlan,
    research::{Action, Event as Happening, Research, RunOrder},
    runs::{
        priced::{RunResult, priced_run},
        supervisor::{Control, RunProgress},
    },
    session::{
        board::Board,
        ending::{Ending, PersonsChange},
        memory::Memory,
        swarm::SwarmSide,
    },
    swarm::network::Heard,
    ui::view::View,
};

/// News of trainers that wait to be shown. More are dropped: they are news, not results.
const PROGRESS_QUEUE: usize = 256;

/// What a search without experiments answers when it is asked what it believes.
pub const NOTHING_BELIEVED: &str = "the search believes nothing yet: there is no baseline";

/// How often the picture is drawn, and the battery looked at every so many times.
const TICK: Duration = Duration::from_millis(250);
const TICKS_PER_BATTERY_CHECK: u64 = 120;

/// Something for the driver to deal with.
#[derive(Debug)]
enum Event {
    Interrupt,
    Deadline,
    RunEnded(Box<RunResult>),
    Request(Request, Responder),
    Progress(RunProgress),
    Heard(Heard),
    Tick,
}

/// A change that a person tries.
#[derive(Debug)]
struct Try {
    ticket: u64,
    /// The experiment that it became.
    number: Option<u32>,
    responder: Responder,
}

/// Waits for the network; for ever where there is none.
async fn heard_from(swarm: &mut Option<&mut SwarmSide>) -> Option<Heard> {
    match swarm {
        Some(swarm) => swarm.network.heard().await,
        None => future::pending().await,
    }
}

/// A session over the slots of one machine.
#[derive(Debug)]
pub struct EventLoop<'a> {
    research: Research,
    plan: RunPlan,
    memory: &'a mut Memory,
    board: Board,
    view: &'a mut View,
    requests: &'a mut mpsc::Receiver<(Request, Responder)>,
    /// What people try.
    tries: Vec<Try>,
    next_ticket: u64,
    /// A try that the session was made for: it begins once there is an incumbent.
    first_try: Option<(PersonsChange, Responder)>,
    runs: JoinSet<RunResult>,
    controls: Vec<(u64, watch::Sender<Control>)>,
    /// Runs of which it was said that other work starves them.
    waiting: BTreeSet<u64>,
    pricing: Arc<Mutex<()>>,
    progress: (mpsc::Sender<RunProgress>, mpsc::Receiver<RunProgress>),
    signals: (Signal, Signal),
    deadline: Option<Instant>,
    paused_by_person: bool,
    on_battery: bool,
    ticks: u64,
    interrupts: u32,
    ending: Option<Ending>,
    halted: Option<String>,
    swarm: Option<&'a mut SwarmSide>,
    /// Experiments of earlier sessions, to tell the swarm what it does not know of them.
    history: Vec<Experiment>,
    /// Whether something came over the network that was not considered yet.
    has_news: bool,
}

impl<'a> EventLoop<'a> {
    /// Makes a session; nothing runs before [`EventLoop::run`].
    pub fn new(
        research: Research,
        plan: RunPlan,
        memory: &'a mut Memory,
        board: Board,
        view: &'a mut View,
        requests: &'a mut mpsc::Receiver<(Request, Responder)>,
        deadline: Option<Instant>,
    ) -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            research,
            plan,
            memory,
            board,
            view,
            requests,
            tries: Vec::new(),
            next_ticket: 0,
            first_try: None,
            runs: JoinSet::new(),
            controls: Vec::new(),
            waiting: BTreeSet::new(),
            pricing: Arc::default(),
            progress: mpsc::channel(PROGRESS_QUEUE),
            signals: (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?),
            deadline,
            paused_by_person: false,
            on_battery: false,
            ticks: 0,
            interrupts: 0,
            ending: None,
            halted: None,
            swarm: None,
            history: Vec::new(),
            has_news: false,
        })
    }

    /// Begins with a person's change, after the baseline where there is none yet.
    #[must_use]
    pub fn with_try(mut self, first_try: Option<(PersonsChange, Responder)>) -> Self {
        self.first_try = first_try;
        self
    }

    /// Works in a swarm: tells what was found here, also in the experiments of earlier sessions, and tries what others
    /// found.
    #[must_use]
    pub fn in_swarm(mut self, swarm: Option<&'a mut SwarmSide>, history: Vec<Experiment>) -> Self {
        self.swarm = swarm;
        self.history = history;
        self
    }

    /// Runs the session to its end.
    pub async fn run(mut self) -> anyhow::Result<Ending> {
        self.begin_first_try()?;
        let actions = self.research.handle(Happening::Start, unix_now());
        self.perform(actions)?;
        self.catch_up()?;
        self.consider()?;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !(self.ending.is_some() && self.runs.is_empty()) {
            let event = self.next_event(&mut tick).await;
            self.handle_event(event)?;
        }
        self.board.refresh(&self.research);
        for unanswered in std::mem::take(&mut self.tries) {
            let goes_on = unanswered.number.map(|_| "it goes on with the next `node solo`");
            unanswered
                .responder
                .finish(Reply::refused("the node ended before the verdict".to_owned(), goes_on));
        }
        if let Some(swarm) = self.swarm.as_deref_mut() {
            let shown = swarm.tell_waiting(unix_now(), true);
            self.tell_all(&shown)?;
        }
        let summary = self.board.summary(&self.research);
        self.tell(&Happened::Summary(Box::new(summary)))?;
        match self.halted {
            Some(why) => bail!(why),
            None => Ok(self.ending.unwrap_or(Ending::Done)),
        }
    }

    async fn next_event(&mut self, tick: &mut tokio::time::Interval) -> Event {
        let deadline = self.deadline.filter(|_| self.ending.is_none());
        let until_deadline = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = self.signals.0.recv() => Event::Interrupt,
            _ = self.signals.1.recv() => Event::Interrupt,
            () = until_deadline => Event::Deadline,
            Some(joined) = self.runs.join_next() => match joined {
                Ok(result) => Event::RunEnded(Box::new(result)),
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            },
            Some((request, responder)) = self.requests.recv() => Event::Request(request, responder),
            Some(heard) = heard_from(&mut self.swarm) => Event::Heard(heard),
            Some(progress) = self.progress.1.recv() => Event::Progress(progress),
            _ = tick.tick() => Event::Tick,
        }
    }

    fn handle_event(&mut self, event: Event) -> anyhow::Result<()> {
        match event {
            Event::Interrupt => self.interrupted()?,
            Event::Deadline => self.stop("the hours asked for are over")?,
            Event::RunEnded(result) => self.run_ended(*result)?,
            Event::Request(request, responder) => self.answer(request, responder)?,
            Event::Progress(progress) => self.progressed(&progress)?,
            Event::Heard(heard) => self.heard(&heard)?,
            Event::Tick => self.tick()?,
        }
        Ok(())
    }

    fn interrupted(&mut self) -> anyhow::Result<()> {
        self.interrupts += 1;
        if self.interrupts > 1 {
            // Nothing is lost: the journal is complete, the runs in flight die with their parent.
            self.view.finish();
            std::process::exit(130);
        }
        self.stop("interrupted")
    }

    /// Starts nothing new, cancels what runs, and says what is being finished.
    fn stop(&mut self, why: &str) -> anyhow::Result<()> {
        if self.ending.is_some() {
            return Ok(());
        }
        self.ending = Some(Ending::Stopped);
        let actions = self.research.handle(Happening::Stop, unix_now());
        self.perform(actions)?;
        let waiting = self.research.pending().len();
        let finishing = match self.controls.len() {
            0 => format!("{why}; nothing runs"),
            1 => format!(
                "{why}; ending the run in flight, {waiting} unfinished experiment(s) wait for the next start"
            ),
            n => format!(
                "{why}; ending {n} runs in flight, {waiting} unfinished experiment(s) wait for the next start"
            ),
        };
        self.tell(&Happened::Stopping { finishing })?;
        for (_, control) in &self.controls {
            control.send_replace(Control::Cancel);
        }
        Ok(())
    }

    fn run_ended(&mut self, result: RunResult) -> anyhow::Result<()> {
        let RunResult { id, started_at, outcome, better_tokens, .. } = result;
        self.controls.retain(|(run, _)| *run != id);
        self.waiting.remove(&id);
        let order = self.research.running().find(|order| order.id == id).cloned();
        self.board.run_ended(id);
        let (Some(outcome), Some(order)) = (outcome, order) else { return Ok(()) };
        let finished = self.board.run_finished(&order, &outcome);
        self.tell(&finished)?;
        if better_tokens.is_some() {
            self.note(
                "the run's own speed was more than 3 % off its price; it is run again at its own speed",
                None,
            )?;
        }
        let event = Happening::RunEnded { id, started_at, outcome: Box::new(outcome), better_tokens };
        let actions = self.research.handle(event, unix_now());
        self.perform(actions)?;
        self.begin_first_try()?;
        self.consider()?;
        self.memory.save_pending(self.research.pending())
    }

    fn progressed(&mut self, progress: &RunProgress) -> anyhow::Result<()> {
        self.board.progress(progress);
        // News may come after the run's end, which forgets it.
        let runs = self.controls.iter().any(|(run, _)| *run == progress.run);
        if runs && progress.event.is_starved() && self.waiting.insert(progress.run) {
            self.note(
                "other work takes the machine; what it starves is tried again every half minute",
                None,
            )?;
        }
        Ok(())
    }

    fn heard(&mut self, heard: &Heard) -> anyhow::Result<()> {
        let Some(swarm) = self.swarm.as_deref_mut() else { return Ok(()) };
        let event = swarm.heard(heard, unix_now());
        self.has_news = true;
        event.map_or(Ok(()), |event| self.tell(&event))
    }

    /// Tries what somebody else found and runs somebody else's claim again, one of each at a time and within their shares,
    /// and lets the search know what others tried.
    fn consider(&mut self) -> anyhow::Result<()> {
        self.has_news = false;
        let (Some(swarm), Some(incumbent)) = (self.swarm.as_deref_mut(), self.research.incumbent()) else {
            return Ok(());
        };
        if self.ending.is_some() {
            return Ok(());
        }
        let mut events = Vec::new();
        events.extend(swarm.hearsay(unix_now()).map(|hearsay| Happening::Hearsay(Box::new(hearsay))));
        if !self.research.is_inspired() {
            let proposal = swarm.next_to_try(incumbent);
            events.extend(proposal.map(|proposal| Happening::Inspire(Box::new(proposal))));
        }
        if !self.research.is_rerunning() {
            let rerun = swarm.next_rerun(self.research.noise());
            events.extend(rerun.map(|rerun| Happening::Rerun(Box::new(rerun))));
        }
        for event in events {
            let actions = self.research.handle(event, unix_now());
            self.perform(actions)?;
        }
        Ok(())
    }

    /// Tells the swarm what earlier sessions found in this arena and a kill kept from it.
    fn catch_up(&mut self) -> anyhow::Result<()> {
        for experiment in std::mem::take(&mut self.history) {
            self.publish(&experiment)?;
        }
        Ok(())
    }

    /// Tells the swarm what an experiment showed.
    fn publish(&mut self, experiment: &Experiment) -> anyhow::Result<()> {
        let Some(swarm) = self.swarm.as_deref_mut() else { return Ok(()) };
        let pair_sd = self.research.noise().pair_sd(experiment.group);
        let shown = swarm.publish(experiment, pair_sd);
        swarm.discoveries.observe(experiment);
        self.tell_all(&shown)
    }

    fn perform(&mut self, actions: Vec<Action>) -> anyhow::Result<()> {
        for action in actions {
            match action {
                Action::Run(order) => self.start_run(&order),
                Action::Propose { number, hypothesis } => {
                    self.claim(number)?;
                    let patch = hypothesis.patch.to_string();
                    self.tell(&Happened::Proposed { number, patch, because: hypothesis.because })?;
                    self.memory.save_pending(self.research.pending())?;
                }
                Action::TryBegan { ticket, number } => {
                    if let Some(found) = self.tries.iter_mut().find(|tried| tried.ticket == ticket) {
                        found.number = Some(number);
                    }
                }
                Action::TryRefused { ticket, reason } => {
                    for refused in self.tries.extract_if(.., |tried| tried.ticket == ticket) {
                        refused.responder.finish(Reply::refused(reason.clone(), None));
                    }
                }
                Action::Conclude(experiment) => {
                    let commit = self.memory.conclude(&experiment)?;
                    self.board.concluded(&experiment);
                    self.answer_tries(&experiment);
                    self.publish(&experiment)?;
                    let patch = sentences::headline(&experiment);
                    let number = experiment.number;
                    self.tell(&Happened::Concluded { number, patch, verdict: experiment.verdict, commit })?;
                }
                Action::Note(text) => self.note(&text, None)?,
                Action::Finish if self.first_try.is_some() => {}
                Action::Finish => {
                    self.ending.get_or_insert(Ending::Done);
                }
                Action::Halt(why) => {
                    self.halted = Some(why);
                    self.ending = Some(Ending::Stopped);
                    for (_, control) in &self.controls {
                        control.send_replace(Control::Cancel);
                    }
                }
            }
        }
        Ok(())
    }

    /// Tells the swarm which config an experiment is about to try.
    fn claim(&mut self, number: u32) -> anyhow::Result<()> {
        let of = self.research.pending().iter().find(|active| active.number == number);
        let own = of.filter(|active| active.parent.is_some() && active.rerun.is_none());
        let (Some(swarm), Some(config)) = (self.swarm.as_deref_mut(), own.map(|active| active.child.hash()))
        else {
            return Ok(());
        };
        let shown = swarm.claim(config, unix_now());
        self.tell_all(&shown)
    }

    fn start_run(&mut self, order: &RunOrder) {
        let initial = if self.is_paused() { Control::Pause } else { Control::Run };
        let (control, watch) = watch::channel(initial);
        self.controls.push((order.id, control));
        self.board.run_started(order);
        let spec = self.plan.spec(order);
        self.runs.spawn(priced_run(spec, Arc::clone(&self.pricing), self.progress.0.clone(), watch));
    }

    fn is_paused(&self) -> bool {
        self.paused_by_person || self.on_battery
    }

    fn tick(&mut self) -> anyhow::Result<()> {
        if self.ticks.is_multiple_of(TICKS_PER_BATTERY_CHECK) {
            let on_battery = guest::on_battery(guest::POWER_SUPPLIES.as_ref());
            self.set_paused(self.paused_by_person, on_battery)?;
            if let Some(problem) = self.memory.disk_problem() {
                self.halted = Some(problem);
                self.stop("the disk is full")?;
            }
        }
        self.ticks += 1;
        self.look_at_swarm();
        if let Some(swarm) = self.swarm.as_deref_mut() {
            let shown = swarm.tell_waiting(unix_now(), false);
            self.tell_all(&shown)?;
        }
        if self.has_news {
            self.consider()?;
        }
        self.board.refresh(&self.research);
        self.view.snapshot(self.board.snapshot());
        Ok(())
    }

    fn look_at_swarm(&mut self) {
        let Some(swarm) = self.swarm.as_deref_mut() else { return };
        let overview = swarm.overview(self.research.pending(), unix_now());
        self.board.swarm(swarm.network.view(), overview);
    }

    fn set_paused(&mut self, by_person: bool, on_battery: bool) -> anyhow::Result<()> {
        let before = self.is_paused();
        (self.paused_by_person, self.on_battery) = (by_person, on_battery);
        if before == self.is_paused() {
            return Ok(());
        }
        let control = if self.is_paused() { Control::Pause } else { Control::Run };
        for (_, sender) in &self.controls {
            sender.send_if_modified(|now| {
                let change = *now != Control::Cancel && *now != control;
                if change {
                    *now = control;
                }
                change
            });
        }
        let reason = match (by_person, on_battery) {
            (true, _) => Some("as asked; `node resume` goes on".to_owned()),
            (_, true) => Some("on battery; goes on when plugged in".to_owned()),
            _ => None,
        };
        self.board.paused(reason.clone());
        self.tell(&Happened::Paused { reason })
    }

    fn answer(&mut self, request: Request, responder: Responder) -> anyhow::Result<()> {
        let done = |text: &str| Reply::Done { text: text.to_owned() };
        let reply = match request {
            Request::Status => {
                if let Some(swarm) = self.swarm.as_deref_mut() {
                    swarm.look_now();
                }
                self.look_at_swarm();
                self.board.refresh(&self.research);
                Reply::Status { snapshot: Box::new(self.board.snapshot().clone()) }
            }
            Request::Experiments { filter } => {
                let experiments = self.memory.newest(&filter)?;
                Reply::Experiments { rows: filter.apply(experiments.iter()) }
            }
            Request::Importance => match self.research.proposer().importance() {
                Some(importance) => Reply::Importance { importance: Box::new(importance) },
                None => Reply::refused(NOTHING_BELIEVED, Some("ask again when the first experiment is over")),
            },
            Request::Show { id } => match self.memory.find(&id)? {
                Ok(experiment) => Reply::Experiment { experiment: Box::new(experiment) },
                Err(reason) => Reply::refused(reason, Some("`node experiments` lists them")),
            },
            Request::Discoveries { filter } => match self.swarm.as_deref() {
                Some(swarm) => Reply::Discoveries { listing: swarm.discoveries.list(&filter) },
                None => Reply::refused("this node works alone", Some("`node join` takes part in a swarm")),
            },
            Request::Discovery { id } => match self.swarm.as_deref().map(|swarm| swarm.discoveries.find(&id))
            {
                Some(Ok(details)) => {
                    let incumbent = self.research.incumbent();
                    let incumbent = incumbent.map(|incumbent| Box::new((*incumbent.config).clone()));
                    Reply::Discovery { details: Box::new(details), incumbent }
                }
                Some(Err(reason)) => Reply::refused(reason, None),
                None => Reply::refused("this node works alone", Some("`node join` takes part in a swarm")),
            },
            Request::Sync => match self.swarm.as_deref() {
                Some(swarm) => {
                    swarm.sync(responder);
                    return Ok(());
                }
                None => Reply::refused("this node works alone", Some("`node join` takes part in a swarm")),
            },
            Request::Pause => {
                self.set_paused(true, self.on_battery)?;
                done("paused; `node resume` goes on")
            }
            Request::Resume => {
                self.set_paused(false, self.on_battery)?;
                done("training goes on")
            }
            Request::Stop => {
                responder.finish(done("the node ends what it is doing and stops"));
                return self.stop("asked to stop");
            }
            Request::Try { patch, because } => return self.start_try(&patch, &because, responder),
        };
        responder.finish(reply);
        Ok(())
    }

    fn begin_first_try(&mut self) -> anyhow::Result<()> {
        if self.research.incumbent().is_none() {
            return Ok(());
        }
        match self.first_try.take() {
            Some((change, responder)) => self.start_try(&change.patch, &change.because, responder),
            None => Ok(()),
        }
    }

    /// Queues a person's change; the answer comes with its verdict.
    fn start_try(&mut self, patch: &str, because: &str, responder: Responder) -> anyhow::Result<()> {
        match self.research.person_proposal(patch, because) {
            Ok(proposal) => {
                let ticket = self.next_ticket;
                self.next_ticket += 1;
                self.tries.push(Try { ticket, number: None, responder });
                let actions = self.research.handle(Happening::Try(ticket, Box::new(proposal)), unix_now());
                self.perform(actions)
            }
            Err(reason) => {
                responder.finish(Reply::refused(reason, Some("`node check` and the docs list the knobs")));
                Ok(())
            }
        }
    }

    /// Answers whoever waits for this experiment.
    fn answer_tries(&mut self, experiment: &Experiment) {
        for done in self.tries.extract_if(.., |tried| tried.number == Some(experiment.number)) {
            done.responder.finish(Reply::Experiment { experiment: Box::new(experiment.clone()) });
        }
    }

    fn note(&mut self, text: &str, fix: Option<&str>) -> anyhow::Result<()> {
        self.tell(&Happened::Note { text: text.to_owned(), fix: fix.map(str::to_owned) })
    }

    fn tell_all(&mut self, events: &[Happened]) -> anyhow::Result<()> {
        events.iter().try_for_each(|event| self.tell(event))
    }

    fn tell(&mut self, event: &Happened) -> anyhow::Result<()> {
        self.view.happened(unix_now(), event).context("cannot print what happened")
    }
}
