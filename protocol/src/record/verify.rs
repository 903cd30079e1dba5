//! The verification ladder: bytes → size → envelope → signature → objective → body → ranges.
//!
//! **Only this file makes a [`Verified`]**, so whoever takes one can rely on every check.
//!
//! Each fault says whose it is. A rejection costs the peer that relayed the bytes its standing, so it is only
//! for what every honest node would reject from the bytes alone. What may be a matter of version or clock is
//! ignored. A number that looks too good is no fault.

use ed25519_dalek::VerifyingKey;

use super::{Body, Envelope, KINDS, MAX_RECORD_BYTES, WIRE_MAJOR, check};
use crate::{
    codec::{self, CodecError},
    id::{Author, RecordId},
    knobs,
    swarm_config::Objective,
};

/// How far ahead of ours an author's clock may be, seconds.
pub const MAX_CLOCK_SKEW: u64 = 600;

/// What is wrong with bytes that somebody sent as a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// There are no bytes.
    #[error("the record is empty")]
    Empty,
    /// It is longer than [`MAX_RECORD_BYTES`].
    #[error("the record has {0} bytes; at most {MAX_RECORD_BYTES} are read")]
    TooLarge(usize),
    /// It is of another major version of the wire.
    #[error("the record speaks version {0} of the wire, this node {WIRE_MAJOR}; update the older of the two")]
    OtherMajor(u8),
    /// The bytes are not an envelope.
    #[error("the record does not decode: {0}")]
    NotAnEnvelope(CodecError),
    /// The signature is not the author's.
    #[error("the signature is not its author's")]
    BadSignature,
    /// It was made for another objective.
    #[error("the record belongs to another objective")]
    OtherObjective,
    /// The author knows knobs that this node does not.
    #[error(
        "the author's knob table is version {0}, ours {version}; update this node to use it",
        version = knobs::KNOB_TABLE_VERSION
    )]
    NewerKnobs(u16),
    /// It is of a kind that this node does not know: a later version has more of them.
    #[error("the record is of kind {0}, and this node knows {KINDS}; update this node to use it")]
    NewerKind(u8),
    /// It was made in the future, by more than [`MAX_CLOCK_SKEW`].
    #[error("the record was made {0} s in the future; one of the two clocks is wrong")]
    FromTheFuture(u64),
    /// Its body does not decode.
    #[error("what the record says does not decode: {0}")]
    NotABody(CodecError),
    /// It holds a value that no honest author writes.
    #[error("the record is out of range: {0}")]
    OutOfRange(String),
}

/// What a fault means for the peer that sent the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// It is nobody's fault: the record is dropped, and the peer keeps its standing.
    Ignore,
    /// It is the peer's fault, who should not have relayed the record.
    Reject,
}

impl Fault {
    /// Returns whether the peer that sent the bytes is to blame.
    pub const fn blame(&self) -> Blame {
        match self {
            Self::Empty
            | Self::TooLarge(_)
            | Self::NotAnEnvelope(_)
            | Self::BadSignature
            | Self::OtherObjective
            | Self::NotABody(_)
            | Self::OutOfRange(_) => Blame::Reject,
            Self::OtherMajor(_) | Self::NewerKnobs(_) | Self::NewerKind(_) | Self::FromTheFuture(_) => {
                Blame::Ignore
            }
        }
    }
}

/// A record, or a part of one, that passed every check its bytes allow.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified<T> {
    id: RecordId,
    author: Author,
    made_at: u64,
    value: T,
}

impl<T> Verified<T> {
    /// Returns the record's id.
    pub const fn id(&self) -> RecordId {
        self.id
    }

    /// Returns the author who signed it.
    pub const fn author(&self) -> Author {
        self.author
    }

    /// Returns when it was made, by its author's clock, seconds since 1970.
    pub const fn made_at(&self) -> u64 {
        self.made_at
    }

    /// Returns what it says.
    pub const fn value(&self) -> &T {
        &self.value
    }
}

impl Verified<Body> {
    /// Returns the record as a discovery, if it is one.
    pub fn discovery(&self) -> Option<Verified<&super::Discovery>> {
        match &self.value {
            Body::Discovery(discovery) => Some(self.with(discovery.as_ref())),
            _ => None,
        }
    }

    /// Returns the record as an attestation, if it is one.
    pub fn attestation(&self) -> Option<Verified<&super::Attestation>> {
        match &self.value {
            Body::Attestation(attestation) => Some(self.with(attestation.as_ref())),
            _ => None,
        }
    }

    fn with<U>(&self, value: U) -> Verified<U> {
        Verified { id: self.id, author: self.author, made_at: self.made_at, value }
    }
}

/// What bytes say of themselves, **unchecked**. It serves to decide whether the checks are worth their time,
/// and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Glance {
    /// The author who is said to have signed them.
    pub author: Author,
    /// Whether the record would be kept and reconciled; intents are not.
    pub is_reconciled: bool,
}

/// Reads bytes from anywhere without checking their signature; none where they are no record.
pub fn glance(bytes: &[u8]) -> Option<Glance> {
    let (_, rest) = bytes.split_first().filter(|(major, _)| **major == WIRE_MAJOR)?;
    if bytes.len() > MAX_RECORD_BYTES {
        return None;
    }
    let envelope: Envelope = codec::decode(rest).ok()?;
    let body: Body = codec::decode(&envelope.content.body).ok()?;
    Some(Glance { author: envelope.content.author, is_reconciled: body.is_reconciled() })
}

/// Checks bytes from anywhere, step by step up the ladder; `now` is in seconds since 1970.
pub fn verify(bytes: &[u8], objective: &Objective, now: u64) -> Result<Verified<Body>, Fault> {
    if bytes.len() > MAX_RECORD_BYTES {
        return Err(Fault::TooLarge(bytes.len()));
    }
    let (major, rest) = bytes.split_first().ok_or(Fault::Empty)?;
    if *major != WIRE_MAJOR {
        return Err(Fault::OtherMajor(*major));
    }
    let envelope: Envelope = codec::decode(rest).map_err(Fault::NotAnEnvelope)?;
    let content = &envelope.content;
    if !is_signed(&envelope) {
        return Err(Fault::BadSignature);
    }
    if content.objective != objective.id() {
        return Err(Fault::OtherObjective);
    }
    if content.knobs > knobs::KNOB_TABLE_VERSION {
        return Err(Fault::NewerKnobs(content.knobs));
    }
    if content.made_at > now.saturating_add(MAX_CLOCK_SKEW) {
        return Err(Fault::FromTheFuture(content.made_at - now));
    }
    // Only now: until the signature holds and the objective fits, a body is not worth decoding.
    // The first byte is the kind's place in `Body`. Who relays what a later version says is honest.
    if let Some(kind) = content.body.first().copied().filter(|kind| *kind >= KINDS) {
        return Err(Fault::NewerKind(kind));
    }
    let body: Body = codec::decode(&content.body).map_err(Fault::NotABody)?;
    check::body(&body, objective).map_err(Fault::OutOfRange)?;
    Ok(Verified { id: RecordId::of(bytes), author: content.author, made_at: content.made_at, value: body })
}

fn is_signed(envelope: &Envelope) -> bool {
    let signature = ed25519_dalek::Signature::from_components(envelope.signature.0, envelope.signature.1);
    match (VerifyingKey::from_bytes(envelope.content.author.as_bytes()), envelope.content.digest()) {
        // Strict: for keys of low order the usual verification accepts one signature for every message.
        (Ok(key), Ok(digest)) => key.verify_strict(&digest, &signature).is_ok(),
        _ => false,
    }
}
