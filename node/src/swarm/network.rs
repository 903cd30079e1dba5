//! The network: one task owns the libp2p swarm and its `select!`; everybody else holds a [`Network`] handle.
//!
//! ```text
//! research ──outbox, NetworkCommand──▶ task ──gossip, responses──▶ peers
//! research ◀──────NetworkEvent──────── task ◀──gossip, responses── peers
//! ```
//!
//! Every record in a [`NetworkEvent`] is verified. Gossip is for latency, [`sync`] is the guarantee.
//!
//! **A fault of a peer never ends the task**, and having no peers is no error. No queue is unbounded: a
//! record that finds no room in one is in the archive, and is fetched from there.

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

/// Most commands that wait for the task.
const COMMANDS: usize = 64;
/// Most own records that wait for a place among the commands. That is years of records: a task that takes
/// none of them is as good as dead.
const OUTBOX: usize = 4096;
/// How long a node that ends waits until its last records are on disk.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How long [`Network::listening`] waits for a first address.
const FIRST_ADDRESS: Duration = Duration::from_secs(5);
/// How long it waits for each further one.
const NEXT_ADDRESS: Duration = Duration::from_millis(300);
/// Most events that wait for the research; held records beyond that wait by their ids.
const NEWS: usize = 256;

/// The handle of a running network.
#[derive(Debug)]
pub struct Network {
    commands: mpsc::Sender<NetworkCommand>,
    outbox: VecDeque<Signed>,
    events: mpsc::Receiver<NetworkEvent>,
    view: watch::Receiver<NetworkView>,
    task: JoinHandle<()>,
}

impl Network {
    /// Starts listening and dialling, and goes on for ever, even while no peer is found.
    pub fn start(config: NetworkConfig, archive: Archive) -> Result<Self, NetworkError> {
        Self::start_over(None, config, archive)
    }

    /// Starts over the caller's transport, or over the usual ones when that is none.
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

    /// Waits for the next event, and meanwhile hands the outbox to the task. Returns none once the task has
    /// ended. Safe to cancel.
    pub async fn next_event(&mut self) -> Option<NetworkEvent> {
        loop {
            tokio::select! {
                // Own records first, so that a stream of events cannot hold them back.
                biased;
                place = self.commands.reserve(), if !self.outbox.is_empty() => {
                    match (place, self.outbox.pop_front()) {
                        (Ok(place), Some(record)) => place.send(NetworkCommand::Publish(record)),
                        // The task has ended, so nobody will ever take the rest.
                        _ => self.outbox.clear(),
                    }
                }
                event = self.events.recv() => return event,
            }
        }
    }

    /// Publishes an own record: to the peers that are connected, and to later ones by reconciliation. It
    /// waits while the task is busy. Returns false when thousands wait already, or when the task has ended.
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

    /// Ends the network once everything published is on disk, or after a few seconds at most.
    pub async fn close(self) {
        let Self { commands, outbox, mut events, view: _, task } = self;
        let ended = async {
            for record in outbox {
                if commands.send(NetworkCommand::Publish(record)).await.is_err() {
                    return;
                }
            }
            // The task runs as long as there is a sender of commands.
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

    /// Returns access to the held records, for threads that may block.
    pub fn records(&self) -> RecordsOf {
        RecordsOf::new(self.commands.downgrade(), self.view.clone())
    }

    /// Waits until there is a ticket that stays the same for a moment, and returns the view. Interfaces come
    /// up one after the other, so a first ticket may lack addresses. A node that cannot listen can still
    /// dial, so without any ticket the wait ends after a few seconds.
    pub async fn listening(&mut self) -> NetworkView {
        let (mut ticket, mut patience) = (String::new(), FIRST_ADDRESS);
        loop {
            let changed = self.view.wait_for(|view| view.ticket != ticket);
            let Ok(Ok(view)) = tokio::time::timeout(patience, changed).await else { break };
            (ticket, patience) = (view.ticket.clone(), NEXT_ADDRESS);
        }
        self.view()
    }

    /// Returns the network as people see it, at most half a second old.
    pub fn view(&self) -> NetworkView {
        self.view.borrow().clone()
    }
}
