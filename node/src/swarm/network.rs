//! The network: one task owns the libp2p swarm and its `select!`; everybody else holds a [`Network`] handle.
//!
//! ```text
//! research ──outbox, Command──▶ task ──gossip, answers──▶ peers
//! research ◀──────Heard──────── task ◀──gossip, answers── peers      nothing comes out of it unverified
//! ```
//!
//! Gossip is for latency, [`sync`] is the guarantee. **A fault of a peer never ends the task**, nobody home is no error,
//! and no queue is unbounded: what finds no room in one is in the archive, and asked for from there.

pub mod archive;
mod behaviour;
pub mod exchange;
mod joining;
mod peers;
mod per_ip;
mod quotas;
pub mod reach;
mod records;
mod rhythm;
mod slots;
mod strangers;
pub mod sync;
mod task;
pub mod ticket;
mod transport;

use std::{collections::VecDeque, path::PathBuf, time::Duration};

use autoswarm_protocol::{
    id::RecordId,
    record::{Body, Fault, Signed, Verified},
};
use libp2p::{Multiaddr, PeerId, identity::Keypair};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

use archive::{Archive, Taken};
pub use behaviour::Switches;
pub use joining::fetch_swarm_config;
pub use reach::parse_external;
pub use records::RecordsOf;
pub use ticket::Ticket;
pub use transport::{Other, PrivateKey};

/// Commands that wait for the task.
const COMMANDS: usize = 64;
/// Own records that wait for a place among the commands: years of them, for a task that takes none is as good as dead.
const OUTBOX: usize = 4096;
/// How long an ending node waits until its last records are on the disk.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How long a first address may take, and a further one.
const FIRST_ADDRESS: Duration = Duration::from_secs(5);
const NEXT_ADDRESS: Duration = Duration::from_millis(300);
/// News that wait for the research; records beyond that wait by their ids.
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
    /// Where others reach it, as far as the operator knows that better.
    pub external: Vec<Multiaddr>,
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
    /// The key of a private swarm.
    pub private: Option<PrivateKey>,
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
    /// What gossip thinks of it: below zero it is out of the mesh.
    #[serde(default)]
    pub standing: Option<f64>,
    /// Whether it is of the mesh that passes news on at once.
    #[serde(default)]
    pub meshed: bool,
}

/// What was counted since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// New records that came by gossip.
    pub gossiped: u64,
    /// New records that came by reconciliation.
    pub reconciled: u64,
    /// Messages over a peer's or an author's quota.
    pub over_quota: u64,
    /// Messages and answers that no honest peer sends.
    pub faulty: u64,
    /// Questions that were too many.
    pub refused: u64,
    /// Reconciliations that came to an end.
    pub syncs: u64,
    /// Peers behind routers of their own who were reached over a relay first and then directly.
    #[serde(default)]
    pub punched: u64,
    /// Peers of whom only a relay knows the way.
    #[serde(default)]
    pub not_punched: u64,
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
    /// What was counted.
    #[serde(default)]
    pub counts: Counts,
    /// Peers that are turned away for what they did.
    #[serde(default)]
    pub turned_away: usize,
    /// Peers over whom this node is reached, since it cannot be dialled itself.
    #[serde(default)]
    pub relays: Vec<String>,
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
    /// Something that a person should know, in one line.
    Note(String),
}

/// A running network.
#[derive(Debug)]
pub struct Network {
    commands: mpsc::Sender<Command>,
    outbox: VecDeque<Signed>,
    heard: mpsc::Receiver<Heard>,
    view: watch::Receiver<NetworkView>,
    task: JoinHandle<()>,
}

impl Network {
    /// Starts listening and dialling. It goes on for ever, with nobody home too.
    pub fn start(config: NetworkConfig, archive: Archive) -> Result<Self, NetworkError> {
        Self::start_over(None, config, archive)
    }

    /// The same over a transport of the caller's, when there is one.
    pub fn start_over(
        other: Option<Other>,
        config: NetworkConfig,
        archive: Archive,
    ) -> Result<Self, NetworkError> {
        let swarm = transport::build(&config, archive.objective().id(), other)?;
        let (commands, asked) = mpsc::channel(COMMANDS);
        let (news, heard) = mpsc::channel(NEWS);
        let (shown, view) = watch::channel(NetworkView::default());
        let task = task::Task::new(swarm, config, archive, asked, news, shown)?;
        let task = tokio::spawn(task.run());
        Ok(Self { commands, outbox: VecDeque::new(), heard, view, task })
    }

    /// Waits for news, and hands on what waits in the outbox; none once the task is gone. Safe to cancel.
    pub async fn heard(&mut self) -> Option<Heard> {
        loop {
            tokio::select! {
                biased;
                place = self.commands.reserve(), if !self.outbox.is_empty() => {
                    match (place, self.outbox.pop_front()) {
                        (Ok(place), Some(record)) => place.send(Command::Publish(record)),
                        _ => self.outbox.clear(),
                    }
                }
                heard = self.heard.recv() => return heard,
            }
        }
    }

    /// Tells everybody, also those who come later. A record waits where the task is busy; false when thousands wait, or when the task
    /// has ended.
    #[must_use]
    pub fn publish(&mut self, record: Signed) -> bool {
        if self.outbox.len() >= OUTBOX || self.commands.is_closed() {
            return false;
        }
        self.outbox.push_back(record);
        while let Ok(place) = self.commands.try_reserve() {
            match self.outbox.pop_front() {
                Some(record) => place.send(Command::Publish(record)),
                None => break,
            }
        }
        true
    }

    /// Ends the network when everything published is on the disk, or after a few seconds.
    pub async fn close(self) {
        let Self { commands, outbox, mut heard, view: _, task } = self;
        let ended = async {
            for record in outbox {
                if commands.send(Command::Publish(record)).await.is_err() {
                    return;
                }
            }
            drop(commands);
            heard.close();
            // A task that panicked has ended too.
            let _ = task.await;
        };
        if tokio::time::timeout(LAST_WORDS, ended).await.is_err() {
            tracing::warn!(
                "the network did not end in time; peers and the journal have what it did not write"
            );
        }
    }

    /// Returns a way to the records for threads that may wait.
    pub fn records(&self) -> RecordsOf {
        RecordsOf::new(self.commands.downgrade(), self.view.clone())
    }

    /// Waits until there is a ticket and it stays the same, since interfaces come one after the other, and returns what people see. A node
    /// that cannot listen can still dial, so it is waited for a few seconds at most.
    pub async fn listening(&mut self) -> NetworkView {
        let (mut ticket, mut patience) = (String::new(), FIRST_ADDRESS);
        loop {
            let changed = self.view.wait_for(|view| view.ticket != ticket);
            let Ok(Ok(view)) = tokio::time::timeout(patience, changed).await else { break };
            (ticket, patience) = (view.ticket.clone(), NEXT_ADDRESS);
        }
        self.view()
    }

    /// Returns what people see, half a second old at most.
    pub fn view(&self) -> NetworkView {
        self.view.borrow().clone()
    }
}
