//! Access to the records of a running network, for threads that may block.

use anyhow::Context;
use autoswarm_protocol::{id::RecordId, record::Fault};
use tokio::sync::{mpsc, oneshot, watch};

use super::{archive::Taken, messages::NetworkCommand, overview::NetworkView};

/// Access to the archive of a running network, which it does not keep alive. Every call that returns or takes
/// records blocks until the network's task answers, so **none belongs on a thread of the async runtime**.
#[derive(Debug, Clone)]
pub struct RecordsOf {
    commands: mpsc::WeakSender<NetworkCommand>,
    view: watch::Receiver<NetworkView>,
}

impl RecordsOf {
    pub(super) const fn new(
        commands: mpsc::WeakSender<NetworkCommand>,
        view: watch::Receiver<NetworkView>,
    ) -> Self {
        Self { commands, view }
    }

    /// Returns a fingerprint of all held ids, at most half a second old.
    pub fn fingerprint(&self) -> String {
        self.view.borrow().fingerprint.clone()
    }

    /// Returns whether the network has ended.
    pub fn is_over(&self) -> bool {
        self.commands.upgrade().is_none()
    }

    /// Returns the ids of all held records.
    pub fn held_ids(&self) -> anyhow::Result<Vec<RecordId>> {
        self.ask(NetworkCommand::Ids)
    }

    /// Returns the bytes of those of the records that are held.
    pub fn held(&self, ids: &[RecordId]) -> anyhow::Result<Vec<Vec<u8>>> {
        let ids = ids.to_vec();
        self.ask(|answer| NetworkCommand::Get(ids, answer))
    }

    /// Hands over records that no peer brought, as bytes. The research is told of the new ones.
    pub fn hand_over(&self, records: Vec<Vec<u8>>) -> anyhow::Result<Vec<Result<Taken, Fault>>> {
        self.ask(|answer| NetworkCommand::Take(records, answer))
    }

    fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> NetworkCommand) -> anyhow::Result<T> {
        let over = "the network has ended";
        let (answer, answered) = oneshot::channel();
        self.commands.upgrade().context(over)?.blocking_send(command(answer)).ok().context(over)?;
        answered.blocking_recv().context(over)
    }
}
