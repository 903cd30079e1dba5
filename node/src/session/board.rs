//! Keeps the snapshot of a session up to date: bookkeeping of what the driver saw, for the views.
//!
//! Nothing is decided or printed here.

use std::{collections::VecDeque, time::Instant};

use autoswarm_protocol::{Experiment, KnobGroup, Outcome, Patch, RunRole, TrainerEvent, Verdict};

use crate::{
    events::{NodeEvent, RECENT_VERDICTS, SessionSummary, SlotPhase, SlotView, Snapshot, sentences},
    research::{Research, RunOrder},
    runs::supervisor::RunProgress,
    swarm::{discoveries::SwarmView, network::NetworkView},
};

/// The state of a session as people see it, and the counts that it is made from.
#[derive(Debug)]
pub struct Board {
    snapshot: Snapshot,
    /// For each slot, the id of its run.
    runs: Vec<Option<u64>>,
    recent: VecDeque<(u32, String, Verdict)>,
    concluded: u32,
    kept: u32,
    crashed: u32,
    /// Wall-clock seconds of all runs that ended, and how many they are.
    run_seconds: f64,
    runs_timed: u32,
    started: Instant,
    /// For each slot, when its run started.
    run_starts: Vec<Option<Instant>>,
    /// Why nothing runs, during a pause.
    paused: Option<String>,
}

impl Board {
    /// Makes the board of a session that begins. `snapshot` has what stays the same, and what earlier
    /// sessions did.
    pub fn new(snapshot: Snapshot) -> Self {
        let slots = snapshot.slots.len();
        Self {
            recent: snapshot.recent.iter().cloned().collect(),
            snapshot,
            runs: vec![None; slots],
            concluded: 0,
            kept: 0,
            crashed: 0,
            run_seconds: 0.0,
            runs_timed: 0,
            started: Instant::now(),
            run_starts: vec![None; slots],
            paused: None,
        }
    }

    /// Returns the view of a slot in which nothing runs.
    pub fn idle_slot(name: String) -> SlotView {
        SlotView {
            name,
            phase: SlotPhase::Idle,
            number: None,
            role: String::new(),
            patch: String::new(),
            done: 0,
            total: 0,
            tokens_per_second: 0.0,
            loss: None,
            remaining_seconds: None,
        }
    }

    /// Returns the snapshot, which [`Board::refresh`] brings up to date.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Returns the name of a slot by its index, such as `cpu:0-1`.
    pub fn slot_name(&self, slot: usize) -> &str {
        &self.snapshot.slots[slot].name
    }

    /// Returns how many experiments were concluded, kept and crashed in this session, baselines apart.
    pub fn counts(&self) -> (u32, u32, u32) {
        (self.concluded, self.kept, self.crashed)
    }

    /// Returns the hours since the session began.
    pub fn hours(&self) -> f64 {
        self.started.elapsed().as_secs_f64() / 3600.0
    }

    /// Returns the mean wall-clock seconds of a run, once one ended.
    pub fn run_seconds(&self) -> Option<f64> {
        (self.runs_timed > 0).then(|| self.run_seconds / f64::from(self.runs_timed))
    }

    /// Notes that a run starts on its slot.
    pub fn run_started(&mut self, order: &RunOrder) {
        self.runs[order.slot] = Some(order.id);
        self.run_starts[order.slot] = Some(Instant::now());
        let slot = &mut self.snapshot.slots[order.slot];
        *slot = SlotView {
            phase: SlotPhase::Starting,
            number: Some(order.number),
            role: role(order.role, order.pair),
            patch: if order.patch.is_empty() { String::new() } else { order.patch.to_string() },
            total: order.tokens.unwrap_or(0),
            ..Self::idle_slot(std::mem::take(&mut slot.name))
        };
    }

    /// Notes that a run ended, and shows its slot as idle.
    pub fn run_ended(&mut self, id: u64) {
        let Some(slot) = self.runs.iter().position(|run| *run == Some(id)) else { return };
        self.runs[slot] = None;
        if let Some(started) = self.run_starts[slot].take() {
            self.run_seconds += started.elapsed().as_secs_f64();
            self.runs_timed += 1;
        }
        let name = std::mem::take(&mut self.snapshot.slots[slot].name);
        self.snapshot.slots[slot] = Self::idle_slot(name);
    }

    /// Notes what a trainer reported of its run.
    pub fn progress(&mut self, progress: &RunProgress) {
        let Some(slot) = self.runs.iter().position(|run| *run == Some(progress.run)) else { return };
        let view = &mut self.snapshot.slots[slot];
        match &progress.event {
            TrainerEvent::Starting { .. } => view.phase = SlotPhase::Pricing,
            TrainerEvent::Priced { tokens, tokens_per_second, .. } => {
                view.total = *tokens;
                view.tokens_per_second = *tokens_per_second;
            }
            TrainerEvent::TrainingStarted { tokens, .. } => {
                view.phase = SlotPhase::Training;
                (view.done, view.total) = (0, *tokens);
            }
            TrainerEvent::Progress { tokens, loss, tokens_per_second, .. } => {
                view.done = *tokens;
                view.loss = Some(*loss);
                view.tokens_per_second = *tokens_per_second;
                let left = view.total.saturating_sub(*tokens) as f64;
                view.remaining_seconds = (*tokens_per_second > 0.0).then(|| left / tokens_per_second);
            }
            TrainerEvent::Evaluating { done, total, .. } => {
                view.phase = SlotPhase::Evaluating;
                (view.done, view.total, view.remaining_seconds) = (*done, *total, None);
            }
            // The run will start anew, so nothing of it is done.
            event if event.is_starved() => {
                view.phase = SlotPhase::Waiting;
                (view.done, view.total, view.remaining_seconds) = (0, 0, None);
            }
            _ => {}
        }
    }

    /// Notes that a pause began, with its reason, or that it ended.
    pub fn paused(&mut self, reason: Option<String>) {
        self.paused = reason;
    }

    /// Takes the current views of the network and of the swarm.
    pub fn swarm(&mut self, network: NetworkView, swarm: SwarmView) {
        self.snapshot.network = Some(network);
        self.snapshot.swarm = Some(swarm);
    }

    /// Counts an experiment that ended, and puts it among the recent verdicts.
    pub fn count(&mut self, experiment: &Experiment) {
        // The board counts this session; the snapshot counts all sessions in this arena.
        if !matches!(experiment.verdict, Verdict::Baseline) {
            self.concluded += 1;
            self.snapshot.experiments += 1;
        }
        self.kept += u32::from(matches!(experiment.verdict, Verdict::Keep { .. }));
        self.crashed += u32::from(matches!(experiment.verdict, Verdict::Crash { .. }));
        self.snapshot.keeps += u32::from(matches!(experiment.verdict, Verdict::Keep { .. }));
        self.snapshot.crashes += u32::from(matches!(experiment.verdict, Verdict::Crash { .. }));
        self.recent.push_back((
            experiment.number,
            sentences::headline(experiment),
            experiment.verdict.clone(),
        ));
        while self.recent.len() > RECENT_VERDICTS {
            self.recent.pop_front();
        }
    }

    /// Returns the event that says what a run came to.
    pub fn run_finished(&self, order: &RunOrder, outcome: &Outcome) -> NodeEvent {
        let report = outcome.report();
        NodeEvent::RunFinished {
            number: order.number,
            slot: self.slot_name(order.slot).to_owned(),
            role: role(order.role, order.pair),
            validation: report.map(|report| report.validation.get()),
            crash: match outcome {
                Outcome::Crashed(crash) => Some(crash.class),
                Outcome::Finished(_) | Outcome::Pruned(_) => None,
            },
            seconds: match outcome {
                Outcome::Finished(report) => report.training_seconds,
                Outcome::Crashed(crash) => crash.seconds,
                Outcome::Pruned(pruned) => pruned.training_seconds,
            },
            tokens: match outcome {
                Outcome::Finished(report) => report.tokens,
                Outcome::Crashed(_) => 0,
                // Its tokens are those of a whole run, of which it did a share of the steps.
                Outcome::Pruned(pruned) => pruned.tokens / pruned.steps.max(1) * pruned.step,
            },
        }
    }

    /// Brings the snapshot up to date with the research core and with this board's counts.
    pub fn refresh(&mut self, research: &Research) {
        self.snapshot.recent = self.recent.iter().cloned().collect();
        self.snapshot.incumbent = research.incumbent().and_then(crate::research::Incumbent::mean);
        self.snapshot.incumbent_patch = research.incumbent().map_or_else(String::new, |incumbent| {
            Patch::between(research.baseline(), &incumbent.config).to_string()
        });
        self.snapshot.gain = research.gain();
        self.snapshot.experiments_per_hour =
            (self.concluded > 0).then(|| f64::from(self.concluded) / self.hours());
        self.snapshot.next_verdict_seconds = self.next_verdict(research);
        self.snapshot.paused.clone_from(&self.paused);
        for (slot, view) in self.snapshot.slots.iter_mut().enumerate() {
            match (&self.paused, self.runs[slot]) {
                (Some(_), Some(_)) => view.phase = SlotPhase::Paused,
                // What it did before the pause is forgotten; the trainer's next event corrects this.
                (None, Some(_)) if view.phase == SlotPhase::Paused => view.phase = SlotPhase::Training,
                _ => {}
            }
        }
    }

    /// Returns the summary of the session so far.
    pub fn summary(&self, research: &Research) -> SessionSummary {
        let (experiments, keeps, crashes) = self.counts();
        let noise = research.noise();
        let resolution = |seconds: f64| {
            let group = KnobGroup::Optimizer;
            research.policy().resolution(noise, group, seconds, self.runs.len())
        };
        SessionSummary {
            experiments,
            keeps,
            crashes,
            baseline: research.baseline_mean(),
            patch: self.snapshot.incumbent_patch.clone(),
            gain: research.gain(),
            resolvable_per_hour: self
                .run_seconds()
                .filter(|_| research.incumbent().is_some())
                .map(resolution),
            ruled_out: research.proposer().ruled_out(),
            untried: research.proposer().untried(),
            hours: self.hours(),
        }
    }

    /// Returns the seconds until the oldest experiment can be judged, by the runs that it still needs for
    /// certain.
    fn next_verdict(&self, research: &Research) -> Option<f64> {
        let oldest = research.pending().first()?;
        let run_seconds = self.run_seconds()?;
        let needs = research.outstanding_runs(oldest.number) as f64;
        let slots = self.runs.len() as f64;
        let elapsed =
            self.run_starts.iter().flatten().map(|start| start.elapsed().as_secs_f64()).fold(0.0, f64::max);
        // So many rounds over all slots, less the time that the longest of the current runs has had.
        Some(((needs / slots).ceil() * run_seconds - elapsed).max(0.0))
    }
}

/// Names a run's role for lists: `screen`, `pair 2, incumbent`.
fn role(role: RunRole, pair: Option<u16>) -> String {
    let name = match role {
        RunRole::Screen => "screen",
        RunRole::Baseline => "baseline",
        RunRole::Child => "child",
        RunRole::Incumbent | RunRole::IncumbentScreen => "incumbent",
    };
    match pair {
        Some(pair) => format!("pair {}, {name}", pair + 1),
        None => name.to_owned(),
    }
}
