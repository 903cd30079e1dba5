//! What the network's task is asked, and what it tells.

use autoswarm_protocol::{
    id::RecordId,
    record::{Body, Fault, Signed, Verified},
};
use libp2p::PeerId;
use tokio::sync::oneshot;

use super::archive::Taken;

/// What the task is asked.
#[derive(Debug)]
pub(crate) enum NetworkCommand {
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
pub enum NetworkEvent {
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
