//! What ties a run to its owner: news one way, wishes the other.

use autoswarm_protocol::TrainerEvent;
use tokio::sync::{mpsc, watch as channel};

/// Something that a run's trainer said.
#[derive(Debug, Clone, PartialEq)]
pub struct RunProgress {
    /// [`RunSpec::run`](super::RunSpec::run).
    pub run: u64,
    /// What it said.
    pub event: TrainerEvent,
}

/// What the owner of a run wants of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Control {
    /// Go on.
    #[default]
    Run,
    /// Stand still; the time until [`Control::Run`] counts against no limit.
    Pause,
    /// End now, without an outcome.
    Cancel,
}

/// The ends of a run's channels.
#[derive(Debug)]
pub(super) struct Links {
    pub(super) events: mpsc::Sender<RunProgress>,
    pub(super) control: channel::Receiver<Control>,
}
