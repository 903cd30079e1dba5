//! Requests and responses between peers: reconciling sets of records, fetching bodies, asking for addresses.
//!
//! **Every message is bounded before it is decoded.** Who asks for what, and when, is decided elsewhere.

use std::io;

use autoswarm_protocol::{
    codec::{self, bounded},
    id::{ObjectiveId, RecordId},
    record::{MAX_RECORD_BYTES, WIRE_MAJOR},
    swarm_config::MAX_SWARM_CONFIG_BYTES,
};
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::StreamProtocol;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Returns the name of a major version of the wire, as peers announce it through identify.
pub fn language(major: u8) -> String {
    format!("/autoswarm/{major}")
}

/// Returns a protocol's full name, which holds the wire's major version and the objective's first digits. So
/// nodes of different swarms have no protocol in common, and find no faults in each other.
pub fn protocol(objective: ObjectiveId, name: &str) -> StreamProtocol {
    let name = format!("{}/{}/{name}", language(WIRE_MAJOR), objective.fmt_short());
    StreamProtocol::try_from_owned(name).expect("it begins with a slash")
}

/// Most ids in one request for bodies. 64 and a bounded response keep one slow peer from holding up a sync.
pub const MAX_IDS: usize = 64;

/// Most bytes of bodies in one response; the rest is asked for again.
pub const MAX_ANSWER_BYTES: usize = 192 * 1024;

/// Most addresses in one response.
pub const MAX_ADDRESSES: usize = 16;
/// Longest address that is looked at, bytes; one over a relay has 120.
pub const MAX_ADDRESS_BYTES: usize = 256;

/// Largest frame of a reconciliation, bytes.
pub const MAX_FRAME_BYTES: usize = 60 * 1024;

/// Most bytes of a request or a response: the codec's own limit.
const MAX_MESSAGE: u64 = codec::MAX_BYTES as u64;

/// The first half of a record's id, by which its body is asked for. It is enough: nobody can make two records
/// whose ids begin alike (2⁶⁴ tries), and what comes is checked against the whole id.
pub type ShortId = [u8; 16];

/// Returns the first half of a record id.
pub fn short(id: RecordId) -> ShortId {
    let mut short = ShortId::default();
    short.copy_from_slice(&id.as_bytes()[..16]);
    short
}

/// What one peer may ask of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerRequest {
    /// A frame of a reconciliation that the asking peer leads.
    Reconcile(
        #[serde(
            serialize_with = "bounded::write_bytes",
            deserialize_with = "bounded::bytes::<MAX_FRAME_BYTES, _>"
        )]
        Vec<u8>,
    ),
    /// Bodies of records by their ids, at most [`MAX_IDS`].
    Get(#[serde(deserialize_with = "bounded::list::<MAX_IDS, _, _>")] Vec<ShortId>),
    /// The swarm config, for a joiner who has nothing but a ticket.
    SwarmConfig,
    /// Addresses of other peers.
    Peers,
}

/// What a peer answers to a [`PeerRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerResponse {
    /// The next frame of a reconciliation.
    Reconcile(
        #[serde(
            serialize_with = "bounded::write_bytes",
            deserialize_with = "bounded::bytes::<MAX_FRAME_BYTES, _>"
        )]
        Vec<u8>,
    ),
    /// Those of the bodies that the peer holds, as far as they fit.
    Records(
        #[serde(deserialize_with = "bounded::list_of_bytes::<MAX_IDS, MAX_RECORD_BYTES, _>")] Vec<Vec<u8>>,
    ),
    /// The swarm config as text; the joiner checks it against the ticket.
    SwarmConfig(#[serde(deserialize_with = "bounded::text::<MAX_SWARM_CONFIG_BYTES, _>")] String),
    /// Not now: the asking peer is over its quota.
    Busy,
    /// Addresses of other peers as bytes, at most [`MAX_ADDRESSES`]: hints, not to be trusted.
    Peers(
        #[serde(deserialize_with = "bounded::list_of_bytes::<MAX_ADDRESSES, MAX_ADDRESS_BYTES, _>")]
        Vec<Vec<u8>>,
    ),
}

// A response of bodies always fits into a message.
const _: () = assert!(MAX_ANSWER_BYTES + MAX_RECORD_BYTES < codec::MAX_BYTES);

/// Reads and writes requests and responses.
#[derive(Debug, Clone, Copy, Default)]
pub struct Codec;

impl libp2p::request_response::Codec for Codec {
    type Protocol = StreamProtocol;
    type Request = PeerRequest;
    type Response = PeerResponse;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<PeerRequest>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io).await
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<PeerResponse>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io).await
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, ask: PeerRequest) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, &ask).await
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        answer: PeerResponse,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, &answer).await
    }
}

async fn read<T: Serialize + DeserializeOwned>(io: &mut (impl AsyncRead + Unpin + Send)) -> io::Result<T> {
    let mut bytes = Vec::new();
    // One byte over the limit, so that the decoder refuses a longer message as too large.
    io.take(MAX_MESSAGE + 1).read_to_end(&mut bytes).await?;
    codec::decode(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

async fn write(io: &mut (impl AsyncWrite + Unpin + Send), message: &impl Serialize) -> io::Result<()> {
    let bytes = codec::encode(message).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    io.write_all(&bytes).await?;
    io.close().await
}

#[cfg(test)]
mod tests {
    use futures::{executor::block_on, io::Cursor};

    use super::*;

    #[test]
    fn messages_round_trip() {
        let ask = PeerRequest::Get(vec![short(RecordId::of(b"a")); MAX_IDS]);
        let mut bytes = Cursor::new(Vec::new());
        block_on(write(&mut bytes, &ask)).expect("written");
        assert_eq!(block_on(read::<PeerRequest>(&mut Cursor::new(bytes.into_inner()))).expect("read"), ask);
    }

    #[test]
    fn what_is_too_long_cut_off_or_garbage_is_an_error() {
        let mut long = futures::io::repeat(0).take(10 * MAX_MESSAGE);
        assert!(block_on(read::<PeerRequest>(&mut long)).is_err());
        assert!(long.limit() >= 9 * MAX_MESSAGE - 1, "no more is read than the limit");
        let bytes = codec::encode(&PeerResponse::Records(vec![vec![1; 100]])).expect("small");
        assert!(block_on(read::<PeerResponse>(&mut Cursor::new(&bytes[..50]))).is_err());
        assert!(block_on(read::<PeerResponse>(&mut Cursor::new([9u8; 40]))).is_err());
    }
}
