//! The channels between a run and its owner: events one way, control the other.

use autoswarm_protocol::TrainerEvent;
use tokio::sync::{mpsc, watch as channel};

/// One event of a run's trainer.
#[derive(Debug, Clone, PartialEq)]
pub struct RunProgress {
    /// The number of the run, [`RunSpec::run`](super::RunSpec::run).
    pub run: u64,
    /// What the trainer said.
    pub event: TrainerEvent,
}

/// What the owner of a run wants of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Control {
    /// Train, or go on after a pause.
    #[default]
    Run,
    /// Stand still; the time until [`Control::Run`] counts against no limit.
    Pause,
    /// End now, without an outcome.
    Cancel,
}

/// The run's ends of both channels.
#[derive(Debug)]
pub(super) struct Links {
    pub(super) events: mpsc::Sender<RunProgress>,
    pub(super) control: channel::Receiver<Control>,
}
