//! The messages between the node and the network's task: commands in, events out.

use autoswarm_protocol::{
    id::RecordId,
    record::{Body, Fault, Signed, Verified},
};
use libp2p::PeerId;
use tokio::sync::oneshot;

use super::archive::Taken;

/// What the network's task is asked to do.
#[derive(Debug)]
pub(crate) enum NetworkCommand {
    /// Hold an own record, and gossip it.
    Publish(Signed),
    /// Return the ids of all held records.
    Ids(oneshot::Sender<Vec<RecordId>>),
    /// Return the bytes of those of the records that are held.
    Get(Vec<RecordId>, oneshot::Sender<Vec<Vec<u8>>>),
    /// Take records that no peer brought, as bytes; return one result for each.
    Take(Vec<Vec<u8>>, oneshot::Sender<Vec<Result<Taken, Fault>>>),
}

/// What the network's task tells the node.
#[derive(Debug)]
pub enum NetworkEvent {
    /// A record that was not known here.
    Record {
        /// What the record says, verified.
        record: Verified<Body>,
        /// The connected peer that it came from. It is this node itself where no peer brought it, as with
        /// `node sync`.
        relayed_by: PeerId,
    },
    /// A peer is connected now.
    Connected(PeerId),
    /// The last connection with a peer is gone.
    Disconnected(PeerId),
    /// Something that a person should know, in one line.
    Note(String),
}
