//! A session that trains nothing: it serves records and answers until told to stop.

use std::time::Duration;

use super::{
    Session,
    inputs::{Event, Inputs},
    swarm::SwarmSession,
};
use crate::{
    base::clock::unix_now,
    control::{Reply, Request, Responder},
};

/// How often an observer wakes when nothing happens. It has nothing to draw, so that is seldom.
const TICK: Duration = Duration::from_mins(1);

impl Session<'_> {
    /// Serves records until a signal, the deadline or a person ends it.
    pub(super) async fn observe(&mut self) -> anyhow::Result<()> {
        self.note("observing: serves records and relays, trains nothing")?;
        let mut inputs = Inputs::new(&mut self.requests, self.swarm.as_mut(), self.deadline, TICK)?;
        let why = loop {
            let event = inputs.next_event().await;
            let Some(swarm) = inputs.swarm.as_deref_mut() else { return Ok(()) };
            match event {
                Event::Interrupt => break "interrupted",
                Event::Deadline => break "the hours asked for are over",
                Event::Request(Request::Stop, responder) => {
                    responder.finish(Reply::Done { text: "the node stops".to_owned() });
                    break "asked to stop";
                }
                Event::Request(request, responder) => answer(swarm, &request, responder),
                Event::Network(event) => {
                    if let Some(event) = swarm.network_event(&event, unix_now()) {
                        super::show(&mut self.view, &event)?;
                    }
                }
                // Nothing runs here, and nothing is drawn.
                Event::RunEnded(_) | Event::Progress(_) | Event::Tick => {}
            }
        };
        self.note(why)
    }
}

/// Answers what can be asked of a node that trains nothing: status, sync and discoveries.
fn answer(swarm: &mut SwarmSession, request: &Request, responder: Responder) {
    let reply = match request {
        Request::Sync => return swarm.sync(responder),
        Request::Status => {
            swarm.look_now();
            let overview = swarm.overview(&[], unix_now());
            Reply::Network { view: Box::new(swarm.network.view()), swarm: Box::new(overview) }
        }
        other => swarm.answer(other, None).unwrap_or_else(|| {
            Reply::refused(
                "this node observes and trains nothing",
                Some("`node join` without `--observe` does"),
            )
        }),
    };
    responder.finish(reply);
}
