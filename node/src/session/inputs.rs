//! What reaches a session, and the one place that waits for it.

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

/// News of trainers that wait to be shown. More are dropped: they are news, not results.
const PROGRESS_QUEUE: usize = 256;

/// Something for a session to deal with.
#[derive(Debug)]
pub(super) enum Event {
    /// A signal asks for the end.
    Interrupt,
    /// The hours asked for are over; said once.
    Deadline,
    /// A run ended.
    RunEnded(Box<RunResult>),
    /// Another command asks.
    Request(Request, Responder),
    /// A trainer said something.
    Progress(RunProgress),
    /// Something came over the network.
    Network(NetworkEvent),
    /// A moment passed.
    Tick,
}

/// Where a session's events come from.
#[derive(Debug)]
pub(super) struct Inputs<'a> {
    pub(super) swarm: Option<&'a mut SwarmSession>,
    pub(super) runs: JoinSet<RunResult>,
    requests: &'a mut mpsc::Receiver<(Request, Responder)>,
    progress: (mpsc::Sender<RunProgress>, mpsc::Receiver<RunProgress>),
    signals: (Signal, Signal),
    deadline: Option<Instant>,
    tick: Interval,
}

impl<'a> Inputs<'a> {
    /// Listens to everything; `tick` is how often a moment passes.
    pub(super) fn new(
        requests: &'a mut mpsc::Receiver<(Request, Responder)>,
        swarm: Option<&'a mut SwarmSession>,
        deadline: Option<Instant>,
        tick: Duration,
    ) -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        let mut tick = tokio::time::interval(tick);
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

    /// Returns where a run tells its news.
    pub(super) fn progress(&self) -> mpsc::Sender<RunProgress> {
        self.progress.0.clone()
    }

    /// Waits for the next event: what a person wants first, then results, then the network.
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
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            },
            Some((request, responder)) = self.requests.recv() => Event::Request(request, responder),
            Some(event) = network_event(&mut self.swarm) => Event::Network(event),
            Some(progress) = self.progress.1.recv() => Event::Progress(progress),
            _ = self.tick.tick() => Event::Tick,
        }
    }
}

/// Waits for the network; for ever where there is none.
async fn network_event(swarm: &mut Option<&mut SwarmSession>) -> Option<NetworkEvent> {
    match swarm {
        Some(swarm) => swarm.network.next_event().await,
        None => future::pending().await,
    }
}
