//! The control socket: how `status`, `try`, `pause` and the others ask the node that holds the home.
//!
//! ```text
//! client ──one JSON line──▶ server ──(Request, Responder)──▶ the node's own loop
//! client ◀──JSON lines, then the end of the stream──── Responder
//! ```
//!
//! One request per connection. A request is one line of at most [`MAX_REQUEST_BYTES`]; the answer is zero or more
//! [`Reply::Event`] lines and one final line. **Nothing here waits for a slow client**: a responder never blocks the
//! loop that answers, writes have a time limit, and connections are counted. What a request means is decided elsewhere.

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

/// Longest request. A patch and a reason are far below it.
pub const MAX_REQUEST_BYTES: usize = 64 * 1024;
/// Longest reply line: the largest list of rows, or one experiment with a loss curve for each of its runs.
pub const MAX_REPLY_BYTES: usize = 8 * 1024 * 1024;
/// Connections served at once; a person has a few terminals open, a script a few more.
pub const MAX_CLIENTS: usize = 16;
/// Requests that wait for the node's loop.
pub const MAX_WAITING_REQUESTS: usize = 16;
/// Replies that wait for a client; beyond it events are dropped, the final reply never is.
const MAX_WAITING_REPLIES: usize = 64;

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// What is going on?
    Status,
    /// What has been done?
    Experiments {
        /// Which ones.
        filter: ExperimentFilter,
    },
    /// What does the search believe?
    Importance,
    /// Everything about one experiment.
    Show {
        /// Its number, or the first digits of its id.
        id: String,
    },
    /// What came from the swarm?
    Discoveries {
        /// Which ones.
        filter: discoveries::DiscoveryFilter,
    },
    /// Everything about one discovery.
    Discovery {
        /// The first digits of its id.
        id: String,
    },
    /// Take the records that `node sync` left in the home, and bring git level with what is held.
    Sync,
    /// Put a change through the verdict; the answer comes when the verdict is there.
    Try {
        /// The change to the incumbent.
        patch: String,
        /// Why it should help.
        because: String,
    },
    /// Stop training until [`Request::Resume`].
    Pause,
    /// Go on.
    Resume,
    /// End cleanly.
    Stop,
}

/// One line of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// Not final: something happened that the request caused.
    Event {
        /// What.
        event: NodeEvent,
    },
    /// To [`Request::Status`].
    Status {
        /// What is going on.
        snapshot: Box<Snapshot>,
    },
    /// To [`Request::Status`], from a node that observes.
    Network {
        /// The network as it sees it.
        view: Box<NetworkView>,
        /// Who and what is in the swarm.
        swarm: Box<SwarmView>,
    },
    /// To [`Request::Experiments`].
    Experiments {
        /// Those that the filter leaves, newest last.
        rows: Vec<ExperimentRow>,
    },
    /// To [`Request::Importance`].
    Importance {
        /// What it believes.
        importance: Box<Importance>,
    },
    /// To [`Request::Show`], and to [`Request::Try`] when the verdict is there.
    Experiment {
        /// Everything about it.
        experiment: Box<Experiment>,
    },
    /// To [`Request::Discoveries`].
    Discoveries {
        /// Those that the filter leaves.
        listing: discoveries::Listing,
    },
    /// To [`Request::Discovery`].
    Discovery {
        /// Everything about it.
        details: Box<discoveries::Details>,
        /// The config of this node's incumbent, where it has one.
        incumbent: Option<Box<TrainConfig>>,
    },
    /// To [`Request::Sync`].
    Synced {
        /// What came of them.
        imported: Imported,
    },
    /// It is done.
    Done {
        /// One line that says what.
        text: String,
    },
    /// It is not done.
    Refused {
        /// One line that says why.
        reason: String,
        /// One line that says what to do, where something can be done.
        fix: Option<String>,
    },
}

impl Reply {
    /// Makes a refusal.
    pub fn refused(reason: impl Into<String>, fix: Option<&str>) -> Self {
        Self::Refused { reason: reason.into(), fix: fix.map(str::to_owned) }
    }

    /// Makes a refusal of an error, with its hint where it has one.
    pub fn failed(error: &anyhow::Error) -> Self {
        Self::refused(format!("{error:#}"), hint_of(error))
    }

    /// Returns whether nothing follows this line.
    pub const fn is_final(&self) -> bool {
        !matches!(self, Self::Event { .. })
    }
}

/// The way back to one client. It never blocks; dropping it unanswered tells the client that the node ended.
#[derive(Debug)]
pub struct Responder(mpsc::Sender<Reply>);

impl Responder {
    /// Makes a responder and the end that its replies come out of.
    pub fn channel() -> (Self, mpsc::Receiver<Reply>) {
        let (sender, receiver) = mpsc::channel(MAX_WAITING_REPLIES);
        (Self(sender), receiver)
    }

    /// Tells the client of something that happened; dropped when the client reads too slowly.
    pub fn event(&self, event: &NodeEvent) {
        // The last place is kept free for the final reply.
        if self.0.capacity() > 1 {
            // A client that is gone needs no event.
            let _ = self.0.try_send(Reply::Event { event: event.clone() });
        }
    }

    /// Gives the final reply.
    pub fn finish(self, reply: Reply) {
        // The place is free, so this fails only when the client is gone.
        let _ = self.0.try_send(reply);
    }
}

#[cfg(test)]
#[path = "control_tests.rs"]
mod tests;
