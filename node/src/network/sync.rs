//! Set reconciliation over an archive, as steps without IO: who leads asks, who answers keeps nothing in between.
//!
//! Gossip is for latency; this is the guarantee.

use autoswarm_protocol::id::RecordId;
use negentropy::{Negentropy, NegentropyStorageVector};

use super::{
    archive::Archive,
    exchange::{Answer, MAX_ANSWER_BYTES, MAX_FRAME_BYTES, MAX_IDS},
};

/// Most rounds of one reconciliation: a hundred thousand records take four.
const MAX_ROUNDS: u32 = 64;

/// A reconciliation that this node leads.
#[derive(Debug)]
pub struct Lead {
    negentropy: Negentropy<'static, NegentropyStorageVector>,
    rounds: u32,
    /// Ids that the peer has and this node lacks, in the order in which they will be asked for.
    needed: Vec<RecordId>,
}

/// What a lead does next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this frame.
    Frame(Vec<u8>),
    /// The sets are compared: fetch what is needed.
    Fetch,
}

impl Lead {
    /// Begins; returns the first frame.
    pub fn begin(archive: &Archive) -> Result<(Self, Vec<u8>), negentropy::Error> {
        let mut negentropy = Negentropy::owned(archive.set()?, MAX_FRAME_BYTES as u64)?;
        let frame = negentropy.initiate()?;
        Ok((Self { negentropy, rounds: 0, needed: Vec::new() }, frame))
    }

    /// Takes the peer's frame.
    pub fn step(&mut self, frame: &[u8]) -> Result<Step, negentropy::Error> {
        self.rounds += 1;
        let (mut have, mut need) = (Vec::new(), Vec::new());
        let next = self.negentropy.reconcile_with_ids(frame, &mut have, &mut need)?;
        self.needed.extend(need.iter().map(|id| RecordId::from_bytes(*id.as_bytes())));
        match next {
            Some(frame) if self.rounds < MAX_ROUNDS => Ok(Step::Frame(frame)),
            _ => Ok(Step::Fetch),
        }
    }

    /// Takes the ids of the next request for bodies; none when all are asked for.
    pub fn next_ids(&mut self, archive: &Archive) -> Option<Vec<RecordId>> {
        // Gossip may have brought some meanwhile.
        self.needed.retain(|id| archive.get(*id).is_none());
        let rest = self.needed.len().saturating_sub(MAX_IDS);
        let ids = self.needed.split_off(rest);
        (!ids.is_empty()).then_some(ids)
    }

    /// Asks again for what an answer had no room for.
    pub fn again(&mut self, ids: impl IntoIterator<Item = RecordId>) {
        self.needed.extend(ids);
    }
}

/// Answers a frame from the archive as it is now.
pub fn answer_frame(archive: &Archive, frame: &[u8]) -> Result<Vec<u8>, negentropy::Error> {
    Negentropy::owned(archive.set()?, MAX_FRAME_BYTES as u64)?.reconcile(frame)
}

/// Answers a request for bodies, as far as they fit.
pub fn answer_ids(archive: &Archive, ids: &[RecordId]) -> Answer {
    let mut records = Vec::new();
    let mut bytes = 0;
    for held in ids.iter().take(MAX_IDS).filter_map(|id| archive.get(*id)) {
        bytes += held.bytes.len() + 8;
        if bytes > MAX_ANSWER_BYTES {
            break;
        }
        records.push(held.bytes.clone());
    }
    Answer::Records(records)
}
