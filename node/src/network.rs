//! The network: one task owns the libp2p swarm and its `select!`; everybody else holds a [`Network`] handle.
//!
//! ```text
//! research ──Command──▶ task ──gossip, answers──▶ peers
//! research ◀──Heard──── task ◀──gossip, answers── peers      nothing comes out of it unverified
//! ```
//!
//! Gossip is for latency, [`sync`] is the guarantee. **A fault of a peer never ends the task**, nobody home is no error,
//! and no queue is unbounded: what finds no room in one is in the archive, and asked for from there.

pub mod archive;
mod behaviour;
pub mod exchange;
mod peers;
mod records;
pub mod sync;
mod task;
pub mod ticket;

use std::{path::PathBuf, time::Duration};

use autoswarm_protocol::{
    id::RecordId,
    record::{Body, Fault, Signed, Verified},
};
use libp2p::{Multiaddr, PeerId, identity::Keypair};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

use archive::{Archive, Taken};
pub use behaviour::Switches;
pub use records::RecordsOf;
pub use task::fetch_swarm_config;
pub use ticket::Ticket;

/// Commands that wait for the task.
const COMMANDS: usize = 64;
/// News that wait for the research; what is dropped is in the archive.
const NEWS: usize = 256;

/// Why there is no network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// A part refuses its parameters.
    #[error("cannot set up the network: {0}")]
    Setup(String),
    /// An address is taken or does not exist here.
    #[error("cannot listen on `{address}`: {reason}; choose another with `--listen`")]
    Listen {
        /// Which.
        address: String,
        /// What the system said.
        reason: String,
    },
    /// No peer of the ticket answered with the objective.
    #[error("no peer of the ticket sent the swarm config: {0}")]
    NoSwarmConfig(String),
}

/// How a node takes part.
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    /// The node's identity, which also signs its records.
    pub keys: Keypair,
    /// Where it listens.
    pub listen: Vec<Multiaddr>,
    /// Whom it asks first.
    pub peers: Vec<Multiaddr>,
    /// What is switched on.
    pub switches: Switches,
    /// The file that remembers peers across runs.
    pub known_peers: Option<PathBuf>,
    /// The swarm config as text, for joiners who ask.
    pub swarm_config: String,
    /// Mean time between two reconciliations with somebody.
    pub sync_every: Duration,
}

/// A peer as people see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerView {
    /// Its id.
    pub peer: String,
    /// Where it is.
    pub address: String,
    /// Round trip, milliseconds.
    pub latency_ms: Option<f64>,
    /// Its version, as it says itself; one clean line.
    pub agent: String,
}

/// The network as people see it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct NetworkView {
    /// This node.
    pub peer: String,
    /// What others can join with; empty while nothing listens.
    pub ticket: String,
    /// Who is connected.
    pub peers: Vec<PeerView>,
    /// Records held.
    pub records: usize,
    /// A hash of their ids: equal sets, equal fingerprints.
    pub fingerprint: String,
    /// Why nobody is connected and what to do, when nobody is.
    pub trouble: Option<String>,
}

/// What the task is asked.
#[derive(Debug)]
pub(crate) enum Command {
    /// Hold a record of this node's own and tell everybody.
    Publish(Signed),
    /// Say which records are held.
    Ids(oneshot::Sender<Vec<RecordId>>),
    /// Give the bytes of those that are held.
    Get(Vec<RecordId>, oneshot::Sender<Vec<Vec<u8>>>),
    /// Take bytes that no peer brought; one answer for each.
    Take(Vec<Vec<u8>>, oneshot::Sender<Vec<Result<Taken, Fault>>>),
}

/// What the task tells.
#[derive(Debug)]
pub enum Heard {
    /// A record that was not known.
    Record {
        /// What it says.
        record: Verified<Body>,
        /// The connected peer that it came from; this node itself for what came another way, as by `node sync`.
        relayed_by: PeerId,
    },
    /// A peer came.
    Connected(PeerId),
    /// A peer left.
    Disconnected(PeerId),
}

/// A running network.
#[derive(Debug)]
pub struct Network {
    commands: mpsc::Sender<Command>,
    heard: mpsc::Receiver<Heard>,
    view: watch::Receiver<NetworkView>,
}

impl Network {
    /// Starts listening and dialling. It goes on for ever, with nobody home too.
    pub fn start(config: NetworkConfig, archive: Archive) -> Result<Self, NetworkError> {
        let swarm = task::build(&config, archive.objective().id())?;
        let (commands, asked) = mpsc::channel(COMMANDS);
        let (news, heard) = mpsc::channel(NEWS);
        let (shown, view) = watch::channel(NetworkView::default());
        let task = task::Task::new(swarm, config, archive, asked, news, shown)?;
        tokio::spawn(task.run());
        Ok(Self { commands, heard, view })
    }

    /// Waits for news; none once the task is gone. Safe to cancel.
    pub async fn heard(&mut self) -> Option<Heard> {
        self.heard.recv().await
    }

    /// Tells everybody, also those who come later; false where the task is far behind.
    #[must_use]
    pub fn publish(&self, record: Signed) -> bool {
        self.commands.try_send(Command::Publish(record)).is_ok()
    }

    /// Returns a way to the records for threads that may wait.
    pub fn records(&self) -> RecordsOf {
        RecordsOf::new(self.commands.downgrade(), self.view.clone())
    }

    /// Waits until something listens, a few seconds at most, and returns what people see.
    pub async fn listening(&mut self) -> NetworkView {
        let listens = self.view.wait_for(|view| !view.ticket.is_empty());
        // A node that cannot listen can still dial.
        let _ = tokio::time::timeout(Duration::from_secs(5), listens).await;
        self.view()
    }

    /// Returns what people see, half a second old at most.
    pub fn view(&self) -> NetworkView {
        self.view.borrow().clone()
    }
}
