//! The network: one task owns the libp2p swarm and its `select!`; everybody else holds a [`Network`] handle.
//!
//! ```text
//! research ──outbox, NetworkCommand──▶ task ──gossip, answers──▶ peers
//! research ◀──────NetworkEvent──────── task ◀──gossip, answers── peers      nothing comes out of it unverified
//! ```
//!
//! Gossip is for latency, [`sync`] is the guarantee. **A fault of a peer never ends the task**, nobody home is no error,
//! and no queue is unbounded: what finds no room in one is in the archive, and asked for from there.

pub mod archive;
mod behaviour;
mod compatibility;
mod config;
pub mod exchange;
mod joining;
mod messages;
mod overview;
mod peers;
mod per_ip;
mod private_key;
mod quotas;
pub mod reach;
mod records;
mod slots;
pub mod sync;
mod sync_schedule;
mod task;
pub mod ticket;
mod transport;

use std::{collections::VecDeque, time::Duration};

use autoswarm_protocol::record::Signed;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use archive::Archive;
pub use config::{NetworkConfig, NetworkError, Switches};
pub use joining::fetch_swarm_config;
use messages::NetworkCommand;
pub use messages::NetworkEvent;
pub use overview::{NetworkCounts, NetworkView, PeerView};
pub use private_key::PrivateKey;
pub use reach::parse_external;
pub use records::RecordsOf;
pub use ticket::Ticket;
pub use transport::Other;

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

/// A running network.
#[derive(Debug)]
pub struct Network {
    commands: mpsc::Sender<NetworkCommand>,
    outbox: VecDeque<Signed>,
    events: mpsc::Receiver<NetworkEvent>,
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
        let (news, events) = mpsc::channel(NEWS);
        let (shown, view) = watch::channel(NetworkView::default());
        let task = task::Task::new(swarm, config, archive, asked, news, shown)?;
        let task = tokio::spawn(task.run());
        Ok(Self { commands, outbox: VecDeque::new(), events, view, task })
    }

    /// Waits for news, and hands on what waits in the outbox; none once the task is gone. Safe to cancel.
    pub async fn next_event(&mut self) -> Option<NetworkEvent> {
        loop {
            tokio::select! {
                biased;
                place = self.commands.reserve(), if !self.outbox.is_empty() => {
                    match (place, self.outbox.pop_front()) {
                        (Ok(place), Some(record)) => place.send(NetworkCommand::Publish(record)),
                        _ => self.outbox.clear(),
                    }
                }
                event = self.events.recv() => return event,
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
                Some(record) => place.send(NetworkCommand::Publish(record)),
                None => break,
            }
        }
        true
    }

    /// Ends the network when everything published is on the disk, or after a few seconds.
    pub async fn close(self) {
        let Self { commands, outbox, mut events, view: _, task } = self;
        let ended = async {
            for record in outbox {
                if commands.send(NetworkCommand::Publish(record)).await.is_err() {
                    return;
                }
            }
            drop(commands);
            events.close();
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
