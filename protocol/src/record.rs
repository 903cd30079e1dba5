//! Records: what nodes tell each other, signed by whoever found it.
//!
//! ```text
//! Body ──sign──▶ Signed ──bytes──▶ any peer ──verify──▶ Verified<Body>
//! ```
//!
//! A record is signed by its author, not by the peers that relay it. Its id is the BLAKE3 hash of the signed
//! bytes, so every copy has the same id. [`mod@verify`] checks all that the bytes alone can show. What a
//! record says stays a claim until it is tried here. Records are data: nothing in them is run.

mod check;
pub mod verify;

use libp2p_identity::{Keypair, ed25519};
use serde::{Deserialize, Serialize};

use crate::{
    Bpb, Budget, CrashClass, Estimate, Patch, TrainConfig,
    codec::{self, CodecError, bounded},
    experiment::{Comparison, MAX_HYPOTHESIS_BYTES},
    id::{ArenaId, Author, ConfigHash, ObjectiveId, RecordId},
    knobs,
};

pub use verify::{Blame, Fault, Glance, Verified, glance, verify};

/// Major version of the wire; nodes with different ones cannot read each other's records.
pub const WIRE_MAJOR: u8 = 1;

/// Largest record, bytes. A discovery with every knob changed and all lists full takes half of it.
pub const MAX_RECORD_BYTES: usize = 32 * 1024;

/// Most discoveries that a discovery may say it builds on.
pub const MAX_INSPIRATIONS: usize = 8;
/// Most points of a discovery's loss curve: enough to see its shape.
pub const MAX_CURVE: usize = 16;
/// Most results in one digest.
pub const MAX_DIGEST: usize = 128;
/// Longest duration of a claim, seconds: longer than any run of a class.
pub const MAX_CLAIM_SECONDS: u32 = 3600;
/// Longest name of a device, bytes.
pub const MAX_DEVICE_BYTES: usize = 64;
/// Most extensions of a record; this version knows none.
pub const MAX_EXTENSIONS: usize = 8;

/// What a machine is, as far as findings depend on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hardware {
    /// The device's name, in one line.
    #[serde(deserialize_with = "bounded::text::<MAX_DEVICE_BYTES, _>")]
    pub device: String,
    /// Threads of the slot on a CPU.
    pub threads: u16,
    /// Slots of the machine.
    pub slots: u16,
    /// Training throughput of the class's reference config on one slot, tokens a second.
    pub tokens_per_second: f64,
}

/// A kept experiment: "this change helped here".
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Discovery {
    /// The arena that it was measured in.
    pub arena: ArenaId,
    /// The budget of that arena.
    pub budget: Budget,
    /// The machine that it was measured on.
    pub hardware: Hardware,
    /// The child: the full effective config.
    pub config: TrainConfig,
    /// The child's difference from its parent, the author's incumbent of the time.
    pub patch: Patch,
    /// Child − parent on validation, from fresh pairs alone.
    pub estimate: Estimate,
    /// Child − parent on audit.
    pub audit: Option<Estimate>,
    /// The mean of the child's runs on validation.
    pub level: Bpb,
    /// Training tokens of a run of the child, and of the parent.
    pub tokens: (u64, u64),
    /// Training seconds of a run of the child.
    pub seconds: f64,
    /// The child's training loss at even steps of progress, nats per token.
    #[serde(deserialize_with = "bounded::list::<MAX_CURVE, _, _>")]
    pub curve: Vec<f32>,
    /// Discoveries that it builds on.
    #[serde(deserialize_with = "bounded::list::<MAX_INSPIRATIONS, _, _>")]
    pub inspirations: Vec<RecordId>,
    /// Why it was tried, in one line.
    #[serde(deserialize_with = "bounded::text::<MAX_HYPOTHESIS_BYTES, _>")]
    pub because: String,
}

impl Discovery {
    /// Returns the parent: the config that the patch starts from.
    pub fn parent(&self) -> Option<TrainConfig> {
        self.patch.invert().apply(&self.config).ok()
    }
}

/// What a re-run of somebody's discovery showed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attestation {
    /// The discovery that was run again.
    pub discovery: RecordId,
    /// What was compared.
    pub comparison: Comparison,
    /// The arena that it was run in.
    pub arena: ArenaId,
    /// The machine that it was run on.
    pub hardware: Hardware,
    /// What the fresh pairs showed, or how the change failed.
    pub found: Result<Estimate, CrashClass>,
    /// Training tokens of a run with the change, and without, where both are known.
    pub tokens: Option<(u64, u64)>,
}

/// How an experiment ended, as a digest says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DigestEnding {
    /// The change was kept.
    Kept,
    /// The change was discarded.
    Discarded,
    /// The change gave no number.
    Crashed,
}

/// One experiment's result, in a digest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DigestLine {
    /// Hash of the child's effective config.
    pub config: ConfigHash,
    /// The child's difference from its parent.
    pub patch: Patch,
    /// How the experiment ended.
    pub ending: DigestEnding,
    /// Child − parent as far as it was measured, screening included: enough to learn from, not to claim by.
    pub found: Option<Estimate>,
}

/// Several results in short, failures included, so that nobody repeats them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Digest {
    /// The arena that they were measured in.
    pub arena: ArenaId,
    /// The results, oldest first.
    #[serde(deserialize_with = "bounded::list::<MAX_DIGEST, _, _>")]
    pub lines: Vec<DigestLine>,
}

/// An intent, "I am about to try this": short-lived, and never reconciled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The config that the author is about to try.
    pub config: ConfigHash,
    /// Seconds for which nobody else need try it.
    pub seconds: u32,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// An experiment that was kept.
    Discovery(Box<Discovery>),
    /// A re-run of a peer's discovery.
    Attestation(Box<Attestation>),
    /// Several results in short.
    Digest(Digest),
    /// What the author is about to try.
    Claim(Claim),
}

/// The kinds of records: how many variants [`Body`] has.
pub const KINDS: u8 = 4;

impl Body {
    /// Returns whether the record belongs to the set that nodes reconcile.
    pub const fn is_reconciled(&self) -> bool {
        !matches!(self, Self::Claim(_))
    }
}

/// The 64 bytes of an ed25519 signature, in halves because serde has no arrays of 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Signature([u8; 32], [u8; 32]);

/// What is signed: everything but the signature. Extensions of later versions are carried unread.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Content {
    author: Author,
    objective: ObjectiveId,
    /// Version of the author's knob table. Configs of a later one cannot be read here.
    knobs: u16,
    /// Seconds since 1970 by the author's clock.
    made_at: u64,
    /// The encoded [`Body`], decoded only once the signature holds.
    #[serde(
        serialize_with = "bounded::write_bytes",
        deserialize_with = "bounded::bytes::<MAX_RECORD_BYTES, _>"
    )]
    body: Vec<u8>,
    #[serde(deserialize_with = "bounded::list::<MAX_EXTENSIONS, _, _>")]
    extensions: Vec<Extension>,
}

/// Something that a later version adds to a record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Extension {
    kind: u16,
    #[serde(
        serialize_with = "bounded::write_bytes",
        deserialize_with = "bounded::bytes::<MAX_RECORD_BYTES, _>"
    )]
    bytes: Vec<u8>,
}

impl Content {
    /// Returns what the key signs: a hash in a domain of its own, which no other use of the key can produce.
    fn digest(&self) -> Result<[u8; 32], CodecError> {
        let mut hasher = blake3::Hasher::new_derive_key("autoswarm 1 record signature");
        codec::encode_into(self, &mut hasher)?;
        Ok(*hasher.finalize().as_bytes())
    }
}

/// A record as it travels, after the major version's byte.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Envelope {
    content: Content,
    signature: Signature,
}

/// A record of this node's own, ready to travel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The record's id: the hash of its bytes.
    pub id: RecordId,
    /// The bytes that travel.
    pub bytes: Vec<u8>,
}

/// Why a body cannot be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The key is not an ed25519 key, so it cannot sign records.
    #[error("the node's key is no ed25519 key")]
    Key,
    /// The record would fail verification at every peer.
    #[error("the record would be refused by every peer: {0}")]
    Refused(Fault),
    /// The record cannot be encoded.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

/// Signs a body that was made at `made_at`, seconds since 1970. Fails for what every peer would refuse.
pub fn sign(
    body: &Body,
    objective: &crate::swarm_config::Objective,
    keys: &Keypair,
    made_at: u64,
) -> Result<Signed, SignError> {
    let keys: ed25519::Keypair = keys.clone().try_into_ed25519().map_err(|_| SignError::Key)?;
    let content = Content {
        author: Author::from_bytes(keys.public().to_bytes()),
        objective: objective.id(),
        knobs: knobs::KNOB_TABLE_VERSION,
        made_at,
        body: codec::encode(body)?,
        extensions: Vec::new(),
    };
    let bytes = seal(content, &keys)?;
    let verified = verify(&bytes, objective, made_at).map_err(SignError::Refused)?;
    Ok(Signed { id: verified.id(), bytes })
}

fn seal(content: Content, keys: &ed25519::Keypair) -> Result<Vec<u8>, SignError> {
    let signature: [u8; 64] = keys.sign(&content.digest()?).try_into().map_err(|_| SignError::Key)?;
    let (mut first, mut second) = ([0; 32], [0; 32]);
    first.copy_from_slice(&signature[..32]);
    second.copy_from_slice(&signature[32..]);
    let envelope = Envelope { content, signature: Signature(first, second) };
    let mut bytes = vec![WIRE_MAJOR];
    bytes.extend(codec::encode(&envelope)?);
    Ok(bytes)
}

#[cfg(test)]
#[path = "record/tests.rs"]
pub(crate) mod tests;
