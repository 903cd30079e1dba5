//! What a person sees of a running node: events that happened, and a snapshot of what is going on.
//!
//! The driver makes both. The plain, JSON and live views print them, and the control socket passes them on.
//! Nothing is decided here; how they look is in [`crate::ui`].

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
        /// The path of the home.
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
        /// Experiments of this arena that are already in the journal.
        resumed: u32,
    },
    /// Something worth knowing that is nobody's fault; `fix` says what to do, where something can be done.
    Note {
        /// What to know, in one line.
        text: String,
        /// What to do, in one line.
        fix: Option<String>,
    },
    /// Long work other than training goes on: `download`, `corpus`, `probe`.
    Working {
        /// Which work it is.
        stage: String,
        /// How much of it is done, in units of the stage.
        done: u64,
        /// The same in all; 0 where that is not known.
        total: u64,
    },
    /// The probe found the machine's class.
    Probed {
        /// Runs that train at the same time.
        slots: u16,
        /// Training throughput of the probe's reference config on one slot.
        tokens_per_second: f64,
        /// How long an experiment trains.
        budget: Budget,
        /// The same in seconds on this machine.
        budget_seconds: f64,
    },
    /// A peer came or left, or a record was heard or told.
    Swarm {
        /// What happened, in one clean line.
        text: String,
    },
    /// The node listens, and others can join with its ticket.
    Ticket {
        /// The ticket in full, to be copied.
        ticket: String,
    },
    /// A hypothesis was chosen.
    Proposed {
        /// The experiment's number.
        number: u32,
        /// The change, such as `matrix_lr 0.04 → 0.03`.
        patch: String,
        /// Why it should help.
        because: String,
    },
    /// A run finished, crashed or was pruned.
    RunFinished {
        /// The experiment's number.
        number: u32,
        /// The name of the slot that it ran on.
        slot: String,
        /// What it was for, such as `screen`, `baseline` or `pair 2, child`.
        role: String,
        /// Bits per byte on validation; none after a crash or where the run was pruned.
        validation: Option<f64>,
        /// The class of the crash, if it crashed.
        crash: Option<CrashClass>,
        /// Seconds that it trained, or ran until it crashed.
        seconds: f64,
        /// Tokens that it trained on; 0 after a crash.
        tokens: u64,
    },
    /// An experiment ended with a verdict.
    Concluded {
        /// The experiment's number.
        number: u32,
        /// The change that was tried.
        patch: String,
        /// What became of it.
        verdict: Verdict,
        /// The journal's commit of it, 40 hexadecimal digits.
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
    /// The session ended; what it found, even if that is nothing.
    Summary(Box<SessionSummary>),
}

/// What a session found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionSummary {
    /// Experiments of this session, the baseline apart.
    pub experiments: u32,
    /// Experiments of this session that were kept.
    pub keeps: u32,
    /// Experiments of this session that crashed.
    pub crashes: u32,
    /// Mean validation of the baseline, bits per byte.
    pub baseline: Option<f64>,
    /// The incumbent's change from the baseline, such as `batch_tokens 8192 → 4096`.
    pub patch: String,
    /// The sum of the kept gains since the baseline with its standard error, bits per byte; negative is
    /// better.
    pub gain: Option<Estimate>,
    /// Smallest effect that this machine resolves in an hour of training, bits per byte.
    pub resolvable_per_hour: Option<f64>,
    /// Changes that were ruled out because they gain nothing or too little, newest first.
    pub ruled_out: Vec<String>,
    /// For each knob group, the number of its knobs that were not tried yet.
    pub untried: Vec<(KnobGroup, u32)>,
    /// Hours that this session took.
    pub hours: f64,
}

/// What a slot is doing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotPhase {
    /// Nothing runs on it.
    Idle,
    /// The trainer starts and reads its input.
    Starting,
    /// The trainer builds the model and measures the config's price: how many tokens the budget buys it.
    Pricing,
    /// The trainer trains the model.
    Training,
    /// The trainer evaluates the trained model.
    Evaluating,
    /// The run stands still until a pause ends.
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
    /// The number of the experiment that it works for; none where it is idle.
    pub number: Option<u32>,
    /// What the run is for, such as `screen` or `pair 2, incumbent`.
    pub role: String,
    /// The change under test.
    pub patch: String,
    /// What is done of the phase: training or evaluation tokens.
    pub done: u64,
    /// The same of the whole phase; 0 where it is not known.
    pub total: u64,
    /// Training throughput; 0 where it is not known.
    pub tokens_per_second: f64,
    /// Smoothed training loss, nats per token.
    pub loss: Option<f64>,
    /// Seconds until the training ends.
    pub remaining_seconds: Option<f64>,
}

/// The state of a session right now.
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
    /// What each slot is doing.
    pub slots: Vec<SlotView>,
    /// Mean validation of the incumbent, bits per byte, with its standard error.
    pub incumbent: Option<(f64, f64)>,
    /// The incumbent's change from the baseline.
    pub incumbent_patch: String,
    /// The sum of the kept gains since the baseline with its standard error, bits per byte; negative is
    /// better.
    pub gain: Option<Estimate>,
    /// The newest verdicts, newest last, as `(number, patch, verdict)`; at most [`RECENT_VERDICTS`].
    pub recent: Vec<(u32, String, Verdict)>,
    /// Experiments of this arena in the journal, baselines apart.
    pub experiments: u32,
    /// Those that were kept.
    pub keeps: u32,
    /// Those that crashed.
    pub crashes: u32,
    /// Experiments an hour, over this session.
    pub experiments_per_hour: Option<f64>,
    /// Seconds until the next verdict, by the runs that it still needs for certain.
    pub next_verdict_seconds: Option<f64>,
    /// Why nothing runs, during a pause.
    pub paused: Option<String>,
    /// The network, where the node is in a swarm.
    #[serde(default)]
    pub network: Option<NetworkView>,
    /// The swarm's peers and discoveries, where the node is in one.
    #[serde(default)]
    pub swarm: Option<SwarmView>,
}

/// Verdicts that a snapshot carries: what fits on a small terminal.
pub const RECENT_VERDICTS: usize = 8;
