//! What a person sees of a running node: things that happened, and a snapshot of what is going on.
//!
//! The driver makes both; the plain, JSON and live views and the control socket only print them. Nothing here decides.

pub mod rows;
pub mod sentences;

use autoswarm_protocol::{Budget, CrashClass, Estimate, KnobGroup, Verdict};
use serde::{Deserialize, Serialize};

use crate::swarm::{discoveries::SwarmView, network::NetworkView};

/// Something that happened: one plain line, or one JSON line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum NodeEvent {
    /// The node is ready to work.
    Started {
        /// The home.
        home: String,
        /// The swarm config's name.
        objective: String,
        /// The arena's short id.
        arena: String,
        /// How long an experiment trains.
        budget: Budget,
        /// The same in seconds on this machine.
        budget_seconds: f64,
        /// One name per slot, such as `cpu:0-1`.
        slots: Vec<String>,
        /// Experiments already in the journal.
        resumed: u32,
    },
    /// Something worth knowing that is nobody's fault; `fix` says what to do, where something can be done.
    Note {
        /// One line.
        text: String,
        /// One line.
        fix: Option<String>,
    },
    /// Long work other than training goes on: `download`, `corpus`, `probe`.
    Working {
        /// What.
        stage: String,
        /// Units done.
        done: u64,
        /// Units in all, 0 where unknown.
        total: u64,
    },
    /// The probe gave the machine's class.
    Probed {
        /// Runs that take place at the same time.
        slots: u16,
        /// Training throughput of the class's reference config.
        tokens_per_second: f64,
        /// How long an experiment trains.
        budget: Budget,
        /// The same in seconds on this machine.
        budget_seconds: f64,
    },
    /// A peer came or left, or a record was heard or told.
    Swarm {
        /// One clean line.
        text: String,
    },
    /// Others can join with this.
    Ticket {
        /// The ticket.
        ticket: String,
    },
    /// A hypothesis was chosen.
    Proposed {
        /// The experiment's number.
        number: u32,
        /// The change, such as `matrix_lr 0.04 → 0.03`.
        patch: String,
        /// Why.
        because: String,
    },
    /// A run ended.
    RunFinished {
        /// The experiment's number.
        number: u32,
        /// The slot's name.
        slot: String,
        /// What it was for: `screen`, `child`, `incumbent`, `baseline`.
        role: String,
        /// Bits per byte on validation.
        validation: Option<f64>,
        /// The crash, where there is no number.
        crash: Option<CrashClass>,
        /// Training seconds.
        seconds: f64,
        /// Training tokens.
        tokens: u64,
    },
    /// An experiment ended.
    Concluded {
        /// The experiment's number.
        number: u32,
        /// The change.
        patch: String,
        /// What became of it.
        verdict: Verdict,
        /// The journal's commit.
        commit: String,
    },
    /// A pause began or ended.
    Paused {
        /// Why, such as `on battery`; none when work goes on.
        reason: Option<String>,
    },
    /// The node is ending.
    Stopping {
        /// What it still finishes.
        finishing: String,
    },
    /// The node ended; what it found, also if that is nothing.
    Summary(Box<SessionSummary>),
}

/// What a session found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionSummary {
    /// Experiments of this session, the baseline apart.
    pub experiments: u32,
    /// Keeps of this session.
    pub keeps: u32,
    /// Crashes of this session.
    pub crashes: u32,
    /// Mean validation of the baseline, bits per byte.
    pub baseline: Option<f64>,
    /// The incumbent's change from the baseline, such as `batch_tokens 8192 → 4096`.
    pub patch: String,
    /// The sum of the kept gains since the baseline with its error, bits per byte.
    pub gain: Option<Estimate>,
    /// Smallest effect that this machine resolves in an hour of training, bits per byte.
    pub resolvable_per_hour: Option<f64>,
    /// Changes that were ruled out, newest first.
    pub ruled_out: Vec<String>,
    /// Knob groups with the number of knobs not tried yet.
    pub untried: Vec<(KnobGroup, u32)>,
    /// Hours of this session.
    pub hours: f64,
}

/// What a slot is doing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotPhase {
    /// Nothing.
    Idle,
    /// The trainer loads and builds.
    Starting,
    /// The trainer measures the config's price.
    Pricing,
    /// The trainer trains.
    Training,
    /// The trainer evaluates.
    Evaluating,
    /// The run is stopped for a while.
    Paused,
    /// Other work starved the run; it is tried again in a moment.
    Waiting,
}

/// A slot's line in the live view.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SlotView {
    /// Its name, such as `cpu:0-1`.
    pub name: String,
    /// What it is doing.
    pub phase: SlotPhase,
    /// The experiment that it works for.
    pub number: Option<u32>,
    /// What the run is for, such as `screen` or `pair 2, incumbent`.
    pub role: String,
    /// The change under test.
    pub patch: String,
    /// Units done of the phase: training or evaluation tokens.
    pub done: u64,
    /// Units in all.
    pub total: u64,
    /// Training throughput.
    pub tokens_per_second: f64,
    /// Smoothed training loss, nats per token.
    pub loss: Option<f64>,
    /// Seconds until the run ends.
    pub remaining_seconds: Option<f64>,
}

/// What is going on right now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The swarm config's name.
    pub objective: String,
    /// The arena's short id.
    pub arena: String,
    /// How long an experiment trains.
    pub budget: Budget,
    /// The same in seconds on this machine.
    pub budget_seconds: f64,
    /// One entry per slot.
    pub slots: Vec<SlotView>,
    /// Mean validation of the incumbent, bits per byte, with its standard error.
    pub incumbent: Option<(f64, f64)>,
    /// The incumbent's change from the baseline.
    pub incumbent_patch: String,
    /// The sum of the kept gains since the baseline with its error.
    pub gain: Option<Estimate>,
    /// The newest verdicts, newest last, as `(number, patch, verdict)`; at most [`RECENT_VERDICTS`].
    pub recent: Vec<(u32, String, Verdict)>,
    /// Experiments in the journal.
    pub experiments: u32,
    /// Keeps in the journal.
    pub keeps: u32,
    /// Crashes in the journal.
    pub crashes: u32,
    /// Experiments an hour, over this session.
    pub experiments_per_hour: Option<f64>,
    /// Seconds until the next verdict, by the runs that are surely needed.
    pub next_verdict_seconds: Option<f64>,
    /// Why nothing runs, where nothing runs.
    pub paused: Option<String>,
    /// The network, where there is one.
    #[serde(default)]
    pub network: Option<NetworkView>,
    /// Who and what is in the swarm, where there is one.
    #[serde(default)]
    pub swarm: Option<SwarmView>,
}

/// Verdicts that a snapshot carries: what fits on a small terminal.
pub const RECENT_VERDICTS: usize = 8;
