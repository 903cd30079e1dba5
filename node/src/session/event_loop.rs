//! The driver of a research session: it does what the research core orders, and tells it what came of that.
//!
//! Waiting and acting are apart: `next_event` in `inputs` only waits, and `handle_event` here only acts. Not
//! here: what to do next ([`crate::research`]), and how it looks to people ([`crate::session::board`]).

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use autoswarm_protocol::Experiment;
use tokio::sync::{Mutex, watch};

use crate::{
    base::clock::unix_now,
    control::{Reply, Request, Responder},
    events::{NodeEvent, sentences},
    machine::guest,
    objectives::train::plan::RunPlan,
    research::{Action, Input, Research, RunOrder, beliefs::NOTHING_BELIEVED},
    runs::{
        priced::{RunResult, priced_run},
        supervisor::{Control, RunProgress},
    },
    session::{
        board::Board,
        ending::{Ending, PersonsChange},
        inputs::{Event, Inputs},
        memory::Memory,
    },
    swarm::network::NetworkEvent,
    ui::view::View,
};

/// How often the views are redrawn.
pub(super) const TICK: Duration = Duration::from_millis(250);
/// Ticks between two looks at the battery and the disk: half a minute.
const TICKS_PER_BATTERY_CHECK: u64 = 120;

/// A person's change that waits for its verdict.
#[derive(Debug)]
struct Try {
    /// Names it to the research core, which numbers experiments only as they begin.
    ticket: u64,
    /// The experiment that it became, once it has begun.
    number: Option<u32>,
    responder: Responder,
}

/// A research session in one arena, over the slots of this machine.
#[derive(Debug)]
pub(super) struct EventLoop<'a> {
    research: Research,
    plan: RunPlan,
    memory: &'a mut Memory,
    board: Board,
    view: &'a mut View,
    inputs: Inputs<'a>,
    /// People's changes that wait for their verdicts.
    tries: Vec<Try>,
    next_ticket: u64,
    /// The change that the session was opened for; it begins once there is an incumbent.
    first_try: Option<(PersonsChange, Responder)>,
    /// For each run in flight, its id and the way to pause or cancel it.
    controls: Vec<(u64, watch::Sender<Control>)>,
    /// Runs that were reported as starved by other work, so that each is reported once.
    waiting: BTreeSet<u64>,
    /// Held by the run whose price is taken, since only one is priced at a time.
    pricing: Arc<Mutex<()>>,
    paused_by_person: bool,
    on_battery: bool,
    ticks: u64,
    interrupts: u32,
    ending: Option<Ending>,
    /// Why the session ends with an error, where it does.
    halted: Option<String>,
    /// Experiments of earlier sessions, for what the swarm was not told of them.
    history: Vec<Experiment>,
    /// Whether something came over the network since the last [`EventLoop::consider`].
    has_news: bool,
}

impl<'a> EventLoop<'a> {
    /// Makes a session; nothing runs before [`EventLoop::run`]. In a swarm it tells what is found here, and
    /// tries what peers found.
    pub(super) fn new(
        research: Research,
        plan: RunPlan,
        memory: &'a mut Memory,
        board: Board,
        view: &'a mut View,
        inputs: Inputs<'a>,
    ) -> Self {
        Self {
            research,
            plan,
            memory,
            board,
            view,
            inputs,
            tries: Vec::new(),
            next_ticket: 0,
            first_try: None,
            controls: Vec::new(),
            waiting: BTreeSet::new(),
            pricing: Arc::default(),
            paused_by_person: false,
            on_battery: false,
            ticks: 0,
            interrupts: 0,
            ending: None,
            halted: None,
            history: Vec::new(),
            has_news: false,
        }
    }

    /// Sets a person's change to begin with. Where there is no baseline yet, that comes first.
    #[must_use]
    pub(super) fn with_try(mut self, first_try: Option<(PersonsChange, Responder)>) -> Self {
        self.first_try = first_try;
        self
    }

    /// Sets earlier sessions' experiments in this arena. The swarm is told what it was not told of them.
    #[must_use]
    pub(super) fn after(mut self, history: Vec<Experiment>) -> Self {
        self.history = history;
        self
    }

    /// Runs the session to its end, and returns how it ended.
    pub(super) async fn run(mut self) -> anyhow::Result<Ending> {
        self.begin_first_try()?;
        let actions = self.research.handle(Input::Start, unix_now());
        self.perform(actions)?;
        self.catch_up()?;
        self.consider()?;
        // A session that ends still waits until its cancelled runs are gone.
        while !(self.ending.is_some() && self.inputs.runs.is_empty()) {
            let event = self.inputs.next_event().await;
            self.handle_event(event)?;
        }
        self.board.refresh(&self.research);
        for unanswered in std::mem::take(&mut self.tries) {
            // Those with a number are saved with the experiments in flight; what was only queued is lost.
            let goes_on = unanswered.number.map(|_| "it goes on with the next `node solo`");
            unanswered
                .responder
                .finish(Reply::refused("the node ended before the verdict".to_owned(), goes_on));
        }
        if let Some(swarm) = self.inputs.swarm.as_deref_mut() {
            let shown = swarm.tell_waiting(unix_now(), true);
            self.tell_all(&shown)?;
        }
        let summary = self.board.summary(&self.research);
        self.tell(&NodeEvent::Summary(Box::new(summary)))?;
        match self.halted {
            Some(why) => bail!(why),
            None => Ok(self.ending.unwrap_or(Ending::Done)),
        }
    }

    fn handle_event(&mut self, event: Event) -> anyhow::Result<()> {
        match event {
            Event::Interrupt => self.interrupted()?,
            Event::Deadline => self.stop("the hours asked for are over")?,
            Event::RunEnded(result) => self.run_ended(*result)?,
            Event::Request(request, responder) => self.answer(request, responder)?,
            Event::Progress(progress) => self.progressed(&progress)?,
            Event::Network(event) => self.network_event(&event)?,
            Event::Tick => self.tick()?,
        }
        Ok(())
    }

    fn interrupted(&mut self) -> anyhow::Result<()> {
        self.interrupts += 1;
        if self.interrupts > 1 {
            // A person who asks twice does not want to wait. Nothing is lost: the journal is complete, and
            // the runs in flight die with their parent.
            self.view.finish();
            std::process::exit(130);
        }
        self.stop("interrupted")
    }

    /// Starts nothing new, cancels what runs, and says what is left for the next start.
    fn stop(&mut self, why: &str) -> anyhow::Result<()> {
        if self.ending.is_some() {
            return Ok(());
        }
        self.ending = Some(Ending::Stopped);
        let actions = self.research.handle(Input::Stop, unix_now());
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
        self.tell(&NodeEvent::Stopping { finishing })?;
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
        // A cancelled run has no outcome: its experiment goes on at the next start.
        let (Some(outcome), Some(order)) = (outcome, order) else { return Ok(()) };
        let finished = self.board.run_finished(&order, &outcome);
        self.tell(&finished)?;
        if better_tokens.is_some() {
            self.note(
                "the run's own speed was more than 3 % off its price; it is run again at its own speed",
                None,
            )?;
        }
        let event = Input::RunEnded { id, started_at, outcome: Box::new(outcome), better_tokens };
        let actions = self.research.handle(event, unix_now());
        self.perform(actions)?;
        self.begin_first_try()?;
        self.consider()?;
        self.memory.save_pending(self.research.pending())
    }

    fn progressed(&mut self, progress: &RunProgress) -> anyhow::Result<()> {
        self.board.progress(progress);
        // A message may be handled after its run's end, when nothing would take the run out of `waiting`
        // again.
        let runs = self.controls.iter().any(|(run, _)| *run == progress.run);
        if runs && progress.event.is_starved() && self.waiting.insert(progress.run) {
            self.note(
                "other work takes the machine; what it starves is tried again every half minute",
                None,
            )?;
        }
        Ok(())
    }

    fn network_event(&mut self, event: &NetworkEvent) -> anyhow::Result<()> {
        let Some(swarm) = self.inputs.swarm.as_deref_mut() else { return Ok(()) };
        let shown = swarm.network_event(event, unix_now());
        self.has_news = true;
        shown.map_or(Ok(()), |shown| self.tell(&shown))
    }

    /// Hands the research core what peers have for it: their results, one idea to try, and one discovery to
    /// reproduce. There is one idea and one reproduction at a time, each within its share.
    fn consider(&mut self) -> anyhow::Result<()> {
        self.has_news = false;
        let (Some(swarm), Some(incumbent)) = (self.inputs.swarm.as_deref_mut(), self.research.incumbent())
        else {
            return Ok(());
        };
        if self.ending.is_some() {
            return Ok(());
        }
        let mut events = Vec::new();
        events.extend(
            swarm.peer_results(unix_now()).map(|peer_results| Input::PeerResults(Box::new(peer_results))),
        );
        if !self.research.is_inspired() {
            let proposal = swarm.next_to_try(incumbent);
            events.extend(proposal.map(|proposal| Input::Inspire(Box::new(proposal))));
        }
        if !self.research.is_reproducing() {
            let reproduction = swarm.next_reproduction(self.research.noise());
            events.extend(reproduction.map(|reproduction| Input::Reproduction(Box::new(reproduction))));
        }
        for event in events {
            let actions = self.research.handle(event, unix_now());
            self.perform(actions)?;
        }
        Ok(())
    }

    /// Tells the swarm what earlier sessions found in this arena and did not tell, as after a kill.
    fn catch_up(&mut self) -> anyhow::Result<()> {
        for experiment in std::mem::take(&mut self.history) {
            self.publish(&experiment)?;
        }
        Ok(())
    }

    /// Tells the swarm what an experiment showed, and lets the discoveries learn from it.
    fn publish(&mut self, experiment: &Experiment) -> anyhow::Result<()> {
        let Some(swarm) = self.inputs.swarm.as_deref_mut() else { return Ok(()) };
        let pair_sd = self.research.noise().pair_sd(experiment.group);
        let shown = swarm.publish(experiment, pair_sd);
        swarm.discoveries.observe(experiment);
        self.tell_all(&shown)
    }

    /// Does what the research core ordered, in that order.
    fn perform(&mut self, actions: Vec<Action>) -> anyhow::Result<()> {
        for action in actions {
            match action {
                Action::Run(order) => self.start_run(&order),
                Action::Propose { number, hypothesis } => {
                    self.claim(number)?;
                    let patch = hypothesis.patch.to_string();
                    self.tell(&NodeEvent::Proposed { number, patch, because: hypothesis.because })?;
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
                    // The journal first: nobody hears of a verdict that a kill could still undo.
                    let commit = self.memory.record(&experiment)?;
                    self.board.count(&experiment);
                    self.answer_tries(&experiment);
                    self.publish(&experiment)?;
                    let patch = sentences::headline(&experiment);
                    let number = experiment.number;
                    self.tell(&NodeEvent::Concluded { number, patch, verdict: experiment.verdict, commit })?;
                }
                Action::Note(text) => self.note(&text, None)?,
                // The search is done with the baseline alone, but the person's change has yet to begin.
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

    /// Tells the swarm which config an experiment is about to try. Baselines and reproductions are not told.
    fn claim(&mut self, number: u32) -> anyhow::Result<()> {
        let of = self.research.pending().iter().find(|active| active.number == number);
        let own = of.filter(|active| active.parent.is_some() && active.reproduction.is_none());
        let (Some(swarm), Some(config)) =
            (self.inputs.swarm.as_deref_mut(), own.map(|active| active.child.hash()))
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
        let run = priced_run(spec, Arc::clone(&self.pricing), self.inputs.progress(), watch);
        self.inputs.runs.spawn(run);
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
        if let Some(swarm) = self.inputs.swarm.as_deref_mut() {
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

    /// Brings the board up to date with the swarm.
    fn look_at_swarm(&mut self) {
        let Some(swarm) = self.inputs.swarm.as_deref_mut() else { return };
        let overview = swarm.overview(self.research.pending(), unix_now());
        self.board.swarm(swarm.network.view(), overview);
    }

    /// Sets who wants a pause, and pauses or resumes the runs where that changes anything.
    fn set_paused(&mut self, by_person: bool, on_battery: bool) -> anyhow::Result<()> {
        let before = self.is_paused();
        (self.paused_by_person, self.on_battery) = (by_person, on_battery);
        if before == self.is_paused() {
            return Ok(());
        }
        let control = if self.is_paused() { Control::Pause } else { Control::Run };
        for (_, sender) in &self.controls {
            sender.send_if_modified(|now| {
                // A run that was cancelled stays so.
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
        self.tell(&NodeEvent::Paused { reason })
    }

    /// Answers another command; a try and a sync are answered later.
    fn answer(&mut self, request: Request, responder: Responder) -> anyhow::Result<()> {
        let done = |text: &str| Reply::Done { text: text.to_owned() };
        let reply = match request {
            Request::Status => {
                if let Some(swarm) = self.inputs.swarm.as_deref_mut() {
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
            Request::Discoveries { .. } | Request::Discovery { .. } => {
                let incumbent = self.research.incumbent().map(|incumbent| &*incumbent.config);
                match self.inputs.swarm.as_deref().and_then(|swarm| swarm.answer(&request, incumbent)) {
                    Some(reply) => reply,
                    None => alone(),
                }
            }
            Request::Sync => match self.inputs.swarm.as_deref() {
                Some(swarm) => {
                    swarm.sync(responder);
                    return Ok(());
                }
                None => alone(),
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

    /// Begins the change that the session was opened for, as soon as there is an incumbent to change.
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
                let actions = self.research.handle(Input::Try(ticket, Box::new(proposal)), unix_now());
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
        self.tell(&NodeEvent::Note { text: text.to_owned(), fix: fix.map(str::to_owned) })
    }

    fn tell_all(&mut self, events: &[NodeEvent]) -> anyhow::Result<()> {
        events.iter().try_for_each(|event| self.tell(event))
    }

    fn tell(&mut self, event: &NodeEvent) -> anyhow::Result<()> {
        self.view.happened(unix_now(), event).context("cannot print what happened")
    }
}

/// Returns the answer to a request about the swarm where there is none.
fn alone() -> Reply {
    Reply::refused("this node works alone", Some("`node join` takes part in a swarm"))
}
