//! The control socket: how `status`, `try`, `pause` and the others ask the node that holds the home.
//!
//! ```text
//! client ──one JSON line──▶ server ──(Request, Responder)──▶ the node's own loop
//! client ◀──JSON lines, then the end of the stream──── Responder
//! ```
//!
//! One request per connection. A request is one line of at most [`MAX_REQUEST_BYTES`]. The answer is zero or
//! more [`Reply::Event`] lines and one final line. **Nothing here waits for a slow client**: a responder
//! never blocks the loop that answers, writes have a time limit, and connections are counted.
//!
//! Not here: what a request means, which is decided in [`crate::session`].

mod client;
mod server;
mod socket;

use autoswarm_protocol::{Experiment, TrainConfig};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

pub use client::{ControlError, ask};
pub use server::serve;
pub use socket::{ControlSocket, bind, socket_path};

use crate::{
    base::hint::hint_of,
    events::{
        NodeEvent, Snapshot,
        rows::{ExperimentFilter, ExperimentRow},
    },
    research::beliefs::Importance,
    swarm::{
        discoveries::{self, SwarmView},
        git::Imported,
        network::NetworkView,
    },
};

/// Longest request, bytes. A patch and a reason are far below it.
pub const MAX_REQUEST_BYTES: usize = 64 * 1024;
/// Longest reply line, bytes: the largest list of rows, or one experiment with a loss curve for each of its
/// runs.
pub const MAX_REPLY_BYTES: usize = 8 * 1024 * 1024;
/// Connections served at once; a person has a few terminals open, a script a few more.
pub const MAX_CLIENTS: usize = 16;
/// Requests that may wait for the node's loop.
pub const MAX_WAITING_REQUESTS: usize = 16;
/// Replies that may wait for a client. Beyond that, events are dropped; the final reply never is.
const MAX_WAITING_REPLIES: usize = 64;

/// What another command can ask of the running node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// What is the node doing now?
    Status,
    /// Which experiments are in the journal?
    Experiments {
        /// Which of them to list, and how many.
        filter: ExperimentFilter,
    },
    /// What does the search believe of the knobs and of the kinds of move?
    Importance,
    /// Everything about one experiment.
    Show {
        /// Its number, or the first digits of its id or of its commit.
        id: String,
    },
    /// Which discoveries are known, of peers and of this node?
    Discoveries {
        /// Which of them to list, in what order, and how many.
        filter: discoveries::DiscoveryFilter,
    },
    /// Everything about one discovery.
    Discovery {
        /// The first digits of its id.
        id: String,
    },
    /// Import the records that `node sync` left in the home, and bring git level with all records held.
    Sync,
    /// Judge a change like any experiment; the answer comes when the verdict is there.
    Try {
        /// The change to the incumbent.
        patch: String,
        /// Why it should help.
        because: String,
    },
    /// Stop training until [`Request::Resume`].
    Pause,
    /// Go on after [`Request::Pause`].
    Resume,
    /// End the session; unfinished experiments wait for the next start.
    Stop,
}

/// One line of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// Something happened that the request caused; more lines follow.
    Event {
        /// What happened, as the views show it.
        event: NodeEvent,
    },
    /// Answers [`Request::Status`].
    Status {
        /// The state of the session.
        snapshot: Box<Snapshot>,
    },
    /// Answers [`Request::Status`], on a node that observes.
    Network {
        /// The network as this node sees it.
        view: Box<NetworkView>,
        /// The swarm's peers and discoveries.
        swarm: Box<SwarmView>,
    },
    /// Answers [`Request::Experiments`].
    Experiments {
        /// The experiments that the filter leaves, newest last.
        rows: Vec<ExperimentRow>,
    },
    /// Answers [`Request::Importance`].
    Importance {
        /// What the search believes.
        importance: Box<Importance>,
    },
    /// Answers [`Request::Show`], and [`Request::Try`] when the verdict is there.
    Experiment {
        /// The experiment with all its runs.
        experiment: Box<Experiment>,
    },
    /// Answers [`Request::Discoveries`].
    Discoveries {
        /// The discoveries that the filter leaves.
        listing: discoveries::Listing,
    },
    /// Answers [`Request::Discovery`].
    Discovery {
        /// The discovery with its re-runs and its lineage.
        details: Box<discoveries::Details>,
        /// The config of this node's incumbent, where it has one.
        incumbent: Option<Box<TrainConfig>>,
    },
    /// Answers [`Request::Sync`].
    Synced {
        /// How many of the records were new, known or refused.
        imported: Imported,
    },
    /// The request is carried out.
    Done {
        /// One line that says what was done.
        text: String,
    },
    /// The request is not carried out.
    Refused {
        /// One line that says why.
        reason: String,
        /// One line that says what to do, where something can be done.
        fix: Option<String>,
    },
}

impl Reply {
    /// Makes a refusal with its reason and, where something can be done, what to do.
    pub fn refused(reason: impl Into<String>, fix: Option<&str>) -> Self {
        Self::Refused { reason: reason.into(), fix: fix.map(str::to_owned) }
    }

    /// Makes a refusal from an error, with the error's hint where it has one.
    pub fn failed(error: &anyhow::Error) -> Self {
        Self::refused(format!("{error:#}"), hint_of(error))
    }

    /// Returns whether this is the last line of an answer.
    pub const fn is_final(&self) -> bool {
        !matches!(self, Self::Event { .. })
    }
}

/// The way back to one client. It never blocks; dropping it unanswered tells the client that the node ended.
#[derive(Debug)]
pub struct Responder(mpsc::Sender<Reply>);

impl Responder {
    /// Makes a responder, and the receiver that its replies come out of.
    pub fn channel() -> (Self, mpsc::Receiver<Reply>) {
        let (sender, receiver) = mpsc::channel(MAX_WAITING_REPLIES);
        (Self(sender), receiver)
    }

    /// Tells the client of something that happened. The event is dropped when the client reads too slowly.
    pub fn event(&self, event: &NodeEvent) {
        // The last place is kept free for the final reply.
        if self.0.capacity() > 1 {
            // A client that is gone needs no event.
            let _ = self.0.try_send(Reply::Event { event: event.clone() });
        }
    }

    /// Sends the final reply.
    pub fn finish(self, reply: Reply) {
        // Events leave one place free, so this fails only when the client is gone.
        let _ = self.0.try_send(reply);
    }
}

#[cfg(test)]
mod tests;
