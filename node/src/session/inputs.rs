//! The inputs of a session, and the one place that waits for them.
//!
//! Nothing is handled here: `event_loop` does that, or `observer` where nothing is trained.

use std::{
    future,
    time::{Duration, Instant},
};

use anyhow::Context;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    task::JoinSet,
    time::{Interval, MissedTickBehavior},
};

use super::swarm::SwarmSession;
use crate::{
    control::{Request, Responder},
    runs::{priced::RunResult, supervisor::RunProgress},
    swarm::network::NetworkEvent,
};

/// Trainers' progress messages that wait to be shown. More are dropped: they carry no results.
const PROGRESS_QUEUE: usize = 256;

/// Something that a session has to handle.
#[derive(Debug)]
pub(super) enum Event {
    /// SIGINT or SIGTERM asks the session to end.
    Interrupt,
    /// The hours asked for are over; it comes once.
    Deadline,
    /// A run finished, crashed, was pruned or was cancelled.
    RunEnded(Box<RunResult>),
    /// Another command asks something over the control socket.
    Request(Request, Responder),
    /// A trainer reported its progress.
    Progress(RunProgress),
    /// Something came over the network.
    Network(NetworkEvent),
    /// The tick's interval passed.
    Tick,
}

/// Where a session's events come from.
#[derive(Debug)]
pub(super) struct Inputs<'a> {
    pub(super) swarm: Option<&'a mut SwarmSession>,
    /// The runs in flight.
    pub(super) runs: JoinSet<RunResult>,
    requests: &'a mut mpsc::Receiver<(Request, Responder)>,
    /// Both ends of the queue of trainers' progress messages.
    progress: (mpsc::Sender<RunProgress>, mpsc::Receiver<RunProgress>),
    /// SIGINT and SIGTERM.
    signals: (Signal, Signal),
    deadline: Option<Instant>,
    tick: Interval,
}

impl<'a> Inputs<'a> {
    /// Begins to listen to everything; `tick` is the interval of [`Event::Tick`].
    pub(super) fn new(
        requests: &'a mut mpsc::Receiver<(Request, Responder)>,
        swarm: Option<&'a mut SwarmSession>,
        deadline: Option<Instant>,
        tick: Duration,
    ) -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        let mut tick = tokio::time::interval(tick);
        // After a slow event the ticks go on from there, instead of coming in a burst.
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            swarm,
            runs: JoinSet::new(),
            requests,
            progress: mpsc::channel(PROGRESS_QUEUE),
            signals: (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?),
            deadline,
            tick,
        })
    }

    /// Returns the sender by which a run reports its progress.
    pub(super) fn progress(&self) -> mpsc::Sender<RunProgress> {
        self.progress.0.clone()
    }

    /// Waits for the next event. Of several that are ready, signals and the deadline come first, then
    /// results, requests, the network, progress and the tick.
    pub(super) async fn next_event(&mut self) -> Event {
        let deadline = self.deadline;
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
            () = until_deadline => {
                self.deadline = None;
                Event::Deadline
            }
            Some(joined) = self.runs.join_next() => match joined {
                Ok(result) => Event::RunEnded(Box::new(result)),
                // No run is aborted while somebody waits here, so it failed by a panic.
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            },
            Some((request, responder)) = self.requests.recv() => Event::Request(request, responder),
            Some(event) = network_event(&mut self.swarm) => Event::Network(event),
            Some(progress) = self.progress.1.recv() => Event::Progress(progress),
            _ = self.tick.tick() => Event::Tick,
        }
    }
}

/// Waits for the next event of the network; for ever where there is none.
async fn network_event(swarm: &mut Option<&mut SwarmSession>) -> Option<NetworkEvent> {
    match swarm {
        Some(swarm) => swarm.network.next_event().await,
        None => future::pending().await,
    }
}
